//! Baselines: what was measured before, with everything that must be the same for a comparison to mean
//! something.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tare_oci::input;
use tare_tool::private;

use super::definition::{Gate, Limits};
use super::measurement::Measurement;
use super::metric::{self, Class};
use tare_report::report::{Host, ProfileFacts, Report, Run, RuntimeFacts};

/// The version of the file's form.
pub const SCHEMA: u32 = 2;

/// By which part two runs may differ and still agree. Wider than any gate: it is to keep a disturbed run from
/// becoming what others are measured by, not to judge the image.
pub const AGREEMENT: f64 = 0.15;

/// What must agree besides what the gates name: the figures that repeat best.
const KEY_METRICS: [&str; 4] =
    ["startup.warm.ready", "startup.warm.cpu-to-ready", "throughput.rate", "throughput.cpu-per-request"];

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
    /// It is not a baseline, or of another version.
    #[error("this is not a baseline of this version: {0}")]
    Form(String),
    /// It was measured in other circumstances.
    #[error("the baseline does not fit: {}", .0.join("; "))]
    Differs(Vec<String>),
}

impl BaselineError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let differs = matches!(self, Self::Differs(_));
        differs.then(|| "measure a new one in these circumstances: `--save-baseline FILE`".to_owned())
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
        let baseline: Self =
            input::from_json(text.as_bytes()).map_err(|error| BaselineError::Form(error.to_string()))?;
        if baseline.schema != SCHEMA {
            return Err(BaselineError::Form(format!("its schema is {}", baseline.schema)));
        }
        Ok(baseline)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, or is not a baseline of this version.
    pub fn read(path: &Path) -> Result<Self, BaselineError> {
        let unread = |source| BaselineError::Read { path: path.to_path_buf(), source };
        Self::parse(&input::read_to_string(path).map_err(unread)?).map_err(|error| match error {
            BaselineError::Form(why) => BaselineError::Form(format!("{}: {why}", path.display())),
            error => error,
        })
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
    /// When they differ in what must be the same, in an exact figure, or by more than [`AGREEMENT`] in one
    /// that a gate or the comparison of runs relies on; or when one of those is doubtful.
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
                let gated =
                    gates.iter().any(|gate| gate.metric == now.metric && gate.max_regression.is_some());
                let exact = metric.class == Class::Exact;
                if !exact && !gated && !KEY_METRICS.contains(&now.metric) {
                    continue;
                }
                let key = now.key();
                let same = |it: &&Measurement| it.metric == now.metric && it.case == now.case;
                let Some(before) = before.and_then(|before| before.measurements.iter().find(same)) else {
                    reasons.push(format!("{key} was measured only once"));
                    continue;
                };
                if let Some(doubt) = before.doubts.iter().chain(&now.doubts).next() {
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
        let other = text.replacen("\"schema\": 2", "\"schema\": 9", 1);
        let error = Baseline::parse(&other).unwrap_err().to_string();
        assert_eq!(error, "this is not a baseline of this version: its schema is 9");
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
            Baseline::of(&sample(), &report, &[]).map_err(|error| error.to_string())
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
        // What varies by nature need not agree.
        assert!(change("throughput.latency.p99", &|it| it.value *= 2.0).is_ok());
    }
}
