//! Checks the profiler's figures: against wrk, under half a CPU, against other runtimes, and on images that are known to
//! differ or known to be equal.

use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;
use serde::Deserialize;

use super::Bench;
use super::report::{Part, Series};
use crate::lab::context::{Context, MadeUp, PREBUILT, SAMPLE_PORT};
use crate::lab::docker::{Docker, Store};
use crate::lab::expect::json;
use crate::lab::namespace::Isolated;
use crate::lab::profile::{Profiler, figure};
use crate::lab::tools::Tool;
use tare_load::Outcome;
use tare_profiler::profile::metric::Unit;
use tare_tool::process::xshell::Cmd;
use tare_tool::process::{Execute as _, cmd};

/// The profiler, and images of a server that executes a number of steps for each request.
pub(super) struct Lab<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) profiler: Profiler,
    made_up: MadeUp,
    program: Vec<u8>,
}

impl<'a> Lab<'a> {
    pub(super) fn new(context: &'a Context<'a>, name: &str) -> anyhow::Result<Self> {
        let (profiler, made_up) =
            (Profiler::new(context, name)?, context.made_up(&format!("{name}-images"))?);
        let (root, program) = (&context.workspace.root, made_up.root.join("program"));
        crate::compile(
            &root.join("crates/checks/programs/steps.rs"),
            &program,
            crate::host().target(),
            root,
        )?;
        let program =
            std::fs::read(&program).with_context(|| format!("cannot read {}", program.display()))?;
        Ok(Self { context, profiler, made_up, program })
    }

    /// The layout of an image that takes so many steps for a request.
    pub(super) fn image(&self, name: &str, steps: f64) -> anyhow::Result<String> {
        let definition = format!(
            "{PREBUILT}[config]\nexposed-ports = [8080]\nenv = {{ STEPS = \"{steps:.0}\" }}\n[[layers]]\nname = \"base\"\n"
        );
        self.made_up.image(name, &definition, &self.program)?;
        let command = self.context.xtask(&self.made_up.root);
        let built = self.context.build_with(command, name, &format!("{name}-{steps:.0}"), &[])?;
        Ok(built.layout.display().to_string())
    }

    /// What a request costs the image of [`STEPS`] in nanoseconds of CPU time, and how many steps more would double it.
    pub(super) fn cost_of_steps(&self, rounds: u32) -> anyhow::Result<(Series, f64)> {
        const PROFILE: &str = "passes = [\"throughput\"]\nlimits = { cpus = 1, memory = \"64MiB\" }\n\
            throughput = { loads = [\"closed\"], duration = \"2s\" }\n";
        // The second image runs half as many steps again, and the difference is the cost of the steps.
        let profile = self.profiler.write_profile("steps", PROFILE)?;
        let images = [self.image("steps", STEPS)?, self.image("more-steps", STEPS * 1.5)?];
        let mut costs = [const { Vec::new() }; 2];
        for _ in 0..rounds {
            for (image, costs) in images.iter().zip(&mut costs) {
                costs.push(self.figure(image, &profile, COST)?);
            }
        }
        let costs = costs.map(|costs| Series::new(Unit::Nanoseconds, costs));
        let half = costs[1].minus(&costs[0]).median();
        let steps = costs[0].median() / half * STEPS / 2.0;
        anyhow::ensure!(steps > 0.0, "more steps cost nothing: {} and {}", costs[0], costs[1]);
        let [cost, _] = costs;
        Ok((cost, steps))
    }

    /// A metric of an image, measured once by a profile.
    fn figure(&self, image: &str, profile: &str, metric: &str) -> anyhow::Result<f64> {
        let sh = &self.context.sh;
        figure(&self.profiler.report(cmd!(sh, "env"), image, &["--profile", profile])?, metric)
    }
}

/// The load beside wrk: the bare loop on one CPU, a generator with one thread on the other, in turn.
pub(super) fn wrk(bench: &Bench<'_>) -> anyhow::Result<Part> {
    let context = &bench.context;
    let mut part = Part::new(["generator", "requests", "its CPU for a request"]);
    if ![Tool::Program("wrk"), Tool::Namespaces].iter().all(|tool| context.found.has(*tool)) {
        part.left_out.push("wrk, or root with namespaces, is missing".to_owned());
        return Ok(part);
    }
    let profiler = Profiler::new(context, "wrk")?;
    let built = context.build("floor", "wrk-floor", &[])?;
    let binary = built.first()?.binary.display().to_string();
    let mut server = Isolated::start(
        Path::new("taskset"),
        &["--cpu-list", "0", &binary],
        &[],
        &context.folder().join("wrk.log"),
    )?;
    server.wait_for(SAMPLE_PORT, "/")?;
    let url = format!("http://127.0.0.1:{SAMPLE_PORT}/");
    let mut rounds = [Vec::new(), Vec::new()];
    for _ in 0..bench.options.rounds {
        rounds[0].push(with_load(&profiler, server.inside("taskset"), &url)?);
        rounds[1].push(with_wrk(server.inside("bash"), &url)?);
    }
    let of = |side: usize, unit: Unit, at: usize| {
        Series::new(unit, rounds[side].iter().map(|figures: &[f64; 2]| figures[at]))
    };
    let rates = [0, 1].map(|side| of(side, Unit::PerSecond, 0));
    let costs = [0, 1].map(|side| of(side, Unit::Nanoseconds, 1));
    for (side, name) in ["tare load", "wrk"].into_iter().enumerate() {
        part.row(name, [rates[side].clone(), costs[side].clone()]);
    }
    part.notes.push("64 connections, two seconds; tare checks every answer, wrk none".to_owned());
    part.at_least("requests, tare load / wrk", rates[0].over(&rates[1]), 1.0);
    part.at_most("generator's CPU for a request, tare load / wrk", costs[0].over(&costs[1]), 1.0);
    server.end()?;
    Ok(part)
}

/// Requests per second, and nanoseconds of the generator's CPU for each.
pub(super) fn with_load(profiler: &Profiler, taskset: Cmd<'_>, url: &str) -> anyhow::Result<[f64; 2]> {
    #[derive(Deserialize)]
    struct Document {
        outcome: Outcome,
    }
    let command = taskset.args(["--cpu-list", "1"]).arg(&profiler.program);
    let output = command.args(["load", url, "--duration", "2s", "--json"]).capture()?;
    let Document { outcome } = serde_json::from_value(json("`load --json`", &output)?)?;
    anyhow::ensure!(outcome.failed() == 0, "{} requests failed", outcome.failed());
    let cpu = outcome.cpu.context("the generator's CPU time is not known")?;
    let microseconds = (cpu.user + cpu.system) as f64;
    Ok([outcome.requests_per_second(), microseconds * 1e3 / outcome.completed.max(1) as f64])
}

/// The same of wrk, with the CPU time that bash counts.
pub(super) fn with_wrk(bash: Cmd<'_>, url: &str) -> anyhow::Result<[f64; 2]> {
    const SCRIPT: &str = "exec 2>&1; TIMEFORMAT='CPU %U %S'; time \"$@\"";
    let wrk =
        ["taskset", "--cpu-list", "1", "wrk", "--threads", "1", "--connections", "64", "--duration", "2s"];
    let text = bash.args(["-c", SCRIPT, "bash"]).args(wrk).arg(url).capture_text()?;
    anyhow::ensure!(!text.contains("Socket errors") && !text.contains("Non-2xx"), "wrk had errors: {text}");
    parse_wrk(&text).with_context(|| format!("wrk printed something else: {text}"))
}

/// Reads wrk's report, and bash's line below it.
fn parse_wrk(text: &str) -> Option<[f64; 2]> {
    let after = |prefix: &str| text.lines().find_map(|line| line.trim().strip_prefix(prefix));
    let requests = text.lines().find_map(|line| line.trim().split_once(" requests in "))?.0;
    let requests = requests.parse::<f64>().ok().filter(|requests| *requests > 0.0)?;
    let seconds: f64 = after("CPU ")?.split(' ').map_while(|word| word.parse::<f64>().ok()).sum();
    Some([after("Requests/sec:")?.trim().parse().ok()?, seconds * 1e9 / requests])
}

/// Half a CPU: a container never gets more.
pub(super) fn quota(bench: &Bench<'_>) -> anyhow::Result<Part> {
    const PROFILE: &str = "passes = [\"throughput\"]\nlimits = { cpus = 0.5, memory = \"64MiB\" }\n\
        throughput = { loads = [\"closed\"], duration = \"3s\" }\n";
    let lab = Lab::new(&bench.context, "quota")?;
    // Enough steps to want more than half a CPU.
    let (image, profile) = (lab.image("half", 20_000.0)?, lab.profiler.write_profile("half", PROFILE)?);
    let used: Vec<f64> = (0..bench.options.rounds)
        .map(|_| Ok(lab.figure(&image, &profile, "throughput.cpu-of-limit")? * 0.5))
        .collect::<anyhow::Result<_>>()?;
    let used = Series::new(Unit::Count, used);
    let mut part = Part::new(["limit", "CPUs used"]);
    part.row("half a CPU", [used.clone()]);
    part.at_most("CPUs used under a limit of 0.5", used, 0.52);
    Ok(part)
}

/// The time from nothing to the first answer through the embedded runtime, runc and docker in turn.
pub(super) fn starts(bench: &Bench<'_>) -> anyhow::Result<Part> {
    const PROFILE: &str = "passes = [\"startup\"]\nlimits = { cpus = 1, memory = \"64MiB\" }\n\
        startup = { runs = 10, cold-runs = 0, runtime-baseline = false }\n";
    /// Other runtimes, and the embedded one's most time as a part of theirs.
    const OTHERS: [(&str, f64); 2] = [("runc", 0.333), ("docker", 0.05)];
    let context = &bench.context;
    let mut part = Part::new(["runtime", "first answer", "embedded / this"]);
    if ![Tool::Namespaces, Tool::Docker20, Tool::Program("runc")].iter().all(|tool| context.found.has(*tool))
    {
        part.left_out.push("docker 20.10, runc, or root with namespaces, is missing".to_owned());
        return Ok(part);
    }
    let lab = Lab::new(context, "starts")?;
    let (image, profile) = (lab.image("starts", 0.0)?, lab.profiler.write_profile("starts", PROFILE)?);
    let docker = Docker::start(context, Store::Classic)?;
    let runtimes = ["embedded", OTHERS[0].0, OTHERS[1].0];
    let mut rounds = [const { Vec::new() }; 3];
    for _ in 0..bench.options.rounds {
        for (runtime, times) in runtimes.iter().zip(&mut rounds) {
            let inside = docker.client(docker.daemon.inside_all()?);
            let report =
                lab.profiler.report(inside, &image, &["--profile", &profile, "--runtime", runtime])?;
            times.push(figure(&report, "startup.warm.ready")?);
        }
    }
    let times = rounds.map(|rounds| Series::new(Unit::Nanoseconds, rounds));
    for (name, time) in runtimes.iter().zip(&times) {
        part.row(*name, [time.clone(), times[0].over(time)]);
    }
    part.notes.push("the median of ten starts in each round, one CPU and 64 MiB".to_owned());
    for ((other, limit), time) in OTHERS.iter().zip(&times[1..]) {
        part.at_most(format!("time to the first answer, embedded / {other}"), times[0].over(time), *limit);
    }
    Ok(part)
}

/// The metric of comparisons, and the steps of the image that is compared with: most of what a request costs.
pub(super) const COST: &str = "throughput.cpu-per-request";
pub(super) const STEPS: f64 = 40_000.0;

/// `profile compare` has to find five percent more CPU for a request.
pub(super) fn regressions(bench: &Bench<'_>) -> anyhow::Result<Part> {
    let lab = Lab::new(&bench.context, "regressions")?;
    let (cost, whole) = lab.cost_of_steps(bench.options.rounds)?;
    let steps = 0.05 * whole;
    let (mut part, [worse, ..]) = compare(&lab, STEPS + steps, bench.options.comparisons)?;
    part.notes.push(format!("five percent of {cost} for {STEPS} steps are {steps:.0} steps"));
    part.at_least("regressions found, of all", Series::new(Unit::Share, [worse]), 0.95);
    Ok(part)
}

/// It must not find a difference where there is none.
pub(super) fn same(bench: &Bench<'_>) -> anyhow::Result<Part> {
    let lab = Lab::new(&bench.context, "same")?;
    let (mut part, [worse, better]) = compare(&lab, STEPS, bench.options.comparisons)?;
    part.at_most("false alarms, of all", Series::new(Unit::Share, [worse + better]), 0.05);
    Ok(part)
}

/// Compares the image of [`STEPS`] with another: the share of comparisons that call it worse, and better.
fn compare(lab: &Lab<'_>, steps: f64, count: u32) -> anyhow::Result<(Part, [f64; 2])> {
    const PROFILE: &str = "passes = [\"throughput\"]\nlimits = { cpus = 1, memory = \"64MiB\" }\n\
        throughput = { connections = 16 }\n";
    let profile = lab.profiler.write_profile("compare", PROFILE)?;
    let (a, b) = (lab.image("a", STEPS)?, lab.image("b", steps)?);
    let sh = &lab.context.sh;
    let (mut findings, mut changes, mut times) = (Vec::new(), Vec::new(), Vec::new());
    for number in 1..=count {
        lab.context.ui.status("Comparing", &format!("{number} of {count}"));
        let started = Instant::now();
        let arguments = ["compare", &a, &b, "--profile", &profile, "--metric", COST];
        // The exit code stands for the finding.
        let (_, output) = lab.profiler.run(cmd!(sh, "env"), &arguments)?;
        times.push(started.elapsed().as_secs_f64() * 1e9);
        let comparison = json("`profile compare --json`", &output)?;
        let mut rows = comparison["rows"].as_array().into_iter().flatten();
        let row = rows.find(|row| row["metric"] == COST).with_context(|| format!("it has no {COST}"))?;
        findings.push(row["finding"].as_str().unwrap_or_default().to_owned());
        changes.extend(row["change"].as_f64().map(|change| 1.0 + change));
    }
    let share =
        |finding: &str| findings.iter().filter(|it| *it == finding).count() as f64 / findings.len() as f64;
    let shares = ["worse", "better", "same"].map(share);
    let mut part = Part::new(["B is", "worse", "better", "the same", "B / A", "time of one"]);
    let cells = shares.map(|share| Series::new(Unit::Share, [share])).into_iter();
    part.row(
        "of all",
        cells.chain([Series::new(Unit::Count, changes), Series::new(Unit::Nanoseconds, times)]),
    );
    Ok((part, [shares[0], shares[1]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_of_wrk_is_read() {
        let text = "Running 2s test @ http://127.0.0.1:1/\n  1 threads and 64 connections\n  Thread Stats   Avg      Stdev     Max   +/- Stdev\n    Latency   593.71us  145.02us   4.31ms   89.50%\n  200000 requests in 2.10s, 27.44MB read\nRequests/sec: 103009.78\nTransfer/sec:     13.07MB\nCPU 0.500 1.500\n";
        assert_eq!(parse_wrk(text), Some([103_009.78, 10_000.0]));
        assert_eq!(parse_wrk("  0 requests in 2.00s\nRequests/sec: 0.00\nCPU 0.000 0.001\n"), None);
    }
}
