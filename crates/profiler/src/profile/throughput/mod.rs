//! The throughput pass: how much the server does under its limits, and what each request costs it.
//!
//! Every load case has a container of its own, so that its memory is of this case alone. The generator is a process of its own, in the container's network
//! namespace, on other CPUs and in a cgroup of its own; what the kernel counts of the server is sampled
//! beside it. Answers are compared in full before the first case and after the last, and in samples between.

pub mod curves;
pub mod doubts;
pub mod plan;
pub mod rows;
pub mod series;
pub mod turns;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::generator::{ChildError, Generator, Place};
use tare_container::Container;
use tare_container::counters::Counters;
use tare_container::group::Group;
use tare_container::host::HostLoad;
#[cfg(target_os = "linux")]
use tare_container::limits::CpuSet;
use tare_load::clock;
use tare_load::{Outcome, Phase, Plan, host};

use super::definition::ThroughputOptions;
use super::definition::values::Load;
use super::startup::watched_start;
use super::subject::{self, PassError, Subject};
use series::{Sample, Series};

/// Between two samples of the counters. Reading them takes some 0.1 ms of the generator's CPU.
const SAMPLE_PAUSE: Duration = Duration::from_millis(50);

/// One load case after it was run.
#[derive(Debug, Clone)]
pub struct Case {
    /// What was asked for.
    pub load: Load,
    /// What the generator saw.
    pub outcome: Outcome,
    /// What the kernel counted of the server, from its start to the end of the case.
    pub series: Series,
    /// The most memory it used while it was loaded, in bytes.
    pub memory_peak: Option<u64>,
    /// Share of all CPU time that the hypervisor took meanwhile, where the host counts it.
    pub steal: Option<f64>,
    /// The same that neither the server nor the generator used, in the measured span.
    pub others: Option<f64>,
    /// Processes of the server that the kernel killed for want of memory since its start.
    pub oom_kills: u64,
}

/// What is seen of a load.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Seen {
    /// It runs.
    Running {
        /// The number of the load, from 1.
        number: usize,
        /// Of how many.
        of: usize,
        /// Nanoseconds since its begin.
        elapsed: u64,
        /// Nanoseconds that it takes, with its warm-up.
        duration: u64,
        /// Answers per second in the last window.
        rate: f64,
        /// Nanoseconds within which 99 % of the answers came lately.
        p99: Option<u64>,
    },
    /// It is done.
    Done {
        /// Right answers per second.
        rate: f64,
        /// Nanoseconds within which 99 % of them came.
        p99: Option<u64>,
    },
}

/// All load cases of the pass.
#[derive(Debug)]
pub struct Loads {
    /// In the order in which they were run.
    pub cases: Vec<Case>,
    /// That processes of the server were killed for want of memory, if any were; the server went on.
    pub out_of_memory: Option<PassError>,
}

/// Starts the server, and runs every load case of the options. `program` is this one, which is the generator
/// too; `watch` hears of what is done.
///
/// # Errors
/// When a container cannot be had, the server does not answer as it should before or after the load, or it
/// ends.
pub fn run(
    subject: &Subject<'_>,
    options: &ThroughputOptions,
    program: &Path,
    mut watch: impl FnMut(Load, Seen),
) -> Result<Loads, PassError> {
    let group = group(subject);
    let mut loads = Loads { cases: Vec::new(), out_of_memory: None };
    let mut capacity = None;
    let of = options.loads.len();
    for (number, load) in (1..).zip(&options.loads) {
        // Of no right answers there is no share.
        if matches!(load, Load::Share(_)) && capacity.is_none() {
            continue;
        }
        let mut served = Served::start(subject, options, program, group.as_ref())?;
        let Some(plan) = plan::case(&served.base, *load, capacity) else { continue };
        let (begun, mut before) = (clock::now(), (clock::now(), 0));
        let mut look = |answers: u64, p99| {
            let now = clock::now();
            let seconds = now.saturating_sub(before.0) as f64 / 1e9;
            let rate = answers.saturating_sub(before.1) as f64 / seconds.max(1e-9);
            before = (now, answers);
            let (elapsed, duration) = (now - begun, plan.warm_up + plan.duration);
            watch(*load, Seen::Running { number, of, elapsed, duration, rate, p99 });
        };
        let case = alone(&mut served, *load, &plan, &subject.placement.generator, &mut look)?;
        let steady = rows::steady(&case.outcome);
        let rate = steady.requests_per_second();
        if *load == Load::Closed {
            capacity = Some(rate).filter(|rate| *rate > 0.0);
        }
        let p99 = (steady.latency.count() > 0).then(|| steady.latency.percentile(99.0));
        watch(*load, Seen::Done { rate, p99 });
        loads.cases.push(case);
        let out_of_memory = served.end()?;
        loads.out_of_memory = loads.out_of_memory.or(out_of_memory);
    }
    Ok(loads)
}

/// Runs one case while a thread beside the generator samples the counters, as it must not disturb the server.
/// `look` is called after each window with the answers so far and the latest p99.
pub(super) fn alone(
    served: &mut Served,
    load: Load,
    plan: &Plan,
    cpus: &[usize],
    look: &mut dyn FnMut(u64, Option<u64>),
) -> Result<Case, PassError> {
    let Served { container, child, .. } = served;
    let series = Mutex::new(Series::default());
    let stop = AtomicBool::new(false);
    let case = std::thread::scope(|scope| {
        scope.spawn(|| {
            let _ = host::pin(cpus);
            sample(container, &series, &stop);
        });
        let case = case(child, load, plan, (container, &series), look);
        stop.store(true, Ordering::Relaxed);
        case
    })?;
    still_runs(container)?;
    Ok(case)
}

/// The most memory in a span: what the kernel saw where that grew, so that it was in the span, and else the most of the
/// samples. What was before, such as the runtime's own start in the same cgroup, is no part of it.
fn peak(before: Option<u64>, after: Option<u64>, sampled: Option<u64>) -> Option<u64> {
    match (before, after) {
        (Some(before), Some(after)) if after > before => Some(after),
        _ => sampled,
    }
}

/// A server that is ready, and what sends it requests.
pub(super) struct Served {
    pub(super) container: Container,
    pub(super) child: Generator,
    /// What every load has in common, with the answers that are expected.
    pub(super) base: Plan,
}

impl Served {
    /// Starts the server and the generator, and asks for everything twice: what the answers have in common is
    /// expected from then on.
    pub(super) fn start(
        subject: &Subject<'_>,
        options: &ThroughputOptions,
        program: &Path,
        group: Option<&Group>,
    ) -> Result<Self, PassError> {
        let container = subject.create()?;
        let (_, address) = watched_start(subject, &container)?;
        let failed = |source| of_load(&container, source);
        let endpoint = container.endpoint(subject.port().number)?;
        let mut child = generator(subject, endpoint.network_namespace, group, program).map_err(failed)?;
        let threads = u32::try_from(subject.placement.generator.len()).unwrap_or(1);
        let mut base = plan::base(address, options, threads);
        let first = child.verify(&base).map_err(failed)?;
        let second = child.verify(&base).map_err(failed)?;
        tare_load::expect_what_was_answered(&mut base, &first, &second, options.check.into());
        Ok(Self { container, child, base })
    }

    /// Asks for everything once more, ends both and returns the container. Whether the server ended by itself.
    pub(super) fn stop(mut self) -> Result<(Container, bool), PassError> {
        self.child.verify(&self.base).map_err(|source| of_load(&self.container, source))?;
        drop(self.child);
        self.container.oom_kills();
        let stopped = subject::stop(&self.container)?;
        Ok((self.container, stopped.is_some()))
    }

    /// The same. Says whether the server lost processes to a lack of memory.
    pub(super) fn end(self) -> Result<Option<PassError>, PassError> {
        let (container, _) = self.stop()?;
        let out_of_memory = subject::out_of_memory(&container, None);
        container.remove()?;
        Ok(out_of_memory)
    }
}

/// A server that has ended says why.
pub(super) fn still_runs(container: &Container) -> Result<(), PassError> {
    match container.wait(Duration::ZERO)? {
        Some(exit) => Err(subject::how_it_ended(container, exit)),
        None => Ok(()),
    }
}

/// Runs one case, and keeps what was sampled up to its end.
fn case(
    child: &mut Generator,
    load: Load,
    plan: &tare_load::Plan,
    (container, series): (&Container, &Mutex<Series>),
    watch: &mut dyn FnMut(u64, Option<u64>),
) -> Result<Case, PassError> {
    let before = HostLoad::read();
    let peak_before = container.counters().ok().and_then(|counters| counters.memory_peak);
    let (mut begun, mut ended) = (None, None);
    let mut look = |phase| match phase {
        Phase::Measuring { .. } => begun = HostLoad::read(),
        Phase::Measured { .. } => ended = HostLoad::read(),
        Phase::Progress { answers, p99 } => watch(answers, p99),
        Phase::Connected { .. } => {}
    };
    let outcome = child.run(plan, &mut look).map_err(|source| of_load(container, source))?;
    let steal = HostLoad::read().zip(before).map(|(after, before)| after.steal_since(&before));
    // The sample after the measured span, without which its end would have to be guessed.
    let deadline = clock::now() + 10 * u64::try_from(SAMPLE_PAUSE.as_nanos()).unwrap_or(0);
    let series = loop {
        let sampled = series.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let reaches = sampled.last().is_some_and(|last| last.at >= outcome.measured.to);
        if reaches || clock::now() > deadline {
            break sampled;
        }
        std::thread::sleep(SAMPLE_PAUSE / 10);
    };
    let peak_after = container.counters().ok().and_then(|counters| counters.memory_peak);
    let sampled = series.between(outcome.measured.from, outcome.measured.to).map(|span| span.memory_highest);
    let memory_peak = peak(peak_before, peak_after, sampled.filter(|_| peak_after.is_some()));
    let oom_kills = container.oom_kills();
    let others = begun.zip(ended).and_then(|(begun, ended)| {
        let server = series.between(outcome.measured.from, outcome.measured.to)?.cpu;
        let generator = outcome.cpu?;
        // Microseconds.
        Some(ended.others_since(&begun, server + (generator.user + generator.system) as f64 * 1e3))
    });
    Ok(Case { load, outcome, series, memory_peak, steal, others, oom_kills })
}

/// Reads the counters until asked to stop, or until there is nothing to be read.
fn sample(container: &Container, series: &Mutex<Series>, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let Ok(counters) = container.counters() else { return };
        series.lock().unwrap_or_else(PoisonError::into_inner).push(of_counters(&counters));
        std::thread::sleep(SAMPLE_PAUSE);
    }
}

fn of_counters(counters: &Counters) -> Sample {
    Sample {
        at: u64::midpoint(counters.read.0, counters.read.1),
        cpu: counters.cpu_usage.unwrap_or(0),
        user: counters.cpu_user.unwrap_or(0),
        system: counters.cpu_system.unwrap_or(0),
        periods: counters.periods.unwrap_or(0),
        throttled_periods: counters.throttled_periods.unwrap_or(0),
        throttled: counters.throttled.unwrap_or(0),
        switches: counters.voluntary_switches.unwrap_or(0) + counters.involuntary_switches.unwrap_or(0),
        memory: counters.memory.unwrap_or(0),
    }
}

/// A cgroup for the generator, so that it is kept to its CPUs; where there is none to be had it only pins
/// itself.
#[cfg(target_os = "linux")]
pub(super) fn group(subject: &Subject<'_>) -> Option<Group> {
    let cpus = CpuSet::new(subject.placement.generator.iter().copied())?;
    Group::create(&subject.runtime.parent().ok()?, "generator", Some(&cpus)).ok()
}

#[cfg(not(target_os = "linux"))]
pub(super) fn group(_subject: &Subject<'_>) -> Option<Group> {
    None
}

pub(super) fn generator(
    subject: &Subject<'_>,
    network_namespace: Option<PathBuf>,
    group: Option<&Group>,
    program: &Path,
) -> Result<Generator, ChildError> {
    let place = Place {
        network_namespace,
        cpus: subject.placement.generator.clone(),
        cgroups: group.map(Group::procs).unwrap_or_default(),
    };
    Generator::start(program, &place)
}

pub(super) fn of_load(container: &Container, source: ChildError) -> PassError {
    match subject::ended(container) {
        Ok(Some(error)) => error,
        _ => subject::out_of_memory(container, Some(source.to_string()))
            .unwrap_or_else(|| PassError::Load { source, output: container.output_tail() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_of_before_is_no_peak_of_the_load() {
        // The runtime's start took 12 MB in the same cgroup, the server 1 MB, and under load 2 MB.
        assert_eq!(peak(Some(12), Some(12), Some(2)), Some(2));
        assert_eq!(peak(Some(1), Some(3), Some(2)), Some(3));
        assert_eq!(peak(None, Some(12), Some(2)), Some(2));
        assert_eq!(peak(None, None, None), None);
    }
}
