//! Chooses a runtime where the user names none, and says what to do where none can be used. The choice is a pure function
//! of facts; a separate function gathers them.

use std::ffi::OsString;
use std::path::Path;

use tare_tool::process::{Execute as _, Shell, cmd};

use super::cgroup::Version;
use super::kind::RuntimeKind;
use super::rights::is_root;

/// What matters of a host and of the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Whether this is Linux.
    pub linux: bool,
    /// Whether this process is root.
    pub root: bool,
    /// Where the controllers are.
    pub cgroup: Version,
    /// Whether the group of this process may be divided by it (version 2).
    pub delegated: bool,
    /// Whether the cpuset controller is delegated.
    pub cpuset: bool,
    /// Whether an ordinary user may make user namespaces.
    pub user_namespaces: bool,
    /// Whether systemd answers for this user (`systemd-run --user`).
    pub user_systemd: bool,
    /// Whether `sudo` is installed.
    pub sudo: bool,
    /// Whether docker answers.
    pub docker: bool,
}

/// The options of the command line that affect the choice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asked {
    /// `--runtime`
    pub runtime: Option<RuntimeKind>,
    /// `--sudo`
    pub sudo: bool,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// Go on with this runtime.
    Use(RuntimeKind),
    /// The same, but the user should know something.
    UseAndSay(RuntimeKind, &'static str),
    /// Start again behind this command, and then decide anew.
    Restart {
        /// The words before our own command line.
        through: &'static [&'static str],
        /// A message for the user.
        say: &'static str,
    },
    /// Build everything as this user, then measure as root.
    Sudo,
    /// Give up.
    Stop {
        /// Why.
        reason: String,
        /// How to go on.
        hint: String,
    },
}

/// What asks systemd for a group of one's own, as podman does.
pub const SCOPE: &[&str] = &["systemd-run", "--user", "--scope", "--quiet", "--property=Delegate=yes", "--"];

/// Decides. Never on root's rights unless they are asked for.
#[must_use]
pub fn decide(asked: Asked, facts: &Facts) -> Choice {
    let docker = Choice::Use(RuntimeKind::Docker);
    if asked.sudo && !facts.root {
        return through_sudo(facts);
    }
    match asked.runtime {
        Some(kind) if kind.is_daemon() => Choice::Use(kind),
        Some(kind) if !facts.linux => Choice::Stop {
            reason: format!("the runtime `{kind}` runs on Linux alone"),
            hint: "leave `--runtime` out, or choose `--runtime docker`".to_owned(),
        },
        Some(kind) => own(kind, facts, false),
        None if !facts.linux && facts.docker => docker,
        None if !facts.linux => Choice::Stop {
            reason: "containers need Linux, and docker does not answer here".to_owned(),
            hint: "start Docker Desktop, or podman's machine and choose `--runtime podman`".to_owned(),
        },
        None => own(RuntimeKind::Embedded, facts, true),
    }
}

fn through_sudo(facts: &Facts) -> Choice {
    let stop = |reason: &str, hint: &str| Choice::Stop { reason: reason.to_owned(), hint: hint.to_owned() };
    match (facts.linux, facts.sudo) {
        (true, true) => Choice::Sudo,
        (true, false) => {
            stop("`sudo` is not installed or not on PATH", "run it as root, or choose `--runtime docker`")
        }
        (false, _) => stop("`--sudo` is for Linux", "leave it out: docker makes the containers here"),
    }
}

/// For a runtime that makes namespaces and groups as its caller. With `free` another may be taken, but
/// never podman: without a daemon it needs the same rights, and has no limits where it lacks them.
fn own(kind: RuntimeKind, facts: &Facts, free: bool) -> Choice {
    if facts.root && facts.cgroup != Version::None {
        return Choice::Use(kind);
    }
    let rootless = facts.cgroup == Version::V2 && facts.user_namespaces;
    if rootless && facts.delegated && facts.cpuset {
        return Choice::Use(kind);
    }
    if rootless && facts.delegated {
        return Choice::UseAndSay(
            kind,
            "as an ordinary user: CPUs are pinned by affinity, because cpuset is not delegated",
        );
    }
    if rootless && facts.user_systemd {
        return Choice::Restart { through: SCOPE, say: "asking systemd for a group of this run's own" };
    }
    if free && facts.docker {
        return Choice::UseAndSay(
            RuntimeKind::Docker,
            "no rights to make containers here: docker makes them, and its own overhead is in the start-up",
        );
    }
    let reason = match (facts.cgroup, facts.user_namespaces) {
        (Version::None, _) => "no cgroup file system is mounted",
        (Version::V1 | Version::Hybrid, _) => "only root may set limits with cgroup version 1",
        (Version::V2, false) => "this user may not make user namespaces",
        (Version::V2, true) => {
            "the group of this process is not delegated to this user, and systemd does not answer for it"
        }
    };
    let mut ways = match (facts.root, facts.cgroup) {
        (true, _) | (_, Version::None) => vec![],
        _ => vec!["add `--sudo` to measure as root after all is built"],
    };
    match (facts.cgroup, facts.user_namespaces) {
        (Version::V2, true) => ways.push("log in where systemd delegates a group (`loginctl enable-linger`, XDG_RUNTIME_DIR set)"),
        (Version::V2, false) => ways.push(
            "allow user namespaces (sysctl kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0)",
        ),
        (Version::V1 | Version::Hybrid, _) => {
            ways.push("boot with cgroup version 2 (`systemd.unified_cgroup_hierarchy=1`), of which systemd delegates a group to you");
        }
        (Version::None, _) => ways.push("mount cgroup2 on /sys/fs/cgroup"),
    }
    ways.push("or choose `--runtime docker`");
    Choice::Stop { reason: format!("containers cannot be made here: {reason}"), hint: ways.join(", ") }
}

impl Facts {
    /// Looks at this host. `path` are the directories of programs, `runtime_dir` is XDG_RUNTIME_DIR. Asks
    /// docker only where its answer matters.
    #[must_use]
    pub fn gather(path: Option<&OsString>, runtime_dir: Option<&Path>) -> Self {
        let linux = cfg!(target_os = "linux");
        let root = is_root();
        let has = |name: &str| tare_tool::process::find_program(name, path).is_some();
        let answers = |name: &str, arguments: &[&str]| {
            has(name) && Shell::new().is_ok_and(|sh| cmd!(sh, "{name} {arguments...}").capture().is_ok())
        };
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let cgroup = Version::of(&mounts);
        let ordinary = linux && !root;
        let delegated = if ordinary && cgroup == Version::V2 { delegated_controllers() } else { None };
        let cpuset = delegated.as_deref().is_some_and(|it| it.split_whitespace().any(|it| it == "cpuset"));
        let delegated = delegated.is_some();
        let user_namespaces = ordinary && may_make_user_namespaces();
        let user_systemd = ordinary
            && has("systemd-run")
            && runtime_dir.is_some_and(|folder| folder.join("systemd/private").exists());
        let rootless = cgroup == Version::V2 && user_namespaces && (delegated || user_systemd);
        let needs_others = !linux || ordinary && !rootless;
        Self {
            linux,
            root,
            cgroup,
            delegated,
            cpuset,
            user_namespaces,
            user_systemd,
            sudo: has("sudo"),
            docker: needs_others && answers("docker", &["version"]),
        }
    }
}

/// The controllers of the group that this process may divide; none if it may not.
#[cfg(target_os = "linux")]
fn delegated_controllers() -> Option<String> {
    use super::cgroup::Cgroup;
    let Ok(Cgroup::V2(own)) = Cgroup::of_process(std::process::id().cast_signed()) else { return None };
    let writable = |path: &Path| rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok();
    // If an earlier step of this run moved the process into a leaf group, the group above the leaf counts.
    let folder = if own.ends_with("tare-tool") { own.parent().unwrap_or(&own) } else { &own };
    let may = writable(folder) && writable(&folder.join("cgroup.subtree_control"));
    std::fs::read_to_string(folder.join("cgroup.controllers")).ok().filter(|_| may)
}

#[cfg(not(target_os = "linux"))]
fn delegated_controllers() -> Option<String> {
    None
}

/// Debian's, Ubuntu's and the kernel's own switches.
fn may_make_user_namespaces() -> bool {
    let number = |name: &str| {
        let text = std::fs::read_to_string(Path::new("/proc/sys").join(name)).ok()?;
        text.trim().parse::<u64>().ok()
    };
    number("kernel/unprivileged_userns_clone") != Some(0)
        && number("kernel/apparmor_restrict_unprivileged_userns") != Some(1)
        && number("user/max_user_namespaces") != Some(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAPTOP: Facts = Facts {
        linux: true,
        root: false,
        cgroup: Version::V2,
        delegated: false,
        cpuset: false,
        user_namespaces: true,
        user_systemd: true,
        sudo: false,
        docker: false,
    };

    /// A short message for the user.
    fn short(choice: &Choice) -> String {
        match choice {
            Choice::Use(kind) => format!("use {kind}"),
            Choice::UseAndSay(kind, _) => format!("use {kind} and say"),
            Choice::Restart { through, .. } => format!("restart {}", through[0]),
            Choice::Sudo => "sudo".to_owned(),
            Choice::Stop { reason, .. } => format!("stop: {reason}"),
        }
    }

    #[test]
    fn the_first_minute_on_every_kind_of_host() {
        let root = Facts { root: true, ..LAPTOP };
        let server = Facts { user_systemd: false, ..LAPTOP };
        let runner = Facts { sudo: true, docker: true, ..server };
        let mac = Facts { linux: false, cgroup: Version::None, user_systemd: false, docker: true, ..LAPTOP };
        let (podman, docker, runc) =
            (Some(RuntimeKind::Podman), Some(RuntimeKind::Docker), Some(RuntimeKind::Runc));
        let cases = [
            ("root", None, root, "use embedded"),
            ("root, v1", None, Facts { cgroup: Version::Hybrid, ..root }, "use embedded"),
            ("root, runc", runc, root, "use runc"),
            ("laptop", None, LAPTOP, "restart systemd-run"),
            ("laptop, in the scope", None, Facts { delegated: true, ..LAPTOP }, "use embedded and say"),
            (
                "delegated with cpuset",
                None,
                Facts { delegated: true, cpuset: true, ..LAPTOP },
                "use embedded",
            ),
            ("laptop, runc", runc, LAPTOP, "restart systemd-run"),
            ("laptop, podman asked", podman, LAPTOP, "use podman"),
            (
                "laptop, v1",
                None,
                Facts { cgroup: Version::Hybrid, ..LAPTOP },
                "stop: containers cannot be made here: only root may set limits with cgroup version 1",
            ),
            (
                "laptop without namespaces",
                None,
                Facts { user_namespaces: false, docker: true, ..LAPTOP },
                "use docker and say",
            ),
            ("runner", None, runner, "use docker and say"),
            (
                "runc asked, no rights",
                runc,
                Facts { docker: true, ..server },
                "stop: containers cannot be made here: the group of this process is not delegated to this user, and systemd does not answer for it",
            ),
            (
                "root without cgroups",
                None,
                Facts { cgroup: Version::None, ..root },
                "stop: containers cannot be made here: no cgroup file system is mounted",
            ),
            ("mac", None, mac, "use docker"),
            ("mac, docker asked", docker, mac, "use docker"),
            (
                "mac without docker",
                None,
                Facts { docker: false, ..mac },
                "stop: containers need Linux, and docker does not answer here",
            ),
            ("mac, runc asked", runc, mac, "stop: the runtime `runc` runs on Linux alone"),
        ];
        for (host, asked, facts, expected) in cases {
            let asked = Asked { runtime: asked, sudo: false };
            assert_eq!(short(&decide(asked, &facts)), expected, "{host}");
            // That sudo is there is no reason to use it.
            assert_eq!(short(&decide(asked, &Facts { sudo: true, ..facts })), expected, "{host} with sudo");
        }
    }

    #[test]
    fn root_is_asked_for_and_then_always_taken() {
        let with_sudo = Facts { sudo: true, ..LAPTOP };
        let root = Facts { root: true, ..with_sudo };
        let v1 = Facts { cgroup: Version::Hybrid, docker: true, ..with_sudo };
        for runtime in [None, Some(RuntimeKind::Runc), Some(RuntimeKind::Docker)] {
            let asked = Asked { runtime, sudo: true };
            let used = format!("use {}", runtime.unwrap_or_default());
            for (facts, expected) in [
                (with_sudo, "sudo"),
                (v1, "sudo"),
                (root, used.as_str()),
                (LAPTOP, "stop: `sudo` is not installed or not on PATH"),
                (Facts { linux: false, ..with_sudo }, "stop: `--sudo` is for Linux"),
            ] {
                assert_eq!(short(&decide(asked, &facts)), expected, "{facts:?}");
            }
        }
    }

    #[test]
    fn giving_up_says_how_to_go_on() {
        let hint = |facts: Facts| match decide(Asked::default(), &facts) {
            Choice::Stop { hint, .. } => hint,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            hint(Facts { user_systemd: false, ..LAPTOP }),
            "add `--sudo` to measure as root after all is built, log in where systemd delegates a group (`loginctl enable-linger`, XDG_RUNTIME_DIR set), or choose `--runtime docker`"
        );
        assert_eq!(
            hint(Facts { cgroup: Version::V1, ..LAPTOP }),
            "add `--sudo` to measure as root after all is built, boot with cgroup version 2 (`systemd.unified_cgroup_hierarchy=1`), of which systemd delegates a group to you, or choose `--runtime docker`"
        );
        // It would not help.
        assert_eq!(
            hint(Facts { root: true, cgroup: Version::None, ..LAPTOP }),
            "mount cgroup2 on /sys/fs/cgroup, or choose `--runtime docker`"
        );
    }
}
