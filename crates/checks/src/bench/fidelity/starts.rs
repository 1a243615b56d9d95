//! What a start costs: through the embedded runtime, runc and docker, in turn, and what bare namespaces cost.

use std::time::Instant;

use super::Fidelity;
use crate::bench::daemon::Daemon;
use crate::bench::fixture;
use crate::bench::report::{Bound, Goal, Part, Row, Table, thousandths};
use crate::bench::stats::Series;
use tare_tool::process::Cmd;

/// Starts in a profile, of which the median counts, as for everybody who weighs.
const STARTS: usize = 10;
/// Whose starts are measured beside ours, and what ours may cost of theirs, in thousandths.
const OTHERS: [(&str, u64); 2] = [("runc", 333), ("docker", 50)];
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

    let data = fidelity.contest.scratch.path().join("docker");
    let daemon = Daemon::of(bench, bench.tool("dockerd"), "docker", data, "docker", &mut part);
    if bench.tool("runc").is_none() {
        part.left_out.push("runc: it is not installed".to_owned());
    }
    let mut runtimes = vec!["embedded"];
    runtimes.extend(bench.tool("runc").map(|_| "runc"));
    runtimes.extend(daemon.as_ref().map(|_| "docker"));
    let mut rounds: Vec<Vec<u64>> = vec![Vec::new(); runtimes.len()];
    let mut floor = Vec::new();
    for _ in 0..bench.rounds {
        for (times, runtime) in rounds.iter_mut().zip(&runtimes) {
            let command = fidelity.profile().arg(&image).arg("--profile").arg(&profile);
            let command = command.args(["--runtime", runtime]);
            let command = match &daemon {
                Some(daemon) => daemon.aim(command),
                None => command,
            };
            let report = fidelity.report(command)?;
            times.push(super::figure(&report, "startup.warm.ready")? as u64);
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
    for (other, limit) in OTHERS {
        if let Some(at) = runtimes.iter().position(|runtime| *runtime == other) {
            let what = format!("start to first answer, embedded / {other}");
            part.goals.push(Goal::new(what, Bound::AtMost(thousandths(limit)), times[0].over(&times[at])));
        }
    }
    part.goals.push(Goal::new(
        "start to first answer beyond bare namespaces",
        Bound::AtMost(BEYOND_FLOOR),
        times[0].beyond(&floor),
    ));
    Ok(part)
}

/// A program in namespaces of its own, until it has ended, in nanoseconds.
fn bare() -> anyhow::Result<u64> {
    let started = Instant::now();
    let namespaces = ["--net", "--pid", "--mount", "--ipc", "--uts", "--cgroup", "--fork"];
    Cmd::new("unshare").args(namespaces).arg("true").read()?;
    Ok(started.elapsed().as_nanos() as u64)
}
