//! Figures of loads that are repeated in rounds: a round is a sample.

use std::collections::BTreeSet;

use tare_load::Outcome;
use tare_report::Subject;
use tare_report::bias::bias;

use super::measurement::{Doubt, Measurement};
use super::stats;
use super::throughput::doubts;
use super::validity::{self, MachineFacts};

/// Of the resampling: the same rounds give the same interval.
const SEED: u64 = 1;

/// A percentile of the latency in each round, in nanoseconds; none at all where a round had no right answer, which has no
/// latency, not one of 0.
#[must_use]
pub fn latencies(outcomes: &[Outcome], percent: f64) -> Vec<f64> {
    if outcomes.iter().any(|outcome| outcome.latency.count() == 0) {
        return Vec::new();
    }
    outcomes.iter().map(|outcome| outcome.latency.percentile(percent) as f64).collect()
}

/// The median of the samples; none if there are none.
#[must_use]
pub fn median(metric: &'static str, samples: Vec<f64>) -> Option<Measurement> {
    let value = stats::median(&samples)?;
    let interval = stats::median_interval(&samples, SEED);
    Some(Measurement { interval, samples, ..Measurement::exact(metric, value) })
}

/// Requests without a right answer, in all rounds.
#[must_use]
pub fn errors(outcomes: &[Outcome]) -> f64 {
    outcomes.iter().map(|outcome| outcome.errors.total()).sum::<u64>() as f64
}

/// What speaks against the rounds of a load: each kind once, as it was first found.
#[must_use]
pub fn of_outcomes(outcomes: &[Outcome], open: bool) -> Vec<Doubt> {
    once_each(outcomes.iter().flat_map(|outcome| doubts::of_outcome(outcome, open)))
}

/// The first doubt of every kind.
#[must_use]
pub fn once_each(doubts: impl IntoIterator<Item = Doubt>) -> Vec<Doubt> {
    let mut kinds = BTreeSet::new();
    doubts.into_iter().filter(|doubt| kinds.insert(doubt.kind())).collect()
}

/// Adds to a figure what speaks against the loads, the machine and the number of rounds. `percentile` is the one that each
/// sample is, of so many requests at least.
pub fn doubt(row: &mut Measurement, loads: &[Doubt], machine: &MachineFacts, percentile: Option<(f64, u64)>) {
    let subject = Subject::of(row.metric);
    let all = loads.iter().cloned().chain(validity::machine(machine));
    row.doubts.extend(once_each(all).into_iter().filter(|doubt| bias(doubt, subject).is_some()));
    if !row.samples.is_empty() {
        let few = percentile.and_then(|(percent, requests)| validity::percentile(requests, percent));
        row.doubts.extend(few.or(validity::runs(row.samples.len())));
    }
}

/// The least number of right answers in a round.
#[must_use]
pub fn least_requests(outcomes: &[Outcome]) -> u64 {
    outcomes.iter().map(|outcome| outcome.latency.count()).min().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_of_doubt_is_raised_once_and_only_where_it_concerns_the_figure() {
        let errors = |failed| Doubt::Errors { failed, sent: 10 };
        let bound = Doubt::GeneratorBound { cpu: 0.9, limit: 0.85 };
        let loads = [errors(1), bound.clone(), errors(2)];
        let machine = MachineFacts { shared_cpus: vec![1], ..MachineFacts::default() };
        let doubts = |metric, samples: usize, percentile| {
            let mut row = Measurement { samples: vec![1.0; samples], ..Measurement::exact(metric, 1.0) };
            doubt(&mut row, &loads, &machine, percentile);
            row.doubts
        };
        let shared = Doubt::SharedCpus { cpus: "1".to_owned() };
        assert_eq!(
            doubts("isolation.p99", 6, Some((99.0, 1000))),
            [errors(1), bound.clone(), shared.clone()]
        );
        let few = Doubt::TooFewSamples { samples: 999, needed: 1000 };
        assert_eq!(doubts("isolation.ratio", 6, Some((99.0, 999))), [errors(1), bound, shared, few]);
        assert_eq!(doubts("isolation.rate", 0, None), []);
    }
}
