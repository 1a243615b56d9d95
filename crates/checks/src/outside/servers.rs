//! Servers as a distribution ships them become images, and answer by every runtime that works here: the embedded one,
//! runc, podman, and docker of two generations.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::Value;

use super::podman::Podman;
use crate::lab::context::Context;
use crate::lab::docker::{Docker, Store};
use tare_tool::process::{Execute as _, cmd, shell_in};
use tare_tool::toolkit::Part;

/// The test that starts them; it is with the containers' own.
const TEST: &str = "servers::servers_of_a_distribution_answer_by_every_runtime";
/// Those of which `.ci/tools` fetches the packages: one drops root's rights and binds port 80, the other is an ordinary
/// user's with a volume.
const USUAL: &str = "nginx,redis";
/// All.
const ALL: &str = "nginx,redis,lighttpd,apache2,haproxy,python3,node,php-fpm";

/// Two of them.
pub(super) fn usual(context: &Context<'_>) -> anyhow::Result<()> {
    answer(context, USUAL)
}

/// All that `.ci/packages` fetches.
pub(super) fn all(context: &Context<'_>) -> anyhow::Result<()> {
    answer(context, ALL)
}

fn answer(context: &Context<'_>, servers: &str) -> anyhow::Result<()> {
    let packages = context.env.get("TARE_PACKAGES").context("TARE_PACKAGES names no folder")?;
    for server in servers.split(',') {
        let folder = Path::new(packages).join(server);
        anyhow::ensure!(folder.is_dir(), "{} is missing: run `.ci/packages {server}`", folder.display());
    }
    let keeper = context.workspace.toolkit(context.env).build(Part::Keeper, context.env, context.ui)?;
    let (test, folder) = (container_tests(context)?, context.new_folder("servers")?);
    let podman = Podman::new(context)?;
    for (store, runtimes) in [(Store::Classic, "embedded,runc,podman,docker"), (Store::Containerd, "docker")]
    {
        let docker = Docker::start(context, store)?;
        let command = docker.client(docker.daemon.inside_all()?).arg(&test);
        podman
            .configured(command.args(["--ignored", "--exact", "--nocapture", TEST]))?
            .env("TARE_TEST_SERVERS", servers)
            .env("TARE_TEST_RUNTIMES", runtimes)
            .env("TARE_PACKAGES", packages)
            .env("TARE_KEEPER", &keeper)
            // Not needed, so that it is not compiled.
            .env("TARE_TEST_PROGRAM", "/bin/true")
            .env("TMPDIR", &folder)
            .run_with_input(|_| Ok(()))?;
    }
    Ok(())
}

/// The program of the containers' tests.
pub(super) fn container_tests(context: &Context<'_>) -> anyhow::Result<PathBuf> {
    let workspace = context.workspace;
    let (sh, cargo) = (shell_in(&workspace.root)?, context.env.cargo());
    let target = workspace.target_dir.join("tests");
    let arguments = ["--locked", "--profile", "xtask", "--package", "tare-container", "--test", "container"];
    let messages =
        cmd!(sh, "{cargo} test {arguments...} --target-dir {target} --no-run --message-format json")
            .without_env(context.env.of_cargo_run())
            .capture_text()?;
    let program = |line: &str| {
        let message: Value = serde_json::from_str(line).ok()?;
        let is_test = message.pointer("/target/name")? == "container";
        message.get("executable")?.as_str().filter(|_| is_test).map(PathBuf::from)
    };
    messages.lines().find_map(program).context("cargo names no test `container`")
}
