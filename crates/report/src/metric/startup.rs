//! What the start-up pass measures.

use super::{Class, Direction, Metric, Pass, Unit};

const MEDIAN: &str = "median of the runs";

/// The start-up metrics, once for the warm and once for the cold page cache.
macro_rules! startup {
    ($cache:literal, $word:literal) => {
        [
            startup(concat!("startup.", $cache, ".create"), Unit::Nanoseconds, MEDIAN,
                concat!("From the begin of create until the container is created, page cache ", $word)),
            startup(concat!("startup.", $cache, ".start"), Unit::Nanoseconds, MEDIAN,
                concat!("From the begin of create until start has returned, page cache ", $word)),
            startup(concat!("startup.", $cache, ".exec"), Unit::Nanoseconds, MEDIAN,
                concat!("From the begin of create until the program is executed, page cache ", $word)),
            startup(concat!("startup.", $cache, ".listening"), Unit::Nanoseconds, MEDIAN,
                concat!("From the begin of create until its socket listens, page cache ", $word)),
            startup(concat!("startup.", $cache, ".first-byte"), Unit::Nanoseconds, MEDIAN,
                concat!("From the begin of create until the first byte of an answer, page cache ", $word)),
            startup(concat!("startup.", $cache, ".ready"), Unit::Nanoseconds, MEDIAN,
                concat!("From the begin of create until the first whole correct answer, page cache ", $word)),
            startup(concat!("startup.", $cache, ".ready.p95"), Unit::Nanoseconds, "95th percentile of the runs, nearest rank",
                concat!("The same, in the slowest run of twenty, page cache ", $word)),
            startup(concat!("startup.", $cache, ".ready.min"), Unit::Nanoseconds, "least of the runs",
                concat!("The same, in the fastest run, page cache ", $word)),
            startup(concat!("startup.", $cache, ".floor"), Unit::Nanoseconds, MEDIAN,
                concat!("A container whose program only exits, on the same path, until it runs (with docker and podman until it has exited), page cache ", $word)),
            startup(concat!("startup.", $cache, ".ready-minus-floor"), Unit::Nanoseconds, "difference of the medians",
                concat!("Ready without what this host needs for any container, page cache ", $word)),
            startup(concat!("startup.", $cache, ".cpu-to-ready"), Unit::Nanoseconds, MEDIAN,
                concat!("CPU time of the container until it is ready, from its cgroup, page cache ", $word)),
            startup(concat!("startup.", $cache, ".memory-at-ready"), Unit::Bytes, MEDIAN,
                concat!("Memory of the container when it is ready, from its cgroup, page cache ", $word)),
            startup(concat!("startup.", $cache, ".stop"), Unit::Nanoseconds, MEDIAN,
                concat!("From SIGTERM until the program has exited, started with the page cache ", $word)),
        ]
    };
}

pub(super) const WARM: [Metric; 13] = startup!("warm", "warm");
pub(super) const COLD: [Metric; 13] = startup!("cold", "cold");

const fn startup(id: &'static str, unit: Unit, statistic: &'static str, description: &'static str) -> Metric {
    Metric {
        id,
        pass: Pass::Startup,
        unit,
        class: Class::Noisy,
        direction: Direction::Lower,
        statistic,
        description,
        cases: None,
    }
}
