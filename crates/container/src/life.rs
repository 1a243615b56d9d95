//! One container from its creation to its removal, with any runtime.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use super::advice;
use super::cleanup::{Cleanup, Removable};
use super::confinement::Confinement;
use super::counters::Counters;
use super::error::ContainerError;
use super::group::Kept;
use super::kind::RuntimeKind;
use super::leftovers::Folder;
use super::limits::Limits;
use super::listening;
use super::smaps::ProcessMemory;

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

/// Where a server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The address, in the network namespace below.
    pub address: SocketAddr,
    /// The network namespace that the load generator joins. None: the namespace of this process.
    pub network_namespace: Option<PathBuf>,
}

/// A container as its runtime sees it. The methods do what those of [`Container`] say.
pub(crate) trait Driver: Debug + Send + Sync {
    fn release(&self) -> Result<(), ContainerError>;
    /// Waits until the image's program has taken over.
    fn wait_executed(&self) -> Result<(), ContainerError>;
    fn clock(&self) -> Clock;
    fn pid(&self) -> Option<i32>;
    fn counters(&self) -> Option<Counters>;
    /// Its processes, as numbered on this host.
    fn processes(&self) -> Vec<i32>;
    fn oom_kills(&self) -> u64;
    /// Whether the layer over its root is memory, as far as is known.
    fn writes_to_memory(&self) -> bool;
    /// What the image lacks, if the runtime's last words are that it cannot run the program.
    fn explain(&self, output: &str) -> Option<String>;
    fn limits(&self) -> Result<Limits, ContainerError>;
    /// The address of this host at which a port is reached, or none if only the container's own network has one;
    /// or why there is none.
    fn published(&self, port: u16) -> Result<Option<SocketAddr>, &'static str>;
    fn is_reached_late(&self) -> bool;
    fn signal(&self, number: i32) -> Result<(), ContainerError>;
    fn wait(&self, timeout: Duration) -> Result<Option<Exit>, ContainerError>;
    fn output(&self) -> String;
    fn follow(&self, follower: Follower) -> Result<Option<JoinHandle<()>>, ContainerError>;
    fn remove(&self) -> Result<(), ContainerError>;
}

/// Where a container's output is copied to. An error ends the copying, not the container.
pub type Follower = Box<dyn std::io::Write + Send>;

/// A container. Dropped, it is killed and removed with all that belongs to it.
#[derive(Debug)]
pub struct Container {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    id: String,
    runtime: RuntimeKind,
    driver: Box<dyn Driver>,
    limits: Limits,
    confinement: Confinement,
    /// Held during the removal, so that the end of the process waits for one that another thread has begun.
    removed: Mutex<bool>,
    /// The most bytes of files in memory that were counted so far.
    files: AtomicU64,
    /// It goes when everything in it has ended.
    folder: Mutex<Option<Folder>>,
    /// Last: the group that its own was made in.
    _kept: Arc<Kept>,
}

impl Container {
    pub(crate) fn new(
        runtime: RuntimeKind,
        driver: Box<dyn Driver>,
        folder: Folder,
        limits: Limits,
        confinement: Confinement,
        kept: Arc<Kept>,
        cleanup: &Cleanup,
    ) -> Self {
        let (id, removed, files) = (folder.id.clone(), Mutex::new(false), AtomicU64::new(0));
        let folder = Mutex::new(Some(folder));
        let inner =
            Arc::new(Inner { id, runtime, driver, limits, confinement, removed, files, folder, _kept: kept });
        cleanup.register(Arc::downgrade(&inner) as Weak<dyn Removable>);
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
    pub fn start(&self) -> Result<(), ContainerError> {
        self.release()?;
        self.inner.driver.wait_executed()
    }

    /// Lets it run and waits for nothing, for a caller that looks for the first answer already. (A daemon's
    /// client is waited for.)
    ///
    /// # Errors
    /// When the runtime refuses.
    pub fn release(&self) -> Result<(), ContainerError> {
        self.inner.driver.release()
    }

    /// Points in its life so far.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.inner.driver.clock()
    }

    /// Its first process, as numbered on this host; none before its start with a daemon, or where the daemon
    /// runs in a virtual machine.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        self.inner.driver.pid()
    }

    /// The TCP ports on which processes in its network listen; none where its first process is not seen.
    #[must_use]
    pub fn listening(&self) -> Option<BTreeSet<u16>> {
        listening::ports(self.pid()?)
    }

    /// The kernel's counters up to now. They can be read after the container's end too, until it is removed
    /// (with a daemon: until its end).
    ///
    /// # Errors
    /// When there is no cgroup to be seen.
    pub fn counters(&self) -> Result<Counters, ContainerError> {
        let counters = self.inner.driver.counters().ok_or_else(|| Counters::missing(self.inner.runtime))?;
        self.inner.files.fetch_max(counters.memory_shmem.unwrap_or(0), Ordering::Relaxed);
        Ok(counters)
    }

    /// The most bytes of files in memory (tmpfs, `/dev/shm`) that any reading of the counters found. The kernel frees them
    /// with the container's last process, so that they cannot be read after its end.
    pub fn files_in_memory(&self) -> u64 {
        let _ = self.counters();
        self.inner.files.load(Ordering::Relaxed)
    }

    /// The memory that its processes map now.
    ///
    /// # Errors
    /// When none of its processes can be looked at, as where a daemon runs them in a virtual machine.
    pub fn process_memory(&self) -> Result<ProcessMemory, ContainerError> {
        ProcessMemory::of(&self.inner.driver.processes()).ok_or_else(|| {
            let runtime = self.inner.runtime;
            let message = format!("the memory of the processes of a container of {runtime} cannot be read");
            ContainerError::new(message)
                .with_hint("it takes Linux 4.14, and root where root runs the container")
        })
    }

    /// How many of its processes the kernel has killed for want of memory, as far as can be seen: where only a
    /// daemon reports kills, whether there was one. A daemon does not always do so after the end; what was read
    /// before it is remembered.
    pub fn oom_kills(&self) -> u64 {
        self.inner.driver.oom_kills()
    }

    /// The memory that it may use, in bytes, if that is limited.
    #[must_use]
    pub fn memory_limit(&self) -> Option<u64> {
        self.inner.limits.memory
    }

    /// How it is confined.
    #[must_use]
    pub fn confinement(&self) -> &Confinement {
        &self.inner.confinement
    }

    /// Whether what it writes into its root is kept in memory, and counts as its own, because no file system of this
    /// host can hold it.
    #[must_use]
    pub fn writes_to_memory(&self) -> bool {
        self.inner.driver.writes_to_memory()
    }

    /// What helps a server that has ended, going by its last words; none where they are not understood.
    #[must_use]
    pub fn advice(&self, output: &str) -> Option<String> {
        let of_program = self.inner.driver.explain(output);
        of_program.or_else(|| advice::on(output, &self.inner.confinement))
    }

    /// The limits in force, as the kernel has them, or as the daemon says where the kernel's files cannot be
    /// seen ([`super::Runtime::limits_are_the_daemons_word`]).
    ///
    /// # Errors
    /// When neither can be asked.
    pub fn limits_in_force(&self) -> Result<Limits, ContainerError> {
        self.inner.driver.limits()
    }

    /// Where a port of it is reached. An address on the loopback of this host is given only where it is the
    /// container's: a published port, or the network that it was asked to share with this host.
    ///
    /// # Errors
    /// When the port is not published and the container's network cannot be entered, as before the start of a
    /// daemon's container and after its end.
    pub fn endpoint(&self, port: u16) -> Result<Endpoint, ContainerError> {
        let unreachable = |reason: &str| {
            let runtime = self.inner.runtime;
            let error = ContainerError::new(format_args!(
                "port {port} of the container of {runtime} cannot be reached: {reason}"
            ));
            error.with_hint(format!(
                "see whether `{runtime} run --publish 127.0.0.1::{port} …` works, or run as root where {runtime} runs its containers"
            ))
        };
        if let Some(address) = self.inner.driver.published(port).map_err(unreachable)? {
            return Ok(Endpoint { address, network_namespace: None });
        }
        let process = self.pid().ok_or_else(|| unreachable("the container has no process"))?;
        let network_namespace = Some(PathBuf::from(format!("/proc/{process}/ns/net")));
        Ok(Endpoint { address: (Ipv4Addr::LOCALHOST, port).into(), network_namespace })
    }

    /// Whether [`Self::endpoint`] is known only once it runs: a daemon shows no process and publishes no port
    /// before.
    #[must_use]
    pub fn is_reached_late(&self) -> bool {
        self.inner.driver.is_reached_late()
    }

    /// Sends a signal (signal(7)) to its first process.
    ///
    /// # Errors
    /// When the runtime cannot.
    pub fn signal(&self, number: i32) -> Result<(), ContainerError> {
        self.inner.driver.signal(number)
    }

    /// Waits for its end; none when it has not ended in time.
    ///
    /// # Errors
    /// When the runtime is gone.
    pub fn wait(&self, timeout: Duration) -> Result<Option<Exit>, ContainerError> {
        self.inner.driver.wait(timeout)
    }

    /// Copies what it prints on stdout and stderr to `follower`: what it printed since its start, as far as that is
    /// kept, and what it prints from now on. The handle, where there is one, ends with the container's output.
    ///
    /// # Errors
    /// When the daemon's client cannot be run.
    pub fn follow_output(&self, follower: Follower) -> Result<Option<JoinHandle<()>>, ContainerError> {
        self.inner.driver.follow(follower)
    }

    /// The end of the container's output on stdout and stderr.
    #[must_use]
    pub fn output_tail(&self) -> String {
        self.inner.driver.output()
    }

    /// Kills it and removes all that belongs to it.
    ///
    /// # Errors
    /// When something stays; the next runtime that is opened removes it.
    pub fn remove(self) -> Result<(), ContainerError> {
        self.inner.remove()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.inner.remove_now();
    }
}

impl Inner {
    fn remove(&self) -> Result<(), ContainerError> {
        let mut removed = self.removed.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut *removed, true) {
            return Ok(());
        }
        let result = self.driver.remove();
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
        // The error is for callers of `Container::remove`.
        let _ = self.remove();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_differs_from_that_of_another_process() {
        let shown = |code, signal, oom_killed| Exit { code, signal, oom_killed }.to_string();
        let another = ", and the kernel had killed another process of it for want of memory";
        let of_its_own = "it used more memory than its limit and was killed by the kernel";
        assert_eq!(shown(None, Some(9), true), of_its_own);
        assert_eq!(shown(None, Some(9), false), "signal 9 ended it");
        assert_eq!(shown(None, Some(6), true), format!("signal 6 ended it{another}"));
        assert_eq!(shown(Some(2), None, false), "it ended with exit code 2");
        assert_eq!(shown(Some(2), None, true), format!("it ended with exit code 2{another}"));
        assert_eq!(shown(None, None, false), "it ended");
    }
}
