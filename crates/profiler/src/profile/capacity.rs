//! Searches the highest rate at which a server under given limits answers 99 % of the requests in time.
//!
//! By bisection, in several rounds with a server of their own each, since memory layouts differ from start to start. The
//! figure is the median of the rounds, with the interval of that median.

use serde::Serialize;
use tare_load::{Pace, Plan};
use tare_oci::units::Nanoseconds;

use super::boundary::{self, Range};
use super::cpus::HostCpus;
use super::definition::values::Load;
use super::definition::{Limits, Profile, ThroughputOptions};
use super::measure::{Setting, Stage};
use super::metric::Pass;
use super::profiling;
use super::report::{Host, ProfileFacts, Report, RuntimeFacts, Target};
use super::request::{Image, Options, ProfileError};
use super::stats;
use super::subject::PassError;
use super::sweep::found::notes;
use super::throughput::{self, Served};
use super::trial::{Goal, Trial};

/// The form of capacity.json.
pub const SCHEMA: u32 = 1;
/// How close the rate is searched, as a part of it.
const RESOLUTION: f64 = 0.02;
/// The first rate that is tried, relative to what a closed loop reaches.
const GUESS: f64 = 0.8;
/// How far the first two rates of the first round lie apart, and of the others, as a part of them.
const STRIDES: [f64; 2] = [0.2, 0.05];
/// Rates from this part of what a closed loop reaches on are tried, …
const LEAST: f64 = 0.001;
/// … up to this one.
const MOST: f64 = 1.5;
/// Attempts of a rate, since other programs may disturb one.
const ATTEMPTS: usize = 2;
/// Of the resampling: the same rounds give the same interval.
const SEED: u64 = 1;

/// What is searched.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// Nanoseconds within which 99 % are to be answered.
    pub p99: f64,
    /// Nanoseconds of the load of a trial.
    pub duration: Nanoseconds,
    /// How often the rate is searched.
    pub rounds: u32,
}

/// The result.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Capacity {
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
    /// The limits.
    pub limits: Limits,
    /// Nanoseconds within which 99 % were to be answered.
    pub p99: f64,
    /// What a closed loop reached, in requests per second.
    pub closed: f64,
    /// The highest rate that held, the median of the rounds. None if none held in a round.
    pub rate: Option<f64>,
    /// The interval of that median, 95 %.
    pub interval: Option<(f64, f64)>,
    /// The highest rate that held in each round.
    pub rounds: Vec<f64>,
    /// What a reader of the figures should know.
    pub notes: Vec<String>,
    /// Every trial, in the order in which they were made.
    pub trials: Vec<Trial>,
}

/// Searches the highest rate of an image under the profile's first limits. `watch` is called with every trial.
///
/// # Errors
/// When the host or the runtime does not do what it is asked to, or the server ends or never becomes ready.
pub fn capacity(
    image: &Image,
    profile: &Profile,
    question: &Question,
    options: &Options<'_>,
    mut watch: impl FnMut(&Trial),
) -> Result<Capacity, ProfileError> {
    let (program, host) = (options.generator()?, HostCpus::read());
    let runtime = options.runtime.ok_or_else(|| ProfileError::NoRuntime(profile.name.clone()))?;
    runtime.prepare(&image.target).map_err(PassError::from)?;
    let profile = &Profile { passes: vec![Pass::Throughput], ..profile.clone() };
    let setting =
        Setting { target: &image.target, unstripped: None, profile, program: &program, host: &host };
    let stage = Stage { runtime, runtime_baseline: None, neighbour: None, roots: &[] };
    let limits = profile.limits.first().cloned().unwrap_or_default();
    let report = profiling::new_report(image, profile, Some(runtime));
    let mut trials = Vec::new();
    let (mut rounds, mut closed): (Vec<f64>, f64) = (Vec::new(), 0.0);
    for round in 0..question.rounds {
        let before = stats::median(&rounds);
        let reached = one_round(&setting, &stage, &limits, question, before, |trial| {
            watch(&trial);
            trials.push(trial);
        })?;
        if round == 0 {
            closed = reached.closed;
        }
        let Some(rate) = reached.rate else { break };
        rounds.push(rate);
    }
    let all_held = rounds.len() as u32 == question.rounds;
    let Report { tool, taken, target, host, runtime, profile, .. } = report;
    Ok(Capacity {
        schema: SCHEMA,
        tool,
        taken,
        target,
        host,
        runtime,
        profile,
        limits,
        p99: question.p99,
        closed,
        rate: stats::median(&rounds).filter(|_| all_held),
        interval: stats::median_interval(&rounds, SEED).filter(|_| all_held),
        notes: notes(trials.iter()),
        rounds,
        trials,
    })
}

/// What one server reached.
struct Reached {
    /// In a closed loop; 0 where it was not asked.
    closed: f64,
    /// The highest rate that held.
    rate: Option<f64>,
}

/// Starts a server and searches its rate, from the one of the rounds before where there were any.
fn one_round(
    setting: &Setting<'_>,
    stage: &Stage<'_>,
    limits: &Limits,
    question: &Question,
    before: Option<f64>,
    mut keep: impl FnMut(Trial),
) -> Result<Reached, PassError> {
    let subject = setting.subject(stage, limits)?;
    let options = ThroughputOptions { duration: question.duration, ..setting.profile.throughput.clone() };
    let group = throughput::group(&subject);
    let mut served = Served::start(&subject, &options, setting.program, group.as_ref())?;
    let cpus = &subject.placement.generator;
    let mut closed = 0.0;
    let around = match before {
        Some(rate) => rate,
        None => {
            let plan = Plan { pace: Pace::Closed, ..served.base.clone() };
            let case = throughput::alone(&mut served, Load::Closed, &plan, cpus, &mut |_, _| {})?;
            closed = case.outcome.requests_per_second();
            closed * GUESS
        }
    };
    if around < 1.0 {
        served.stop()?.0.remove()?;
        return Ok(Reached { closed, rate: None });
    }
    // Towards lower rates, in steps of equal ratio: what holds holds for every lower rate.
    let place = |rate: f64| -rate.ln();
    let range = Range {
        least: place(around * MOST / GUESS),
        most: place((around * LEAST).max(1.0)),
        guess: place(around),
        stride: STRIDES[usize::from(before.is_some())],
        resolution: RESOLUTION,
    };
    let found = boundary::search(
        &range,
        |at| at,
        |at| {
            let goal = Goal { rate: (-at).exp(), p99: question.p99 };
            let plan = Plan { pace: Pace::Open { rate: goal.rate }, ..served.base.clone() };
            for _ in 0..ATTEMPTS {
                let case = throughput::alone(&mut served, Load::Closed, &plan, cpus, &mut |_, _| {})?;
                let trial = Trial::of_case(&subject, &goal, &case);
                let holds = trial.holds();
                keep(trial);
                if holds {
                    return Ok(true);
                }
            }
            Ok::<_, PassError>(false)
        },
    )?;
    served.end()?;
    Ok(Reached { closed, rate: found.holds.map(|at| (-at).exp()) })
}
