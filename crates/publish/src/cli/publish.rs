//! `publish`: what is checked before something is built, and what is done with it afterwards.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use oci_spec::distribution::Reference;
use tare_oci::reference::is_version;
use tare_oci::units::ByteSize;
use tare_tool::environment::Environment;
use tare_tool::exit::Hinted;
use tare_tool::plan::{self, Plan, Wanted, WantedImages};
use tare_tool::ui::Ui;

use super::{Bar, Connection, Session};
use crate::ci::{Ci, Outputs, write_github};
use crate::content::Content;
use crate::error::Error;
use crate::proof::{Proof, Signer, bundle, prove, write_files};
use crate::publish::{Options, Published, destination, publish, to_json, to_markdown};
use crate::reference::{is_tag, parse};
use crate::registry::Access;
use crate::sign::{SigningKey, short_digest};
use crate::tags::{Naming, Tag, of_ci};
use crate::workspace::{Workspace, changed_files};

#[derive(Debug, Args)]
pub(super) struct PublishArguments {
    /// The image of the workspace, which is built first; with --from, only what the image is called
    #[arg(value_name = "NAME")]
    name: String,
    /// Publish this layout, archive or image of a registry as it is
    #[arg(long, value_name = "PATH|REFERENCE")]
    from: Option<String>,
    /// Publish here; without a tag, those of CI or --tag
    #[arg(long, value_name = "HOST/REPOSITORY[:TAG]")]
    to: Vec<String>,
    /// Give this tag instead of CI's, such as 1.2.0 or :1.2.0
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// Take blobs that this repository has from there, where it is in the same registry
    #[arg(long, value_name = "HOST/REPOSITORY")]
    mount_from: Option<String>,
    /// Let the tag of a version move from another image
    #[arg(long)]
    move_tag: bool,
    /// Print what would be sent, and send nothing
    #[arg(long)]
    dry_run: bool,
    /// Publish what was built from files that are not committed
    #[arg(long)]
    allow_dirty: bool,
    /// Attach SBOMs and provenance as referrers, as is done for images that are built here
    #[arg(long, conflicts_with = "no_proof")]
    proof: bool,
    /// Attach none
    #[arg(long, conflicts_with = "sign_key")]
    no_proof: bool,
    /// Sign with this unencrypted P-256 key in PKCS#8 and PEM, as sigstore bundles
    #[arg(long, value_name = "FILE")]
    sign_key: Option<PathBuf>,
    /// Attach this sigstore bundle about the image, as `cosign attest --bundle` wrote it
    #[arg(long, value_name = "FILE")]
    bundle: Vec<PathBuf>,
    /// Write what is attached, publish.json and SHA256SUMS into this folder
    #[arg(long, value_name = "FOLDER")]
    artifacts: Option<PathBuf>,
    /// Print publish.json
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) connection: Connection,
}

/// The first step: everything that can be refused before something is built.
pub(super) fn make_plan(
    arguments: &PublishArguments,
    root: &Path,
    file: &Path,
    ui: Ui,
) -> anyhow::Result<()> {
    let env = Environment::read()?;
    let ci = Ci::read(&env)?;
    destinations(arguments, ci.as_ref())?;
    if let Naming::Nothing(why) = naming(arguments, ci.as_ref(), None)?
        && !has_own_tags(arguments)
    {
        ui.status("Nothing", &format!("to publish: {why}"));
        return Ok(());
    }
    let mut images = WantedImages::None;
    if arguments.from.is_none() {
        images = WantedImages::Named(vec![arguments.name.clone()]);
        let changed = if arguments.allow_dirty { vec![] } else { changed_files(root)? };
        if let [first, ..] = changed.as_slice() {
            bail!(
                "{} files are not committed, such as `{}` (--allow-dirty overrides)",
                changed.len(),
                first.trim()
            );
        }
    }
    plan::write(file, &Wanted { images, keeper: false, quiet: arguments.connection.quiet })?;
    Ok(())
}

/// Publishes, to each destination whatever becomes of the others.
pub(super) fn run(arguments: &PublishArguments, plan: Option<&Plan>, ui: Ui) -> anyhow::Result<()> {
    let session = &Session::new(&arguments.connection, ui)?;
    let ci = Ci::read(&session.env)?;
    let built = plan.and_then(|plan| Some((plan, plan.images.first()?)));
    let workspace = match built {
        Some((plan, _)) => Some(Workspace::read(&plan.workspace.root, &session.env)?),
        None => None,
    };
    let version = workspace.as_ref().and_then(|workspace| workspace.version(&arguments.name));
    let destinations = destinations(arguments, ci.as_ref())?;
    let naming = naming(arguments, ci.as_ref(), version)?;
    if let (Naming::Nothing(why), false) = (&naming, has_own_tags(arguments)) {
        ui.status("Nothing", &format!("to publish: {why}"));
        return Ok(());
    }
    let from = match (&arguments.from, built) {
        (Some(from), _) => source(from)?,
        (None, Some((_, image))) => Source::Path(image.location.clone().into()),
        (None, None) => bail!("name a layout, an archive or an image in a registry with --from"),
    };
    let mount_from =
        arguments.mount_from.as_deref().map(destination).transpose()?.map(|(reference, _)| reference);
    let of_source = if let Source::Registry(reference) = &from { Some(reference) } else { None };
    let hosts = destinations.iter().map(|(reference, _)| reference).chain(of_source);
    session.check_login(hosts.map(Reference::registry))?;

    let origin = of_source.map(|reference| session.open(reference, Access::Pull, None)).transpose()?;
    let content = match (&from, &origin) {
        (Source::Path(path), _) => Content::open(path)?,
        (Source::Registry(reference), Some(origin)) => {
            let wanted = reference.digest().or(reference.tag()).unwrap_or("latest");
            Content::fetch(origin, wanted, None)?
        }
        (Source::Registry(reference), None) => bail!("{reference} cannot be opened"),
    };
    let proofs = proofs(arguments, &content, workspace.as_ref(), ci.as_ref())?;
    let mut results = Vec::new();
    for (reference, tag) in &destinations {
        // Blobs of an image that is promoted within a registry are not sent.
        let mount = [mount_from.as_ref(), of_source].into_iter().flatten();
        let mut mount =
            mount.filter(|from| from.registry() == reference.registry()).map(Reference::repository);
        let mount = mount.find(|from| *from != reference.repository());
        let naming = tag.as_ref().map_or_else(|| naming.clone(), |tag| Naming::Tags(vec![tag.clone()]));
        let options =
            Options { mount_from: mount, move_tags: arguments.move_tag, dry_run: arguments.dry_run };
        let bar = Bar::new(ui);
        let result = session
            .open(reference, Access::Push, mount)
            .and_then(|repository| publish(&content, &repository, &naming, &proofs, options, &bar));
        bar.0.finish_and_clear();
        let name = format!("{}/{}", reference.registry(), reference.repository());
        match &result {
            Ok(published) => {
                report(published, content.root().descriptor.digest().as_ref(), arguments.dry_run, ui);
            }
            Err(error) => ui.error(&format!("{name}: {}", one_line(error)), error.hint().as_deref()),
        }
        results.push((name, result));
    }
    let failed = results.iter().filter(|(_, result)| result.is_err()).count();
    finish(arguments, session, &content, &proofs, &results)?;
    if failed > 0 {
        bail!("{failed} of {} repositories do not have the image", results.len());
    }
    Ok(())
}

/// The error with its causes.
fn one_line(error: &Error) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Prints the result and hands it to the next steps.
fn finish(
    arguments: &PublishArguments,
    session: &Session,
    content: &Content<'_>,
    proofs: &[Proof],
    results: &[(String, Result<Published, Error>)],
) -> anyhow::Result<()> {
    let digest = content.root().descriptor.digest();
    let json = to_json(content, proofs, results);
    let published: Vec<&Published> = results.iter().filter_map(|(_, result)| result.as_ref().ok()).collect();
    let tags = published.iter().flat_map(|published| {
        published.pushed.tags.iter().map(|moved| format!("{}:{}", published.repository, moved.tag))
    });
    let tags: Vec<String> = tags.collect();
    if arguments.json {
        session.ui.result(&serde_json::to_string_pretty(&json)?)?;
    } else if !arguments.dry_run {
        for name in published.iter().map(|published| &published.repository) {
            session.ui.result(&format!("{name}@{digest}"))?;
        }
    }
    if arguments.dry_run {
        return Ok(());
    }
    let outputs = Outputs {
        repositories: published.iter().map(|published| published.repository.clone()).collect(),
        digest: digest.to_string(),
        tags,
        json: json.to_string(),
        summary: to_markdown(&arguments.name, &json),
    };
    if let Some(folder) = &arguments.artifacts {
        write_files(folder, proofs, &json)?;
    }
    write_github(&session.env, &outputs)?;
    Ok(())
}

/// What is attached to the image.
fn proofs(
    arguments: &PublishArguments,
    content: &Content<'_>,
    workspace: Option<&Workspace>,
    ci: Option<&Ci>,
) -> anyhow::Result<Vec<Proof>> {
    let key = arguments.sign_key.as_deref().map(SigningKey::read).transpose()?;
    let mut proofs = Vec::new();
    if !arguments.no_proof && (arguments.proof || key.is_some() || workspace.is_some()) {
        let mut images = content.facts()?;
        if let Some(workspace) = workspace {
            images.iter_mut().for_each(|image| workspace.packages.complete(&mut image.crates));
        }
        let build = workspace.map(|workspace| &workspace.build);
        proofs = prove(&arguments.name, content, &images, Signer { key: key.as_ref(), build, ci })?;
    }
    let root = &content.root().descriptor;
    let mut bundles = Vec::new();
    for path in &arguments.bundle {
        let bytes = tare_oci::input::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let stem = format!("{}-{}", arguments.name, short_digest(&bytes));
        bundles.push(bundle(root, &stem, bytes).with_context(|| path.display().to_string())?);
    }
    if !bundles.is_empty() {
        proofs.push(Proof { subject: root.clone(), artifacts: bundles });
    }
    Ok(proofs)
}

fn report(published: &Published, digest: &str, dry_run: bool, ui: Ui) {
    let Published { repository, pushed, .. } = published;
    let bytes = ByteSize(pushed.sent.iter().map(oci_spec::image::Descriptor::size).sum());
    let verb = if dry_run { "Would send" } else { "Sent" };
    let mounted = if pushed.mounted > 0 { format!(", {} mounted", pushed.mounted) } else { String::new() };
    ui.status(verb, &format!("{} blobs, {bytes}{mounted}, to {repository}", pushed.sent.len()));
    for moved in &pushed.tags {
        let before = match &moved.before {
            None => "new".to_owned(),
            Some(before) if before.as_ref() == digest => "unchanged".to_owned(),
            Some(before) => format!("from {before}"),
        };
        let verb = if dry_run { "Would tag" } else { "Tagged" };
        ui.status(verb, &format!("{repository}:{} ({before})", moved.tag));
    }
}

/// Where to: as asked, else CI's own registry.
fn destinations(
    arguments: &PublishArguments,
    ci: Option<&Ci>,
) -> anyhow::Result<Vec<(Reference, Option<Tag>)>> {
    if let Some(version) = arguments.to.iter().find(|to| is_version(to.trim_start_matches(':'))) {
        let tag = version.trim_start_matches(':');
        let hint =
            format!("name the repository, --to HOST/REPOSITORY:{tag}, or give the tag with --tag {tag}");
        return Err(Hinted::new(format!("--to {version} is a version and names no repository"), hint).into());
    }
    if !arguments.to.is_empty() {
        return Ok(arguments.to.iter().map(|text| destination(text)).collect::<Result<_, _>>()?);
    }
    let Some(ci) = ci else {
        bail!("nothing says where to publish: name a repository with --to HOST/REPOSITORY")
    };
    let Some(repository) = &ci.repository else {
        bail!(
            "CI_REGISTRY_IMAGE is not set: the project's registry is off; name another with --to HOST/REPOSITORY"
        )
    };
    Ok(vec![destination(repository)?])
}

/// Whether each destination has its tag.
fn has_own_tags(arguments: &PublishArguments) -> bool {
    let has_tag = |text: &String| destination(text).is_ok_and(|(_, tag)| tag.is_some());
    !arguments.to.is_empty() && arguments.to.iter().all(has_tag)
}

/// Which tags: as asked, else as CI's run has it.
fn naming(arguments: &PublishArguments, ci: Option<&Ci>, version: Option<&str>) -> anyhow::Result<Naming> {
    // As `cargo xtask image --tag :1.2` has it.
    let tags: Vec<&str> = arguments.tag.iter().map(|tag| tag.strip_prefix(':').unwrap_or(tag)).collect();
    if let Some(bad) = tags.iter().find(|tag| !is_tag(tag)) {
        let message = format!(
            "`{bad}` is no tag: up to 128 letters, digits, `_`, `.` and `-`, not beginning with the last two"
        );
        return Err(match bad.rsplit_once(':') {
            Some((name, tag)) if is_tag(tag) => {
                let hint = format!(
                    "--tag names the tag alone; the repository is --to {name}, or --to {bad} for both"
                );
                Hinted::new(message, hint).into()
            }
            _ => anyhow::Error::msg(message),
        });
    }
    if !tags.is_empty() {
        return Ok(Naming::Tags(tags.into_iter().map(Tag::named).collect()));
    }
    if has_own_tags(arguments) {
        return Ok(Naming::Nothing("every destination has its tag"));
    }
    let Some(ci) = ci else { bail!("nothing says which tag to give: name it with --tag TAG") };
    Ok(of_ci(ci, &arguments.name, version)?)
}

/// What `--from` names.
enum Source {
    Path(PathBuf),
    Registry(Reference),
}

fn source(text: &str) -> anyhow::Result<Source> {
    // A path is one that is there, or looks like nothing else.
    if Path::new(text).exists() || text.starts_with(['.', '/', '~']) {
        return Ok(Source::Path(text.into()));
    }
    Ok(Source::Registry(parse(text)?))
}
