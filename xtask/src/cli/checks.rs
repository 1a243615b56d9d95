//! `cargo xtask test` and `cargo xtask bench`, executed by the part `tare-checks`, for developers of tare.

use anyhow::bail;
use clap::Subcommand;
use tare_tool::environment::Environment;
use tare_tool::process::{Execute as _, Shell, cmd};
use tare_tool::toolkit::Part;
use tare_tool::ui::Ui;

use super::{Outcome, PassedOn};
use crate::workspace::Workspace;

/// Hidden, because other workspaces have none.
#[derive(Debug, Subcommand)]
pub(super) enum ChecksCommand {
    /// Run every test
    #[command(hide = true)]
    Test(PassedOn),
    /// Measure side by side with others' tools
    #[command(hide = true)]
    Bench(PassedOn),
}

/// Becomes that program, or on Windows waits for it.
pub(super) fn run(command: &ChecksCommand, env: &Environment, ui: Ui) -> anyhow::Result<Outcome> {
    let (verb, PassedOn { arguments }) = match command {
        ChecksCommand::Test(arguments) => ("test", arguments),
        ChecksCommand::Bench(arguments) => ("bench", arguments),
    };
    let workspace = Workspace::find(env)?;
    let toolkit = workspace.toolkit(env);
    if !toolkit.is_own() {
        bail!(
            "`cargo xtask {verb}` is for the workspace of tare itself, not for {}",
            workspace.root.display()
        );
    }
    let checks = toolkit.build(Part::Checks, env, ui)?;
    let sh = Shell::new()?;
    Ok(Outcome::Exit(cmd!(sh, "{checks} {verb} {arguments...}").envs(env.offline()).replace()?))
}
