//! The metric table: what every figure is, in one place.
//!
//! Gates, `--list-metrics`, the reports and docs/metrics.md come from it. Every value is in one base unit of
//! its kind (bytes, nanoseconds, parts of 1), whatever it is shown in.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// What measures a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pass {
    /// Reads the image; runs nothing.
    Size,
    /// Starts it over and over.
    Startup,
    /// Sends it requests.
    Throughput,
}

impl Pass {
    /// In the order they run.
    pub const ALL: [Self; 3] = [Self::Size, Self::Startup, Self::Throughput];

    /// Its name in profiles and flags.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Size => "size",
            Self::Startup => "startup",
            Self::Throughput => "throughput",
        }
    }
}

/// What a value counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Nanoseconds.
    Nanoseconds,
    /// Requests in a second.
    PerSecond,
    /// A part of 1.
    Share,
    /// A number of things.
    Count,
}

impl Unit {
    /// Its short name in tables.
    #[must_use]
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Bytes => "B",
            Self::Nanoseconds => "ns",
            Self::PerSecond => "1/s",
            Self::Share => "share",
            Self::Count => "count",
        }
    }
}

/// Whether the same image always gives the same value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// It does: a difference of one is a difference.
    Exact,
    /// It does not: differences need a test.
    Noisy,
}

impl Class {
    /// Its name in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Noisy => "noisy",
        }
    }
}

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Less is better.
    Lower,
    /// More is better.
    Higher,
    /// Neither: it is told, and may have a `min` and `max`, but cannot regress.
    Neither,
}

impl Direction {
    /// Its name in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Lower => "lower",
            Self::Higher => "higher",
            Self::Neither => "-",
        }
    }
}

/// What one figure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Metric {
    /// Its name in gates, baselines and reports.
    pub id: &'static str,
    /// What measures it.
    pub pass: Pass,
    /// What the value counts.
    pub unit: Unit,
    /// Whether it repeats exactly.
    pub class: Class,
    /// Which way is better.
    pub direction: Direction,
    /// How the value comes from the samples.
    pub statistic: &'static str,
    /// What it means.
    pub description: &'static str,
    /// What the cases of a measurement are, where there are several.
    pub cases: Option<&'static str>,
}

/// The metric that counts every error of a load case.
pub const ERRORS: &str = "throughput.errors";

const LOADS: Option<&str> = Some("load case: closed, open-50, open-70, open-90");
const COUNTED: &str = "counted";
const MEDIAN: &str = "median of the runs";
/// Every load case is cut into windows; a window is a sample.
const WINDOWS: &str = "mean over the steady windows";
const HISTOGRAM: &str = "nearest rank over all requests of the steady windows";
const CASE: &str = "over the whole load case";

const fn size(
    id: &'static str,
    unit: Unit,
    direction: Direction,
    cases: Option<&'static str>,
    description: &'static str,
) -> Metric {
    Metric {
        id,
        pass: Pass::Size,
        unit,
        class: Class::Exact,
        direction,
        statistic: COUNTED,
        description,
        cases,
    }
}

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

const fn load(
    id: &'static str,
    unit: Unit,
    direction: Direction,
    statistic: &'static str,
    description: &'static str,
) -> Metric {
    Metric {
        id,
        pass: Pass::Throughput,
        unit,
        class: Class::Noisy,
        direction,
        statistic,
        description,
        cases: LOADS,
    }
}

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

const SIZE: [Metric; 18] = [
    size(
        "size.image.compressed",
        Unit::Bytes,
        Direction::Lower,
        None,
        "What is transferred: configuration and compressed layers",
    ),
    size("size.image.uncompressed", Unit::Bytes, Direction::Lower, None, "The tar archives of all layers"),
    size(
        "size.image.on-disk",
        Unit::Bytes,
        Direction::Lower,
        None,
        "The files of the merged root file system, in whole blocks of 4096 bytes",
    ),
    size("size.image.layers", Unit::Count, Direction::Lower, None, "Layers"),
    size(
        "size.image.files",
        Unit::Count,
        Direction::Lower,
        None,
        "Regular files in the merged root file system",
    ),
    size(
        "size.layer.compressed",
        Unit::Bytes,
        Direction::Lower,
        Some("layer, counted from 1, lowest first"),
        "A layer as it is transferred",
    ),
    size(
        "size.layer.uncompressed",
        Unit::Bytes,
        Direction::Lower,
        Some("layer, counted from 1, lowest first"),
        "A layer's tar archive",
    ),
    size(
        "size.wasted",
        Unit::Bytes,
        Direction::Lower,
        None,
        "Bytes of files that a higher layer replaces or removes",
    ),
    size(
        "size.efficiency",
        Unit::Share,
        Direction::Higher,
        None,
        "The least size of every path over the sum of all its sizes, as dive computes it",
    ),
    size("size.binary.file", Unit::Bytes, Direction::Lower, None, "The file that the entrypoint runs"),
    size("size.binary.text", Unit::Bytes, Direction::Lower, None, "Bytes in its executable sections"),
    size(
        "size.binary.data",
        Unit::Bytes,
        Direction::Lower,
        None,
        "Bytes in its other sections that are loaded from the file",
    ),
    size(
        "size.binary.bss",
        Unit::Bytes,
        Direction::Lower,
        None,
        "Bytes that are zero at the start and not in the file",
    ),
    size(
        "size.binary.section",
        Unit::Bytes,
        Direction::Lower,
        Some("section name"),
        "One section's bytes in the file",
    ),
    size(
        "size.binary.segment",
        Unit::Bytes,
        Direction::Lower,
        Some("segment: R, RX, RW, …"),
        "The bytes in the file of all loaded segments with these rights",
    ),
    size(
        "size.binary.crate",
        Unit::Bytes,
        Direction::Lower,
        Some("crate name"),
        "Bytes of the functions of one crate; an estimate, for generic code belongs to two",
    ),
    size(
        "size.binary.function",
        Unit::Bytes,
        Direction::Lower,
        Some("function name"),
        "Bytes of one function, all its instances together",
    ),
    size(
        "size.packages",
        Unit::Count,
        Direction::Lower,
        None,
        "Packages in the list that cargo-auditable's format keeps in the binary",
    ),
];

const THROUGHPUT: [Metric; 31] = [
    load(
        "throughput.rate",
        Unit::PerSecond,
        Direction::Higher,
        WINDOWS,
        "Right answers in a second; under open loop the planned rate unless the server falls behind",
    ),
    load(
        "throughput.latency.mean",
        Unit::Nanoseconds,
        Direction::Lower,
        "mean over all requests of the steady windows",
        "From the planned start to the last byte of the answer",
    ),
    load(
        "throughput.latency.p50",
        Unit::Nanoseconds,
        Direction::Lower,
        HISTOGRAM,
        "From the planned start to the last byte of the answer",
    ),
    load(
        "throughput.latency.p90",
        Unit::Nanoseconds,
        Direction::Lower,
        HISTOGRAM,
        "From the planned start to the last byte of the answer",
    ),
    load(
        "throughput.latency.p99",
        Unit::Nanoseconds,
        Direction::Lower,
        HISTOGRAM,
        "From the planned start to the last byte of the answer",
    ),
    load(
        "throughput.latency.p99.9",
        Unit::Nanoseconds,
        Direction::Lower,
        HISTOGRAM,
        "From the planned start to the last byte of the answer",
    ),
    load(
        "throughput.latency.p99.99",
        Unit::Nanoseconds,
        Direction::Lower,
        HISTOGRAM,
        "From the planned start to the last byte of the answer",
    ),
    load(
        "throughput.latency.max",
        Unit::Nanoseconds,
        Direction::Lower,
        "greatest of all requests of the steady windows",
        "From the planned start to the last byte of the answer",
    ),
    load(
        "throughput.service.p50",
        Unit::Nanoseconds,
        Direction::Lower,
        HISTOGRAM,
        "From the real sending to the last byte: hides the waiting of requests not sent in time",
    ),
    load(
        "throughput.service.p99",
        Unit::Nanoseconds,
        Direction::Lower,
        HISTOGRAM,
        "From the real sending to the last byte: hides the waiting of requests not sent in time",
    ),
    load(
        "throughput.cpu-per-request",
        Unit::Nanoseconds,
        Direction::Lower,
        WINDOWS,
        "CPU time of the server's cgroup over the right answers",
    ),
    load(
        "throughput.cpu-per-request.user",
        Unit::Nanoseconds,
        Direction::Lower,
        CASE,
        "Its part in user mode",
    ),
    load(
        "throughput.cpu-per-request.kernel",
        Unit::Nanoseconds,
        Direction::Lower,
        CASE,
        "Its part in the kernel",
    ),
    load(
        "throughput.cpu-of-limit",
        Unit::Share,
        Direction::Neither,
        CASE,
        "CPU time of the server over what its limit allows",
    ),
    load(
        "throughput.throttled-periods",
        Unit::Share,
        Direction::Lower,
        CASE,
        "Quota periods in which the kernel stopped the server, over all periods",
    ),
    load(
        "throughput.throttled-time",
        Unit::Nanoseconds,
        Direction::Lower,
        CASE,
        "For how long it was stopped, added up over CPUs as the kernel does",
    ),
    load(
        "throughput.memory.peak",
        Unit::Bytes,
        Direction::Lower,
        CASE,
        "The highest memory use of the server's cgroup since its start",
    ),
    load(
        "throughput.memory.current",
        Unit::Bytes,
        Direction::Lower,
        CASE,
        "Memory use of the server's cgroup at the end",
    ),
    load(
        "throughput.context-switches-per-request",
        Unit::Count,
        Direction::Lower,
        CASE,
        "Context switches of the server's threads over the right answers",
    ),
    load("throughput.requests", Unit::Count, Direction::Neither, CASE, "Right answers received"),
    load(
        "throughput.bytes-sent",
        Unit::Bytes,
        Direction::Neither,
        CASE,
        "Bytes sent by the generator, without TCP and IP",
    ),
    load(
        "throughput.bytes-received",
        Unit::Bytes,
        Direction::Neither,
        CASE,
        "Bytes received by the generator, without TCP and IP",
    ),
    load(
        "throughput.bytes-per-request",
        Unit::Bytes,
        Direction::Lower,
        CASE,
        "Bytes received over the right answers: head and body",
    ),
    load(
        ERRORS,
        Unit::Count,
        Direction::Lower,
        CASE,
        "Requests without a right answer and connections that could not be opened",
    ),
    load(
        "throughput.errors.connect",
        Unit::Count,
        Direction::Lower,
        CASE,
        "Connections that could not be opened",
    ),
    load(
        "throughput.errors.io",
        Unit::Count,
        Direction::Lower,
        CASE,
        "Connections that broke, with a request under way",
    ),
    load(
        "throughput.errors.timeout",
        Unit::Count,
        Direction::Lower,
        CASE,
        "Requests without an answer in time",
    ),
    load(
        "throughput.errors.answer",
        Unit::Count,
        Direction::Lower,
        CASE,
        "Answers of a wrong status, length or body",
    ),
    load("throughput.unsent", Unit::Count, Direction::Lower, CASE, "Planned requests that were not sent"),
    load(
        "throughput.connections-open",
        Unit::Count,
        Direction::Neither,
        CASE,
        "Connections really open, the least over the windows",
    ),
    load(
        "throughput.generator-cpu",
        Unit::Share,
        Direction::Neither,
        CASE,
        "CPU time of the generator over that of its CPUs: near 1 it is the bottleneck itself",
    ),
];

const WARM: [Metric; 13] = startup!("warm", "warm");
const COLD: [Metric; 13] = startup!("cold", "cold");

/// How many there are.
const LENGTH: usize = SIZE.len() + WARM.len() + COLD.len() + THROUGHPUT.len();

/// Every metric, in the order of the reports.
pub const TABLE: [Metric; LENGTH] = {
    let mut table = [UNKNOWN; LENGTH];
    let mut at = 0;
    let parts: [&[Metric]; 4] = [&SIZE, &WARM, &COLD, &THROUGHPUT];
    let mut part = 0;
    // Iterators cannot run at compile time.
    while part < parts.len() {
        let mut index = 0;
        while index < parts[part].len() {
            table[at] = parts[part][index];
            at += 1;
            index += 1;
        }
        part += 1;
    }
    table
};

/// What stands for an id that is not in the table; no pass measures it.
pub(super) const UNKNOWN: Metric =
    size("unknown", Unit::Count, Direction::Neither, None, "Not in the metric table");

/// The metric of that id.
#[must_use]
pub fn find(id: &str) -> Option<&'static Metric> {
    static TABLE_IN_MEMORY: [Metric; LENGTH] = TABLE;
    TABLE_IN_MEMORY.iter().find(|metric| metric.id == id)
}

/// Where a metric stands in the table; the order of reports.
#[must_use]
pub fn position(id: &str) -> usize {
    TABLE.iter().position(|metric| metric.id == id).unwrap_or(LENGTH)
}

/// The whole table as docs/metrics.md has it.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from(
        "# Metrics\n\n\
         Made from the metric table of `crates/profiler/src/profile/metric.rs`; `cargo xtask profile --list-metrics` prints the same.\n\
         A gate names a metric by its id, and one case of it as `ID@CASE`.\n\
         Exact metrics repeat to the byte; noisy ones are compared by a test and a least effect.\n",
    );
    for pass in Pass::ALL {
        let _ = write!(
            text,
            "\n## {}\n\n| id | unit | class | better | value | meaning | cases |\n|---|---|---|---|---|---|---|\n",
            pass.name()
        );
        for metric in TABLE.iter().filter(|metric| metric.pass == pass) {
            let _ = writeln!(
                text,
                "| `{}` | {} | {} | {} | {} | {} | {} |",
                metric.id,
                metric.unit.symbol(),
                metric.class.name(),
                metric.direction.name(),
                metric.statistic,
                metric.description,
                metric.cases.unwrap_or("")
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_id_is_there_once_and_begins_with_its_pass() {
        let ids: BTreeSet<&str> = TABLE.iter().map(|metric| metric.id).collect();
        assert_eq!(ids.len(), LENGTH);
        for metric in TABLE {
            assert!(metric.id.starts_with(&format!("{}.", metric.pass.name())), "{}", metric.id);
            assert_eq!(find(metric.id), Some(&metric));
            assert!(
                metric
                    .id
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'-'),
                "{} needs no escape in a gate",
                metric.id
            );
        }
    }

    #[test]
    fn exactly_the_size_metrics_are_exact() {
        for metric in TABLE {
            assert_eq!(metric.class == Class::Exact, metric.pass == Pass::Size, "{}", metric.id);
        }
    }

    /// `TARE_UPDATE=1 cargo test -p tare-profiler` writes the file anew.
    #[test]
    fn the_documentation_is_the_table() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
        if std::env::var_os("TARE_UPDATE").is_some() {
            std::fs::write(&path, markdown()).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap();
        assert!(written == markdown(), "docs/metrics.md is not the metric table: run with TARE_UPDATE=1");
    }
}
