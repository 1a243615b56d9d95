//! What git says about the checkout: revision, commit time, remote.

use tare_oci::units::Epoch;
use tare_tool::environment::Environment;
use tare_tool::process::{Execute as _, ProcessError, cmd, shell_in};

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

impl GitFacts {
    /// Asks git about the checkout that the search for the workspace begins in.
    #[must_use]
    pub fn read(env: &Environment) -> Self {
        let dir = env.start_dir();
        if !dir.ancestors().any(|it| it.join(".git").exists()) {
            return Self::default();
        }
        let ask = |arguments: &[&str]| {
            let sh = shell_in(&dir)?;
            cmd!(sh, "git --no-optional-locks {arguments...}").env("LC_ALL", "C").capture_text()
        };
        let commit = ask(&["log", "-1", "--no-show-signature", "--format=%H %ct"]);
        let status = ask(&["status", "--porcelain", "--untracked-files=no"]);
        let remote = ask(&["config", "--get", "remote.origin.url"]);
        Self::of(&commit, &status, &remote)
    }

    /// From what git answers.
    fn of(
        commit: &Result<String, ProcessError>,
        status: &Result<String, ProcessError>,
        remote: &Result<String, ProcessError>,
    ) -> Self {
        let remote = remote.as_ref().ok().and_then(|remote| public_url(remote));
        let mut facts = Self { remote, ..Self::default() };
        match (commit, status) {
            (Ok(commit), Ok(status)) => {
                let (revision, time) = commit.split_once(' ').unwrap_or((commit, ""));
                let dirty = if status.is_empty() { "" } else { "-dirty" };
                facts.revision = Some(format!("{revision}{dirty}"));
                facts.time = time.parse().ok();
            }
            // A repository that was just made has no revision, and that is no problem.
            (Err(error), Ok(_)) if error.to_string().contains("does not have any commits yet") => {}
            (Err(error), _) | (_, Err(error)) => facts.problem = Some(error.to_string()),
        }
        facts
    }
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn in_folder(dir: &Path) -> Environment {
        Environment { variables: std::collections::BTreeMap::new(), current_dir: dir.into(), parallelism: 1 }
    }

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
    fn a_folder_without_git_has_no_facts() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(GitFacts::read(&in_folder(dir.path())), GitFacts::default());
    }
}
