//! From what the generator saw and what the kernel counted to the figures of one load case.

use crate::profile::measurement::Measurement;
use crate::profile::metric::ERRORS;
use crate::profile::{stats, validity};
use tare_load::{ErrorClass, Outcome};

use super::series::{Series, Span};

/// Of the resampling: the same windows give the same interval.
const SEED: u64 = 1;

/// One load case after it was run.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// Its name: `closed`, `open-90`.
    pub case: &'a str,
    /// What the generator saw.
    pub outcome: &'a Outcome,
    /// The same without the windows in which the server still warmed up ([`steady`]).
    pub steady: &'a Outcome,
    /// What the kernel counted of the server meanwhile.
    pub series: &'a Series,
    /// How many CPUs' time the server may use.
    pub cpus: f64,
    /// The most memory that the server's cgroup used since its start, in bytes, where the kernel counts it.
    pub memory_peak: Option<u64>,
    /// Processes of the server that the kernel killed for want of memory since its start.
    pub oom_kills: u64,
}

/// Right answers per second in every whole window of the measured span.
#[must_use]
pub fn rates(outcome: &Outcome) -> Vec<f64> {
    let seconds = outcome.window as f64 / 1e9;
    outcome.measured_windows().iter().map(|answers| *answers as f64 / seconds).collect()
}

/// The part of a run in which the server is at its speed: all of it where it never settles, which is a doubt.
#[must_use]
pub fn steady(outcome: &Outcome) -> Outcome {
    outcome.without_warm_up(validity::steady(&rates(outcome)).unwrap_or(0))
}

impl Row<'_> {
    /// What the kernel counted over the measured span; none if the samples do not cover it.
    #[must_use]
    pub fn span(&self) -> Option<Span> {
        let measured = self.outcome.measured;
        self.series.between(measured.from, measured.to)
    }

    /// Nanoseconds of the server's CPU time and right answers in every whole steady window.
    fn cpu_and_answers(&self) -> Vec<(f64, f64)> {
        let Outcome { began, window, measured, .. } = self.steady;
        let first = (measured.from.saturating_sub(*began)).div_ceil((*window).max(1));
        let windows = self.steady.measured_windows().iter().zip(first..);
        let cost = |(answers, at): (&u64, u64)| {
            let from = began + at * window;
            Some((self.series.between(from, from + window)?.cpu, *answers as f64))
        };
        windows.filter_map(cost).collect()
    }

    /// Rate and times of right answers, of which there must be one: of none there is no latency, not one of 0.
    fn speed(&self) -> Vec<Measurement> {
        let Self { outcome, steady, .. } = self;
        if outcome.completed == 0 || steady.latency.count() == 0 {
            return Vec::new();
        }
        let exact = |metric, value: f64| Measurement::exact(metric, value).of_case(self.case);
        let count = |metric, value: u64| exact(metric, value as f64);
        let rates = rates(steady);
        let pairs: Vec<(f64, f64)> = rates.iter().map(|rate| (*rate, 1.0)).collect();
        let mut rows = vec![self.sampled("throughput.rate", steady.requests_per_second(), rates, &pairs)];
        for (metric, percent) in [
            ("throughput.latency.p50", 50.0),
            ("throughput.latency.p90", 90.0),
            ("throughput.latency.p99", 99.0),
            ("throughput.latency.p99.9", 99.9),
            ("throughput.latency.p99.99", 99.99),
        ] {
            rows.push(count(metric, steady.latency.percentile(percent)));
        }
        rows.push(exact("throughput.latency.mean", steady.latency.mean()));
        rows.push(count("throughput.latency.max", steady.latency.max()));
        rows.push(count("throughput.service.p50", steady.service.percentile(50.0)));
        rows.push(count("throughput.service.p99", steady.service.percentile(99.0)));
        rows.push(exact("throughput.bytes-per-request", outcome.bytes_in as f64 / outcome.completed as f64));
        rows
    }

    /// The figures, without doubts.
    #[must_use]
    pub fn measurements(&self) -> Vec<Measurement> {
        let Self { outcome, .. } = self;
        let exact = |metric, value: f64| Measurement::exact(metric, value).of_case(self.case);
        let count = |metric, value: u64| exact(metric, value as f64);
        let mut rows = self.speed();
        rows.extend(self.cost());
        rows.extend(self.memory_peak.map(|bytes| count("throughput.memory.peak", bytes)));
        rows.extend(self.series.last().map(|last| count("throughput.memory.current", last.memory)));
        rows.push(count("throughput.requests", outcome.completed));
        rows.push(count("throughput.bytes-sent", outcome.bytes_out));
        rows.push(count("throughput.bytes-received", outcome.bytes_in));
        rows.extend(self.errors());
        rows.push(count("throughput.unsent", outcome.unsent));
        let connections = outcome.connections;
        rows.push(count(
            "throughput.connections-open",
            u64::from(connections.at_start.min(connections.at_end)),
        ));
        rows.extend(outcome.generator_use().map(|share| exact("throughput.generator-cpu", share)));
        rows.sort_by_key(|row| crate::profile::metric::position(row.metric));
        rows
    }

    /// A figure with the windows that it was computed from, a numerator and a denominator each.
    fn sampled(
        &self,
        metric: &'static str,
        value: f64,
        samples: Vec<f64>,
        pairs: &[(f64, f64)],
    ) -> Measurement {
        let interval = stats::ratio_interval(pairs, SEED);
        Measurement { interval, samples, ..Measurement::exact(metric, value).of_case(self.case) }
    }

    /// What the requests cost the server.
    fn cost(&self) -> Vec<Measurement> {
        let Some(span) = self.span() else { return Vec::new() };
        let exact = |metric, value: f64| Measurement::exact(metric, value).of_case(self.case);
        // Right answers that came in the span, whenever they were asked for: the CPU time is of the span too.
        let answers = self.outcome.requests_per_second() * span.nanoseconds / 1e9;
        let mut rows = vec![
            exact(
                "throughput.cpu-of-limit",
                span.cpu / (span.nanoseconds * self.cpus.max(f64::MIN_POSITIVE)),
            ),
            exact("throughput.throttled-time", span.throttled),
        ];
        if span.periods > 0.0 {
            rows.push(exact("throughput.throttled-periods", span.throttled_periods / span.periods));
        }
        if answers > 0.0 {
            rows.extend(self.cpu_per_request());
            rows.push(exact("throughput.cpu-per-request.user", span.user / answers));
            rows.push(exact("throughput.cpu-per-request.kernel", span.system / answers));
            rows.push(exact("throughput.context-switches-per-request", span.switches / answers));
        }
        rows
    }

    /// CPU time over right answers of the steady windows, or of the whole span where it has no whole window.
    fn cpu_per_request(&self) -> Option<Measurement> {
        let mut pairs = self.cpu_and_answers();
        if pairs.is_empty() {
            let Outcome { measured, .. } = self.steady;
            let answers = self.steady.requests_per_second() * measured.nanoseconds() as f64 / 1e9;
            pairs.push((self.series.between(measured.from, measured.to)?.cpu, answers));
        }
        let (cpu, answers) = pairs.iter().fold((0.0, 0.0), |sum, pair| (sum.0 + pair.0, sum.1 + pair.1));
        let samples = pairs.iter().filter(|pair| pair.1 > 0.0).map(|pair| pair.0 / pair.1).collect();
        (answers > 0.0).then(|| self.sampled("throughput.cpu-per-request", cpu / answers, samples, &pairs))
    }

    fn errors(&self) -> Vec<Measurement> {
        let errors = &self.outcome.errors;
        let count = |metric, count: u64| Measurement::exact(metric, count as f64).of_case(self.case);
        vec![
            count(ERRORS, errors.total()),
            count("throughput.errors.connect", errors.of_class(ErrorClass::Connect)),
            count("throughput.errors.io", errors.of_class(ErrorClass::Io)),
            count("throughput.errors.timeout", errors.of_class(ErrorClass::Timeout)),
            count("throughput.errors.answer", errors.of_class(ErrorClass::Answer)),
        ]
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::series::Sample;
    use super::*;
    use tare_load::{Connections, Distribution, ErrorKind, Errors, Failures};

    /// Half a second in which some requests were answered as expected, and each in 1 ms, and others refused.
    pub(crate) fn outcome(completed: u64, refused: u64) -> Outcome {
        let mut times = Distribution::default();
        (0..completed).for_each(|_| times.record(1_000_000));
        let failures = Failures { count: refused, first: "status 503 instead of 200".to_owned() };
        let errors = [(ErrorKind::BadStatus, failures)].into_iter().filter(|_| refused > 0);
        Outcome {
            began: 0,
            measured: tare_load::Span { from: 0, to: 500_000_000 },
            ended: 500_000_000,
            planned: completed + refused,
            sent: completed + refused,
            completed,
            unsent: 0,
            errors: Errors(errors.collect()),
            windows: vec![completed],
            window: 500_000_000,
            latency: times.clone(),
            service: times,
            parts: vec![],
            part: 0,
            in_flight: 0,
            bytes_in: 1_000,
            bytes_out: 1_000,
            bodies_compared: 0,
            connections: Connections::default(),
            cpu: None,
            threads: 1,
        }
    }

    /// 2,000 requests, each answered after so many nanoseconds.
    pub(crate) fn answered(nanoseconds: u64) -> Outcome {
        let mut latency = Distribution::default();
        (0..2_000).for_each(|_| latency.record(nanoseconds));
        Outcome { latency, ..outcome(2_000, 0) }
    }

    /// Slow for the first 0.8 s of 2 s: 36 answers in each window of 100 ms, and then 480.
    #[test]
    fn a_slow_beginning_is_cut_from_rates_times_and_costs_alike() {
        let window = 100_000_000;
        let part = |count: u64, time: u64| {
            let mut times = Distribution::default();
            (0..count).for_each(|_| times.record(time));
            tare_load::Times { latency: times.clone(), service: times }
        };
        let (slow, fast) = (part(36, 170_000_000), part(480, 13_000_000));
        let mut parts = [vec![slow; 8], vec![fast.clone(); 2]].concat();
        parts.push(part(480 * 10, 13_000_000));
        let mut latency = Distribution::default();
        parts.iter().for_each(|part| latency.merge(&part.latency));
        let windows = [vec![36; 8], vec![480; 12]].concat();
        let whole = Outcome {
            measured: tare_load::Span { from: 0, to: 20 * window },
            windows: windows.clone(),
            window,
            latency: latency.clone(),
            service: latency,
            parts,
            part: window,
            ..outcome(6_048, 0)
        };
        // A cold cache costs: 100 µs for each slow answer, 10 µs for each other.
        let mut series = Series::default();
        series.push(Sample::default());
        let mut cpu = 0;
        for (at, answers) in windows.iter().enumerate() {
            cpu += answers * if *answers == 36 { 100_000 } else { 10_000 };
            series.push(Sample { at: (at as u64 + 1) * window, cpu, ..Sample::default() });
        }
        let steady = steady(&whole);
        let row = Row {
            case: "closed",
            outcome: &whole,
            steady: &steady,
            series: &series,
            cpus: 1.0,
            memory_peak: None,
            oom_kills: 0,
        };
        let rows = row.measurements();
        let of = |metric: &str| {
            let row = rows.iter().find(|row| row.metric == metric).unwrap();
            (row.value, row.interval, row.samples.len())
        };
        assert_eq!(of("throughput.rate"), (4_800.0, Some((4_800.0, 4_800.0)), 12));
        assert_eq!(of("throughput.cpu-per-request"), (10_000.0, Some((10_000.0, 10_000.0)), 12));
        assert_eq!(of("throughput.latency.max").0, 13_000_000.0);
        assert!(of("throughput.latency.p50").0 <= 13_000_000.0);
        assert_eq!(of("throughput.requests").0, 6_048.0);
    }

    #[test]
    fn figures_are_of_right_answers_and_of_none_there_are_none() {
        let mut series = Series::default();
        series.push(Sample { at: 0, ..Sample::default() });
        series.push(Sample { at: 500_000_000, cpu: 8_000, ..Sample::default() });
        let of = |completed, refused, metrics: &[&str]| -> Vec<Option<f64>> {
            let outcome = outcome(completed, refused);
            let row = Row {
                case: "closed",
                outcome: &outcome,
                steady: &outcome,
                series: &series,
                cpus: 1.0,
                memory_peak: None,
                oom_kills: 0,
            };
            let rows = row.measurements();
            let value = |metric: &&str| rows.iter().find(|row| row.metric == *metric).map(|row| row.value);
            metrics.iter().map(value).collect()
        };
        let metrics = [
            "throughput.rate",
            "throughput.latency.p99",
            "throughput.cpu-per-request",
            "throughput.bytes-per-request",
            "throughput.requests",
            "throughput.errors",
            "throughput.errors.answer",
        ];
        let some = of(4, 96, &metrics);
        assert_eq!(some, [8.0, 1e6, 2_000.0, 250.0, 4.0, 96.0, 96.0].map(Some));
        assert_eq!(of(0, 96, &metrics), [None, None, None, None, Some(0.0), Some(96.0), Some(96.0)]);
    }
}
