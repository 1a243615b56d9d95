//! Half a CPU by quota: does a second worker make the kernel withhold more, and answers come later?

use anyhow::Context as _;
use serde_json::Value;

use super::cgroup::{Cgroup, Throttling};
use super::generator::Load;
use super::subject::{Place, Subject};
use super::{BOTH_CPUS, CONNECTIONS, Contest, Server, series};
use crate::bench::SAMPLE;
use crate::bench::report::{Bound, Goal, Part, Row, Table};
use crate::bench::stats::{Series, Unit, ratio};

/// Of a CPU, in thousandths.
const QUOTA: u64 = 500;
/// Of what one worker can answer: near enough that an uneven use of the quota shows.
const RATE: f64 = 0.8;

/// How the sample is told its workers, and what the row is called.
const CASES: [(&str, &[(&str, &str)]); 3] = [
    ("as it decides itself", &[]),
    ("one worker", &[("TARE_WORKERS", "1")]),
    ("two workers", &[("TARE_WORKERS", "2")]),
];

/// One case in one round.
struct Sample {
    p99: u64,
    /// Periods in which it was stopped, in millionths of all.
    throttled: u64,
    unsent: u64,
}

pub(super) fn measure(contest: &Contest<'_>) -> anyhow::Result<Part> {
    let mut part = Part::new("quota");
    let server = contest.sample()?;
    if let Err(error) = Cgroup::with_cpu(QUOTA) {
        part.left_out.push(format!("all: {error:#}"));
        return Ok(part);
    }
    let rate = capacity(contest, server)? * RATE;
    part.note(format!(
        "half a CPU on two of them; {rate:.0} requests/s at fixed times over {CONNECTIONS} connections, {RATE} of what one worker answers; latency from the planned start"
    ));
    let mut rounds: [Vec<Sample>; CASES.len()] = Default::default();
    for round in 0..contest.bench.rounds as usize {
        for turn in 0..CASES.len() {
            let case = (round + turn) % CASES.len();
            let found = sample(contest, server, CASES[case].1, Some(rate))?.0;
            rounds[case].push(found);
        }
    }
    let p99 = |case: &[Sample]| series(Series::times_of, case, |sample| sample.p99);
    let throttled = |case: &[Sample]| series(Series::ratios, case, |sample| sample.throttled);
    let rows = CASES.iter().zip(&rounds).map(|((name, _), case)| {
        let unsent = series(Series::counts, case, |sample| sample.unsent);
        let cells = vec![p99(case).into(), throttled(case).into(), unsent.into()];
        Row { name: format!("{SAMPLE}, {name}"), cells }
    });
    part.tables.push(Table {
        columns: vec!["server", "p99", "periods throttled", "requests not sent"],
        rows: rows.collect(),
    });
    // With one worker it is the server that it is compared with, and no two runs of it differ but by what else
    // the host does. With more the two would have to be told apart.
    part.goals.push(Goal::new(
        "workers that it decides on; with one it is the server of the row below",
        Bound::Exactly(1),
        Series::once(Unit::Count, decided(contest, server)?),
    ));
    Ok(part)
}

/// How many workers it makes of the quota.
fn decided(contest: &Contest<'_>, server: &Server) -> anyhow::Result<u64> {
    let cgroup = Cgroup::with_cpu(QUOTA)?;
    let subject =
        Subject::start(contest, server, &Place { cpus: BOTH_CPUS, cgroup: Some(&cgroup), env: CASES[0].1 })?;
    let limits: Value = serde_json::from_slice(&subject.body("/limits")?)?;
    limits.pointer("/decided/workers").and_then(Value::as_u64).context("/limits names no workers")
}

/// Requests per second of one worker with the quota.
fn capacity(contest: &Contest<'_>, server: &Server) -> anyhow::Result<f64> {
    let (_, per_second) = sample(contest, server, CASES[1].1, None)?;
    Ok(per_second as f64)
}

/// Starts the server with the quota, loads it, ends it; requests per second as well.
fn sample(
    contest: &Contest<'_>,
    server: &Server,
    env: &[(&str, &str)],
    rate: Option<f64>,
) -> anyhow::Result<(Sample, u64)> {
    let cgroup = Cgroup::with_cpu(QUOTA)?;
    let subject = Subject::start(contest, server, &Place { cpus: BOTH_CPUS, cgroup: Some(&cgroup), env })?;
    let mut marks: Vec<Throttling> = Vec::new();
    let load = Load { rate, ..Load::new(subject.address(), contest.duration) };
    let outcome = contest.generator().run(load, || {
        marks.push(cgroup.throttling()?);
        Ok(())
    })?;
    let [before, after] = marks[..] else { anyhow::bail!("the generator does not say when it measures") };
    let Throttling { periods, throttled } = after.since(before);
    let sample =
        Sample { p99: outcome.p99(), throttled: ratio(throttled, periods), unsent: outcome.unsent() };
    Ok((sample, outcome.requests_per_second()))
}
