//! What a process costs: time, processor time and its largest memory, read from `/proc`.
//!
//! Of the process alone: that it calls git and cargo is their memory, not its.

use std::fs;
use std::time::{Duration, Instant};

use tare_tool::process::{ProcessError, Running};

/// What one run cost.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    pub(super) wall: Duration,
    /// User and system together. 0 if it could not be read.
    pub(super) processor: Duration,
    /// Largest resident set (`VmHWM`) in bytes, as last seen before the process ended: it only ever
    /// grows, so what is missed is the growth of the last [`PAUSE`].
    pub(super) peak: u64,
}

/// Between two looks at the process.
const PAUSE: Duration = Duration::from_millis(2);

/// `USER_HZ`, the unit of times in `/proc/PID/stat`: 100 on every architecture we build for
/// (proc_pid_stat(5)).
const TICKS_PER_SECOND: u64 = 100;

/// Watches a program that was just started until it ends.
pub(super) fn watch(running: Running, started: Instant) -> Result<Usage, ProcessError> {
    let dir = format!("/proc/{}", running.id());
    let mut usage = Usage { wall: Duration::ZERO, processor: Duration::ZERO, peak: 0 };
    // A process that has ended stays readable until it is waited for, but without its memory.
    while let Some(stat) = fs::read_to_string(format!("{dir}/stat")).ok().as_deref().and_then(parse_stat) {
        usage.processor = stat.processor;
        if stat.ended {
            break;
        }
        let status = fs::read_to_string(format!("{dir}/status")).unwrap_or_default();
        usage.peak = usage.peak.max(parse_peak(&status).unwrap_or_default());
        std::thread::sleep(PAUSE);
    }
    running.wait()?;
    usage.wall = started.elapsed();
    Ok(usage)
}

#[derive(Debug, PartialEq, Eq)]
struct Stat {
    ended: bool,
    processor: Duration,
}

/// `/proc/PID/stat`: the name in brackets may hold anything, so fields are counted behind the last one.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, fields) = text.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    // state is field 3, utime 14 and stime 15.
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    let processor = Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND);
    Some(Stat { ended: matches!(*fields.first()?, "Z" | "X"), processor })
}

/// `VmHWM` of `/proc/PID/status`, in bytes.
fn parse_peak(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_state_are_read_behind_a_name_that_looks_like_fields() {
        let stat = "4711 (a) S 1) Z 1 4711 4711 0 -1 4194304 500 0 0 0 123 45 6 7 20 0 3 0 100 0 0";
        let expected = Stat { ended: true, processor: Duration::from_millis(1680) };
        assert_eq!(parse_stat(stat), Some(expected));
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn the_peak_is_in_bytes_and_absent_once_the_process_has_ended() {
        assert_eq!(parse_peak("Name:\tx\nVmHWM:\t   12345 kB\nVmRSS:\t 1 kB\n"), Some(12_641_280));
        assert_eq!(parse_peak("Name:\tx\nState:\tZ (zombie)\n"), None);
    }
}
