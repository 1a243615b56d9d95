//! A base image in a registry: pinned, fetched, built upon, and run by docker.

use std::fs;
use std::path::Path;

use anyhow::Context as _;

use super::crane;
use super::docker::life;
use super::umoci::Identity;
use crate::lab::context::{Context, MadeUp};
use crate::lab::docker::{Docker, Store};
use crate::lab::expect::{at, json, same};
use tare_tool::process::Execute as _;
use tare_tool::toolkit::Part;

const REGISTRY: &str = "127.0.0.1:5007";

/// The sample image is the base: the program above it reads its configuration.
pub(super) fn registry(context: &Context<'_>) -> anyhow::Result<()> {
    let folder = context.new_folder("base-registry")?;
    let running = crane::serve(context, REGISTRY, &folder)?;
    let both = context.both()?;
    let base = format!("{REGISTRY}/base:1");
    let publish = context.workspace.toolkit(context.env).build(Part::Publish, context.env, context.ui)?;
    let layout = both.layout.display().to_string();
    let without_proxies =
        ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];
    running
        .inside(&publish.display().to_string())
        .args(["publish", "base", "--from", &layout, "--to", &base])
        .without_env(["GITHUB_ACTIONS", "GITLAB_CI"])
        .without_env(without_proxies)
        .capture()?;

    let workspace = workspace(context, &base)?;
    let xtask = |arguments: &[&str]| {
        let program = context.program.display().to_string();
        let command = running.inside("env").arg("-C").arg(&workspace.root).arg(program).args(arguments);
        let command = command.without_env(context.env.of_cargo_run()).without_env(without_proxies);
        command.without_env(["CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR"]).capture_text()
    };
    same("what update says", &xtask(&["update"])?, &format!("{base} {} (new)", both.digest))?;
    let image = json("`image --json`", xtask(&["image", "above", "--json"])?.as_bytes())?;
    same("what a second build says", &xtask(&["image", "above", "--quiet"])?, &reference(&image)?)?;
    let names = ["name", "digest"].map(|key| {
        image["annotations"][format!("org.opencontainers.image.base.{key}")].as_str().map(str::to_owned)
    });
    same("its annotations", &names, &[Some(base), Some(both.digest.to_string())])?;
    let own = at(&image, "/platforms/0/layers").as_array().context("no layers")?;
    let digests: Vec<String> =
        own.iter().filter_map(|layer| layer["digest"].as_str().map(str::to_owned)).collect();
    let below: Vec<String> = both.first()?.layers.iter().map(|layer| layer.digest.to_string()).collect();
    same("the layers of the base", &digests[..digests.len() - 1].to_vec(), &below)?;
    xtask(&["inspect", "above", "--validate"])?;
    drop(running);

    for store in [Store::Classic, Store::Containerd] {
        let mut docker = Docker::start(context, store)?;
        docker.load(Path::new(at(&image, "/archive").as_str().context("no archive")?))?;
        life(&mut docker, "above:latest", "/app/server", &Identity::new(65534, 65534), false)?;
        docker.daemon.end()?;
    }
    Ok(())
}

fn reference(image: &serde_json::Value) -> anyhow::Result<String> {
    Ok(at(image, "/reference").as_str().context("no reference")?.to_owned())
}

/// A workspace whose programs of the toolkit are those of this one.
fn workspace(context: &Context<'_>, base: &str) -> anyhow::Result<MadeUp> {
    let workspace = context.made_up("base")?;
    let program = fs::read(&context.both()?.first()?.binary).context("cannot read the sample's program")?;
    let definition = format!("base = \"{base}\"\n[build]\noutput = \"server\"\n");
    workspace.image("above", &definition, &program)?;
    fs::create_dir(workspace.root.join("target"))?;
    std::os::unix::fs::symlink(&context.workspace.target_dir, workspace.root.join("target/tare"))
        .context("cannot link the target folder")?;
    Ok(workspace)
}
