//! What a request costs the server: CPU time under as many requests as it answers, on one CPU.

use super::generator::{Generator, Load};
use super::subject::{CpuTime, Place, Subject};
use super::{CONNECTIONS, Contest, FLOOR, FRAMEWORKS, SERVER_CPU, Server, series};
use crate::bench::SAMPLE;
use crate::bench::report::{Bound, Goal, Part, Row, Table, thousandths};
use crate::bench::stats::{Series, ratio};

/// Requests under way on one connection when pipelined.
const DEPTH: u32 = 16;

/// One server in one round; times in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(in crate::bench) struct Sample {
    /// CPU time of the server for each request.
    pub(in crate::bench) cpu: u64,
    user: u64,
    /// The same of the generator.
    pub(in crate::bench) generator_cpu: u64,
    pub(in crate::bench) per_second: u64,
    /// How much of its CPU the server used, in millionths.
    busy: u64,
    /// The same of the generator and its own.
    generator: u64,
    p99: u64,
}

pub(super) fn one_at_a_time(contest: &Contest<'_>) -> anyhow::Result<Part> {
    let mut part = Part::new("requests");
    let found = measure(contest, &mut part, 1);
    part.note(format!(
        "GET / over {CONNECTIONS} connections that stay, one request at a time on each; the server on one CPU, the generator on the other"
    ));
    let Some(floor) = cpu_of(&found, FLOOR) else { return Ok(part) };
    let Some(sample) = cpu_of(&found, SAMPLE) else { return Ok(part) };
    part.goals.push(Goal::new(
        format!("CPU for each request, {SAMPLE} / {FLOOR}"),
        Bound::AtMost(thousandths(1100)),
        sample.over(&floor),
    ));
    for name in FRAMEWORKS {
        if let Some(framework) = cpu_of(&found, name) {
            let what = format!("CPU for each request, {SAMPLE} / {name}");
            part.goals.push(Goal::new(what, Bound::Below(thousandths(1000)), sample.over(&framework)));
        }
    }
    Ok(part)
}

pub(super) fn pipelined(contest: &Contest<'_>) -> anyhow::Result<Part> {
    let mut part = Part::new("pipelining");
    let found = measure(contest, &mut part, DEPTH);
    part.note(format!("the same with {DEPTH} requests at a time on each connection"));
    if let (Some(floor), Some(sample)) = (cpu_of(&found, FLOOR), cpu_of(&found, SAMPLE)) {
        part.goals.push(Goal::new(
            format!("CPU for each pipelined request, {SAMPLE} / {FLOOR}"),
            Bound::AtMost(thousandths(1500)),
            sample.over(&floor),
        ));
    }
    Ok(part)
}

fn measure<'a>(contest: &'a Contest<'_>, part: &mut Part, depth: u32) -> Vec<(&'a Server, Vec<Sample>)> {
    let found = contest.rounds(part, |server| {
        let place = Place { cpus: SERVER_CPU, ..Place::default() };
        sample(contest, &mut contest.generator(), server, &place, |load| Load { depth, ..load })
    });
    let floor = cpu_of(&found, FLOOR);
    let rows = found.iter().map(|(server, rounds)| {
        let cpu = series(Series::short_times, rounds, |sample| sample.cpu);
        let ratios = |number: fn(&Sample) -> u64| series(Series::ratios, rounds, number);
        let cells = vec![
            floor.as_ref().map(|floor| cpu.over(floor)).into(),
            cpu.into(),
            series(Series::short_times, rounds, |sample| sample.user).into(),
            series(Series::short_times, rounds, |sample| sample.cpu - sample.user).into(),
            series(Series::counts, rounds, |sample| sample.per_second).into(),
            ratios(|sample| sample.busy).into(),
            ratios(|sample| sample.generator).into(),
            series(Series::short_times, rounds, |sample| sample.p99).into(),
        ];
        Row { name: server.name.clone(), cells }
    });
    part.tables.push(Table {
        columns: vec![
            "server",
            "CPU / floor's",
            "CPU for a request",
            "user",
            "kernel",
            "requests/s",
            "server busy",
            "generator busy",
            "p99",
        ],
        rows: rows.collect(),
    });
    found
}

/// A server's CPU time for each request, in all rounds.
pub(super) fn cpu_of(found: &[(&Server, Vec<Sample>)], name: &str) -> Option<Series> {
    let (_, rounds) = found.iter().find(|(server, _)| server.name == name)?;
    Some(series(Series::short_times, rounds, |sample| sample.cpu))
}

/// Starts a server, loads it, ends it.
pub(in crate::bench) fn sample(
    contest: &Contest<'_>,
    generator: &mut Generator,
    server: &Server,
    place: &Place<'_>,
    load: impl FnOnce(Load) -> Load,
) -> anyhow::Result<Sample> {
    let subject = Subject::start(contest, server, place)?;
    let mut times: Vec<CpuTime> = Vec::new();
    let load = load(Load::new(subject.address(), contest.duration));
    let outcome = generator.run(load, || {
        times.push(subject.cpu()?);
        Ok(())
    })?;
    let [before, after] = times[..] else { anyhow::bail!("the generator does not say when it measures") };
    let (cpu, user) = after.since(before);
    let cpus = place.cpus.len().max(1) as u64;
    let (generator, generators) = outcome.generator_use();
    Ok(Sample {
        cpu: cpu / outcome.completed(),
        user: user / outcome.completed(),
        generator_cpu: generator / outcome.completed(),
        per_second: outcome.requests_per_second(),
        busy: ratio(cpu, outcome.nanoseconds() * cpus),
        generator: ratio(generator, generators),
        p99: outcome.p99(),
    })
}
