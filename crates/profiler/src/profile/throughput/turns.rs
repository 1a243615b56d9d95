//! Two servers under the same load in short turns: what a shared machine does to one it does to the other a
//! moment later.
//!
//! Both are started, each with a generator of its own whose connections stay, and one is loaded while the other
//! rests. A turn ends when its last answer is in, and the counters are read between turns: so they hold what
//! these answers cost, to the request.

use std::path::Path;

use crate::profile::definition::ThroughputOptions;
use crate::profile::definition::values::Load;
use crate::profile::subject::{PassError, Subject};
use tare_container::counters::Counters;
use tare_load::{Outcome, Plan};

use super::series::Series;
use super::{Case, Served, group, of_counters, of_load, peak, still_runs};

/// The least length of a turn in nanoseconds, 20 ms: the shorter, the more of what disturbs a machine falls on
/// both alike. Measured where a second's CPU time differs by 3 to 4 % from the next second's: turns of 100 ms
/// left as much, turns of 25 and 10 ms left 1.0 to 1.6 %.
const SHORTEST: u64 = 20_000_000;
/// A turn begins and ends with connections that wait for the others: it is so many times as long as an answer
/// takes, that this is little of it.
const ANSWERS: f64 = 20.0;
/// The share of a CPU that a server may use at rest, while the other is measured.
const REST: f64 = 0.02;

/// Why two servers have no figures in turns.
#[derive(Debug, thiserror::Error)]
pub enum TurnsError {
    /// What it saves at rest it may use in the turn after.
    #[error("the limits hold a server back by a quota")]
    Quota,
    /// It disturbs the other.
    #[error("a server uses CPU time without being asked")]
    Restless,
    /// One of them failed.
    #[error("{source}")]
    Failed {
        /// Index of the subject.
        side: usize,
        /// How.
        source: Box<PassError>,
    },
}

impl TurnsError {
    /// What one of them did.
    pub fn of(side: usize) -> impl FnOnce(PassError) -> Self {
        move |source| Self::Failed { side, source: Box::new(source) }
    }
}

/// Starts both servers and gives each a closed loop for the duration of the options, in turns. `program` is this
/// one, which is the generator too. The times of the cases are those of their own turns, one after the other.
///
/// # Errors
/// When they cannot be loaded in turns, a container cannot be had, a server does not answer as it should before
/// or after the load, or it ends.
pub fn run(
    subjects: [&Subject<'_>; 2],
    options: &ThroughputOptions,
    program: &Path,
) -> Result<[Case; 2], TurnsError> {
    if subjects.iter().any(|subject| subject.cpus() < placed(subject)) {
        return Err(TurnsError::Quota);
    }
    // Both generators are in it; only one works at a time.
    let group = group(subjects[0]);
    let start = |side: usize| {
        let served = Served::start(subjects[side], options, program, group.as_ref());
        served.map(Player::new).map_err(TurnsError::of(side))
    };
    let mut players = [start(0)?, start(1)?];
    // The first turn is the warm-up.
    let mut longest = 0.0_f64;
    for (side, player) in players.iter_mut().enumerate() {
        let outcome = player.warm_up().map_err(TurnsError::of(side))?;
        longest = longest.max(outcome.service.mean());
    }
    let duration = options.duration.0;
    let count = (duration / ((longest * ANSWERS) as u64).max(SHORTEST)).max(1);
    for number in 0..count {
        // Each is as often first as second.
        for side in if number % 2 == 0 { [0, 1] } else { [1, 0] } {
            players[side].turn(duration / count).map_err(TurnsError::of(side))?;
        }
    }
    let [at_rest, loaded] =
        [|it: &Player| it.at_rest, |it: &Player| it.loaded].map(|of| players.iter().map(of).sum::<u64>());
    if at_rest as f64 > loaded as f64 * REST {
        return Err(TurnsError::Restless);
    }
    let [first, second] = players;
    Ok([first.end().map_err(TurnsError::of(0))?, second.end().map_err(TurnsError::of(1))?])
}

/// The CPUs that a server runs on.
fn placed(subject: &Subject<'_>) -> f64 {
    subject.placement.server.len() as f64
}

/// One of the two.
struct Player {
    served: Served,
    turns: Vec<Outcome>,
    series: Series,
    /// The most memory before the first turn, in which the runtime's own start is.
    peak_before: Option<u64>,
    /// What was counted when it came to rest.
    rested: Option<Counters>,
    /// Nanoseconds of CPU time used at rest.
    at_rest: u64,
    /// Nanoseconds of all turns.
    loaded: u64,
}

impl Player {
    fn new(served: Served) -> Self {
        let series = Series::default();
        let peak_before = served.container.counters().ok().and_then(|counters| counters.memory_peak);
        Self { served, turns: Vec::new(), series, peak_before, rested: None, at_rest: 0, loaded: 0 }
    }

    /// A turn that does not count.
    fn warm_up(&mut self) -> Result<Outcome, PassError> {
        let Served { container, child, base } = &mut self.served;
        let plan = Plan { duration: base.warm_up, ..base.clone() };
        let outcome = child.turns(&plan).map_err(|source| of_load(container, source))?;
        self.rested = container.counters().ok();
        still_runs(container)?;
        Ok(outcome)
    }

    fn turn(&mut self, nanoseconds: u64) -> Result<(), PassError> {
        let Served { container, child, .. } = &mut self.served;
        let before = container.counters().ok();
        let outcome = child.again(nanoseconds).map_err(|source| of_load(container, source))?;
        let after = container.counters().ok();
        let length = outcome.ended.saturating_sub(outcome.measured.from);
        if let (Some(rested), Some(before), Some(after)) = (&self.rested, &before, &after) {
            let cpu = |counters: &Counters| counters.cpu_usage.unwrap_or(0);
            self.at_rest += cpu(before).saturating_sub(cpu(rested));
            self.series.push_turn(length, &of_counters(before), &of_counters(after));
        }
        self.rested = after;
        self.loaded += length;
        self.turns.push(outcome);
        // More load would only say the same.
        still_runs(container)
    }

    fn end(mut self) -> Result<Case, PassError> {
        let Served { container, child, .. } = &mut self.served;
        child.enough().map_err(|source| of_load(container, source))?;
        let peak_after = container.counters().ok().and_then(|counters| counters.memory_peak);
        let memory_peak = peak(self.peak_before, peak_after, self.series.memory_highest());
        if let Some(out_of_memory) = self.served.end()? {
            return Err(out_of_memory);
        }
        let Some(outcome) = Outcome::joined(self.turns) else { unreachable!("there is at least one turn") };
        Ok(Case {
            load: Load::Closed,
            outcome,
            series: self.series,
            memory_peak,
            steal: None,
            others: None,
            oom_kills: 0,
        })
    }
}
