//! Where things are: the cargo workspace, its packages, its images.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use cargo_metadata::{Metadata, Package};
use serde::{Deserialize, Serialize};

use crate::cargo_config::{self, CargoConfigError};
use tare_oci::input;
use tare_oci::units::{Epoch, EpochError};
use tare_tool::environment::Environment;
use tare_tool::private;
use tare_tool::process::{Cmd, ProcessError};
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
    /// Neither the folder nor one above it has a Cargo.toml.
    #[error("there is no Cargo.toml in {dir} or above", dir = .0.display())]
    NoManifest(PathBuf),
    /// A Cargo.toml is not TOML.
    #[error("{path} is not TOML: {message}", path = path.display())]
    Manifest {
        /// Which.
        path: PathBuf,
        /// Why.
        message: String,
    },
    /// The user's cargo configuration cannot be understood.
    #[error("{0}")]
    Config(#[from] CargoConfigError),
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
    /// Its own packages; none where it was only located.
    pub packages: Vec<Package>,
    /// `[workspace.metadata]`
    pub metadata: serde_json::Value,
    /// The names in `[profile.*]` of its Cargo.toml.
    pub profiles: Vec<String>,
}

/// What is kept of `cargo metadata`.
#[derive(Serialize, Deserialize)]
struct Remembered {
    manifests: BTreeMap<PathBuf, Option<String>>,
    metadata: String,
}

impl Workspace {
    /// Finds the workspace that the running `xtask` belongs to: cargo says where that package is, and
    /// without cargo it is the current directory's.
    ///
    /// # Errors
    /// When there is none, or cargo cannot read it.
    pub fn find(env: &Environment) -> Result<Self, WorkspaceError> {
        Self::of_metadata(&Self::metadata(env)?)
    }

    /// What `cargo metadata` prints.
    ///
    /// # Errors
    /// When there is no workspace, or cargo cannot read it.
    pub fn metadata(env: &Environment) -> Result<Vec<u8>, WorkspaceError> {
        let target_dir = ["CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR"]
            .into_iter()
            // cargo takes a relative one from where it is called.
            .filter_map(|name| Some((name, env.current_dir.join(env.get(name)?))));
        let command = Cmd::new(env.cargo())
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .without_env(env.of_cargo_run())
            .without_env(["CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR"])
            .envs(target_dir)
            .current_dir(&env.start_dir());
        command.read().map_err(WorkspaceError::Metadata)
    }

    /// The workspace that `cargo metadata` printed.
    ///
    /// # Errors
    /// When it is something else, or the workspace's Cargo.toml cannot be read.
    pub fn of_metadata(printed: &[u8]) -> Result<Self, WorkspaceError> {
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

    /// Keeps what `cargo metadata` printed for [`recall`](Self::recall). Where that cannot be, cargo is asked
    /// again next time.
    pub fn remember(&self, printed: &[u8]) {
        let Ok(printed) = std::str::from_utf8(printed) else { return };
        let remembered = Remembered { manifests: self.manifests(), metadata: printed.to_owned() };
        let path = self.memory();
        let dir = path.parent().unwrap_or(&self.root);
        let _ = std::fs::create_dir_all(dir)
            .and_then(|()| private::replace_file(&path, &serde_json::to_vec(&remembered)?));
    }

    /// This located workspace as it was when it was last remembered, with what `cargo metadata` printed then, if no
    /// Cargo.toml has changed since. That says little of what cargo finds by itself (members by pattern,
    /// `src/bin`), so cargo has to be asked nevertheless; but meanwhile one can begin.
    #[must_use]
    pub fn recall(&self) -> Option<(Self, Vec<u8>)> {
        let remembered: Remembered = serde_json::from_slice(&input::read(&self.memory()).ok()?).ok()?;
        let printed = remembered.metadata.into_bytes();
        let workspace = Self::of_metadata(&printed).ok()?;
        (workspace.manifests() == remembered.manifests).then_some((workspace, printed))
    }

    fn memory(&self) -> PathBuf {
        self.output_dir().join(".cache").join("metadata")
    }

    /// What each Cargo.toml contains; nothing for one that cannot be read.
    fn manifests(&self) -> BTreeMap<PathBuf, Option<String>> {
        let of_packages = self.packages.iter().map(|package| package.manifest_path.as_std_path());
        let paths = of_packages.map(Path::to_path_buf).chain([self.root.join("Cargo.toml")]);
        paths.map(|path| (path.clone(), input::read_to_string(&path).ok())).collect()
    }

    /// The same without asking cargo, which takes longer than to pack a small program, and without the
    /// packages: enough for images that cargo does not build.
    ///
    /// Follows The Cargo Book, "Workspaces": the nearest Cargo.toml with `[workspace]`, unless it
    /// excludes the package or the package names another.
    ///
    /// # Errors
    /// When there is none, or a Cargo.toml on the way cannot be read.
    pub fn locate(env: &Environment) -> Result<Self, WorkspaceError> {
        let start = env.start_dir();
        let mut manifests = start.ancestors().map(|dir| dir.join("Cargo.toml")).filter(|path| path.is_file());
        let path = manifests.next().ok_or(WorkspaceError::NoManifest(start.clone()))?;
        let package_dir = path.parent().unwrap_or(&start).to_path_buf();
        let mut root = package_dir.clone();
        let mut manifest = read_manifest(&path)?;
        if manifest.get("workspace").is_none() {
            let named = manifest.get("package").and_then(|package| package.get("workspace")?.as_str());
            let named = named.map(|named| input::without_dots(&package_dir.join(named)).join("Cargo.toml"));
            for path in named.into_iter().chain(manifests) {
                let above = read_manifest(&path)?;
                let dir = path.parent().unwrap_or(&root);
                let Some(workspace) = above.get("workspace") else { continue };
                let excluded = workspace.get("exclude").and_then(toml::Value::as_array).into_iter().flatten();
                let mut excluded = excluded.filter_map(toml::Value::as_str).map(|exclude| dir.join(exclude));
                if !excluded.any(|exclude| package_dir.starts_with(exclude)) {
                    root = dir.to_path_buf();
                    manifest = above;
                }
                break;
            }
        }
        let metadata = manifest.get("workspace").and_then(|workspace| workspace.get("metadata"));
        Ok(Self {
            target_dir: cargo_config::target_dir(&root, env)?,
            packages: Vec::new(),
            metadata: serde_json::to_value(metadata).unwrap_or_default(),
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

    #[test]
    fn a_workspace_is_located_where_cargo_finds_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = std::fs::canonicalize(dir.path()).unwrap();
        let put = |path: &str, text: &str| {
            std::fs::create_dir_all(root.join(path)).unwrap();
            std::fs::write(root.join(path).join("Cargo.toml"), text).unwrap();
        };
        let package = |name: &str| {
            format!("[package]\nname = \"{name}\"\nedition = \"2024\"\n[lib]\npath = \"l.rs\"\n")
        };
        put(
            "",
            "[workspace]\nresolver = \"3\"\nmembers = [\"a\", \"c\"]\nexclude = [\"b\"]\n[workspace.metadata.tare]\nvendor = \"V\"\n[profile.p]\ninherits = \"dev\"\n",
        );
        put("a", &package("a"));
        put("a/src/deep", "");
        std::fs::remove_file(root.join("a/src/deep/Cargo.toml")).unwrap();
        put("b", &package("b"));
        put("c", &package("c").replace("[lib]", "workspace = \"..\"\n[lib]"));
        for package in ["a", "b", "c"] {
            std::fs::write(root.join(package).join("l.rs"), "").unwrap();
        }
        std::fs::create_dir(root.join("b/.cargo")).unwrap();
        std::fs::write(root.join("b/.cargo/config.toml"), "[build]\ntarget-dir = \"out\"\n").unwrap();
        let mut variables: BTreeMap<OsString, OsString> = std::env::vars_os().collect();
        for name in ["CARGO_MANIFEST_DIR", "CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR"] {
            variables.remove(&OsString::from(name));
        }
        for start in ["", "a", "a/src/deep", "b", "c"] {
            for target_dir in [None, Some("elsewhere")] {
                let mut variables = variables.clone();
                variables.insert("CARGO_MANIFEST_DIR".into(), root.join(start).into());
                variables.extend(target_dir.map(|dir| ("CARGO_TARGET_DIR".into(), dir.into())));
                let env = Environment { variables, current_dir: root.join("a"), parallelism: 1 };
                let (located, found) = (Workspace::locate(&env).unwrap(), Workspace::find(&env).unwrap());
                assert_eq!(located.root, found.root, "from {start}");
                assert_eq!(located.target_dir, found.target_dir, "from {start}");
                assert_eq!((located.profiles, located.metadata), (found.profiles, found.metadata));
            }
        }
    }

    #[test]
    fn what_is_remembered_holds_until_a_manifest_changes() {
        let dir = tempfile::tempdir().unwrap();
        let root = std::fs::canonicalize(dir.path()).unwrap();
        std::fs::create_dir_all(root.join("a/src")).unwrap();
        std::fs::write(root.join("a/src/main.rs"), "fn main() {}").unwrap();
        let manifest = "[package]\nname = \"a\"\nedition = \"2024\"\n";
        std::fs::write(root.join("a/Cargo.toml"), manifest).unwrap();
        std::fs::write(root.join("Cargo.toml"), "[workspace]\nresolver = \"3\"\nmembers = [\"a\"]\n")
            .unwrap();
        let mut variables: BTreeMap<OsString, OsString> = std::env::vars_os().collect();
        for name in ["CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR"] {
            variables.remove(&OsString::from(name));
        }
        variables.insert("CARGO_MANIFEST_DIR".into(), root.join("a").into());
        let env = Environment { variables, current_dir: root.clone(), parallelism: 1 };
        let recall = || Workspace::locate(&env).unwrap().recall();
        assert!(recall().is_none());
        let printed = Workspace::metadata(&env).unwrap();
        Workspace::of_metadata(&printed).unwrap().remember(&printed);
        let (workspace, recalled) = recall().unwrap();
        assert_eq!(recalled, printed);
        assert_eq!(workspace.package("a").unwrap().targets.len(), 1);
        let left: Vec<_> = std::fs::read_dir(root.join("target/images/.cache")).unwrap().collect();
        assert_eq!(left.len(), 1);

        std::fs::write(root.join("a/Cargo.toml"), format!("{manifest}version = \"0.2.0\"\n")).unwrap();
        assert!(recall().is_none());
        std::fs::write(root.join("a/Cargo.toml"), manifest).unwrap();
        assert!(recall().is_some());
        std::fs::write(root.join("target/images/.cache/metadata"), "{").unwrap();
        assert!(recall().is_none());
    }
}
