//! The toolkit's programs beside xtask: what only measuring needs, built when it is first needed.
//!
//! They are packages of the toolkit's own workspace, wherever cargo has put it: beside this one, or in a
//! checkout of git that the user's xtask depends on. What is built goes into the user's target folder.

use std::path::{Path, PathBuf};

use cargo_metadata::Message;

use crate::environment::Environment;
use crate::process::{Cmd, ProcessError};
use crate::ui::Ui;

/// A program of the toolkit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// `tare-profiler`: profiles, comparisons, load.
    Profiler,
    /// `tare-keeper`: runs one container on libcontainer. Linux only.
    Keeper,
    /// `tare-checks`: `cargo xtask test` and `bench` of the toolkit's own workspace.
    Checks,
}

impl Part {
    fn package(self) -> &'static str {
        match self {
            Self::Profiler => "tare-profiler",
            Self::Keeper => "tare-keeper",
            Self::Checks => "tare-checks",
        }
    }

    fn folder(self) -> &'static str {
        match self {
            Self::Profiler => "crates/profiler",
            Self::Keeper => "crates/keeper",
            Self::Checks => "crates/checks",
        }
    }

    fn purpose(self) -> &'static str {
        match self {
            Self::Profiler => "which measures images",
            Self::Keeper => "which runs containers without docker",
            Self::Checks => "which tests and benches this workspace",
        }
    }
}

/// Why a part of the toolkit is not there.
#[derive(Debug, thiserror::Error)]
pub enum ToolkitError {
    /// Only the library came, as from a registry.
    #[error("the source of {package} is not beside that of tare-tool: there is no {path}", path = path.display())]
    NoSource {
        /// Which.
        package: &'static str,
        /// Where it was looked for.
        path: PathBuf,
    },
    /// cargo could not build it.
    #[error("{package} cannot be built: `{command}` failed")]
    Build {
        /// Which.
        package: &'static str,
        /// As one would type it.
        command: String,
    },
    /// cargo could not be run.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

impl ToolkitError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoSource { .. } => {
                Some("depend on xtask-tare by git or path: `xtask-tare = { git = \"…\" }`".to_owned())
            }
            Self::Build { .. } | Self::Process(_) => None,
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
    pub fn build(&self, part: Part, env: &Environment, ui: Ui) -> Result<PathBuf, ToolkitError> {
        build(part, self, env, ui)
    }
}

/// The toolkit's checkout: this package's own folder, when it was compiled, lies two below it.
#[must_use]
pub fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().nth(2).unwrap_or(package).to_path_buf()
}

fn build(part: Part, toolkit: &Toolkit, env: &Environment, ui: Ui) -> Result<PathBuf, ToolkitError> {
    let package = part.package();
    let Toolkit { root, target } = toolkit;
    let source = root.join(part.folder()).join("Cargo.toml");
    if !source.is_file() {
        return Err(ToolkitError::NoSource { package, path: source });
    }
    let command = Cmd::new(env.cargo())
        .args(["build", "--locked", "--package", package, "--profile", "xtask"])
        .args(["--message-format", "json-render-diagnostics"])
        .arg("--manifest-path")
        .arg(root.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(target)
        .without_env(env.of_cargo_run())
        // The user's flags are for their programs.
        .without_env(["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET"])
        .current_dir(root);
    // Where cargo has nothing to do it says nothing; what has changed since is told of by the first part of it.
    let built = target.join("xtask").join(format!("{package}{}", std::env::consts::EXE_SUFFIX));
    let command = if built.is_file() {
        command.arg("--quiet")
    } else {
        ui.status("Building", &format!("{package}, {}: this once", part.purpose()));
        command
    };
    let display = command.display();
    let mut executable = None;
    let mut said = !built.is_file();
    let succeeded = command.for_each_line(|line| {
        if let Ok(Message::CompilerArtifact(artifact)) = serde_json::from_str(line) {
            if !artifact.fresh && !said {
                said = true;
                ui.status("Building", &format!("{package} anew, {}", part.purpose()));
            }
            if artifact.target.name == package
                && let Some(path) = artifact.executable
            {
                executable = Some(path.into_std_path_buf());
            }
        }
    })?;
    match executable {
        Some(executable) if succeeded => Ok(executable),
        _ => Err(ToolkitError::Build { package, command: display }),
    }
}
