//! `cargo xtask test`: the tests of the workspace, then what others' tools say about the images.

use std::time::Instant;

use tare_tool::environment::Environment;
use tare_tool::process::{Cmd, ProcessError};
use tare_tool::ui::Ui;
use xtask_tare::workspace::Workspace;

/// What is to be run.
#[derive(Debug)]
pub(crate) struct Options {
    /// A missing tool is a failure.
    pub(crate) require_outside: bool,
    /// Only the outside checks whose names contain this.
    pub(crate) outside_only: Option<String>,
    /// Only the tests of containers, in this virtual machine or in all.
    pub(crate) vm: Option<Option<Machine>>,
}

/// A virtual machine in which containers are tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Machine {
    /// Without systemd.
    Bare,
    /// With systemd as process 1.
    Systemd,
}

/// Not a machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("choose from bare, systemd")]
pub(crate) struct MachineError;

impl Machine {
    /// All of them.
    #[cfg(target_os = "linux")]
    pub(crate) const ALL: [Self; 2] = [Self::Bare, Self::Systemd];

    /// Its name on the command line.
    #[cfg(target_os = "linux")]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Systemd => "systemd",
        }
    }
}

impl std::str::FromStr for Machine {
    type Err = MachineError;

    fn from_str(text: &str) -> Result<Self, MachineError> {
        match text {
            "bare" => Ok(Self::Bare),
            "systemd" => Ok(Self::Systemd),
            _ => Err(MachineError),
        }
    }
}

/// Runs the tests; false if one failed.
pub(crate) fn run(
    options: &Options,
    workspace: &Workspace,
    env: &Environment,
    ui: Ui,
) -> anyhow::Result<bool> {
    if let Some(machine) = options.vm {
        return run_vm(machine, workspace, env, ui);
    }
    let mut passed = true;
    if options.outside_only.is_none() {
        passed = cargo_test(workspace, env, ui)?;
    }
    let part = options.outside_only.as_deref().unwrap_or_default();
    Ok(run_outside(part, options.require_outside, workspace, env, ui)? && passed)
}

fn cargo_test(workspace: &Workspace, env: &Environment, ui: Ui) -> anyhow::Result<bool> {
    // Without the peers: hundreds of crates and no tests. clippy compiles them, and an outside check runs some.
    let all = ["--workspace", "--exclude", "peer-*"];
    // The sample server and its engine have tests for what they can beside, too.
    let sample = ["--package", "app", "--package", "tare-http", "--all-features"];
    Ok(cargo_test_of(&all, workspace, env, ui)? & cargo_test_of(&sample, workspace, env, ui)?)
}

fn cargo_test_of(which: &[&str], workspace: &Workspace, env: &Environment, ui: Ui) -> anyhow::Result<bool> {
    let started = Instant::now();
    let command = Cmd::new(env.cargo())
        .args(["test", "--locked", "--profile", "xtask"])
        .args(which)
        // Elsewhere, because the tests build an xtask too, and the one that runs is still needed.
        .arg("--target-dir")
        .arg(workspace.target_dir.join("tests"))
        .without_env(env.of_cargo_run())
        .current_dir(&workspace.root);
    ui.status("Testing", &command.display());
    // Its output is not our result.
    match command.run_with_input(|_| Ok(())) {
        Ok(()) => {
            let what = which.join(" ");
            ui.status("Passed", &format!("cargo test {what} ({:.1} s)", started.elapsed().as_secs_f64()));
            Ok(true)
        }
        // cargo has said which; what others say about the images is worth knowing nevertheless.
        Err(error @ ProcessError::Failed { .. }) => {
            ui.error(&error.to_string(), None);
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(target_os = "linux")]
use super::outside::run as run_outside;
#[cfg(target_os = "linux")]
use super::vm::run as run_vm;

/// Its root is this host's, which must be Linux.
#[cfg(not(target_os = "linux"))]
fn run_vm(
    _machine: Option<Machine>,
    _workspace: &Workspace,
    _env: &Environment,
    _ui: Ui,
) -> anyhow::Result<bool> {
    anyhow::bail!("the virtual machine runs this host's programs, which must be Linux's")
}

/// The tools are Linux's, and so are the namespaces that they run in.
#[cfg(not(target_os = "linux"))]
fn run_outside(
    _part: &str,
    require: bool,
    _workspace: &Workspace,
    _env: &Environment,
    ui: Ui,
) -> anyhow::Result<bool> {
    ui.warning("the outside checks run on Linux alone");
    Ok(!require)
}
