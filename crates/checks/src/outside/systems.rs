//! The article's systems, the sample and the bare loop: their images are valid, run in docker of two generations and in podman,
//! and answer there as the contract says; and the profile `article` fills its tables with them.

use std::collections::BTreeMap;
use std::fs;

use anyhow::Context as _;

use super::peers::answers_of;
use super::podman::Podman;
use crate::lab::context::{Built, Context, PREBUILT, SAMPLE_PORT};
use crate::lab::docker::{Docker, Store};
use crate::lab::expect::same;
use crate::lab::profile::{Profiler, figure};
use tare_profiler::Report;
use tare_tool::process::{Execute as _, cmd};

/// Every row of the profile `article`.
const SYSTEMS: [&str; 9] =
    ["hyperlane", "tokio", "rocket", "rust-std", "gin", "go-std", "node-std", "app", "floor"];

/// Builds each, validates it, and does something with it.
fn each(
    context: &Context<'_>,
    place: &str,
    mut work: impl FnMut(&str, &Built) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    for name in SYSTEMS {
        let built = context.build(name, &format!("systems-{place}-{name}"), &[])?;
        let layout = &built.layout;
        let validate = context.xtask(&context.workspace.root).args(["inspect", "--validate"]).arg(layout);
        validate.capture().with_context(|| format!("{name} is not valid"))?;
        work(name, &built).with_context(|| format!("{name} in {place}"))?;
    }
    Ok(())
}

fn docker(context: &Context<'_>, store: Store) -> anyhow::Result<()> {
    let mut docker = Docker::start(context, store)?;
    each(context, &format!("docker-{store:?}").to_lowercase(), |name, built| {
        same("loaded", &docker.load(&built.archive)?, &format!("Loaded image: {name}:latest"))?;
        let image = format!("{name}:latest");
        let id = docker.read(&["run", "--detach", "--network=host", "--pull=never", &image])?;
        docker.daemon.wait_for(SAMPLE_PORT, "/health")?;
        answers_of(name, &docker.daemon)?;
        docker.read(&["stop", &id])?;
        docker.read(&["rm", "--volumes", &id])?;
        docker.read(&["image", "rm", &image]).map(drop)
    })?;
    docker.daemon.end()
}

/// In docker 20.10.
pub(super) fn docker_classic(context: &Context<'_>) -> anyhow::Result<()> {
    docker(context, Store::Classic)
}

/// In docker 29.
pub(super) fn docker_containerd(context: &Context<'_>) -> anyhow::Result<()> {
    docker(context, Store::Containerd)
}

/// In podman.
pub(super) fn podman(context: &Context<'_>) -> anyhow::Result<()> {
    let podman = Podman::new(context)?;
    each(context, "podman", |name, built| {
        podman.load(&built.archive)?;
        let mut server = podman.start(&format!("{name}:latest"))?;
        server.wait_for(SAMPLE_PORT, "/health")?;
        answers_of(name, &server)?;
        server.end()?;
        podman.remove(&format!("{name}:latest"))
    })
}

/// The profile `article` in its short form, from the sources: nine rows, and no cell without what was measured. Where
/// the user is not root, only the measurement is root's.
pub(super) fn article(context: &Context<'_>) -> anyhow::Result<()> {
    let folder = context.new_folder("article")?;
    let page = folder.join("article.md");
    let short = "profile --profile article --rounds 1 --runs 2 --duration 1s --sudo --quiet".split(' ');
    let command = context.xtask(&context.workspace.root).args(short);
    let command = command.arg("--output").arg(folder.join("reports"));
    command.arg("--write").arg(&page).capture()?;
    let page = fs::read_to_string(&page).context("the page was not written")?;
    let rows = |first: &str| page.lines().filter(|line| line.starts_with(first)).count();
    let tables = rows("| system |");
    for system in [
        "Hyperlane",
        "Tokio",
        "Rocket",
        "Rust standard",
        "Gin",
        "Go standard",
        "Node standard",
        "app",
        "bare",
    ] {
        same(&format!("rows of {system}"), &rows(&format!("| {system} ")), &tables)?;
    }
    anyhow::ensure!(!page.contains("not measured"), "a figure is missing: {page}");
    Ok(())
}

/// Every pass of the profile `article` that a server's own cost shows in.
const PROFILE: &str = r#"
passes = ["throughput", "density"]
rounds = 3
[limits]
cpus = 0.5
memory = "128MiB"
[throughput]
loads = ["closed"]
duration = "1s"
connections = 8
[density]
most = 4
"#;

/// What is added to one of the rows.
const CPU: f64 = 1e6;
const MEMORY: f64 = 10.0 * 1024.0 * 1024.0;

/// A server that uses 1 ms more of CPU for a request and has 10 MiB more in memory moves its own row by that, and no
/// other.
pub(super) fn rows(context: &Context<'_>) -> anyhow::Result<()> {
    let (profiler, made_up) = (Profiler::new(context, "rows")?, context.made_up("rows-images")?);
    let (root, program) = (&context.workspace.root, made_up.root.join("program"));
    crate::compile(&root.join("crates/checks/programs/steps.rs"), &program, crate::host().target(), root)?;
    let program = fs::read(&program).with_context(|| format!("cannot read {}", program.display()))?;
    let layout = |name: &str, env: &str| -> anyhow::Result<String> {
        let definition = format!(
            "{PREBUILT}[config]\nexposed-ports = [8080]\nenv = {{ STEPS = \"20000\"{env} }}\n[[layers]]\nname = \"base\"\n"
        );
        made_up.image(name, &definition, &program)?;
        let built = context.build_with(context.xtask(&made_up.root), name, "rows-built", &[])?;
        Ok(built.layout.display().to_string())
    };
    let more = format!(", CPU_NANOSECONDS = \"{CPU}\", MEMORY = \"{MEMORY}\"");
    let images = [layout("plain", "")?, layout("more", &more)?, layout("same", "")?];
    let profile = profiler.write_profile("rows", PROFILE)?;
    let output = context.new_folder("rows-reports")?;
    let place = output.display().to_string();
    let arguments = [&images[0], &images[1], &images[2], "--profile", &profile, "--output", &place];
    let (code, _) = profiler.run(cmd!(context.sh, "env"), &arguments)?;
    anyhow::ensure!(code == Some(0), "the profile ended with exit code {code:?}");
    let report = |name: &str| -> anyhow::Result<Report> {
        let path = output.join(name).join("report.json");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Report::parse(&text).with_context(|| path.display().to_string())
    };
    let [plain, more, same] = [report("plain")?, report("more")?, report("same")?];
    let mut moved = BTreeMap::new();
    for (metric, added, unchanged) in [
        ("throughput.cpu-per-request", CPU, 0.1),
        ("density.memory.added", MEMORY, 0.05),
        ("density.memory.pss", MEMORY, 0.05),
        ("density.memory.cgroup", MEMORY, 0.05),
    ] {
        let of = |report: &Report| figure(report, metric);
        let (by, other) = (of(&more)? - of(&plain)?, of(&same)? - of(&plain)?);
        moved.insert(metric, (by, other));
        anyhow::ensure!((by / added - 1.0).abs() < 0.1, "{metric} moved by {by} instead of {added}");
        anyhow::ensure!(other.abs() < unchanged * added, "{metric} of an equal image moved by {other}");
    }
    // What follows from the cost of a request: half a CPU's worth of requests, which eight connections wait for.
    let cost = figure(&more, "throughput.cpu-per-request")?;
    let used = figure(&more, "throughput.cpu-of-limit")? * 0.5;
    let (rate, mean) = (figure(&more, "throughput.rate")?, figure(&more, "throughput.latency.mean")?);
    let expected = used * 1e9 / cost;
    anyhow::ensure!(
        (rate / expected - 1.0).abs() < 0.1,
        "the rate is {rate}, and its cost allows {expected}"
    );
    let waiting = rate * mean / 1e9;
    anyhow::ensure!((waiting / 8.0 - 1.0).abs() < 0.1, "{waiting} requests wait on 8 connections");
    context.ui.status("Moved", &format!("{moved:?}, {rate:.0} requests/s of {expected:.0}"));
    Ok(())
}
