//! What all workers share: sizes, settings, phase and counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use tokio::sync::watch;

use crate::counters::{self, Counters, Totals};
use crate::settings::{Live, Settings};

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

/// How large everything is made, once and for all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sizes {
    /// Threads that serve connections, each with a listener, an event loop and buffers of its own; not 0.
    pub workers: usize,
    /// The CPU of each worker; empty when the kernel places them.
    pub pinned: Vec<u32>,
    /// Bytes of stack for each worker but the first, which has the caller's.
    pub stack_size: usize,
    /// Connections at a time. One more is answered 503.
    pub connections: usize,
    /// Bytes of memory for what clients have sent and are sent. Beyond it they are answered 503.
    pub memory: u64,
    /// Connections that may wait to be accepted, for each listener that does not listen yet.
    pub backlog: u32,
}

/// An engine: made before it runs, so that the handler can hold it.
#[derive(Debug)]
pub struct Engine {
    pub(crate) sizes: Sizes,
    pub(crate) live: Live,
    /// Open connections of all workers.
    pub(crate) connections: AtomicUsize,
    /// Each written by its own worker only.
    pub(crate) counters: Vec<Arc<Counters>>,
    phase: AtomicU8,
    accepting: AtomicUsize,
    phases: watch::Sender<Phase>,
}

impl Engine {
    /// An engine that does not run yet.
    #[must_use]
    pub fn new(sizes: Sizes, settings: &Settings) -> Arc<Self> {
        let live = Live::default();
        live.set(settings);
        Arc::new(Self {
            live,
            connections: AtomicUsize::new(0),
            counters: (0..sizes.workers).map(|_| Arc::default()).collect(),
            phase: AtomicU8::new(0),
            accepting: AtomicUsize::new(0),
            phases: watch::Sender::new(Phase::Starting),
            sizes,
        })
    }

    /// Takes over other settings, from the next wait and the next request on.
    pub fn set(&self, settings: &Settings) {
        self.live.set(settings);
    }

    /// What it is doing.
    #[must_use]
    pub fn phase(&self) -> Phase {
        Phase::from_number(self.phase.load(Ordering::Relaxed))
    }

    /// Connections that are open.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// What has been counted.
    #[must_use]
    pub fn totals(&self) -> Totals {
        counters::totals(&self.counters)
    }

    pub(crate) fn enter(&self, phase: Phase) {
        // A worker that is late must not take a stop back.
        if self.phase.fetch_max(phase as u8, Ordering::Relaxed) < phase as u8 {
            self.phases.send_replace(phase);
        }
    }

    pub(crate) fn phases(&self) -> watch::Receiver<Phase> {
        self.phases.subscribe()
    }

    /// Called by each worker when it begins to accept.
    pub(crate) fn accepts(&self) {
        if self.accepting.fetch_add(1, Ordering::Relaxed) + 1 == self.sizes.workers {
            self.enter(Phase::Serving);
        }
    }
}
