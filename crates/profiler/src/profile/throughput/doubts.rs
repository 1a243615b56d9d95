//! Which doubt concerns which figure of a load case.
//!
//! A generator without CPU left hides how fast the server is, and says nothing against what each request cost
//! it. What was counted, as errors are, is never in doubt.

use crate::profile::measurement::{Doubt, Measurement};
use crate::profile::validity::{self, CpuFacts, LoadFacts, MachineFacts, MemoryFacts};
use tare_load::{ErrorClass, Outcome};

use super::rows::Row;

/// What a figure is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Rate and times.
    Speed,
    /// CPU time and what goes with it.
    Cost,
    /// Memory.
    Memory,
    /// Requests, bytes, errors: as they were counted.
    Count,
}

fn kind(metric: &str) -> Kind {
    let name = metric.strip_prefix("throughput.").unwrap_or(metric);
    let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    if begins(&["rate", "latency.", "service."]) {
        Kind::Speed
    } else if begins(&["cpu-", "throttled-", "context-switches-"]) {
        Kind::Cost
    } else if begins(&["memory."]) {
        Kind::Memory
    } else {
        Kind::Count
    }
}

fn concerns(doubt: &Doubt, kind: Kind) -> bool {
    match doubt {
        Doubt::GeneratorBound { .. } | Doubt::LittlesLaw { .. } | Doubt::Steal { .. } => kind == Kind::Speed,
        Doubt::ThrottledOutsideLimit { .. } | Doubt::SharedCpus { .. } => {
            matches!(kind, Kind::Speed | Kind::Cost)
        }
        _ => kind != Kind::Count,
    }
}

/// What is known beside the row itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Circumstances {
    /// Whether requests were started at planned times.
    pub open: bool,
    /// Whether the profile sets a CPU quota.
    pub has_quota: bool,
    /// The memory limit in bytes.
    pub memory_limit: Option<u64>,
    /// The machine meanwhile.
    pub machine: MachineFacts,
}

/// Adds to the figures of a row what speaks against them.
pub fn add(measurements: &mut [Measurement], row: &Row<'_>, circumstances: &Circumstances) {
    let mut doubts = of_outcome(row.outcome, circumstances.open);
    doubts.extend(validity::machine(&circumstances.machine));
    if let Some(span) = row.span() {
        doubts.extend(validity::throttling(&CpuFacts {
            has_quota: circumstances.has_quota,
            periods: whole(span.periods),
            throttled: whole(span.throttled_periods),
            used_of_limit: span.cpu / (span.nanoseconds * row.cpus),
        }));
    }
    doubts.extend(validity::memory(&MemoryFacts {
        peak: row.memory_peak.unwrap_or(0),
        limit: circumstances.memory_limit,
        oom_kills: row.oom_kills,
    }));
    let unsteady = validity::steady(&row.rates()).err();
    for measurement in measurements {
        let kind = kind(measurement.metric);
        measurement.doubts.extend(doubts.iter().filter(|doubt| concerns(doubt, kind)).cloned());
        match kind {
            Kind::Speed => measurement.doubts.extend(unsteady.clone()),
            // Of windows; where the rate changes the cost need not.
            Kind::Cost if !measurement.samples.is_empty() => {
                measurement.doubts.extend(validity::steady(&measurement.samples).err());
            }
            _ => {}
        }
        if let Some(percent) = percentile(measurement.metric) {
            measurement.doubts.extend(validity::percentile(row.outcome.completed, percent));
        }
    }
}

fn percentile(metric: &str) -> Option<f64> {
    let (_, percent) = metric.rsplit_once(".p")?;
    percent.parse().ok()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "differences of counters, which are not negative"
)]
fn whole(count: f64) -> u64 {
    count.round() as u64
}

/// What speaks against the figures of a load, whatever server it was sent to.
#[must_use]
pub fn of_outcome(outcome: &Outcome, open: bool) -> Vec<Doubt> {
    validity::load(&of_load(outcome, open))
}

fn of_load(outcome: &Outcome, open: bool) -> LoadFacts {
    let errors = &outcome.errors;
    let wrong = errors.of_class(ErrorClass::Answer);
    let connections = outcome.connections;
    let least_open = u64::from(connections.at_start.min(connections.at_end));
    LoadFacts {
        generator_cpu: outcome.generator_use().unwrap_or(0.0),
        in_flight: Some(outcome.mean_in_flight()),
        rate: outcome.completed as f64 * 1e9 / outcome.measured.nanoseconds().max(1) as f64,
        mean_service: outcome.service.mean(),
        sent: outcome.sent,
        failed: errors.total(),
        checked: outcome.completed + wrong,
        wrong,
        planned: if open { outcome.planned } else { 0 },
        unsent: outcome.unsent,
        // Without keep-alive none stays open.
        connections_asked: if connections.at_start == 0 { 0 } else { u64::from(connections.asked) },
        connections_open: least_open,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubt_about_the_generator_does_not_concern_the_cost() {
        let bound = Doubt::GeneratorBound { cpu: 0.9, limit: 0.85 };
        let failed = Doubt::Errors { failed: 1, sent: 2 };
        let cases = [
            ("throughput.rate", true, true),
            ("throughput.latency.p99", true, true),
            ("throughput.cpu-per-request.user", false, true),
            ("throughput.memory.peak", false, true),
            ("throughput.errors", false, false),
            ("throughput.generator-cpu", false, false),
        ];
        for (metric, by_generator, by_errors) in cases {
            let kind = kind(metric);
            assert_eq!(
                (concerns(&bound, kind), concerns(&failed, kind)),
                (by_generator, by_errors),
                "{metric}"
            );
        }
    }

    #[test]
    fn percentiles_are_told_by_their_names() {
        let of = |metric| percentile(metric);
        assert_eq!(of("throughput.latency.p99.99"), Some(99.99));
        assert_eq!(of("throughput.service.p50"), Some(50.0));
        assert_eq!((of("throughput.latency.max"), of("throughput.memory.peak")), (None, None));
    }
}
