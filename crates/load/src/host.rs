//! The generator's use of its host: open files, namespaces and CPUs, and the CPU time that it used.
//!
//! Other hosts than Linux have no namespaces, cgroups and CPU sets, and a plan with them is refused.

use std::io;
use std::path::Path;

use super::{Cpu, LoadError};

/// Open files beside the connections: the standard streams, polls, timers, and the caller's files.
const OTHER_FILES: u64 = 64;

/// Raises the limit of open files (RLIMIT_NOFILE) as far as it may be, so that it does not bound the
/// connections.
///
/// # Errors
/// When that is not enough for so many connections.
pub fn raise_open_files(connections: u64) -> Result<(), LoadError> {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let limit = getrlimit(Resource::Nofile);
        if limit.current != limit.maximum {
            // What counts is checked below.
            let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
        }
        let needed = connections + OTHER_FILES;
        if getrlimit(Resource::Nofile).current.is_some_and(|current| current < needed) {
            let why =
                format!("the limit of open files is below {needed}: raise it with `ulimit -Hn {needed}`");
            return Err(LoadError::Host { what: "open so many connections", source: io::Error::other(why) });
        }
    }
    #[cfg(not(unix))]
    let _ = connections + OTHER_FILES;
    Ok(())
}

fn refused(what: &'static str) -> impl FnOnce(io::Error) -> LoadError {
    move |source| LoadError::Host { what, source }
}

/// Joins a network namespace, such as `/proc/PID/ns/net` (setns(2)). Of the calling thread, and of those that
/// it starts later: so before any other is started.
///
/// # Errors
/// When it cannot be opened or joined, which takes CAP_SYS_ADMIN.
pub fn join_network_namespace(path: &Path) -> Result<(), LoadError> {
    const WHAT: &str = "join the network namespace";
    #[cfg(target_os = "linux")]
    {
        use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let file = std::fs::File::open(path).map_err(named).map_err(refused(WHAT))?;
        let joined =
            move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), Some(LinkNameSpaceType::Network));
        joined.map_err(|error| named(error.into())).map_err(refused(WHAT))
    }
    #[cfg(not(target_os = "linux"))]
    {
        let why = format!("{}: only Linux has them", path.display());
        Err(refused(WHAT)(io::Error::new(io::ErrorKind::Unsupported, why)))
    }
}

/// Runs on these CPUs only (sched_setaffinity(2)); later threads too.
///
/// # Errors
/// When the host has none of them.
pub fn pin(cpus: &[usize]) -> Result<(), LoadError> {
    const WHAT: &str = "run on the CPUs asked for";
    #[cfg(target_os = "linux")]
    {
        use rustix::thread::{CpuSet, sched_setaffinity};
        let mut set = CpuSet::new();
        for cpu in cpus {
            if *cpu >= CpuSet::MAX_CPU {
                let why = format!("there is no CPU {cpu}");
                return Err(refused(WHAT)(io::Error::new(io::ErrorKind::InvalidInput, why)));
            }
            set.set(*cpu);
        }
        sched_setaffinity(None, &set).map_err(|error| refused(WHAT)(error.into()))
    }
    #[cfg(not(target_os = "linux"))]
    {
        let why = format!("{cpus:?}: only on Linux");
        Err(refused(WHAT)(io::Error::new(io::ErrorKind::Unsupported, why)))
    }
}

/// Enters a cgroup by writing our process id into its `cgroup.procs`.
///
/// # Errors
/// When it cannot be written.
pub fn enter_cgroup(procs: &Path) -> Result<(), LoadError> {
    let written = std::fs::write(procs, std::process::id().to_string());
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", procs.display()));
    written.map_err(named).map_err(refused("enter the cgroup"))
}

/// Ends with its parent, whatever it dies of (PR_SET_PDEATHSIG of prctl(2): more exactly with the thread
/// that started it).
///
/// # Errors
/// When the kernel refuses.
pub fn die_with_parent() -> Result<(), LoadError> {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Signal, set_parent_process_death_signal};
        set_parent_process_death_signal(Some(Signal::KILL))
            .map_err(|error| refused("ask to end with the parent")(error.into()))?;
    }
    Ok(())
}

/// Measures the CPU time of the thread that uses it (RUSAGE_THREAD of getrusage(2)).
#[derive(Debug, Default)]
pub(crate) struct Meter {
    start: Option<Cpu>,
    used: Option<Cpu>,
}

impl Meter {
    pub(crate) fn start(&mut self) {
        self.start = of_this_thread();
    }

    pub(crate) fn stop(&mut self) {
        let now = of_this_thread();
        self.used = now.zip(self.start).map(|(now, start)| Cpu {
            user: now.user.saturating_sub(start.user),
            system: now.system.saturating_sub(start.system),
        });
    }

    /// Between start and stop.
    pub(crate) fn used(&self) -> Option<Cpu> {
        self.used
    }
}

#[cfg(target_os = "linux")]
fn of_this_thread() -> Option<Cpu> {
    use nix::sys::resource::{UsageWho, getrusage};
    use nix::sys::time::TimeValLike as _;
    let usage = getrusage(UsageWho::RUSAGE_THREAD).ok()?;
    let micros = |time: nix::sys::time::TimeVal| u64::try_from(time.num_microseconds()).unwrap_or_default();
    Some(Cpu { user: micros(usage.user_time()), system: micros(usage.system_time()) })
}

#[cfg(not(target_os = "linux"))]
fn of_this_thread() -> Option<Cpu> {
    None
}
