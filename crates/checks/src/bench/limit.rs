//! The load generator beside wrk where the server's limit decides, not the generator: both must find the same rate.

use super::Bench;
use super::fidelity::{with_load, with_wrk};
use super::report::{Part, Series};
use crate::lab::context::SAMPLE_PORT;
use crate::lab::docker::{Docker, Store};
use crate::lab::profile::Profiler;
use crate::lab::tools::Tool;
use tare_profiler::profile::metric::Unit;

/// The systems with the highest rates that the article claims.
const SYSTEMS: [&str; 2] = ["tokio", "hyperlane"];
/// The server's limit in CPUs, which leaves a generator with a CPU of its own time to spare.
const LIMIT: &str = "0.5";
/// The share of its CPU below which a generator is no bottleneck.
const SPARE: f64 = 0.8;

/// Both generators against each system in docker, in turn.
pub(super) fn measure(bench: &Bench<'_>) -> anyhow::Result<Part> {
    let context = &bench.context;
    let mut part = Part::new(["system, generator", "requests", "share of its CPU"]);
    let needed = [Tool::Program("wrk"), Tool::Namespaces, Tool::Docker20, Tool::Program("docker")];
    if !needed.iter().all(|tool| context.found.has(*tool)) {
        part.left_out.push("wrk, docker 20.10, or root with namespaces, is missing".to_owned());
        return Ok(part);
    }
    let profiler = Profiler::new(context, "limit")?;
    let mut docker = Docker::start(context, Store::Classic)?;
    let url = format!("http://127.0.0.1:{SAMPLE_PORT}/");
    for system in SYSTEMS {
        let built = context.build(system, &format!("limit-{system}"), &[])?;
        docker.load(&built.archive)?;
        let image = format!("{system}:latest");
        let (cpus, memory) = (format!("--cpus={LIMIT}"), "--memory=512m");
        let limits = [&cpus, "--cpuset-cpus=0", memory];
        let run = [&["run", "--detach", "--network=host", "--pull=never"][..], &limits, &[&image]].concat();
        let id = docker.read(&run)?;
        docker.daemon.wait_for(SAMPLE_PORT, "/")?;
        let mut rounds = [Vec::new(), Vec::new()];
        for _ in 0..bench.options.rounds {
            rounds[0].push(with_load(&profiler, docker.daemon.inside("taskset"), &url)?);
            rounds[1].push(with_wrk(docker.daemon.inside("bash"), &url)?);
        }
        docker.read(&["rm", "--force", "--volumes", &id])?;
        let [ours, wrk] = rounds.map(|rounds| {
            let rates = Series::new(Unit::PerSecond, rounds.iter().map(|[rate, _]| *rate));
            (rates, Series::new(Unit::Share, rounds.iter().map(|[rate, cpu]| rate * cpu / 1e9)))
        });
        for (generator, (rates, shares)) in [("tare load", &ours), ("wrk", &wrk)] {
            part.row(format!("{system}, {generator}"), [rates.clone(), shares.clone()]);
            part.at_most(format!("{system}: {generator}'s share of its CPU"), shares.clone(), SPARE);
        }
        let ratio = ours.0.over(&wrk.0);
        part.at_least(format!("{system}: requests, tare load / wrk"), ratio.clone(), 0.95);
        part.at_most(format!("{system}: requests, tare load / wrk"), ratio, 1.05);
    }
    part.notes.push(format!("64 connections, two seconds, {LIMIT} CPU for the server"));
    docker.daemon.end()?;
    Ok(part)
}
