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
mod load;
mod profile;
mod progress;
mod stage;
mod start;
mod sudo;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tare_tool::environment::Environment;
use tare_tool::exit::{self, Outcome};
use tare_tool::plan::{self, Folders, Plan};
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
    /// Send requests to a server and measure its answers
    Load(load::LoadArguments),
    /// The generator as a child process
    #[command(hide = true)]
    Generate(generate::GenerateArguments),
    /// The first step: check the arguments and this host, and write what is to be built
    #[command(hide = true)]
    Plan(PlanArguments),
    /// The second step: do what was planned
    #[command(hide = true)]
    Run(RunArguments),
}

#[derive(Debug, Args)]
struct PlanArguments {
    /// Where to write what is wanted
    #[arg(long, value_name = "FILE")]
    plan: PathBuf,
    /// The workspace's folder
    #[arg(long, value_name = "FOLDER")]
    workspace: PathBuf,
    /// `profile` or `run`, and its arguments
    #[arg(last = true, value_name = "ARGUMENT")]
    arguments: Vec<OsString>,
}

#[derive(Debug, Args)]
struct RunArguments {
    /// What was built, in a file or on stdin (`-`)
    #[arg(long, value_name = "FILE")]
    plan: PathBuf,
    /// `profile` or `run`, and its arguments
    #[arg(last = true, value_name = "ARGUMENT")]
    arguments: Vec<OsString>,
}

/// The commands that work in two steps: what `plan` and `run` have after `--`.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, disable_help_subcommand = true)]
enum TwoSteps {
    /// Measure images in constrained containers: size, start-up, throughput, with a verdict
    Profile(Box<ProfileArguments>),
    /// Run an image in the foreground, under a profile's limits, with its ports on 127.0.0.1
    Run(StartArguments),
}

impl TwoSteps {
    /// Ends the process where the words cannot be parsed, or ask for help.
    fn of(words: &[OsString]) -> Self {
        let program = std::iter::once(OsString::from("cargo xtask"));
        Self::parse_from(program.chain(words.iter().cloned()))
    }

    fn quiet(&self) -> bool {
        match self {
            Self::Profile(arguments) => arguments.quiet(),
            Self::Run(arguments) => arguments.quiet(),
        }
    }
}

/// Runs with the arguments and environment of the process.
#[must_use]
pub fn main() -> ExitCode {
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let ui = Ui::new(false, no_colour);
    let asked = |command: &TwoSteps| Ui::new(command.quiet(), no_colour);
    let result = match Arguments::parse().command {
        Command::Load(arguments) => load::run(&arguments, ui).map(|()| Outcome::Done),
        Command::Generate(arguments) => generate::run(&arguments, ui).map(|()| Outcome::Done),
        Command::Plan(PlanArguments { plan, workspace, arguments }) => {
            let command = TwoSteps::of(&arguments);
            make_plan(&command, &workspace, &plan, asked(&command))
        }
        Command::Run(RunArguments { plan, arguments: words }) => {
            let command = TwoSteps::of(&words);
            run(&command, Some(&plan), words, asked(&command))
        }
        Command::Profile(arguments) => {
            let command = TwoSteps::Profile(arguments);
            run(&command, None, std::env::args_os().skip(1).collect(), asked(&command))
        }
    };
    // After a signal the error is only that the container is gone, and what removes it ends the process.
    drop(cleanup::making());
    exit::code(result, ui, hints::hint)
}

/// The first step.
fn make_plan(command: &TwoSteps, root: &Path, file: &Path, ui: Ui) -> anyhow::Result<Outcome> {
    let env = Environment::read()?;
    let wanted = match command {
        TwoSteps::Profile(arguments) => profile::plan(arguments, root, &env, ui)?,
        TwoSteps::Run(arguments) => Some(start::plan(arguments, root, &env)?),
    };
    if let Some(wanted) = wanted {
        plan::write(file, &wanted)?;
    }
    Ok(Outcome::Done)
}

/// The second step, or all of it where nothing was planned.
fn run(command: &TwoSteps, file: Option<&Path>, words: Vec<OsString>, ui: Ui) -> anyhow::Result<Outcome> {
    let env = Environment::read()?;
    let plan = match file {
        None => {
            let root = env.current_dir.clone();
            let workspace = Folders { target_dir: root.join("target"), root };
            Plan { workspace, keeper: None, images: vec![], user: None }
        }
        Some(file) if file == Path::new("-") => sudo::received(&mut std::io::stdin().lock())?,
        Some(file) => plan::read(file)?,
    };
    let session = Session { env, plan, words, ui };
    match command {
        TwoSteps::Profile(arguments) => profile::run(arguments, &session),
        TwoSteps::Run(arguments) => start::run(arguments, &session),
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
        TwoSteps::command().debug_assert();
    }
}
