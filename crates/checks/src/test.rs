//! The tests of the workspace, by cargo.

use std::time::Instant;

use tare_tool::environment::Environment;
use tare_tool::process::{Cmd, ProcessError};
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
    let mut passed = true;
    for which in ALL {
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
                let (which, seconds) = (which.join(" "), started.elapsed().as_secs_f64());
                ui.status("Passed", &format!("cargo test {which} ({seconds:.1} s)"));
            }
            // cargo has named them; what others say about the images is worth knowing nevertheless.
            Err(error @ ProcessError::Failed { .. }) => {
                ui.error(&error.to_string(), None);
                passed = false;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(passed)
}
