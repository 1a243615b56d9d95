//! The command line: the only part that knows clap and exit codes.
//!
//! 0: done. 1: a gate failed. 2: it could not be done.

mod checks;
mod hints;
mod image;
mod inspect;
mod list;
mod profiler;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use tare_tool::environment::Environment;
use tare_tool::exit::{self, Outcome};
use tare_tool::toolkit::Part;
use tare_tool::ui::Ui;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, disable_help_subcommand = true)]
#[command(about = "The lightest honest container around a Rust server")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build images: a static binary, a minimal rootfs, the same bytes on every machine
    Image(image::ImageArguments),
    /// Show what is in an image, anybody's: parameters, layers, files, crates
    Inspect(inspect::InspectArguments),
    /// List the workspace's images
    List(list::ListArguments),
    /// Measure images in constrained containers: size, start-up, throughput, with a verdict
    Profile(PassedOn),
    /// Run an image in the foreground, under a profile's limits, with its ports on 127.0.0.1
    Run(PassedOn),
    /// Send requests to a server and measure its answers
    Load(PassedOn),
    /// Write manifests with requests, limits and probes computed from what was measured
    Deploy(PassedOn),
    /// Push an image to registries, with SBOMs, provenance and signatures, and move their tags
    Publish(PassedOn),
    /// Fetch an image from a registry into an OCI layout
    Pull(PassedOn),
    /// List what refers to an image in a registry: SBOMs, provenance, signatures
    Referrers(PassedOn),
    /// Build everything that is otherwise built when it is first used, for CI caches and for work without a network
    Toolkit,
    #[command(flatten)]
    Checks(checks::ChecksCommand),
}

/// Arguments that another program reads.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
struct PassedOn {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    arguments: Vec<OsString>,
}

/// Runs `cargo xtask …` with the arguments and environment of the process.
#[must_use]
pub fn main() -> ExitCode {
    run(Arguments::parse())
}

/// Runs `cargo tare …`: cargo passes the name of the command as the first argument.
#[must_use]
pub fn cargo_tare() -> ExitCode {
    let words = std::env::args_os().enumerate().filter(|(at, word)| *at != 1 || word != "tare");
    let command = Arguments::command().name("cargo tare").bin_name("cargo tare");
    match Arguments::from_arg_matches(&command.get_matches_from(words.map(|(_, word)| word))) {
        Ok(arguments) => run(arguments),
        Err(error) => error.exit(),
    }
}

fn run(arguments: Arguments) -> ExitCode {
    let ui = |quiet| Ui::new(quiet, std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()));
    let result = Environment::read().map_err(anyhow::Error::from).and_then(|env| match arguments.command {
        Command::Image(arguments) => {
            let ui = ui(arguments.quiet);
            image::run(&arguments, &env, ui)
        }
        Command::Inspect(arguments) => inspect::run(&arguments, &env, ui(false)),
        Command::List(arguments) => list::run(&arguments, &env, ui(false)),
        Command::Profile(arguments) => {
            profiler::planned(Part::Profiler, "profile", &arguments, &env, ui(false))
        }
        Command::Run(arguments) => profiler::planned(Part::Profiler, "run", &arguments, &env, ui(false)),
        Command::Load(arguments) => profiler::direct(Part::Profiler, "load", &arguments, &env, ui(false)),
        Command::Deploy(arguments) => profiler::planned(Part::Deploy, "deploy", &arguments, &env, ui(false)),
        Command::Publish(arguments) => {
            profiler::planned(Part::Publish, "publish", &arguments, &env, ui(false))
        }
        Command::Pull(arguments) => profiler::direct(Part::Publish, "pull", &arguments, &env, ui(false)),
        Command::Referrers(arguments) => {
            profiler::direct(Part::Publish, "referrers", &arguments, &env, ui(false))
        }
        Command::Toolkit => profiler::toolkit(&env, ui(false)),
        Command::Checks(command) => checks::run(&command, &env, ui(false)),
    });
    exit::code(result, ui(false), hints::hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }
}
