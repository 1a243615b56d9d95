//! Makes reports: the settings of a profile that figures depend on, and the verdict on what was measured.
//!
//! The values are those of `tare-report`. Nothing here measures, and rendering a report needs no more than what
//! is in it.

pub use tare_report::report::*;
pub use tare_report::verdict::Overall;

use super::baseline::Baseline;
use super::definition::{self, Gate, Profile, Ready};
use super::gate::{self, Again, Figures, Verdict};
use super::metric::{self, Pass};

/// The settings of a profile, after the command line.
#[must_use]
pub fn profile_facts(profile: &Profile) -> ProfileFacts {
    let list = |items: &mut dyn Iterator<Item = String>| items.collect::<Vec<_>>().join("; ");
    let load = &profile.throughput;
    let requests = load.requests.iter().map(|request| {
        let headers: Vec<String> =
            request.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        format!(
            "{} × {} {} [{}] {} bytes, status {}",
            request.weight,
            request.method,
            request.path,
            headers.join(", "),
            request.body.len(),
            request.status
        )
    });
    let env = profile.env.iter().map(|(name, value)| format!("{name}={value}"));
    let settings = [
        ("limits", list(&mut profile.limits.iter().map(ToString::to_string))),
        ("network", profile.network.name().to_owned()),
        ("env", list(&mut env.into_iter())),
        ("args", profile.args.as_ref().map_or("the image's".to_owned(), |args| format!("{args:?}"))),
        ("ready", ready(&profile.ready)),
        ("runs", profile.startup.runs.to_string()),
        ("cold-runs", profile.startup.cold_runs.to_string()),
        ("loads", list(&mut load.loads.iter().map(ToString::to_string))),
        ("connections", load.connections.to_string()),
        ("duration", load.duration.to_string()),
        ("pipeline", load.pipeline.to_string()),
        ("keep-alive", load.keep_alive.to_string()),
        ("check", format!("{:?}", load.check).to_lowercase()),
        ("protocol", load.protocol.name().to_owned()),
        ("requests", list(&mut requests.into_iter())),
        ("instructions", format!("{} requests", profile.instructions.requests)),
    ];
    let rounds = (profile.rounds > 1).then(|| ("rounds", profile.rounds.to_string()));
    ProfileFacts {
        name: profile.name.clone(),
        settings: settings
            .into_iter()
            .chain(definition::settings(profile))
            .chain(rounds)
            .map(|(key, value)| (key.to_owned(), value))
            .collect(),
    }
}

fn ready(ready: &Ready) -> String {
    let Ready { method, path, headers, body, contains, status, .. } = ready;
    let mut text = format!("{path} → {status}");
    if method != "GET" {
        text = format!("{method} {text}");
    }
    for (name, value) in headers {
        text += &format!(", {name}: {value}");
    }
    if !body.is_empty() {
        text += &format!(", {} bytes", body.len());
    }
    contains.iter().for_each(|contains| text += &format!(", with {contains:?}"));
    text
}

/// Sorts the figures as the metric table has them, judges the gates and comes to the overall verdict: an
/// image with which something went wrong does not pass, whatever its figures.
pub fn judge(report: &mut Report, profile: &Profile, baseline: Option<&Baseline>) {
    judge_again(report, profile, baseline, &[]);
}

/// The same with what was measured again in turns with the baseline's image.
pub fn judge_again(report: &mut Report, profile: &Profile, baseline: Option<&Baseline>, again: &[Again]) {
    report.verdicts.clear();
    for run in &mut report.runs {
        // Stable: cases stay as they were measured.
        run.measurements.sort_by_key(|measurement| metric::position(measurement.metric));
        // The size pass is judged where it was measured, and the others under every limit.
        let runs_nothing = run.limits.is_none();
        let of_run = profile
            .gates
            .iter()
            .filter(|gate| metric::find(gate.metric).is_some_and(|it| it.pass == Pass::Size) == runs_nothing);
        let gates: Vec<Gate> = of_run.cloned().collect();
        let uncounted = run.sections.iter().find(|section| section.pass == Pass::Instructions);
        let figures = Figures {
            passes: &profile.passes,
            limits: run.limits.as_ref(),
            measurements: &run.measurements,
            baseline,
            again,
            uncounted: uncounted.and_then(|section| section.notes.first()).map(String::as_str),
        };
        report.verdicts.extend(gate::judge(&gates, &figures));
    }
    // A gate of a pass without any run of its kind would else vanish.
    let judged = |gate: &Gate, verdicts: &[Verdict]| {
        let key = gate.key();
        verdicts.iter().any(|it| it.gate == key || it.gate.starts_with(&format!("{key}@")))
    };
    let left: Vec<_> = profile.gates.iter().filter(|gate| !judged(gate, &report.verdicts)).cloned().collect();
    let figures = Figures {
        passes: &profile.passes,
        limits: None,
        measurements: &[],
        baseline,
        again,
        uncounted: None,
    };
    report.verdicts.extend(gate::judge(&left, &figures));
    report.overall = Overall::of(&report.verdicts);
    if report.runs.iter().any(|run| run.failure().is_some()) {
        report.overall = Overall::Fail;
    }
}

/// A report with something of everything, for the tests of what reads reports.
#[cfg(test)]
pub(crate) fn sample() -> Report {
    use super::measurement::{Doubt, Measurement};

    let noisy = |metric, case: &str, value: f64| Measurement {
        interval: Some((value * 0.98, value * 1.02)),
        samples: (0..10).map(|at| value * (0.99 + 0.002 * f64::from(at))).collect(),
        ..Measurement::exact(metric, value).of_case(case)
    };
    let startup = |metric, value| Measurement { case: None, ..noisy(metric, "", value) };
    let profile = super::definition::parse(
        "ci",
        std::path::Path::new("ci.toml"),
        "passes = [\"size\", \"startup\", \"throughput\"]\nlimits = { cpus = 0.5, memory = \"64MiB\" }",
        super::definition::CpuLimit::cpus(0.5).unwrap(),
    );
    let profile = profile.unwrap();
    Report {
        schema: SCHEMA,
        tool: "0.1.0".to_owned(),
        taken: "2026-11-24T00:00:00Z".to_owned(),
        target: Target {
            names: vec!["app".to_owned(), "app:0.1.0".to_owned()],
            digest: format!("sha256:{}", "1".repeat(64)),
            image_id: format!("sha256:{}", "2".repeat(64)),
            platform: "linux/amd64".to_owned(),
            created: Some("2026-11-23T12:00:00Z".to_owned()),
        },
        host: Host {
            cpu: "Some CPU | with a bar".to_owned(),
            cpus: 2,
            memory: 8 << 30,
            kernel: "6.18.0".to_owned(),
            architecture: "x86_64".to_owned(),
            cgroup: "v2".to_owned(),
        },
        runtime: Some(RuntimeFacts {
            name: "embedded".to_owned(),
            version: "0.1.0".to_owned(),
            rootless: false,
        }),
        profile: profile_facts(&profile),
        runs: vec![
            Run {
                limits: None,
                measurements: vec![
                    Measurement::exact("size.image.compressed", 1_500_000.0),
                    Measurement::exact("size.efficiency", 1.0),
                ],
                sections: vec![Section {
                    pass: Pass::Size,
                    notes: vec!["Crates are an estimate.".to_owned()],
                    tables: vec![Table {
                        title: "Largest files".to_owned(),
                        columns: vec!["file".to_owned(), "size".to_owned()],
                        numeric: vec![1],
                        rows: vec![vec!["/app/server <1>".to_owned(), "1.40 MB".to_owned()]],
                    }],
                }],
                bytes: Some(tare_report::Part::of(
                    "image",
                    vec![tare_report::Part::of(
                        "layer 1",
                        vec![tare_report::Part::leaf("/app/server", 1_400_000)],
                    )],
                )),
                ..Run::default()
            },
            Run {
                limits: Some(profile.limits[0].clone()),
                measurements: vec![
                    startup("startup.warm.ready", 4.2e6),
                    noisy("throughput.rate", "closed", 31_234.0),
                    noisy("throughput.latency.p99", "closed", 2.5e6),
                    Measurement {
                        doubts: vec![Doubt::NoSteadyState { windows: 20, variation: 0.2 }],
                        ..noisy("throughput.rate", "open-90", 28_000.0)
                    },
                    noisy("throughput.errors", "closed", 0.0),
                ],
                curves: vec![tare_report::Curve {
                    kind: tare_report::CurveKind::Latency,
                    case: "closed".to_owned(),
                    points: vec![(0.0, 1e6), (0.5, 2e6), (1.0, 3e6)],
                }],
                stacks: Some(tare_report::Frame {
                    function: "all".to_owned(),
                    instructions: 17_000_000,
                    callees: vec![tare_report::Frame {
                        function: "app::main".to_owned(),
                        instructions: 16_000_000,
                        callees: vec![],
                    }],
                }),
                ..Run::default()
            },
        ],
        verdicts: vec![],
        overall: Overall::Pass,
    }
}

/// The same without a doubt, as a baseline must be.
#[cfg(test)]
pub(crate) fn undoubted_sample() -> Report {
    let mut report = sample();
    for measurement in report.runs.iter_mut().flat_map(|run| &mut run.measurements) {
        measurement.doubts.clear();
    }
    report
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
