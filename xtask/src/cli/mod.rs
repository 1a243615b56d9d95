//! The command line. No other module uses clap or exit codes.
//!
//! Exit codes: 0 done, 1 a check failed, 2 an error, 130 or 143 after SIGINT or SIGTERM.

mod checks;
mod clean;
mod hints;
mod image;
mod inspect;
mod list;
mod profiler;
mod tags;
mod update;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use self::checks::ChecksCommand;
use tare_tool::environment::{self, Environment};
use tare_tool::exit::{self, Outcome};
use tare_tool::signals;
use tare_tool::toolkit::Part;
use tare_tool::ui::Ui;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, disable_help_subcommand = true)]
#[command(about = "The lightest honest container around a Rust server")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Work without the network, as with CARGO_NET_OFFLINE=true
    #[arg(long, global = true)]
    offline: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build minimal, reproducible images of Rust servers
    Image(image::ImageArguments),
    /// Show or validate any image: configuration, layers, files, crates
    Inspect(inspect::InspectArguments),
    /// Pin the digests of base images in images/lock.toml, or move them to newer ones
    Update(update::UpdateArguments),
    /// List the images of the workspace
    List(list::ListArguments),
    /// Measure images under limits: size, start-up, throughput
    Profile(PassedOn),
    /// Run an image under a profile's limits, with its ports on 127.0.0.1
    Run(PassedOn),
    /// Make a page from reports, or say what changed between two reports or images
    Report(PassedOn),
    /// Send requests to a server and measure its answers
    Load(PassedOn),
    /// Write manifests for Kubernetes and others from measured figures
    Deploy(PassedOn),
    /// Push an image to registries, with SBOM, provenance and signatures
    Publish(PassedOn),
    /// Fetch an image from a registry into an OCI layout
    Pull(PassedOn),
    /// List the SBOMs, provenance and signatures of an image in a registry
    Referrers(PassedOn),
    /// Remove the caches: layers, crate lists, unpacked images
    Clean(clean::CleanArguments),
    /// Build all programs that are otherwise built on first use
    Toolkit,
    #[command(flatten)]
    Checks(ChecksCommand),
}

impl Command {
    /// The arguments of a command that another program reads.
    fn passed_on(&mut self) -> Option<&mut PassedOn> {
        match self {
            Self::Profile(words)
            | Self::Run(words)
            | Self::Report(words)
            | Self::Load(words)
            | Self::Deploy(words)
            | Self::Publish(words)
            | Self::Pull(words)
            | Self::Referrers(words)
            | Self::Checks(ChecksCommand::Test(words) | ChecksCommand::Bench(words)) => Some(words),
            Self::Image(_)
            | Self::Inspect(_)
            | Self::Update(_)
            | Self::List(_)
            | Self::Clean(_)
            | Self::Toolkit => None,
        }
    }
}

/// Arguments that another program reads.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
struct PassedOn {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    arguments: Vec<OsString>,
}

impl PassedOn {
    /// Takes `--offline` out of the arguments, and says whether it was there. What follows `--` is the container's.
    fn take_offline(&mut self) -> bool {
        let own = self.arguments.iter().position(|word| word == "--").unwrap_or(self.arguments.len());
        let found = self.arguments[..own].iter().position(|word| word == "--offline");
        found.map(|at| self.arguments.remove(at)).is_some()
    }
}

/// Runs `cargo xtask …` with the arguments and environment of the process.
#[must_use]
pub fn main() -> ExitCode {
    compiler().unwrap_or_else(|| run(Arguments::parse()))
}

/// Runs `cargo tare …`: cargo passes the name of the command as the first argument.
#[must_use]
pub fn cargo_tare() -> ExitCode {
    environment::called_as_cargo_tare();
    if let Some(code) = compiler() {
        return code;
    }
    let words = std::env::args_os().enumerate().filter(|(at, word)| *at != 1 || word != "tare");
    let name = environment::command();
    let command = Arguments::command().name(name).bin_name(name);
    match Arguments::from_arg_matches(&command.get_matches_from(words.map(|(_, word)| word))) {
        Ok(arguments) => run(arguments),
        Err(error) => error.exit(),
    }
}

/// Where cargo started this program in the place of rustc: its exit code.
fn compiler() -> Option<ExitCode> {
    let env = Environment::read().ok()?;
    let ran = crate::image::cargo::run_as_wrapper(&env, std::env::args_os().skip(1))?;
    let outcome = ran.map(exit::Outcome::Exit).map_err(anyhow::Error::from);
    Some(exit::code(outcome, Ui::new(false, true), hints::hint))
}

fn run(mut arguments: Arguments) -> ExitCode {
    let offline = arguments.command.passed_on().is_some_and(PassedOn::take_offline) || arguments.offline;
    let ui = |quiet| Ui::new(quiet, std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()));
    signals::watch(ui(false));
    let env = Environment::read().map(|mut env| {
        if offline {
            env.set_offline();
        }
        env
    });
    let result = env.map_err(anyhow::Error::from).and_then(|env| match arguments.command {
        Command::Image(arguments) => {
            let ui = ui(arguments.quiet);
            image::run(&arguments, &env, ui)
        }
        Command::Inspect(arguments) => inspect::run(&arguments, &env, ui(false)),
        Command::Update(arguments) => update::run(&arguments, &env, ui(false)),
        Command::List(arguments) => list::run(&arguments, &env, ui(false)),
        Command::Profile(arguments) => {
            profiler::planned(Part::Profiler, "profile", &arguments, &env, ui(false))
        }
        Command::Run(arguments) => profiler::planned(Part::Profiler, "run", &arguments, &env, ui(false)),
        Command::Report(arguments) => {
            profiler::planned(Part::Profiler, "report", &arguments, &env, ui(false))
        }
        Command::Load(arguments) => profiler::direct(Part::Profiler, "load", &arguments, &env, ui(false)),
        Command::Deploy(arguments) => profiler::planned(Part::Deploy, "deploy", &arguments, &env, ui(false)),
        Command::Publish(arguments) => {
            profiler::planned(Part::Publish, "publish", &arguments, &env, ui(false))
        }
        Command::Pull(arguments) => profiler::direct(Part::Publish, "pull", &arguments, &env, ui(false)),
        Command::Referrers(arguments) => {
            profiler::direct(Part::Publish, "referrers", &arguments, &env, ui(false))
        }
        Command::Clean(arguments) => clean::run(&arguments, &env, ui(false)),
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

    #[test]
    fn offline_is_read_in_every_place_but_behind_two_dashes() {
        for (words, offline, rest) in [
            ("--offline profile app", true, "app"),
            ("profile --offline app", true, "app"),
            ("profile app --pass size --offline", true, "app --pass size"),
            ("run app -- --offline", false, "app -- --offline"),
            ("publish app", false, "app"),
        ] {
            let words = std::iter::once("cargo xtask").chain(words.split(' '));
            let mut arguments = Arguments::try_parse_from(words).unwrap();
            let passed_on = arguments.command.passed_on().unwrap();
            let found = passed_on.take_offline();
            let left = passed_on.arguments.join(" ".as_ref());
            assert_eq!((found || arguments.offline, left.to_str().unwrap()), (offline, rest));
        }
        for words in [
            &["xtask", "--offline", "image"][..],
            &["xtask", "image", "--offline"],
            &["xtask", "toolkit", "--offline"],
        ] {
            assert!(Arguments::try_parse_from(words).unwrap().offline);
        }
    }
}
