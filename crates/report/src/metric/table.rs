//! The rows of the metric table: what each pass measures.

use super::{Class, Direction, Metric, Pass, Unit};

/// The metric that counts every error of a load case.
pub const ERRORS: &str = "throughput.errors";

/// How a value comes from the samples. Every load case is cut into windows; a window is a sample.
const WINDOWS: &str = "mean over the steady windows";
const QUOTIENT: &str = "quotient of the sums over the steady windows";
const MEAN: &str = "mean over all requests of the steady windows";
const GREATEST: &str = "greatest of all requests of the steady windows";
const HISTOGRAM: &str = "nearest rank over all requests of the steady windows";
const CASE: &str = "over the whole load case";
const COUNTED: &str = "counted";
const MEDIAN: &str = "median of the runs";
const P95: &str = "95th percentile of the runs, nearest rank";
const LEAST: &str = "least of the runs";
const SLOPE: &str = "median over the runs of (instructions for 2n requests - for n) / n";
const DIFFERENCE: &str = "difference of the medians";
const ROUNDS: &str = "median of the rounds";
const OF_ROUNDS: &str = "over all rounds";
const OF_REQUESTS: &str = "over all requests";
const RANK: &str = "nearest rank over all requests";
const COPIES: &str = "mean over the copies";
const FURTHER: &str = "mean over the copies after the first";
const OF_COPIES: &str = "median of the copies";
const ONE_COPY: &str = "one sample";
const COMPUTED: &str = "computed, not measured";

/// What the cases of a metric are.
const WHOLE: Option<&str> = None;
const LAYER: Option<&str> = Some("layer, counted from 1, lowest first");
const SECTION: Option<&str> = Some("section name");
const SEGMENT: Option<&str> = Some("segment: R, RX, RW, …");
const CRATE: Option<&str> = Some("crate name");
const FUNCTION: Option<&str> = Some("function name");
const LOAD: Option<&str> = Some("load case: closed, open-50, open-70, open-90");

const BESIDE: Option<&str> = Some("alone, or beside a neighbour");
const WAY: Option<&str> = Some("loopback: inside the server's container; bridge: from another container");

const CACHED: Option<&str> =
    Some("hit: out of the cache; miss: from the source; offline: while the source is away");

/// Rows of one pass: id, unit, which way is better, statistic, cases, `=>` description.
macro_rules! rows {
    ($pass:ident $class:ident
     $($id:literal $unit:ident $direction:ident $statistic:ident $cases:ident => $description:literal;)*) => {
        &[$(Metric {
            id: $id,
            pass: Pass::$pass,
            unit: Unit::$unit,
            class: Class::$class,
            direction: Direction::$direction,
            statistic: $statistic,
            description: $description,
            cases: $cases,
        }),*]
    };
}

const SIZE: &[Metric] = rows! { Size Exact
    "size.image.compressed" Bytes Lower COUNTED WHOLE =>
        "What is transferred: configuration and compressed layers";
    "size.image.uncompressed" Bytes Lower COUNTED WHOLE => "The tar archives of all layers";
    "size.image.on-disk" Bytes Lower COUNTED WHOLE =>
        "The files of the merged root file system, in whole blocks of 4096 bytes";
    "size.image.layers" Count Lower COUNTED WHOLE => "Layers";
    "size.image.files" Count Lower COUNTED WHOLE => "Regular files in the merged root file system";
    "size.layer.compressed" Bytes Lower COUNTED LAYER => "A layer as it is transferred";
    "size.layer.uncompressed" Bytes Lower COUNTED LAYER => "A layer's tar archive";
    "size.wasted" Bytes Lower COUNTED WHOLE => "Bytes of files that a higher layer replaces or removes";
    "size.efficiency" Share Higher COUNTED WHOLE =>
        "The least size of every path over the sum of all its sizes, as dive computes it";
    "size.binary.file" Bytes Lower COUNTED WHOLE => "The file that the entrypoint runs";
    "size.binary.text" Bytes Lower COUNTED WHOLE => "Bytes in its executable sections";
    "size.binary.data" Bytes Lower COUNTED WHOLE =>
        "Bytes in its other sections that are loaded from the file";
    "size.binary.bss" Bytes Lower COUNTED WHOLE => "Bytes that are zero at the start and not in the file";
    "size.binary.section" Bytes Lower COUNTED SECTION => "One section's bytes in the file";
    "size.binary.segment" Bytes Lower COUNTED SEGMENT =>
        "The bytes in the file of all loaded segments with these rights";
    "size.binary.crate" Bytes Lower COUNTED CRATE =>
        "Bytes of the functions of one crate; an estimate, for generic code belongs to two";
    "size.binary.function" Bytes Lower COUNTED FUNCTION =>
        "Bytes of one function, all its instances together";
    "size.packages" Count Lower COUNTED WHOLE =>
        "Packages in the list that cargo-auditable's format keeps in the binary";
};

/// Both for the warm and for the cold page cache: `startup.warm.ready`.
const STARTUP: &[Metric] = rows! { Startup Noisy
    "create" Nanoseconds Lower MEDIAN WHOLE => "From the begin of create until the container is created";
    "start" Nanoseconds Lower MEDIAN WHOLE => "From the begin of create until start has returned";
    "exec" Nanoseconds Lower MEDIAN WHOLE => "From the begin of create until the program is executed";
    "listening" Nanoseconds Lower MEDIAN WHOLE => "From the begin of create until its socket listens";
    "first-byte" Nanoseconds Lower MEDIAN WHOLE =>
        "From the begin of create until the first byte of an answer";
    "ready" Nanoseconds Lower MEDIAN WHOLE => "From the begin of create until the first whole correct answer";
    "ready.p95" Nanoseconds Lower P95 WHOLE => "The same, in the slowest run of twenty";
    "ready.min" Nanoseconds Lower LEAST WHOLE => "The same, in the fastest run";
    "runtime-baseline" Nanoseconds Lower MEDIAN WHOLE =>
        "A container whose program only exits, on the same path, until it runs (with docker and podman until it has exited)";
    "ready-minus-baseline" Nanoseconds Lower DIFFERENCE WHOLE =>
        "Ready without what this host needs for any container";
    "cpu-to-ready" Nanoseconds Lower MEDIAN WHOLE =>
        "CPU time of the container until it is ready, from its cgroup: runtime-cpu is the runtime's share";
    "runtime-cpu" Nanoseconds Neither MEDIAN WHOLE =>
        "CPU time of a container whose program only exits, from its cgroup";
    "memory-at-ready" Bytes Lower MEDIAN WHOLE => "Memory of the container when it is ready, from its cgroup, with files in memory (tmpfs, volumes)";
    "stop" Nanoseconds Lower MEDIAN WHOLE => "From SIGTERM until the program has exited";
    "killed" Count Lower COUNTED WHOLE => "Starts that SIGTERM did not end in 10 s; after the first it is not waited for";
};

const THROUGHPUT: &[Metric] = rows! { Throughput Noisy
    "throughput.rate" PerSecond Higher WINDOWS LOAD =>
        "Right answers in a second; under open loop the planned rate unless the server falls behind";
    "throughput.latency.mean" Nanoseconds Lower MEAN LOAD =>
        "From the planned start to the last byte of the answer";
    "throughput.latency.p50" Nanoseconds Lower HISTOGRAM LOAD =>
        "From the planned start to the last byte of the answer";
    "throughput.latency.p90" Nanoseconds Lower HISTOGRAM LOAD =>
        "From the planned start to the last byte of the answer";
    "throughput.latency.p99" Nanoseconds Lower HISTOGRAM LOAD =>
        "From the planned start to the last byte of the answer";
    "throughput.latency.p99.9" Nanoseconds Lower HISTOGRAM LOAD =>
        "From the planned start to the last byte of the answer";
    "throughput.latency.p99.99" Nanoseconds Lower HISTOGRAM LOAD =>
        "From the planned start to the last byte of the answer";
    "throughput.latency.max" Nanoseconds Lower GREATEST LOAD =>
        "From the planned start to the last byte of the answer";
    "throughput.service.p50" Nanoseconds Lower HISTOGRAM LOAD =>
        "From the real sending to the last byte: hides the waiting of requests not sent in time";
    "throughput.service.p99" Nanoseconds Lower HISTOGRAM LOAD =>
        "From the real sending to the last byte: hides the waiting of requests not sent in time";
    "throughput.cpu-per-request" Nanoseconds Lower QUOTIENT LOAD =>
        "CPU time of the server's cgroup over the right answers";
    "throughput.cpu-per-request.user" Nanoseconds Lower CASE LOAD => "Its part in user mode";
    "throughput.cpu-per-request.kernel" Nanoseconds Lower CASE LOAD => "Its part in the kernel";
    "throughput.cpu-of-limit" Share Neither CASE LOAD => "CPU time of the server over what its limit allows";
    "throughput.throttled-periods" Share Lower CASE LOAD =>
        "Quota periods in which the kernel stopped the server, over all periods";
    "throughput.throttled-time" Nanoseconds Lower CASE LOAD =>
        "For how long it was stopped, added up over CPUs as the kernel does";
    "throughput.memory.peak" Bytes Lower CASE LOAD =>
        "The highest memory use of the server's cgroup in the load case, with files in memory (tmpfs, volumes)";
    "throughput.memory.current" Bytes Lower CASE LOAD => "Memory use of the server's cgroup at the end";
    "throughput.context-switches-per-request" Count Lower CASE LOAD =>
        "Context switches of the server's threads over the right answers";
    "throughput.requests" Count Neither CASE LOAD => "Right answers received";
    "throughput.bytes-sent" Bytes Neither CASE LOAD => "Bytes sent by the generator, without TCP and IP";
    "throughput.bytes-received" Bytes Neither CASE LOAD =>
        "Bytes received by the generator, without TCP and IP";
    "throughput.bytes-per-request" Bytes Lower CASE LOAD =>
        "Bytes received over the right answers: head and body";
    "throughput.errors" Count Lower CASE LOAD =>
        "Requests without a right answer and connections that could not be opened";
    "throughput.errors.connect" Count Lower CASE LOAD => "Connections that could not be opened";
    "throughput.errors.io" Count Lower CASE LOAD => "Connections that broke, with a request under way";
    "throughput.errors.timeout" Count Lower CASE LOAD => "Requests without an answer in time";
    "throughput.errors.answer" Count Lower CASE LOAD => "Answers of a wrong status, length or body";
    "throughput.unsent" Count Lower CASE LOAD => "Planned requests that were not sent";
    "throughput.connections-open" Count Neither CASE LOAD =>
        "Connections really open, the least over the windows";
    "throughput.generator-cpu" Share Neither CASE LOAD =>
        "CPU time of the generator over that of its CPUs: near 1 it is the bottleneck itself";
};

const DENSITY: &[Metric] = rows! { Density Noisy
    "density.copies" Count Higher COUNTED WHOLE =>
        "Copies of the container that ran at once within the budget of the profile";
    "density.copies-per-host" Count Higher COMPUTED WHOLE =>
        "Copies for which the memory and the CPUs of this host suffice, by memory.added and idle-cpu of one copy, without what the runtime and the kernel keep for it outside of its cgroup";
    "density.memory.pss" Bytes Lower COPIES WHOLE =>
        "Proportional set size of a copy's processes (smaps_rollup): a page that n processes map counts as one n-th";
    "density.memory.cgroup" Bytes Lower COPIES WHOLE =>
        "Memory of a copy's cgroup, with the kernel's for it; files of the image count for the copy that read them first";
    "density.memory.added" Bytes Lower FURTHER WHOLE =>
        "By how much another copy raised the memory of all copies' cgroups";
    "density.memory.shared" Bytes Neither COPIES WHOLE =>
        "Pages of a copy that other processes map as well, such as those of its program";
    "density.idle-cpu" Share Lower COPIES WHOLE => "CPU time of a copy that nobody asks, as a share of one CPU";
    "density.start.first" Nanoseconds Lower ONE_COPY WHOLE =>
        "From the begin of create until the first correct answer, of the first copy";
    "density.start.median" Nanoseconds Lower OF_COPIES WHOLE =>
        "From the begin of create until the first correct answer";
    "density.start.last" Nanoseconds Lower ONE_COPY WHOLE =>
        "From the begin of create until the first correct answer, of the last copy that fitted, beside all others";
};

const ISOLATION: &[Metric] = rows! { Isolation Noisy
    "isolation.p99" Nanoseconds Lower ROUNDS BESIDE =>
        "99th percentile of the latency, from the planned start to the last byte of the answer, at a fixed rate";
    "isolation.ratio" Count Lower ROUNDS WHOLE =>
        "p99 beside a neighbour over p99 alone in the same round: excellent to 1.1, good to 1.5, fair to 3, poor above";
    "isolation.rate" PerSecond Neither COUNTED WHOLE => "The fixed rate: planned requests in a second";
    "isolation.neighbour-cpu" Share Neither OF_ROUNDS WHOLE =>
        "CPU time of the neighbour over what its limit allows: near 1 it used all that the server left";
    "isolation.errors" Count Lower OF_ROUNDS BESIDE =>
        "Requests without a right answer and connections that could not be opened";
};

const NETWORK: &[Metric] = rows! { Network Noisy
    "network.p50" Nanoseconds Lower ROUNDS WAY =>
        "Median latency of sequential requests on one connection that stays open";
    "network.p99" Nanoseconds Lower ROUNDS WAY =>
        "99th percentile of the latency of sequential requests on one connection that stays open";
    "network.added" Nanoseconds Lower ROUNDS WHOLE =>
        "By how much p50 from another container, over two veth pairs and a bridge, exceeds p50 over loopback in the same round";
    "network.errors" Count Lower OF_ROUNDS WAY =>
        "Requests without a right answer and connections that could not be opened";
};

const EDGE: &[Metric] = rows! { Edge Noisy
    "edge.hit-rate" Share Higher OF_REQUESTS WHOLE =>
        "Right answers out of the cache while the source is there, by the header Cache-Status (RFC 9211); the first of each file cannot be one";
    "edge.bytes-saved" Share Higher OF_REQUESTS WHOLE =>
        "Bytes of the files that compression kept from being transferred, to a client that accepts gzip and brotli";
    "edge.offline-answers" Share Higher OF_REQUESTS WHOLE =>
        "Right answers while the source is away, to requests for files that were asked for before";
    "edge.offline-stale" Share Neither OF_REQUESTS WHOLE => "Right answers of those that say that they are stale";
    "edge.p50" Nanoseconds Lower RANK CACHED => "Median time from the sending to the last byte, sequential requests";
    "edge.errors" Count Lower OF_REQUESTS WHOLE => "Requests without a right answer while the source is there";
};

const INSTRUCTIONS: &[Metric] = rows! { Instructions Counted
    "instructions.per-request" Count Lower SLOPE WHOLE =>
        "Instructions that the server executes in user mode for a request, under valgrind";
};

pub(super) fn rows() -> Vec<Metric> {
    let started = |cache: &str| -> Vec<Metric> {
        let row = |metric: &Metric| Metric {
            // Once in the life of the process.
            id: format!("startup.{cache}.{}", metric.id).leak(),
            description: format!("{}, page cache {cache}", metric.description).leak(),
            ..*metric
        };
        STARTUP.iter().map(row).collect()
    };
    [SIZE, &started("warm"), &started("cold"), THROUGHPUT, DENSITY, ISOLATION, NETWORK, EDGE, INSTRUCTIONS]
        .concat()
}
