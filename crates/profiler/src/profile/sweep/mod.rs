//! Searches the smallest CPU and memory limits under which a server meets a goal, and proves them.
//!
//! By bisection: the CPU limit with enough memory, then the memory limit with enough CPU, then both together. The pair is
//! proved by starts and a longer load, and raised until it passes. Trials around it show how much room there is.

pub mod found;
pub mod resources;

use std::path::PathBuf;

use tare_oci::units::Nanoseconds;

use self::found::{Purpose, Smallest, Sweep, knee};
use super::boundary::{self, Range};
use super::cpus::{self, HostCpus};
use super::definition::{CpuLimit, Limits, Profile, StartupOptions};
use super::measure::{Setting, Stage};
use super::metric::Pass;
use super::profiling;
use super::request::{Image, Options, ProfileError};
use super::startup;
use super::subject::PassError;
use super::trial::{self, Goal, Reason, Trial};

/// A mebibyte.
const MIB: f64 = 1024.0 * 1024.0;
/// CPU limits are multiples of this.
const CPU_STEP: f64 = 0.01;
/// How close the smallest limits are searched, as a part of them; and by how much they are raised where they fail the proof.
const RESOLUTION: f64 = 0.04;
/// The first CPU limit that is tried, relative to the CPU time that the rate takes.
const CPU_GUESS: f64 = 1.05;
/// Attempts of a trial that other programs may have disturbed.
const ATTEMPTS: usize = 2;
/// How often the limits are raised until they pass the proof.
const PROOFS: u32 = 8;
/// A trial has at least so many requests, so that its 99th percentile is more than a few of them …
const REQUESTS: f64 = 1_000.0;
/// … but is no longer than this, in nanoseconds.
const LONGEST: f64 = 30e9;
/// The limits around the smallest of which a map is drawn, relative to them.
const CPU_MAP: [f64; 5] = [0.5, 0.8, 1.0, 1.25, 2.0];
const MEMORY_MAP: [f64; 4] = [0.5, 0.8, 1.0, 2.0];

/// What is searched.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// What the server is to do.
    pub goal: Goal,
    /// The largest CPU limit; none: as many CPUs as leave the load generator one.
    pub cpus: Option<CpuLimit>,
    /// The largest memory limit in bytes; none: twice what the server uses without a limit.
    pub memory: Option<u64>,
    /// Nanoseconds of the load of a trial.
    pub duration: Nanoseconds,
    /// Starts under the smallest limits that must all succeed.
    pub starts: u32,
    /// Nanoseconds of the load that the smallest limits must pass.
    pub proof: Nanoseconds,
    /// What is added to the smallest limits for use, as a part of them.
    pub margin: f64,
}

/// Searches the smallest limits of an image that meet the question's goal. The profile says how the image is run, which
/// requests are sent and over how many connections; of its first limits only the cpuset and the number of processes count.
/// `watch` is called with every trial.
///
/// # Errors
/// When the host or the runtime does not do what it is asked to. That the goal is not met is a result.
pub fn sweep(
    image: &Image,
    profile: &Profile,
    question: &Question,
    options: &Options<'_>,
    mut watch: impl FnMut(Purpose, &Trial),
) -> Result<Sweep, ProfileError> {
    let (program, host) = (options.generator()?, HostCpus::read());
    let runtime = options.runtime.ok_or_else(|| ProfileError::NoRuntime(profile.name.clone()))?;
    let _root: Option<PathBuf> = runtime.prepare(&image.target).map_err(PassError::from)?;
    let passes = vec![Pass::Startup, Pass::Throughput];
    let profile = &Profile { passes, ..profile.clone() };
    let setting =
        Setting { target: &image.target, unstripped: None, profile, program: &program, host: &host };
    let stage = Stage { runtime, runtime_baseline: None, neighbour: None, roots: &[] };
    let base = profile.limits.first().cloned().unwrap_or_default();
    let mut search = Search { setting, stage, question, base, trials: Vec::new(), watch: &mut watch };
    let report = profiling::new_report(image, profile, Some(runtime));
    let found = search.run(&host)?;
    let trials = search.trials;
    Ok(Sweep::new(&report, question, found, trials))
}

struct Search<'a, W> {
    setting: Setting<'a>,
    stage: Stage<'a>,
    question: &'a Question,
    /// What is not searched.
    base: Limits,
    trials: Vec<(Purpose, Trial)>,
    watch: W,
}

impl<W: FnMut(Purpose, &Trial)> Search<'_, W> {
    /// The smallest limits; none if not even the largest meet the goal.
    fn run(&mut self, host: &HostCpus) -> Result<Option<Smallest>, PassError> {
        let most_cpus = self.question.cpus.map_or_else(|| most_cpus(host), CpuLimit::as_cpus);
        let first = self.attempt(Purpose::First, most_cpus, self.question.memory)?;
        if !first.holds() {
            return Ok(None);
        }
        let cost = first.cpu_per_request.unwrap_or(0.0) * first.rate / 1e9;
        let most_memory = self.question.memory;
        let Some(cpus) = self.search_cpus(cost, most_cpus, most_memory)? else { return Ok(None) };
        let Some(memory) = self.search_memory(first.memory_peak, most_cpus)? else { return Ok(None) };
        let Some(smallest) = self.prove(cpus, memory, most_cpus)? else { return Ok(None) };
        self.map(&smallest, most_cpus)?;
        let knee = knee(self.trials.iter().map(|(_, trial)| trial), smallest.memory);
        // Below the smallest limit single trials may have held by chance.
        let knee = knee.map(|knee| knee.max(smallest.cpus));
        Ok(Some(Smallest { knee, ..smallest }))
    }

    fn search_cpus(&mut self, cost: f64, most: f64, memory: Option<u64>) -> Result<Option<f64>, PassError> {
        // Steps of equal ratio.
        let (least, guess) = (CPU_STEP.ln(), (cost * CPU_GUESS).max(CPU_STEP).ln());
        let range = Range { least, most: most.ln(), guess, stride: 0.1, resolution: RESOLUTION };
        let snap = |at: f64| rounded(at.exp()).min(most).ln();
        let found = boundary::search(&range, snap, |at| {
            let cpus = rounded(at.exp()).min(most);
            Ok::<_, PassError>(self.attempt(Purpose::Cpu, cpus, memory)?.holds())
        })?;
        Ok(found.holds.map(|at| rounded(at.exp()).min(most)))
    }

    fn search_memory(&mut self, peak: Option<u64>, cpus: f64) -> Result<Option<u64>, PassError> {
        let peak = peak.map_or(64.0, |bytes| (bytes as f64 / MIB).ceil());
        let most = self.question.memory.map_or(peak * 2.0 + 16.0, |bytes| (bytes as f64 / MIB).floor());
        let range = Range {
            least: 1.0,
            most: most.max(1.0),
            guess: peak,
            stride: (peak / 4.0).ceil(),
            resolution: (peak * RESOLUTION).floor().max(1.0),
        };
        let found = boundary::search(&range, f64::ceil, |at| {
            Ok::<_, PassError>(self.attempt(Purpose::Memory, cpus, Some(bytes(at)))?.holds())
        })?;
        Ok(found.holds.map(bytes))
    }

    /// Starts and loads the server under both limits, and raises the one that is too small until both hold.
    fn prove(&mut self, cpus: f64, memory: u64, most_cpus: f64) -> Result<Option<Smallest>, PassError> {
        let (mut cpus, mut memory) = (cpus, memory);
        for raised in 0..PROOFS {
            let started = self.starts(cpus, memory)?;
            let reason = match &started {
                Ok(slowest) => {
                    let trial = self.attempt_for(Purpose::Proof, cpus, Some(memory), self.question.proof)?;
                    match trial.failed {
                        None => {
                            let (starts, slowest_start) = (self.question.starts, *slowest);
                            let smallest = Smallest {
                                cpus,
                                memory,
                                starts,
                                slowest_start,
                                proof: trial,
                                raised,
                                knee: None,
                            };
                            return Ok(Some(smallest));
                        }
                        Some(reason) => reason,
                    }
                }
                Err(reason) => *reason,
            };
            if matches!(reason, Reason::Memory | Reason::Crash) {
                memory += bytes((memory as f64 / MIB * RESOLUTION).ceil());
            } else if cpus < most_cpus {
                cpus = rounded((cpus * (1.0 + RESOLUTION)).max(cpus + CPU_STEP)).min(most_cpus);
            } else {
                memory += bytes((memory as f64 / MIB * RESOLUTION).ceil());
            }
        }
        Ok(None)
    }

    /// Nanoseconds of the slowest of all starts, or why one failed.
    fn starts(&mut self, cpus: f64, memory: u64) -> Result<Result<f64, Reason>, PassError> {
        let subject = self.setting.subject(&self.stage, &self.limits(cpus, Some(memory))?)?;
        let options = StartupOptions { runs: self.question.starts, cold_runs: 0, runtime_baseline: false };
        let mut slowest = 0.0_f64;
        let result = startup::run(&subject, None, &[], &options, |ready| slowest = slowest.max(ready as f64));
        let trial = match result {
            Ok(starts) if starts.oom_kills == 0 => return Ok(Ok(slowest)),
            Ok(_) => return Ok(Err(Reason::Memory)),
            Err(error) => Trial::of_error(&subject, self.question.goal.rate, error)?,
        };
        let reason = trial.failed.unwrap_or(Reason::Start);
        self.keep(Purpose::Proof, trial);
        Ok(Err(reason))
    }

    /// Trials around the smallest limits that have not been made yet.
    fn map(&mut self, smallest: &Smallest, most_cpus: f64) -> Result<(), PassError> {
        for memory in MEMORY_MAP {
            let memory = bytes((smallest.memory as f64 / MIB * memory).ceil());
            for factor in CPU_MAP {
                let cpus = rounded(smallest.cpus * factor).min(most_cpus);
                let is_known =
                    self.trials.iter().any(|(_, it)| same(it.cpus, cpus) && it.memory == Some(memory));
                if !is_known {
                    self.attempt(Purpose::Map, cpus, Some(memory))?;
                }
            }
        }
        Ok(())
    }

    fn attempt(&mut self, purpose: Purpose, cpus: f64, memory: Option<u64>) -> Result<Trial, PassError> {
        let least = REQUESTS / self.question.goal.rate * 1e9;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most 30 s")]
        let least = Nanoseconds(least.min(LONGEST) as u64);
        self.attempt_for(purpose, cpus, memory, self.question.duration.max(least))
    }

    fn attempt_for(
        &mut self,
        purpose: Purpose,
        cpus: f64,
        memory: Option<u64>,
        duration: Nanoseconds,
    ) -> Result<Trial, PassError> {
        let (setting, goal) = (self.setting, self.question.goal);
        let subject = setting.subject(&self.stage, &self.limits(cpus, memory)?)?;
        let options = &setting.profile.throughput;
        // The map shows what one attempt gives, and what holds is proved by one long load.
        let attempts = if purpose == Purpose::Map { 1 } else { ATTEMPTS };
        let mut trial = trial::run(&subject, options, &goal, duration, setting.program)?;
        for _ in 1..attempts {
            if !trial.failed.is_some_and(Reason::may_be_noise) {
                break;
            }
            let again = trial::run(&subject, options, &goal, duration, setting.program)?;
            self.keep(purpose, std::mem::replace(&mut trial, again));
        }
        self.keep(purpose, trial.clone());
        Ok(trial)
    }

    fn keep(&mut self, purpose: Purpose, trial: Trial) {
        (self.watch)(purpose, &trial);
        self.trials.push((purpose, trial));
    }

    fn limits(&self, cpus: f64, memory: Option<u64>) -> Result<Limits, PassError> {
        let swap = memory.map(|_| self.base.swap.unwrap_or(0));
        Ok(Limits { cpu: Some(CpuLimit::cpus(cpus)?), memory, swap, ..self.base.clone() })
    }
}

/// As many whole CPUs as leave the load generator one, at least one.
fn most_cpus(host: &HostCpus) -> f64 {
    let leaves_room = |count: &u32| {
        let cpu = CpuLimit::cpus(f64::from(*count)).ok();
        cpus::leaves_room(host, &Limits { cpu, ..Limits::default() })
    };
    let count = u32::try_from(host.count()).unwrap_or(1);
    f64::from((1..=count).rev().find(leaves_room).unwrap_or(1))
}

/// A multiple of [`CPU_STEP`], at least one.
fn rounded(cpus: f64) -> f64 {
    (cpus / CPU_STEP).round().max(1.0) / (1.0 / CPU_STEP)
}

fn same(a: f64, b: f64) -> bool {
    (a - b).abs() < CPU_STEP / 2.0
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole numbers of MiB above 0")]
fn bytes(mebibytes: f64) -> u64 {
    (mebibytes.max(1.0) * MIB) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_whole_hundredths_and_mebibytes() {
        assert_eq!([0.001, 0.104, 0.116, 1.0].map(rounded), [0.01, 0.1, 0.12, 1.0]);
        assert_eq!((bytes(0.0), bytes(40.0)), (1 << 20, 40 << 20));
    }

    #[test]
    fn the_generator_keeps_a_cpu() {
        let most = |cpus: usize| most_cpus(&HostCpus::of(&(0..cpus).map(|at| (at, at)).collect::<Vec<_>>()));
        assert_eq!([1, 2, 4].map(most), [1.0, 1.0, 3.0]);
    }
}
