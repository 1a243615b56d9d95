//! What git knows about a checkout. It is asked at once and heard when its answer is needed: its processes
//! take some milliseconds, in which layers can be packed.

use std::path::Path;
use std::sync::LazyLock;
use std::thread::JoinHandle;

use crate::process::{Cmd, ProcessError};
use crate::units::Epoch;

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

type Answer = Result<String, ProcessError>;

/// The questions to git, of which those that nobody waits for are still open.
#[derive(Debug)]
pub struct Git {
    time: Option<Epoch>,
    facts: LazyLock<GitFacts, Box<dyn FnOnce() -> GitFacts + Send>>,
}

impl Git {
    /// Asks git about the checkout that a folder lies in, and waits for the commit alone.
    #[must_use]
    pub fn ask(dir: &Path) -> Self {
        if !dir.ancestors().any(|ancestor| ancestor.join(".git").exists()) {
            return Self { time: None, facts: LazyLock::new(Box::new(GitFacts::default)) };
        }
        let ask = |arguments: &'static [&str]| {
            let command = Cmd::new("git").arg("-C").arg(dir).arg("--no-optional-locks").args(arguments);
            let command = command.env("LC_ALL", "C");
            std::thread::spawn(move || {
                command.read().map(|output| String::from_utf8_lossy(&output).trim().to_owned())
            })
        };
        let commit = ask(&["log", "-1", "--no-show-signature", "--format=%H %ct"]);
        let status = ask(&["status", "--porcelain", "--untracked-files=no"]);
        let remote = ask(&["config", "--get", "remote.origin.url"]);
        let commit = joined(commit);
        let time = commit.as_ref().ok().and_then(|commit| commit.split_once(' ')?.1.parse().ok());
        let facts = move || GitFacts::of(commit, joined(status), joined(remote));
        Self { time, facts: LazyLock::new(Box::new(facts)) }
    }

    /// The commit's time.
    #[must_use]
    pub fn time(&self) -> Option<Epoch> {
        self.time
    }

    /// Everything; waits for what is still open.
    pub fn facts(&self) -> &GitFacts {
        &self.facts
    }
}

impl GitFacts {
    /// From what git answers: the commit and its time, what is changed, and the remote.
    fn of(commit: Answer, status: Answer, remote: Answer) -> Self {
        let mut facts = Self { remote: remote.ok().as_deref().and_then(public_url), ..Self::default() };
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
    }
}

fn joined(answer: JoinHandle<Answer>) -> Answer {
    answer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
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
    fn a_folder_without_git_has_no_facts() {
        let dir = tempfile::tempdir().unwrap();
        let git = Git::ask(dir.path());
        assert_eq!((git.facts(), git.time()), (&GitFacts::default(), None));
    }
}
