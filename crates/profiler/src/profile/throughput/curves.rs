//! From the outcome of a load case to the curves of its charts.

use tare_load::{Distribution, Outcome};
use tare_report::{Curve, CurveKind};

use super::series::Series;

/// Shares of the requests whose times are in a curve, as far as there are requests beyond them.
const SHARES: [f64; 14] =
    [0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9995, 0.9999, 0.99995, 0.99999, 0.999_995];
/// The most windows that a curve over time has; of more windows, neighbours are taken together.
const WINDOWS: usize = 240;

/// The curves of one case: times of the steady part, and what happened in the course of the whole.
#[must_use]
pub fn curves(case: &str, outcome: &Outcome, steady: &Outcome, series: &Series) -> Vec<Curve> {
    let curve = |kind, points: Vec<(f64, f64)>| Curve { kind, case: case.to_owned(), points };
    let mut curves = vec![
        curve(CurveKind::Latency, times(&steady.latency)),
        curve(CurveKind::Service, times(&steady.service)),
        curve(CurveKind::Rate, rate(outcome)),
        curve(CurveKind::P99, p99(outcome)),
        curve(CurveKind::Throttled, throttled(outcome, series)),
    ];
    curves.retain(|curve| curve.points.len() > 1);
    curves
}

fn times(times: &Distribution) -> Vec<(f64, f64)> {
    if times.count() == 0 {
        return vec![];
    }
    let requests = times.count() as f64;
    let known = SHARES.iter().filter(|share| (1.0 - **share) * requests >= 1.0);
    let points = known.map(|share| (*share, times.percentile(share * 100.0) as f64));
    points.chain([(1.0, times.max() as f64)]).collect()
}

/// The begin of each window of the measured span in nanoseconds since the span began, and how long it is.
fn windows(outcome: &Outcome) -> (Vec<f64>, f64) {
    let count = outcome.measured_windows().len();
    let together = count.div_ceil(WINDOWS).max(1);
    let length = (outcome.window * together as u64) as f64;
    ((0..count / together).map(|at| at as f64 * length).collect(), length)
}

fn rate(outcome: &Outcome) -> Vec<(f64, f64)> {
    let (begins, length) = windows(outcome);
    let together = outcome.measured_windows().len().div_ceil(WINDOWS).max(1);
    let counts =
        outcome.measured_windows().chunks_exact(together).map(|part| part.iter().sum::<u64>() as f64);
    begins.into_iter().zip(counts).map(|(begin, count)| (begin, count * 1e9 / length)).collect()
}

/// The first windows have times of their own; the last point is of all the rest.
fn p99(outcome: &Outcome) -> Vec<(f64, f64)> {
    let begins = (0_u64..).map(|at| (at * outcome.part) as f64);
    let parts = outcome.parts.iter().zip(begins).filter(|(part, _)| part.latency.count() > 0);
    parts.map(|(part, begin)| (begin, part.latency.percentile(99.0) as f64)).collect()
}

fn throttled(outcome: &Outcome, series: &Series) -> Vec<(f64, f64)> {
    let (begins, length) = windows(outcome);
    let share = |begin: f64| {
        let from = outcome.measured.from + begin as u64;
        let span = series.between(from, from + length as u64)?;
        (span.periods > 0.0).then(|| (begin, (span.throttled_periods / span.periods).min(1.0)))
    };
    begins.into_iter().filter_map(share).collect()
}

#[cfg(test)]
mod tests {
    use super::super::rows::tests::outcome;
    use super::*;
    use tare_load::Span;

    #[test]
    fn a_curve_of_times_ends_where_there_are_no_requests_beyond() {
        let mut times = Distribution::default();
        (1..=100).for_each(|at| times.record(at * 1_000));
        let points = self::times(&times);
        assert_eq!(
            points.iter().map(|point| point.0).collect::<Vec<_>>(),
            [0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0]
        );
        assert_eq!(points[2].1, 50_015.0, "within the histogram's three digits");
        assert_eq!(self::times(&Distribution::default()), []);
    }

    #[test]
    fn the_rate_of_a_window_is_what_was_answered_in_it() {
        let second = 1_000_000_000;
        let load = Outcome {
            began: 0,
            measured: Span { from: second, to: 4 * second },
            windows: vec![9, 10, 20, 30, 7],
            window: second,
            ..outcome(60, 0)
        };
        assert_eq!(rate(&load), [(0.0, 10.0), (1e9, 20.0), (2e9, 30.0)]);
        let long = Outcome {
            measured: Span { from: 0, to: 480 * second },
            windows: (0..480).map(|at| at % 2).collect(),
            ..load
        };
        let points = rate(&long);
        assert_eq!((points.len(), points[0], points[1]), (WINDOWS, (0.0, 0.5), (2e9, 0.5)));
    }
}
