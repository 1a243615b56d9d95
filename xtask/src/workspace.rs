//! Where things are: the cargo workspace, its packages, its images.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use cargo_metadata::{Metadata, Package};

use tare_oci::input;
use tare_oci::units::{Epoch, EpochError};
use tare_tool::environment::Environment;
use tare_tool::process::{Execute as _, ProcessError, cmd, shell_in};
use tare_tool::toolkit::Toolkit;

/// Why a workspace cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    /// cargo does not find or understand it.
    #[error("no usable cargo workspace here")]
    Metadata(#[source] ProcessError),
    /// cargo printed something else than metadata.
    #[error("`cargo metadata` printed something unexpected")]
    Json(#[source] serde_json::Error),
    /// The time that everything is to have is not a time.
    #[error("SOURCE_DATE_EPOCH: {0}")]
    SourceDateEpoch(EpochError),
    /// A Cargo.toml is not TOML.
    #[error("{path} is not TOML: {message}", path = path.display())]
    Manifest {
        /// Which.
        path: PathBuf,
        /// Why.
        message: String,
    },
    /// A folder of the workspace cannot be read.
    #[error("cannot read {path}", path = path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// A cargo workspace.
#[derive(Debug, Clone)]
pub struct Workspace {
    /// Where its Cargo.toml is.
    pub root: PathBuf,
    /// Where cargo builds, and where `images/` is written.
    pub target_dir: PathBuf,
    /// Its own packages.
    pub packages: Vec<Package>,
    /// `[workspace.metadata]`
    pub metadata: serde_json::Value,
    /// The names in `[profile.*]` of its Cargo.toml.
    pub profiles: Vec<String>,
}

impl Workspace {
    /// Finds the workspace that the running `xtask` belongs to: cargo says where that package is, and
    /// without cargo it is the current directory's.
    ///
    /// # Errors
    /// When there is none, or cargo cannot read it.
    pub fn find(env: &Environment) -> Result<Self, WorkspaceError> {
        let target_dir = ["CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR"]
            .into_iter()
            // cargo takes a relative one from where it is called.
            .filter_map(|name| Some((name, env.current_dir.join(env.get(name)?))));
        let sh = shell_in(&env.start_dir()).map_err(WorkspaceError::Metadata)?;
        let cargo = env.cargo();
        let command = cmd!(sh, "{cargo} metadata --no-deps --format-version 1")
            .without_env(env.of_cargo_run())
            .without_env(["CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR"])
            .envs(target_dir);
        Self::of_metadata(&command.capture().map_err(WorkspaceError::Metadata)?)
    }

    /// The workspace that `cargo metadata` printed.
    ///
    /// # Errors
    /// When it is something else, or the workspace's Cargo.toml cannot be read.
    fn of_metadata(printed: &[u8]) -> Result<Self, WorkspaceError> {
        let metadata: Metadata = serde_json::from_slice(printed).map_err(WorkspaceError::Json)?;
        let root = metadata.workspace_root.into_std_path_buf();
        let manifest = read_manifest(&root.join("Cargo.toml"))?;
        Ok(Self {
            target_dir: metadata.target_directory.into_std_path_buf(),
            packages: metadata.packages,
            metadata: metadata.workspace_metadata,
            profiles: profile_names(&manifest),
            root,
        })
    }

    /// What builds the toolkit's other programs for this workspace.
    #[must_use]
    pub fn toolkit(&self) -> Toolkit {
        Toolkit::new(&self.root, &self.target_dir)
    }

    /// `images`, where the definitions are.
    #[must_use]
    pub fn images_dir(&self) -> PathBuf {
        self.root.join("images")
    }

    /// `target/images`, where finished images are written.
    #[must_use]
    pub fn output_dir(&self) -> PathBuf {
        self.target_dir.join("images")
    }

    /// The names of all images that have a definition, sorted.
    ///
    /// # Errors
    /// When the folder cannot be read; that there is none is no error.
    pub fn image_names(&self) -> Result<Vec<String>, WorkspaceError> {
        let dir = self.images_dir();
        let error = |source| WorkspaceError::Read { path: dir.clone(), source };
        let entries = match std::fs::read_dir(&dir) {
            Err(problem) if problem.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(error)?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(error)?;
            // Whatever else than a file stands there is refused, and named, when it is opened.
            if entry.path().join("image.toml").symlink_metadata().is_ok() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// A package of the workspace.
    #[must_use]
    pub fn package(&self, name: &str) -> Option<&Package> {
        self.packages.iter().find(|package| *package.name == name)
    }

    /// A path as it is shown: relative to the workspace where it lies inside.
    #[must_use]
    pub fn show(&self, path: &Path) -> String {
        path.strip_prefix(&self.root).unwrap_or(path).display().to_string()
    }
}

fn read_manifest(path: &Path) -> Result<toml::Table, WorkspaceError> {
    let text = input::read_to_string(path)
        .map_err(|source| WorkspaceError::Read { path: path.to_path_buf(), source })?;
    text.parse().map_err(|error: toml::de::Error| WorkspaceError::Manifest {
        path: path.to_path_buf(),
        message: error.message().to_owned(),
    })
}

fn profile_names(manifest: &toml::Table) -> Vec<String> {
    let profiles = manifest.get("profile").and_then(toml::Value::as_table);
    profiles.map(|profiles| profiles.keys().cloned().collect()).unwrap_or_default()
}

/// SOURCE_DATE_EPOCH, if it is set.
///
/// # Errors
/// When it is set to something that is not a time.
pub fn source_date_epoch(env: &Environment) -> Result<Option<Epoch>, WorkspaceError> {
    let text = env.variables.get(&OsString::from("SOURCE_DATE_EPOCH"));
    let parsed = text.map(|text| text.to_string_lossy().parse()).transpose();
    parsed.map_err(WorkspaceError::SourceDateEpoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_date_epoch_must_be_a_time() {
        let env = |value: Option<&str>| Environment {
            variables: value.map(|v| ("SOURCE_DATE_EPOCH".into(), v.into())).into_iter().collect(),
            current_dir: PathBuf::new(),
            parallelism: 1,
        };
        assert_eq!(source_date_epoch(&env(Some("5"))).unwrap().map(Epoch::seconds), Some(5));
        assert_eq!(source_date_epoch(&env(None)).unwrap(), None);
        for bad in ["", "now", "-1"] {
            assert!(source_date_epoch(&env(Some(bad))).is_err(), "{bad:?}");
        }
    }
}
