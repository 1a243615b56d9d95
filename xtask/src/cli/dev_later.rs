//! `cargo xtask test` and `cargo xtask bench` where xtask was built without them, so that nobody waits for them
//! before the first image: handed over to an xtask with the feature `dev`, built when it is first needed.

use std::ffi::OsString;

use anyhow::bail;
use clap::{Args, Subcommand};

use super::Outcome;
use crate::environment::Environment;
use crate::process::Cmd;
use crate::toolkit;
use crate::ui::Ui;
use crate::workspace::Workspace;

/// Hidden, because in a workspace that is not tare's there are none.
#[derive(Debug, Subcommand)]
pub(super) enum DevCommand {
    /// Run every test
    #[command(hide = true)]
    Test(DevArguments),
    /// Measure side by side with others' tools
    #[command(hide = true)]
    Bench(DevArguments),
}

#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(super) struct DevArguments {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    arguments: Vec<OsString>,
}

/// Becomes that xtask, or on Windows waits for it.
pub(super) fn run(command: &DevCommand, env: &Environment, _: Ui) -> anyhow::Result<Outcome> {
    let (verb, DevArguments { arguments }) = match command {
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
