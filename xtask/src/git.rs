//! The revision, commit time and remote of a checkout, as git says.

use std::path::{Path, PathBuf};

use tare_oci::units::Epoch;
use tare_tool::environment::GIT_VARIABLES;
use tare_tool::process::{Execute as _, ProcessError, cmd, shell_in};

/// What git says about a checkout; everything may be absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GitFacts {
    /// Commit, with `-dirty` when files that git tracks are changed.
    pub revision: Option<String>,
    /// The commit's time.
    pub time: Option<Epoch>,
    /// The URL of the repository, without credentials.
    pub remote: Option<String>,
    /// Why git does not read this checkout, in one line.
    pub problem: Option<String>,
}

/// The folder with `.git` that a folder belongs to: a repository, a linked worktree or a submodule.
#[must_use]
pub fn checkout_of(folder: &Path) -> Option<PathBuf> {
    folder.ancestors().find(|it| it.join(".git").exists()).map(Path::to_path_buf)
}

impl GitFacts {
    /// Asks git about the checkout that a folder belongs to.
    #[must_use]
    pub fn read(folder: &Path) -> Self {
        if checkout_of(folder).is_none() {
            return Self::default();
        }
        let ask = |arguments: &[&str]| {
            let sh = shell_in(folder)?;
            let command = cmd!(sh, "git --no-optional-locks {arguments...}");
            command.env("LC_ALL", "C").without_env(GIT_VARIABLES).capture_text()
        };
        let commit = ask(&["log", "-1", "--no-show-signature", "--format=%H %ct"]);
        let status = ask(&["status", "--porcelain", "--untracked-files=no"]);
        let remote = ask(&["config", "--get", "remote.origin.url"]);
        Self::of(&commit, &status, &remote)
    }

    /// From git's answers.
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
            (Err(error), _) | (_, Err(error)) => facts.problem = Some(problem(error)),
        }
        facts
    }
}

/// Why git failed, in one line.
fn problem(error: &ProcessError) -> String {
    let text = error.to_string();
    // git does not read what another user could have prepared (git-config(1), safe.directory).
    let foreign =
        text.split_once("dubious ownership in repository at '").and_then(|(_, rest)| rest.split_once('\''));
    match foreign {
        Some((folder, _)) => format!(
            "{folder} belongs to another user; `git config --global --add safe.directory {folder}` lets git read it"
        ),
        None => text.lines().next().unwrap_or_default().to_owned(),
    }
}

/// The remote as a URL that others can open: without user, password and token, and with https in place of ssh and git,
/// whose ports are not the web's. None for a path of this machine.
fn public_url(remote: &str) -> Option<String> {
    let (scheme, authority, path) = match remote.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_once('/')?;
            let scheme = match scheme.to_ascii_lowercase().as_str() {
                "http" | "git+http" => "http",
                "https" | "git+https" => "https",
                "ssh" | "git+ssh" | "ssh+git" | "git" => "ssh",
                _ => return None,
            };
            // Tokens are also written as parameters.
            let path = path.split(['?', '#']).next().unwrap_or_default();
            (scheme, authority, path)
        }
        None => {
            let (authority, path) = scp_form(remote)?;
            ("ssh", authority, path)
        }
    };
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host).to_ascii_lowercase();
    let (scheme, host) =
        if scheme == "ssh" { ("https", without_port(&host)) } else { (scheme, host.as_str()) };
    let path = path.trim_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path);
    let is_plain = |text: &str| !text.is_empty() && !text.contains(char::is_control);
    (is_plain(host) && is_plain(path)).then(|| format!("{scheme}://{host}/{}", path.replace(' ', "%20")))
}

/// `[USER@]HOST:PATH`, `[[USER@]HOST:PORT]:PATH` (git-clone(1), "GIT URLS"). A colon after a slash belongs to a path, and
/// one letter before it is a drive of Windows.
fn scp_form(remote: &str) -> Option<(&str, &str)> {
    let bracket = remote.find(']').unwrap_or(0);
    let (authority, path) = remote.split_at(bracket + remote[bracket..].find(':')?);
    // Two colons stand behind the name of a remote helper (gitremote-helpers(7)).
    if authority.contains(['/', '\\']) || path.starts_with("::") || authority.chars().count() == 1 {
        return None;
    }
    let inner = authority.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    // With several colons it is an IPv6 address.
    let inner = inner.filter(|it| it.contains('@') || it.matches(':').count() < 2);
    Some((inner.unwrap_or(authority), &path[1..]))
}

fn without_port(host: &str) -> &str {
    match host.find(']') {
        Some(end) => &host[..=end],
        None => host.split(':').next().unwrap_or_default(),
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
            ("http://host.example:8080/a", Some("http://host.example:8080/a")),
            ("HTTPS://User@Host.Example/A/b.git/", Some("https://host.example/A/b")),
            ("https://host.example/a/b.git?private_token=secret#x", Some("https://host.example/a/b")),
            ("ssh://git@[::1]:2222/x/y.git", Some("https://[::1]/x/y")),
            ("SSH://git@host.example:2222/x/y.git", Some("https://host.example/x/y")),
            ("git+ssh://git@host.example/x/y", Some("https://host.example/x/y")),
            ("git://host.example:9418/x/y.git", Some("https://host.example/x/y")),
            ("https://[2001:db8::1]:8443/x/y.git", Some("https://[2001:db8::1]:8443/x/y")),
            ("git@[::1]:x/y.git", Some("https://[::1]/x/y")),
            ("[::1]:x/y.git", Some("https://[::1]/x/y")),
            ("[git@host.example:2222]:x/y.git", Some("https://host.example/x/y")),
            ("[host.example:2222]:x/y.git", Some("https://host.example/x/y")),
            ("host.example:x/y.git", Some("https://host.example/x/y")),
            ("git@host.example:/srv/x y.git", Some("https://host.example/srv/x%20y")),
            ("git@host.example:~me/x.git", Some("https://host.example/~me/x")),
            ("https://host.example/", None),
            ("https://host.example", None),
            ("git@host.example:", None),
            ("ext::sh -c x", None),
            ("c:/a", None),
            ("./a:b", None),
            ("", None),
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
        assert_eq!(GitFacts::read(dir.path()), GitFacts::default());
    }
}
