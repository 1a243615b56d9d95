//! How workers are started and stopped.
//!
//! Stopping has three steps, so that no request is lost: no new handshake begins, while those under way and
//! what waits to be accepted is served, and answers carry `Connection: close`; after a while idle connections
//! are closed; at the deadline the rest are cut off.

use std::future::Future;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;

use tokio::sync::oneshot;

use crate::accept;
use crate::engine::{Engine, Phase};
use crate::handler::Handler;
use crate::worker::Worker;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    /// Connections that were cut off because they had not finished at the deadline.
    pub cut_off: usize,
}

impl Engine {
    /// Serves the connections of the listeners until `shutdown` is ready, then finishes those in progress.
    ///
    /// Worker number n takes listener number n; where there are fewer listeners, some are shared. The first
    /// worker runs on the caller's runtime, which has to be one of a single thread with i/o and time
    /// switched on; the others have threads and runtimes of their own. Run it once, and to its end.
    ///
    /// # Errors
    /// When there is no listener, or a thread or runtime cannot be had.
    pub async fn run<H: Handler>(
        self: Arc<Self>,
        handler: Arc<H>,
        listeners: Vec<TcpListener>,
        shutdown: impl Future<Output = ()>,
    ) -> io::Result<Stopped> {
        let mut places = Vec::new();
        for number in 0..self.sizes.workers {
            let at = number.checked_rem(listeners.len()).ok_or(io::ErrorKind::InvalidInput)?;
            let listener = if number < listeners.len() { None } else { Some(listeners[at].try_clone()?) };
            places.push(listener);
        }
        let mut given = listeners.into_iter();
        let mut places = places.into_iter().map(|shared| shared.or_else(|| given.next()));

        let first = places.next().flatten().ok_or(io::ErrorKind::InvalidInput)?;
        let worker = Worker::new(Arc::clone(&self), 0);
        let first = tokio::spawn(accept::run(worker, Arc::clone(&handler), first));
        // Who is there already is answered before the time goes into starting the others.
        tokio::task::yield_now().await;
        let mut ends = Vec::new();
        for (number, listener) in (1..).zip(places) {
            let listener = listener.ok_or(io::ErrorKind::InvalidInput)?;
            ends.push(self.start_worker(number, Arc::clone(&handler), listener)?);
        }
        pin_to(self.sizes.pinned.first().copied());

        shutdown.await;
        self.enter(Phase::Draining);
        let mut cut_off = first.await.map_err(io::Error::other)??;
        for end in ends {
            cut_off += end.await.map_err(io::Error::other)??;
        }
        Ok(Stopped { cut_off })
    }

    fn start_worker<H: Handler>(
        self: &Arc<Self>,
        number: usize,
        handler: Arc<H>,
        listener: TcpListener,
    ) -> io::Result<oneshot::Receiver<io::Result<usize>>> {
        let (end, ended) = oneshot::channel();
        let engine = Arc::clone(self);
        thread::Builder::new().name(format!("worker-{number}")).stack_size(self.sizes.stack_size).spawn(
            move || {
                pin_to(engine.sizes.pinned.get(number).copied());
                let worker = Worker::new(engine, number);
                let result =
                    runtime().and_then(|runtime| runtime.block_on(accept::run(worker, handler, listener)));
                // Nobody is left to be told when the caller has gone.
                let _ = end.send(result);
            },
        )?;
        Ok(ended)
    }
}

/// A runtime as [`Engine::run`] needs it.
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
