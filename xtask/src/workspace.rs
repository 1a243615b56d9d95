//! Where things are: the cargo workspace, its packages, its images, and what git knows about it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use cargo_metadata::{Metadata, Package};

use crate::process::{Cmd, ProcessError};
use crate::units::{Epoch, EpochError};

/// What the process was started with, read once and passed on.
#[derive(Debug, Clone)]
pub struct Environment {
    /// Every variable.
    pub variables: BTreeMap<OsString, OsString>,
    /// The current directory.
    pub current_dir: PathBuf,
    /// How many threads run at once here.
    pub parallelism: usize,
}

impl Environment {
    /// Reads it.
    ///
    /// # Errors
    /// When the current directory is gone.
    pub fn read() -> std::io::Result<Self> {
        Ok(Self {
            variables: std::env::vars_os().collect(),
            current_dir: std::env::current_dir()?,
            parallelism: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        })
    }

    /// A variable that is set and not empty.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&OsString> {
        self.variables.get(&OsString::from(name)).filter(|value| !value.is_empty())
    }

    /// The same as text; what is not Unicode is shown with replacement characters.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<String> {
        self.get(name).map(|value| value.to_string_lossy().into_owned())
    }

    /// The cargo to call: the one that called us, so that a toolchain is chosen only once.
    #[must_use]
    pub fn cargo(&self) -> PathBuf {
        self.get("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
    }

    /// Where cargo keeps registries and configuration.
    #[must_use]
    pub fn cargo_home(&self) -> Option<PathBuf> {
        let home = || self.get("HOME").or_else(|| self.get("USERPROFILE"));
        match self.get("CARGO_HOME") {
            // Relative to the current directory, as cargo takes it.
            Some(dir) => Some(self.current_dir.join(dir)),
            None => home().map(|home| Path::new(home).join(".cargo")),
        }
    }

    /// Variables that `cargo run` sets for the package it runs. A cargo called from here sets its own,
    /// and build scripts must not see ours in between.
    pub fn of_cargo_run(&self) -> impl Iterator<Item = &OsString> {
        let prefixes =
            ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_NAME", "CARGO_CRATE_NAME", "CARGO_PRIMARY_PACKAGE"];
        self.variables
            .keys()
            .filter(move |name| prefixes.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)))
    }
}

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
        let start = env.get("CARGO_MANIFEST_DIR").map_or_else(|| env.current_dir.clone(), PathBuf::from);
        let command = Cmd::new(env.cargo())
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .without_env(env.of_cargo_run())
            .current_dir(&start);
        let metadata = parse_metadata(&command.read().map_err(WorkspaceError::Metadata)?)?;
        let root = metadata.workspace_root.into_std_path_buf();
        let manifest = root.join("Cargo.toml");
        let text = std::fs::read_to_string(&manifest)
            .map_err(|source| WorkspaceError::Read { path: manifest, source })?;
        Ok(Self {
            target_dir: metadata.target_directory.into_std_path_buf(),
            packages: metadata.packages,
            metadata: metadata.workspace_metadata,
            profiles: profile_names(&text),
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

/// Reads what `cargo metadata` prints.
///
/// # Errors
/// When it is not what cargo's documentation says.
pub fn parse_metadata(output: &[u8]) -> Result<Metadata, WorkspaceError> {
    serde_json::from_slice(output).map_err(WorkspaceError::Json)
}

fn profile_names(manifest: &str) -> Vec<String> {
    let table: toml::Table = manifest.parse().unwrap_or_default();
    let profiles = table.get("profile").and_then(toml::Value::as_table);
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
    fn a_folder_without_git_has_no_facts() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(git_facts(dir.path()), GitFacts::default());
    }
}
