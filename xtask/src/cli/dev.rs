//! `cargo xtask test` and `cargo xtask bench`: for the people of this workspace alone.

use clap::{Args, Subcommand};

use super::Outcome;
use crate::dev;
use crate::workspace::Workspace;
use tare_oci::units::Nanoseconds;
use tare_tool::environment::Environment;
use tare_tool::ui::Ui;

#[derive(Debug, Subcommand)]
pub(super) enum DevCommand {
    /// Run every test, and check the images with others' tools as far as they are installed
    Test(TestArguments),
    /// Measure side by side with others' tools and print ratios
    #[command(subcommand)]
    Bench(BenchCommand),
}

#[derive(Debug, Args)]
pub(super) struct TestArguments {
    /// Fail when a tool that an outside check needs is missing, instead of leaving the check out
    #[arg(long)]
    require_outside: bool,
    /// Run the outside checks alone, and of these only those whose names contain this
    #[arg(long, value_name = "PART", num_args = 0..=1, default_missing_value = "")]
    outside: Option<String>,
    /// Run the tests of containers alone, in virtual machines with cgroup v2, as root and as an ordinary user:
    /// `bare` without systemd, `systemd` with it [default: both]
    #[arg(long, value_name = "PART", num_args = 0..=1, conflicts_with_all = ["require_outside", "outside"])]
    vm: Option<Option<dev::test::Machine>>,
}

#[derive(Debug, Subcommand)]
pub(super) enum BenchCommand {
    /// Size and time of packaging, beside docker, podman, crane, gzip and zopfli
    Image(BenchImageArguments),
    /// The sample server beside a bare epoll loop, hyper, axum, actix-web, Hyperlane and Rocket
    #[cfg(target_os = "linux")]
    Server(BenchServerArguments),
    /// Whether what the scale says is true: beside wrk, on images that are known to differ, under half a CPU
    #[cfg(target_os = "linux")]
    Fidelity(BenchFidelityArguments),
}

#[derive(Debug, Args)]
pub(super) struct BenchImageArguments {
    /// Rounds of each measurement; every round runs all tools in turn
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Only the parts whose names contain this: size, levels, packaging, rebuild, large
    #[arg(long, value_name = "PART", default_value = "")]
    only: String,
}

#[cfg(target_os = "linux")]
#[derive(Debug, Args)]
pub(super) struct BenchServerArguments {
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
pub(super) struct BenchFidelityArguments {
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

pub(super) fn run(command: &DevCommand, env: &Environment, ui: Ui) -> anyhow::Result<Outcome> {
    let workspace = Workspace::find(env)?;
    let passed = match command {
        DevCommand::Test(arguments) => {
            let options = dev::test::Options {
                require_outside: arguments.require_outside,
                outside_only: arguments.outside.clone(),
                vm: arguments.vm,
            };
            dev::test::run(&options, &workspace, env, ui)?
        }
        DevCommand::Bench(BenchCommand::Image(arguments)) => {
            let options = dev::bench::Options { rounds: arguments.rounds, only: arguments.only.clone() };
            dev::bench::image(&options, &workspace, env, ui)?
        }
        #[cfg(target_os = "linux")]
        DevCommand::Bench(BenchCommand::Server(arguments)) => {
            let options = dev::bench::server::Options {
                rounds: arguments.rounds,
                only: arguments.only.clone(),
                servers: arguments.servers.clone(),
                duration: std::time::Duration::from_nanos(arguments.duration.0),
            };
            dev::bench::server::server(&options, &workspace, env, ui)?
        }
        #[cfg(target_os = "linux")]
        DevCommand::Bench(BenchCommand::Fidelity(arguments)) => {
            let options = dev::bench::fidelity::Options {
                rounds: arguments.rounds,
                only: arguments.only.clone(),
                compares: arguments.compares,
                duration: std::time::Duration::from_nanos(arguments.duration.0),
            };
            dev::bench::fidelity::fidelity(&options, &workspace, env, ui)?
        }
    };
    Ok(if passed { Outcome::Done } else { Outcome::GateFailed })
}
