//! Several images measured in rounds: each round measures all of them once, so that whatever changes on the machine
//! meanwhile disturbs all alike. A figure is then the median of its rounds.

use super::measurement::Measurement;
use super::metric::{self, Class};
use super::report::{Event, Run, Section};
use super::stats;
use tare_report::chart::Curve;

/// Of the resampling: the same rounds give the same interval.
const SEED: u64 = 1;

/// In which order a round (from 0) measures so many images: every other round backwards, so that a machine that slows down
/// steadily favours none.
#[must_use]
pub fn order(round: u32, images: usize) -> Vec<usize> {
    if round.is_multiple_of(2) { (0..images).collect() } else { (0..images).rev().collect() }
}

/// One result out of the rounds of an image, each of which has a run for the size pass and for each of the limits. A figure is
/// the median over the rounds that have it, its samples are the rounds' figures, its interval is that of the median, and it
/// has the doubts of every round.
#[must_use]
pub fn merge(rounds: Vec<Vec<Run>>) -> Vec<Run> {
    let count = rounds.len();
    let mut merged: Vec<Vec<Run>> = Vec::new();
    for run in rounds.into_iter().flatten() {
        match merged.iter_mut().find(|same| same[0].limits == run.limits) {
            Some(same) => same.push(run),
            None => merged.push(vec![run]),
        }
    }
    merged.into_iter().map(|same| of_rounds(same, count)).collect()
}

/// Out of runs under the same limits.
fn of_rounds(runs: Vec<Run>, rounds: usize) -> Run {
    let (mut events, mut figures): (Vec<Event>, Vec<Vec<Measurement>>) = (Vec::new(), Vec::new());
    let limits = runs.first().and_then(|run| run.limits.clone());
    let (mut sections, mut curves): (Vec<Section>, Vec<Curve>) = (Vec::new(), Vec::new());
    let (mut bytes, mut packages, mut stacks) = (None, Vec::new(), None);
    for run in runs {
        events.extend(run.events.into_iter().filter(|event| !events.contains(event)).collect::<Vec<_>>());
        // Details and curves of a pass are those of its last round.
        for section in run.sections {
            sections.retain(|before| before.pass != section.pass);
            sections.push(section);
        }
        for curve in run.curves {
            curves.retain(|before: &Curve| (before.kind, &before.case) != (curve.kind, &curve.case));
            curves.push(curve);
        }
        bytes = bytes.or(run.bytes);
        stacks = run.stacks.or(stacks);
        // Those of the size pass, which runs once.
        packages.extend(run.packages);
        for measurement in run.measurements {
            match figures.iter_mut().find(|same| same[0].key() == measurement.key()) {
                Some(same) => same.push(measurement),
                None => figures.push(vec![measurement]),
            }
        }
    }
    if rounds > 1 && limits.is_some() {
        for section in &mut sections {
            section.notes.push(format!(
                "{rounds} rounds, in turn with the other images: a figure is the median of its rounds, with the interval of that median and the doubts of every round. These notes are of the last round."
            ));
        }
    }
    let measurements = figures.into_iter().map(median).collect();
    Run { limits, measurements, sections, events, bytes, curves, packages, stacks }
}

fn median(rounds: Vec<Measurement>) -> Measurement {
    let values: Vec<f64> = rounds.iter().map(|round| round.value).collect();
    let mut rounds = rounds.into_iter();
    let Some(mut first) = rounds.next() else { unreachable!("a figure is of at least one round") };
    // What is the same in every round has no samples, and one round its own.
    if values.len() == 1 || first.definition().class == Class::Exact {
        return first;
    }
    for doubt in rounds.flat_map(|round| round.doubts) {
        if first.doubts.iter().all(|known| known.kind() != doubt.kind()) {
            first.doubts.push(doubt);
        }
    }
    // A single error is an error, in whichever round.
    first.value = if first.metric.starts_with(metric::ERRORS) {
        values.iter().copied().fold(0.0, f64::max)
    } else {
        stats::median(&values).unwrap_or(first.value)
    };
    first.interval = stats::median_interval(&values, SEED);
    first.samples = values;
    first
}

#[cfg(test)]
mod tests {
    use super::super::measurement::Doubt;
    use super::super::metric::Pass;
    use super::super::report::EventKind;
    use super::*;
    use tare_report::{CpuLimit, Limits};

    fn under(cpus: f64) -> Option<Limits> {
        Some(Limits { cpu: Some(CpuLimit::cpus(cpus).unwrap()), ..Limits::default() })
    }

    #[test]
    fn every_other_round_runs_backwards() {
        assert_eq!([0, 1, 2].map(|round| order(round, 3)), [[0, 1, 2], [2, 1, 0], [0, 1, 2]]);
        assert!(order(1, 0).is_empty());
    }

    #[test]
    fn a_figure_of_rounds_is_their_median_with_the_doubts_of_all() {
        let rate = |value: f64, doubts: Vec<Doubt>| Measurement {
            interval: Some((0.0, 1e9)),
            samples: vec![1.0],
            doubts,
            ..Measurement::exact("throughput.rate", value).of_case("closed")
        };
        let errors = |value| Measurement::exact("throughput.errors", value).of_case("closed");
        let section =
            |note: &str| Section { pass: Pass::Throughput, notes: vec![note.to_owned()], tables: vec![] };
        let event =
            Event { kind: EventKind::Crash, pass: Pass::Throughput, message: "m".to_owned(), output: vec![] };
        let round = |value, doubts, failed, note: &str| {
            let size =
                Run { measurements: vec![Measurement::exact("size.image.layers", 2.0)], ..Run::default() };
            let run = Run {
                limits: under(1.0),
                measurements: vec![rate(value, doubts), errors(failed)],
                sections: vec![section(note)],
                events: vec![event.clone()],
                ..Run::default()
            };
            vec![size, run]
        };
        let (shared, steal) =
            (Doubt::SharedCpus { cpus: "1".to_owned() }, Doubt::Steal { share: 0.2, limit: 0.1 });
        let more = Doubt::Steal { share: 0.3, limit: 0.1 };
        let merged = merge(vec![
            round(10.0, vec![shared.clone()], 0.0, "a"),
            round(30.0, vec![steal.clone()], 1.0, "b"),
            round(20.0, vec![more], 0.0, "c"),
        ]);
        assert_eq!(merged.len(), 2);
        assert_eq!(merged[0].measurements, [Measurement::exact("size.image.layers", 2.0)]);
        let expected = Measurement {
            interval: Some((10.0, 30.0)),
            samples: vec![10.0, 30.0, 20.0],
            doubts: vec![shared, steal],
            ..Measurement::exact("throughput.rate", 20.0).of_case("closed")
        };
        assert_eq!(merged[1].measurements[0], expected);
        assert_eq!(merged[1].measurements[1].value, 1.0);
        assert_eq!((merged[1].limits.clone(), merged[1].events.len()), (under(1.0), 1));
        let notes = &merged[1].sections[0].notes;
        assert_eq!((notes[0].as_str(), notes.len()), ("c", 2));
    }

    #[test]
    fn one_round_is_left_as_it_is() {
        let figure = Measurement {
            interval: Some((1.0, 3.0)),
            samples: vec![1.0, 3.0],
            ..Measurement::exact("throughput.rate", 2.0).of_case("closed")
        };
        let run = Run { limits: under(2.0), measurements: vec![figure], ..Run::default() };
        assert_eq!(merge(vec![vec![run.clone()]]), [run]);
    }
}
