//! Reports as people and other programs read them: a terminal, a pull request, a JUnit reader. JSON is the
//! report itself ([`Report::to_json`](super::report::Report::to_json)).

pub mod difference;
mod headline;
pub mod history;
pub mod junit;
pub mod limits;
pub mod markdown;
pub mod matrix;
pub mod metrics;
pub mod page;
mod passes;
pub mod screen;
pub mod table;
pub mod table_page;
pub mod terminal;
pub mod units;

use std::io;
use std::path::Path;

use tare_oci::blob::{FileError, Staging};
use tare_tool::private;

use super::capacity::Capacity;
use super::matrix::Matrix;
use super::measurement::Measurement;
use super::metric::Direction;
use super::report::Report;
use super::sweep::found::Sweep;
use tare_report::Bias;

/// Writes `report.json`, `report.html`, `report.md` and `junit.xml` to a folder. Of two processes that do so at once the
/// later one's files stay.
///
/// # Errors
/// When a file cannot be written.
pub fn write(report: &Report, folder: &Path) -> Result<(), FileError> {
    private::in_turn(folder, || write_files(report, folder)).map_err(FileError::on("create", folder))?
}

fn write_files(report: &Report, folder: &Path) -> Result<(), FileError> {
    let json = report.to_json().map_err(io::Error::from);
    let page = page::render(std::slice::from_ref(report)).map_err(io::Error::other);
    // All of it is made before the first is written: a signal then hardly ever comes while unfinished files lie there.
    let files = [
        ("report.json", json),
        ("report.html", page),
        ("report.md", Ok(markdown::render(report))),
        ("junit.xml", Ok(junit::render(report))),
    ];
    let staging = Staging::create(folder.join(".staging"))?;
    for (name, text) in files {
        let place = folder.join(name);
        let text = text.map_err(FileError::on("write", &place))?;
        staging.write(&place, text.as_bytes())?;
    }
    Ok(())
}

/// Writes `sweep.json`, `sweep.md` and `sweep.html` to a folder.
///
/// # Errors
/// When a file cannot be written.
pub fn write_sweep(sweep: &Sweep, folder: &Path) -> Result<(), FileError> {
    write_result(folder, "sweep", limits::json(sweep), limits::markdown(sweep), page::sweep(sweep))
}

/// Writes `capacity.json`, `capacity.md` and `capacity.html` to a folder.
///
/// # Errors
/// When a file cannot be written.
pub fn write_capacity(capacity: &Capacity, folder: &Path) -> Result<(), FileError> {
    write_result(
        folder,
        "capacity",
        limits::json(capacity),
        limits::capacity_markdown(capacity),
        page::capacity(capacity),
    )
}

/// Writes `matrix.json` and `matrix.md` to a folder.
///
/// # Errors
/// When a file cannot be written.
pub fn write_matrix(variants: &Matrix, folder: &Path) -> Result<(), FileError> {
    let json = matrix::json(variants).map_err(io::Error::from);
    write_texts(folder, "matrix", vec![("json", json), ("md", Ok(matrix::markdown(variants)))])
}

fn write_result(
    folder: &Path,
    name: &str,
    json: serde_json::Result<String>,
    markdown: String,
    page: Result<String, minijinja::Error>,
) -> Result<(), FileError> {
    let texts = [
        ("json", json.map_err(io::Error::from)),
        ("md", Ok(markdown)),
        ("html", page.map_err(io::Error::other)),
    ];
    write_texts(folder, name, Vec::from(texts))
}

/// Writes files of one name, all of whose texts are made before the first is written.
fn write_texts(folder: &Path, name: &str, texts: Vec<(&str, io::Result<String>)>) -> Result<(), FileError> {
    let write_all = || -> Result<(), FileError> {
        let staging = Staging::create(folder.join(format!(".{name}.staging")))?;
        for (extension, text) in texts {
            let place = folder.join(format!("{name}.{extension}"));
            staging.write(&place, text.map_err(FileError::on("write", &place))?.as_bytes())?;
        }
        Ok(())
    };
    private::in_turn(folder, write_all).map_err(FileError::on("create", folder))?
}

/// A figure as it is shown: with a bound where it can only look worse than it is, and `?` where it may look better.
#[must_use]
pub fn figure(measurement: &Measurement) -> String {
    let definition = measurement.definition();
    let value = units::shown(measurement.value, definition.unit);
    match (measurement.bias(), definition.direction) {
        (None, _) => value,
        (Some(Bias::Understates), Direction::Higher) => format!("≥ {value}"),
        (Some(Bias::Understates), Direction::Lower) => format!("≤ {value}"),
        _ => format!("{value} ?"),
    }
}

/// The same with its interval.
fn figure_with_interval(measurement: &Measurement) -> String {
    let unit = measurement.definition().unit;
    let interval = measurement
        .interval
        .map(|(low, high)| format!(" ({} to {})", units::shown(low, unit), units::shown(high, unit)));
    format!("{}{}", figure(measurement), interval.unwrap_or_default())
}

/// What stands in the last column of a figure: its doubts, or its interval where there is one.
fn trust(measurement: &Measurement) -> String {
    if !measurement.doubts.is_empty() {
        let kinds: Vec<&str> = measurement.doubts.iter().map(super::measurement::Doubt::kind).collect();
        let way = if measurement.bias() == Some(Bias::Understates) { "understated" } else { "doubtful" };
        return format!("{way}: {}", kinds.join(", "));
    }
    let unit = measurement.definition().unit;
    match measurement.interval {
        Some((low, high)) => format!("{} to {}", units::shown(low, unit), units::shown(high, unit)),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::report::sample;

    #[test]
    fn reports_that_are_written_at_once_do_not_mix() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("app/ci");
        let report = |name: &str| {
            let mut report = sample();
            report.target.names = vec![name.to_owned()];
            report
        };
        for _ in 0..20 {
            std::thread::scope(|scope| {
                for name in ["first", "second", "third"] {
                    let place = &place;
                    scope.spawn(move || write(&report(name), place).unwrap());
                }
            });
            let read = |file: &str| std::fs::read_to_string(place.join(file)).unwrap();
            let json = Report::parse(&read("report.json")).unwrap();
            assert_eq!(read("report.md"), markdown::render(&json));
            assert_eq!(read("junit.xml"), junit::render(&json));
            assert_eq!(std::fs::read_dir(&place).unwrap().count(), 4);
        }
    }
}
