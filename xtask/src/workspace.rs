//! Where things are: the cargo workspace, its packages, its images, and what git knows about it.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use cargo_metadata::{Metadata, Package};

use crate::cargo_config::{self, CargoConfigError};
use crate::environment::Environment;
use crate::process::{Cmd, ProcessError};
use crate::units::{Epoch, EpochError};

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
        let command = Cmd::new(env.cargo())
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .without_env(env.of_cargo_run())
            .without_env(["CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR"])
            .envs(target_dir)
            .current_dir(&env.start_dir());
        let output = command.read().map_err(WorkspaceError::Metadata)?;
        let metadata: Metadata = serde_json::from_slice(&output).map_err(WorkspaceError::Json)?;
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
            let named = named.map(|named| without_dots(&package_dir.join(named)).join("Cargo.toml"));
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
            if entry.path().join("image.toml").is_file() {
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

/// The path without `.` and `..`, as cargo shows it.
fn without_dots(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut clean, component| {
        match component {
            Component::ParentDir => {
                clean.pop();
            }
            Component::CurDir => {}
            other => clean.push(other),
        }
        clean
    })
}

fn read_manifest(path: &Path) -> Result<toml::Table, WorkspaceError> {
    let text = std::fs::read_to_string(path)
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

/// What git says about a checkout; everything may be absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GitFacts {
    /// Commit, with `-dirty` when files that git tracks are changed.
    pub revision: Option<String>,
    /// The commit's time.
    pub time: Option<Epoch>,
    /// Where the repository is found by others.
    pub remote: Option<String>,
    /// Why git could not be asked although this is a checkout.
    pub problem: Option<String>,
}

/// Asks git about the checkout that a folder lies in.
#[must_use]
pub fn git_facts(dir: &Path) -> GitFacts {
    if !dir.ancestors().any(|ancestor| ancestor.join(".git").exists()) {
        return GitFacts::default();
    }
    let git = |args: &[&str]| {
        let command = Cmd::new("git").arg("-C").arg(dir).arg("--no-optional-locks").args(args);
        let command = command.env("LC_ALL", "C");
        command.read().map(|output| String::from_utf8_lossy(&output).trim().to_owned())
    };
    std::thread::scope(|scope| {
        // Three processes of a few milliseconds each; one after the other they would be felt.
        let status = scope.spawn(|| git(&["status", "--porcelain", "--untracked-files=no"]));
        let remote = scope.spawn(|| git(&["config", "--get", "remote.origin.url"]));
        let commit = git(&["log", "-1", "--no-show-signature", "--format=%H %ct"]);
        let status = status.join().unwrap_or_else(|_| Ok(String::new()));
        let remote = remote.join().ok().and_then(Result::ok);
        let mut facts = GitFacts { remote: remote.as_deref().and_then(public_url), ..GitFacts::default() };
        match (commit, status) {
            (Ok(commit), Ok(status)) => {
                let (revision, time) = commit.split_once(' ').unwrap_or((&commit, ""));
                let dirty = if status.is_empty() { "" } else { "-dirty" };
                facts.revision = Some(format!("{revision}{dirty}"));
                facts.time = time.parse().ok();
            }
            // A repository that was just made has no revision, and that is no problem.
            (Err(error), Ok(_)) if error.to_string().contains("does not have any commits yet") => {}
            (Err(error), _) | (_, Err(error)) => facts.problem = Some(error.to_string()),
        }
        facts
    })
}

/// A remote as others can open it: without user names, passwords and tokens, and as https where it
/// was written for ssh. None for a path of this machine.
fn public_url(remote: &str) -> Option<String> {
    let (host, path) = match remote.split_once("://") {
        Some(("https" | "http" | "ssh" | "git", rest)) => {
            let (authority, path) = rest.split_once('/')?;
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            // The port of an ssh address is not that of the web.
            let ssh = remote.starts_with("ssh");
            (if ssh { host.split(':').next()? } else { host }, path)
        }
        Some(_) => return None,
        // scp's form, user@host:path; a colon after a slash belongs to a path.
        None => {
            let (authority, path) = remote.split_once(':').filter(|(host, _)| !host.contains(['/', '\\']))?;
            (authority.split_once('@')?.1, path.trim_start_matches('/'))
        }
    };
    let path = path.strip_suffix(".git").unwrap_or(path);
    Some(format!("https://{host}/{path}"))
}

/// The time that everything in an image gets: SOURCE_DATE_EPOCH, else the commit's, else 0.
///
/// # Errors
/// When SOURCE_DATE_EPOCH is set to something that is not a time.
pub fn source_date(env: &Environment, git: &GitFacts) -> Result<Epoch, WorkspaceError> {
    match env.variables.get(&OsString::from("SOURCE_DATE_EPOCH")) {
        Some(text) => text.to_string_lossy().parse().map_err(WorkspaceError::SourceDateEpoch),
        None => Ok(git.time.unwrap_or(Epoch::ZERO)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn remotes_are_shown_without_secrets() {
        for (remote, url) in [
            ("https://github.example/a/b.git", Some("https://github.example/a/b")),
            ("https://user:token@github.example/a/b", Some("https://github.example/a/b")),
            ("git@github.example:a/b.git", Some("https://github.example/a/b")),
            ("ssh://git@github.example:22/a/b.git", Some("https://github.example/a/b")),
            ("http://host.example:8080/a", Some("https://host.example:8080/a")),
            ("/srv/git/a.git", None),
            ("../a", None),
            ("file:///srv/a", None),
            ("C:\\a", None),
        ] {
            assert_eq!(public_url(remote).as_deref(), url, "{remote}");
        }
    }

    #[test]
    fn source_date_epoch_wins_over_the_commit_and_must_be_a_time() {
        let env = |value: Option<&str>| Environment {
            variables: value.map(|v| ("SOURCE_DATE_EPOCH".into(), v.into())).into_iter().collect(),
            current_dir: PathBuf::new(),
            parallelism: 1,
        };
        let git = GitFacts { time: "7".parse().ok(), ..GitFacts::default() };
        assert_eq!(source_date(&env(Some("5")), &git).unwrap().seconds(), 5);
        assert_eq!(source_date(&env(None), &git).unwrap().seconds(), 7);
        assert_eq!(source_date(&env(None), &GitFacts::default()).unwrap(), Epoch::ZERO);
        for bad in ["", "now", "-1"] {
            assert!(source_date(&env(Some(bad)), &git).is_err(), "{bad:?}");
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
    fn a_folder_without_git_has_no_facts() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(git_facts(dir.path()), GitFacts::default());
    }
}
