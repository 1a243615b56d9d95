//! What the throughput pass measures.

use super::{Class, Direction, Metric, Pass, Unit};

/// The metric that counts every error of a load case.
pub const ERRORS: &str = "throughput.errors";

const LOADS: Option<&str> = Some("load case: closed, open-50, open-70, open-90");
/// Every load case is cut into windows; a window is a sample.
const WINDOWS: &str = "mean over the steady windows";
const HISTOGRAM: &str = "nearest rank over all requests of the steady windows";
const CASE: &str = "over the whole load case";

pub(super) const THROUGHPUT: [Metric; 31] = [
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
