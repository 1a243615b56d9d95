//! What the container and this process use, as the kernel counts it.

use std::fs;

use crate::limits::groups::Version;
use crate::limits::{Groups, values};

/// What the container's groups count.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) throttled_periods: Option<u64>,
    pub(crate) throttled_millis: Option<u64>,
    /// Bytes of memory, with what the page cache holds.
    pub(crate) memory: Option<u64>,
}

/// Reads the counters; what is not there is none.
pub(crate) fn of_groups(groups: &Groups) -> Usage {
    let mut usage = Usage::default();
    if let Some(group) = &groups.cpu {
        let stat = fs::read_to_string(group.folder.join("cpu.stat")).unwrap_or_default();
        usage.throttled_periods = values::keyed(&stat, "nr_throttled");
        usage.throttled_millis = match group.version {
            Version::V1 => values::keyed(&stat, "throttled_time").map(|nanos| nanos / 1_000_000),
            Version::V2 => values::keyed(&stat, "throttled_usec").map(|micros| micros / 1_000),
        };
    }
    if let Some(group) = &groups.memory {
        let file = match group.version {
            Version::V1 => "memory.usage_in_bytes",
            Version::V2 => "memory.current",
        };
        let text = fs::read_to_string(group.folder.join(file)).ok();
        usage.memory = text.and_then(|text| values::max_or_number(&text).ok()?);
    }
    usage
}

/// Resident memory of this process: `VmRSS` of `/proc/self/status`, in bytes.
pub(crate) fn resident_bytes() -> Option<u64> {
    resident(&fs::read_to_string("/proc/self/status").ok()?)
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim_ascii().strip_suffix(" kB")?.trim_ascii().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_in_bytes() {
        assert_eq!(resident("Name:\tapp\nVmRSS:\t     788 kB\n"), Some(806_912));
        assert_eq!(resident("Name:\tapp\n"), None);
    }
}
