//! The command line: the only part that knows clap and exit codes.
//!
//! 0: done. 1: a gate failed. 2: it could not be done.

mod generate;
mod load;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xtask_tare::ui::Ui;

use crate::load::LoadError;

/// Could not be done.
const FAILED: u8 = 2;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Send requests to a server and measure its answers
    Load(load::LoadArguments),
    /// The generator as a child process
    #[command(hide = true)]
    Generate(generate::GenerateArguments),
}

/// Runs with the arguments and environment of the process.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let ui = Ui::new(false, std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()));
    let result = match &arguments.command {
        Command::Load(arguments) => load::run(arguments, ui),
        Command::Generate(arguments) => generate::run(arguments, ui),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            ui.error(&chain(&error), hint(&error).as_deref());
            ExitCode::from(FAILED)
        }
    }
}

/// The hint of the first of the causes that has one.
fn hint(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|cause| cause.downcast_ref::<LoadError>().and_then(load::hint))
}

/// An error with its causes in one line; a cause that the error already says is not said again.
fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
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
