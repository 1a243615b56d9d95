//! Baselines: what was measured before, with everything that must be the same for a comparison to mean
//! something.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tare_oci::input;
use tare_tool::private;

use super::definition::{Gate, Limits};
use super::measurement::Measurement;
use super::metric::{self, Class};
use tare_report::Bias;
use tare_report::report::{Host, ProfileFacts, Report, Run, RuntimeFacts};

/// The version of the file's form.
pub const SCHEMA: u32 = 3;

/// By which part two runs may differ and still agree. Wider than any gate: it is to keep a disturbed run from
/// becoming what others are measured by, not to judge the image.
pub const AGREEMENT: f64 = 0.15;

/// What was measured before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// [`SCHEMA`]
    pub schema: u32,
    /// The version of tare.
    pub tool: String,
    /// The manifest's digest of the image that was measured; it may differ, for that is the question.
    pub image: String,
    /// Where.
    pub host: Host,
    /// With which runtime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<RuntimeFacts>,
    /// By which profile.
    pub profile: ProfileFacts,
    /// What.
    pub runs: Vec<Run>,
}

/// Why a baseline is refused.
#[derive(Debug, thiserror::Error)]
pub enum BaselineError {
    /// It cannot be read.
    #[error("cannot read {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not a baseline.
    #[error("{0} is not a baseline")]
    Form(String, #[source] Box<dyn std::error::Error + Send + Sync>),
    /// It is a baseline of another version.
    #[error("{name} is a baseline of schema {found}, and this tare reads schema {SCHEMA}")]
    Version {
        /// The file, or `the text`.
        name: String,
        /// The version that it has.
        found: u64,
    },
    /// It was measured in other circumstances.
    #[error("the baseline does not fit: {}", .0.join("; "))]
    Differs(Vec<String>),
}

impl BaselineError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Differs(_) => "measure a new one in these circumstances: `--save-baseline FILE`",
            Self::Version { .. } => "save it again with this version: `--save-baseline FILE`",
            Self::Form(..) => "a baseline is what `--save-baseline FILE` writes, not a report.json",
            Self::Read { .. } => return None,
        };
        Some(hint.to_owned())
    }
}

/// Why two runs do not make a baseline.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the two runs do not agree: {}", .0.join("; "))]
pub struct Disagreement(pub Vec<String>);

impl Baseline {
    /// Reads a file's text.
    ///
    /// # Errors
    /// When it is not a baseline of this version.
    pub fn parse(text: &str) -> Result<Self, BaselineError> {
        Self::parse_named(text, "the text")
    }

    fn parse_named(text: &str, name: &str) -> Result<Self, BaselineError> {
        #[derive(Deserialize)]
        struct Version {
            schema: u64,
        }
        let form = |error: input::JsonError| BaselineError::Form(name.to_owned(), error.into());
        // First, so that a baseline of a newer tare is not refused for a field that this one does not know.
        let Version { schema: found } = input::from_json(text.as_bytes()).map_err(form)?;
        if found != u64::from(SCHEMA) {
            return Err(BaselineError::Version { name: name.to_owned(), found });
        }
        input::from_json(text.as_bytes()).map_err(form)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, or is not a baseline of this version.
    pub fn read(path: &Path) -> Result<Self, BaselineError> {
        let unread = |source| BaselineError::Read { path: path.to_path_buf(), source };
        Self::parse_named(&input::read_to_string(path).map_err(unread)?, &path.display().to_string())
    }

    /// Writes a file, which replaces an older one as a whole.
    ///
    /// # Errors
    /// When it cannot be written, or a figure is not finite, which JSON cannot say.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        private::replace_file(path, self.to_json()?.as_bytes())
    }

    /// The file's text.
    ///
    /// # Errors
    /// When a figure is not finite, which JSON cannot say.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self).map(|text| text + "\n")
    }

    /// A baseline of two runs that agree: the second, which was measured on a machine that is surely warm.
    ///
    /// # Errors
    /// When they differ in what must be the same; or when a figure that a `max-regression` gate uses differs, by more than
    /// [`AGREEMENT`] if it is noisy, or is doubtful in a way that could hide a regression. What no gate uses is kept as it
    /// is.
    pub fn of(first: &Report, second: &Report, gates: &[Gate]) -> Result<Self, Disagreement> {
        let baseline = Self {
            schema: SCHEMA,
            tool: second.tool.clone(),
            image: second.target.digest.clone(),
            host: second.host.clone(),
            runtime: second.runtime.clone(),
            profile: second.profile.clone(),
            runs: second.runs.clone(),
        };
        let mut reasons = differences(&baseline, first);
        if first.target.digest != second.target.digest {
            reasons.push(format!("{} is not {}", first.target.digest, second.target.digest));
        }
        for run in &second.runs {
            let before = first.runs.iter().find(|before| before.limits == run.limits);
            for now in &run.measurements {
                let metric = now.definition();
                let gated = gates.iter().any(|gate| gate.is_about(now) && gate.max_regression.is_some());
                let exact = metric.class == Class::Exact;
                if !gated {
                    continue;
                }
                let key = now.key();
                let same = |it: &&Measurement| it.metric == now.metric && it.case == now.case;
                let Some(before) = before.and_then(|before| before.measurements.iter().find(same)) else {
                    reasons.push(format!("{key} was measured only once"));
                    continue;
                };
                // The second run is what others are measured by; what flatters it hides nothing.
                if let Some(doubt) = now.doubts.first().filter(|_| now.bias() != Some(Bias::Flatters)) {
                    reasons.push(format!("{key}: {doubt}"));
                }
                let larger = before.value.abs().max(now.value.abs());
                let apart = (before.value - now.value).abs();
                if exact && apart > 0.0 {
                    reasons.push(format!("{key} is {} and {}, though it is exact", before.value, now.value));
                } else if apart > AGREEMENT * larger {
                    reasons.push(format!("{key} differs by {:.1} %", 100.0 * apart / larger));
                }
            }
        }
        if reasons.is_empty() { Ok(baseline) } else { Err(Disagreement(reasons)) }
    }

    /// Whether this report may be held against it. Gates on exact metrics alone need only the same version of
    /// tare, for a byte is a byte on every host.
    ///
    /// # Errors
    /// Everything that differs.
    pub fn check(&self, report: &Report, gates: &[Gate]) -> Result<(), BaselineError> {
        let noisy = |gate: &Gate| {
            gate.max_regression.is_some()
                && metric::find(gate.metric).is_some_and(|metric| metric.class == Class::Noisy)
        };
        let mut differences = differences(self, report);
        if !gates.iter().any(noisy) {
            differences.retain(|difference| difference.starts_with(TOOL));
        }
        if differences.is_empty() { Ok(()) } else { Err(BaselineError::Differs(differences)) }
    }

    /// The same figure under the same limits.
    #[must_use]
    pub fn find(&self, limits: Option<&Limits>, measurement: &Measurement) -> Option<&Measurement> {
        let run = self.runs.iter().find(|run| run.limits.as_ref() == limits)?;
        run.measurements.iter().find(|it| it.metric == measurement.metric && it.case == measurement.case)
    }
}

const TOOL: &str = "tare";

/// Every circumstance that differs, as `NAME: BEFORE before, NOW now`.
fn differences(baseline: &Baseline, report: &Report) -> Vec<String> {
    let mut differences = Vec::new();
    let mut compare = |name: &str, before: &str, now: &str| {
        if before != now {
            differences.push(format!("{name}: {before} before, {now} now"));
        }
    };
    compare(TOOL, &baseline.tool, &report.tool);
    for ((name, before), (_, now)) in baseline.host.facts().iter().zip(report.host.facts().iter()) {
        compare(name, before, now);
    }
    let runtime = |it: &Option<RuntimeFacts>| it.as_ref().map_or("none".to_owned(), ToString::to_string);
    compare("runtime", &runtime(&baseline.runtime), &runtime(&report.runtime));
    compare("profile", &baseline.profile.name, &report.profile.name);
    let (before, now) = (&baseline.profile.settings, &report.profile.settings);
    for key in before.keys().chain(now.keys().filter(|key| !before.contains_key(*key))) {
        let value = |map: &std::collections::BTreeMap<String, String>| {
            map.get(key).cloned().unwrap_or_else(|| "none".to_owned())
        };
        compare(key, &value(before), &value(now));
    }
    differences
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::measurement::Doubt;
    use crate::profile::report::undoubted_sample as sample;

    fn gate(metric: &'static str) -> Gate {
        Gate { metric, case: None, max: None, min: None, max_regression: Some(0.05), allow_unreliable: false }
    }

    fn baseline() -> Baseline {
        Baseline::of(&sample(), &sample(), &[]).unwrap()
    }

    #[test]
    fn a_baseline_round_trips_with_its_samples() {
        let text = baseline().to_json().unwrap();
        assert_eq!(Baseline::parse(&text).unwrap(), baseline());
        assert!(text.contains("\"samples\""));
        let other = text.replacen("\"schema\": 3", "\"schema\": 2, \"old\": 1", 1);
        let error = Baseline::parse(&other).unwrap_err().to_string();
        assert_eq!(error, "the text is a baseline of schema 2, and this tare reads schema 3");
        assert_eq!(Baseline::parse("{}").unwrap_err().to_string(), "the text is not a baseline");
    }

    #[test]
    fn a_baseline_of_other_circumstances_is_refused_by_what_differs() {
        let noisy = [gate("throughput.rate")];
        baseline().check(&sample(), &noisy).unwrap();
        let mut other = sample();
        other.host.kernel = "6.1.0".to_owned();
        other.tool = "9.9.9".to_owned();
        other.runtime = None;
        other.profile.settings.insert("connections".to_owned(), "8".to_owned());
        let error = baseline().check(&other, &noisy).unwrap_err();
        let BaselineError::Differs(differences) = &error else { panic!("{error}") };
        assert_eq!(
            differences.as_slice(),
            [
                "tare: 0.1.0 before, 9.9.9 now",
                "kernel: 6.18.0 before, 6.1.0 now",
                "runtime: embedded 0.1.0 before, none now",
                "connections: 64 before, 8 now",
            ]
        );
    }

    #[test]
    fn other_limits_are_another_profile() {
        let mut other = sample();
        other.profile.settings.insert("limits".to_owned(), "2 CPUs".to_owned());
        assert!(baseline().check(&other, &[gate("throughput.rate")]).is_err());
    }

    #[test]
    fn bytes_may_be_compared_with_those_of_another_host() {
        let mut other = sample();
        other.host.kernel = "6.1.0".to_owned();
        baseline().check(&other, &[gate("size.image.compressed")]).unwrap();
        other.tool = "9.9.9".to_owned();
        assert!(baseline().check(&other, &[gate("size.image.compressed")]).is_err());
    }

    #[test]
    fn two_runs_that_disagree_are_no_baseline() {
        let change = |metric: &str, change: &dyn Fn(&mut Measurement)| {
            let mut report = sample();
            for measurement in report.runs.iter_mut().flat_map(|run| &mut run.measurements) {
                if measurement.metric == metric {
                    change(measurement);
                }
            }
            let gates = [gate("throughput.rate"), gate("size.image.compressed")];
            Baseline::of(&sample(), &report, &gates).map_err(|error| error.to_string())
        };
        assert!(change("throughput.rate", &|it| it.value *= 1.1).is_ok());
        assert_eq!(
            change("throughput.rate", &|it| it.value *= 1.25).unwrap_err(),
            "the two runs do not agree: throughput.rate@closed differs by 20.0 %; throughput.rate@open-90 differs by 20.0 %"
        );
        assert_eq!(
            change("size.image.compressed", &|it| it.value += 1.0).unwrap_err(),
            "the two runs do not agree: size.image.compressed is 1500000 and 1500001, though it is exact"
        );
        let doubted =
            change("throughput.rate", &|it| it.doubts = vec![Doubt::Steal { share: 0.1, limit: 0.02 }]);
        assert!(doubted.unwrap_err().contains("throughput.rate@closed: the hypervisor took 10.0 %"));
        // What no gate uses need neither agree nor be beyond doubt.
        assert!(change("throughput.latency.p99", &|it| it.value *= 2.0).is_ok());
        assert!(
            change("startup.warm.ready", &|it| it.doubts = vec![Doubt::Steal { share: 0.1, limit: 0.02 }])
                .is_ok()
        );
        // What makes the baseline look better than it is cannot hide a regression.
        let flattered = |cause: &str, low| Doubt::Capacity { cause: cause.to_owned(), low };
        let memory = |doubt: Doubt| {
            let mut report = sample();
            let peak = Measurement::exact("throughput.memory.peak", 1e6).of_case("open-70");
            report.runs[1].measurements.push(Measurement { doubts: vec![doubt], ..peak });
            Baseline::of(&report, &report, &[gate("throughput.memory.peak")]).is_ok()
        };
        assert!(memory(flattered("generator-bound", true)));
        assert!(!memory(Doubt::Scattered { variation: 0.5, limit: 0.05 }));
    }
}
