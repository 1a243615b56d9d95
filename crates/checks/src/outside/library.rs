//! Our packages as libraries: small programs outside of the workspace, which depend on one package and not on
//! `cargo xtask`.

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;

use crate::lab::context::{Context, write};
use crate::lab::expect::same;
use crate::lab::profile::figures;
use tare_profiler::Report;
use tare_tool::process::{Execute as _, cmd};
use tare_tool::toolkit::Part;

/// A program with `tare-oci` alone reads and validates an image.
pub(super) fn oci(context: &Context<'_>) -> anyhow::Result<()> {
    let source = include_str!("../../programs/read_layout.rs");
    let sh = &context.sh;
    let (program, packages) = build(context, "read-layout", source, "tare-oci", "oci")?;
    same("packages of this workspace", &packages, &vec!["tare-oci".to_owned()])?;
    let sample = context.sample()?;
    let layout = &sample.layout;
    let found = cmd!(sh, "{program} {layout}").capture_text()?;
    // The index is no blob; of an image of one platform, manifest and config are.
    let layers = sample.first()?.layers.len();
    let expected = format!("{}: {layers} layers\n{} blobs, 0 problems", sample.digest, layers + 2);
    same("what it prints", &found, &expected)
}

/// A program with `tare-profiler` measures the size of an image, starts it, and prints the report.
pub(super) fn profiler(context: &Context<'_>) -> anyhow::Result<()> {
    const PROFILE: &str = "passes = [\"size\", \"startup\"]\nlimits = { cpus = 0.5, memory = \"64MiB\" }\n\
        startup = { runs = 2, cold-runs = 0, runtime-baseline = false }\n";
    let source = include_str!("../../programs/profile_layout.rs");
    let (program, packages) = build(context, "profile-layout", source, "tare-profiler", "profiler")?;
    anyhow::ensure!(packages.contains(&"tare-profiler".to_owned()), "its packages are {packages:?}");
    anyhow::ensure!(!packages.contains(&"xtask-tare".to_owned()), "its packages are {packages:?}");
    let keeper = context.workspace.toolkit(context.env).build(Part::Keeper, context.env, context.ui)?;
    let folder = context.new_folder("library-profiler")?;
    let profile = folder.join("short.toml");
    write(&profile, PROFILE.as_bytes())?;
    let sample = context.sample()?;
    let (sh, layout) = (&context.sh, &sample.layout);
    let report = Report::parse(&cmd!(sh, "{program} {layout} {profile} {keeper} {folder}").capture_text()?)?;
    same("the image's digest", &report.target.digest, &sample.digest.to_string())?;
    let figures = figures(&report);
    let layers = figures.get("size.image.layers").copied();
    same("the number of layers", &layers, &Some(sample.first()?.layers.len() as f64))?;
    for metric in ["size.image.compressed", "startup.warm.ready", "startup.warm.memory-at-ready"] {
        anyhow::ensure!(figures.get(metric).is_some_and(|value| *value > 0.0), "no {metric} in {figures:?}");
    }
    Ok(())
}

/// Builds a program that depends on one package of this workspace: its path, and the names of all packages of this
/// workspace that it is built of.
fn build(
    context: &Context<'_>,
    name: &str,
    source: &str,
    package: &str,
    folder: &str,
) -> anyhow::Result<(PathBuf, Vec<String>)> {
    let (workspace, target) = (&context.workspace.root, &context.workspace.target_dir);
    let read = |file: &str| {
        let path = workspace.join(file);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    // With the same versions and profiles, what others wrote is compiled already.
    let (lock, manifest) = (read("Cargo.lock")?, read("Cargo.toml")?);
    let profiles = manifest.find("[profile.").map_or("", |at| &manifest[at..]);
    let crates = workspace.join("crates").join(folder);
    let manifest = format!(
        "[package]\nname = \"{name}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]\n\
         [dependencies]\n{package} = {{ path = {crates:?} }}\n{profiles}"
    );
    let root = context.new_folder(name)?;
    write(&root.join("Cargo.lock"), lock.as_bytes())?;
    write(&root.join("Cargo.toml"), manifest.as_bytes())?;
    write(&root.join("src/main.rs"), source.as_bytes())?;
    // In the workspace's folder it is the workspace's compiler.
    let cargo = |arguments: &[&str]| {
        let (sh, cargo, manifest) = (&context.sh, context.env.cargo(), root.join("Cargo.toml"));
        cmd!(sh, "{cargo} {arguments...} --offline --manifest-path {manifest}")
            .without_env(context.env.of_cargo_run())
            .env("CARGO_TARGET_DIR", target)
            .capture_text()
    };
    context.ui.status("Building", name);
    cargo(&["build", "--quiet", "--profile", "xtask"])?;
    let tree = cargo(&["tree", "--prefix", "none", "--edges", "normal,build", "--format", "{p}"])?;
    let own = format!("({}", workspace.display());
    let mut packages: Vec<String> = tree
        .lines()
        .filter(|line| line.contains(&own))
        .filter_map(|line| line.split(' ').next().map(str::to_owned))
        .collect();
    packages.sort();
    packages.dedup();
    Ok((target.join("xtask").join(name), packages))
}
