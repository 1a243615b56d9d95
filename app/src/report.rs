//! `/limits`: what the server found and decided; and what the container tells of its use.

use std::fs;

use crate::json::{OrNull, Quoted, Thousandths};
use crate::limits::groups::Version;
use crate::limits::{Group, Groups, values};
use crate::server::Server;
use crate::sizing::Rules;

/// What was found and decided, as a JSON object.
pub(crate) fn json(server: &Server) -> String {
    let (limits, sizing) = (&server.limits, &server.sizing);
    let list = |numbers: &[u32]| {
        let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
        format!("[{}]", numbers.join(","))
    };
    let version = |group: &Option<Group>| {
        let name = group.as_ref().map(|group| match group.version {
            Version::V1 => "v1",
            Version::V2 => "v2",
        });
        OrNull(name.map(|name| Quoted(name).to_string()))
    };
    let rules = match server.config.sizing {
        Rules::Article => "article",
        Rules::Measured => "measured",
    };
    let doubts: Vec<String> = limits.doubts.iter().map(|doubt| Quoted(doubt).to_string()).collect();
    let quota = limits.quota;
    format!(
        "{{\"found\":{{\"cpuQuotaMicros\":{},\"cpuPeriodMicros\":{},\"cpus\":{},\"cpuCount\":{},\
         \"memoryBytes\":{},\"machineMemoryBytes\":{},\"pids\":{},\"cpuCgroup\":{},\"memoryCgroup\":{},\
         \"doubts\":[{}]}},\
         \"decided\":{{\"rules\":{},\"workers\":{},\"pinned\":{},\"stackBytes\":{},\"connections\":{},\
         \"heapBytes\":{},\"stacksBytes\":{},\"cacheBytes\":{},\"backlog\":{}}}}}\n",
        OrNull(quota.map(|quota| quota.quota)),
        OrNull(quota.map(|quota| quota.period)),
        list(&limits.cpus),
        Thousandths(limits.cpu_millis()),
        OrNull(limits.memory),
        OrNull(limits.machine_memory),
        OrNull(limits.pids),
        version(&limits.groups.cpu),
        version(&limits.groups.memory),
        doubts.join(","),
        Quoted(rules),
        sizing.workers,
        list(&sizing.pinned),
        sizing.stack_size,
        sizing.connections,
        sizing.budget.heap,
        sizing.budget.stacks,
        sizing.budget.cache,
        sizing.backlog,
    )
}

/// What the container's groups count.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) throttled_periods: Option<u64>,
    pub(crate) throttled_millis: Option<u64>,
    /// Bytes of memory, with what the page cache holds.
    pub(crate) memory: Option<u64>,
}

/// Reads the counters; what is not there is none.
pub(crate) fn usage(groups: &Groups) -> Usage {
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
    use std::path::Path;

    use super::*;
    use crate::config::Config;
    use crate::limits;

    #[test]
    fn report_has_what_was_found_and_decided() {
        let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captured/v2-namespace");
        let server = Server::new(Config::default(), limits::read(&tree), 1 << 20);
        let expected = "{\"found\":{\"cpuQuotaMicros\":50000,\"cpuPeriodMicros\":100000,\"cpus\":[1],\
             \"cpuCount\":0.500,\"memoryBytes\":67108864,\"machineMemoryBytes\":";
        let text = json(&server);
        assert!(text.starts_with(expected), "{text}");
        let decided = "\"decided\":{\"rules\":\"measured\",\"workers\":1,\"pinned\":[],\"stackBytes\":262144,\
             \"connections\":4096,\"heapBytes\":40265280,\"stacksBytes\":0,\"cacheBytes\":13421760,\
             \"backlog\":65535}}\n";
        assert!(text.ends_with(decided), "{text}");
    }

    #[test]
    fn resident_memory_is_in_bytes() {
        assert_eq!(resident("Name:\tapp\nVmRSS:\t     788 kB\n"), Some(806_912));
        assert_eq!(resident("Name:\tapp\n"), None);
    }
}
