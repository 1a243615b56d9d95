//! `cargo xtask profile` and `cargo xtask load`: handed to the toolkit's profiler, which reads the arguments
//! itself and calls back for what is xtask's: an image of the workspace, the embedded runtime.

use clap::Args;

use super::{Outcome, PassedOn};
use crate::workspace::Workspace;
use tare_tool::environment::Environment;
use tare_tool::process::Cmd;
use tare_tool::toolkit::Part;
use tare_tool::ui::Ui;

/// Where the profiler finds the xtask that called it.
const CALLER: &str = "TARE_XTASK";

#[derive(Debug, Args)]
pub(super) struct PartArguments {
    /// Which program
    part: PartName,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum PartName {
    Keeper,
    Profiler,
}

/// Becomes the profiler, or on Windows waits for it.
pub(super) fn run(verb: &str, arguments: &PassedOn, env: &Environment, ui: Ui) -> anyhow::Result<Outcome> {
    let workspace = Workspace::find(env)?;
    let profiler = workspace.toolkit().build(Part::Profiler, env, ui)?;
    let command =
        Cmd::new(profiler).arg(verb).args(&arguments.arguments).env(CALLER, std::env::current_exe()?);
    Ok(Outcome::Exit(command.replace()?))
}

/// Builds a program of the toolkit and prints where it is.
pub(super) fn part(arguments: &PartArguments, env: &Environment, ui: Ui) -> anyhow::Result<Outcome> {
    let workspace = Workspace::find(env)?;
    let part = match arguments.part {
        PartName::Keeper => Part::Keeper,
        PartName::Profiler => Part::Profiler,
    };
    let path = workspace.toolkit().build(part, env, ui)?;
    ui.result(&path.display().to_string())?;
    Ok(Outcome::Done)
}
