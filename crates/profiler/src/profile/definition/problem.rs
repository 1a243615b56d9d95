//! What can be wrong with a value, wherever it is written: in a profile or on the command line.

use tare_oci::units::{ByteSize, Nanoseconds};

use super::CpuQuota;
use super::values::Load;

/// The shortest quota and period that the kernel takes (`min_cfs_quota_period`, kernel/sched/core.c).
const SHORTEST_QUOTA: u64 = 1_000_000;
/// The longest period that the kernel takes (`max_cfs_quota_period`, kernel/sched/core.c).
const LONGEST_PERIOD: u64 = 1_000_000_000;
/// The least memory in which any container was seen to start (crun's README, with `--memory 512k`).
const LEAST_MEMORY: u64 = 512 << 10;

pub(super) fn with_quota(quota: CpuQuota) -> Option<String> {
    if !(SHORTEST_QUOTA..=LONGEST_PERIOD).contains(&quota.period) {
        return Some(format!("a period of {} is not between 1ms and 1s", Nanoseconds(quota.period)));
    }
    (quota.quota < SHORTEST_QUOTA).then(|| {
        format!(
            "a quota of {} in {} is below 1ms, the least that the kernel takes",
            Nanoseconds(quota.quota),
            Nanoseconds(quota.period)
        )
    })
}

pub(super) fn with_memory(memory: ByteSize) -> Option<String> {
    (memory.0 < LEAST_MEMORY).then(|| format!("no container starts in {} of memory", memory.exact()))
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
