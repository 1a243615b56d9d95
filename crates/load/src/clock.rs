//! The clock of a profile: CLOCK_MONOTONIC. All processes of a host share it, so that times of different processes can be
//! subtracted.

/// Nanoseconds of CLOCK_MONOTONIC (clock_gettime(2)); elsewhere than on Unix since the first call.
#[must_use]
pub fn now() -> u64 {
    #[cfg(unix)]
    {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        // Neither is negative since the host started.
        time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
    }
    #[cfg(not(unix))]
    {
        static FIRST: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
        let first = FIRST.get_or_init(std::time::Instant::now);
        u64::try_from(first.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_forward_with_the_time() {
        let before = now();
        std::thread::sleep(std::time::Duration::from_millis(2));
        assert!(now() - before >= 2_000_000);
    }
}
