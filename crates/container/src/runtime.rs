//! The runtimes that a container can be made by, and the making.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tare_tool::private::{self, PrivateError};
use tare_tool::process::{Execute as _, ProcessError, Shell, cmd, find_program};

use super::affinity;
use super::cgroup::{self, CgroupError};
use super::daemon::{self, Daemon};
use super::group::{self, Kept, Parent};
use super::leftovers::{self, Cleanup, Leftover};
use super::life::Container;
use super::limits::{CpuSet, LimitError, Limits};
#[cfg(target_os = "linux")]
use super::network::NetworkError;
use super::rights::Rights;
#[cfg(target_os = "linux")]
use super::roots::{Cache, Keep};
use super::spec::{ContainerSpec, Network};
use super::target::{Target, TargetError};
#[cfg(target_os = "linux")]
use super::unpack::UnpackError;
use super::user::UserError;

/// What makes and runs containers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuntimeKind {
    /// Our own, on libcontainer; needs nothing installed.
    #[default]
    Embedded,
    /// `runc`.
    Runc,
    /// `crun`.
    Crun,
    /// `youki`.
    Youki,
    /// Docker's daemon.
    Docker,
    /// Podman.
    Podman,
}

/// Not a runtime.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no runtime: choose from embedded, runc, crun, youki, docker, podman")]
pub struct RuntimeKindError(String);

impl RuntimeKind {
    /// Every runtime.
    pub const ALL: [Self; 6] =
        [Self::Embedded, Self::Runc, Self::Crun, Self::Youki, Self::Docker, Self::Podman];

    /// Its name, which is its program's too.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Runc => "runc",
            Self::Crun => "crun",
            Self::Youki => "youki",
            Self::Docker => "docker",
            Self::Podman => "podman",
        }
    }

    /// Whether it has a store of images and a command line like docker's.
    #[must_use]
    pub fn is_daemon(self) -> bool {
        matches!(self, Self::Docker | Self::Podman)
    }

    /// Its program in these directories (`PATH`); none for the embedded one, which is brought along.
    ///
    /// # Errors
    /// When it is not installed.
    pub fn find(self, path: Option<&std::ffi::OsString>) -> Result<Option<PathBuf>, RuntimeError> {
        match self {
            Self::Embedded => Ok(None),
            _ => find_program(self.name(), path).map(Some).ok_or(RuntimeError::NotInstalled(self)),
        }
    }
}

impl fmt::Display for RuntimeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for RuntimeKind {
    type Err = RuntimeKindError;

    fn from_str(text: &str) -> Result<Self, RuntimeKindError> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == text);
        found.ok_or_else(|| RuntimeKindError(text.to_owned()))
    }
}

/// Why there is no container, or not the one that was asked for.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The keeper's program was not given.
    #[error("the runtime `{0}` needs the program tare-keeper")]
    NoKeeper(RuntimeKind),
    /// The runtime's program is not there.
    #[error("the runtime `{0}` is not installed or not on PATH")]
    NotInstalled(RuntimeKind),
    /// Not on this operating system.
    #[error("the runtime `{0}` runs on Linux alone")]
    NotHere(RuntimeKind),
    /// An ordinary user who has not entered a user namespace ([`super::rights::enter_namespace`]).
    #[error("the runtime `{0}` makes containers as root, or in a user namespace")]
    NoRights(RuntimeKind),
    /// Interfaces of the host are root's.
    #[error("only root may put containers on interfaces of this host")]
    NoInterfaces,
    /// The runtime refused.
    #[error("{runtime} cannot {operation} the container: {reason}")]
    Refused {
        /// Which.
        runtime: RuntimeKind,
        /// `create`, `start`, `signal`, `remove`.
        operation: &'static str,
        /// In its own words.
        reason: String,
        /// The last lines that the container printed.
        output: String,
    },
    /// The image says nothing about what to run.
    #[error("{0} has neither entrypoint nor command")]
    NoCommand(String),
    /// A program that the runtime is called by failed.
    #[error("{runtime} failed")]
    Program {
        /// Which.
        runtime: RuntimeKind,
        /// How.
        #[source]
        source: ProcessError,
    },
    /// A file.
    #[error("cannot {operation} {path}", path = path.display())]
    File {
        /// `create`, `write`, …
        operation: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The folder of the records may be another user's.
    #[error(transparent)]
    Private(#[from] PrivateError),
    /// A port of the container is not to be had from here.
    #[error("port {port} of the container of {runtime} cannot be reached: {reason}")]
    Unreachable {
        /// Which runtime.
        runtime: RuntimeKind,
        /// Which port.
        port: u16,
        /// Why.
        reason: &'static str,
    },
    /// This host has no port for a daemon to publish one at.
    #[error("no port of 127.0.0.1 is free")]
    NoFreePort(#[source] io::Error),
    /// Counters are not to be had.
    #[error("the counters of a container of {0} cannot be read on this host")]
    NoCounters(RuntimeKind),
    /// The image.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Its layers.
    #[cfg(target_os = "linux")]
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// Its user.
    #[error(transparent)]
    User(#[from] UserError),
    /// The limits.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The cgroups.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The network.
    #[cfg(target_os = "linux")]
    #[error(transparent)]
    Network(#[from] NetworkError),
}

impl RuntimeError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoKeeper(_) => {
                Some("let `cargo xtask` build it, or set TARE_KEEPER to its path".to_owned())
            }
            Self::NotInstalled(kind) => {
                Some(format!("install {kind}, or leave `--runtime` out to use the embedded one"))
            }
            Self::NotHere(_) => Some("choose `--runtime docker`".to_owned()),
            Self::NoRights(_) => Some("add `--sudo`, or choose `--runtime docker`".to_owned()),
            Self::NoInterfaces => Some("leave `network` out of the profile, or add `--sudo`".to_owned()),
            Self::NoCommand(_) => Some("say what to run under `args` of the profile".to_owned()),
            Self::Refused { reason, .. } => of_reason(reason),
            Self::Unreachable { runtime, port, .. } => Some(format!(
                "see whether `{runtime} run --publish 127.0.0.1::{port} …` works, or run as root where {runtime} runs its containers"
            )),
            Self::Target(error) => error.hint(),
            Self::Cgroup(error) => error.hint(),
            Self::Private(error) => error.hint(),
            #[cfg(target_os = "linux")]
            Self::Unpack(UnpackError::Private(error)) => error.hint(),
            #[cfg(target_os = "linux")]
            Self::Unpack(UnpackError::Tampered { .. }) => Some("fetch or build it again".to_owned()),
            #[cfg(target_os = "linux")]
            Self::Unpack(UnpackError::Read { source, .. }) => source.hint().map(str::to_owned),
            _ => None,
        }
    }
}

/// Runtimes say the same in different words.
fn of_reason(reason: &str) -> Option<String> {
    let reason = reason.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| reason.contains(word));
    if has(&["slirp4netns", "pasta"]) {
        let hint = if has(&["/dev/net/tun"]) {
            "have an administrator load the kernel module tun: a rootless podman makes its networks with it"
        } else {
            "install slirp4netns or passt: a rootless podman makes its networks with it"
        };
        return Some(hint.to_owned());
    }
    if has(&["not found in $path", "no such file", "enoent"]) && has(&["exec"]) {
        return Some(
            "the entrypoint is not in the image, or needs an interpreter or libraries that are not"
                .to_owned(),
        );
    }
    if has(&["does not have correct permissions", "does not have the correct permission"])
        || has(&["exec"]) && has(&["permission denied", "eacces"])
    {
        return Some("the entrypoint is not executable: give it mode 0755".to_owned());
    }
    if has(&["exec format error", "enoexec"]) {
        return Some("the entrypoint is for another architecture, or a script without `#!`".to_owned());
    }
    if has(&["eperm", "operation not permitted", "permission denied", "eacces"]) {
        return Some("add `--sudo`, or run it in a delegated scope, or with `--runtime docker`".to_owned());
    }
    None
}

/// What a runtime is opened with; nothing of it is looked for in the environment here.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where unpacked images are kept.
    pub cache: PathBuf,
    /// Where records of containers are kept ([`leftovers::state_folder`]).
    pub state: PathBuf,
    /// The program `tare-keeper`.
    pub keeper: Option<PathBuf>,
    /// The directories that programs are looked for in (`PATH`).
    pub path: Option<std::ffi::OsString>,
    /// Removes everything at a signal.
    pub cleanup: Cleanup,
}

/// A runtime that can be used.
#[derive(Debug)]
pub struct Runtime {
    pub(crate) kind: RuntimeKind,
    pub(crate) options: Options,
    /// The program of `runc` and the like.
    #[cfg(target_os = "linux")]
    pub(crate) program: Option<PathBuf>,
    pub(crate) root: bool,
    /// None where a daemon makes groups.
    pub(crate) parent: Option<Parent>,
    /// Keeps that group as long as this and its containers live.
    pub(crate) kept: Option<Arc<Kept>>,
    pub(crate) daemon: Option<Daemon>,
    /// What dead owners had left.
    swept: Vec<Leftover>,
}

impl Runtime {
    /// Looks whether a runtime can be used, and removes what killed runs left.
    ///
    /// # Errors
    /// When its program is missing, or groups cannot be made.
    pub fn open(kind: RuntimeKind, options: &Options) -> Result<Self, RuntimeError> {
        if !kind.is_daemon() && cfg!(not(target_os = "linux")) {
            return Err(RuntimeError::NotHere(kind));
        }
        // What is on record there is acted on.
        private::own_folder(&options.state)?;
        let find = |kind: RuntimeKind| find_program(kind.name(), options.path.as_ref());
        let program = kind.find(options.path.as_ref())?;
        if !kind.is_daemon() && options.keeper.is_none() {
            return Err(RuntimeError::NoKeeper(kind));
        }
        let rights = Rights::of_this_process();
        if !kind.is_daemon() && rights == Rights::Ordinary {
            return Err(RuntimeError::NoRights(kind));
        }
        let root = rights == Rights::Root;
        let mut swept = leftovers::sweep(&options.state, &find);
        let (parent, kept) = match kind.is_daemon() {
            // A daemon makes its own, but the generator's is ours.
            true if root => (None, Parent::find(root).ok().map(|parent| Kept::hold(&parent, root))),
            true => (None, None),
            false => {
                let parent = Parent::find(root)?;
                let kept = Kept::hold(&parent, root);
                parent.prepare(&group::CONTROLLERS)?;
                (Some(parent), Some(kept))
            }
        };
        let daemon = match (&program, kind.is_daemon()) {
            (Some(program), true) => {
                let daemon = Daemon::open(kind, program)?;
                swept.extend(daemon.sweep().into_iter().map(Leftover::Removed));
                Some(daemon)
            }
            _ => None,
        };
        Ok(Self {
            kind,
            options: options.clone(),
            #[cfg(target_os = "linux")]
            program,
            root,
            parent,
            kept,
            daemon,
            swept,
        })
    }

    /// Its version, as the first line of `PROGRAM --version` has it.
    #[must_use]
    pub fn version(&self) -> String {
        if self.kind == RuntimeKind::Embedded {
            return env!("CARGO_PKG_VERSION").to_owned();
        }
        let program = find_program(self.kind.name(), self.options.path.as_ref());
        let ask = |(program, sh): (_, Shell)| cmd!(sh, "{program} --version").capture_text().ok();
        let text = program.zip(Shell::new().ok()).and_then(ask).unwrap_or_default();
        text.lines().next().unwrap_or("unknown").to_owned()
    }

    /// Which it is.
    #[must_use]
    pub fn kind(&self) -> RuntimeKind {
        self.kind
    }

    /// What killed runs had left, and what became of it.
    #[must_use]
    pub fn swept(&self) -> &[Leftover] {
        &self.swept
    }

    /// Where groups can be made, for the process that sends requests ([`group::Group`]).
    ///
    /// # Errors
    /// When they cannot be.
    pub fn parent(&self) -> Result<Parent, CgroupError> {
        match &self.parent {
            Some(parent) => Ok(parent.clone()),
            None => Parent::find(self.root),
        }
    }

    /// Whether the limits in force are not read from the kernel but from a daemon, because it runs its
    /// containers where the kernel's files cannot be seen: in a virtual machine or on another host.
    #[must_use]
    pub fn limits_are_the_daemons_word(&self) -> bool {
        self.daemon.as_ref().is_some_and(|daemon| !daemon.is_here())
    }

    /// Whether a server is reached by a port of this host that a proxy or the host's firewall passes on, because
    /// its network cannot be entered from here.
    #[must_use]
    pub fn publishes_ports(&self, spec: &ContainerSpec) -> bool {
        self.daemon.as_ref().is_some_and(|daemon| !daemon.joins()) && spec.network != Network::Host
    }

    /// Whether it can keep containers to these CPUs by a cpuset.
    #[must_use]
    pub fn has_cpuset(&self, cpus: &CpuSet) -> bool {
        if let Some(daemon) = &self.daemon {
            return daemon.has_cpusets();
        }
        let alone = Limits { cpuset: Some(cpus.clone()), ..Limits::default() };
        self.parent().map_or(true, |it| cgroup::check_enforceable(&it.existing, &alone).is_ok())
    }

    /// Unpacks or loads an image, so that creating containers of it takes no longer the first time. Says where
    /// its root is, if that is a folder of this host.
    ///
    /// # Errors
    /// When the image is damaged or hostile, or the cache cannot be written.
    pub fn prepare(&self, target: &Target, spec: &ContainerSpec) -> Result<Option<PathBuf>, RuntimeError> {
        if let Some(daemon) = &self.daemon {
            daemon.load(target, &self.options.state)?;
            return Ok(None);
        }
        #[cfg(target_os = "linux")]
        {
            let cache = Cache::new(&self.options.cache, Keep::default());
            let root = cache.rootfs(target, &spec.mount_points(&target.config))?;
            Ok(Some(root.path().to_path_buf()))
        }
        // Elsewhere no such runtime was opened.
        #[cfg(not(target_os = "linux"))]
        {
            let _ = spec;
            Ok(None)
        }
    }

    /// Creates a container. It waits for its start; its limits are in force, or this fails.
    ///
    /// # Errors
    /// When the image, the limits, the runtime or the network do not allow it.
    pub fn create(&self, target: &Target, spec: &ContainerSpec) -> Result<Container, RuntimeError> {
        spec.limits.clone().checked()?;
        if spec.command(&target.config).is_empty() {
            return Err(RuntimeError::NoCommand(target.name.clone()));
        }
        if !self.root && self.daemon.is_none() && !matches!(spec.network, Network::Loopback | Network::Host) {
            return Err(RuntimeError::NoInterfaces);
        }
        let making = leftovers::making();
        let inner = match &self.daemon {
            Some(daemon) => daemon::create(self, daemon, target, spec)?,
            #[cfg(target_os = "linux")]
            None => super::bundle::create(self, target, spec)?,
            #[cfg(not(target_os = "linux"))]
            None => return Err(RuntimeError::NotHere(self.kind)),
        };
        let inner = Arc::new(inner);
        self.options.cleanup.register(&inner);
        drop(making);
        let container = Container::new(inner);
        // Of a daemon's there is none yet.
        if let Some((pid, cpus)) = container.pid().zip(spec.affinity.as_ref()) {
            affinity::pin(pid, cpus);
        }
        Ok(container)
    }

    #[cfg(target_os = "linux")]
    pub(crate) fn refused(&self, operation: &'static str, reason: String, output: String) -> RuntimeError {
        RuntimeError::Refused { runtime: self.kind, operation, reason, output }
    }
}

/// Whether this process is root, and not only in a user namespace of its own.
#[must_use]
pub fn is_root() -> bool {
    Rights::of_this_process() == Rights::Root
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runtimes_round_trip_by_name() {
        for kind in RuntimeKind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        assert_eq!("Docker".parse::<RuntimeKind>(), Err(RuntimeKindError("Docker".to_owned())));
    }

    #[test]
    fn what_runtimes_say_of_an_entrypoint_becomes_advice() {
        for (reason, advice) in [
            ("executable '/no' not found in $PATH", "not in the image"),
            ("exec: \"/no\": stat /no: no such file or directory", "not in the image"),
            ("error 'EACCES: Permission denied' executing '\"/etc/passwd\"'", "not executable"),
            ("error 'ENOEXEC: Exec format error' executing", "another architecture"),
            ("no network namespace: EPERM: Operation not permitted", "add `--sudo`"),
            (
                "could not find slirp4netns: exec: \"slirp4netns\": executable file not found in $PATH",
                "install",
            ),
            ("slirp4netns failed: open(\"/dev/net/tun\"): No such file or directory", "kernel module tun"),
        ] {
            let hint = of_reason(reason).unwrap_or_default();
            assert!(hint.contains(advice), "{reason}: {hint}");
        }
        assert_eq!(of_reason("something else"), None);
    }
}
