//! Servers as a distribution ships them become images, and answer by every runtime that works here.

use crate::lab::context::Context;
use tare_tool::process::{Execute as _, cmd, shell_in};

/// The test that starts them; it is with the containers' own, and left out without packages.
const TEST: &str = "servers::servers_of_a_distribution_answer_by_every_runtime";

pub(super) fn answer(context: &Context<'_>) -> anyhow::Result<()> {
    let workspace = context.workspace;
    let (sh, cargo) = (shell_in(&workspace.root)?, context.env.cargo());
    let target = workspace.target_dir.join("tests");
    let build = ["--locked", "--profile", "xtask", "--package", "tare-container", "--test", "container"];
    let run = ["--ignored", "--exact", "--nocapture", TEST];
    cmd!(sh, "{cargo} test {build...} --target-dir {target} -- {run...}")
        .without_env(context.env.of_cargo_run())
        .run_with_input(|_| Ok(()))?;
    Ok(())
}
