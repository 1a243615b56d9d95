//! Runs in two containers that share a docker daemon leave each other's containers alone.

use super::servers::container_tests;
use crate::lab::context::Context;
use crate::lab::docker::{Docker, Store};
use tare_tool::process::Execute as _;
use tare_tool::toolkit::Part;

/// The test, which is with the containers' own and has no daemon there.
const TEST: &str = "neighbours::containers_of_neighbours_stay";

pub(super) fn stay(context: &Context<'_>) -> anyhow::Result<()> {
    let keeper = context.workspace.toolkit(context.env).build(Part::Keeper, context.env, context.ui)?;
    let (test, folder) = (container_tests(context)?, context.new_folder("neighbours")?);
    let docker = Docker::start(context, Store::Classic)?;
    let command = docker.client(docker.daemon.inside_all()?).arg(&test);
    command
        .args(["--exact", "--nocapture", TEST])
        .env("TARE_KEEPER", &keeper)
        .env("TMPDIR", &folder)
        .run_with_input(|_| Ok(()))?;
    Ok(())
}
