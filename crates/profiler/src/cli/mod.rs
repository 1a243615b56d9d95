//! The command line: the only part that knows clap and exit codes.
//!
//! 0: done. 1: a gate failed, or something is wrong with the server. 2: it could not be done, as when the server
//! never became ready.

mod compare;
mod generate;
mod hints;
mod load;
mod profile;
mod progress;
mod stage;
mod sudo;
mod xtask;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tare_tool::environment::Environment;
use tare_tool::exit::{FAILED, GATE, chain};
use tare_tool::ui::Ui;

use self::xtask::Xtask;
use crate::profile::render::terminal::WIDEST;
use tare_container::leftovers;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Weigh images in constrained containers: size, start-up, throughput, with a verdict
    Profile(profile::ProfileArguments),
    /// Send requests to a server and measure its answers
    Load(load::LoadArguments),
    /// The generator as a child process
    #[command(hide = true)]
    Generate(generate::GenerateArguments),
}

/// How a command ended that did what it was to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    GateFailed,
    /// It has been told why.
    NeverReady,
    /// As root's process did, which had the rest of the work.
    Exit(u8),
}

/// Runs with the arguments and environment of the process.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let quiet = matches!(&arguments.command, Command::Profile(arguments) if arguments.quiet());
    let ui = Ui::new(quiet, no_colour);
    let result = match &arguments.command {
        Command::Load(arguments) => load::run(arguments, ui).map(|()| Outcome::Done),
        Command::Generate(arguments) => generate::run(arguments, ui).map(|()| Outcome::Done),
        Command::Profile(arguments) => Environment::read().map_err(anyhow::Error::from).and_then(|env| {
            let xtask = Xtask::new(env.get(xtask::CALLER).cloned());
            profile::run(arguments, &env, &xtask, ui)
        }),
    };
    // After a signal the error is only that the container is gone, and whoever removes it ends the process.
    drop(leftovers::making());
    match result {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::GateFailed) => ExitCode::from(GATE),
        Ok(Outcome::NeverReady) => ExitCode::from(FAILED),
        Ok(Outcome::Exit(code)) => ExitCode::from(code),
        Err(error) => {
            ui.error(&chain(&error), hints::hint(&error).as_deref());
            ExitCode::from(FAILED)
        }
    }
}

/// How wide the terminal on stdout is, if it is one.
fn columns() -> usize {
    #[cfg(unix)]
    if let Ok(size) = rustix::termios::tcgetwinsize(std::io::stdout()) {
        // A terminal that does not know says 0 (ioctl_tty(2)).
        return if size.ws_col == 0 { WIDEST } else { size.ws_col.into() };
    }
    WIDEST
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
