//! Building a binary with cargo: which package and binary, with which flags, and what cargo says of the
//! crates that went into it.

mod c_flags;
mod hints;
mod profile;
mod remap;
mod select;
mod wrapper;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use cargo_metadata::{Message, TargetKind};

pub(crate) use self::hints::linking_compiler;
pub(crate) use self::remap::local_packages;
pub use self::select::{Selected, bins, select};
pub use self::wrapper::run as run_as_wrapper;

use self::hints::Log;
use self::profile::Profile;
use self::remap::Remapped;
use super::crates::{Compiled, Tree};
use super::definition::CargoBuild;
use super::lock::lock;
use crate::cargo_config::CargoConfig;
use crate::workspace::Workspace;
use tare_oci::audit::VersionInfo;
use tare_oci::digest::Digest;
use tare_oci::input;
use tare_oci::platform::Platform;
use tare_tool::environment::{self, Environment};
use tare_tool::exit::Hinted;
use tare_tool::private;
use tare_tool::process::{self, Execute as _, ProcessError, Shell, cmd, shell_in};
use tare_tool::ui::Ui;

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
    config: CargoConfig<'a>,
    own_linker: bool,
    profile: Profile,
    sysroot: Option<PathBuf>,
    remapped: Remapped,
}

/// What cargo built.
#[derive(Debug)]
pub struct Built {
    /// The executable, with symbols.
    pub executable: PathBuf,
    /// The crates in it, in cargo-auditable's format; none if the definition wants none.
    pub audit: Option<VersionInfo>,
}

/// Identical functions once, and relocations in the compact form that musl has read since 1.2.4.
const LLD_FLAGS: [&str; 2] = ["-Clink-arg=--icf=all", "-Clink-arg=--pack-dyn-relocs=relr"];

impl<'a> Invocation<'a> {
    /// Prepares a build for a platform.
    ///
    /// # Errors
    /// When the user's cargo configuration cannot be understood, or nothing defines the profile.
    pub fn new(
        workspace: &'a Workspace,
        env: &'a Environment,
        build: &'a CargoBuild,
        selected: &'a Selected<'a>,
        platform: Platform,
        options: CargoOptions,
    ) -> anyhow::Result<Self> {
        let target = platform.target();
        let config = CargoConfig::read(&workspace.root, env)?;
        let name = &build.profile;
        let profile = profile::resolve(name, &workspace.profiles, &config, env).map_err(|_| {
            Hinted::new(
                format!("the workspace has no cargo profile `{name}`"),
                format!("add [profile.{name}] to the workspace's Cargo.toml, or leave `profile` out"),
            )
        })?;
        let sysroot = sysroot(env);
        let remapped = remap::remapped(workspace, &config, env, sysroot.as_deref());
        let own_linker = config.has_linker(target);
        Ok(Self {
            workspace,
            env,
            build,
            selected,
            target,
            options,
            config,
            own_linker,
            profile,
            sysroot,
            remapped,
        })
    }

    /// The keys of the profile with their values, and where each is set.
    #[must_use]
    pub fn profile(&self) -> Vec<String> {
        self.profile.keys.iter().map(ToString::to_string).collect()
    }

    /// The folders whose paths do not belong into the program: checkout, target, CARGO_HOME, home.
    #[must_use]
    pub fn own_folders(&self) -> Vec<PathBuf> {
        let mut folders: Vec<PathBuf> =
            self.remapped.folders.iter().map(|(folder, _)| folder.clone()).collect();
        folders.extend(self.env.get("HOME").or_else(|| self.env.get("USERPROFILE")).map(PathBuf::from));
        folders
    }

    /// The processor that the user's flags name, if its programs do not run on every one of the platform.
    #[must_use]
    pub fn special_cpu(&self) -> Option<String> {
        named_cpu(&self.config.rustflags(self.target))
    }

    /// The command as one would type it, without the flags that only move paths.
    #[must_use]
    pub fn display(&self) -> String {
        format!("cargo {}", self.arguments(&self.selected.package.name).join(" "))
    }

    fn arguments(&self, package: &str) -> Vec<String> {
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
        let (executable, compiled) = self.compile(ui)?;
        let list = || format!("cannot list the crates of package `{}`", self.selected.package.name);
        let audit = self.build.audit.then(|| self.crates(&compiled).with_context(list)).transpose()?;
        Ok(Built { executable, audit })
    }

    /// The crates of the binary. cargo takes longer to tell their graph than to see that there is
    /// nothing to build, so the list is kept for as long as nothing that it follows from changes: the
    /// lock file, the manifests of the workspace, and what was compiled.
    fn crates(&self, compiled: &Compiled) -> anyhow::Result<VersionInfo> {
        let of_build = self.features().join(" ");
        // The list also follows from the code that makes it.
        let code = Digest::of(include_bytes!("../crates.rs"));
        let mut text = format!("tare crates {code}\n{of_build}\n{}\n", self.target);
        text.push_str(&self.selected.package.id.repr);
        text.push('\n');
        text.push_str(&compiled.text());
        let manifests = self.workspace.packages.iter().map(|package| package.manifest_path.clone().into());
        let outside = self.remapped.outside.iter().map(|folder| folder.join("Cargo.toml"));
        let lock = self.workspace.root.join("Cargo.lock");
        let root = self.workspace.root.join("Cargo.toml");
        for path in [lock, root].into_iter().chain(manifests).chain(outside) {
            text.push('\n');
            text.push_str(&input::read_to_string(&path).unwrap_or_default());
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

    fn compile(&self, ui: Ui) -> anyhow::Result<(PathBuf, Compiled)> {
        let sh = shell_in(&self.workspace.root)?;
        let (cargo, arguments) =
            (self.env.cargo(), self.arguments(&select::package_spec(self.selected.package)));
        let format = if ui.is_coloured() { "json-diagnostic-rendered-ansi" } else { "json" };
        let mut command = cmd!(sh, "{cargo} {arguments...} --message-format {format}");
        let profile = &self.build.profile;
        for (key, value) in &self.profile.added {
            command = command.arg("--config").arg(format!("profile.{profile}.{key}={value}"));
        }
        // The symbols are taken out here, after they were kept for whoever profiles the image.
        command = command.arg("--config").arg(format!("profile.{profile}.strip=\"none\""));
        command = command
            .without_env(self.env.of_cargo_run())
            .env("CARGO_TARGET_DIR", &self.workspace.target_dir)
            .env("CARGO_ENCODED_RUSTFLAGS", self.rustflags().join("\u{1f}"))
            .env("SOURCE_DATE_EPOCH", self.build_time())
            .envs(self.c_flags()?);
        if !self.remapped.outside.is_empty() {
            let own = self.config.rustc_wrapper().unwrap_or_default();
            let this = environment::this_program().context("cannot find this program")?;
            command = command.env("RUSTC_WRAPPER", this).env(wrapper::VARIABLE, own);
        }
        if !self.own_linker {
            let variable = format!("CARGO_TARGET_{}_LINKER", self.target.to_uppercase().replace('-', "_"));
            command = command.env(variable, "rust-lld");
        }
        let mut executable = None;
        let mut compiled = Compiled::default();
        let mut log = Log::default();
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
                Ok(Message::BuildScriptExecuted(script)) => {
                    compiled.script_succeeded(&script.package_id);
                    log.script(&script);
                }
                Ok(Message::CompilerMessage(message)) => {
                    ui.relay(message.message.rendered.as_deref().unwrap_or_default());
                    log.message(&message);
                }
                // Other lines are what build scripts and procedural macros print.
                _ => {}
            }
        })?;
        let Selected { package, bin } = self.selected;
        if !succeeded {
            let message = format!("cargo could not build package `{}` for {}", package.name, self.target);
            return Err(match self.failure_hint(&compiled, &log) {
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
        self.config.child_variable("SOURCE_DATE_EPOCH").unwrap_or_else(|| "0".to_owned())
    }

    /// The variables for C, whose file is written. Its path stays the same, or every call would compile all C anew.
    fn c_flags(&self) -> anyhow::Result<[(String, String); 2]> {
        let place = private::temporary_folder("tare-flags");
        let flags = c_flags::c_flags(self.target, &self.remapped.folders, &self.config, &place);
        if let Some((file, content)) = flags.file {
            private::own_folder(&place)?;
            private::replace_file(&file, content.as_bytes())
                .with_context(|| format!("cannot write {}", file.display()))?;
        }
        Ok(flags.variables)
    }

    /// The user's flags, then ours.
    fn rustflags(&self) -> Vec<String> {
        let mut flags = self.config.rustflags(self.target);
        flags.push("-Ctarget-feature=+crt-static".to_owned());
        for (from, to) in &self.remapped.folders {
            flags.push(format!("--remap-path-prefix={}={to}", from.display()));
        }
        if !self.own_linker {
            flags.extend(LLD_FLAGS.map(str::to_owned));
        }
        flags
    }

    /// Asks cargo who needs whom. It was here to build, so all of it is here.
    fn tree(&self) -> anyhow::Result<Tree> {
        let sh = shell_in(&self.workspace.root)?;
        let (cargo, package, target) =
            (self.env.cargo(), select::package_spec(self.selected.package), self.target);
        let output = cmd!(sh, "{cargo} tree --package {package} --target {target} --locked --offline")
            .args(Tree::ARGUMENTS)
            .args(self.features())
            .without_env(self.env.of_cargo_run())
            .env("CARGO_TARGET_DIR", &self.workspace.target_dir)
            .capture()?;
        Ok(Tree::parse(&String::from_utf8_lossy(&output))?)
    }

    /// What may help when cargo failed after it began.
    fn failure_hint(&self, compiled: &Compiled, log: &Log) -> Option<String> {
        if !self.workspace.root.join("Cargo.lock").is_file() {
            return Some("there is no Cargo.lock: run `cargo generate-lockfile` and commit it".to_owned());
        }
        if let Some(hint) = hints::unwritable(&self.workspace.target_dir) {
            return Some(hint);
        }
        if !self.own_linker
            && let Some(hint) = log.hint(self.target)
        {
            return Some(hint);
        }
        let tree = self.tree().ok()?;
        if let Some(hint) = hints::openssl(compiled, &tree, &self.selected.package.id) {
            return Some(hint);
        }
        let needs_c = compiled.waiting_for_c(&tree);
        let compilers = c_flags::compilers(self.target);
        let variables = c_flags::compiler_variables(self.target);
        let path = self.env.variables.get(&std::ffi::OsString::from("PATH"));
        let named = variables.iter().any(|name| self.config.child_variable(name).is_some());
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
            variables[0],
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

/// The toolchain's folder: the one that the calling cargo lies in, or what rustc says.
fn sysroot(env: &Environment) -> Option<PathBuf> {
    let of_cargo = env.cargo().parent().and_then(Path::parent).map(Path::to_path_buf);
    if let Some(sysroot) = of_cargo.filter(|dir| dir.join("lib/rustlib").is_dir()) {
        return Some(sysroot);
    }
    let sh = Shell::new().ok()?;
    cmd!(sh, "rustc --print sysroot").capture_text().ok().map(PathBuf::from)
}

/// The processor that the user's flags name for one of the platforms, as [`Invocation::special_cpu`].
///
/// # Errors
/// When the user's cargo configuration cannot be understood.
pub fn special_cpu(
    workspace: &Workspace,
    env: &Environment,
    platforms: &[Platform],
) -> anyhow::Result<Option<String>> {
    let config = CargoConfig::read(&workspace.root, env)?;
    Ok(platforms.iter().find_map(|platform| named_cpu(&config.rustflags(platform.target()))))
}

/// A processor in `-C target-cpu` that is not one of the platform's least.
fn named_cpu(flags: &[String]) -> Option<String> {
    let mut words = flags.iter().map(|flag| flag.strip_prefix("-C").unwrap_or(flag).trim());
    let named = words.rfind(|word| word.starts_with("target-cpu="))?;
    let cpu = named.split_once('=').map_or("", |(_, cpu)| cpu);
    (!["", "generic", "x86-64"].contains(&cpu)).then(|| cpu.to_owned())
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
    private::replace_file(path, &serde_json::to_vec(crates)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_that_is_not_every_ones_is_found_in_the_flags() {
        for (flags, expected) in [
            (&[][..], None),
            (&["-C", "opt-level=2"], None),
            (&["-C", "target-cpu=native"], Some("native")),
            (&["-Ctarget-cpu=x86-64-v3", "-g"], Some("x86-64-v3")),
            (&["-Ctarget-cpu=native", "-Ctarget-cpu=generic"], None),
            (&["-C target-cpu=x86-64"], None),
        ] {
            let flags: Vec<String> = flags.iter().map(ToString::to_string).collect();
            assert_eq!(named_cpu(&flags).as_deref(), expected, "{flags:?}");
        }
    }
}
