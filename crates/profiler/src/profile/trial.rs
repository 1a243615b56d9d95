//! A trial: whether a server under some limits answers a fixed rate of requests in time.

use std::path::Path;

use serde::Serialize;
use tare_oci::units::Nanoseconds;

use super::definition::ThroughputOptions;
use super::definition::values::Load;
use super::subject::{PassError, Subject};
use super::throughput::{self, Case, Loads};

/// Answers that may be missing from the rate, because the last ones arrive after the span.
const RATE_SHARE: f64 = 0.99;
/// Below this memory limit a runtime may fail to start any container (runc needs about 7 MB).
const RUNTIMES_MEMORY: u64 = 16 << 20;

/// What a server is to do.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Goal {
    /// Requests per second.
    pub rate: f64,
    /// 99 % are to be answered within these nanoseconds, counted from the planned start of each.
    pub p99: f64,
}

/// Why a trial failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The kernel killed a process for its memory.
    Memory,
    /// It did not become ready.
    Start,
    /// It ended by itself.
    Crash,
    /// Some requests had no right answer.
    Errors,
    /// It answered fewer requests per second than were planned.
    Rate,
    /// The 99th percentile was too high.
    Latency,
}

impl Reason {
    /// As it is shown.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "out of memory",
            Self::Start => "not ready",
            Self::Crash => "crash",
            Self::Errors => "errors",
            Self::Rate => "rate",
            Self::Latency => "p99",
        }
    }

    /// Whether a disturbance by other programs can be the reason, so that another attempt is worth it.
    #[must_use]
    pub fn may_be_noise(self) -> bool {
        matches!(self, Self::Rate | Self::Latency)
    }
}

/// One trial after it was run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trial {
    /// The CPU limit.
    pub cpus: f64,
    /// The memory limit in bytes; none: not limited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Planned requests per second.
    pub rate: f64,
    /// Right answers per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answered: Option<f64>,
    /// Nanoseconds within which 99 % were answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99: Option<f64>,
    /// Nanoseconds of CPU time per request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_per_request: Option<f64>,
    /// The most bytes of memory under the load.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_peak: Option<u64>,
    /// The share of its CPUs that the load generator used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generator: Option<f64>,
    /// The share of all CPU time that other programs and the hypervisor used meanwhile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub others: Option<f64>,
    /// Why it does not hold; none: it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<Reason>,
    /// More about that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl Trial {
    /// Whether the goal is met.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.failed.is_none()
    }

    fn new(subject: &Subject<'_>, rate: f64) -> Self {
        Self {
            cpus: subject.cpus(),
            memory: subject.spec.limits.memory,
            rate,
            answered: None,
            p99: None,
            cpu_per_request: None,
            memory_peak: None,
            generator: None,
            others: None,
            failed: None,
            message: None,
        }
    }

    /// A trial that a failure of the server ended.
    ///
    /// # Errors
    /// The same error where it is the tool's or the host's.
    pub fn of_error(subject: &Subject<'_>, rate: f64, error: PassError) -> Result<Self, PassError> {
        let limited = subject.spec.limits.memory.is_some_and(|memory| memory < RUNTIMES_MEMORY);
        let reason = match &error {
            PassError::OutOfMemory { .. } => Reason::Memory,
            PassError::Ended { exit, .. } if exit.oom_killed => Reason::Memory,
            PassError::Ended { .. } => Reason::Crash,
            PassError::Load { .. } if error.is_the_servers() => Reason::Errors,
            PassError::NotReady { .. } => Reason::Start,
            PassError::Runtime(_) if limited => Reason::Start,
            _ => return Err(error),
        };
        Ok(Self { failed: Some(reason), message: Some(error.to_string()), ..Self::new(subject, rate) })
    }

    /// A trial whose load was run. `goal` is what it is judged by.
    #[must_use]
    pub fn of_case(subject: &Subject<'_>, goal: &Goal, case: &Case) -> Self {
        let outcome = &case.outcome;
        let mut trial = Self::new(subject, goal.rate);
        if outcome.latency.count() > 0 {
            trial.answered = Some(outcome.requests_per_second());
            trial.p99 = Some(outcome.latency.percentile(99.0) as f64);
        }
        let (from, to) = (outcome.measured.from, outcome.measured.to);
        let answers = outcome.requests_per_second() * outcome.measured.nanoseconds() as f64 / 1e9;
        let cpu = case.series.between(from, to).map(|span| span.cpu);
        trial.cpu_per_request = cpu.filter(|_| answers > 0.0).map(|cpu| cpu / answers);
        trial.memory_peak = case.memory_peak;
        trial.generator = outcome.generator_use();
        let (others, steal) = (case.others, case.steal);
        trial.others =
            others.or(steal).map(|_| (others.unwrap_or(0.0) + steal.unwrap_or(0.0)).clamp(0.0, 1.0));
        let errors = outcome.errors.total();
        let first = outcome.errors.0.values().next().map(|failures| failures.first.clone());
        trial.judge(goal, case.oom_kills, errors, first);
        trial
    }

    fn judge(&mut self, goal: &Goal, oom_kills: u64, errors: u64, first: Option<String>) {
        let answered = self.answered.unwrap_or(0.0);
        let (reason, message) = if oom_kills > 0 {
            (Reason::Memory, format!("the kernel killed {oom_kills} of its processes"))
        } else if errors > 0 {
            (Reason::Errors, format!("{errors} errors, first: {}", first.unwrap_or_default()))
        } else if answered < goal.rate * RATE_SHARE {
            (Reason::Rate, format!("{answered:.0} answers per second instead of {:.0}", goal.rate))
        } else if self.p99.is_none_or(|p99| p99 > goal.p99) {
            (Reason::Latency, "99 % took longer than the target".to_owned())
        } else {
            return;
        };
        (self.failed, self.message) = (Some(reason), Some(message));
    }
}

/// Starts the server under the subject's limits, and sends it requests at the goal's rate for the duration.
///
/// # Errors
/// When the host or the runtime does not do what it is asked to. What the server does wrong is a failed trial.
pub fn run(
    subject: &Subject<'_>,
    options: &ThroughputOptions,
    goal: &Goal,
    duration: Nanoseconds,
    program: &Path,
) -> Result<Trial, PassError> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "rates are whole numbers above 0"
    )]
    let loads = vec![Load::Rate(goal.rate.round() as u32)];
    let options = ThroughputOptions { loads, duration, ..options.clone() };
    match throughput::run(subject, &options, program, |_, _| {}) {
        Ok(Loads { cases, out_of_memory: None }) => {
            let none = Trial { failed: Some(Reason::Rate), ..Trial::new(subject, goal.rate) };
            Ok(cases.first().map_or(none, |case| Trial::of_case(subject, goal, case)))
        }
        Ok(Loads { out_of_memory: Some(error), .. }) | Err(error) => {
            Trial::of_error(subject, goal.rate, error)
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A trial of 1,000 requests a second with this p99 in milliseconds.
    pub(in crate::profile) fn trial(cpus: f64, memory: u64, p99: f64) -> Trial {
        let mut trial = Trial {
            cpus,
            memory: Some(memory),
            rate: 1_000.0,
            answered: Some(1_000.0),
            p99: Some(p99 * 1e6),
            cpu_per_request: Some(200_000.0),
            memory_peak: Some(memory / 2),
            generator: Some(0.1),
            others: Some(0.0),
            failed: None,
            message: None,
        };
        trial.judge(&GOAL, 0, 0, None);
        trial
    }

    pub(in crate::profile) const GOAL: Goal = Goal { rate: 1_000.0, p99: 20e6 };

    #[test]
    fn a_trial_holds_only_if_nothing_speaks_against_it() {
        let failed = |answered: f64, p99: f64, kills, errors| {
            let mut it = trial(1.0, 1 << 20, p99);
            (it.answered, it.failed, it.message) = (Some(answered), None, None);
            it.judge(&GOAL, kills, errors, Some("timed out".to_owned()));
            (it.failed, it.message)
        };
        assert_eq!(failed(1_000.0, 20.0, 0, 0), (None, None));
        let with = |reason, message: &str| (Some(reason), Some(message.to_owned()));
        assert_eq!(failed(1_000.0, 20.1, 0, 0), with(Reason::Latency, "99 % took longer than the target"));
        assert_eq!(failed(989.0, 1.0, 0, 0), with(Reason::Rate, "989 answers per second instead of 1000"));
        assert_eq!(failed(1_000.0, 1.0, 0, 2), with(Reason::Errors, "2 errors, first: timed out"));
        assert_eq!(failed(1_000.0, 1.0, 1, 2), with(Reason::Memory, "the kernel killed 1 of its processes"));
    }
}
