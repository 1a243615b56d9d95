//! Runs the tests of the workspace with cargo.

use std::path::Path;
use std::time::Instant;

use tare_tool::environment::Environment;
use tare_tool::process::{Execute as _, ProcessError, cmd, shell_in};
use tare_tool::ui::Ui;
use xtask_tare::workspace::Workspace;

/// What is tested: the workspace without the peers, which are hundreds of crates and have no tests (clippy compiles
/// them, and an outside check runs some); and what the sample server and its engine can do beside the default.
const ALL: [&[&str]; 2] = [
    &["--workspace", "--exclude", "peer-*"],
    &["--package", "app", "--package", "tare-http", "--all-features"],
];

/// Runs the tests; false if one failed.
pub(crate) fn run(workspace: &Workspace, env: &Environment, ui: Ui) -> anyhow::Result<bool> {
    let (sh, mut passed) = (shell_in(&workspace.root)?, true);
    for which in ALL {
        let started = Instant::now();
        // Elsewhere, because the tests build an xtask too, and the one that runs is still needed.
        let (cargo, target) = (env.cargo(), workspace.target_dir.join("tests"));
        // A script's background jobs ignore SIGINT (bash(1), "SIGNALS"), and so would all programs that tests interrupt.
        let (program, cargo) = if cfg!(target_os = "linux") {
            (Path::new("env"), vec![Path::new("--default-signal=INT,QUIT"), &cargo])
        } else {
            (cargo.as_path(), vec![])
        };
        let command =
            cmd!(sh, "{program} {cargo...} test --no-fail-fast --locked --profile xtask {which...}")
                .args([Path::new("--target-dir"), &target])
                .without_env(env.of_cargo_run());
        ui.status("Testing", &command.to_string());
        // Its output is not our result.
        match command.run_with_input(|_| Ok(())) {
            Ok(()) => {
                let (which, seconds) = (which.join(" "), started.elapsed().as_secs_f64());
                ui.status("Passed", &format!("cargo test {which} ({seconds:.1} s)"));
            }
            // cargo has named them; the outside checks are run nevertheless.
            Err(error @ ProcessError::Failed { .. }) => {
                ui.error(&error.to_string(), None);
                passed = false;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(passed)
}
