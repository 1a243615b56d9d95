//! `cargo xtask test` and `cargo xtask bench` where xtask was built without them, so that nobody waits for them
//! before the first image: handed over to an xtask with the feature `dev`, built when it is first needed.

use anyhow::bail;
use clap::Subcommand;

use super::{Outcome, PassedOn};
use crate::workspace::Workspace;
use tare_tool::environment::Environment;
use tare_tool::process::Cmd;
use tare_tool::toolkit;
use tare_tool::ui::Ui;

/// Hidden, because in a workspace that is not tare's there are none.
#[derive(Debug, Subcommand)]
pub(super) enum DevCommand {
    /// Run every test
    #[command(hide = true)]
    Test(PassedOn),
    /// Measure side by side with others' tools
    #[command(hide = true)]
    Bench(PassedOn),
}

/// Becomes that xtask, or on Windows waits for it.
pub(super) fn run(command: &DevCommand, env: &Environment, _: Ui) -> anyhow::Result<Outcome> {
    let (verb, PassedOn { arguments }) = match command {
        DevCommand::Test(arguments) => ("test", arguments),
        DevCommand::Bench(arguments) => ("bench", arguments),
    };
    let root = toolkit::root();
    let workspace = Workspace::locate(env)?;
    if workspace.root != root {
        bail!(
            "`cargo xtask {verb}` is for the workspace of tare itself, not for {}",
            workspace.root.display()
        );
    }
    let command = Cmd::new(env.cargo())
        .args(["run", "--locked", "--package", "xtask-tare", "--bin", "xtask-dev"])
        .args(["--profile", "xtask", "--features", "dev", "--manifest-path"])
        .arg(root.join("Cargo.toml"))
        .args(["--", verb])
        .args(arguments)
        .without_env(env.of_cargo_run());
    Ok(Outcome::Exit(command.replace()?))
}
