//! Reports as people and other programs read them: a terminal, a pull request, a JUnit reader. JSON is the
//! report itself ([`Report::to_json`](super::report::Report::to_json)).

pub mod junit;
pub mod markdown;
pub mod metrics;
pub mod terminal;
pub mod units;

use std::path::Path;

use tare_oci::blob::{FileError, Staging};

use super::measurement::Measurement;
use super::report::Report;

/// Writes `report.json`, `report.md` and `junit.xml` to a folder.
///
/// # Errors
/// When a file cannot be written.
pub fn write(report: &Report, folder: &Path) -> Result<(), FileError> {
    let staging = Staging::create(folder.join(".staging"))?;
    let place = folder.join("report.json");
    let json = report.to_json().map_err(|error| FileError::on("write", &place)(error.into()))?;
    staging.write(&place, json.as_bytes())?;
    staging.write(&folder.join("report.md"), markdown::render(report).as_bytes())?;
    staging.write(&folder.join("junit.xml"), junit::render(report).as_bytes())
}

/// What stands in the last column of a figure: its doubts, or its interval where there is one.
fn trust(measurement: &Measurement) -> String {
    if !measurement.doubts.is_empty() {
        let kinds: Vec<&str> = measurement.doubts.iter().map(super::measurement::Doubt::kind).collect();
        return format!("doubtful: {}", kinds.join(", "));
    }
    let unit = measurement.definition().unit;
    match measurement.interval {
        Some((low, high)) => format!("{} to {}", units::shown(low, unit), units::shown(high, unit)),
        None => String::new(),
    }
}
