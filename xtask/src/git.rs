//! What git knows about a checkout. It is asked at once and heard when its answer is needed: its processes
//! take some milliseconds, in which cargo can build and layers be packed.

use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::sync::{LazyLock, OnceLock};

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
/// An answer that may still be on its way.
type Asked = LazyLock<Answer, Box<dyn FnOnce() -> Answer + Send>>;

/// The questions to git, of which those that nobody waits for are still open.
#[derive(Debug)]
pub struct Git {
    /// None where there is no checkout.
    questions: Option<Questions>,
    facts: OnceLock<GitFacts>,
}

#[derive(Debug)]
struct Questions {
    /// The commit and its time.
    commit: Asked,
    /// What is changed.
    status: Asked,
    remote: Asked,
}

impl Git {
    /// Asks git about the checkout that a folder lies in, and waits for nothing. One question follows the other,
    /// the time first: it is needed before the rest, and at once git would answer none of them sooner.
    #[must_use]
    pub fn ask(dir: &Path) -> Self {
        if !dir.ancestors().any(|ancestor| ancestor.join(".git").exists()) {
            return Self { questions: None, facts: OnceLock::new() };
        }
        let ((say_commit, commit), (say_remote, remote), (say_status, status)) = (later(), later(), later());
        let questions: [(_, &[&str]); 3] = [
            (say_commit, &["log", "-1", "--no-show-signature", "--format=%H %ct"]),
            (say_remote, &["config", "--get", "remote.origin.url"]),
            (say_status, &["status", "--porcelain", "--untracked-files=no"]),
        ];
        let dir = dir.to_path_buf();
        std::thread::spawn(move || {
            for (say, arguments) in questions {
                let command = Cmd::new("git").arg("-C").arg(&dir).arg("--no-optional-locks").args(arguments);
                let answer = command.env("LC_ALL", "C").read();
                let answer = answer.map(|output| String::from_utf8_lossy(&output).trim().to_owned());
                // Nobody may want to know it.
                let _ = say.send(answer);
            }
        });
        Self { questions: Some(Questions { commit, status, remote }), facts: OnceLock::new() }
    }

    /// A checkout of a commit of this time, with nothing changed.
    #[cfg(test)]
    pub(crate) fn of_commit(seconds: u64) -> Self {
        let known = |text: String| -> Asked { LazyLock::new(Box::new(move || Ok(text))) };
        let commit = known(format!("{} {seconds}", "1".repeat(40)));
        let questions = Questions { commit, status: known(String::new()), remote: known(String::new()) };
        Self { questions: Some(questions), facts: OnceLock::new() }
    }

    /// The commit's time; waits for it.
    #[must_use]
    pub fn time(&self) -> Option<Epoch> {
        let commit = self.questions.as_ref()?.commit.as_ref().ok()?;
        commit.split_once(' ')?.1.parse().ok()
    }

    /// Everything; waits for what is still open.
    pub fn facts(&self) -> &GitFacts {
        self.facts.get_or_init(|| match &self.questions {
            None => GitFacts::default(),
            Some(Questions { commit, status, remote }) => GitFacts::of(commit, status, remote),
        })
    }
}

impl GitFacts {
    /// From what git answers.
    fn of(commit: &Answer, status: &Answer, remote: &Answer) -> Self {
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

/// An answer, and who gives it.
fn later() -> (Sender<Answer>, Asked) {
    let (sender, receiver) = channel();
    // Who asks always answers before it ends.
    let answer = move || receiver.recv().unwrap_or_else(|_| Ok(String::new()));
    (sender, LazyLock::new(Box::new(answer)))
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
