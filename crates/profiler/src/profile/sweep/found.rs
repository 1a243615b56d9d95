//! What a sweep found.

use serde::Serialize;

use super::super::report::{Host, ProfileFacts, Report, RuntimeFacts, Target};
use super::super::trial::{Goal, Trial};
use super::Question;
use super::resources::Resources;

/// The form of sweep.json.
pub const SCHEMA: u32 = 1;
/// Up to this multiple of the best p99 more CPU is not worth its price: the knee.
const KNEE: f64 = 2.0;
/// From this share of other programs on the limits may be too large.
const OTHERS: f64 = 0.05;
/// From this share of its CPUs on the generator may be what limits the rate.
const GENERATOR: f64 = 0.85;

/// What a trial was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// Under the largest limits.
    First,
    /// To find the CPU limit.
    Cpu,
    /// To find the memory limit.
    Memory,
    /// To prove both.
    Proof,
    /// To show what is around them.
    Map,
}

impl Purpose {
    /// As it is shown.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::First => "largest limits",
            Self::Cpu => "CPU search",
            Self::Memory => "memory search",
            Self::Proof => "proof",
            Self::Map => "map",
        }
    }
}

/// The smallest limits that hold.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Smallest {
    /// CPUs.
    pub cpus: f64,
    /// Bytes.
    pub memory: u64,
    /// How many starts succeeded under both.
    pub starts: u32,
    /// Nanoseconds of the slowest of them.
    pub slowest_start: f64,
    /// The longer load under both.
    pub proof: Trial,
    /// How often one of them was raised, because the proof failed.
    pub raised: u32,
    /// The least CPU limit from which on the 99th percentile is at most twice that of the largest limit.
    pub knee: Option<f64>,
}

/// A trial with what it was for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Made {
    /// What it was for.
    pub purpose: Purpose,
    /// The trial.
    #[serde(flatten)]
    pub trial: Trial,
}

/// The result of a sweep.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sweep {
    /// [`SCHEMA`]
    pub schema: u32,
    /// The version of tare.
    pub tool: String,
    /// When it began, in RFC 3339.
    pub taken: String,
    /// The image.
    pub target: Target,
    /// The machine.
    pub host: Host,
    /// What ran the containers.
    pub runtime: Option<RuntimeFacts>,
    /// How the image was run.
    pub profile: ProfileFacts,
    /// What the server was to do.
    pub goal: Goal,
    /// The smallest limits; none if the goal was not met.
    pub smallest: Option<Smallest>,
    /// What is to be configured: the smallest limits and a margin.
    pub resources: Option<Resources>,
    /// What a reader of the figures should know.
    pub notes: Vec<String>,
    /// Every trial, in the order in which they were made.
    pub trials: Vec<Made>,
}

impl Sweep {
    pub(super) fn new(
        report: &Report,
        question: &Question,
        smallest: Option<Smallest>,
        trials: Vec<(super::Purpose, Trial)>,
    ) -> Self {
        let Report { tool, taken, target, host, runtime, profile, .. } = report.clone();
        let resources = smallest.as_ref().map(|it| Resources::new(it.cpus, it.memory, question.margin));
        let notes = notes(trials.iter().map(|(_, trial)| trial));
        let trials = trials.into_iter().map(|(purpose, trial)| Made { purpose, trial }).collect();
        let goal = question.goal;
        Self {
            schema: SCHEMA,
            tool,
            taken,
            target,
            host,
            runtime,
            profile,
            goal,
            smallest,
            resources,
            notes,
            trials,
        }
    }

    /// Why there are no smallest limits.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        let last = self.trials.iter().rfind(|made| !made.trial.holds());
        let last = last.filter(|_| self.smallest.is_none())?;
        let message = last.trial.message.clone().unwrap_or_default();
        Some(match last.purpose {
            Purpose::First => format!("the target is not met even under the largest limits: {message}"),
            purpose => format!("no limits passed the {}: {message}", purpose.name()),
        })
    }
}

/// The least CPU limit from which on the best p99 of trials with enough memory is at most twice that of the largest limit.
/// None for fewer than three limits.
pub(in crate::profile) fn knee<'a>(trials: impl Iterator<Item = &'a Trial>, memory: u64) -> Option<f64> {
    let curve = curve(trials, memory);
    let best = curve.last().filter(|_| curve.len() > 2)?.1;
    curve.iter().rev().take_while(|(_, p99)| *p99 <= best * KNEE).last().map(|(cpus, _)| *cpus)
}

/// The best p99 under each CPU limit, of trials with at least this memory limit and all answers right.
#[must_use]
pub fn curve<'a>(trials: impl Iterator<Item = &'a Trial>, memory: u64) -> Vec<(f64, f64)> {
    let mut curve: Vec<(f64, f64)> = Vec::new();
    for trial in trials.filter(|trial| trial.memory.is_none_or(|limit| limit >= memory)) {
        let Some(p99) = trial.p99 else { continue };
        match curve.iter_mut().find(|(cpus, _)| (*cpus - trial.cpus).abs() < f64::EPSILON) {
            Some(point) => point.1 = point.1.min(p99),
            None => curve.push((trial.cpus, p99)),
        }
    }
    curve.sort_by(|a, b| a.0.total_cmp(&b.0));
    curve
}

/// What may be wrong with trials.
pub(in crate::profile) fn notes<'a>(trials: impl Iterator<Item = &'a Trial>) -> Vec<String> {
    let (mut others, mut generator) = (0.0_f64, 0.0_f64);
    for trial in trials {
        others = others.max(trial.others.unwrap_or(0.0));
        generator = generator.max(trial.generator.unwrap_or(0.0));
    }
    let percent = |share: f64| format!("{:.0} %", share * 100.0);
    let mut notes = Vec::new();
    if others > OTHERS {
        notes.push(format!(
            "Other programs used up to {} of this machine's CPU time during a trial: the server may need less than was found.",
            percent(others)
        ));
    }
    if generator > GENERATOR {
        notes.push(format!(
            "The load generator used up to {} of its CPU: the server may need less than was found.",
            percent(generator)
        ));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::super::super::trial::tests::trial;
    use super::*;

    #[test]
    fn the_knee_is_where_more_cpu_stops_to_help() {
        let trials = [
            trial(0.2, 64, 300.0),
            trial(0.25, 64, 30.0),
            trial(0.3, 64, 3.9),
            // The better of two under the same limit, and one with too little memory.
            trial(0.3, 64, 25.0),
            trial(0.22, 32, 1.0),
            trial(0.5, 64, 2.5),
            trial(1.0, 128, 2.0),
        ];
        assert_eq!(knee(trials.iter(), 64), Some(0.3));
        let points = curve(trials.iter(), 64);
        assert_eq!(points, [(0.2, 3e8), (0.25, 3e7), (0.3, 3.9e6), (0.5, 2.5e6), (1.0, 2e6)]);
        assert_eq!(knee(trials[..2].iter(), 64), None);
    }

    #[test]
    fn disturbances_are_said_once() {
        let quiet = trial(1.0, 64, 1.0);
        let disturbed = Trial { others: Some(0.3), generator: Some(0.9), ..quiet.clone() };
        assert_eq!(notes([&quiet].into_iter()), Vec::<String>::new());
        assert_eq!(
            notes([&disturbed, &quiet].into_iter()),
            [
                "Other programs used up to 30 % of this machine's CPU time during a trial: the server may need less than was found.",
                "The load generator used up to 90 % of its CPU: the server may need less than was found."
            ]
        );
    }
}
