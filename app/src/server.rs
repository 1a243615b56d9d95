//! What all workers share, and how they are started and stopped.
//!
//! Stopping has three steps, so that no request is lost: no new handshake begins, while those under way and
//! what waits to be accepted is served, and answers carry `Connection: close`; after a while idle connections
//! are closed; at the deadline the rest are cut off.

use std::future::Future;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};

use crate::cache::Cache;
use crate::config::Config;
use crate::http1::Prepared;
use crate::limits::Limits;
use crate::log::Log;
use crate::metrics::Counters;
use crate::service;
use crate::sizing::{self, Sizing};
use crate::worker::Worker;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    /// Connections that were cut off because they had not finished at the deadline.
    pub cut_off: usize,
}

/// What the server is doing. It only ever moves forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Not every worker accepts yet.
    Starting,
    /// All do.
    Serving,
    /// Answer what comes, ask for the connections to be closed, and after a while close those that are idle.
    Draining,
}

impl Phase {
    fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Starting,
            1 => Self::Serving,
            _ => Self::Draining,
        }
    }
}

/// The settings that a running server takes over anew: read for every request, written on SIGHUP.
#[derive(Debug, Default)]
pub(crate) struct Live {
    header_timeout: AtomicU64,
    body_timeout: AtomicU64,
    write_timeout: AtomicU64,
    idle_timeout: AtomicU64,
    linger: AtomicU64,
    stop_deadline: AtomicU64,
    head_limit: AtomicUsize,
    body_limit: AtomicU64,
}

/// Milliseconds, which all waiting here is counted in.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Live {
    fn set(&self, config: &Config) {
        for (place, duration) in [
            (&self.header_timeout, config.header_timeout),
            (&self.body_timeout, config.body_timeout),
            (&self.write_timeout, config.write_timeout),
            (&self.idle_timeout, config.idle_timeout),
            (&self.linger, config.linger),
            (&self.stop_deadline, config.stop_deadline),
        ] {
            place.store(millis(duration), Ordering::Relaxed);
        }
        self.head_limit.store(config.head_limit, Ordering::Relaxed);
        self.body_limit.store(config.body_limit, Ordering::Relaxed);
    }

    pub(crate) fn header_timeout(&self) -> u64 {
        self.header_timeout.load(Ordering::Relaxed)
    }

    pub(crate) fn body_timeout(&self) -> u64 {
        self.body_timeout.load(Ordering::Relaxed)
    }

    pub(crate) fn write_timeout(&self) -> u64 {
        self.write_timeout.load(Ordering::Relaxed)
    }

    pub(crate) fn idle_timeout(&self) -> u64 {
        self.idle_timeout.load(Ordering::Relaxed)
    }

    pub(crate) fn linger(&self) -> Duration {
        Duration::from_millis(self.linger.load(Ordering::Relaxed))
    }

    pub(crate) fn stop_deadline(&self) -> Duration {
        Duration::from_millis(self.stop_deadline.load(Ordering::Relaxed))
    }

    pub(crate) fn head_limit(&self) -> usize {
        self.head_limit.load(Ordering::Relaxed)
    }

    pub(crate) fn body_limit(&self) -> u64 {
        self.body_limit.load(Ordering::Relaxed)
    }

    /// The shortest wait that a connection may be in.
    pub(crate) fn shortest(&self) -> u64 {
        let waits = [self.header_timeout(), self.body_timeout(), self.write_timeout(), self.idle_timeout()];
        waits.into_iter().min().unwrap_or_default()
    }
}

/// A server: what it was told, what it found and decided, and what it counts.
#[derive(Debug)]
pub struct Server {
    /// What it was told at the start.
    pub config: Config,
    /// What it found.
    pub limits: Limits,
    /// What it decided.
    pub sizing: Sizing,
    /// Where it logs.
    pub log: Log,
    pub(crate) live: Live,
    pub(crate) cache: Option<Cache>,
    pub(crate) prepared: [Prepared; service::Which::ALL.len()],
    pub(crate) started: Instant,
    /// Open connections of all workers.
    pub(crate) connections: AtomicUsize,
    /// Bytes that `/alloc` holds.
    pub(crate) allocated: AtomicU64,
    /// Each written by its own worker only.
    pub(crate) counters: Vec<Arc<Counters>>,
    phase: AtomicU8,
    accepting: AtomicUsize,
    phases: watch::Sender<Phase>,
}

impl Server {
    /// A server of these settings, in a container of these limits. `open_files` is how many files the
    /// process may have open.
    #[must_use]
    pub fn new(config: Config, limits: Limits, open_files: u64) -> Arc<Self> {
        let sizing = sizing::decide(&limits, &config, open_files);
        let log = Log::new(config.log, config.log_format);
        let live = Live::default();
        live.set(&config);
        let cache = config
            .files
            .clone()
            .map(|folder| Cache::new(folder, sizing.budget.cache, config.cache_fresh, config.cache_stale));
        Arc::new(Self {
            log,
            live,
            cache,
            prepared: service::prepare(),
            started: Instant::now(),
            connections: AtomicUsize::new(0),
            allocated: AtomicU64::new(0),
            counters: (0..sizing.workers).map(|_| Arc::default()).collect(),
            phase: AtomicU8::new(0),
            accepting: AtomicUsize::new(0),
            phases: watch::Sender::new(Phase::Starting),
            config,
            limits,
            sizing,
        })
    }

    /// What it is doing.
    #[must_use]
    pub fn phase(&self) -> Phase {
        Phase::from_number(self.phase.load(Ordering::Relaxed))
    }

    /// Takes over what can be changed while it runs.
    pub fn reload(&self, config: &Config) {
        self.live.set(config);
        self.log.set(config.log, config.log_format);
        if let Some(cache) = &self.cache {
            cache.set_times(config.cache_fresh, config.cache_stale);
        }
    }

    /// Whether the process holds more memory than its budget has.
    pub(crate) fn is_over_budget(&self) -> bool {
        crate::report::resident_bytes().is_some_and(|bytes| bytes > self.sizing.budget.total())
    }

    fn enter(&self, phase: Phase) {
        // A worker that is late must not take a stop back.
        if self.phase.fetch_max(phase as u8, Ordering::Relaxed) < phase as u8 {
            self.phases.send_replace(phase);
        }
    }

    /// Called by each worker when it begins to accept.
    pub(crate) fn accepts(&self) {
        if self.accepting.fetch_add(1, Ordering::Relaxed) + 1 == self.sizing.workers {
            self.enter(Phase::Serving);
        }
    }

    /// Serves the connections of the listeners until `shutdown` is ready, then finishes those in progress.
    ///
    /// Worker number n takes listener number n; where there are fewer listeners, some are shared. The first
    /// worker runs on the caller's runtime, which has to be one of a single thread with i/o and time
    /// switched on; the others have threads and runtimes of their own. Run it once, and to its end.
    ///
    /// # Errors
    /// When there is no listener, or a thread or runtime cannot be had.
    pub async fn run(
        self: Arc<Self>,
        listeners: Vec<TcpListener>,
        shutdown: impl Future<Output = ()>,
    ) -> io::Result<Stopped> {
        let mut places = Vec::new();
        for number in 0..self.sizing.workers {
            let at = number.checked_rem(listeners.len()).ok_or(io::ErrorKind::InvalidInput)?;
            let listener = if number < listeners.len() { None } else { Some(listeners[at].try_clone()?) };
            places.push(listener);
        }
        let mut given = listeners.into_iter();
        let mut places = places.into_iter().map(|shared| shared.or_else(|| given.next()));

        let first = places.next().flatten().ok_or(io::ErrorKind::InvalidInput)?;
        let worker = Worker::new(Arc::clone(&self), 0);
        let first = tokio::spawn(worker.run(first, self.phases.subscribe()));
        // Who is there already is answered before the time goes into starting the others.
        tokio::task::yield_now().await;
        let mut ends = Vec::new();
        for (number, listener) in (1..).zip(places) {
            let listener = listener.ok_or(io::ErrorKind::InvalidInput)?;
            ends.push(self.start_worker(number, listener)?);
        }
        pin_to(self.sizing.pinned.first().copied());

        shutdown.await;
        self.enter(Phase::Draining);
        let mut cut_off = first.await.map_err(io::Error::other)??;
        for end in ends {
            cut_off += end.await.map_err(io::Error::other)??;
        }
        Ok(Stopped { cut_off })
    }

    fn start_worker(
        self: &Arc<Self>,
        number: usize,
        listener: TcpListener,
    ) -> io::Result<oneshot::Receiver<io::Result<usize>>> {
        let (end, ended) = oneshot::channel();
        let phases = self.phases.subscribe();
        let server = Arc::clone(self);
        thread::Builder::new().name(format!("worker-{number}")).stack_size(self.sizing.stack_size).spawn(
            move || {
                pin_to(server.sizing.pinned.get(number).copied());
                let worker = Worker::new(server, number);
                let result = runtime().and_then(|runtime| runtime.block_on(worker.run(listener, phases)));
                // Nobody is left to be told when the caller has gone.
                let _ = end.send(result);
            },
        )?;
        Ok(ended)
    }
}

/// A runtime as [`Server::run`] needs it.
///
/// # Errors
/// When the system has no more files for it.
pub fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // Files for the cache are read one or two at a time, and compressed on the stack.
        .max_blocking_threads(2)
        .thread_stack_size(2 << 20)
        .build()
}

/// Serves on one listener, in the limits of this process: [`Server::new`] and [`Server::run`] at once.
///
/// # Errors
/// Those of [`Server::run`].
pub async fn run(
    listeners: Vec<TcpListener>,
    config: Config,
    shutdown: impl Future<Output = ()>,
) -> io::Result<Stopped> {
    let server = Server::new(config, crate::limits::of_this_process(), crate::listen::open_files());
    server.run(listeners, shutdown).await
}

#[cfg(target_os = "linux")]
fn pin_to(cpu: Option<u32>) {
    use rustix::thread::{CpuSet, sched_setaffinity};

    let Some(cpu) = cpu.and_then(|cpu| usize::try_from(cpu).ok()).filter(|cpu| *cpu < CpuSet::MAX_CPU) else {
        return;
    };
    let mut set = CpuSet::new();
    set.set(cpu);
    // The cpuset may have changed meanwhile; then the kernel places the worker as well as it can.
    let _ = sched_setaffinity(None, &set);
}

#[cfg(not(target_os = "linux"))]
fn pin_to(_cpu: Option<u32>) {}
