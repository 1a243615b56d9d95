//! What can be set while the engine runs.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// How long a client may take, and how much it may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How long a client may take to send the head of a request, from its first byte, or from the start of
    /// the connection for the first one.
    pub header_timeout: Duration,
    /// How long it may take for the first KiB of a body; each further one gives it a second more.
    pub body_timeout: Duration,
    /// The same for reading an answer.
    pub write_timeout: Duration,
    /// How long a connection may stay open without a request.
    pub idle_timeout: Duration,
    /// Once told to stop, how long a connection stays open for a request that may already be on its way.
    pub linger: Duration,
    /// Once told to stop, how long all of it may take.
    pub stop_deadline: Duration,
    /// Bytes of a request's head: at most 16 KiB, which is what a connection reads into.
    pub head_limit: usize,
    /// Bytes of a request's body.
    pub body_limit: u64,
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
    pub(crate) fn set(&self, settings: &Settings) {
        for (place, duration) in [
            (&self.header_timeout, settings.header_timeout),
            (&self.body_timeout, settings.body_timeout),
            (&self.write_timeout, settings.write_timeout),
            (&self.idle_timeout, settings.idle_timeout),
            (&self.linger, settings.linger),
            (&self.stop_deadline, settings.stop_deadline),
        ] {
            place.store(millis(duration), Ordering::Relaxed);
        }
        self.head_limit.store(settings.head_limit, Ordering::Relaxed);
        self.body_limit.store(settings.body_limit, Ordering::Relaxed);
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
