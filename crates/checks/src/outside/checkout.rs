//! Builds in other folders: another team's workspace, and a copy of this checkout.

use std::path::Path;

use anyhow::Context as _;

use crate::lab::context::{Built, Context, SAMPLE};
use crate::lab::expect::{json, same};
use crate::lab::namespace::{Answer, Isolated};
use tare_oci::blob::blob_path;
use tare_tool::process::{Execute as _, cmd, shell_in};

/// The image of `examples/adopter`.
const ADOPTERS: &str = "notes";

/// Another team's workspace gets an image out of its own `cargo xtask`, with SQLite in it.
pub(super) fn adopter(context: &Context<'_>) -> anyhow::Result<()> {
    const PORT: u16 = 8080;
    let workspace = context.workspace.root.join("examples/adopter");
    // Not in the checkout, whose target folder may be shared with the user's own builds; kept from run
    // to run, because it compiles all of this tool again.
    let target = context.workspace.target_dir.join("outside/adopter");
    let (sh, cargo) = (shell_in(&workspace)?, context.env.cargo());
    let cargo = |arguments: &[&str]| {
        let command = cmd!(sh, "{cargo} {arguments...}").without_env(context.env.of_cargo_run());
        command.env("CARGO_TARGET_DIR", &target).capture()
    };
    context.ui.status("Building", "examples/adopter");
    // Its alias would bring an outdated lock file up to date without a word.
    cargo(&["metadata", "--locked", "--format-version", "1"])?;
    let output = cargo(&["xtask", "image", ADOPTERS, "--json"])?;
    let built: Built = serde_json::from_value(json("`cargo xtask image --json`", &output)?)?;
    let verdict = cargo(&["xtask", "inspect", ADOPTERS, "--validate"])?;
    let verdict = String::from_utf8_lossy(&verdict).into_owned();
    anyhow::ensure!(verdict.starts_with("valid: "), "it is not valid: {verdict}");
    // Its xtask has serde_json keep the order of keys; here they are sorted.
    let manifest = std::fs::read_to_string(built.layout.join(blob_path(&built.first()?.digest)))?;
    let sorted = serde_json::from_str::<serde_json::Value>(&manifest)?.to_string();
    same("the manifest with sorted keys", &manifest, &sorted)?;
    serve(context, &built.first()?.binary, PORT)
}

/// Its server, with its database in memory.
fn serve(context: &Context<'_>, binary: &Path, port: u16) -> anyhow::Result<()> {
    let log = context.new_folder("adopter")?.join("log");
    let mut server = Isolated::start(binary, &[], &[("PORT", &port.to_string())], &log)?;
    let answer = |status: &str, body: &str| Answer {
        status_line: format!("HTTP/1.1 {status}"),
        body: body.to_owned(),
    };
    same("before the first note", &server.wait_for(port, "/")?, &answer("200 OK", ""))?;
    let added = server.ask(port, "POST", "/", "milk").context("no answer to POST")?;
    same("the answer to a note", &added, &answer("201 Created", "added\n"))?;
    let listed = server.ask(port, "GET", "/", "").context("no answer to GET")?;
    same("after the first note", &listed, &answer("200 OK", "1: milk\n"))?;
    // It handles no signal, and process 1 is not ended by one that it does not handle.
    server.kill();
    Ok(())
}

/// The sample is the same to the byte wherever it is built.
pub(super) fn reproducible(context: &Context<'_>) -> anyhow::Result<()> {
    let output = context
        .xtask(&context.workspace.root)
        .args(["image", SAMPLE, "--verify-reproducible", "--offline", "--quiet"])
        .capture_text()?;
    let expected = format!("{SAMPLE}: both builds agree in every file and byte");
    same("the verdict", &output, &expected)
}
