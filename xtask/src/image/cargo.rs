//! Building a binary with cargo: which package and binary, with which flags, and what cargo says of the
//! crates that went into it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use cargo_metadata::{Message, Package, TargetKind};

use super::crates::{Compiled, Tree};
use super::definition::{CargoBuild, DEFAULT_PROFILE, nearest};
use super::lock::lock;
use crate::cargo_config::{self, TargetConfig};
use crate::workspace::Workspace;
use tare_oci::audit::VersionInfo;
use tare_oci::digest::Digest;
use tare_oci::input;
use tare_oci::platform::Platform;
use tare_tool::environment::Environment;
use tare_tool::exit::Hinted;
use tare_tool::process::{self, Execute as _, ProcessError, Shell, cmd, shell_in};
use tare_tool::ui::Ui;

/// The package and binary that a definition means.
#[derive(Debug, Clone)]
pub struct Selected<'a> {
    /// The package.
    pub package: &'a Package,
    /// Its binary.
    pub bin: String,
}

/// Finds the package and binary.
///
/// # Errors
/// When there is no such package, binary, feature or profile, or none can be chosen.
pub fn select<'a>(workspace: &'a Workspace, image: &str, build: &CargoBuild) -> Result<Selected<'a>, Hinted> {
    let Some(package) = workspace.package(&build.package) else {
        let with_bins = workspace.packages.iter().filter(|package| !bins(package).is_empty());
        let names: Vec<String> = with_bins.map(|package| package.name.to_string()).collect();
        let meant = nearest(&build.package, &names).map(|name| format!("did you mean `{name}`? "));
        return Err(Hinted::new(
            format!("image {image}: the workspace has no package `{}`", build.package),
            format!("{}packages with binaries: {}", meant.unwrap_or_default(), names.join(", ")),
        ));
    };
    let name = package.name.as_str();
    for feature in &build.features {
        let known: Vec<&str> = package.features.keys().map(String::as_str).collect();
        // `dependency/feature` is cargo's to check.
        if !feature.contains('/') && !known.contains(&feature.as_str()) {
            let hint = match known.is_empty() {
                true => "the package has no features".to_owned(),
                false => format!("its features: {}", known.join(", ")),
            };
            let message = format!("image {image}: package `{name}` has no feature `{feature}`");
            return Err(Hinted::new(message, hint));
        }
    }
    let built_in = ["dev", "release", "test", "bench", DEFAULT_PROFILE];
    let profile = &build.profile;
    if !built_in.contains(&profile.as_str()) && !workspace.profiles.contains(profile) {
        return Err(Hinted::new(
            format!("image {image}: the workspace has no cargo profile `{profile}`"),
            format!("add [profile.{profile}] to the workspace's Cargo.toml, or leave `profile` out"),
        ));
    }
    let bins = bins(package);
    let bin = match (&build.bin, bins.as_slice(), &package.default_run) {
        (Some(bin), _, _) if bins.contains(bin) => bin.clone(),
        (Some(bin), _, _) => {
            let message = format!("image {image}: package `{name}` has no binary `{bin}`");
            return Err(Hinted::new(message, format!("its binaries: {}", bins.join(", "))));
        }
        (None, [], _) => {
            let hint = "a library cannot run in a container; name a package with a src/main.rs";
            return Err(Hinted::new(format!("image {image}: package `{name}` has no binary"), hint));
        }
        (None, [bin], _) => bin.clone(),
        (None, _, Some(default)) => default.clone(),
        (None, _, None) if bins.iter().any(|bin| bin == name) => name.to_owned(),
        (None, _, None) => {
            let message =
                format!("image {image}: package `{name}` has several binaries: {}", bins.join(", "));
            return Err(Hinted::new(message, "name one: `bin = \"…\"` under [build] in image.toml"));
        }
    };
    Ok(Selected { package, bin })
}

/// The names of a package's binaries, sorted.
#[must_use]
pub fn bins(package: &Package) -> Vec<String> {
    let is_bin = |target: &&cargo_metadata::Target| target.kind.contains(&TargetKind::Bin);
    let mut bins: Vec<String> =
        package.targets.iter().filter(is_bin).map(|target| target.name.clone()).collect();
    bins.sort();
    bins
}

/// How cargo is called besides what is built.
#[derive(Debug, Clone, Copy, Default)]
pub struct CargoOptions {
    /// Without the network.
    pub offline: bool,
    /// Without progress.
    pub quiet: bool,
}

/// A build as cargo will be asked for it.
#[derive(Debug)]
pub struct Invocation<'a> {
    workspace: &'a Workspace,
    env: &'a Environment,
    build: &'a CargoBuild,
    selected: &'a Selected<'a>,
    target: &'static str,
    options: CargoOptions,
    config: TargetConfig,
    sysroot: Option<PathBuf>,
    remapped: Vec<(PathBuf, String)>,
}

/// What cargo built.
#[derive(Debug)]
pub struct Built {
    /// The executable, with symbols.
    pub executable: PathBuf,
    /// The crates in it, in cargo-auditable's format; none if the definition wants none.
    pub audit: Option<VersionInfo>,
}

/// What the profile `image` is where the workspace does not define it: everything that makes a binary
/// smaller without making it slower. Kept unstripped; the image gets a stripped copy.
const IMAGE_PROFILE: [(&str, &str); 5] = [
    ("inherits", "\"release\""),
    ("opt-level", "3"),
    ("lto", "\"fat\""),
    ("codegen-units", "1"),
    ("panic", "\"abort\""),
];

/// Identical functions once, and relocations in the compact form that musl has read since 1.2.4.
const LLD_FLAGS: [&str; 2] = ["-Clink-arg=--icf=all", "-Clink-arg=--pack-dyn-relocs=relr"];

impl<'a> Invocation<'a> {
    /// Prepares a build for a platform.
    ///
    /// # Errors
    /// When the user's cargo configuration cannot be understood.
    pub fn new(
        workspace: &'a Workspace,
        env: &'a Environment,
        build: &'a CargoBuild,
        selected: &'a Selected<'a>,
        platform: Platform,
        options: CargoOptions,
    ) -> anyhow::Result<Self> {
        let target = platform.target();
        let config = cargo_config::of_target(&workspace.root, env, target)?;
        let sysroot = sysroot(env);
        let remapped = remapped(workspace, env, sysroot.as_deref());
        Ok(Self { workspace, env, build, selected, target, options, config, sysroot, remapped })
    }

    /// The command as one would type it, without the flags that only move paths.
    #[must_use]
    pub fn display(&self) -> String {
        format!("cargo {}", self.arguments().join(" "))
    }

    fn arguments(&self) -> Vec<String> {
        let package = self.selected.package.name.as_str();
        let (bin, profile) = (&self.selected.bin, &self.build.profile);
        let build =
            ["build", "--package", package, "--bin", bin, "--target", self.target, "--profile", profile];
        let mut arguments = build.map(str::to_owned).to_vec();
        arguments.push("--locked".to_owned());
        arguments.extend(self.features());
        arguments.extend(self.options.offline.then(|| "--offline".to_owned()));
        arguments.extend(self.options.quiet.then(|| "--quiet".to_owned()));
        arguments
    }

    fn features(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        if !self.build.default_features {
            arguments.push("--no-default-features".to_owned());
        }
        if !self.build.features.is_empty() {
            arguments.extend(["--features".to_owned(), self.build.features.join(",")]);
        }
        arguments
    }

    /// Lets cargo build, and lists the crates.
    ///
    /// # Errors
    /// When the target cannot be installed or cargo fails.
    pub fn run(&self, ui: Ui) -> anyhow::Result<Built> {
        self.install_target(ui)?;
        let (executable, compiled) = self.compile()?;
        let list = || format!("cannot list the crates of package `{}`", self.selected.package.name);
        let audit = self.build.audit.then(|| self.crates(&compiled).with_context(list)).transpose()?;
        Ok(Built { executable, audit })
    }

    /// The crates of the binary. cargo takes longer to tell their graph than to see that there is
    /// nothing to build, so the list is kept for as long as nothing that it follows from changes: the
    /// lock file, the manifests of the workspace, and what was compiled.
    fn crates(&self, compiled: &Compiled) -> anyhow::Result<VersionInfo> {
        let of_build = self.features().join(" ");
        let mut text = format!("tare {} crates\n{of_build}\n{}\n", env!("CARGO_PKG_VERSION"), self.target);
        text.push_str(&self.selected.package.id.repr);
        text.push('\n');
        text.push_str(&compiled.text());
        let manifests = self.workspace.packages.iter().map(|package| package.manifest_path.as_std_path());
        let lock = self.workspace.root.join("Cargo.lock");
        let root = self.workspace.root.join("Cargo.toml");
        for path in [lock.as_path(), &root].into_iter().chain(manifests) {
            text.push('\n');
            text.push_str(&input::read_to_string(path).unwrap_or_default());
        }
        let dir = self.workspace.cache("crates")?;
        let path = dir.join(Digest::of(text.as_bytes()).hex());
        if let Some(known) = input::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
            // What was used longest ago is removed first.
            let used = std::fs::File::options().write(true).open(&path);
            let _ = used.and_then(|file| file.set_modified(std::time::SystemTime::now()));
            return Ok(known);
        }
        let crates = compiled.list(&self.tree()?, &self.selected.package.id)?;
        // A list that cannot be kept is made again next time.
        let _ = keep(&dir, &path, &crates);
        Ok(crates)
    }

    fn compile(&self) -> anyhow::Result<(PathBuf, Compiled)> {
        let sh = shell_in(&self.workspace.root)?;
        let (cargo, arguments) = (self.env.cargo(), self.arguments());
        let mut command = cmd!(sh, "{cargo} {arguments...} --message-format json-render-diagnostics");
        let profile = &self.build.profile;
        if profile == DEFAULT_PROFILE && !self.workspace.profiles.contains(profile) {
            for (key, value) in IMAGE_PROFILE {
                command = command.arg("--config").arg(format!("profile.{profile}.{key}={value}"));
            }
        }
        // The symbols are taken out here, after they were kept for whoever profiles the image.
        command = command.arg("--config").arg(format!("profile.{profile}.strip=\"none\""));
        command = command
            .without_env(self.env.of_cargo_run())
            .env("CARGO_TARGET_DIR", &self.workspace.target_dir)
            .env("CARGO_ENCODED_RUSTFLAGS", self.rustflags().join("\u{1f}"))
            .env("SOURCE_DATE_EPOCH", self.build_time())
            .envs(self.c_flags());
        if !self.config.own_linker {
            let variable = format!("CARGO_TARGET_{}_LINKER", self.target.to_uppercase().replace('-', "_"));
            command = command.env(variable, "rust-lld");
        }
        let mut executable = None;
        let mut compiled = Compiled::default();
        let folder = profile_folder(profile);
        let succeeded = command.for_each_line(|line| {
            match serde_json::from_str(line) {
                Ok(Message::CompilerArtifact(artifact)) => {
                    compiled.artifact(&artifact, self.target, folder);
                    if artifact.package_id == self.selected.package.id
                        && artifact.target.name == self.selected.bin
                        && artifact.target.kind.contains(&TargetKind::Bin)
                    {
                        executable =
                            artifact.executable.map(cargo_metadata::camino::Utf8PathBuf::into_std_path_buf);
                    }
                }
                Ok(Message::BuildScriptExecuted(script)) => compiled.script_succeeded(&script.package_id),
                // Other lines are what build scripts and procedural macros print.
                _ => {}
            }
        })?;
        let Selected { package, bin } = self.selected;
        if !succeeded {
            let message = format!("cargo could not build package `{}` for {}", package.name, self.target);
            return Err(match self.failure_hint(&compiled) {
                Some(hint) => Hinted::new(message, hint).into(),
                None => anyhow!(message),
            });
        }
        let unnamed = || format!("cargo built package `{}` but named no executable `{bin}`", package.name);
        Ok((executable.with_context(unnamed)?, compiled))
    }

    /// What C and build scripts take for "now": the user's SOURCE_DATE_EPOCH, else 0. Not the commit's
    /// time: every crate that compiles C depends on this variable and would do so anew in every commit.
    fn build_time(&self) -> String {
        self.env.text("SOURCE_DATE_EPOCH").unwrap_or_else(|| "0".to_owned())
    }

    /// The user's flags, then ours.
    fn rustflags(&self) -> Vec<String> {
        let mut flags = self.config.rustflags.clone();
        flags.push("-Ctarget-feature=+crt-static".to_owned());
        for (from, to) in &self.remapped {
            flags.push(format!("--remap-path-prefix={}={to}", from.display()));
        }
        if !self.config.own_linker {
            flags.extend(LLD_FLAGS.map(str::to_owned));
        }
        flags
    }

    /// The same for C, in the variables of the crate `cc`. The most special variable hides the others,
    /// so it takes over what they say.
    fn c_flags(&self) -> Vec<(String, String)> {
        let underscored = self.target.replace('-', "_");
        ["CFLAGS", "CXXFLAGS"]
            .map(|name| {
                let variables = [
                    format!("{name}_{}", self.target),
                    format!("{name}_{underscored}"),
                    format!("TARGET_{name}"),
                    name.to_owned(),
                ];
                let mut value = variables.iter().find_map(|name| self.env.text(name)).unwrap_or_default();
                for (from, to) in &self.remapped {
                    // The crate splits the value at spaces.
                    if !from.to_string_lossy().contains(' ') {
                        value.push_str(&format!(" -ffile-prefix-map={}={to}", from.display()));
                    }
                }
                (format!("{name}_{underscored}"), value.trim().to_owned())
            })
            .into()
    }

    /// Asks cargo who needs whom. It was here to build, so all of it is here.
    fn tree(&self) -> anyhow::Result<Tree> {
        let sh = shell_in(&self.workspace.root)?;
        let (cargo, package, target) = (self.env.cargo(), self.selected.package.name.as_str(), self.target);
        let output = cmd!(sh, "{cargo} tree --package {package} --target {target} --locked --offline")
            .args(Tree::ARGUMENTS)
            .args(self.features())
            .without_env(self.env.of_cargo_run())
            .env("CARGO_TARGET_DIR", &self.workspace.target_dir)
            .capture()?;
        Ok(Tree::parse(&String::from_utf8_lossy(&output))?)
    }

    /// What may be missing when cargo failed after it began: a C compiler for the target.
    fn failure_hint(&self, compiled: &Compiled) -> Option<String> {
        if !self.workspace.root.join("Cargo.lock").is_file() {
            return Some("there is no Cargo.lock: run `cargo generate-lockfile` and commit it".to_owned());
        }
        let needs_c = compiled.waiting_for_c(&self.tree().ok()?);
        let compilers = c_compilers(self.target);
        let path = self.env.variables.get(&std::ffi::OsString::from("PATH"));
        let named = c_compiler_variables(self.target).iter().any(|name| self.env.get(name).is_some());
        let found = compilers.iter().any(|name| process::find_program(name, path).is_some());
        if needs_c.is_empty() || named || found {
            return None;
        }
        let install = if self.target.starts_with(std::env::consts::ARCH) && cfg!(target_os = "linux") {
            "install musl-gcc (Debian and Ubuntu: apt-get install musl-tools; Fedora: dnf install musl-gcc)"
        } else {
            "install a cross compiler (https://musl.cc), or set the variable to `zig cc` in a wrapper script"
        };
        Some(format!(
            "{} compile{} C, and there is no C compiler for {} (looked for {}, and for the variable {}): {install}",
            needs_c.join(", "),
            if needs_c.len() == 1 { "s" } else { "" },
            self.target,
            compilers.join(", "),
            c_compiler_variables(self.target)[0],
        ))
    }

    /// Installs the target's standard library if it is not there.
    fn install_target(&self, ui: Ui) -> anyhow::Result<()> {
        let installed = |sysroot: &Path| sysroot.join("lib/rustlib").join(self.target).join("lib").is_dir();
        if self.sysroot.as_deref().is_none_or(installed) {
            return Ok(());
        }
        // rustup does not bear two of itself that install the same thing.
        let _lock = lock(&self.workspace.cache("locks")?, "rustup.lock", || {
            ui.status("Blocking", "until another run has installed the Rust target");
        })?;
        if self.sysroot.as_deref().is_none_or(installed) {
            return Ok(());
        }
        let toolchain = self.env.text("RUSTUP_TOOLCHAIN");
        let mut words = vec!["target", "add"];
        if let Some(toolchain) = &toolchain {
            words.extend(["--toolchain", toolchain]);
        }
        words.push(self.target);
        let command = format!("rustup {}", words.join(" "));
        if self.options.offline {
            let message = format!("the Rust target {} is not installed", self.target);
            return Err(Hinted::new(message, format!("run `{command}` while there is a network")).into());
        }
        ui.status("Installing", &format!("the Rust target {} (`{command}`)", self.target));
        // cargo's own variables would make the rustup proxy recurse.
        let sh = shell_in(&self.workspace.root)?;
        let target = self.target;
        let hint = match cmd!(sh, "rustup {words...}").capture() {
            Ok(_) => return Ok(()),
            Err(ProcessError::NotFound { .. }) => format!(
                "rustup is not here: install {target} from where your Rust comes from, or use rustup and run `{command}`"
            ),
            Err(error) => format!("run `{command}`; here it did not work: {error}"),
        };
        Err(Hinted::new(format!("the Rust target {target} is not installed"), hint).into())
    }
}

/// Folders whose paths must not get into a binary, and what stands there instead. The last that fits
/// counts, so the more special ones come later.
fn remapped(workspace: &Workspace, env: &Environment, sysroot: Option<&Path>) -> Vec<(PathBuf, String)> {
    let mut remapped = vec![
        (workspace.root.clone(), "/src".to_owned()),
        // Generated code lies here, also when the user builds outside the workspace.
        (workspace.target_dir.clone(), "/src/target".to_owned()),
    ];
    if let Some(home) = env.cargo_home() {
        remapped.push((home, "/cargo".to_owned()));
    }
    // With the component rust-src, the standard library's paths are those of this toolchain.
    let library = sysroot.map(|sysroot| sysroot.join("lib/rustlib/src/rust"));
    if let Some(library) = library.filter(|library| library.is_dir())
        && let Some(commit) = rustc_commit(env)
    {
        remapped.push((library, format!("/rustc/{commit}")));
    }
    remapped
}

/// The toolchain's folder: the one that the calling cargo lies in, or what rustc says.
fn sysroot(env: &Environment) -> Option<PathBuf> {
    let of_cargo = env.cargo().parent().and_then(Path::parent).map(Path::to_path_buf);
    if let Some(sysroot) = of_cargo.filter(|dir| dir.join("lib/rustlib").is_dir()) {
        return Some(sysroot);
    }
    let sh = Shell::new().ok()?;
    cmd!(sh, "rustc --print sysroot").capture_text().ok().map(PathBuf::from)
}

fn rustc_commit(env: &Environment) -> Option<String> {
    let rustc = env.get("RUSTC").cloned().unwrap_or_else(|| "rustc".into());
    let sh = Shell::new().ok()?;
    let output = cmd!(sh, "{rustc} -vV").capture_text().ok()?;
    output.lines().find_map(|line| line.strip_prefix("commit-hash: ")).map(str::to_owned)
}

/// Where cargo puts what it builds with a profile (The Cargo Book, "Build Cache").
fn profile_folder(profile: &str) -> &str {
    match profile {
        "dev" | "test" => "debug",
        "bench" => "release",
        other => other,
    }
}

fn keep(dir: &Path, path: &Path, crates: &VersionInfo) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    tare_tool::private::replace_file(path, &serde_json::to_vec(crates)?)
}

/// Names under which the crate `cc` looks for a C compiler.
fn c_compilers(target: &str) -> Vec<String> {
    let arch = target.split('-').next().unwrap_or_default();
    let mut names = vec![format!("{arch}-linux-musl-gcc")];
    if arch == std::env::consts::ARCH {
        names.push("musl-gcc".to_owned());
    }
    names
}

/// Variables that name a C compiler for the crate `cc`.
fn c_compiler_variables(target: &str) -> [String; 3] {
    [format!("CC_{}", target.replace('-', "_")), format!("CC_{target}"), "TARGET_CC".to_owned()]
}
