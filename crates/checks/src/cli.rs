//! `cargo xtask test` and `cargo xtask bench`: for the people of this workspace alone.

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tare_oci::units::Nanoseconds;
use tare_tool::environment::Environment;
use tare_tool::exit::{self, FAILED, GATE};
use tare_tool::ui::Ui;
use xtask_tare::workspace::Workspace;

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
    #[command(subcommand)]
    Bench(BenchCommand),
}

#[derive(Debug, Args)]
struct TestArguments {
    /// Fail when a tool that an outside check needs is missing, instead of leaving the check out
    #[arg(long)]
    require_outside: bool,
    /// Run the outside checks alone, and of these only those whose names contain this
    #[arg(long, value_name = "PART", num_args = 0..=1, default_missing_value = "")]
    outside: Option<String>,
    /// Run the tests of containers alone, in virtual machines with cgroup v2, as root and as an ordinary user:
    /// `bare` without systemd, `systemd` with it [default: both]
    #[arg(long, value_name = "PART", num_args = 0..=1, conflicts_with_all = ["require_outside", "outside"])]
    vm: Option<Option<crate::test::Machine>>,
}

#[derive(Debug, Subcommand)]
enum BenchCommand {
    /// Size and time of packaging, beside docker, podman, crane, gzip and zopfli
    Image(BenchImageArguments),
    /// The sample server beside a bare epoll loop, hyper, axum, actix-web, Hyperlane and Rocket
    #[cfg(target_os = "linux")]
    Server(BenchServerArguments),
    /// Whether what the profiler says is true: beside wrk, on images that are known to differ, under half a CPU
    #[cfg(target_os = "linux")]
    Fidelity(BenchFidelityArguments),
}

#[derive(Debug, Args)]
struct BenchImageArguments {
    /// Rounds of each measurement; every round runs all tools in turn
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Only the parts whose names contain this: size, levels, packaging, rebuild, large
    #[arg(long, value_name = "PART", default_value = "")]
    only: String,
}

#[cfg(target_os = "linux")]
#[derive(Debug, Args)]
struct BenchServerArguments {
    /// Rounds of each measurement; every round runs all servers in turn
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Only the parts whose names contain this: requests, pipelining, scaling, quota, idle, connections,
    /// memory, start, size
    #[arg(long, value_name = "PART", default_value = "")]
    only: String,
    /// Only these images, and the floor [default: floor,app,hyper,axum,actix-web,hyperlane,rocket]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    servers: Vec<String>,
    /// How long each server is under load in a round
    #[arg(long, value_name = "DURATION", default_value = "2s")]
    duration: Nanoseconds,
}

#[cfg(target_os = "linux")]
#[derive(Debug, Args)]
struct BenchFidelityArguments {
    /// Rounds of each measurement; every round runs all contestants in turn
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Only the parts whose names contain this: wrk, quota, regressions, same
    #[arg(long, value_name = "PART", default_value = "")]
    only: String,
    /// Comparisons of images that differ, and of images that do not
    #[arg(long, default_value_t = 20)]
    compares: u32,
    /// How long a server is under load in a round
    #[arg(long, value_name = "DURATION", default_value = "2s")]
    duration: Nanoseconds,
}

/// Runs with the arguments and environment of the process.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let ui = Ui::new(false, no_colour);
    let result =
        Environment::read().map_err(anyhow::Error::from).and_then(|env| run(&arguments.command, &env, ui));
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(GATE),
        Err(error) => {
            let hint = error.chain().find_map(exit::hint);
            ui.error(&exit::chain(&error), hint.as_deref());
            ExitCode::from(FAILED)
        }
    }
}

/// Whether everything passed.
fn run(command: &Command, env: &Environment, ui: Ui) -> anyhow::Result<bool> {
    let workspace = Workspace::find(env)?;
    match command {
        Command::Test(arguments) => {
            let options = crate::test::Options {
                require_outside: arguments.require_outside,
                outside_only: arguments.outside.clone(),
                vm: arguments.vm,
            };
            crate::test::run(&options, &workspace, env, ui)
        }
        Command::Bench(BenchCommand::Image(arguments)) => {
            let options = crate::bench::Options { rounds: arguments.rounds, only: arguments.only.clone() };
            crate::bench::image(&options, &workspace, env, ui)
        }
        #[cfg(target_os = "linux")]
        Command::Bench(BenchCommand::Server(arguments)) => {
            let options = crate::bench::server::Options {
                rounds: arguments.rounds,
                only: arguments.only.clone(),
                servers: arguments.servers.clone(),
                duration: std::time::Duration::from_nanos(arguments.duration.0),
            };
            crate::bench::server::server(&options, &workspace, env, ui)
        }
        #[cfg(target_os = "linux")]
        Command::Bench(BenchCommand::Fidelity(arguments)) => {
            let options = crate::bench::fidelity::Options {
                rounds: arguments.rounds,
                only: arguments.only.clone(),
                compares: arguments.compares,
                duration: std::time::Duration::from_nanos(arguments.duration.0),
            };
            crate::bench::fidelity::fidelity(&options, &workspace, env, ui)
        }
    }
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
