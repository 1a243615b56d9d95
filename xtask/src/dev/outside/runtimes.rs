//! One image weighed through three runtimes that share no code, and found by every name that it can have.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::Value;

use super::context::{Context, SAMPLE};
use super::docker::{Docker, Store};
use super::expect::{at, json, same};
use super::podman::Podman;
use crate::process::Cmd;
use crate::toolkit::{self, Part};

/// Every pass, as short as it can be and still say something.
const PROFILE: &str = r#"
[limits]
cpus = 0.5
memory = "64MiB"
pids = 128

[startup]
runs = 3
cold-runs = 0

[throughput]
loads = ["closed", "50%"]
duration = "2s"
connections = 8

[gates]
"throughput.errors" = { max = 0, allow-unreliable = true }
"#;

/// What a daemon does not tell: it comes back when the program runs already.
const NOT_OF_DAEMONS: [&str; 1] = ["startup.warm.exec"];

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

/// The same sizes, the same set of metrics, no errors, and a request costs about the same. That limits are in
/// force each run has made sure of before it measured.
pub(super) fn agree(context: &Context<'_>) -> anyhow::Result<()> {
    let sample = context.sample()?;
    let scale = Scale::new(context, "runtimes")?;
    let profile = scale.folder.join("short.toml").display().to_string();
    std::fs::write(&profile, PROFILE).with_context(|| format!("cannot write {profile}"))?;
    let docker = Docker::start(context, Store::Classic)?;
    let layout = sample.layout.display().to_string();
    let mut all: Vec<(&str, BTreeMap<String, f64>)> = Vec::new();
    for runtime in ["embedded", "runc", "docker"] {
        let around = docker.client(docker.daemon.inside_all()?);
        let report =
            scale.profile(context, around, &layout, &["--profile", &profile, "--runtime", runtime])?;
        same("the runtime", at(&report, "/runtime/name"), &runtime.into())?;
        for run in at(&report, "/runs").as_array().into_iter().flatten() {
            let events = at(run, "/events").as_array().map_or(0, Vec::len);
            same(&format!("{runtime}: the number of events in {run}"), &events, &0)?;
        }
        all.push((runtime, figures(&report)));
    }
    for key in [
        "startup.warm.create",
        "startup.warm.ready",
        "startup.warm.cpu-to-ready",
        "startup.warm.memory-at-ready",
        "throughput.rate@closed",
        "throughput.cpu-per-request@closed",
        "throughput.cpu-per-request@open-50",
        "throughput.memory.peak@open-50",
    ] {
        let figure = |figures: &BTreeMap<String, f64>| figures.get(key).copied().unwrap_or(f64::NAN);
        let side_by_side: Vec<String> =
            all.iter().map(|(runtime, figures)| format!("{runtime} {:.0}", figure(figures))).collect();
        context.ui.status("Weighed", &format!("{key}: {}", side_by_side.join(", ")));
    }
    let Some(((_, embedded), others)) = all.split_first() else { return Ok(()) };
    for (runtime, figures) in others {
        agrees(runtime, figures, embedded)?;
    }
    Ok(())
}

fn agrees(
    runtime: &str,
    figures: &BTreeMap<String, f64>,
    embedded: &BTreeMap<String, f64>,
) -> anyhow::Result<()> {
    let told = |key: &&String| runtime != "docker" || !NOT_OF_DAEMONS.contains(&key.as_str());
    let keys =
        |map: &BTreeMap<String, f64>| -> BTreeSet<String> { map.keys().filter(told).cloned().collect() };
    let (found, expected) = (keys(figures), keys(embedded));
    let apart: Vec<&String> = found.symmetric_difference(&expected).collect();
    same(&format!("{runtime}: metrics that only one has"), &apart, &Vec::new())?;
    for (key, value) in figures {
        let expected = embedded.get(key).copied().unwrap_or(f64::NAN);
        if key.starts_with("size.") {
            same(&format!("{runtime}: {key}"), value, &expected)?;
        } else if key.starts_with("throughput.errors") {
            same(&format!("{runtime}: {key}"), value, &0.0)?;
        } else if key.starts_with("throughput.cpu-per-request@") {
            let ratio = value / expected;
            anyhow::ensure!(
                (0.5..=2.0).contains(&ratio),
                "{runtime}: {key} is {value:.0} ns, and {expected:.0} ns with the embedded runtime"
            );
        }
    }
    Ok(())
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
