//! The isolation pass: what a noisy neighbour does to the server's latency.
//!
//! The server answers requests at a fixed rate, in rounds: once alone, and once beside a container that uses CPU, memory and
//! sockets as fast as its own limits allow, which are those of the server. Both run on the same CPUs; the generator does not
//! where there are others. The neighbour is made anew for every round, so that alone is alone. Which of the two comes first
//! changes from round to round.

pub mod neighbour;

use std::path::Path;

use crate::generator::ChildError;
use tare_container::target::Target;
use tare_load::{ErrorKind, Outcome, Pace, Plan};

use super::definition::values::Load;
use super::definition::{IsolationOptions, ThroughputOptions};
use super::measurement::Measurement;
use super::metric::Pass;
use super::report::Section;
use super::rounds;
use super::subject::{PassError, Subject};
use super::throughput::{self, Served, plan};
use super::validity::MachineFacts;
use neighbour::Neighbour;
use tare_report::Score;

/// The percentile that is compared.
const PERCENT: f64 = 99.0;
/// The cases of its metrics.
const ALONE: &str = "alone";
const BESIDE: &str = "beside";

/// All rounds.
#[derive(Debug, Default)]
pub struct Isolation {
    /// The load without the neighbour, in each round.
    pub alone: Vec<Outcome>,
    /// The same beside it.
    pub beside: Vec<Outcome>,
    /// Planned requests in a second.
    pub rate: f64,
    /// CPUs that the neighbour used beside the server, where that can be read.
    pub neighbour_cpus: Option<f64>,
}

/// Loads the server in rounds, alone and beside the neighbour. `program` is this one, which is the generator too; `watch` is
/// called with the number of the round and both latencies in nanoseconds.
///
/// # Errors
/// When a container cannot be had, the server does not answer as it should or ends, or the neighbour does not burn.
pub fn run(
    subject: &Subject<'_>,
    target: &Target,
    options: &IsolationOptions,
    load: &ThroughputOptions,
    program: &Path,
    mut watch: impl FnMut(u32, [f64; 2]),
) -> Result<Isolation, PassError> {
    let load = ThroughputOptions { duration: options.duration, ..load.clone() };
    let group = throughput::group(subject);
    let mut served = Served::start(subject, &load, program, group.as_ref())?;
    let capacity = match options.load {
        Load::Share(_) => {
            let base = served.base.clone();
            let closed = send(&mut served, &base)?;
            if closed.completed == 0 {
                let message = format!("none of {} requests was answered as it should be", closed.sent);
                let source = ChildError::Failed { message, kind: Some(ErrorKind::BadStatus) };
                return Err(throughput::of_load(&served.container, source));
            }
            Some(closed.requests_per_second())
        }
        _ => None,
    };
    // A closed loop is refused with the profile.
    let plan = plan::case(&served.base, options.load, capacity).unwrap_or_else(|| served.base.clone());
    let Pace::Open { rate } = plan.pace else { return Ok(Isolation::default()) };
    let mut isolation = Isolation { rate, ..Isolation::default() };
    let (mut used, mut passed) = (0, 0);
    for round in 0..options.rounds {
        for with_neighbour in if round % 2 == 0 { [false, true] } else { [true, false] } {
            if !with_neighbour {
                isolation.alone.push(send(&mut served, &plan)?);
                continue;
            }
            let neighbour = Neighbour::start(target, subject)?;
            let before = (tare_load::clock::now(), neighbour.cpu());
            let outcome = send(&mut served, &plan);
            let after = (tare_load::clock::now(), neighbour.cpu());
            if let (Some(before_cpu), Some(after_cpu)) = (before.1, after.1) {
                used += after_cpu.saturating_sub(before_cpu);
                passed += after.0.saturating_sub(before.0);
            }
            isolation.beside.push(outcome?);
            neighbour.end()?;
        }
        let last = |outcomes: &[Outcome]| {
            outcomes.last().map_or(0.0, |outcome| outcome.latency.percentile(PERCENT) as f64)
        };
        watch(round + 1, [last(&isolation.alone), last(&isolation.beside)]);
    }
    isolation.neighbour_cpus = (passed > 0).then(|| used as f64 / passed as f64);
    if let Some(error) = served.end()? {
        return Err(error);
    }
    Ok(isolation)
}

/// One load, after which the server still runs.
fn send(served: &mut Served, plan: &Plan) -> Result<Outcome, PassError> {
    let Served { container, child, .. } = served;
    let outcome = child.run(plan, |_| {}).map_err(|source| throughput::of_load(container, source))?;
    throughput::still_runs(container)?;
    Ok(outcome)
}

impl Isolation {
    /// The figures with what speaks against them. `cpus` is how many CPUs' time the neighbour may use.
    #[must_use]
    pub fn figures(&self, machine: &MachineFacts, cpus: f64) -> Vec<Measurement> {
        let Self { alone, beside, rate, neighbour_cpus } = self;
        let [first, second] = [alone, beside].map(|outcomes| rounds::latencies(outcomes, PERCENT));
        let ratios = second.iter().zip(&first).map(|(beside, alone)| beside / alone.max(1.0)).collect();
        let of = |samples, case: &str| Some(rounds::median("isolation.p99", samples)?.of_case(case));
        let mut rows: Vec<Measurement> =
            [of(first, ALONE), of(second, BESIDE), rounds::median("isolation.ratio", ratios)]
                .into_iter()
                .flatten()
                .collect();
        let [of_alone, of_beside] = [alone, beside].map(|outcomes| rounds::of_outcomes(outcomes, true));
        let least = |outcomes| rounds::least_requests(outcomes);
        for row in &mut rows {
            let (loads, requests) = match row.case.as_deref() {
                Some(ALONE) => (of_alone.clone(), least(alone)),
                Some(_) => (of_beside.clone(), least(beside)),
                None => ([of_alone.clone(), of_beside.clone()].concat(), least(alone).min(least(beside))),
            };
            rounds::doubt(row, &loads, machine, Some((PERCENT, requests)));
        }
        rows.push(Measurement::exact("isolation.rate", *rate));
        rows.extend(neighbour_cpus.map(|used| Measurement::exact("isolation.neighbour-cpu", used / cpus)));
        for (outcomes, case) in [(alone, ALONE), (beside, BESIDE)] {
            rows.push(Measurement::exact("isolation.errors", rounds::errors(outcomes)).of_case(case));
        }
        rows
    }

    /// How it was measured.
    #[must_use]
    pub fn section(&self, place: String, figures: &[Measurement], options: &IsolationOptions) -> Section {
        let mut notes = vec![place];
        notes.push(format!(
            "The neighbour is a container with the limits and on the CPUs of the server, one thread on each: arithmetic, \
             writes to as much as 128 MiB of its memory, and messages and connections over its loopback. {} rounds, {} alone \
             and {} beside it, in changing order.",
            options.rounds, options.duration, options.duration
        ));
        if let Some(ratio) = figures.iter().find(|row| row.metric == "isolation.ratio") {
            let score = Score::of(ratio.value);
            notes.push(format!("Isolation is {score}: p99 is {:.2} times that of alone.", ratio.value));
        } else {
            notes.push(
                "There is no ratio: in one of the rounds no request was answered as it should be.".to_owned(),
            );
        }
        Section { pass: Pass::Isolation, notes, tables: vec![] }
    }
}

#[cfg(test)]
mod tests {
    use super::super::throughput::rows::tests::{answered, outcome};
    use super::*;

    #[test]
    fn the_ratio_is_the_median_of_the_rounds() {
        let outcomes = |times: [u64; 3]| times.map(answered).to_vec();
        let isolation = Isolation {
            alone: outcomes([100, 100, 200]),
            beside: outcomes([150, 400, 300]),
            rate: 1_000.0,
            neighbour_cpus: Some(0.4),
        };
        let rows = isolation.figures(&MachineFacts::default(), 0.5);
        let values: Vec<(String, f64)> = rows.iter().map(|row| (row.key(), row.value)).collect();
        let expected = [
            ("isolation.p99@alone", 100.0),
            ("isolation.p99@beside", 300.0),
            ("isolation.ratio", 1.5),
            ("isolation.rate", 1_000.0),
            ("isolation.neighbour-cpu", 0.8),
            ("isolation.errors@alone", 0.0),
            ("isolation.errors@beside", 0.0),
        ];
        assert_eq!(values, expected.map(|(key, value)| (key.to_owned(), value)));
        assert_eq!(rows[2].samples, [1.5, 4.0, 1.5]);
        let notes = isolation.section(String::new(), &rows, &IsolationOptions::default()).notes;
        assert_eq!(notes[2], "Isolation is good: p99 is 1.50 times that of alone.");
        // A server that answers nothing beside the neighbour is not a fast one.
        let silent = Outcome { latency: tare_load::Distribution::default(), ..outcome(0, 0) };
        let starved = Isolation { beside: vec![silent], ..isolation };
        let starved = starved.figures(&MachineFacts::default(), 0.5);
        let keys: Vec<String> = starved.iter().take(2).map(Measurement::key).collect();
        assert_eq!(keys, ["isolation.p99@alone", "isolation.rate"]);
        let kinds = |row: &Measurement| row.doubts.iter().any(|doubt| doubt.kind() == "too-few-samples");
        assert_eq!(
            rows.iter().map(kinds).collect::<Vec<_>>(),
            [true, true, true, false, false, false, false]
        );
    }
}
