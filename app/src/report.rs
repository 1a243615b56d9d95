//! `/limits`: what the server found and decided.

use crate::json::{OrNull, Quoted, Thousandths};
use crate::limits::Group;
use crate::limits::groups::Version;
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
}
