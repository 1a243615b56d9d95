//! The command line: the only part that knows clap and exit codes.
//!
//! 0: done. 1: a gate failed, or something is wrong with the server. 2: it could not be done, as when the server
//! never became ready.
//!
//! xtask calls `profile` in the two steps of [`tare_tool::plan`]: `plan` checks everything that needs nothing built, and
//! `run` does the work. Called directly, without a plan, the workspace is the current folder and the images are paths.

mod compare;
mod generate;
mod hints;
mod load;
mod profile;
mod progress;
mod stage;
mod sudo;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, Parser, Subcommand};
use tare_tool::environment::Environment;
use tare_tool::exit::{self, Outcome};
use tare_tool::plan::{self, Folders, Plan};
use tare_tool::ui::Ui;

use self::profile::ProfileArguments;
use self::stage::Session;
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
    Profile(ProfileArguments),
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
    /// `profile` and its arguments
    #[arg(last = true, value_name = "ARGUMENT")]
    arguments: Vec<OsString>,
}

#[derive(Debug, Args)]
struct RunArguments {
    /// What was built, in a file or on stdin (`-`)
    #[arg(long, value_name = "FILE")]
    plan: PathBuf,
    /// `profile` and its arguments
    #[arg(last = true, value_name = "ARGUMENT")]
    arguments: Vec<OsString>,
}

/// The arguments that `plan` and `run` have after `--`. Ends the process where they cannot be parsed, or ask for help.
fn planned(words: &[OsString]) -> anyhow::Result<ProfileArguments> {
    let program = std::iter::once(OsString::from("cargo xtask"));
    match Arguments::parse_from(program.chain(words.iter().cloned())).command {
        Command::Profile(arguments) => Ok(arguments),
        _ => bail!("only `profile` works in two steps"),
    }
}

/// Runs with the arguments and environment of the process.
#[must_use]
pub fn main() -> ExitCode {
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let ui = Ui::new(false, no_colour);
    let asked = |arguments: &ProfileArguments| Ui::new(arguments.quiet(), no_colour);
    let result = match Arguments::parse().command {
        Command::Load(arguments) => load::run(&arguments, ui).map(|()| Outcome::Done),
        Command::Generate(arguments) => generate::run(&arguments, ui).map(|()| Outcome::Done),
        Command::Plan(PlanArguments { plan, workspace, arguments }) => planned(&arguments)
            .and_then(|arguments| make_plan(&arguments, &workspace, &plan, asked(&arguments))),
        Command::Run(RunArguments { plan, arguments: words }) => {
            planned(&words).and_then(|arguments| run(&arguments, Some(&plan), words, asked(&arguments)))
        }
        Command::Profile(arguments) => {
            run(&arguments, None, std::env::args_os().skip(1).collect(), asked(&arguments))
        }
    };
    // After a signal the error is only that the container is gone, and what removes it ends the process.
    drop(cleanup::making());
    exit::code(result, ui, hints::hint)
}

/// The first step.
fn make_plan(arguments: &ProfileArguments, root: &Path, file: &Path, ui: Ui) -> anyhow::Result<Outcome> {
    let env = Environment::read()?;
    if let Some(wanted) = profile::plan(arguments, root, &env, ui)? {
        plan::write(file, &wanted)?;
    }
    Ok(Outcome::Done)
}

/// The second step, or all of it where nothing was planned.
fn run(
    arguments: &ProfileArguments,
    file: Option<&Path>,
    words: Vec<OsString>,
    ui: Ui,
) -> anyhow::Result<Outcome> {
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
    profile::run(arguments, &Session { env, plan, words, ui })
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
