//! The events and exit codes of `cargo xtask profile` for faulty servers; and whether three runtimes that share no code
//! agree on a healthy one.

use std::collections::{BTreeMap, BTreeSet};

use crate::lab::context::Context;
use crate::lab::docker::{Docker, Store};
use crate::lab::expect::same;
use crate::lab::profile::{Profiler, events, figures};
use tare_profiler::profile::report::EventKind;
use tare_tool::process::cmd;

/// Every pass, as short as figures allow.
const SHORT: &str = r#"
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

/// Metrics that not every run has. The moment of execve is looked for from outside, and a program may be faster; daemons
/// return only when it runs. When a daemon has ended the program of the runtime's baseline, its cgroup is gone.
const NOT_ALWAYS: [&str; 2] = ["startup.warm.exec", "startup.warm.runtime-cpu"];

/// The same sizes, the same set of metrics, no errors, and a request costs about the same. That limits are in
/// force each run has made sure of before it measured.
pub(super) fn runtimes(context: &Context<'_>) -> anyhow::Result<()> {
    let sample = context.sample()?;
    let profiler = Profiler::new(context, "runtimes")?;
    let profile = profiler.write_profile("short", SHORT)?;
    let docker = Docker::start(context, Store::Classic)?;
    let layout = sample.layout.display().to_string();
    let mut all: Vec<(&str, BTreeMap<String, f64>)> = Vec::new();
    for runtime in ["embedded", "runc", "docker"] {
        let inside = docker.client(docker.daemon.inside_all()?);
        let report = profiler.report(inside, &layout, &["--profile", &profile, "--runtime", runtime])?;
        let name = report.runtime.as_ref().map(|facts| facts.name.as_str());
        same("the runtime", &name, &Some(runtime))?;
        same(&format!("{runtime}: what went wrong"), &events(&report), &Vec::new())?;
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
        context.ui.status("Measured", &format!("{key}: {}", side_by_side.join(", ")));
    }
    let Some(((_, embedded), others)) = all.split_first() else { return Ok(()) };
    others.iter().try_for_each(|(runtime, figures)| agrees(runtime, figures, embedded))
}

fn agrees(
    runtime: &str,
    figures: &BTreeMap<String, f64>,
    embedded: &BTreeMap<String, f64>,
) -> anyhow::Result<()> {
    let kept = |key: &&String| !NOT_ALWAYS.contains(&key.as_str());
    let keys =
        |map: &BTreeMap<String, f64>| -> BTreeSet<String> { map.keys().filter(kept).cloned().collect() };
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

/// A server with which something is wrong: its profile, and what must come of it.
struct Faulty {
    name: &'static str,
    profile: &'static str,
    /// 1 for one that was measured and failed, 2 for one that could not be.
    code: i32,
    /// The kind of the one event.
    kind: EventKind,
    /// A part of its message, or of the server's output.
    text: &'static str,
}

const FAULTY: [Faulty; 5] = [
    Faulty {
        name: "never-ready",
        profile: "passes = [\"startup\"]\nready = { path = \"/nowhere\", timeout = \"1s\" }\nstartup = { runs = 1, cold-runs = 0 }",
        code: 2,
        kind: EventKind::NotReady,
        text: "404",
    },
    Faulty {
        name: "ends-at-once",
        profile: "passes = [\"startup\"]\nargs = [\"--no-such-flag\"]\nstartup = { runs = 1, cold-runs = 0 }",
        code: 2,
        kind: EventKind::Crash,
        text: "no-such-flag",
    },
    Faulty {
        name: "wrong-answers",
        profile: "passes = [\"throughput\"]\n\
                  [throughput]\nloads = [\"closed\"]\nduration = \"1s\"\nrequests = [{ path = \"/\", status = 201 }]",
        code: 1,
        kind: EventKind::WrongAnswers,
        text: "200",
    },
    Faulty {
        name: "out-of-memory-at-the-start",
        profile: "passes = [\"startup\"]\nlimits = { memory = \"32MiB\" }\nready = { path = \"/alloc/200000000\", timeout = \"5s\" }\n\
                  env = { TARE_MEMORY = \"1GiB\" }\nstartup = { runs = 1, cold-runs = 0 }",
        code: 1,
        kind: EventKind::OutOfMemory,
        text: "memory",
    },
    Faulty {
        name: "out-of-memory-under-load",
        profile: "passes = [\"throughput\"]\nlimits = { memory = \"32MiB\" }\nenv = { TARE_MEMORY = \"1GiB\" }\n\
                  [throughput]\nloads = [\"closed\"]\nduration = \"1s\"\n\
                  requests = [{ path = \"/\" , weight = 99 }, { path = \"/alloc/200000000\" }]",
        code: 1,
        kind: EventKind::OutOfMemory,
        text: "memory",
    },
];

/// Every fault is reported as the right event.
pub(super) fn faults(context: &Context<'_>) -> anyhow::Result<()> {
    let sample = context.sample()?;
    let profiler = Profiler::new(context, "verdicts")?;
    let layout = sample.layout.display().to_string();
    let sh = &context.sh;
    for faulty in FAULTY {
        let profile = profiler.write_profile(faulty.name, faulty.profile)?;
        let (code, report) = profiler.verdict(cmd!(sh, "env"), &layout, &["--profile", &profile])?;
        let events = events(&report);
        let [event] = events.as_slice() else {
            anyhow::bail!("{}: not one thing went wrong but {events:?}", faulty.name);
        };
        same(&format!("{}: the kind", faulty.name), &event.kind, &faulty.kind)?;
        same(&format!("{}: the exit code", faulty.name), &code, &Some(faulty.code))?;
        anyhow::ensure!(
            std::iter::once(&event.message).chain(&event.output).any(|line| line.contains(faulty.text)),
            "{}: {event:?} does not hold `{}`",
            faulty.name,
            faulty.text
        );
    }
    Ok(())
}
