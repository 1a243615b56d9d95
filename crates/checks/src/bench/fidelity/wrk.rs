//! The load beside wrk: the same server, pinned the same way, in turn.

use std::fs::File;
use std::time::Instant;

use anyhow::Context as _;

use super::Fidelity;
use crate::bench::report::{Bound, Goal, Part, Row, Table, thousandths};
use crate::bench::server::requests;
use crate::bench::server::subject::{Place, Subject};
use crate::bench::server::{CONNECTIONS, GENERATOR_CPU, SERVER_CPU, series};
use crate::bench::stats::Series;
use crate::bench::usage;
use tare_tool::process::Cmd;

/// One generator in one round.
#[derive(Debug, Clone, Copy)]
struct Sample {
    per_second: u64,
    /// CPU time for a request in nanoseconds: of the server, and of the generator.
    server: u64,
    generator: u64,
}

pub(super) fn measure(fidelity: &Fidelity<'_>) -> anyhow::Result<Part> {
    let mut part = Part::new("wrk");
    if fidelity.bench().tool("wrk").is_none() {
        part.left_out.push("wrk is not installed".to_owned());
        return Ok(part);
    }
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..fidelity.bench().rounds {
        // Each begins in every second round.
        if round % 2 == 0 {
            ours.push(with_load(fidelity)?);
            theirs.push(with_wrk(fidelity)?);
        } else {
            theirs.push(with_wrk(fidelity)?);
            ours.push(with_load(fidelity)?);
        }
    }
    let rates = [&ours, &theirs].map(|rounds| series(Series::counts, rounds, |it| it.per_second));
    let servers = [&ours, &theirs].map(|rounds| series(Series::short_times, rounds, |it| it.server));
    let generators = [&ours, &theirs].map(|rounds| series(Series::short_times, rounds, |it| it.generator));
    let row = |at: usize, name: &str| Row {
        name: name.to_owned(),
        cells: vec![rates[at].clone().into(), servers[at].clone().into(), generators[at].clone().into()],
    };
    part.tables.push(Table {
        columns: vec!["generator", "requests/s", "server's CPU for a request", "generator's"],
        rows: vec![row(0, "tare load"), row(1, "wrk")],
    });
    part.note(format!(
        "the bare epoll loop on one CPU, a generator with one thread and {CONNECTIONS} connections on the other; tare checks every answer, wrk none"
    ));
    part.note(format!(
        "the server's CPU for a request, tare load / wrk: {}; it is the same work but for how requests arrive together",
        servers[0].over(&servers[1])
    ));
    part.goals.push(Goal::new(
        "requests/s, tare load / wrk",
        Bound::AtLeast(thousandths(1000)),
        rates[0].over(&rates[1]),
    ));
    part.goals.push(Goal::new(
        "generator's CPU for a request, tare load / wrk",
        Bound::Below(thousandths(1000)),
        generators[0].over(&generators[1]),
    ));
    Ok(part)
}

fn place<'a>() -> Place<'a> {
    Place { cpus: SERVER_CPU, ..Place::default() }
}

fn with_load(fidelity: &Fidelity<'_>) -> anyhow::Result<Sample> {
    let contest = &fidelity.contest;
    let server = contest.floor()?;
    let sample = requests::sample(contest, &mut contest.generator(), server, &place(), |load| load)?;
    Ok(Sample { per_second: sample.per_second, server: sample.cpu, generator: sample.generator_cpu })
}

fn with_wrk(fidelity: &Fidelity<'_>) -> anyhow::Result<Sample> {
    let contest = &fidelity.contest;
    let subject = Subject::start(contest, contest.floor()?, &place())?;
    let report = contest.scratch.path().join("wrk.txt");
    let create = || File::create(&report).with_context(|| format!("cannot create {}", report.display()));
    let cpus: Vec<String> = GENERATOR_CPU.iter().map(ToString::to_string).collect();
    let before = subject.cpu()?;
    let started = Instant::now();
    let wrk = Cmd::new("taskset")
        .args(["--cpu-list", &cpus.join(","), "wrk", "--threads", "1"])
        .args(["--connections", &CONNECTIONS.to_string()])
        .args(["--duration", &format!("{}s", contest.duration.as_secs().max(1))])
        .arg(format!("http://{}/", subject.address()))
        .start_beside(create()?, create()?)?;
    let usage = usage::watch(wrk, started)?;
    let used = subject.cpu()?.since(before).0;
    let text = std::fs::read_to_string(&report)?;
    let (requests, per_second) = parse(&text).with_context(|| format!("wrk says something else: {text}"))?;
    anyhow::ensure!(!text.contains("Socket errors") && !text.contains("Non-2xx"), "wrk had errors: {text}");
    Ok(Sample {
        per_second,
        server: used / requests,
        generator: usage.processor.as_nanos() as u64 / requests,
    })
}

/// Requests, and requests per second, of wrk's report.
fn parse(text: &str) -> Option<(u64, u64)> {
    let requests = text.lines().find_map(|line| line.trim().split_once(" requests in "))?.0.parse().ok()?;
    let rate = text.lines().find_map(|line| line.trim().strip_prefix("Requests/sec:"))?.trim();
    Some((requests, rate.parse::<f64>().ok()? as u64)).filter(|(requests, _)| *requests > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_of_wrk_is_read() {
        let text = "Running 2s test @ http://127.0.0.1:1/\n  1 threads and 64 connections\n  Thread Stats   Avg      Stdev     Max   +/- Stdev\n    Latency   593.71us  145.02us   4.31ms   89.50%\n  216325 requests in 2.10s, 27.44MB read\nRequests/sec: 103009.78\nTransfer/sec:     13.07MB\n";
        assert_eq!(parse(text), Some((216_325, 103_009)));
        assert_eq!(parse("  0 requests in 2.00s\nRequests/sec: 0.00\n"), None);
    }
}
