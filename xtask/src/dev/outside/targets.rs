//! One image, found by every name that it can have.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::Value;

use super::context::{Context, SAMPLE};
use super::docker::{Docker, Store};
use super::expect::{at, json, same};
use super::podman::Podman;
use crate::process::Cmd;
use crate::toolkit::{self, Part};

/// The scale and the runtime that it needs, which are built outside of the namespaces.
struct Scale {
    program: PathBuf,
    runtime: PathBuf,
    folder: PathBuf,
}

impl Scale {
    fn new(context: &Context<'_>, name: &str) -> anyhow::Result<Self> {
        let part = |part| toolkit::build(part, context.workspace, context.env, context.ui);
        Ok(Self {
            program: part(Part::Scale)?,
            runtime: part(Part::Runtime)?,
            folder: context.new_folder(name)?,
        })
    }

    /// `cargo xtask profile TARGET`, as what is around it lets it run.
    fn profile(
        &self,
        context: &Context<'_>,
        around: Cmd,
        target: &str,
        rest: &[&str],
    ) -> anyhow::Result<Value> {
        let output = around
            .arg(&self.program)
            .args(["profile", target, "--json", "--quiet", "--output"])
            .arg(&self.folder)
            .args(rest)
            .current_dir(&context.workspace.root)
            .without_env(context.env.of_cargo_run())
            .without_env(["GITHUB_STEP_SUMMARY"])
            // Whoever enters other mounts begins at their root.
            .env("CARGO_MANIFEST_DIR", context.workspace.root.join("xtask"))
            .env("TARE_RUNTIME", &self.runtime)
            .env("TARE_XTASK", context.program())
            .read()
            .with_context(|| format!("{target} {}", rest.join(" ")))?;
        json("`profile --json`", &output)
    }
}

/// The figures of a report by metric and case.
fn figures(report: &Value) -> BTreeMap<String, f64> {
    let runs = at(report, "/runs").as_array().into_iter().flatten();
    let measurements = runs.flat_map(|run| at(run, "/measurements").as_array().into_iter().flatten());
    let key = |it: &Value| {
        let case = it["case"].as_str().map(|case| format!("@{case}")).unwrap_or_default();
        Some((format!("{}{case}", it["metric"].as_str()?), it["value"].as_f64()?))
    };
    measurements.filter_map(key).collect()
}

/// Of every origin the image holds the same. (How it is compressed a store may change.)
pub(super) fn targets(context: &Context<'_>) -> anyhow::Result<()> {
    let sample = context.sample()?;
    let scale = Scale::new(context, "targets")?;
    let docker = Docker::start(context, Store::Classic)?;
    docker.load(&sample.archive)?;
    let podman = Podman::new(context)?;
    podman.load(&sample.archive)?;
    let env = || Cmd::new("env");
    let size = ["--pass", "size"];
    let layout = sample.layout.display().to_string();
    let expected = held(&scale.profile(context, env(), &layout, &size)?);
    anyhow::ensure!(expected.len() == KEPT.len(), "the layout has but {expected:?}");
    let named = [
        (env(), sample.layout_as("oci", "")),
        (env(), sample.layout_as("oci", ":latest")),
        (env(), sample.archive_as("oci-archive", "")),
        (env(), sample.archive_as("docker-archive", "")),
        (env(), sample.archive.display().to_string()),
        (docker.client(env()), format!("docker-daemon:{SAMPLE}:latest")),
        (podman.client(Path::new("env")), format!("containers-storage:{SAMPLE}:latest")),
    ];
    for (around, name) in named {
        let report = scale.profile(context, around, &name, &size)?;
        same(&name, &held(&report), &expected)?;
    }
    Ok(())
}

/// What does not depend on how layers are compressed.
const KEPT: [&str; 5] =
    ["size.image.uncompressed", "size.image.files", "size.image.layers", "size.binary.file", "size.packages"];

fn held(report: &Value) -> BTreeMap<String, f64> {
    figures(report).into_iter().filter(|(key, _)| KEPT.contains(&key.as_str())).collect()
}
