//! The density pass: how many copies of the container fit into a budget.
//!
//! Copies are started one after another, each under the limits of the profile and until it is ready, and all run until the
//! end. After each the memory of all copies, and the CPU time that they use at rest, are read. The pass ends with the first
//! copy that does not fit, or with as many as the profile allows. Nobody sends the copies requests beside those that find
//! out whether they are ready.

pub mod budget;
pub mod rows;

use std::time::Duration;

use tare_container::host::{HostFacts, available_memory};
use tare_container::{Container, Counters};

use super::definition::DensityOptions;
use super::startup::watched_start;
use super::subject::{self, PassError, Subject};
use budget::{Budget, Stop};

/// After a copy is ready, before its use of CPU time counts as use at rest.
const SETTLE: Duration = Duration::from_millis(50);
/// How long the use at rest is measured. A timer that fires ten times a second shows in it.
const REST: Duration = Duration::from_millis(200);

/// What was read when so many copies ran.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct State {
    /// Nanoseconds from the begin of create until the newest copy was ready.
    pub ready: u64,
    /// Proportional set size of all copies, in bytes.
    pub proportional: u64,
    /// Pages of all copies that other processes map as well, in bytes.
    pub shared: u64,
    /// Memory of all cgroups, in bytes.
    pub cgroup: u64,
    /// CPUs that all copies together used at rest.
    pub idle_cpus: f64,
}

/// All copies of the pass.
#[derive(Debug, Clone, PartialEq)]
pub struct Density {
    /// With one copy, with two, …: of the copies that fit, or of one that does not fit where none does.
    pub states: Vec<State>,
    /// How many fit.
    pub fit: u32,
    /// Why there are no more.
    pub stop: Stop,
    /// What they had to fit into.
    pub budget: Budget,
    /// Bytes of memory of this host, if that is known.
    pub host_memory: Option<u64>,
    /// CPUs of this host.
    pub host_cpus: usize,
}

/// Starts copies until one does not fit. `watch` is called with the number of copies that run, and the nanoseconds until
/// the newest was ready.
///
/// # Errors
/// When not even the first copy becomes ready, or its memory cannot be read. What later copies fail of is the reason why
/// there are no more.
pub fn run(
    subject: &Subject<'_>,
    options: &DensityOptions,
    mut watch: impl FnMut(u32, u64),
) -> Result<Density, PassError> {
    let host = HostFacts::read();
    let budget = Budget::of(options, available_memory());
    // Dropped, they are removed.
    let mut copies: Vec<Container> = Vec::new();
    let mut states: Vec<State> = Vec::new();
    let stop = loop {
        let stop = match copy(subject, &mut copies) {
            Ok(state) => {
                states.push(state);
                watch(u32::try_from(copies.len()).unwrap_or(u32::MAX), state.ready);
                budget.stop(&states)
            }
            Err(Failure { error, .. }) if states.is_empty() => return Err(error),
            Err(Failure { copy, error }) => Some(Stop::Failed { copy, why: error.to_string() }),
        };
        if let Some(stop) = stop {
            break stop;
        }
    };
    for copy in copies {
        copy.remove()?;
    }
    let fit = stop.fit(states.len());
    states.truncate(fit.max(1));
    let fit = u32::try_from(fit).unwrap_or(u32::MAX);
    Ok(Density { states, fit, stop, budget, host_memory: host.memory, host_cpus: host.cpus })
}

/// What a copy failed of.
struct Failure {
    /// Its number, from 1.
    copy: usize,
    error: PassError,
}

/// Starts another copy, and reads what all of them use.
fn copy(subject: &Subject<'_>, copies: &mut Vec<Container>) -> Result<State, Failure> {
    let next = copies.len() + 1;
    let of = |copy: usize| move |error: PassError| Failure { copy, error };
    let container = subject.create().map_err(of(next))?;
    let (observed, _) = watched_start(subject, &container).map_err(of(next))?;
    let ready = observed.ready.saturating_sub(container.clock().begun);
    copies.push(container);
    std::thread::sleep(SETTLE);
    let (from, before) = cpu_time(copies).map_err(of(next))?;
    std::thread::sleep(REST);
    let (to, after) = cpu_time(copies).map_err(of(next))?;
    let mut state = State {
        ready,
        idle_cpus: after.saturating_sub(before) as f64 / to.saturating_sub(from).max(1) as f64,
        ..State::default()
    };
    for (number, copy) in (1..).zip(copies.iter()) {
        add(&mut state, copy).map_err(of(number))?;
    }
    Ok(state)
}

/// Adds the memory of a copy, which must be running still.
fn add(state: &mut State, copy: &Container) -> Result<(), PassError> {
    if let Some(exit) = copy.wait(Duration::ZERO)? {
        return Err(subject::how_it_ended(copy, exit));
    }
    if let Some(error) = subject::out_of_memory(copy, None) {
        return Err(error);
    }
    let memory = copy.process_memory()?;
    state.proportional += memory.proportional;
    state.shared += memory.shared;
    state.cgroup += counters(copy)?.memory.unwrap_or(0);
    Ok(())
}

fn counters(copy: &Container) -> Result<Counters, PassError> {
    Ok(copy.counters()?)
}

/// Nanoseconds of CLOCK_MONOTONIC, and of CPU time that all copies have used until then.
fn cpu_time(copies: &[Container]) -> Result<(u64, u64), PassError> {
    let mut used = 0;
    for copy in copies {
        used += counters(copy)?.cpu_usage.unwrap_or(0);
    }
    Ok((tare_load::clock::now(), used))
}
