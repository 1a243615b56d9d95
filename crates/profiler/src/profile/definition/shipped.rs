//! Where profiles are: the workspace's folder, and those that tare brings along for workspaces without one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tare_oci::input;

use super::{CpuLimit, DEFAULT_PERIOD, DefinitionError, Profile, parse};
use crate::profile::cpus::HostCpus;

/// What tare brings along; a file of the workspace by the same name takes its place.
const SHIPPED: [(&str, &str); 5] = [
    ("default", include_str!("../../../../../profiles/default.toml")),
    ("ci", include_str!("../../../../../profiles/ci.toml")),
    ("article", include_str!("../../../../../profiles/article.toml")),
    ("tiny", include_str!("../../../../../profiles/tiny.toml")),
    ("sweep", include_str!("../../../../../profiles/sweep.toml")),
];

/// A profile that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// There is none of that name.
    #[error("there is no profile `{name}`")]
    Unknown {
        /// The name.
        name: String,
        /// The one that may have been meant, and all there are.
        hint: String,
    },
    /// It cannot be read.
    #[error("cannot read {path}", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is wrong.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
}

impl SourceError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown { hint, .. } => Some(hint.clone()),
            Self::Definition(error) => error.hint.clone(),
            Self::Read { .. } => None,
        }
    }
}

/// The profile called `name`: the file `NAME.toml` in the folder `profiles` of the workspace, or the one that
/// tare brings along. A name that ends in `.toml` is a path.
///
/// # Errors
/// When there is none of that name, or it is wrong.
pub fn find(workspace: &Path, name: &str) -> Result<Profile, SourceError> {
    find_with(workspace, name, HostCpus::read().quarter())
}

/// The same, with the number of CPUs that `cpus = "auto"` stands for.
///
/// # Errors
/// As [`find`].
pub fn find_with(workspace: &Path, name: &str, auto: f64) -> Result<Profile, SourceError> {
    // At least a quarter of a CPU is a limit that every kernel takes.
    let auto =
        CpuLimit::cpus(auto.max(0.01)).unwrap_or(CpuLimit { quota: DEFAULT_PERIOD, period: DEFAULT_PERIOD });
    let dir = workspace.join("profiles");
    let is_path = name.ends_with(".toml");
    let path = if is_path { PathBuf::from(name) } else { dir.join(format!("{name}.toml")) };
    // No name leads out of the folder.
    let plain = !name.is_empty() && !name.contains(['/', '\\']) && !name.starts_with('.');
    if is_path || plain {
        match input::read_definition(workspace, &path) {
            Ok(text) => {
                let stem = path.file_stem().map_or_else(|| name.into(), |stem| stem.to_string_lossy());
                return Ok(parse(&stem, &path, &text, auto)?);
            }
            Err(error) if is_path || error.kind() != std::io::ErrorKind::NotFound => {
                return Err(SourceError::Read { path, source: error });
            }
            Err(_) => {}
        }
    }
    match SHIPPED.into_iter().find(|(shipped, _)| *shipped == name) {
        Some((_, text)) => {
            let profile = parse(name, Path::new(&format!("profiles/{name}.toml")), text, auto)?;
            // They are images of tare's own workspace.
            Ok(Profile { images: vec![], ..profile })
        }
        None => {
            let names = names(&dir);
            let list = format!("there are {}", names.join(", "));
            let hint = match tare_tool::document::nearest(name, &names) {
                Some(nearest) => format!("did you mean `{nearest}`? {list}"),
                None => list,
            };
            Err(SourceError::Unknown { name: name.to_owned(), hint })
        }
    }
}

/// The names of all profiles there are, sorted. A folder that cannot be read has none.
#[must_use]
pub fn names(dir: &Path) -> Vec<String> {
    let mut names: BTreeSet<String> = SHIPPED.into_iter().map(|(name, _)| name.to_owned()).collect();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        names.extend(name.to_str().and_then(|name| name.strip_suffix(".toml")).map(str::to_owned));
    }
    names.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::super::values::Load;
    use super::*;
    use crate::profile::metric::Pass;

    fn shipped(name: &str) -> Profile {
        find(Path::new("no such folder"), name).unwrap()
    }

    #[test]
    fn all_that_are_shipped_can_be_read_where_there_is_no_folder() {
        for name in names(Path::new("no such folder")) {
            let profile = shipped(&name);
            assert_eq!(profile.name, name);
            assert!(profile.description.is_some(), "{name}");
        }
    }

    #[test]
    fn the_shipped_ones_are_what_their_names_say() {
        let limits = |name| shipped(name).limits.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(limits("article"), ["2 CPUs, 512MB memory"]);
        assert_eq!(limits("tiny"), ["0.25 CPU, 32MiB memory"]);
        assert!(limits("sweep").len() > 2);
        let default = shipped("default");
        assert_eq!(default.passes, Pass::DEFAULT);
        assert_eq!(shipped("ci").passes, [&Pass::DEFAULT[..], &[Pass::Instructions]].concat());
        assert_eq!(default.throughput.loads.first(), Some(&Load::Closed));
        assert!(!shipped("ci").gates.is_empty());
    }

    /// Load and start-up are the larger part of a run; what they ask for must leave room for the rest.
    #[test]
    fn ci_asks_for_less_than_half_a_minute_and_default_for_about_one() {
        let load = |name| {
            let options = shipped(name).throughput;
            options.duration.0 * options.loads.len() as u64 / 1_000_000_000
        };
        assert!(load("ci") <= 15, "{}", load("ci"));
        assert!((30..=50).contains(&load("default")), "{}", load("default"));
    }

    #[test]
    fn a_file_of_the_workspace_wins() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("profiles/ci.toml");
        std::fs::create_dir(dir.path().join("profiles")).unwrap();
        std::fs::write(&file, "description = \"ours\"").unwrap();
        let profile = find(dir.path(), "ci").unwrap();
        assert_eq!(profile.description.as_deref(), Some("ours"));
        assert_eq!(find(Path::new("elsewhere"), file.to_str().unwrap()).unwrap(), profile);
    }

    #[cfg(unix)]
    #[test]
    fn a_profile_that_is_no_regular_file_or_a_link_out_of_the_workspace_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let workspace = dir.path().join("workspace");
        let file = |name: &str| workspace.join("profiles").join(name);
        std::fs::create_dir_all(file("folder.toml")).unwrap();
        std::fs::write(dir.path().join("secret"), "[secret]").unwrap();
        std::os::unix::fs::symlink("../../secret", file("link.toml")).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(file("fifo.toml")).status().unwrap().success());
        for (name, why) in [
            ("folder", "it is a directory, not a regular file".to_owned()),
            ("fifo", "it is a FIFO, not a regular file".to_owned()),
            ("link", format!("it is a link out of {}", workspace.display())),
        ] {
            let path = file(&format!("{name}.toml"));
            for named in [name, path.to_str().unwrap()] {
                let error = find(&workspace, named).unwrap_err();
                let SourceError::Read { path: found, source } = &error else { panic!("{error}") };
                assert_eq!((found, source.to_string()), (&path, why.clone()), "{named}");
            }
        }
    }

    #[test]
    fn an_unknown_profile_is_answered_with_the_nearest() {
        let error = find(Path::new("no such folder"), "defualt").unwrap_err();
        let SourceError::Unknown { hint, .. } = &error else { panic!("{error}") };
        assert_eq!(error.to_string(), "there is no profile `defualt`");
        assert_eq!(hint, "did you mean `default`? there are article, ci, default, sweep, tiny");
        assert!(matches!(find(Path::new("."), "../default"), Err(SourceError::Unknown { .. })));
        assert!(matches!(find(Path::new("."), "gone.toml"), Err(SourceError::Read { .. })));
    }
}
