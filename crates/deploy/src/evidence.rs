//! The figures that a recommendation stands on: one run of one report, and the reports that prove a memory limit.

use tare_report::{Doubt, EventKind, Limits, Measurement, Pass, Report, Run};

use crate::error::DeployError;
use crate::origin::Figure;

/// What no figure exceeds: 11 days in nanoseconds, a petabyte. Everything computed from figures below it fits.
const LARGEST: f64 = 1e15;
/// Starts without a failure that prove a memory limit.
pub const PROVING_STARTS: usize = 20;

/// The reports of one image.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// The report with the load cases.
    pub report: &'a Report,
    /// Its run that the figures are taken from.
    pub run: &'a Run,
    others: &'a [Report],
}

/// Starts under a memory limit that did not fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// How many.
    pub starts: usize,
    /// The limit, in bytes.
    pub memory: u64,
}

impl<'a> Evidence<'a> {
    /// Takes figures from `report`, of its run `number` counted from 1 among those with load cases; none where there is
    /// only one. `others` only prove limits; those of another image are left out.
    ///
    /// # Errors
    /// When there is no run with load cases, or several and none is chosen; when the run went wrong.
    pub fn new(report: &'a Report, number: Option<usize>, others: &'a [Report]) -> Result<Self, DeployError> {
        let loaded: Vec<&Run> = report.runs.iter().filter(|run| has_load(run)).collect();
        let list = || {
            let line = |(at, run): (usize, &&Run)| format!("--run {}: {}", at + 1, limits(run));
            loaded.iter().enumerate().map(line).collect::<Vec<_>>().join("; ")
        };
        let run = match (loaded.as_slice(), number) {
            ([], _) => {
                return Err(DeployError::new(
                    "the report has no load cases",
                    format!(
                        "profile with the throughput pass: `{} profile NAME`",
                        tare_tool::environment::command()
                    ),
                ));
            }
            ([run], None) => run,
            (_, None) => {
                return Err(DeployError::new(
                    "the report has several runs with load cases",
                    format!("choose one: {}", list()),
                ));
            }
            (runs, Some(number)) => match number.checked_sub(1).and_then(|at| runs.get(at)) {
                Some(run) => run,
                None => {
                    let message = format!("the report has no run {number} with load cases");
                    return Err(DeployError::new(message, format!("choose one: {}", list())));
                }
            },
        };
        if let Some(event) = run.failure() {
            return Err(DeployError::new(
                format!("the server failed while it was measured: {}: {}", event.kind.name(), event.message),
                "mend the server or raise the profile's limits, then profile again",
            ));
        }
        Ok(Self { report, run, others })
    }

    /// The limits of the run.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.run.limits.clone().unwrap_or_default()
    }

    /// A setting of the profile, as text.
    #[must_use]
    pub fn setting(&self, key: &str) -> Option<&'a str> {
        self.report.profile.settings.get(key).map(String::as_str)
    }

    /// The measurement of this metric and case.
    ///
    /// # Errors
    /// When it is missing, or a number that nothing can have.
    pub fn find(&self, metric: &str, case: Option<&str>) -> Result<&'a Measurement, DeployError> {
        let is_meant = |it: &&Measurement| it.metric == metric && it.case.as_deref() == case;
        let key = || case.map_or(metric.to_owned(), |case| format!("{metric}@{case}"));
        let found = self.run.measurements.iter().find(is_meant).ok_or_else(|| {
            DeployError::new(
                format!("the report has no figure {}", key()),
                "profile with the passes startup and throughput, and without options that leave loads out",
            )
        })?;
        check(found)
    }

    /// The measurements of this metric in every case.
    ///
    /// # Errors
    /// When there is none, or one is a number that nothing can have.
    pub fn all(&self, metric: &str) -> Result<Vec<&'a Measurement>, DeployError> {
        let all: Vec<_> = self.run.measurements.iter().filter(|it| it.metric == metric).collect();
        if all.is_empty() {
            self.find(metric, None)?;
        }
        all.into_iter().map(check).collect()
    }

    /// The largest sample of a metric, or its value where a report has no samples.
    ///
    /// # Errors
    /// When it is missing, or a number that nothing can have.
    pub fn largest(&self, metric: &str) -> Result<Figure, DeployError> {
        let measurement = self.find(metric, None)?;
        let value = measurement.samples.iter().copied().fold(measurement.value, f64::max);
        Ok(Figure { key: format!("largest of {}", measurement.metric), value, ..Figure::of(measurement) })
    }

    /// The most starts under a memory limit of at most `memory` bytes, if these are enough to prove it.
    #[must_use]
    pub fn proof(&self, memory: u64) -> Option<Proof> {
        let own = |report: &&Report| report.target.digest == self.report.target.digest;
        let runs = std::iter::once(self.report).chain(self.others.iter().filter(own)).flat_map(|it| &it.runs);
        let proofs = runs.filter_map(|run| {
            let limit = run.limits.as_ref()?.memory.filter(|limit| *limit <= memory)?;
            let started =
                |it: &&Measurement| it.metric.starts_with("startup.") && it.metric.ends_with(".ready");
            let starts = run.measurements.iter().filter(started).map(|it| it.samples.len()).sum();
            let killed =
                |it: &Measurement| it.doubts.iter().any(|it| matches!(it, Doubt::OutOfMemory { .. }));
            let failed = run
                .events
                .iter()
                .filter(|it| it.kind.is_failure())
                .any(|it| it.pass == Pass::Startup || it.kind == EventKind::OutOfMemory);
            let sound = !failed && !run.measurements.iter().any(killed) && starts >= PROVING_STARTS;
            sound.then_some(Proof { starts, memory: limit })
        });
        proofs.max_by_key(|proof| proof.starts)
    }
}

/// Whether a report has what the figures of a recommendation are taken from.
#[must_use]
pub fn is_complete(report: &Report) -> bool {
    report.runs.iter().any(has_load)
}

fn has_load(run: &Run) -> bool {
    run.measurements.iter().any(|it| it.metric == "throughput.rate")
}

fn limits(run: &Run) -> String {
    run.limits.as_ref().map_or("no limits".to_owned(), ToString::to_string)
}

fn check(measurement: &Measurement) -> Result<&Measurement, DeployError> {
    let is_possible = |value: &f64| (0.0..=LARGEST).contains(value);
    if is_possible(&measurement.value) && measurement.samples.iter().all(is_possible) {
        return Ok(measurement);
    }
    Err(DeployError::new(
        format!("{} of the report is no possible figure: {}", measurement.key(), measurement.value),
        "the report is damaged: profile again",
    ))
}
