//! The report: everything that was measured of one image, in which circumstances, and the verdict.
//!
//! Serialised as it is, with ordered maps, in the form of docs/report.schema.json.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::chart::{Curve, Frame, Package, Part};
use crate::limits::Limits;
use crate::measurement::Measurement;
use crate::metric::Pass;
use crate::verdict::{Outcome, Overall, Verdict};

/// The version of the report's form; it rises when a reader of the old form would misread the new one.
pub const SCHEMA: u32 = 4;

/// The oldest version that is still read: it had fewer kinds of doubt. Version 3 had no parts, packages and curves.
pub const OLDEST: u32 = 2;

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
    /// When it was made, as its configuration says in RFC 3339: for images of this tool the time of the commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
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
    /// In its own words.
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

/// What was measured under one set of limits.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// The limits; none for the size pass, which runs nothing. A container without limits has empty ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// The figures.
    pub measurements: Vec<Measurement>,
    /// What the passes say besides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sections: Vec<Section>,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<Event>,
    /// The image's bytes, layer by layer; of the size pass alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<Part>,
    /// What the program was built from, as it says itself; of the size pass alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<Package>,
    /// What happened in the course of the loads.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub curves: Vec<Curve>,
    /// Which functions execute the instructions of requests; of the instructions pass alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stacks: Option<Frame>,
}

impl Run {
    /// The first event of an image that does not pass for it.
    #[must_use]
    pub fn failure(&self) -> Option<&Event> {
        self.events.iter().find(|event| event.kind.is_failure())
    }
}

/// What one pass says besides its figures.
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
    /// Whether an image with which this happened does not pass. A server that has to be killed serves well until then: that
    /// is a finding, for which the metric `startup.warm.killed` can have a gate.
    #[must_use]
    pub fn is_failure(self) -> bool {
        self != Self::Stuck
    }

    /// As it is shown.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::OutOfMemory => "out of memory",
            Self::Crash => "crash",
            Self::NotReady => "not ready",
            Self::Stuck => "ignores SIGTERM",
            Self::WrongAnswers => "wrong answers",
        }
    }
}

/// Why a text is no report.
#[derive(Debug)]
pub enum ReportError {
    /// It is not JSON, or not in the form of a report.
    Form(serde_json::Error),
    /// It is a report of another version.
    Version {
        /// The version that it has.
        found: u32,
    },
}

// By hand, because this package needs serde alone.
impl fmt::Display for ReportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form(_) => f.write_str("it is not a report of tare"),
            Self::Version { found } => {
                write!(f, "it is a report of schema {found}, and this tare reads schema {OLDEST} to {SCHEMA}")
            }
        }
    }
}

impl std::error::Error for ReportError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Form(error) => Some(error),
            Self::Version { .. } => None,
        }
    }
}

impl Report {
    /// Reads the text of a report.json.
    ///
    /// # Errors
    /// When it is not a report, or of another version: that is looked at first, so that a report of a newer tare
    /// is not refused for a field that this one does not know.
    pub fn parse(text: &str) -> Result<Self, ReportError> {
        #[derive(Deserialize)]
        struct Version {
            schema: u32,
        }
        let Version { schema } = serde_json::from_str(text).map_err(ReportError::Form)?;
        if !(OLDEST..=SCHEMA).contains(&schema) {
            return Err(ReportError::Version { found: schema });
        }
        serde_json::from_str(text).map_err(ReportError::Form)
    }

    /// Whether nothing could be measured: the server never answered as it should, or ended before it did.
    /// A server that broke later, or that its memory limit killed, was measured and failed.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// As the profiler writes it: a test of `tare-profiler` keeps it so.
    const WRITTEN: &str = include_str!("../tests/report.json");

    #[test]
    fn a_report_is_the_same_after_it_was_read() {
        let report = Report::parse(WRITTEN).unwrap();
        assert_eq!(report.to_json().unwrap(), WRITTEN);
    }

    #[test]
    fn a_report_of_another_version_is_refused_by_its_number_whatever_else_is_in_it() {
        let other = WRITTEN.replacen("\"schema\": 4", "\"schema\": 5, \"news\": {}", 1);
        let error = Report::parse(&other).unwrap_err();
        assert!(matches!(error, ReportError::Version { found: 5 }), "{error:?}");
        assert_eq!(error.to_string(), "it is a report of schema 5, and this tare reads schema 2 to 4");
    }

    #[test]
    fn a_report_of_the_version_before_is_read() {
        let before = WRITTEN.replacen("\"schema\": 4", "\"schema\": 2", 1);
        assert_eq!(Report::parse(&before).unwrap().schema, 2);
        let oldest = WRITTEN.replacen("\"schema\": 4", "\"schema\": 1", 1);
        assert!(matches!(Report::parse(&oldest), Err(ReportError::Version { found: 1 })));
    }

    #[test]
    fn what_is_no_report_is_refused() {
        for text in ["", "{}", "[2]", "{\"schema\": 2}", "{\"schema\": -1}"] {
            let error = Report::parse(text).unwrap_err();
            assert!(matches!(error, ReportError::Form(_)), "{text}: {error:?}");
            assert_eq!(error.to_string(), "it is not a report of tare");
        }
    }
}
