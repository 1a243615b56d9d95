//! The report: everything that was measured of one image, in which circumstances, and the verdict.
//!
//! Serialised as it is, with ordered maps, in the form of docs/report.schema.json. Nothing here measures, and
//! rendering it needs no more than what is in it.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::baseline::Baseline;
use super::definition::{Limits, Profile};
use super::gate::{self, Figures, Outcome, Overall, Verdict};
use super::measurement::Measurement;
use super::metric::{self, Pass};

/// The version of the report's form; it rises when a reader of the old form would misread the new one.
pub const SCHEMA: u32 = 1;

/// What was measured of one image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// [`SCHEMA`]
    pub schema: u32,
    /// The version of tare.
    pub tool: String,
    /// When it began, in RFC 3339.
    pub taken: String,
    /// Of what.
    pub target: Target,
    /// Where.
    pub host: Host,
    /// With which runtime; none if nothing was run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<RuntimeFacts>,
    /// By which profile.
    pub profile: ProfileFacts,
    /// What: first what needs no run, then each of the profile's limits.
    pub runs: Vec<Run>,
    /// The judgement of every gate.
    pub verdicts: Vec<Verdict>,
    /// All verdicts and events in one word.
    pub overall: Overall,
}

/// The image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// As it was named on the command line, and the names it carries itself.
    pub names: Vec<String>,
    /// The manifest's digest.
    pub digest: String,
    /// The configuration's digest, which docker calls the image's id.
    pub image_id: String,
    /// `linux/amd64`
    pub platform: String,
}

/// The machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// The processor's name (`model name` of /proc/cpuinfo).
    pub cpu: String,
    /// How many CPUs this process may use.
    pub cpus: u32,
    /// Bytes of memory.
    pub memory: u64,
    /// The kernel's release.
    pub kernel: String,
    /// `x86_64`
    pub architecture: String,
    /// `v1`, `hybrid` or `v2`.
    pub cgroup: String,
}

impl Host {
    /// What must be the same for noisy figures to be comparable, by name.
    #[must_use]
    pub fn facts(&self) -> [(&'static str, String); 6] {
        [
            ("cpu", self.cpu.clone()),
            ("cpus", self.cpus.to_string()),
            ("memory", self.memory.to_string()),
            ("kernel", self.kernel.clone()),
            ("architecture", self.architecture.clone()),
            ("cgroup", self.cgroup.clone()),
        ]
    }
}

/// What runs the containers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuntimeFacts {
    /// `embedded`, `runc`, `docker` …
    pub name: String,
    /// As it tells it.
    pub version: String,
    /// Whether it runs without root.
    pub rootless: bool,
}

impl fmt::Display for RuntimeFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}{}", self.name, self.version, if self.rootless { ", rootless" } else { "" })
    }
}

/// The profile as far as figures depend on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileFacts {
    /// Its name.
    pub name: String,
    /// Every setting that moves figures, by its key, as text.
    pub settings: BTreeMap<String, String>,
}

impl ProfileFacts {
    /// The settings of a profile, after the command line.
    #[must_use]
    pub fn of(profile: &Profile) -> Self {
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
            ("network", profile.network.to_string()),
            ("env", list(&mut env.into_iter())),
            ("args", profile.args.as_ref().map_or("the image's".to_owned(), |args| format!("{args:?}"))),
            ("ready", format!("{} → {}", profile.ready.path, profile.ready.status)),
            ("runs", profile.startup.runs.to_string()),
            ("cold-runs", profile.startup.cold_runs.to_string()),
            ("loads", list(&mut load.loads.iter().map(ToString::to_string))),
            ("connections", load.connections.to_string()),
            ("duration", load.duration.to_string()),
            ("pipeline", load.pipeline.to_string()),
            ("keep-alive", load.keep_alive.to_string()),
            ("protocol", load.protocol.to_string()),
            ("requests", list(&mut requests.into_iter())),
        ];
        Self {
            name: profile.name.clone(),
            settings: settings.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
        }
    }
}

/// What was measured under one set of limits.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// The limits; none for the size pass, which runs nothing. A container without limits has empty ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// The figures.
    pub measurements: Vec<Measurement>,
    /// What the passes have to tell besides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sections: Vec<Section>,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<Event>,
}

/// What one pass has to tell besides its figures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Section {
    /// The pass.
    pub pass: Pass,
    /// How it was measured and what to know about it, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Lists of detail.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<Table>,
}

/// A list of detail, such as the largest files; its cells are what is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// What it lists.
    pub title: String,
    /// The names of its columns.
    pub columns: Vec<String>,
    /// Which of them hold numbers, counted from 0.
    pub numeric: Vec<usize>,
    /// Its cells.
    pub rows: Vec<Vec<String>>,
}

/// Something that went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// What kind of thing.
    pub kind: EventKind,
    /// In which pass.
    pub pass: Pass,
    /// What happened, in a sentence.
    pub message: String,
    /// The last lines that the server printed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub output: Vec<String>,
}

/// What kind of thing went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// The kernel killed it for its memory limit.
    OutOfMemory,
    /// It ended by itself.
    Crash,
    /// It never became ready.
    NotReady,
    /// It did not end when asked to, and was killed.
    Stuck,
    /// Its answers were wrong.
    WrongAnswers,
}

impl EventKind {
    /// As it is told.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::OutOfMemory => "out of memory",
            Self::Crash => "crash",
            Self::NotReady => "not ready",
            Self::Stuck => "stuck",
            Self::WrongAnswers => "wrong answers",
        }
    }
}

impl Report {
    /// Sorts the figures as the metric table has them, judges the gates and comes to the overall verdict: an
    /// image with which something went wrong does not pass, whatever its figures.
    pub fn judge(&mut self, profile: &Profile, baseline: Option<&Baseline>) {
        self.verdicts.clear();
        for run in &mut self.runs {
            // Stable: cases stay as they were measured.
            run.measurements.sort_by_key(|measurement| metric::position(measurement.metric));
            // The size pass is judged where it was measured, and the others under every limit.
            let runs_nothing = run.limits.is_none();
            let of_run = profile.gates.iter().filter(|gate| {
                metric::find(gate.metric).is_some_and(|it| it.pass == Pass::Size) == runs_nothing
            });
            let gates: Vec<gate::Gate> = of_run.cloned().collect();
            let figures = Figures {
                passes: &profile.passes,
                limits: run.limits.as_ref(),
                measurements: &run.measurements,
                baseline,
            };
            self.verdicts.extend(gate::judge(&gates, &figures));
        }
        // A gate of a pass without any run of its kind would else vanish.
        let judged = |gate: &gate::Gate, verdicts: &[Verdict]| {
            let key = gate.key();
            verdicts.iter().any(|it| it.gate == key || it.gate.starts_with(&format!("{key}@")))
        };
        let left: Vec<_> =
            profile.gates.iter().filter(|gate| !judged(gate, &self.verdicts)).cloned().collect();
        let figures = Figures { passes: &profile.passes, limits: None, measurements: &[], baseline };
        self.verdicts.extend(gate::judge(&left, &figures));
        self.overall = Overall::of(&self.verdicts);
        if self.runs.iter().any(|run| !run.events.is_empty()) {
            self.overall = Overall::Fail;
        }
    }

    /// Whether there was nothing to weigh: the server never answered as it should, or ended before it did.
    /// A server that broke later, or that its memory limit killed, was weighed and failed.
    #[must_use]
    pub fn was_never_ready(&self) -> bool {
        self.runs.iter().any(|run| {
            run.events.iter().any(|event| match event.kind {
                EventKind::NotReady => true,
                EventKind::Crash => run.measurements.is_empty(),
                _ => false,
            })
        })
    }

    /// How many verdicts there are of this outcome.
    #[must_use]
    pub fn count(&self, outcome: Outcome) -> usize {
        self.verdicts.iter().filter(|verdict| verdict.outcome == outcome).count()
    }

    /// The report as JSON, in the form of docs/report.schema.json.
    ///
    /// # Errors
    /// Never for what the passes make; serde leaves the possibility.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self).map(|text| text + "\n")
    }
}

/// A report with something of everything, for the tests of what reads reports.
#[cfg(test)]
pub(crate) fn sample() -> Report {
    use super::measurement::Doubt;

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
        profile: ProfileFacts::of(&profile),
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
                events: vec![],
            },
            Run {
                limits: Some(profile.limits[0].clone()),
                measurements: vec![
                    startup("startup.warm.ready", 4.2e6),
                    noisy("throughput.rate", "closed", 31_234.0),
                    noisy("throughput.latency.p99", "closed", 2.5e6),
                    Measurement {
                        doubts: vec![Doubt::GeneratorBound { cpu: 0.9, limit: 0.85 }],
                        ..noisy("throughput.rate", "open-90", 28_000.0)
                    },
                    noisy("throughput.errors", "closed", 0.0),
                ],
                sections: vec![],
                events: vec![],
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
