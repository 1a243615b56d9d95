//! What can be wrong with a value, wherever it is written: in a profile or on the command line.

use tare_oci::units::{ByteSize, Nanoseconds};
use tare_report::limits::{CpuLimit, MEMORY_LEAST, PERIOD_MOST, QUOTA_LEAST};

use super::values::Load;

pub(super) fn with_quota(limit: CpuLimit) -> Option<String> {
    let shown = |micros: u64| Nanoseconds(micros.saturating_mul(1_000));
    if !(QUOTA_LEAST..=PERIOD_MOST).contains(&limit.period) {
        return Some(format!("a period of {} is not between 1ms and 1s", shown(limit.period)));
    }
    (limit.quota < QUOTA_LEAST).then(|| {
        format!(
            "a quota of {} in {} is below 1ms, the least that the kernel takes",
            shown(limit.quota),
            shown(limit.period)
        )
    })
}

pub(super) fn with_memory(memory: ByteSize) -> Option<String> {
    (memory.0 < MEMORY_LEAST).then(|| format!("no container starts in {} of memory", memory.exact()))
}

pub(super) fn with_runs(runs: u32) -> Option<String> {
    (!(1..=10_000).contains(&runs)).then(|| format!("{runs} runs are not between 1 and 10000"))
}

pub(super) fn with_connections(connections: u32) -> Option<String> {
    // One address has 64 K ports.
    (!(1..=60_000).contains(&connections))
        .then(|| format!("{connections} connections are not between 1 and 60000"))
}

pub(super) fn with_duration(duration: Nanoseconds) -> Option<String> {
    (!(100_000_000..=3_600_000_000_000).contains(&duration.0))
        .then(|| format!("{duration} is not between 100ms and 1h"))
}

pub(super) fn with_loads(loads: &[Load]) -> Option<String> {
    if loads.is_empty() {
        return Some("a throughput pass without loads measures nothing".to_owned());
    }
    for (at, load) in loads.iter().enumerate() {
        if loads[..at].contains(load) {
            return Some(format!("`{load}` stands twice"));
        }
        if matches!(load, Load::Share(_)) && !loads[..at].contains(&Load::Closed) {
            return Some(format!("`{load}` is a share of what `closed` finds: put `closed` before it"));
        }
    }
    None
}
