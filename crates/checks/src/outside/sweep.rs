//! `profile sweep` on a server whose needs are known, and the sample under the limits that a sweep found for it.

use std::time::Instant;

use anyhow::Context as _;
use tare_profiler::profile::measurement::Measurement;
use tare_tool::process::cmd;

use crate::lab::context::{Context, PREBUILT};
use crate::lab::expect::{at, json, same};
use crate::lab::profile::{Profiler, events};

/// What the synthetic server uses: CPU time for a request, and memory besides its program.
const CPU: f64 = 200_000.0;
const MEBIBYTES: f64 = 40.0;
/// Requests per second.
const RATE: f64 = 1_000.0;
/// Of the sample.
const SAMPLES_RATE: f64 = 2_000.0;
/// Milliseconds.
const P99: f64 = 20.0;

/// The limits that a sweep found: CPUs and MiB.
fn found(profiler: &Profiler, context: &Context<'_>, image: &str, rate: f64) -> anyhow::Result<(f64, f64)> {
    let output = context.new_folder("sweep-result")?.display().to_string();
    let (rate, p99) = (rate.to_string(), format!("{P99}ms"));
    let arguments = ["sweep", image, "--rate", &rate, "--p99", &p99, "--output", &output];
    let started = Instant::now();
    let (code, text) = profiler.run(cmd!(context.sh, "env"), &arguments)?;
    let sweep = json("profile sweep", &text)?;
    same("the exit code of the sweep", &code, &Some(0))
        .with_context(|| format!("{}", at(&sweep, "/trials")))?;
    let number = |pointer| at(&sweep, pointer).as_f64().with_context(|| format!("no {pointer}"));
    let (cpus, memory) = (number("/smallest/cpus")?, number("/smallest/memory")? / 1024.0 / 1024.0);
    let seconds = started.elapsed().as_secs();
    let notes = at(&sweep, "/notes");
    context.ui.status("Found", &format!("{cpus} CPU and {memory} MiB in {seconds} s; notes: {notes}"));
    Ok((cpus, memory))
}

/// A server that uses exactly 200 µs of CPU for a request, and 40 MiB: its limits are found within 10 % and 8 MiB.
pub(super) fn synthetic(context: &Context<'_>) -> anyhow::Result<()> {
    let (profiler, made_up) = (Profiler::new(context, "sweep")?, context.made_up("sweep-images")?);
    let (root, program) = (&context.workspace.root, made_up.root.join("program"));
    crate::compile(&root.join("crates/checks/programs/steps.rs"), &program, crate::host().target(), root)?;
    let program = std::fs::read(&program).with_context(|| format!("cannot read {}", program.display()))?;
    let memory = MEBIBYTES * 1024.0 * 1024.0;
    let definition = format!(
        "{PREBUILT}[config]\nexposed-ports = [8080]\nenv = {{ CPU_NANOSECONDS_IN_ALL = \"{CPU}\", MEMORY = \"{memory}\" }}\n[[layers]]\nname = \"base\"\n"
    );
    made_up.image("known", &definition, &program)?;
    let built = context.build_with(context.xtask(&made_up.root), "known", "sweep-built", &[])?;
    let (cpus, memory) = found(&profiler, context, &built.layout.display().to_string(), RATE)?;
    let needed = RATE * CPU / 1e9;
    anyhow::ensure!((cpus / needed - 1.0).abs() < 0.1 + 1e-9, "{cpus} CPU, and {needed} are needed");
    anyhow::ensure!(
        (MEBIBYTES..=MEBIBYTES + 8.0).contains(&memory),
        "{memory} MiB, and {MEBIBYTES} are used"
    );
    Ok(())
}

/// The sample passes 20 starts and a minute of load under the limits that a sweep found.
pub(super) fn sample(context: &Context<'_>) -> anyhow::Result<()> {
    let profiler = Profiler::new(context, "sweep-sample")?;
    let layout = context.sample()?.layout.display().to_string();
    let (cpus, memory) = found(&profiler, context, &layout, SAMPLES_RATE)?;
    let profile = format!(
        "passes = [\"startup\", \"throughput\"]\nlimits = {{ cpus = {cpus}, memory = \"{memory}MiB\" }}\n\
         startup = {{ runs = 20, cold-runs = 0 }}\nthroughput = {{ loads = [\"{SAMPLES_RATE}/s\"], duration = \"60s\" }}\n"
    );
    let profile = profiler.write_profile("found", &profile)?;
    let report = profiler.report(cmd!(context.sh, "env"), &layout, &["--profile", &profile])?;
    same("what went wrong", &events(&report), &Vec::new())?;
    let mut all = report.runs.iter().flat_map(|run| &run.measurements);
    let is_p99 = |it: &&Measurement| it.metric == "throughput.latency.p99";
    let p99 = all.find(is_p99).context("the report has no p99")?.value / 1e6;
    context.ui.status("Loaded", &format!("for a minute: p99 {p99:.2} ms"));
    anyhow::ensure!(p99 <= P99, "the p99 of a minute is {p99:.1} ms");
    Ok(())
}
