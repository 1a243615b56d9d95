//! `cargo xtask image`

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use super::Outcome;
use super::tags::TagArgument;
use crate::git::{self, GitFacts};
use crate::image::assemble::{Assembled, LayerStore, assemble, milliseconds, programs};
use crate::image::base::tree::BaseTree;
use crate::image::base::{self, BaseImage};
use crate::image::binary::{self, BuildContext, is_missing_tool};
use crate::image::cache::LayerCache;
use crate::image::cargo::{self, CargoOptions, Invocation};
use crate::image::definition::{self, Build, Definition, LIBRARIES_LAYER, problem_with_platforms};
use crate::image::execution::user;
use crate::image::lock::lock;
use crate::image::outputs::{self, OutputPaths, Summary};
use crate::image::reproducible;
use crate::image::rootfs::{self, Binary};
use crate::workspace::{Workspace, source_date_epoch};
use tare_oci::blob::Staging;
use tare_oci::compress::{Compression, Pool};
use tare_oci::entry::{Content, Entry, EntryKind, InMemory};
use tare_oci::input;
use tare_oci::platform::Platform;
use tare_oci::reference::Reference;
use tare_oci::units::{ByteSize, Epoch};
use tare_tool::cache;
use tare_tool::document::suggestion;
use tare_tool::environment::{self, Environment};
use tare_tool::exit::Hinted;
use tare_tool::signals;
use tare_tool::ui::{Ui, table};

#[derive(Debug, Default, Args)]
#[command(after_help = "\
Prints the digest reference of each image on stdout, and everything else on stderr.

Writes to target/images/NAME/: layout/ (OCI layout), NAME.tar (for docker, podman and skopeo), NAME.json (summary) and \
bin/ (binaries).")]
pub(super) struct ImageArguments {
    /// Images defined in images/NAME/image.toml, or packages with a binary [default: all images without `default =
    /// false`]
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Tag the image: `:TAG` or REPOSITORY[:TAG]; repeatable [default: NAME:latest]
    #[arg(long = "tag", short, value_name = "REFERENCE")]
    tags: Vec<TagArgument>,
    /// Build for linux/amd64, linux/arm64 or both [default: the definition's platforms]
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',')]
    platform: Vec<Platform>,
    /// Compress layers with none, gzip[:1-12] or zstd[:1-22]
    #[arg(long, value_name = "METHOD[:LEVEL]", default_value_t)]
    compression: Compression,
    /// Write to FOLDER/NAME/ instead of target/images/NAME/
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
    /// Load the image into docker or podman afterwards
    #[arg(long, value_name = "PROGRAM")]
    load: Vec<LoadInto>,
    /// Print NAME.json instead of the digest reference
    #[arg(long)]
    json: bool,
    /// Print the commands and layers of the build, and build nothing
    #[arg(long, conflicts_with_all = ["json", "load", "verify_reproducible"])]
    dry_run: bool,
    /// Build twice, in different folders with different CARGO_HOMEs, and compare every byte
    #[arg(long, conflicts_with_all = ["json", "load", "output"])]
    verify_reproducible: bool,
    /// Use Cargo.lock as it is, which is always the case
    #[arg(long)]
    locked: bool,
    /// Print only results, warnings and errors
    #[arg(long, short)]
    pub(super) quiet: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LoadInto {
    Docker,
    Podman,
}

/// Everything that is the same for all images of a call.
struct Call<'a> {
    arguments: &'a ImageArguments,
    workspace: &'a Workspace,
    env: &'a Environment,
    git: &'a GitFacts,
    context: BuildContext<'a>,
    ui: Ui,
}

pub(super) fn run(arguments: &ImageArguments, env: &Environment, ui: Ui) -> anyhow::Result<Outcome> {
    let (workspace, git) = workspace_and_git(env)?;
    let definitions = definitions(&workspace, &arguments.names)?;
    let names_one = arguments.tags.iter().any(|tag| matches!(tag, TagArgument::Name(_)));
    if names_one && definitions.len() > 1 {
        let message = format!("--tag names one image, but there are {}", definitions.len());
        return Err(
            Hinted::new(message, "name the image before --tag, or write --tag :TAG for all of them").into()
        );
    }
    if let Some(problem) =
        problem_with_platforms(&arguments.platform).filter(|_| !arguments.platform.is_empty())
    {
        anyhow::bail!("--platform: {problem}");
    }
    let (mut outcome, mut left_out) = (Outcome::Done, Vec::new());
    call(arguments, &workspace, &git, env, ui, |call| {
        for definition in &definitions {
            let result = if arguments.dry_run {
                call.dry_run(definition)?
            } else if arguments.verify_reproducible {
                call.verify(definition)?
            } else {
                let (summary, json) = match call.build(definition) {
                    Err(error) if definitions.len() > 1 && is_missing_tool(&error) => {
                        ui.warning(&format!("left out: {error:#}"));
                        left_out.push(definition.name.as_str());
                        continue;
                    }
                    built => built?,
                };
                ui.result(if arguments.json { json.trim_end() } else { &summary.reference })?;
                Outcome::Done
            };
            if result == Outcome::GateFailed {
                outcome = result;
            }
        }
        Ok(())
    })?;
    if !left_out.is_empty() {
        let message = format!("without {}: a program that builds them is not installed", left_out.join(", "));
        return Err(Hinted::new(message, "the other images are built; install what is missing").into());
    }
    Ok(outcome)
}

/// What cargo says about the workspace, and git about the checkout: both are asked at the same time, because each
/// takes as long as packing a small program.
fn workspace_and_git(env: &Environment) -> anyhow::Result<(Workspace, GitFacts)> {
    let start = env.start_dir();
    std::thread::scope(|scope| {
        let git = scope.spawn(|| GitFacts::read(&start));
        let workspace = Workspace::find(env);
        let git = git.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let workspace = workspace?;
        // The package `xtask` may be a submodule, or a folder outside.
        let same = git::checkout_of(&start) == git::checkout_of(&workspace.root);
        let git = if same { git } else { GitFacts::read(&workspace.root) };
        Ok((workspace, git))
    })
}

/// What a missing toolchain of an image does to the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// Nothing more is built.
    Fail,
    /// The image is left out with a warning.
    LeaveOut,
    /// So it is whatever keeps it from being built, but for a signal.
    Any,
}

fn leaves_out(missing: Missing, error: &anyhow::Error) -> bool {
    match missing {
        Missing::Fail => false,
        Missing::LeaveOut => is_missing_tool(error),
        Missing::Any => signals::ended_by().is_none(),
    }
}

/// Builds images of the workspace as `cargo xtask image NAMES` does, and prints no result.
pub(super) fn built(
    names: &[String],
    workspace: &Workspace,
    env: &Environment,
    quiet: bool,
    missing: Missing,
) -> anyhow::Result<Vec<Summary>> {
    let arguments = ImageArguments { quiet, ..ImageArguments::default() };
    let definitions = definitions(workspace, names)?;
    let ui = Ui::new(quiet, env.get("NO_COLOR").is_some());
    call(&arguments, workspace, &GitFacts::read(&workspace.root), env, ui, |call| {
        let mut built = Vec::new();
        for definition in &definitions {
            match call.build(definition) {
                Err(error) if leaves_out(missing, &error) => {
                    ui.warning(&format!("left out: {error:#}"));
                }
                image => built.push(image?.0),
            }
        }
        Ok(built)
    })
}

/// Finds out what is the same for all images of a call, and does `work` with it.
fn call<T>(
    arguments: &ImageArguments,
    workspace: &Workspace,
    git: &GitFacts,
    env: &Environment,
    ui: Ui,
    work: impl FnOnce(&Call<'_>) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let created = source_date_epoch(env)?.or(git.time).unwrap_or(Epoch::ZERO);
    let cargo = CargoOptions { offline: env.offline().is_some(), quiet: arguments.quiet };
    let context = BuildContext { workspace, env, ui, created, cargo };
    let done = work(&Call { arguments, workspace, env, git, context, ui })?;
    if let Some(problem) = &git.problem {
        ui.warning(&format!(
            "the image has no revision and no commit time, and so another digest than elsewhere: {problem}"
        ));
    }
    Ok(done)
}

fn definitions(workspace: &Workspace, names: &[String]) -> anyhow::Result<Vec<Definition>> {
    let known = workspace.image_names()?;
    let packages = workspace.packages_with_binaries();
    if names.is_empty() && known.is_empty() {
        let hint = match packages.as_slice() {
            [] => "no package of the workspace has a binary either".to_owned(),
            _ => {
                let packages = packages.join(" | ");
                format!(
                    "name a package to build it with every default: {} image {packages}",
                    environment::command()
                )
            }
        };
        return Err(Hinted::new("the workspace has no images", hint).into());
    }
    let all = names.is_empty();
    let names = if all { &known } else { names };
    let mut definitions: Vec<Definition> = Vec::new();
    for name in names {
        if definitions.iter().any(|definition| definition.name == *name) {
            continue;
        }
        definitions.push(if known.contains(name) {
            read_definition(workspace, name)?
        } else if packages.contains(name) {
            let path = workspace.images_dir().join(name).join("image.toml");
            Definition { file: None, ..definition::parse(name, &path, "")? }
        } else {
            let mut known: Vec<String> = known.iter().chain(&packages).cloned().collect();
            known.sort();
            known.dedup();
            return Err(Hinted::new(
                format!(
                    "there is no image `{name}`: neither images/{name}/image.toml nor a package with a binary"
                ),
                suggestion(name, &known),
            )
            .into());
        });
    }
    if all {
        definitions.retain(|definition| definition.default);
        if definitions.is_empty() {
            return Err(Hinted::new(
                "no image is built without being named: every image.toml has `default = false`",
                format!("name one: {} image {}", environment::command(), known.join(" | ")),
            )
            .into());
        }
    }
    Ok(definitions)
}

/// Reads `images/NAME/image.toml`.
pub(super) fn read_definition(workspace: &Workspace, name: &str) -> anyhow::Result<Definition> {
    let path = workspace.images_dir().join(name).join("image.toml");
    let text = input::read_definition(&workspace.root, &path)
        .with_context(|| format!("cannot read {}", workspace.show(&path)))?;
    let definition = definition::parse(name, &path, &text);
    Ok(definition.map_err(|error| definition::DefinitionError {
        path: PathBuf::from(workspace.show(&error.path)),
        ..error
    })?)
}

impl Call<'_> {
    fn platforms(&self, definition: &Definition) -> Vec<Platform> {
        match self.arguments.platform.as_slice() {
            [] => definition.platforms.clone(),
            platforms => platforms.to_vec(),
        }
    }

    fn tags(&self, definition: &Definition) -> anyhow::Result<Vec<Reference>> {
        let name = definition.name.to_lowercase();
        let unusual = || format!("image {name} needs --tag: its own name cannot be one");
        if self.arguments.tags.is_empty() {
            return Ok(vec![name.parse().with_context(unusual)?]);
        }
        let tags = self.arguments.tags.iter().map(|tag| tag.reference(&name).with_context(unusual));
        tags.collect()
    }

    /// The base image of each platform, before anything is built.
    fn bases(&self, definition: &Definition) -> anyhow::Result<Vec<BaseImage>> {
        base::find(definition, &self.platforms(definition), self.workspace, self.env, self.ui)
    }

    fn output_paths(&self, definition: &Definition) -> OutputPaths {
        let dir = match &self.arguments.output {
            Some(dir) => self.env.current_dir.join(dir),
            None => self.workspace.output_dir(),
        };
        OutputPaths::new(&dir, &definition.name)
    }

    /// Builds an image, and gives back NAME.json too, as it was written.
    fn build(&self, definition: &Definition) -> anyhow::Result<(Summary, String)> {
        let started = Instant::now();
        let tags = self.tags(definition)?;
        let bases = self.bases(definition)?;
        let programs = programs(self.context, definition, &self.platforms(definition))?;

        let _lock = lock(&self.workspace.cache("locks")?, &definition.name, || {
            self.ui.status("Blocking", &format!("until another run has finished image {}", definition.name));
        })?;
        let staging = Staging::create(self.workspace.cache("staging")?.join(&definition.name))?;
        let (layers, crates) = (self.workspace.cache("layers")?, self.workspace.cache("crates")?);
        let cache = LayerCache::new(layers.clone());
        let pool = Pool::start(self.env.parallelism);
        let compression = self.arguments.compression;
        let store = LayerStore { cache: &cache, staging: &staging, pool: &pool, compression };
        let paths = self.output_paths(definition);
        let mut assembled = assemble(self.context, definition, self.git, programs, &bases, store)?;

        let writing = Instant::now();
        let output_staging = Staging::create(paths.staging())?;
        let binaries = outputs::write_binaries(&assembled.programs, &paths, &output_staging)?;
        outputs::write(&assembled, binaries, &tags, &paths, &output_staging)?;
        assembled.timings.output = milliseconds(writing);
        let summary = outputs::summary(&definition.name, &assembled, &tags, compression, &paths)
            .context("an image needs a platform")?;
        let mut json = serde_json::to_string_pretty(&summary)?;
        json.push('\n');
        output_staging.write(&paths.summary, json.as_bytes())?;
        cache::prune(&[&layers, &crates], cache::LIMIT);

        self.report(&assembled, &summary, &paths, started);
        for daemon in &self.arguments.load {
            let program = match daemon {
                LoadInto::Docker => "docker",
                LoadInto::Podman => "podman",
            };
            self.ui.status("Loading", &format!("{} into {program}", summary.tags.join(", ")));
            outputs::load(program, &paths.archive, compression)?;
        }
        Ok((summary, json))
    }

    /// The layers with their sizes, and where everything is.
    fn report(&self, assembled: &Assembled, summary: &Summary, paths: &OutputPaths, started: Instant) {
        let several = summary.platforms.len() > 1;
        for platform in &summary.platforms {
            let size = |bytes: u64| ByteSize(bytes).to_string();
            let mut rows: Vec<Vec<String>> = platform
                .layers
                .iter()
                .map(|layer| {
                    let origin = if layer.cached { "cached" } else { "written" };
                    vec![
                        layer.name.clone(),
                        size(layer.uncompressed_size),
                        size(layer.size),
                        origin.to_owned(),
                        layer.digest.short(),
                    ]
                })
                .collect();
            rows.push(vec![
                if several { platform.platform.clone() } else { "total".to_owned() },
                size(platform.uncompressed_size),
                size(platform.size),
                String::new(),
                String::new(),
            ]);
            let header = ["layer", "size", "compressed", "", "digest"];
            self.ui.block(&table(&header, &rows, &[1, 2]));
        }
        let platforms: Vec<String> = assembled.programs.iter().map(|of| of.platform.to_string()).collect();
        self.ui.status(
            "Finished",
            &format!(
                "{} for {} in {:.2} s: {}",
                summary.tags.join(", "),
                platforms.join(", "),
                started.elapsed().as_secs_f64(),
                self.workspace.show(&paths.archive)
            ),
        );
    }

    fn verify(&self, definition: &Definition) -> anyhow::Result<Outcome> {
        let mut arguments: Vec<OsString> = vec!["image".into(), definition.name.clone().into()];
        arguments.extend(["--compression".into(), self.arguments.compression.to_string().into()]);
        for platform in self.platforms(definition) {
            arguments.extend(["--platform".into(), platform.to_string().into()]);
        }
        if self.context.cargo.offline {
            arguments.push("--offline".into());
        }
        if self.arguments.quiet {
            arguments.push("--quiet".into());
        }
        let Call { workspace, env, context, ui, .. } = self;
        let name = &definition.name;
        // Neither of the two builds needs the network for what is in the cache.
        let bases: Vec<PathBuf> =
            self.bases(definition)?.into_iter().filter_map(|base| base.cached).collect();
        match reproducible::verify(workspace, env, name, (&arguments, &bases), context.created, *ui)? {
            None => {
                let processor = match &definition.build {
                    Build::Cargo(_) => cargo::special_cpu(workspace, env, &self.platforms(definition))?,
                    Build::Command { .. } => None,
                };
                let where_ = processor.map_or_else(String::new, |cpu| match cpu.as_str() {
                    "native" => ", on processors like this machine's alone (target-cpu=native)".to_owned(),
                    cpu => format!(" (for processors of target-cpu={cpu})"),
                });
                ui.result(&format!("{name}: both builds agree in every file and byte{where_}"))?;
                Ok(Outcome::Done)
            }
            Some(difference) => {
                ui.result(&format!("{name}: the builds differ: {difference}"))?;
                Ok(Outcome::GateFailed)
            }
        }
    }

    fn dry_run(&self, definition: &Definition) -> anyhow::Result<Outcome> {
        let tags: Vec<String> = self.tags(definition)?.iter().map(ToString::to_string).collect();
        let mut lines = vec![format!("image {} ({})", definition.name, tags.join(", "))];
        let mut binary_name = String::new();
        let mut profile = Vec::new();
        for platform in self.platforms(definition) {
            let command = match &definition.build {
                Build::Cargo(build) => {
                    let selected = cargo::select(self.workspace, &definition.name, build)?;
                    let options = self.context.cargo;
                    let invocation =
                        Invocation::new(self.workspace, self.env, build, &selected, platform, options)
                            .with_context(|| format!("image {}", definition.name))?;
                    binary_name.clone_from(&selected.bin);
                    profile = invocation.profile();
                    invocation.display()
                }
                Build::Command { command, output, .. } => {
                    if command.is_empty() {
                        binary::prebuilt(self.workspace, definition, output)
                            .with_context(|| format!("image {}", definition.name))?;
                    }
                    let name = output.file_name().unwrap_or_default();
                    binary_name = name.to_string_lossy().into_owned();
                    command.join(" ")
                }
            };
            lines.push(format!("  {platform}: {command}"));
        }
        if let Build::Cargo(build) = &definition.build {
            lines.push(format!("profile {}", build.profile));
            lines.extend(profile.iter().map(|key| format!("  {key}")));
        }
        let binary = Binary { name: binary_name, bytes: InMemory::new(Vec::new()), libraries: Vec::new() };
        if let Some(base) = &definition.base {
            lines.push(format!("base {}", base::display(definition, base, self.workspace)?));
        }
        // The base is not read: it may not be there yet.
        let below = rootfs::Base { tree: &BaseTree::default(), user: user(definition, None) };
        let created = self.context.created;
        for layer in rootfs::plan(definition, &self.workspace.root, &binary, created, below)? {
            lines.push(format!("layer {}", layer.name));
            lines.extend(layer.entries.iter().map(|entry| self.plan_line(entry, &binary)));
        }
        if matches!(definition.build, Build::Command { libs: true, .. }) {
            lines.push(format!("layer {LIBRARIES_LAYER}: what the built program needs of this host"));
        }
        let paths = self.output_paths(definition);
        lines.push(format!("output {}", self.workspace.show(&paths.dir)));
        self.ui.result(&lines.join("\n"))?;
        Ok(Outcome::Done)
    }

    fn plan_line(&self, entry: &Entry, binary: &Binary) -> String {
        let (kind, size, origin) = match &entry.kind {
            EntryKind::Directory => ('d', String::new(), String::new()),
            EntryKind::Symlink(target) => {
                ('l', String::new(), format!(" -> {}", String::from_utf8_lossy(target)))
            }
            EntryKind::File(Content::Bytes(bytes)) if std::sync::Arc::ptr_eq(bytes, &binary.bytes) => {
                ('-', "built".to_owned(), String::new())
            }
            EntryKind::File(content) => {
                let from = entry.source().map(|path| format!(" <- {}", self.workspace.show(&path)));
                ('-', ByteSize(content.size()).to_string(), from.unwrap_or_default())
            }
        };
        let capabilities = entry.capabilities.as_ref().map(|c| format!(" {c}")).unwrap_or_default();
        let Entry { path, mode, owner, .. } = entry;
        format!("  {kind}{mode:04o} {owner:>11} {size:>9} {path}{origin}{capabilities}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whether_an_image_is_left_out_depends_on_why_it_is_not_built() {
        let program = "no-such-compiler".to_owned();
        let missing = anyhow::Error::from(tare_tool::process::ProcessError::NotFound { program });
        let failed = anyhow::anyhow!("could not compile `app`");
        for (left_out, of_missing, of_failed) in
            [(Missing::Fail, false, false), (Missing::LeaveOut, true, false), (Missing::Any, true, true)]
        {
            let found = (leaves_out(left_out, &missing), leaves_out(left_out, &failed));
            assert_eq!(found, (of_missing, of_failed), "{left_out:?}");
        }
    }
}
