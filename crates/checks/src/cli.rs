//! `cargo xtask test` and `cargo xtask bench`, for developers of this workspace.

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tare_tool::environment::Environment;
use tare_tool::exit::{self, Outcome};
use tare_tool::ui::Ui;
use xtask_tare::workspace::Workspace;

#[cfg(target_os = "linux")]
use crate::bench;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run every test, and check the images with others' tools as far as they are installed
    Test(TestArguments),
    /// Measure side by side with others' tools and print ratios
    #[cfg(target_os = "linux")]
    #[command(subcommand)]
    Bench(BenchCommand),
}

#[derive(Debug, Args)]
struct TestArguments {
    /// Fail when a tool that an outside check needs is missing, instead of leaving the check out
    #[arg(long)]
    require_outside: bool,
    /// Run the outside checks alone: those with this in their names
    #[arg(long, value_name = "PART", num_args = 0..=1, default_missing_value = "")]
    outside: Option<String>,
    /// Run the tests of containers alone, in virtual machines with cgroup v2, as root and as an ordinary user:
    /// `bare` without systemd, `systemd` with it [default: both]
    #[arg(long, value_name = "PART", num_args = 0..=1, conflicts_with_all = ["require_outside", "outside"])]
    #[arg(value_parser = ["bare", "systemd"])]
    #[cfg(target_os = "linux")]
    vm: Option<Option<String>>,
    /// Build a Kubernetes once, and run the outside checks that need it alone
    #[arg(long, conflicts_with_all = ["require_outside", "outside", "vm"])]
    #[cfg(target_os = "linux")]
    cluster: bool,
}

#[cfg(target_os = "linux")]
#[derive(Debug, Subcommand)]
enum BenchCommand {
    /// Size, time and memory of packaging, beside docker, podman, crane, gzip and zopfli
    Image(BenchArguments),
    /// Pushing an image, beside crane push and skopeo copy
    Publish(BenchArguments),
    /// The sample server beside a bare epoll loop, hyper, axum, actix-web, Hyperlane and Rocket
    Server {
        #[command(flatten)]
        common: BenchArguments,
        /// Only these images, and the bare loop [default: floor,app,hyper,axum,actix-web,hyperlane,rocket]
        #[arg(long, value_name = "LIST", value_delimiter = ',')]
        servers: Vec<String>,
    },
    /// Whether the profiler's figures are true: beside wrk, on images that are known to differ, under half a CPU
    Fidelity {
        #[command(flatten)]
        common: BenchArguments,
        /// Comparisons of images that differ, and of images that do not
        #[arg(long, default_value_t = 20)]
        comparisons: u32,
    },
}

#[cfg(target_os = "linux")]
#[derive(Debug, Args)]
struct BenchArguments {
    /// Rounds of each measurement; every round runs all contestants in turn
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Only the parts with this in their names. image: packaging, rebuild, size, large; fidelity: wrk, limit, quota,
    /// starts, regressions, same, gates
    #[arg(long, value_name = "PART", default_value = "")]
    only: String,
}

/// Runs with the arguments and environment of the process.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let ui = Ui::new(false, no_colour);
    let result =
        Environment::read().map_err(anyhow::Error::from).and_then(|env| run(&arguments.command, &env, ui));
    let outcome = result.map(|passed| if passed { Outcome::Done } else { Outcome::GateFailed });
    exit::code(outcome, ui, exit::hint)
}

/// Whether everything passed.
fn run(command: &Command, env: &Environment, ui: Ui) -> anyhow::Result<bool> {
    let workspace = Workspace::find(env)?;
    match command {
        Command::Test(arguments) => test(arguments, &workspace, env, ui),
        #[cfg(target_os = "linux")]
        Command::Bench(command) => {
            let (parts, common, comparisons, servers) = match command {
                BenchCommand::Image(common) => (bench::IMAGE, common, 0, &[][..]),
                BenchCommand::Publish(common) => (bench::PUBLISH, common, 0, &[][..]),
                BenchCommand::Server { common, servers } => (bench::SERVER, common, 0, &servers[..]),
                BenchCommand::Fidelity { common, comparisons } => {
                    (bench::FIDELITY, common, *comparisons, &[][..])
                }
            };
            let BenchArguments { rounds, only } = common;
            let options = bench::Options {
                rounds: *rounds,
                only: only.clone(),
                comparisons,
                servers: servers.to_vec(),
            };
            bench::run(&parts, &options, &workspace, env, ui)
        }
    }
}

#[cfg(target_os = "linux")]
fn test(arguments: &TestArguments, workspace: &Workspace, env: &Environment, ui: Ui) -> anyhow::Result<bool> {
    if let Some(machine) = &arguments.vm {
        return crate::vm::run(machine.as_deref(), workspace, env, ui);
    }
    if arguments.cluster {
        return crate::outside::run_cluster(workspace, env, ui);
    }
    let passed = arguments.outside.is_some() || crate::test::run(workspace, env, ui)?;
    let part = arguments.outside.as_deref().unwrap_or_default();
    Ok(crate::outside::run(part, arguments.require_outside, workspace, env, ui)? && passed)
}

/// The outside tools are Linux's, and so are the namespaces that they run in.
#[cfg(not(target_os = "linux"))]
fn test(arguments: &TestArguments, workspace: &Workspace, env: &Environment, ui: Ui) -> anyhow::Result<bool> {
    let passed = arguments.outside.is_some() || crate::test::run(workspace, env, ui)?;
    ui.warning("the outside checks run on Linux alone");
    Ok(passed && !arguments.require_outside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        use clap::CommandFactory as _;
        Arguments::command().debug_assert();
    }
}
