//! What a start costs: through the embedded runtime, runc and docker, in turn, and what bare namespaces cost.

use std::time::Instant;

use anyhow::Context as _;

use super::Fidelity;
use crate::dev::bench::daemon::Daemon;
use crate::dev::bench::fixture;
use crate::dev::bench::report::{Bound, Goal, Part, Row, Table, thousandths};
use crate::dev::bench::stats::Series;
use crate::process::Cmd;

/// Starts in a profile, of which the median counts, as for everybody who weighs.
const STARTS: usize = 10;
/// What a start may cost in parts of those of others, in thousandths.
const OF_RUNC: u64 = 333;
const OF_DOCKER: u64 = 50;
/// And beyond bare namespaces, in nanoseconds.
const BEYOND_FLOOR: u64 = 10_000_000;

pub(super) fn measure(fidelity: &Fidelity<'_>) -> anyhow::Result<Part> {
    let mut part = Part::new("starts");
    let bench = fidelity.bench();
    let program = fidelity.program()?;
    let image = fidelity.image(&program, "starts", 0)?;
    let profile = fidelity.contest.scratch.path().join("starts.toml");
    let text = format!(
        "passes = [\"startup\"]\n[limits]\ncpus = 1\nmemory = \"64MiB\"\n[startup]\nruns = {STARTS}\ncold-runs = 0\nfloor = false\n"
    );
    fixture::write(&profile, text.as_bytes())?;

    let daemon = match bench.tool("dockerd") {
        Some(dockerd) => {
            let path = bench.env.get("PATH").cloned().unwrap_or_default();
            Some(Daemon::start(&dockerd, "starts", fidelity.contest.scratch.path().join("docker"), &path)?)
        }
        None => None,
    };
    let mut runtimes = vec!["embedded"];
    for (name, is_there) in [("runc", bench.tool("runc").is_some()), ("docker", daemon.is_some())] {
        if is_there {
            runtimes.push(name);
        } else {
            part.left_out.push(format!("{name} is not installed"));
        }
    }
    let mut rounds: Vec<Vec<u64>> = vec![Vec::new(); runtimes.len()];
    let mut floor = Vec::new();
    for _ in 0..bench.rounds {
        for (times, runtime) in rounds.iter_mut().zip(&runtimes) {
            let command = fidelity.profile().arg(&image).arg("--profile").arg(&profile);
            let command = command.args(["--quiet", "--json", "--runtime", runtime]);
            times.push(ready(daemon.iter().fold(command, |command, daemon| daemon.aim(command)))?);
        }
        let mut starts = Vec::new();
        for _ in 0..STARTS {
            starts.push(bare()?);
        }
        floor.push(Series::times_of(starts).median());
    }

    let floor = Series::times_of(floor);
    let times: Vec<Series> = rounds.into_iter().map(Series::times_of).collect();
    let mut rows: Vec<Row> = runtimes
        .iter()
        .zip(&times)
        .map(|(runtime, series)| Row {
            name: format!("{runtime}, to the first answer"),
            cells: vec![series.clone().into(), times[0].over(series).into()],
        })
        .collect();
    rows.push(Row {
        name: "unshare, until true has ended".to_owned(),
        cells: vec![floor.clone().into(), times[0].over(&floor).into()],
    });
    part.tables.push(Table { columns: vec!["start", "time", "embedded / it"], rows });
    part.note(format!(
        "`cargo xtask profile` with each runtime in turn: the median of {STARTS} starts in each round, limited to one CPU and 64 MiB"
    ));
    part.note(
        "unshare with the namespaces of a container, and coreutils' `true` instead of a server that is asked",
    );
    for (runtime, series) in runtimes.iter().zip(&times) {
        let limit = match *runtime {
            "runc" => OF_RUNC,
            "docker" => OF_DOCKER,
            _ => continue,
        };
        let what = format!("start to first answer, embedded / {runtime}");
        part.goals.push(Goal::new(what, Bound::AtMost(thousandths(limit)), times[0].over(series)));
    }
    part.goals.push(Goal::new(
        "start to first answer beyond bare namespaces",
        Bound::AtMost(BEYOND_FLOOR),
        times[0].beyond(&floor),
    ));
    Ok(part)
}

/// The median time to ready of a profile, in nanoseconds.
fn ready(command: Cmd) -> anyhow::Result<u64> {
    let report = serde_json::from_slice(&command.read()?)?;
    let time =
        super::figure(&report, "startup.warm.ready").context("the report has no startup.warm.ready")?;
    Ok(time as u64)
}

/// A program in namespaces of its own, until it has ended, in nanoseconds.
fn bare() -> anyhow::Result<u64> {
    let started = Instant::now();
    let namespaces = ["--net", "--pid", "--mount", "--ipc", "--uts", "--cgroup", "--fork"];
    Cmd::new("unshare").args(namespaces).arg("true").read()?;
    Ok(started.elapsed().as_nanos() as u64)
}
