//! The programs of the toolkit beside xtask, such as the profiler. Each is built when it is first used.
//!
//! They are packages of the workspace that xtask itself comes from: the user's own workspace, or a checkout that the
//! user's xtask depends on. The programs are built into the user's target folder.

use std::path::{Path, PathBuf};
use std::time::Instant;

use cargo_metadata::Message;

use crate::environment::Environment;
use crate::exit::Hinted;
use crate::process::{Execute as _, Shell, cmd, shell_in, xshell};
use crate::ui::Ui;

/// A program of the toolkit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// `tare-profiler`: profiles, comparisons, load.
    Profiler,
    /// `tare-keeper`: runs one container on libcontainer. Linux only.
    Keeper,
    /// `tare-deploy`: manifests.
    Deploy,
    /// `tare-publish`: registries.
    Publish,
    /// `tare-checks`: `cargo xtask test` and `bench` of the toolkit's own workspace.
    Checks,
}

impl Part {
    fn package(self) -> &'static str {
        match self {
            Self::Profiler => "tare-profiler",
            Self::Keeper => "tare-keeper",
            Self::Deploy => "tare-deploy",
            Self::Publish => "tare-publish",
            Self::Checks => "tare-checks",
        }
    }

    fn folder(self) -> String {
        self.package().replace("tare-", "crates/")
    }

    fn purpose(self) -> &'static str {
        match self {
            Self::Profiler => "which measures images",
            Self::Keeper => "which runs containers without docker",
            Self::Deploy => "which writes manifests from measured figures",
            Self::Publish => "which speaks to registries",
            Self::Checks => "which tests and benches this workspace",
        }
    }
}

/// The source of the toolkit, and the folder into which its programs are built for one workspace.
#[derive(Debug, Clone)]
pub struct Toolkit {
    /// The folder of its Cargo.toml.
    source: PathBuf,
    /// Whether the workspace that uses it is its own.
    own: bool,
    target: PathBuf,
}

impl Toolkit {
    /// The toolkit in the checkout `source`, for the workspace at `workspace`, whose target folder is `target_dir`.
    #[must_use]
    pub fn new(source: PathBuf, workspace: &Path, target_dir: &Path) -> Self {
        let own = source == workspace;
        // Two workspaces in one target folder would disturb each other's profiles.
        let target = if own { target_dir.to_path_buf() } else { target_dir.join("tare") };
        Self { source, own, target }
    }

    /// Whether the workspace that uses the toolkit is the toolkit's own.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.own
    }

    /// Builds a part unless it is there already, and says where it is.
    ///
    /// # Errors
    /// When its source is not there or cargo fails; cargo has then said why on stderr.
    pub fn build(&self, part: Part, env: &Environment, ui: Ui) -> anyhow::Result<PathBuf> {
        Ok(self.build_all(&[part], env, ui)?.swap_remove(0))
    }

    /// Whether a part has been built before.
    #[must_use]
    pub fn has(&self, part: Part) -> bool {
        self.place(part).is_file()
    }

    /// The parts that the workspace can use on this system.
    #[must_use]
    pub fn parts(&self) -> Vec<Part> {
        let mut parts = vec![Part::Profiler, Part::Deploy, Part::Publish];
        if cfg!(target_os = "linux") {
            parts.push(Part::Keeper);
        }
        if self.own {
            parts.push(Part::Checks);
        }
        parts
    }

    /// Builds several parts with one call of cargo, as far as they are not there already, and says where they are, in
    /// their order.
    ///
    /// # Errors
    /// As [`Self::build`].
    pub fn build_all(&self, parts: &[Part], env: &Environment, ui: Ui) -> anyhow::Result<Vec<PathBuf>> {
        for part in parts {
            let source = self.source.join(part.folder()).join("Cargo.toml");
            if !source.is_file() {
                let (package, source) = (part.package(), source.display());
                return Err(Hinted::new(
                    format!("the source of {package} is not beside that of tare-tool: there is no {source}"),
                    "depend on xtask-tare by git or path: `xtask-tare = { git = \"…\" }`",
                )
                .into());
            }
        }
        let sh = shell_in(&self.source)?;
        let command = self.command(&sh, parts, env);
        // Where cargo has nothing to do it says nothing; a part that is compiled anew is announced when the first of
        // its crates is.
        let missing: Vec<Part> = parts.iter().copied().filter(|part| !self.has(*part)).collect();
        for part in &missing {
            ui.status("Building", &format!("{}, {}: this once", part.package(), part.purpose()));
        }
        let command = if missing.is_empty() { command.arg("--quiet") } else { command };
        let display = command.to_string();
        let packages = || parts.iter().map(|part| part.package()).collect::<Vec<_>>().join(", ");
        let mut said = !missing.is_empty();
        let mut executables = Vec::new();
        let started = Instant::now();
        let succeeded = command.for_each_line(|line| {
            if let Ok(Message::CompilerArtifact(artifact)) = serde_json::from_str(line) {
                if !artifact.fresh && !said {
                    said = true;
                    ui.status("Building", &format!("{} anew", packages()));
                }
                if let Some(path) = artifact.executable {
                    executables.push((artifact.target.name, path.into_std_path_buf()));
                }
            }
        })?;
        let executable = |part: &Part| {
            let found = executables.iter().find(|(name, _)| name == part.package());
            found.map(|(_, path)| path.clone())
        };
        match parts.iter().map(executable).collect::<Option<Vec<_>>>() {
            Some(found) if succeeded => {
                if !missing.is_empty() {
                    ui.status(
                        "Built",
                        &format!("{} in {:.0} s", packages(), started.elapsed().as_secs_f64()),
                    );
                }
                Ok(found)
            }
            _ => anyhow::bail!("{} cannot be built: `{display}` failed", packages()),
        }
    }

    /// Where cargo puts a part.
    fn place(&self, part: Part) -> PathBuf {
        self.target.join("xtask").join(format!("{}{}", part.package(), std::env::consts::EXE_SUFFIX))
    }

    fn command<'a>(&self, sh: &'a Shell, parts: &[Part], env: &Environment) -> xshell::Cmd<'a> {
        let (cargo, manifest, target) = (env.cargo(), self.source.join("Cargo.toml"), &self.target);
        let packages = parts.iter().flat_map(|part| ["--package", part.package()]);
        cmd!(
            sh,
            "{cargo} build --locked --profile xtask --message-format json-render-diagnostics {packages...}"
        )
        .args(["--manifest-path".as_ref(), manifest.as_os_str(), "--target-dir".as_ref(), target.as_os_str()])
        .without_env(env.of_cargo_run())
        // The user's flags are for their programs.
        .without_env(["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET"])
        .envs(env.offline())
        // Images may be built meanwhile, and two bars would overwrite each other.
        .env("CARGO_TERM_PROGRESS_WHEN", "never")
    }
}

/// The checkout that this program was compiled from. It may have been moved or copied since.
#[must_use]
pub fn compiled_source() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    source_of(&manifest).unwrap_or(manifest)
}

/// The checkout of the toolkit whose package `tare-tool` has this Cargo.toml.
#[must_use]
pub fn source_of(manifest: &Path) -> Option<PathBuf> {
    // SOURCE/crates/tool/Cargo.toml
    manifest.ancestors().nth(3).map(Path::to_path_buf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_are_built_with_one_call_and_the_lock_file_of_the_toolkit() {
        let env = Environment { variables: Default::default(), current_dir: PathBuf::new(), parallelism: 1 };
        let root = compiled_source();
        let foreign = Toolkit::new(root.clone(), Path::new("/w"), Path::new("/w/target"));
        let mut parts = vec![Part::Profiler, Part::Deploy, Part::Publish];
        if cfg!(target_os = "linux") {
            parts.push(Part::Keeper);
        }
        assert_eq!((foreign.parts(), foreign.is_own()), (parts.clone(), false));
        let own = Toolkit::new(root.clone(), &root, Path::new("/t"));
        parts.push(Part::Checks);
        assert_eq!((own.parts(), own.is_own()), (parts, true));
        let sh = Shell::new().unwrap();
        let command = foreign.command(&sh, &[Part::Profiler, Part::Keeper], &env).to_string();
        let expected = format!(
            "cargo build --locked --profile xtask --message-format json-render-diagnostics --package tare-profiler \
             --package tare-keeper --manifest-path {} --target-dir /w/target/tare",
            root.join("Cargo.toml").display()
        );
        assert_eq!(command, expected);
    }
}
