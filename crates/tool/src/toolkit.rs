//! The toolkit's programs beside xtask: what only measuring needs, built when it is first needed.
//!
//! They are packages of the toolkit's own workspace, wherever cargo has put it: beside this one, or in a
//! checkout of git that the user's xtask depends on. What is built goes into the user's target folder.

use std::path::{Path, PathBuf};

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

/// The toolkit's own workspace, and where its programs are built for the workspace that uses it.
#[derive(Debug, Clone)]
pub struct Toolkit {
    root: PathBuf,
    target: PathBuf,
}

impl Toolkit {
    /// For the workspace at `workspace`, whose target folder is `target_dir`.
    #[must_use]
    pub fn new(workspace: &Path, target_dir: &Path) -> Self {
        let root = root();
        // Two workspaces in one target folder would disturb each other's profiles.
        let target = if root == workspace { target_dir.to_path_buf() } else { target_dir.join("tare") };
        Self { root, target }
    }

    /// Builds a part unless it is there already, and says where it is.
    ///
    /// # Errors
    /// When its source is not there or cargo fails; cargo has then said why on stderr.
    pub fn build(&self, part: Part, env: &Environment, ui: Ui) -> anyhow::Result<PathBuf> {
        Ok(self.build_all(&[part], env, ui)?.swap_remove(0))
    }

    /// The parts that a workspace can use on this system.
    #[must_use]
    pub fn parts(&self, workspace: &Path) -> Vec<Part> {
        let mut parts = vec![Part::Profiler, Part::Deploy, Part::Publish];
        if cfg!(target_os = "linux") {
            parts.push(Part::Keeper);
        }
        if self.root == workspace {
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
            let source = self.root.join(part.folder()).join("Cargo.toml");
            if !source.is_file() {
                let (package, source) = (part.package(), source.display());
                return Err(Hinted::new(
                    format!("the source of {package} is not beside that of tare-tool: there is no {source}"),
                    "depend on xtask-tare by git or path: `xtask-tare = { git = \"…\" }`",
                )
                .into());
            }
        }
        let sh = shell_in(&self.root)?;
        let command = self.command(&sh, parts, env);
        // Where cargo has nothing to do it says nothing; a part that is compiled anew is announced when the first of
        // its crates is.
        let missing: Vec<Part> = parts.iter().copied().filter(|part| !self.place(*part).is_file()).collect();
        for part in &missing {
            ui.status("Building", &format!("{}, {}: this once", part.package(), part.purpose()));
        }
        let command = if missing.is_empty() { command.arg("--quiet") } else { command };
        let display = command.to_string();
        let packages = || parts.iter().map(|part| part.package()).collect::<Vec<_>>().join(", ");
        let mut said = !missing.is_empty();
        let mut executables = Vec::new();
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
            Some(found) if succeeded => Ok(found),
            _ => anyhow::bail!("{} cannot be built: `{display}` failed", packages()),
        }
    }

    /// Where cargo puts a part.
    fn place(&self, part: Part) -> PathBuf {
        self.target.join("xtask").join(format!("{}{}", part.package(), std::env::consts::EXE_SUFFIX))
    }

    fn command<'a>(&self, sh: &'a Shell, parts: &[Part], env: &Environment) -> xshell::Cmd<'a> {
        let (cargo, manifest, target) = (env.cargo(), self.root.join("Cargo.toml"), &self.target);
        let packages = parts.iter().flat_map(|part| ["--package", part.package()]);
        cmd!(
            sh,
            "{cargo} build --locked --profile xtask --message-format json-render-diagnostics {packages...}"
        )
        .args(["--manifest-path".as_ref(), manifest.as_os_str(), "--target-dir".as_ref(), target.as_os_str()])
        .without_env(env.of_cargo_run())
        // The user's flags are for their programs.
        .without_env(["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET"])
    }
}

/// The toolkit's checkout: this package's own folder, when it was compiled, lies two below it.
#[must_use]
pub fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().nth(2).unwrap_or(package).to_path_buf()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_are_built_with_one_call_and_the_lock_file_of_the_toolkit() {
        let env = Environment { variables: Default::default(), current_dir: PathBuf::new(), parallelism: 1 };
        let foreign = Toolkit::new(Path::new("/w"), Path::new("/w/target"));
        let mut parts = vec![Part::Profiler, Part::Deploy, Part::Publish];
        if cfg!(target_os = "linux") {
            parts.push(Part::Keeper);
        }
        assert_eq!(foreign.parts(Path::new("/w")), parts);
        let own = Toolkit::new(&root(), Path::new("/t"));
        parts.push(Part::Checks);
        assert_eq!(own.parts(&root()), parts);
        let sh = Shell::new().unwrap();
        let command = foreign.command(&sh, &[Part::Profiler, Part::Keeper], &env).to_string();
        let expected = format!(
            "cargo build --locked --profile xtask --message-format json-render-diagnostics --package tare-profiler \
             --package tare-keeper --manifest-path {} --target-dir /w/target/tare",
            root().join("Cargo.toml").display()
        );
        assert_eq!(command, expected);
    }
}
