//! `cargo xtask bench image`, `bench publish`, `bench server` and `bench fidelity`: compares packaging and pushing with
//! other tools, the sample server with other servers, and the profiler's figures with known values.
//!
//! A part measures and returns its result; this module prints and writes it. Results are ratios within a round, in which
//! all contestants run in turn, because absolute times depend on the machine.

mod fidelity;
mod gates;
mod large;
mod limit;
mod packaging;
mod publish;
mod rebuild;
mod report;
mod server;
mod size;

use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Serialize;

use self::report::{Part, Series};
use crate::lab::context::{Context, write};
use crate::lab::tools::Tool;
use tare_profiler::profile::metric::Unit;
use tare_tool::environment::Environment;
use tare_tool::process::Execute as _;
use tare_tool::process::xshell::Cmd;
use tare_tool::ui::Ui;
use xtask_tare::workspace::Workspace;

/// The parts to measure.
#[derive(Debug)]
pub(crate) struct Options {
    /// Rounds of each measurement.
    pub(crate) rounds: u32,
    /// Only the parts with this in their names.
    pub(crate) only: String,
    /// `fidelity`: comparisons of images that differ, and of images that do not.
    pub(crate) comparisons: u32,
    /// `server`: the images to measure; empty: all.
    pub(crate) servers: Vec<String>,
}

/// What every part is given.
struct Bench<'a> {
    context: Context<'a>,
    options: &'a Options,
}

/// Measures one part.
type Measure = fn(&Bench<'_>) -> anyhow::Result<Part>;

/// The parts of a bench, by name.
pub(crate) struct Parts(&'static str, &'static [(&'static str, Measure)]);

pub(crate) const IMAGE: Parts = Parts(
    "image",
    &[
        ("packaging", packaging::measure),
        ("rebuild", rebuild::measure),
        ("size", size::measure),
        ("large", large::measure),
    ],
);
pub(crate) const PUBLISH: Parts = Parts("publish", &[("publish", publish::measure)]);
pub(crate) const SERVER: Parts = Parts("server", &[("server", server::measure)]);
pub(crate) const FIDELITY: Parts = Parts(
    "fidelity",
    &[
        ("wrk", fidelity::wrk),
        ("limit", limit::measure),
        ("quota", fidelity::quota),
        ("starts", fidelity::starts),
        ("regressions", fidelity::regressions),
        ("same", fidelity::same),
        ("gates", gates::measure),
    ],
);

/// Others' tools that are measured beside ours, and what measuring takes.
const TOOLS: &[Tool] = &[
    Tool::Namespaces,
    Tool::Docker20,
    Tool::Docker29,
    Tool::Program("docker"),
    Tool::Program("buildx"),
    Tool::Program("podman"),
    Tool::Program("crane"),
    Tool::Program("skopeo"),
    Tool::Program("registry"),
    Tool::Program("zopfli"),
    Tool::Program("runc"),
    Tool::Program("wrk"),
];

/// `target/bench/NAME.json`
#[derive(Serialize)]
struct Results<'a> {
    rounds: u32,
    processors: usize,
    parts: &'a [Part],
}

/// Measures part after part, prints them and writes `target/bench/NAME.json`; false if a goal is missed.
pub(crate) fn run(
    Parts(bench_name, parts): &Parts,
    options: &Options,
    workspace: &Workspace,
    env: &Environment,
    ui: Ui,
) -> anyhow::Result<bool> {
    let chosen: Vec<_> = parts.iter().filter(|(part, _)| part.contains(&options.only)).collect();
    if chosen.is_empty() {
        let names: Vec<&str> = parts.iter().map(|(part, _)| *part).collect();
        anyhow::bail!("--only: no part is called `{}`; there are: {}", options.only, names.join(", "));
    }
    let bench = Bench { context: Context::new(TOOLS.iter(), workspace, env, ui)?, options };
    let mut found = Vec::new();
    for (name, measure) in chosen {
        ui.status("Measuring", name);
        let mut part = measure(&bench).with_context(|| format!("cannot measure {name}"))?;
        part.name = name;
        ui.result(&part.text())?;
        found.push(part);
        // After each part, so that a later error loses no results.
        let results = Results { rounds: options.rounds, processors: env.parallelism, parts: &found };
        let path = workspace.target_dir.join("bench").join(format!("{bench_name}.json"));
        write(&path, &serde_json::to_vec_pretty(&results)?)?;
        ui.status("Written", &workspace.show(&path));
    }
    bench.context.close()?;
    Ok(found.iter().flat_map(|part| &part.goals).all(|goal| goal.reached))
}

/// One way to do the same work: a round of it, which returns how long the work took.
type Contestant<'a> = Box<dyn Fn(u32) -> anyhow::Result<Duration> + 'a>;

/// A round that does not count, and then the rounds, all contestants in turn in each. One series for each contestant.
fn in_turn(rounds: u32, contestants: &[Contestant<'_>]) -> anyhow::Result<Vec<Series>> {
    let mut times = vec![Vec::new(); contestants.len()];
    for round in 0..=rounds {
        for (contestant, times) in contestants.iter().zip(&mut times) {
            times.push(contestant(round)?.as_secs_f64() * 1e9);
        }
    }
    Ok(times.into_iter().map(|times| Series::new(Unit::Nanoseconds, times.into_iter().skip(1))).collect())
}

/// How long a command takes.
fn time(command: Cmd<'_>) -> anyhow::Result<Duration> {
    let started = Instant::now();
    command.capture()?;
    Ok(started.elapsed())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn all_are_run_in_turn_and_the_first_round_does_not_count() {
        let log = RefCell::new(Vec::new());
        let contestant = |name: &'static str| -> Contestant<'_> {
            Box::new({
                let log = &log;
                move |round| {
                    log.borrow_mut().push((name, round));
                    Ok(Duration::from_nanos(round.into()))
                }
            })
        };
        let series = in_turn(1, &[contestant("a"), contestant("b")]).unwrap();
        assert_eq!(series, [1.0, 1.0].map(|time| Series::new(Unit::Nanoseconds, [time])));
        assert_eq!(log.into_inner(), [("a", 0), ("b", 0), ("a", 1), ("b", 1)]);
    }
}
