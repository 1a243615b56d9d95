//! The profile of an image: whether its gates let it be published, and the report that travels with it.
//!
//! A report belongs to an image by the digest of its manifest. So it is a referrer and no annotation of the image: an
//! image cannot hold what was measured of it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use oci_spec::image::Descriptor;
use tare_oci::units::ByteSize;
use tare_report::metric::Unit;
use tare_report::{Measurement, Outcome, Overall, Report};

use crate::content::Content;
use crate::error::Error;
use crate::referrers::{Artifact, payloads};
use crate::registry::Repository;

/// The media type of a report.json.
pub const REPORT: &str = "application/vnd.tare.report+json";

/// A report and where it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundReport {
    /// The file, or the reference of its artifact.
    pub place: PathBuf,
    /// The text of it, which is published as it is.
    pub bytes: Vec<u8>,
    /// What it says.
    pub report: Report,
}

impl FoundReport {
    /// Reads a report.json.
    ///
    /// # Errors
    /// When it is none, or of another version of tare.
    pub fn parse(place: PathBuf, bytes: Vec<u8>) -> Result<Self, Error> {
        let wrong =
            |why: &dyn std::fmt::Display| Error::Input(format!("{} cannot be used: {why}", place.display()));
        let text = std::str::from_utf8(&bytes).map_err(|error| wrong(&error))?;
        let report = Report::parse(text).map_err(|error| wrong(&error))?;
        Ok(Self { place, bytes, report })
    }
}

/// Refuses an image whose gates failed or, of the profiles that it requires, were not judged.
///
/// `images` are the digests of its manifests. Reports of other images count for nothing. Of several platforms one must
/// have been measured, because a machine measures its own.
///
/// # Errors
/// When a gate failed, or a required profile has no report in which a gate passed.
pub fn check_gates(images: &[&str], required: &[String], reports: &[FoundReport]) -> Result<(), Error> {
    let own: Vec<&FoundReport> =
        reports.iter().filter(|found| images.contains(&found.report.target.digest.as_str())).collect();
    for FoundReport { place, report, .. } in &own {
        if !report.overall.passed() {
            let mut failed = report
                .verdicts
                .iter()
                .filter(|verdict| matches!(verdict.outcome, Outcome::Fail | Outcome::Unreliable));
            let otherwise = match report.overall {
                Overall::Interrupted => "the measurement was interrupted",
                _ => "the server failed",
            };
            let why = failed.next().map_or(otherwise, |verdict| verdict.reason.as_str());
            return Err(Error::Gates(format!(
                "the gates of profile {} did not pass: {why} ({})",
                report.profile.name,
                place.display()
            )));
        }
    }
    for profile in required {
        let mut of_profile = own.iter().filter(|found| found.report.profile.name == *profile).peekable();
        if of_profile.peek().is_none() {
            let what = format!("profile {profile} is required, and there is no report of it for this image");
            return Err(Error::Gates(what));
        }
        if !of_profile.any(|found| found.report.count(Outcome::Pass) > 0) {
            let what = format!("profile {profile} is required, and none of its gates was judged");
            return Err(Error::Gates(what));
        }
    }
    Ok(())
}

/// The report as an artifact of its image, with the figures that people look for as annotations.
#[must_use]
pub fn artifact(subject: &Descriptor, name: &str, found: &FoundReport) -> Artifact {
    let profile = &found.report.profile.name;
    let platform = found.report.target.platform.replace('/', "-");
    let file = format!("{name}-{platform}.{profile}.report.json");
    Artifact::new(subject, REPORT, &file, found.bytes.clone(), annotations(&found.report))
}

/// The reports that a registry has of the image's manifests; none that another version of tare wrote.
///
/// # Errors
/// When the registry cannot be asked.
pub fn attached_reports(repository: &Repository, content: &Content<'_>) -> Result<Vec<FoundReport>, Error> {
    let mut found = Vec::new();
    for image in content.manifests() {
        for (digest, bytes) in payloads(repository, image.descriptor.digest(), REPORT)? {
            let place = format!("{}@{digest}", repository.name());
            found.extend(FoundReport::parse(place.into(), bytes).ok());
        }
    }
    Ok(found)
}

/// Size, start-up, CPU per request and peak memory, as far as the report has them. Under several limits those of the
/// first; of several loads those of the last fixed rate, which is the highest.
fn annotations(report: &Report) -> BTreeMap<String, String> {
    let mut annotations = BTreeMap::from([
        ("tare.profile".to_owned(), report.profile.name.clone()),
        ("tare.verdict".to_owned(), report.overall.name().to_owned()),
        ("tare.taken".to_owned(), report.taken.clone()),
    ]);
    let limits = report.runs.iter().find_map(|run| run.limits.as_ref());
    annotations.extend(limits.map(|limits| ("tare.limits".to_owned(), limits.to_string())));
    for metric in [
        "size.image.compressed",
        "size.image.uncompressed",
        "startup.warm.ready",
        "throughput.cpu-per-request",
        "throughput.memory.peak",
    ] {
        let of_run = |run: &tare_report::Run| {
            let all = run.measurements.iter().filter(|it| it.metric == metric);
            let mut open =
                all.clone().filter(|it| it.case.as_deref().is_some_and(|case| case.starts_with("open")));
            open.next_back().or_else(|| all.clone().next()).cloned()
        };
        if let Some(found) = report.runs.iter().find_map(of_run) {
            annotations.insert(format!("tare.{}", found.key()), shown(&found));
        }
    }
    annotations
}

/// A figure with its unit, and a question mark where something speaks against it.
fn shown(measurement: &Measurement) -> String {
    let doubt = if measurement.is_doubtful() { " ?" } else { "" };
    let value = measurement.value;
    let text = match measurement.definition().unit {
        Unit::Bytes => ByteSize(value as u64).to_string(),
        Unit::Nanoseconds if value >= 1e6 => format!("{:.2} ms", value / 1e6),
        Unit::Nanoseconds => format!("{:.2} µs", value / 1e3),
        unit => format!("{value} {}", unit.symbol()),
    };
    text + doubt
}

#[cfg(test)]
mod tests {
    use tare_report::Verdict;

    use super::*;

    fn report(profile: &str, outcomes: &[Outcome]) -> FoundReport {
        let text = include_str!("../../report/tests/report.json");
        let mut report = Report::parse(text).unwrap();
        let verdict = |outcome: &Outcome| Verdict {
            gate: "size.image.compressed".to_owned(),
            limits: None,
            outcome: *outcome,
            value: None,
            reason: "2 MB is over 1 MB".to_owned(),
        };
        report.verdicts = outcomes.iter().map(verdict).collect();
        report.overall = Overall::of(&report.verdicts);
        report.profile.name = profile.to_owned();
        report.target.digest = "sha256:a".to_owned();
        FoundReport { place: "report.json".into(), bytes: text.into(), report }
    }

    #[test]
    fn gates_that_failed_or_are_missing_refuse() {
        let required = ["ci".to_owned()];
        let failed = "the gates of profile ci did not pass: 2 MB is over 1 MB (report.json)";
        let missing = "profile ci is required, and there is no report of it for this image";
        let unjudged = "profile ci is required, and none of its gates was judged";
        use Outcome::{Fail, Pass, Skipped, Unreliable};
        for (required, reports, expected) in [
            (&required[..], vec![report("ci", &[Pass, Skipped])], None),
            (&[], vec![], None),
            (&[], vec![report("ci", &[Pass, Fail])], Some(failed)),
            (&required, vec![report("ci", &[Unreliable])], Some(failed)),
            (&required, vec![], Some(missing)),
            (&required, vec![report("default", &[Pass])], Some(missing)),
            (&required, vec![report("ci", &[Skipped])], Some(unjudged)),
            (&required, vec![report("ci", &[])], Some(unjudged)),
        ] {
            let result = check_gates(&["sha256:b", "sha256:a"], required, &reports);
            assert_eq!(
                result.map_err(|error| error.to_string()),
                expected.map_or(Ok(()), |text| Err(text.to_owned()))
            );
            // A report of another image.
            let other = check_gates(&["sha256:b"], required, &reports);
            assert_eq!(other.is_ok(), required.is_empty());
        }
    }

    #[test]
    fn the_figures_that_people_look_for_are_annotations() {
        let mut report = report("ci", &[Outcome::Pass]).report;
        let of_case =
            |case: &str, value| Measurement::exact("throughput.cpu-per-request", value).of_case(case);
        let run = report.runs.iter_mut().find(|run| run.limits.is_some()).unwrap();
        run.measurements.extend([
            of_case("open-50", 1.0),
            of_case("open-70", 5_370.0),
            of_case("closed", 2.0),
        ]);
        let expected = [
            ("tare.limits", "0.5 CPU, 64MiB memory"),
            ("tare.profile", "ci"),
            ("tare.size.image.compressed", "1.50 MB"),
            ("tare.startup.warm.ready", "4.20 ms"),
            ("tare.taken", "2026-11-24T00:00:00Z"),
            ("tare.throughput.cpu-per-request@open-70", "5.37 µs"),
            ("tare.verdict", "pass"),
        ];
        let annotations = annotations(&report);
        let found: Vec<(&str, &str)> =
            annotations.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(found, expected);
    }
}
