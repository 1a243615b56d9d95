//! The start-up pass: when a container's server did what for the first time, beside what the runtime needs for any
//! container.
//!
//! Every start is watched by a prober on another CPU, in the container's own network namespace, from before
//! the container is let run. The runtime baseline, an image whose program only exits, is started in turn with it on
//! the same path, so that both see the same host.

pub mod doubts;
pub mod probe;
pub mod rows;
pub mod runtime_baseline;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use tare_container::target::Target;
use tare_container::{Container, Counters};
use tare_load::host;

use super::definition::StartupOptions;
use super::measurement::Measurement;
use super::subject::{self, PassError, Subject};
use probe::{Observed, ProbeError, probe};
use rows::{Cache, Run};

/// How long to wait for the program of the runtime baseline, which ends at once.
const BASELINE_PATIENCE: Duration = Duration::from_secs(10);

/// All starts of the pass.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Starts {
    /// With the image's files in memory.
    pub warm: Series,
    /// With the image's files dropped from memory.
    pub cold: Series,
    /// Processes of the server that the kernel killed for want of memory, in all of its starts.
    pub oom_kills: u64,
    /// The most bytes of files in its memory in any start.
    pub files: u64,
    /// The type of the file system that the image's files lie on, if it is memory: none of its starts is cold.
    pub in_memory: Option<&'static str>,
    /// Where the server answered.
    pub address: Option<SocketAddr>,
}

/// Starts with one state of the page cache.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Series {
    /// Of the server.
    pub runs: Vec<Run>,
    /// Of the runtime baseline, in turn with those: nanoseconds from before the container was created until its program
    /// ran, or had ended.
    pub baseline: Vec<u64>,
    /// Nanoseconds of CPU time of the same containers.
    pub baseline_cpu: Vec<u64>,
}

impl Starts {
    /// The figures, without doubts.
    #[must_use]
    pub fn measurements(&self) -> Vec<Measurement> {
        let mut rows = rows::measurements(Cache::Warm, &self.warm);
        rows.extend(rows::measurements(Cache::Cold, &self.cold));
        rows
    }
}

/// Starts the server, and the image of the runtime baseline where there is one, as often as the options say. The pages of
/// the unpacked images at `roots` are dropped before cold starts; where a daemon keeps them there are no cold starts. `watch`
/// is called with the nanoseconds to ready of every start of the server.
///
/// # Errors
/// When a container cannot be had, or the server does not become ready.
pub fn run(
    subject: &Subject<'_>,
    baseline: Option<&Target>,
    roots: &[PathBuf],
    options: &StartupOptions,
    mut watch: impl FnMut(u64),
) -> Result<Starts, PassError> {
    let in_memory = roots.iter().find_map(|root| memory_file_system(root));
    let mut starts = Starts { in_memory, ..Starts::default() };
    // The first brings the files into memory, and is not counted. Whether it ends when it is asked to is: as
    // process 1 of a container a program without a handler ignores SIGTERM (pid_namespaces(7)), and one that was
    // waited for once is not waited for again.
    let (first, address) = start(subject, true)?;
    starts.address = Some(address);
    let mut ends = first.stop.is_some();
    (starts.oom_kills, starts.files) = (first.oom_kills, first.files);
    for cache in [Cache::Warm, Cache::Cold] {
        let (count, series) = match cache {
            Cache::Warm => (options.runs, &mut starts.warm),
            Cache::Cold if roots.is_empty() => continue,
            Cache::Cold => (options.cold_runs, &mut starts.cold),
        };
        for _ in 0..count {
            // How long it takes the kernel to put a process into a cgroup depends on how long ago it did that
            // before (rcu_sync, kernel/rcu/sync.c). So one start of the baseline comes before each that counts.
            if let Some(baseline) = baseline {
                start_baseline(subject, baseline)?;
            }
            if cache == Cache::Cold {
                roots.iter().for_each(|root| drop_pages(root));
            }
            if let Some(baseline) = baseline {
                let (time, cpu) = start_baseline(subject, baseline)?;
                series.baseline.push(time);
                series.baseline_cpu.extend(cpu);
            }
            let (run, _) = start(subject, ends)?;
            ends = run.stop.is_some();
            starts.oom_kills += run.oom_kills;
            starts.files = starts.files.max(run.files);
            watch(run.observed.ready.saturating_sub(run.begun));
            series.runs.push(run);
        }
    }
    Ok(starts)
}

/// One start of the server, until it has ended again: by itself if it does, or killed.
fn start(subject: &Subject<'_>, ends: bool) -> Result<(Run, SocketAddr), PassError> {
    let container = subject.create()?;
    let (observed, address) = watched_start(subject, &container)?;
    let counters = container.counters().ok();
    let clock = container.clock();
    container.oom_kills();
    let stop = if ends { subject::stop(&container)? } else { None };
    let oom_kills = container.oom_kills();
    container.remove()?;
    let run = Run {
        begun: clock.begun,
        created: clock.created,
        started: clock.started.unwrap_or(clock.created),
        executed: clock.executed,
        observed,
        cpu: counters.and_then(|it| it.cpu_usage),
        memory: counters.and_then(|it| it.memory),
        stop,
        oom_kills,
        files: counters.and_then(|it| it.memory_shmem).unwrap_or(0),
    };
    Ok((run, address))
}

/// Lets a container run while a thread of its own, in the container's network, asks until it answers. Says when, and from
/// which address.
///
/// # Errors
/// When it does not answer.
pub fn watched_start(
    subject: &Subject<'_>,
    container: &Container,
) -> Result<(Observed, SocketAddr), PassError> {
    let late = container.is_reached_late();
    if late {
        container.release()?;
    }
    let port = subject.port();
    let endpoint = match container.endpoint(port.number) {
        Ok(endpoint) => endpoint,
        // A daemon's container that has ended already has neither a process nor a published port.
        Err(error) => return Err(subject::ended(container)?.unwrap_or_else(|| error.into())),
    };
    let readiness = subject.readiness(&endpoint);
    let (prepared, wait) = mpsc::channel();
    let observed = std::thread::scope(|scope| {
        let prober = scope.spawn(|| {
            let placed =
                host::pin(&subject.placement.generator).and_then(|()| match &endpoint.network_namespace {
                    Some(path) => host::join_network_namespace(path),
                    None => Ok(()),
                });
            // This very function waits.
            let _ = prepared.send(());
            match placed {
                Ok(()) => Ok(probe(&readiness, || container.clock().exited.is_some())),
                Err(error) => Err(error),
            }
        });
        let _ = wait.recv();
        let released = if late { Ok(()) } else { container.release() };
        let result = prober.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        released.map(|()| result)
    })?;
    match observed {
        Ok(Ok(observed)) => Ok(observed),
        Ok(Err(source)) => {
            // A program that could not be run at all is the runtime's to explain.
            if matches!(source, ProbeError::Ended) && container.clock().executed.is_none() {
                container.start()?;
            }
            Err(subject::why_not_ready(container, &port, source)?)
        }
        // The network namespace of a server that has ended cannot be joined.
        Err(source) => Err(subject::ended(container)?.unwrap_or_else(|| source.into())),
    }
}

/// Nanoseconds from before the container of the runtime baseline is created until its program runs, which has nothing to
/// do; until it has ended where the runtime does not let that be seen. The end takes the kernel milliseconds for the
/// namespaces alone, which are no part of a start. And the CPU time of the container, where it can be read.
fn start_baseline(subject: &Subject<'_>, baseline: &Target) -> Result<(u64, Option<u64>), PassError> {
    let spec = tare_container::spec::ContainerSpec { args: None, env: Vec::new(), ..subject.spec.clone() };
    let container = subject.runtime.create(baseline, &spec)?;
    container.release()?;
    let exit = container.wait(BASELINE_PATIENCE)?;
    let clock = container.clock();
    match (exit, clock.executed.or(clock.exited)) {
        (Some(_), Some(done)) => {
            let cpu = container.counters().ok().and_then(|counters| counters.cpu_usage);
            container.remove()?;
            Ok((done.saturating_sub(clock.begun), cpu))
        }
        _ => Err(PassError::Runtime(Counters::missing(subject.runtime.kind()))),
    }
}

/// The type of the file system that holds a folder, if that is memory (statfs(2)).
fn memory_file_system(folder: &Path) -> Option<&'static str> {
    #[cfg(target_os = "linux")]
    {
        match rustix::fs::statfs(folder).ok()?.f_type {
            0x0102_1994 => Some("tmpfs"),
            0x8584_58f6 => Some("ramfs"),
            _ => None,
        }
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = folder;
        None
    }
}

/// Drops a folder's files from the page cache (posix_fadvise(2)); what cannot be opened stays.
fn drop_pages(folder: &Path) {
    #[cfg(target_os = "linux")]
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => drop_pages(&entry.path()),
            Ok(kind) if kind.is_file() => {
                if let Ok(file) = tare_oci::input::open(&entry.path()) {
                    // Dirty pages are kept, and these files were written long ago.
                    let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
                }
            }
            _ => {}
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = folder;
}
