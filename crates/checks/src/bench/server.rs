//! `cargo xtask bench server`: the sample server beside its peers, on one machine, in turn.
//!
//! Each part measures, and hands over what it found as data. Every round runs all servers, each started
//! anew, beginning with another one: what disturbs the machine for a while disturbs all. Ratios count,
//! taken within a round; figures in themselves are the machine's.
//!
//! Servers are plain processes, kept to CPUs or in a control group that is removed afterwards. The load
//! comes from the project's own generator, in a process of its own on a CPU of its own.

mod cgroup;
pub(super) mod generator;
mod idle;
mod memory;
mod quota;
pub(super) mod requests;
mod scaling;
mod size;
mod start;
pub(super) mod subject;

use std::cell::{RefCell, RefMut};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;

use self::generator::Generator;
use super::fixture::Built;
use super::report::Part;
use super::scratch::Scratch;
use super::stats::Series;
use super::{Bench, SAMPLE};
use tare_tool::environment::Environment;
use tare_tool::toolkit;
use tare_tool::ui::Ui;
use xtask_tare::workspace::Workspace;

/// What is to be measured.
#[derive(Debug)]
pub(crate) struct Options {
    /// Rounds of each measurement.
    pub(crate) rounds: u32,
    /// Only the parts whose names contain this.
    pub(crate) only: String,
    /// The images whose servers are measured; empty: all.
    pub(crate) servers: Vec<String>,
    /// How long each server is under load in a round.
    pub(crate) duration: Duration,
}

/// The least that answers: everything is a ratio to it.
const FLOOR: &str = "floor";
/// The sample and its peers.
const SERVERS: [&str; 7] = [FLOOR, SAMPLE, "hyper", "axum", "actix-web", "hyperlane", "rocket"];
/// Of these, those that find a route and so do what the sample does.
const FRAMEWORKS: [&str; 4] = ["axum", "actix-web", "hyperlane", "rocket"];

/// The server's CPU, and the other one, which is the generator's.
pub(super) const SERVER_CPU: &[usize] = &[0];
pub(super) const GENERATOR_CPU: &[usize] = &[1];
const BOTH_CPUS: &[usize] = &[0, 1];

/// Connections under load.
pub(super) const CONNECTIONS: u32 = 64;

fn parts<'a>() -> [(&'static str, super::Measure<Contest<'a>>); 9] {
    [
        ("requests", requests::one_at_a_time),
        ("pipelining", requests::pipelined),
        ("scaling", scaling::measure),
        ("quota", quota::measure),
        ("idle", idle::measure),
        ("connections", idle::connections),
        ("memory", memory::measure),
        ("start", start::measure),
        ("size", size::measure),
    ]
}

/// A server, built as its image has it.
#[derive(Debug, Clone)]
pub(super) struct Server {
    pub(super) name: String,
    pub(super) binary: PathBuf,
}

/// What every part needs.
pub(super) struct Contest<'a> {
    pub(super) bench: Bench<'a>,
    pub(super) duration: Duration,
    /// The floor is the first.
    servers: Vec<Server>,
    tare_profiler: PathBuf,
    /// On the generator's CPU. It stays for all rounds, so that it is warm.
    generator: RefCell<Generator>,
    /// For what the servers print.
    pub(super) scratch: Scratch,
}

/// Measures; false if something that must be reached is not.
pub(crate) fn server(
    options: &Options,
    workspace: &Workspace,
    env: &Environment,
    ui: Ui,
) -> anyhow::Result<bool> {
    let bench = Bench::new(options.rounds, workspace, env, ui)?;
    let chosen = super::choose(&parts(), &options.only)?;
    let servers = chosen_servers(&options.servers)?;
    let contest = Contest::new(bench, &servers, options.duration, "server")?;
    super::run("server", &contest.bench, &contest, &chosen)
}

/// In the order in which they are shown, the floor always among them.
fn chosen_servers(wanted: &[String]) -> anyhow::Result<Vec<&'static str>> {
    if let Some(unknown) = wanted.iter().find(|name| !SERVERS.contains(&name.as_str())) {
        anyhow::bail!("--servers: there is no server `{unknown}`; there are: {}", SERVERS.join(", "));
    }
    let chosen = |name: &&str| wanted.is_empty() || *name == FLOOR || wanted.iter().any(|own| own == name);
    Ok(SERVERS.into_iter().filter(chosen).collect())
}

/// Builds an image, and takes the binary out of what was built.
fn build(bench: &Bench<'_>, name: &str) -> anyhow::Result<Server> {
    bench.ui.status("Building", name);
    let command = bench.tare(&bench.workspace.root).args(["image", name, "--quiet", "--json"]);
    let built = Built::parse(&command.read()?)?;
    Ok(Server { name: name.to_owned(), binary: built.platform()?.binary.clone() })
}

impl<'a> Contest<'a> {
    /// Builds the servers and starts the generator.
    pub(super) fn new(
        bench: Bench<'a>,
        servers: &[&'static str],
        duration: Duration,
        scratch: &str,
    ) -> anyhow::Result<Self> {
        let Bench { workspace, env, ui, .. } = bench;
        anyhow::ensure!(env.parallelism > 1, "server and generator need a CPU each, and there is one");
        let servers: Vec<Server> =
            servers.iter().map(|name| build(&bench, name)).collect::<Result<_, _>>()?;
        let tare_profiler = workspace.toolkit().build(toolkit::Part::Profiler, env, ui)?;
        let generator = RefCell::new(Generator::start(&tare_profiler, GENERATOR_CPU)?);
        let scratch = bench.scratch(scratch)?;
        Ok(Self { bench, duration, servers, tare_profiler, generator, scratch })
    }

    /// The bare epoll loop.
    pub(super) fn floor(&self) -> anyhow::Result<&Server> {
        self.server(FLOOR).with_context(|| format!("this part measures {FLOOR}"))
    }

    fn server(&self, name: &str) -> Option<&Server> {
        self.servers.iter().find(|server| server.name == name)
    }

    /// The sample, for parts that are about it alone.
    fn sample(&self) -> anyhow::Result<&Server> {
        self.server(SAMPLE).with_context(|| format!("this part measures {SAMPLE}: name it in --servers"))
    }

    pub(super) fn generator(&self) -> RefMut<'_, Generator> {
        self.generator.borrow_mut()
    }

    /// Measures each server once in every round, beginning with another one each time. A server that fails
    /// is left out of all rounds, with the reason.
    fn rounds<T>(
        &self,
        part: &mut Part,
        mut measure: impl FnMut(&Server) -> anyhow::Result<T>,
    ) -> Vec<(&Server, Vec<T>)> {
        let mut found: Vec<(&Server, Vec<T>)> =
            self.servers.iter().map(|server| (server, Vec::new())).collect();
        for round in 0..self.bench.rounds as usize {
            let mut failed = Vec::new();
            let count = found.len();
            for turn in 0..count {
                let (server, values) = &mut found[(round + turn) % count];
                match measure(server) {
                    Ok(value) => values.push(value),
                    Err(error) => failed.push((server.name.clone(), error)),
                }
            }
            for (name, error) in failed {
                found.retain(|(server, _)| server.name != name);
                part.left_out.push(format!("{name}: {error:#}"));
            }
        }
        found
    }
}

/// One number of each round.
pub(super) fn series<T>(of: fn(Vec<u64>) -> Series, rounds: &[T], number: impl Fn(&T) -> u64) -> Series {
    of(rounds.iter().map(number).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_is_always_among_the_servers_and_unknown_ones_are_refused() {
        let chosen = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            chosen_servers(&names).map_err(|error| error.to_string())
        };
        assert_eq!(chosen(&[]), Ok(SERVERS.to_vec()));
        assert_eq!(chosen(&["axum", "app"]), Ok(vec!["floor", "app", "axum"]));
        let says = "--servers: there is no server `gin`; there are: floor, app, hyper, axum, actix-web, hyperlane, rocket";
        assert_eq!(chosen(&["gin"]), Err(says.to_owned()));
    }
}
