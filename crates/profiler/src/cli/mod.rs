//! The command line: the only part that knows clap and exit codes.
//!
//! 0: done. 1: a gate failed, or something is wrong with the server. 2: it could not be done, as when the server
//! never became ready.
//!
//! xtask calls `profile` in the two steps of [`tare_tool::plan`]: `plan` checks everything that needs nothing built, and
//! `run` does the work. Called directly, without a plan, the workspace is the current folder and the images are paths.

mod arguments;
mod compare;
mod generate;
mod hints;
mod images;
mod limits;
mod load;
mod matrix;
mod neighbour;
mod profile;
mod progress;
mod published;
mod report;
mod stage;
mod start;
mod sudo;
mod tables;
mod unfinished;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use tare_tool::environment::{self, Environment};
use tare_tool::exit::{self, Outcome};
use tare_tool::plan::{self, Plan, Step};
use tare_tool::ui::Ui;

use self::profile::ProfileArguments;
use self::stage::Session;
use self::start::StartArguments;
use crate::profile::render::terminal::WIDEST;
use tare_container::cleanup;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure images in constrained containers: size, start-up, throughput, with a verdict
    Profile(Box<ProfileArguments>),
    /// Run an image in the foreground, under a profile's limits, with its ports on 127.0.0.1
    Run(StartArguments),
    /// Make pages from reports, and say what changed between two
    Report(report::ReportArguments),
    /// Send requests to a server and measure its answers
    Load(load::LoadArguments),
    /// The generator as a child process
    #[command(hide = true)]
    Generate(generate::GenerateArguments),
    /// The neighbour of the isolation pass
    #[command(hide = true)]
    Neighbour(neighbour::NeighbourArguments),
}

impl Command {
    fn quiet(&self) -> bool {
        match self {
            Self::Profile(arguments) => arguments.quiet(),
            Self::Run(arguments) => arguments.quiet(),
            Self::Report(_) | Self::Load(_) | Self::Generate(_) | Self::Neighbour(_) => false,
        }
    }
}

/// Runs with the arguments and environment of the process.
#[must_use]
pub fn main() -> ExitCode {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let no_colour = is_set("NO_COLOR") || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    let (step, own) = Step::of(&words);
    let name = environment::command();
    let all = std::iter::once(OsString::from(name)).chain(own.iter().cloned());
    let matches = Arguments::command().name(name).bin_name(name).get_matches_from(all);
    let command = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit()).command;
    let ui = Ui::new(command.quiet(), no_colour);
    let result = match &step {
        Step::Plan { plan, workspace } => make_plan(&command, workspace, plan, ui),
        Step::Run { plan } => run(&command, Some(plan), own, ui),
        Step::Alone => run(&command, None, own, ui),
    };
    // After a signal the error is only that the container is gone, and what removes it ends the process.
    drop(cleanup::making());
    exit::code(result, ui, hints::hint)
}

/// The first step.
fn make_plan(command: &Command, root: &Path, file: &Path, ui: Ui) -> anyhow::Result<Outcome> {
    let env = Environment::read()?;
    let wanted = match command {
        Command::Profile(arguments) => profile::plan(arguments, root, &env, ui)?,
        Command::Run(arguments) => Some(start::plan(arguments, root, &env)?),
        Command::Report(arguments) => Some(report::plan(arguments)?),
        Command::Load(_) | Command::Generate(_) | Command::Neighbour(_) => None,
    };
    if let Some(wanted) = wanted {
        plan::write(file, &wanted)?;
    }
    Ok(Outcome::Done)
}

/// The second step, or all of it where nothing was planned.
fn run(command: &Command, file: Option<&Path>, words: &[OsString], ui: Ui) -> anyhow::Result<Outcome> {
    let session = || -> anyhow::Result<Session> {
        let env = Environment::read()?;
        let plan = match file {
            None => Plan::alone(&env.current_dir),
            Some(file) if file == Path::new("-") => sudo::received(&mut std::io::stdin().lock())?,
            Some(file) => plan::read(file)?,
        };
        Ok(Session { env, plan, words: words.to_vec(), ui })
    };
    match command {
        Command::Profile(arguments) => profile::run(arguments, &session()?),
        Command::Run(arguments) => start::run(arguments, &session()?),
        Command::Report(arguments) => report::run(arguments, &session()?),
        Command::Load(arguments) => load::run(arguments, ui),
        Command::Generate(arguments) => generate::run(arguments, ui).map(|()| Outcome::Done),
        Command::Neighbour(arguments) => neighbour::run(arguments, ui).map(|()| Outcome::Done),
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
        Arguments::command().debug_assert();
    }
}
