//! One container from its creation to its removal, whatever runtime made it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

#[cfg(target_os = "linux")]
use super::cgroup::Cgroup;
use super::counters::Counters;
use super::daemon::DaemonContainer;
use super::group::Kept;
#[cfg(target_os = "linux")]
use super::keeper::Keeper;
use super::leftovers::{Folder, Removable};
use super::limits::Limits;
use super::runtime::{RuntimeError, RuntimeKind};

/// Points in a container's life, ns of CLOCK_MONOTONIC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Clock {
    /// Before anything was done: the runtime's program is not started yet.
    pub begun: u64,
    /// Namespaces, mounts, cgroup and limits are there.
    pub created: u64,
    /// The runtime let it run.
    pub started: Option<u64>,
    /// The image's program took over from the runtime's.
    pub executed: Option<u64>,
    /// Its first process ended.
    pub exited: Option<u64>,
}

/// How a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// Exit code, unless a signal ended it.
    pub code: Option<i32>,
    /// The signal.
    pub signal: Option<i32>,
    /// Whether the kernel killed a process of it for want of memory.
    pub oom_killed: bool,
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const SIGKILL: i32 = 9;
        match (self.code, self.signal) {
            (_, Some(SIGKILL)) if self.oom_killed => {
                return f.write_str("it used more memory than its limit and was killed by the kernel");
            }
            (_, Some(signal)) => write!(f, "signal {signal} ended it")?,
            (Some(code), None) => write!(f, "it ended with exit code {code}")?,
            (None, None) => f.write_str("it ended")?,
        }
        match self.oom_killed {
            true => f.write_str(", and the kernel had killed another process of it for want of memory"),
            false => Ok(()),
        }
    }
}

/// Where a server is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The address, in the network namespace below.
    pub address: SocketAddr,
    /// The network namespace that whoever sends requests has to join; none: that of this process.
    pub network_namespace: Option<PathBuf>,
}

/// A container. Dropped, it is killed and removed with all that belongs to it.
#[derive(Debug)]
pub struct Container {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) runtime: RuntimeKind,
    pub(crate) driver: Driver,
    pub(crate) limits: Limits,
    pub(crate) host_network: bool,
    #[cfg(target_os = "linux")]
    pub(crate) pair: Mutex<Option<super::network::Pair>>,
    pub(crate) removed: AtomicBool,
    /// It goes when everything in it has ended.
    pub(crate) folder: Mutex<Option<Folder>>,
    pub(crate) id: String,
    /// Last: the group that its own was made in.
    pub(crate) _kept: Option<Arc<Kept>>,
}

#[derive(Debug)]
pub(crate) enum Driver {
    #[cfg(target_os = "linux")]
    Keeper {
        keeper: Keeper,
        cgroup: Cgroup,
        /// The same from the root of every hierarchy.
        group: PathBuf,
        /// The unpacked image, which is kept as long as this lives.
        _root: super::roots::Root,
    },
    Daemon(DaemonContainer),
}

impl Container {
    pub(crate) fn new(inner: Arc<Inner>) -> Self {
        Self { inner }
    }

    /// Its name at the runtime.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.inner.id
    }

    /// What made it.
    #[must_use]
    pub fn runtime(&self) -> RuntimeKind {
        self.inner.runtime
    }

    /// Lets it run, and waits until the image's program has taken over.
    ///
    /// # Errors
    /// When the program cannot be run, or the limits turn out not to be in force.
    pub fn start(&self) -> Result<(), RuntimeError> {
        self.release()?;
        match &self.inner.driver {
            #[cfg(target_os = "linux")]
            Driver::Keeper { keeper, .. } => {
                keeper.wait_executed().map_err(|reason| self.inner.refused("start", reason))
            }
            Driver::Daemon(_) => Ok(()),
        }
    }

    /// Lets it run and waits for nothing, for whoever looks for the first answer already. (A daemon's client
    /// is waited for.)
    ///
    /// # Errors
    /// When the runtime refuses.
    pub fn release(&self) -> Result<(), RuntimeError> {
        match &self.inner.driver {
            #[cfg(target_os = "linux")]
            Driver::Keeper { keeper, cgroup, .. } => {
                cgroup.reset_peak();
                let sent = keeper.send(&tare_keeper::Command::Start);
                sent.map_err(|reason| self.inner.refused("start", reason))
            }
            Driver::Daemon(daemon) => {
                daemon.start()?;
                // A daemon makes the group at the start; only now can it be looked at.
                daemon.verify(&self.inner.limits)
            }
        }
    }

    /// Points in its life so far.
    #[must_use]
    pub fn clock(&self) -> Clock {
        match &self.inner.driver {
            #[cfg(target_os = "linux")]
            Driver::Keeper { keeper, .. } => {
                let told = keeper.told();
                Clock {
                    begun: keeper.begun,
                    created: told.created.unwrap_or(keeper.begun),
                    started: told.started,
                    executed: told.executed,
                    exited: told.exited.map(|(at, ..)| at),
                }
            }
            Driver::Daemon(daemon) => daemon.clock(),
        }
    }

    /// Its first process, as numbered on this host; none before its start with a daemon, or where the daemon
    /// runs in a virtual machine.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        match &self.inner.driver {
            #[cfg(target_os = "linux")]
            Driver::Keeper { keeper, .. } => keeper.told().pid,
            Driver::Daemon(daemon) => daemon.pid(),
        }
    }

    /// What the kernel counted of it up to now. They can be read after its end too, until it is removed
    /// (with a daemon: until its end).
    ///
    /// # Errors
    /// When there is no cgroup to be seen.
    pub fn counters(&self) -> Result<Counters, RuntimeError> {
        let none = || RuntimeError::NoCounters(self.inner.runtime);
        match &self.inner.driver {
            #[cfg(target_os = "linux")]
            Driver::Keeper { cgroup, .. } => Counters::read(cgroup).map_err(|_| none()),
            Driver::Daemon(daemon) => daemon.counters().ok_or_else(none),
        }
    }

    /// How many of its processes the kernel has killed for want of memory, as far as can be seen: where only a
    /// daemon tells, that there was one. A daemon does not always tell after the end; what is asked before it is
    /// remembered.
    pub fn oom_kills(&self) -> u64 {
        match &self.inner.driver {
            #[cfg(target_os = "linux")]
            Driver::Keeper { cgroup, .. } => Counters::oom_kills(cgroup).unwrap_or(0),
            Driver::Daemon(daemon) => daemon.oom_kills(),
        }
    }

    /// The memory that it may use, in bytes, if that is limited.
    #[must_use]
    pub fn memory_limit(&self) -> Option<u64> {
        self.inner.limits.memory
    }

    /// The limits in force, as the kernel has them, or as the daemon says where the kernel's files cannot be
    /// seen ([`super::Runtime::limits_are_the_daemons_word`]).
    ///
    /// # Errors
    /// When neither tells.
    pub fn limits_in_force(&self) -> Result<Limits, RuntimeError> {
        match &self.inner.driver {
            #[cfg(target_os = "linux")]
            Driver::Keeper { cgroup, .. } => Ok(cgroup.limits()),
            Driver::Daemon(daemon) => daemon.limits(),
        }
    }

    /// Where a port of it is reached. An address on the loopback of this host is given only where it is the
    /// container's: a published port, or the network that it was asked to share with this host.
    ///
    /// # Errors
    /// When the port is not published and the container's network cannot be entered, as before the start of a
    /// daemon's container and after its end.
    pub fn endpoint(&self, port: u16) -> Result<Endpoint, RuntimeError> {
        let of_this_host = |address| Endpoint { address, network_namespace: None };
        let unreachable = |reason| RuntimeError::Unreachable { runtime: self.inner.runtime, port, reason };
        #[cfg(target_os = "linux")]
        {
            let pair = self.inner.pair.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(pair) = pair.as_ref() {
                return Ok(of_this_host(SocketAddr::new(IpAddr::V4(pair.address), port)));
            }
        }
        let loopback = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        match &self.inner.driver {
            Driver::Daemon(daemon) if self.inner.host_network && !daemon.is_here() => {
                Err(unreachable("it shares the network of another host"))
            }
            _ if self.inner.host_network => Ok(of_this_host(loopback)),
            Driver::Daemon(daemon) if !daemon.has_own_loopback => {
                let published = daemon.published(port).ok_or_else(|| unreachable("it is not published"))?;
                Ok(of_this_host(published))
            }
            _ => {
                let process = self.pid().ok_or_else(|| unreachable("the container has no process"))?;
                let network_namespace = Some(PathBuf::from(format!("/proc/{process}/ns/net")));
                Ok(Endpoint { address: loopback, network_namespace })
            }
        }
    }

    /// Whether [`Self::endpoint`] is known only once it runs: a daemon tells of no process and publishes no
    /// port before.
    #[must_use]
    pub fn is_reached_late(&self) -> bool {
        matches!(&self.inner.driver, Driver::Daemon(_)) && !self.inner.host_network
    }

    /// Sends a signal (signal(7)) to its first process.
    ///
    /// # Errors
    /// When the runtime cannot.
    pub fn signal(&self, number: i32) -> Result<(), RuntimeError> {
        match &self.inner.driver {
            #[cfg(target_os = "linux")]
            Driver::Keeper { keeper, .. } => {
                let sent = keeper.send(&tare_keeper::Command::Signal { number });
                sent.map_err(|reason| self.inner.refused("signal", reason))
            }
            Driver::Daemon(daemon) => daemon.signal(number),
        }
    }

    /// Waits for its end; none when it has not ended in time.
    ///
    /// # Errors
    /// When the runtime is gone.
    pub fn wait(&self, timeout: Duration) -> Result<Option<Exit>, RuntimeError> {
        match &self.inner.driver {
            #[cfg(target_os = "linux")]
            Driver::Keeper { keeper, cgroup, .. } => {
                let told = keeper.wait(timeout, |told| told.exited.is_some());
                match told.exited {
                    Some((_, code, signal)) => {
                        let oom_killed = Counters::oom_kills(cgroup).is_some_and(|kills| kills > 0);
                        Ok(Some(Exit { code, signal, oom_killed }))
                    }
                    None if told.ended => {
                        let reason = told.failed.unwrap_or_else(|| "the runtime is gone".to_owned());
                        Err(self.inner.refused("watch", reason))
                    }
                    None => Ok(None),
                }
            }
            Driver::Daemon(daemon) => daemon.wait(Instant::now() + timeout),
        }
    }

    /// The last of what it printed, on stdout and stderr.
    #[must_use]
    pub fn output_tail(&self) -> String {
        self.inner.output()
    }

    /// Kills it and removes all that belongs to it.
    ///
    /// # Errors
    /// When something stays; the next runtime that is opened removes it.
    pub fn remove(self) -> Result<(), RuntimeError> {
        self.inner.remove()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.inner.remove_now();
    }
}

impl Inner {
    #[cfg(target_os = "linux")]
    pub(crate) fn refused(&self, operation: &'static str, reason: String) -> RuntimeError {
        RuntimeError::Refused { runtime: self.runtime, operation, reason, output: self.output() }
    }

    fn output(&self) -> String {
        match &self.driver {
            #[cfg(target_os = "linux")]
            Driver::Keeper { keeper, .. } => keeper.output(),
            Driver::Daemon(daemon) => daemon.output(),
        }
    }

    fn remove(&self) -> Result<(), RuntimeError> {
        if self.removed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let result = match &self.driver {
            #[cfg(target_os = "linux")]
            Driver::Keeper { keeper, group, .. } => keeper.remove().or_else(|reason| {
                // Nobody else does it where the keeper was killed.
                tare_keeper::cgroup::remove(group)
                    .map_err(|error| self.refused("remove", format!("{reason}; {error}")))
            }),
            Driver::Daemon(daemon) => daemon.remove(),
        };
        #[cfg(target_os = "linux")]
        drop(self.pair.lock().unwrap_or_else(PoisonError::into_inner).take());
        let folder = self.folder.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let (Err(_), Some(folder)) = (&result, folder) {
            // The record stays for a later sweep.
            std::mem::forget(folder);
        }
        result
    }
}

impl Removable for Inner {
    fn remove_now(&self) {
        // Whoever wants the error calls `Container::remove`.
        let _ = self.remove();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_from_that_of_another_process() {
        let told = |code, signal, oom_killed| Exit { code, signal, oom_killed }.to_string();
        let another = ", and the kernel had killed another process of it for want of memory";
        let of_its_own = "it used more memory than its limit and was killed by the kernel";
        assert_eq!(told(None, Some(9), true), of_its_own);
        assert_eq!(told(None, Some(9), false), "signal 9 ended it");
        assert_eq!(told(None, Some(6), true), format!("signal 6 ended it{another}"));
        assert_eq!(told(Some(2), None, false), "it ended with exit code 2");
        assert_eq!(told(Some(2), None, true), format!("it ended with exit code 2{another}"));
        assert_eq!(told(None, None, false), "it ended");
    }
}
