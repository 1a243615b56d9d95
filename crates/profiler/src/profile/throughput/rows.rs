//! From what the generator saw and what the kernel counted to the figures of one load case.

use crate::profile::measurement::Measurement;
use crate::profile::stats;
use tare_load::{ErrorKind, Outcome};

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
    /// What the kernel counted of the server meanwhile.
    pub series: &'a Series,
    /// How many CPUs' time the server may use.
    pub cpus: f64,
    /// The most memory that the server's cgroup used since its start, in bytes, where the kernel tells.
    pub memory_peak: Option<u64>,
}

impl Row<'_> {
    /// What the kernel counted over the measured span; none if the samples do not cover it.
    #[must_use]
    pub fn span(&self) -> Option<Span> {
        let measured = self.outcome.measured;
        self.series.between(measured.from, measured.to)
    }

    /// Answers per second in every whole window of the measured span.
    #[must_use]
    pub fn rates(&self) -> Vec<f64> {
        let seconds = self.outcome.window as f64 / 1e9;
        self.outcome.measured_windows().iter().map(|answers| *answers as f64 / seconds).collect()
    }

    /// Nanoseconds of the server's CPU time per answer in every whole window that had answers.
    #[must_use]
    pub fn cpu_per_request(&self) -> Vec<f64> {
        let Outcome { began, window, measured, .. } = self.outcome;
        let first = (measured.from.saturating_sub(*began)).div_ceil((*window).max(1));
        let windows = self.outcome.measured_windows().iter().zip(first..);
        let cost = |(answers, at): (&u64, u64)| {
            let from = began + at * window;
            let span = self.series.between(from, from + window)?;
            (*answers > 0).then(|| span.cpu / *answers as f64)
        };
        windows.filter_map(cost).collect()
    }

    /// The figures, without doubts.
    #[must_use]
    pub fn measurements(&self) -> Vec<Measurement> {
        let Self { outcome, .. } = self;
        let exact = |metric, value: f64| Measurement::exact(metric, value).of_case(self.case);
        let count = |metric, value: u64| exact(metric, value as f64);
        let mut rows = vec![self.sampled("throughput.rate", outcome.requests_per_second(), self.rates())];
        for (metric, percent) in [
            ("throughput.latency.p50", 50.0),
            ("throughput.latency.p90", 90.0),
            ("throughput.latency.p99", 99.0),
            ("throughput.latency.p99.9", 99.9),
            ("throughput.latency.p99.99", 99.99),
        ] {
            rows.push(count(metric, outcome.latency.percentile(percent)));
        }
        rows.push(exact("throughput.latency.mean", outcome.latency.mean()));
        rows.push(count("throughput.latency.max", outcome.latency.max()));
        rows.push(count("throughput.service.p50", outcome.service.percentile(50.0)));
        rows.push(count("throughput.service.p99", outcome.service.percentile(99.0)));
        rows.extend(self.cost());
        rows.extend(self.memory_peak.map(|bytes| count("throughput.memory.peak", bytes)));
        rows.extend(self.series.last().map(|last| count("throughput.memory.current", last.memory)));
        rows.push(count("throughput.requests", outcome.completed));
        rows.push(count("throughput.bytes-sent", outcome.bytes_out));
        rows.push(count("throughput.bytes-received", outcome.bytes_in));
        if outcome.completed > 0 {
            let each = outcome.bytes_in as f64 / outcome.completed as f64;
            rows.push(exact("throughput.bytes-per-request", each));
        }
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

    /// A figure with the windows that it was computed from.
    fn sampled(&self, metric: &'static str, value: f64, samples: Vec<f64>) -> Measurement {
        let interval = stats::median_interval(&samples, SEED);
        Measurement { interval, samples, ..Measurement::exact(metric, value).of_case(self.case) }
    }

    /// What the requests cost the server.
    fn cost(&self) -> Vec<Measurement> {
        let Some(span) = self.span() else { return Vec::new() };
        let exact = |metric, value: f64| Measurement::exact(metric, value).of_case(self.case);
        // Answers that came in the span, whenever they were asked for: the CPU time is of the span too.
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
            let samples = self.cpu_per_request();
            rows.push(self.sampled("throughput.cpu-per-request", span.cpu / answers, samples));
            rows.push(exact("throughput.cpu-per-request.user", span.user / answers));
            rows.push(exact("throughput.cpu-per-request.kernel", span.system / answers));
            rows.push(exact("throughput.context-switches-per-request", span.switches / answers));
        }
        rows
    }

    fn errors(&self) -> Vec<Measurement> {
        let errors = &self.outcome.errors;
        let of = |metric, kinds: &[ErrorKind]| {
            let count: u64 = kinds.iter().map(|kind| errors.count(*kind)).sum();
            Measurement::exact(metric, count as f64).of_case(self.case)
        };
        use ErrorKind::{
            BadBody, BadLength, BadStatus, ClosedEarly, ConnectOther, ConnectRefused, ConnectTimeout,
            Malformed, Other, Reset, Timeout,
        };
        vec![
            Measurement::exact("throughput.errors", errors.total() as f64).of_case(self.case),
            of("throughput.errors.connect", &[ConnectRefused, ConnectTimeout, ConnectOther]),
            of("throughput.errors.io", &[Reset, ClosedEarly, Other]),
            of("throughput.errors.timeout", &[Timeout]),
            of("throughput.errors.answer", &[Malformed, BadStatus, BadLength, BadBody]),
        ]
    }
}
