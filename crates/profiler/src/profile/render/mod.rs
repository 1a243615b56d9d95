//! Reports as people and other programs read them: a terminal, a pull request, a JUnit reader. JSON is the
//! report itself ([`Report::to_json`](super::report::Report::to_json)).

pub mod junit;
pub mod markdown;
pub mod metrics;
pub mod terminal;
pub mod units;

use super::measurement::Measurement;

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
