//! The sample server compared with other servers. Each runs in a container on one CPU, with the load generator on another
//! one, and the profiler measures them in turn.

use anyhow::Context as _;

use super::Bench;
use super::report::{Part, Series};
use crate::lab::context::SAMPLE;
use crate::lab::profile::{Profiler, figure};
use tare_profiler::profile::metric;
use tare_profiler::profile::report::Report;
use tare_tool::process::cmd;

/// The bare loop: the least that answers.
const BASELINE: &str = "floor";
const SERVERS: [&str; 7] = [BASELINE, SAMPLE, "hyper", "axum", "actix-web", "hyperlane", "rocket"];
/// The servers that look up a route, as the sample does.
const FRAMEWORKS: [&str; 4] = ["axum", "actix-web", "hyperlane", "rocket"];

const PROFILE: &str = r#"
[limits]
cpus = 1
memory = "256MiB"
[startup]
runs = 10
cold-runs = 0
runtime-baseline = false
[throughput]
loads = ["closed"]
duration = "2s"
"#;

const COST: &str = "throughput.cpu-per-request";
const METRICS: [(&str, &str); 5] = [
    ("requests", "throughput.rate"),
    ("first answer", "startup.warm.ready"),
    ("peak memory", "throughput.memory.peak"),
    ("program", "size.binary.file"),
    ("image", "size.image.compressed"),
];

/// The most CPU for a request of the sample, as a ratio to the bare loop's.
const LIMIT: f64 = 1.10;

pub(super) fn measure(bench: &Bench<'_>) -> anyhow::Result<Part> {
    let context = &bench.context;
    let servers = chosen(&bench.options.servers)?;
    let (sh, profiler) = (&context.sh, Profiler::new(context, "server")?);
    let profile = profiler.write_profile("bench", PROFILE)?;
    let build = |name: &&str| Ok(context.build(name, name, &[])?.layout.display().to_string());
    let layouts: Vec<String> = servers.iter().map(build).collect::<anyhow::Result<_>>()?;
    let mut reports: Vec<Vec<Report>> = vec![Vec::new(); servers.len()];
    for round in 0..bench.options.rounds as usize {
        // Each round begins with another one.
        for turn in 0..servers.len() {
            let at = (round + turn) % servers.len();
            context.ui.status("Measuring", &format!("{}, round {}", servers[at], round + 1));
            let report = profiler.report(cmd!(sh, "env"), &layouts[at], &["--profile", &profile])?;
            reports[at].push(report);
        }
    }

    let mut part = Part::new(
        ["server", "CPU / bare loop's", "CPU for a request"].into_iter().chain(METRICS.map(|(name, _)| name)),
    );
    let costs: Vec<Series> = reports.iter().map(|of| series(of, COST)).collect::<anyhow::Result<_>>()?;
    let ratio = |at: usize, other: &str| {
        let other = servers.iter().position(|name| *name == other)?;
        Some(costs[at].over(&costs[other]))
    };
    for (at, name) in servers.iter().enumerate() {
        let mut cells = vec![ratio(at, BASELINE), Some(costs[at].clone())];
        for (_, metric) in METRICS {
            cells.push(Some(series(&reports[at], metric)?));
        }
        part.row(*name, cells);
    }
    part.notes.push("one CPU, 256 MiB, GET / over 64 connections, one request at a time on each".to_owned());
    if let Some(sample) = servers.iter().position(|name| *name == SAMPLE) {
        for (other, limit) in [(BASELINE, LIMIT)].into_iter().chain(FRAMEWORKS.map(|name| (name, 1.0))) {
            if let Some(ratio) = ratio(sample, other) {
                part.at_most(format!("CPU for a request, {SAMPLE} / {other}"), ratio, limit);
            }
        }
    }
    Ok(part)
}

/// One metric in all rounds.
fn series(reports: &[Report], metric: &str) -> anyhow::Result<Series> {
    let unit = metric::find(metric).with_context(|| format!("there is no metric {metric}"))?.unit;
    let values: Vec<f64> = reports.iter().map(|it| figure(it, metric)).collect::<anyhow::Result<_>>()?;
    Ok(Series::new(unit, values))
}

/// In the order in which they are shown, the bare loop always among them.
fn chosen(wanted: &[String]) -> anyhow::Result<Vec<&'static str>> {
    if let Some(unknown) = wanted.iter().find(|name| !SERVERS.contains(&name.as_str())) {
        anyhow::bail!("--servers: there is no server `{unknown}`; there are: {}", SERVERS.join(", "));
    }
    let chosen = |name: &&str| wanted.is_empty() || *name == BASELINE || wanted.iter().any(|it| it == name);
    Ok(SERVERS.into_iter().filter(chosen).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bare_loop_is_always_among_the_servers_and_unknown_ones_are_refused() {
        let chosen = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            chosen(&names).map_err(|error| error.to_string())
        };
        assert_eq!(chosen(&[]), Ok(SERVERS.to_vec()));
        assert_eq!(chosen(&["axum", "app"]), Ok(vec!["floor", "app", "axum"]));
        let says = "--servers: there is no server `gin`; there are: floor, app, hyper, axum, actix-web, hyperlane, rocket";
        assert_eq!(chosen(&["gin"]), Err(says.to_owned()));
    }
}
