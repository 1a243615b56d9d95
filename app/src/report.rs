//! `/limits`: what the server found and decided.

use serde::Serialize;

use crate::limits::Group;
use crate::limits::groups::Version;
use crate::server::Server;

#[derive(Serialize)]
struct Report<'a> {
    found: Found<'a>,
    decided: Decided<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Found<'a> {
    cpu_quota_micros: Option<u64>,
    cpu_period_micros: Option<u64>,
    cpus: &'a [u32],
    cpu_count: f64,
    memory_bytes: Option<u64>,
    machine_memory_bytes: Option<u64>,
    pids: Option<u64>,
    cpu_cgroup: Option<&'a str>,
    memory_cgroup: Option<&'a str>,
    doubts: &'a [String],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Decided<'a> {
    rules: &'a str,
    workers: usize,
    pinned: &'a [u32],
    stack_bytes: usize,
    connections: usize,
    heap_bytes: u64,
    stacks_bytes: u64,
    cache_bytes: u64,
    backlog: u32,
}

/// What was found and decided, as a JSON object.
pub(crate) fn json(server: &Server) -> String {
    let (limits, sizing) = (&server.limits, &server.sizing);
    let version = |group: &Option<Group>| {
        group.as_ref().map(|group| match group.version {
            Version::V1 => "v1",
            Version::V2 => "v2",
        })
    };
    let found = Found {
        cpu_quota_micros: limits.quota.map(|quota| quota.quota),
        cpu_period_micros: limits.quota.map(|quota| quota.period),
        cpus: &limits.cpus,
        cpu_count: limits.cpu_millis() as f64 / 1000.0,
        memory_bytes: limits.memory,
        machine_memory_bytes: limits.machine_memory,
        pids: limits.pids,
        cpu_cgroup: version(&limits.groups.cpu),
        memory_cgroup: version(&limits.groups.memory),
        doubts: &limits.doubts,
    };
    let decided = Decided {
        rules: server.config.sizing.name(),
        workers: sizing.workers,
        pinned: &sizing.pinned,
        stack_bytes: sizing.stack_size,
        connections: sizing.connections,
        heap_bytes: sizing.budget.heap,
        stacks_bytes: sizing.budget.stacks,
        cache_bytes: sizing.budget.cache,
        backlog: sizing.backlog,
    };
    // Numbers, strings and lists have no way to fail.
    serde_json::to_string(&Report { found, decided }).unwrap_or_default() + "\n"
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
        let expected = "{\"found\":{\"cpuQuotaMicros\":50000,\"cpuPeriodMicros\":100000,\"cpus\":[1],\"cpuCount\":0.5,\
             \"memoryBytes\":67108864,\"machineMemoryBytes\":479404032,\"pids\":50,\"cpuCgroup\":\"v2\",\
             \"memoryCgroup\":\"v2\",\"doubts\":[]},\
             \"decided\":{\"rules\":\"measured\",\"workers\":1,\"pinned\":[],\"stackBytes\":262144,\
             \"connections\":4096,\"heapBytes\":40265280,\"stacksBytes\":0,\"cacheBytes\":13421760,\
             \"backlog\":65535}}\n";
        assert_eq!(json(&server), expected);
    }
}
