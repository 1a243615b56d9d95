//! Which doubt concerns which figure of a load case.
//!
//! A generator without CPU left hides how fast the server is, and says nothing against what each request cost
//! it. What was counted, as errors are, is never in doubt. Which doubt concerns which figure, and which way, is the
//! table of `tare_report::bias`.

use crate::profile::measurement::{Doubt, Measurement};
use crate::profile::validity::{self, CpuFacts, LoadFacts, MachineFacts, MemoryFacts};
use tare_load::{ErrorClass, Outcome};
use tare_report::bias::bias;
use tare_report::{Bias, Reading, Subject};

use super::rows::{Row, rates};

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
    /// What speaks against the capacity that the load is a share of.
    pub capacity: Option<Doubt>,
}

/// What speaks against the loads that are shares of a closed loop's rate, if anything speaks against that rate.
#[must_use]
pub fn of_capacity(closed: &[Measurement]) -> Option<Doubt> {
    let rate = closed.iter().find(|it| it.metric == "throughput.rate")?;
    let low = rate.bias()? == Bias::Understates;
    let mut kinds: Vec<&str> = rate.doubts.iter().map(Doubt::kind).collect();
    kinds.dedup();
    Some(Doubt::Capacity { cause: kinds.join(", "), low })
}

/// Adds to the figures of a row what speaks against them.
pub fn add(measurements: &mut [Measurement], row: &Row<'_>, circumstances: &Circumstances) {
    let mut doubts = of_outcome(row.outcome, circumstances.open);
    doubts.extend(validity::machine(&circumstances.machine));
    doubts.extend(circumstances.capacity.clone());
    match row.span() {
        Some(span) => doubts.extend(validity::throttling(&CpuFacts {
            has_quota: circumstances.has_quota,
            periods: whole(span.periods),
            throttled: whole(span.throttled_periods),
            used_of_limit: span.cpu / (span.nanoseconds * row.cpus),
        })),
        None => doubts.push(Doubt::Unmeasured { what: Reading::Throttling }),
    }
    doubts.extend(validity::memory(&MemoryFacts {
        peak: row.memory_peak,
        limit: circumstances.memory_limit,
        oom_kills: row.oom_kills,
    }));
    let unsteady = of_speed(row.outcome);
    for measurement in measurements {
        let subject = Subject::of(measurement.metric);
        measurement.doubts.extend(doubts.iter().filter(|doubt| bias(doubt, subject).is_some()).cloned());
        match subject {
            Subject::Rate | Subject::Latency => measurement.doubts.extend(unsteady.clone()),
            // Of windows; where the rate changes the cost need not.
            Subject::Cost if !measurement.samples.is_empty() => {
                measurement.doubts.extend(validity::steady(&measurement.samples).err());
            }
            _ => {}
        }
        if let Some(percent) = percentile(measurement.metric) {
            measurement.doubts.extend(validity::percentile(row.steady.latency.count(), percent));
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

/// What speaks against the rate and the times of a load: it never becomes steady, or is too short to see that.
#[must_use]
pub fn of_speed(outcome: &Outcome) -> Option<Doubt> {
    validity::steady(&rates(outcome)).err()
}

fn of_load(outcome: &Outcome, open: bool) -> LoadFacts {
    let errors = &outcome.errors;
    let wrong = errors.of_class(ErrorClass::Answer);
    let connections = outcome.connections;
    let least_open = u64::from(connections.at_start.min(connections.at_end));
    LoadFacts {
        generator_cpu: outcome.generator_use(),
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
            ("throughput.memory.peak", true, true),
            ("throughput.errors", false, false),
            ("throughput.generator-cpu", false, false),
        ];
        for (metric, by_generator, by_errors) in cases {
            let subject = Subject::of(metric);
            assert_eq!(
                (bias(&bound, subject).is_some(), bias(&failed, subject).is_some()),
                (by_generator, by_errors),
                "{metric}"
            );
        }
    }

    #[test]
    fn shares_of_a_doubtful_capacity_are_doubtful_themselves() {
        let rate = |doubts| [Measurement { doubts, ..Measurement::exact("throughput.rate", 1.0) }];
        let bound = Doubt::GeneratorBound { cpu: 0.9, limit: 0.85 };
        let law = Doubt::LittlesLaw { in_flight: 1.0, expected: 2.0 };
        let capacity = |cause: &str, low| Some(Doubt::Capacity { cause: cause.to_owned(), low });
        assert_eq!(of_capacity(&rate(vec![])), None);
        assert_eq!(of_capacity(&rate(vec![bound.clone()])), capacity("generator-bound", true));
        assert_eq!(of_capacity(&rate(vec![bound, law])), capacity("generator-bound, littles-law", false));
        assert_eq!(of_capacity(&[]), None);
    }

    #[test]
    fn percentiles_are_told_by_their_names() {
        let of = |metric| percentile(metric);
        assert_eq!(of("throughput.latency.p99.99"), Some(99.99));
        assert_eq!(of("throughput.service.p50"), Some(50.0));
        assert_eq!((of("throughput.latency.max"), of("throughput.memory.peak")), (None, None));
    }
}
