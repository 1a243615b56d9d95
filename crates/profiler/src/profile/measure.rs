//! Runs a profile's passes on one image, and puts together what they found.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tare_container::Confinement;
use tare_container::host::HostLoad;
use tare_container::runtime::Runtime;
use tare_container::target::Target;
use tare_load::Outcome;

use super::compare::Side;
use super::cpus::{self, HostCpus, Placement};
use super::definition::values::Load;
use super::definition::{Limits, Profile};
use super::density;
use super::edge;
use super::instructions::{self, Counting};
use super::isolation;
use super::measurement::{Doubt, Measurement};
use super::metric::Pass;
use super::network;
use super::report::{Event, EventKind, Run, Section};
use super::size::{self, SizeError};
use super::startup::{self, Starts};
use super::subject::{PassError, Subject};
use super::throughput::doubts::{self, Circumstances};
use super::throughput::rows::Row;
use super::throughput::turns::{self, TurnsError};
use super::throughput::{self, Case, Loads, Seen};
use super::validity::MachineFacts;

/// How many of the server's last lines a report keeps.
const OUTPUT_LINES: usize = 20;
/// Nanoseconds of a millisecond.
const MILLISECOND: f64 = 1e6;

/// Everything that the passes need, besides what runs the containers.
#[derive(Debug, Clone, Copy)]
pub struct Setting<'a> {
    /// The image.
    pub target: &'a Target,
    /// Its program with symbols, if it is at hand.
    pub unstripped: Option<&'a Path>,
    /// What is to be measured.
    pub profile: &'a Profile,
    /// This program, which is the generator too.
    pub program: &'a Path,
    /// The CPUs that this process may use.
    pub host: &'a HostCpus,
}

impl<'a> Setting<'a> {
    /// The image under these limits, in its place.
    pub(super) fn subject(&self, stage: &Stage<'a>, limits: &Limits) -> Result<Subject<'a>, PassError> {
        let cpuset: Option<Vec<usize>> = limits.cpuset.as_ref().map(|it| it.iter().collect());
        let limit = limits.cpu.map(super::definition::CpuLimit::as_cpus);
        let placement = cpus::place(self.host, limit, cpuset.as_deref());
        Subject::new(stage.runtime, self.target, self.profile, limits, placement)
    }
}

/// What runs the containers, for passes that need one.
#[derive(Debug, Clone, Copy)]
pub struct Stage<'a> {
    /// What makes containers.
    pub runtime: &'a Runtime,
    /// The image of the runtime baseline, whose program only exits.
    pub runtime_baseline: Option<&'a Target>,
    /// The image of the isolation pass's neighbour.
    pub neighbour: Option<&'a Target>,
    /// Unpacked images, whose pages are dropped before cold starts.
    pub roots: &'a [PathBuf],
}

/// A step of a measurement that is begun or done, for a display of the progress.
#[derive(Debug, Clone, PartialEq)]
pub enum Step<'a> {
    /// The image is read for the size pass.
    Reading,
    /// The passes that run the image begin, under these limits.
    Running(&'a Limits),
    /// A pass is done. What was measured so far under its limits.
    Passed(&'a Run),
    /// A start of the server is done, of so many.
    Started {
        /// How many are done.
        done: u32,
        /// Of how many.
        of: u32,
        /// Nanoseconds until it was ready.
        ready: u64,
    },
    /// A pass begins.
    Begun(Pass),
    /// A load case runs, or is done.
    Loading(Load, Seen),
    /// A copy of the density pass is ready.
    Copied {
        /// How many run now.
        copies: u32,
        /// How many are started at most.
        most: u32,
        /// Nanoseconds until it was ready.
        ready: u64,
    },
    /// A round of the isolation pass is done.
    Disturbed {
        /// The number of the round, from 1.
        round: u32,
        /// Of how many.
        of: u32,
        /// Nanoseconds of p99, alone and beside the neighbour.
        p99: [f64; 2],
    },
    /// The server ran under valgrind once more.
    Counting {
        /// How often it ran.
        done: u32,
        /// Of how often.
        of: u32,
    },
    /// The instructions of a request are counted, or cannot be.
    Counted(&'a Counting),
    /// Two images are measured in turn.
    Comparing {
        /// The number of the pair, from 1.
        pair: u32,
        /// In which order.
        sides: [Side; 2],
        /// How many metrics are not decided yet.
        metrics: usize,
    },
}

/// The size pass: what needs no run.
///
/// # Errors
/// When the image cannot be read.
pub fn sizes(setting: &Setting<'_>) -> Result<Run, SizeError> {
    let target = setting.target;
    let result = size::run(&target.source, &target.image, setting.unstripped)?;
    let rows = usize::try_from(setting.profile.size.rows).unwrap_or(usize::MAX);
    Ok(Run {
        limits: None,
        measurements: size::measurements(&result),
        sections: vec![size::section(&result, rows)],
        bytes: Some(size::parts(&result)),
        packages: size::built_from(&result),
        ..Run::default()
    })
}

/// The passes that run the image, under one set of limits. That the server fails in them is part of the
/// result.
///
/// # Errors
/// When the host or a runtime does not do what it was asked to.
pub fn run(
    setting: &Setting<'_>,
    stage: &Stage<'_>,
    limits: &Limits,
    mut watch: impl FnMut(Step<'_>),
) -> Result<Run, PassError> {
    let profile = setting.profile;
    let subject = setting.subject(stage, limits)?;
    let shared = subject.placement.shared();
    let mut run = Run { limits: Some(limits.clone()), ..Run::default() };
    let shared_cores = &subject.placement.shared_cores;
    let machine = |(steal, others): (Option<f64>, Option<f64>)| MachineFacts {
        steal,
        others,
        shared_cpus: shared.clone(),
        shared_cores: shared_cores.clone(),
    };
    for pass in &profile.passes {
        if *pass != Pass::Size {
            watch(Step::Begun(*pass));
        }
        let host = Watch::begin(*pass);
        let result = match pass {
            Pass::Size => continue,
            Pass::Startup => {
                let Stage { runtime_baseline, roots, .. } = stage;
                let options = &profile.startup;
                let of = options.runs + if roots.is_empty() { 0 } else { options.cold_runs };
                let mut done = 0;
                let starts = startup::run(&subject, *runtime_baseline, roots, options, |ready| {
                    done += 1;
                    watch(Step::Started { done, of, ready });
                });
                starts.map(|starts| {
                    let mut rows = starts.measurements();
                    startup::doubts::add(&mut rows, &machine(host.end()), starts.in_memory);
                    run.measurements.extend(rows);
                    run.sections.push(about_starts(&subject, &starts));
                    run.events.extend(stuck(&starts));
                    let (kills, limit) = (starts.oom_kills, subject.spec.limits.memory);
                    let (then, output, files) = (None, String::new(), starts.files);
                    let killed = PassError::OutOfMemory { kills, limit, files, then, output };
                    run.events.extend((kills > 0).then(|| event(Pass::Startup, &killed)));
                })
            }
            Pass::Throughput => {
                let loads = throughput::run(&subject, &profile.throughput, setting.program, |load, seen| {
                    watch(Step::Loading(load, seen));
                });
                loads.map(|Loads { cases, out_of_memory }| {
                    let mut capacity = None;
                    for case in &cases {
                        let machine = machine((case.steal, case.others));
                        let rows = figures(case, &subject, limits, machine, capacity.clone());
                        if case.load == Load::Closed {
                            capacity = doubts::of_capacity(&rows);
                        }
                        run.measurements.extend(rows);
                        let steady = throughput::rows::steady(&case.outcome);
                        let name = case.load.case();
                        run.curves.extend(throughput::curves::curves(
                            &name,
                            &case.outcome,
                            &steady,
                            &case.series,
                        ));
                    }
                    run.sections.push(about_loads(&subject, &cases));
                    run.events.extend(out_of_memory.map(|error| event(Pass::Throughput, &error)));
                    run.events.extend(cases.iter().filter_map(unanswered));
                })
            }
            Pass::Density => {
                let options = &profile.density;
                let density = density::run(&subject, options, |copies, ready| {
                    watch(Step::Copied { copies, most: options.most, ready });
                });
                density.map(|density| {
                    run.measurements.extend(density::rows::figures(&density, &machine(host.end())));
                    run.sections.push(density::rows::section(&density, where_(&subject)));
                })
            }
            Pass::Isolation => {
                let neighbour =
                    stage.neighbour.ok_or_else(|| PassError::Neighbour("has no image".to_owned()))?;
                let (options, load) = (&profile.isolation, &profile.throughput);
                let rounds =
                    isolation::run(&subject, neighbour, options, load, setting.program, |round, p99| {
                        watch(Step::Disturbed { round, of: options.rounds, p99 });
                    });
                rounds.map(|rounds| {
                    let rows = rounds.figures(&machine(host.end()), subject.cpus());
                    run.sections.push(rounds.section(where_(&subject), &rows, options));
                    run.measurements.extend(rows);
                })
            }
            Pass::Edge => {
                let options = &profile.edge;
                edge::run(&subject, options).map(|edge| {
                    run.measurements.extend(edge.figures(&machine(host.end())));
                    run.sections.push(edge.section(where_(&subject), options));
                })
            }
            Pass::Network => {
                let ways = network::run(&subject, &profile.throughput, setting.program);
                ways.map(|ways| {
                    run.measurements.extend(ways.figures(&machine(host.end())));
                    run.sections.push(ways.section(where_(&subject)));
                })
            }
            Pass::Instructions => {
                let counting = instructions::run(&subject, profile, setting.program, |done, of| {
                    watch(Step::Counting { done, of });
                });
                watch(Step::Counted(&counting));
                run.measurements.extend(counting.measurement());
                let mut section = Section { pass: *pass, notes: vec![counting.to_string()], tables: vec![] };
                if counting.measurement().is_some() {
                    match instructions::stacks(&subject, profile, setting.program, setting.unstripped) {
                        Ok((table, stacks)) => {
                            section.tables.push(table);
                            run.stacks = Some(stacks);
                        }
                        Err(why) => section.notes.push(format!("there is no flame graph: {why}")),
                    }
                }
                run.sections.push(section);
                Ok(())
            }
        };
        match result {
            Ok(()) => watch(Step::Passed(&run)),
            Err(error) if error.is_the_servers() => {
                run.events.push(event(*pass, &error));
                // The next pass would only wait for the same.
                if matches!(error, PassError::NotReady { .. }) {
                    break;
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(run)
}

/// Two images' throughput in turns, without doubts.
///
/// # Errors
/// With the index of the image, also for what its server did; and where they cannot be loaded in turns.
pub fn in_turns(
    settings: [&Setting<'_>; 2],
    stage: &Stage<'_>,
    limits: &Limits,
) -> Result<[Vec<Measurement>; 2], TurnsError> {
    let subject = |side: usize| settings[side].subject(stage, limits).map_err(TurnsError::of(side));
    let subjects = [subject(0)?, subject(1)?];
    let options = &settings[0].profile.throughput;
    let cases = turns::run(subjects.each_ref(), options, settings[0].program)?;
    let rows = |side: usize| {
        let case = &cases[side];
        row(case, &case.load.case(), &subjects[side], &case.outcome).measurements()
    };
    Ok([rows(0), rows(1)])
}

/// The host around a pass.
struct Watch {
    before: Option<HostLoad>,
    /// What others used before the pass; none for passes that look for themselves, or count.
    others: Option<f64>,
}

impl Watch {
    /// How long others are watched. Within a pass their CPU time cannot be told from that of containers that have ended.
    const TIME: Duration = Duration::from_millis(200);

    fn begin(pass: Pass) -> Self {
        let is_watched = !matches!(pass, Pass::Size | Pass::Throughput | Pass::Instructions);
        let others = if is_watched { Self::others() } else { None };
        Self { before: HostLoad::read(), others }
    }

    /// The share of the CPU time that the hypervisor has taken since then, and that others use: before and after the pass,
    /// the smaller of the two.
    fn end(self) -> (Option<f64>, Option<f64>) {
        let steal = HostLoad::read().zip(self.before).map(|(after, before)| after.steal_since(&before));
        let others = self.others.zip(Self::others()).map(|(before, after)| before.min(after));
        (steal, others)
    }

    /// The share of the CPU time that is used while this process waits.
    fn others() -> Option<f64> {
        let before = HostLoad::read()?;
        std::thread::sleep(Self::TIME);
        Some(HostLoad::read()?.others_since(&before, 0.0))
    }
}

fn row<'a>(case: &'a Case, name: &'a str, subject: &Subject<'_>, steady: &'a Outcome) -> Row<'a> {
    Row {
        case: name,
        outcome: &case.outcome,
        steady,
        series: &case.series,
        cpus: subject.cpus(),
        memory_peak: case.memory_peak,
        oom_kills: case.oom_kills,
    }
}

/// The figures of one load case, with what speaks against them.
#[must_use]
pub fn figures(
    case: &Case,
    subject: &Subject<'_>,
    limits: &Limits,
    machine: MachineFacts,
    capacity: Option<Doubt>,
) -> Vec<Measurement> {
    let name = case.load.case();
    let steady = throughput::rows::steady(&case.outcome);
    let row = row(case, &name, subject, &steady);
    let circumstances = Circumstances {
        open: case.load != Load::Closed,
        has_quota: limits.cpu.is_some(),
        memory_limit: limits.memory,
        machine,
        // What is planned without it does not depend on it.
        capacity: capacity.filter(|_| matches!(case.load, Load::Share(_))),
    };
    let mut rows = row.measurements();
    doubts::add(&mut rows, &row, &circumstances);
    rows
}

fn list(cpus: &[usize]) -> String {
    cpus.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn where_(subject: &Subject<'_>) -> String {
    let Placement { server, generator, .. } = &subject.placement;
    let how =
        if subject.spec.affinity.is_some() { "by affinity, for no cpuset is delegated" } else { "by cpuset" };
    format!("Server on CPU {} ({how}), generator and prober on CPU {}.", list(server), list(generator))
}

/// How the container differs from one by plain docker, and where its files are memory.
fn confined(subject: &Subject<'_>) -> Option<String> {
    let confinement = Confinement::of(&subject.target.config, &subject.spec.tightening).ok()?;
    let mut said = confinement.differences;
    if subject.runtime.writes_to_memory() {
        said.push("what the server writes to files is memory, and counts as the server's".to_owned());
    }
    (!said.is_empty()).then(|| format!("Other than under plain docker: {}.", said.join("; ")))
}

/// Who says that the limits are in force, where it is not the kernel.
fn limits_by(subject: &Subject<'_>) -> Option<String> {
    let kind = subject.runtime.kind();
    subject.runtime.limits_are_the_daemons_word().then(|| {
        format!(
            "The limits are as `{kind} inspect` shows them; the kernel's files cannot be seen from here, so that nobody else has confirmed them."
        )
    })
}

/// What else is in the figures, where the server's network cannot be entered.
fn reached_by(subject: &Subject<'_>) -> Option<String> {
    let kind = subject.runtime.kind();
    subject.runtime.publishes_ports(&subject.spec).then(|| {
        format!(
            "The server is reached by a port that {kind} publishes: what passes it on is part of times and rates. CPU time for a request, counted by the server's cgroup, is its own."
        )
    })
}

/// How the starts were measured.
fn about_starts(subject: &Subject<'_>, starts: &Starts) -> Section {
    let mut notes = vec![where_(subject)];
    notes.extend(confined(subject));
    notes.extend(limits_by(subject));
    notes.extend(reached_by(subject));
    notes.push(
        format!(
            "{} warm and {} cold starts, each from the begin of create to the first answer {} to {} {} on port {}, asked every 50 µs; CLOCK_MONOTONIC.",
            starts.warm.runs.len(),
            starts.cold.runs.len(),
            subject.ready.status,
            subject.ready.method,
            subject.ready.path,
            subject.port().number
        ),
    );
    notes.extend(subject.port().note());
    if let Some(address) = starts.address.filter(std::net::SocketAddr::is_ipv6) {
        notes.push(format!("The server listens on {address} and not on 127.0.0.1."));
    }
    if !starts.warm.baseline.is_empty() {
        notes.push(
            "The runtime baseline is a program that only exits, started in turn on the same path, until it runs."
                .to_owned(),
        );
    }
    if starts.cold.runs.is_empty() {
        notes.push("No cold starts: none asked for, or the image's files lie with a daemon.".to_owned());
    }
    Section { pass: Pass::Startup, notes, tables: vec![] }
}

/// How the loads were measured.
fn about_loads(subject: &Subject<'_>, cases: &[Case]) -> Section {
    let mut notes = vec![where_(subject)];
    notes.extend(confined(subject));
    notes.extend(limits_by(subject));
    notes.extend(reached_by(subject));
    if let Some(case) = cases.first() {
        notes.push(format!(
            "{} connections, {} ms of warm-up before {} ms of measurement, windows of {} ms; latency from the planned start, service time from the send.",
            case.outcome.connections.asked,
            ((case.outcome.measured.from - case.outcome.began) as f64 / MILLISECOND).round(),
            (case.outcome.measured.nanoseconds() as f64 / MILLISECOND).round(),
            (case.outcome.window as f64 / MILLISECOND).round(),
        ));
    }
    for case in cases {
        let steady = throughput::rows::steady(&case.outcome).measured;
        let cut = steady.from - case.outcome.measured.from;
        if cut > 0 {
            notes.push(format!(
                "{}: the first {} ms of the measurement were warm-up still; rate, times and CPU per request are of the rest.",
                case.load.case(),
                (cut as f64 / MILLISECOND).round(),
            ));
        }
        for (kind, failures) in &case.outcome.errors.0 {
            notes.push(format!(
                "{}: {} × {kind}, first: {}",
                case.load.case(),
                failures.count,
                failures.first
            ));
        }
    }
    if cases.iter().any(|case| case.series.last().is_none()) {
        notes.push("No counters of the server: its cgroup cannot be seen from here.".to_owned());
    }
    Section { pass: Pass::Throughput, notes, tables: vec![] }
}

/// A server that does not stop when it is asked to.
fn stuck(starts: &Starts) -> Option<Event> {
    let killed = starts.warm.runs.iter().chain(&starts.cold.runs).filter(|run| run.stop.is_none()).count();
    (killed > 0).then(|| Event {
        kind: EventKind::Stuck,
        pass: Pass::Startup,
        message: format!(
            "it did not end within 10 s after SIGTERM and was killed, as it then was in all of {killed} starts; process 1 of a container ends by SIGTERM only if it handles it"
        ),
        output: vec![],
    })
}

/// A load case without a single right answer, which has no figures.
fn unanswered(case: &Case) -> Option<Event> {
    let Case { load, outcome, .. } = case;
    (outcome.sent > 0 && outcome.completed == 0).then(|| Event {
        kind: EventKind::WrongAnswers,
        pass: Pass::Throughput,
        message: format!("{}: none of {} requests was answered as it should be", load.case(), outcome.sent),
        output: vec![],
    })
}

/// What the server did wrong.
#[must_use]
pub fn event(pass: Pass, error: &PassError) -> Event {
    let kind = match error {
        PassError::Ended { exit, .. } if exit.oom_killed => EventKind::OutOfMemory,
        PassError::OutOfMemory { .. } => EventKind::OutOfMemory,
        PassError::Ended { .. } => EventKind::Crash,
        PassError::Load { .. } => EventKind::WrongAnswers,
        _ => EventKind::NotReady,
    };
    let output = error.output().unwrap_or_default();
    let lines: Vec<String> = output.lines().map(str::to_owned).collect();
    let skipped = lines.len().saturating_sub(OUTPUT_LINES);
    Event { kind, pass, message: error.to_string(), output: lines[skipped..].to_vec() }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::super::throughput::rows::tests::outcome;
    use super::super::throughput::series::Series;
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn others_are_seen_around_a_pass_that_cannot_tell_them() {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..std::thread::available_parallelism().unwrap().get() {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                });
            }
            let others = |pass| Watch::begin(pass).end().1;
            let (startup, throughput) = (others(Pass::Startup), others(Pass::Throughput));
            stop.store(true, Ordering::Relaxed);
            assert!(startup.unwrap() > 0.1, "{startup:?}");
            assert_eq!(throughput, None);
        });
    }

    #[test]
    fn a_load_without_a_right_answer_is_an_event() {
        let message = |completed, refused| {
            let outcome = outcome(completed, refused);
            let (load, series) = (Load::Closed, Series::default());
            let case =
                Case { load, outcome, series, memory_peak: None, steal: None, others: None, oom_kills: 0 };
            unanswered(&case).map(|event| (event.kind, event.message))
        };
        let text = "closed: none of 96 requests was answered as it should be".to_owned();
        assert_eq!(message(0, 96), Some((EventKind::WrongAnswers, text)));
        assert_eq!((message(1, 96), message(0, 0)), (None, None));
    }
}
