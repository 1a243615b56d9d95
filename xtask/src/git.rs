//! What git knows about a checkout. It is asked at once and heard when its answer is needed: its processes
//! take some milliseconds, in which cargo can build and layers be packed.

use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::sync::{LazyLock, OnceLock};

use tare_oci::input;
use tare_oci::units::Epoch;
use tare_tool::environment::Environment;
use tare_tool::process::{Begun, Cmd, ProcessError};

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
    /// Asks git about the checkout that the search for the workspace begins in, and waits for nothing. One question
    /// follows the other, the time first: it is needed before the rest, and at once git would answer none of them
    /// sooner.
    #[must_use]
    pub fn ask(env: &Environment) -> Self {
        let dir = env.start_dir();
        let Some(repository) = dir.ancestors().map(|it| it.join(".git")).find(|it| it.exists()) else {
            return Self { questions: None, facts: OnceLock::new() };
        };
        let question = move |arguments: &[&str]| {
            let command = Cmd::new("git").arg("-C").arg(&dir).arg("--no-optional-locks").args(arguments);
            command.env("LC_ALL", "C").begin()
        };
        // Here, because a thread that has just been started may not run for a while.
        let about_commit = question(&["log", "-1", "--no-show-signature", "--format=%H %ct"]);
        let ((say_commit, commit), (say_status, status)) = (later(), later());
        let (say_remote, remote) = match remote_of_repository(env, &repository) {
            Some(remote) => (None, LazyLock::new(Box::new(move || Ok(remote)) as Box<_>)),
            None => {
                let (say_remote, remote) = later();
                (Some(say_remote), remote)
            }
        };
        std::thread::spawn(move || {
            // Nobody may want to know an answer.
            let _ = say_commit.send(text(about_commit));
            let _ = say_status.send(text(question(&["status", "--porcelain", "--untracked-files=no"])));
            if let Some(say_remote) = say_remote {
                let _ = say_remote.send(text(question(&["config", "--get", "remote.origin.url"])));
            }
        });
        Self { questions: Some(Questions { commit, status, remote }), facts: OnceLock::new() }
    }

    /// No checkout.
    #[cfg(test)]
    pub(crate) fn of_nothing() -> Self {
        Self { questions: None, facts: OnceLock::new() }
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

/// What git prints, to be waited for.
fn text(question: Result<Begun, ProcessError>) -> Answer {
    question.and_then(Begun::read).map(|output| String::from_utf8_lossy(&output).trim().to_owned())
}

/// An answer, and who gives it.
fn later() -> (Sender<Answer>, Asked) {
    let (sender, receiver) = channel();
    // Who asks always answers before it ends.
    let answer = move || receiver.recv().unwrap_or_else(|_| Ok(String::new()));
    (sender, LazyLock::new(Box::new(answer)))
}

/// The address of `origin`, if the repository's own configuration says it and nothing else can: that spares one of
/// three processes.
fn remote_of_repository(env: &Environment, repository: &Path) -> Option<String> {
    // git(1): these name another repository, or add to its configuration.
    let elsewhere = ["GIT_DIR", "GIT_COMMON_DIR", "GIT_CONFIG"];
    let mut variables = env.variables.keys().map(|name| name.to_string_lossy());
    if variables.any(|name| elsewhere.iter().any(|prefix| name.starts_with(prefix))) {
        return None;
    }
    // Of a worktree or a submodule it is a file that says where the repository is.
    plain_remote(&input::read_to_string(&repository.join("config")).ok()?)
}

/// The same in the text of a configuration (git-config(1), "Syntax"), as git itself writes it; empty if it has no
/// such remote. None where it has more in it than that, or other files with it.
fn plain_remote(config: &str) -> Option<String> {
    let (mut within, mut url) = (false, String::new());
    for line in config.lines().map(str::trim) {
        if line.ends_with('\\') {
            return None;
        }
        if let Some(section) = line.strip_prefix('[') {
            let name = section.strip_suffix(']')?.to_ascii_lowercase();
            if name.starts_with("include") || name == "extensions" {
                return None;
            }
            within = section == "remote \"origin\"]";
        } else if within
            && let Some(("url", value)) = line.split_once('=').map(|(key, rest)| (key.trim(), rest))
        {
            if value.contains(['"', '\\', '#', ';']) {
                return None;
            }
            value.trim().clone_into(&mut url);
        }
    }
    Some(url)
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
    fn a_remote_is_taken_from_a_configuration_that_is_as_git_writes_it() {
        let url = "https://host/a/b.git";
        let core = "[core]\n\tbare = false\n\turl = other\n";
        let origin = "[remote \"origin\"]\n\turl = https://host/a/b.git\n\tfetch = +refs/heads/*:refs/x/*\n";
        for (config, expected) in [
            (format!("{core}{origin}[branch \"main\"]\n\tremote = origin\n"), Some(url)),
            // The last one counts.
            (format!("{}{origin}", origin.replace("host", "first")), Some(url)),
            (format!("{core}[remote \"other\"]\n\turl = x\n"), Some("")),
            (format!("{origin}[include]\n\tpath = more\n"), None),
            (format!("[IncludeIf \"gitdir:x\"]\n\tpath = more\n{origin}"), None),
            (format!("[extensions]\n\tworktreeConfig = true\n{origin}"), None),
            (origin.replace("= https", "= \"https"), None),
            (format!("{origin}\turl = a # b\n"), None),
            (origin.replace("b.git", "b.git\\"), None),
            (format!("{origin}[core] bare = false\n"), None),
            (String::new(), Some("")),
        ] {
            assert_eq!(plain_remote(&config).as_deref(), expected, "{config}");
        }
    }

    #[test]
    fn a_folder_without_git_has_no_facts() {
        let dir = tempfile::tempdir().unwrap();
        let git = Git::ask(&in_folder(dir.path()));
        assert_eq!((git.facts(), git.time()), (&GitFacts::default(), None));
    }
}
