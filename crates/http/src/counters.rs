//! What is counted.
//!
//! Each worker counts for itself, and a counter is written by one thread only: counting is a load and a
//! store, with no lock and no cache line that two cores want.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The statuses of which answers are counted.
pub const STATUSES: [u16; 13] = [200, 304, 400, 404, 405, 408, 413, 414, 417, 431, 501, 503, 505];

/// A number that one thread adds to and others read.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        // Nobody else writes it, so nothing is lost between the two.
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one worker counts. Two workers never share a cache line, nor the pair that is fetched at once.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Counters {
    answers: [Counter; STATUSES.len()],
    pub(crate) accepted: Counter,
    pub(crate) refused: Counter,
    pub(crate) accept_errors: Counter,
    pub(crate) received: Counter,
    pub(crate) sent: Counter,
}

impl Counters {
    #[inline]
    pub(crate) fn answered(&self, status: u16) {
        if let Some(at) = STATUSES.iter().position(|known| *known == status) {
            self.answers[at].add(1);
        }
    }
}

/// What all workers have counted since the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Totals {
    /// Requests answered, by status.
    pub answers: [(u16, u64); STATUSES.len()],
    /// Connections accepted.
    pub accepted: u64,
    /// Connections answered 503 because there were too many.
    pub refused: u64,
    /// Times that a connection could not be accepted.
    pub accept_errors: u64,
    /// Bytes of requests.
    pub received: u64,
    /// Bytes of answers.
    pub sent: u64,
}

/// The sums over all workers.
pub(crate) fn totals(workers: &[Arc<Counters>]) -> Totals {
    let sum = |of: &dyn Fn(&Counters) -> &Counter| workers.iter().map(|it| of(it).get()).sum::<u64>();
    let mut answers = STATUSES.map(|status| (status, 0));
    for (at, (_, count)) in answers.iter_mut().enumerate() {
        *count = sum(&|it| &it.answers[at]);
    }
    Totals {
        answers,
        accepted: sum(&|it| &it.accepted),
        refused: sum(&|it| &it.refused),
        accept_errors: sum(&|it| &it.accept_errors),
        received: sum(&|it| &it.received),
        sent: sum(&|it| &it.sent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_sums_over_all_workers() {
        let workers = [Arc::<Counters>::default(), Arc::default()];
        for counters in &workers {
            counters.answered(200);
            counters.sent.add(7);
        }
        workers[1].answered(404);
        // What no worker answers is not counted.
        workers[1].answered(999);
        let answers = STATUSES.map(|status| {
            (
                status,
                match status {
                    200 => 2,
                    404 => 1,
                    _ => 0,
                },
            )
        });
        let expected = Totals { answers, accepted: 0, refused: 0, accept_errors: 0, received: 0, sent: 14 };
        assert_eq!(totals(&workers), expected);
    }
}
