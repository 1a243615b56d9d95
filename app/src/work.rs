//! What `/spin` and `/alloc` do: burn CPU time and touch memory, a little at a time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Memory that is being touched, counted against the budget while it is held.
pub(crate) struct Allocation<'a> {
    /// Bytes that all allocations hold.
    held: &'a AtomicU64,
    blocks: Vec<Vec<u8>>,
    bytes: u64,
}

/// How much is touched between two looks at other connections: a millisecond or two.
const BLOCK: usize = 4 << 20;
/// The pages of the machines this runs on are of this size or a multiple.
const PAGE: usize = 4096;

impl<'a> Allocation<'a> {
    /// None when the budget does not allow it.
    pub(crate) fn reserve(held: &'a AtomicU64, budget: u64, bytes: u64) -> Option<Self> {
        let before = held.fetch_add(bytes, Ordering::Relaxed);
        let allocation = Self { held, blocks: Vec::new(), bytes };
        let total = before.checked_add(bytes)?;
        // The other way out gives the reservation back too.
        (total <= budget).then_some(allocation)
    }

    /// Touches some more of it; false when all has been.
    pub(crate) fn grow(&mut self) -> bool {
        let touched: u64 = self.blocks.iter().map(|block| block.len() as u64).sum();
        let length = usize::try_from(self.bytes - touched).unwrap_or(BLOCK).min(BLOCK);
        if length == 0 {
            return false;
        }
        let mut block = vec![0; length];
        for at in (0..length).step_by(PAGE) {
            block[at] = 1;
        }
        // Or the compiler may see that nobody reads it.
        self.blocks.push(std::hint::black_box(block));
        true
    }
}

impl Drop for Allocation<'_> {
    fn drop(&mut self) {
        self.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// How long CPU time is burnt between two looks at other connections.
const SLICE: Duration = Duration::from_millis(1);

/// Burns CPU time of this thread: at most a slice of what is `left`, and returns what remains.
pub(crate) fn spin(left: Duration) -> Duration {
    let wanted = left.min(SLICE);
    let start = cpu_time();
    loop {
        let burnt = cpu_time().saturating_sub(start);
        if burnt >= wanted {
            return left.saturating_sub(burnt);
        }
        std::hint::spin_loop();
    }
}

/// CPU time of this thread, so that what a quota takes away does not count as burnt.
#[cfg(target_os = "linux")]
fn cpu_time() -> Duration {
    use rustix::time::{ClockId, clock_gettime};

    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// Elsewhere the time that passes, counted from the first call.
#[cfg(not(target_os = "linux"))]
fn cpu_time() -> Duration {
    use std::sync::OnceLock;
    use std::time::Instant;

    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spinning_burns_what_was_asked_for() {
        let start = cpu_time();
        let mut left = Duration::from_millis(3);
        while !left.is_zero() {
            left = spin(left);
        }
        assert!(cpu_time() - start >= Duration::from_millis(3));
    }
}
