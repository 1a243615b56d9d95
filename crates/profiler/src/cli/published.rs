//! A baseline that is a published image: the image is measured again in turns with the new one, as that of a folder is,
//! and its sizes are those of the report that is attached to it.

use std::path::Path;

use anyhow::Context as _;
use tare_oci::input;
use tare_tool::exit::Hinted;
use tare_tool::plan::{BASELINE, is_reference, reports};

use super::images::NotBuilt;
use super::stage::{self, Session};
use crate::profile::baseline::Baseline;
use crate::profile::definition::Profile;
use crate::profile::report::Report;
use crate::profile::request::Image;

/// The reference, if a baseline is given by one and not by a file or folder.
pub(super) fn reference(baseline: Option<&Path>) -> Option<&str> {
    baseline?.to_str().filter(|text| is_reference(text))
}

/// The baseline of a published image, and the image where it has to run.
pub(super) fn baseline(
    reference: &str,
    profile: &Profile,
    session: &Session,
) -> anyhow::Result<(Baseline, Option<Image>)> {
    let planned = session.plan.images.iter().find(|image| image.name.starts_with(BASELINE));
    let planned = planned.ok_or_else(|| NotBuilt::new(format!("image {reference}")))?;
    let mut image = Image::open(&planned.location, &stage::temporary(&session.cache())?)?;
    image.name = "the baseline".to_owned();
    let digest = image.target.digest.unwrap_or(image.target.image_id).to_string();
    let report = newest(&reports(Path::new(&planned.location)), &profile.name, &digest)?;
    let Some(report) = report else {
        let message = format!("{reference} has no report of profile {} for this platform", profile.name);
        let command = tare_tool::environment::command();
        let hint = format!(
            "reports that are there when an image is published are attached to it: `{command} profile NAME --profile \
             PROFILE`, then `{command} publish NAME`; or name a file or folder of --save-baseline"
        );
        return Err(Hinted::new(message, hint).into());
    };
    let exact: Vec<_> = profile.gates.iter().filter(|gate| gate.is_exact()).cloned().collect();
    Ok((Baseline::of(&report, &report, &exact)?, profile.runs_image().then_some(image)))
}

/// The newest report of a profile about an image. Reports of other versions of tare are left out.
fn newest(folder: &Path, profile: &str, digest: &str) -> anyhow::Result<Option<Report>> {
    let cannot = || format!("cannot read {}", folder.display());
    let mut found: Option<Report> = None;
    for entry in std::fs::read_dir(folder).with_context(cannot)? {
        let text = input::read_to_string(&entry.with_context(cannot)?.path()).with_context(cannot)?;
        let Ok(report) = Report::parse(&text) else { continue };
        let is_meant = report.profile.name == profile && report.target.digest == digest;
        // Times in RFC 3339 of one zone are ordered as texts.
        if is_meant && found.as_ref().is_none_or(|known| known.taken < report.taken) {
            found = Some(report);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_baseline_is_a_reference_where_it_begins_with_a_host() {
        for (path, expected) in [
            ("ghcr.io/team/app:1.2.0", true),
            ("localhost:5000/app@sha256:00", true),
            ("ci.baseline/", false),
            ("ci.json", false),
            ("./ghcr.io/app", false),
            ("baselines/app.json", false),
        ] {
            assert_eq!(reference(Some(Path::new(path))).is_some(), expected, "{path}");
        }
        assert_eq!(reference(None), None);
    }

    #[test]
    fn the_newest_report_of_the_image_and_profile_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let sample = Report::parse(include_str!("../../../report/tests/report.json")).unwrap();
        for (at, (profile, digest, taken)) in [
            ("ci", "sha256:a", "2026-01-01T00:00:00Z"),
            ("ci", "sha256:a", "2026-01-03T00:00:00Z"),
            ("ci", "sha256:b", "2026-01-04T00:00:00Z"),
            ("default", "sha256:a", "2026-01-05T00:00:00Z"),
        ]
        .into_iter()
        .enumerate()
        {
            let mut report = sample.clone();
            report.profile.name = profile.to_owned();
            (report.target.digest, report.taken) = (digest.to_owned(), taken.to_owned());
            std::fs::write(folder.path().join(format!("{at}.json")), report.to_json().unwrap()).unwrap();
        }
        std::fs::write(folder.path().join("x.json"), "{}").unwrap();
        let taken = |profile: &str, digest: &str| {
            newest(folder.path(), profile, digest).unwrap().map(|report| report.taken)
        };
        assert_eq!(taken("ci", "sha256:a").as_deref(), Some("2026-01-03T00:00:00Z"));
        assert_eq!(taken("tiny", "sha256:a"), None);
    }
}
