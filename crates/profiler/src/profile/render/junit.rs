//! The gates as test cases, in the form that CI systems read (JUnit's XML, as Jenkins' xunit plugin describes
//! it). Forty lines of XML spare the five crates that a library for it brings along.

use std::fmt::Write as _;

use crate::profile::gate::{Outcome, Verdict};
use crate::profile::report::Report;

/// The whole document. What is unreliable is a failure to a reader that knows no third thing.
#[must_use]
pub fn render(report: &Report) -> String {
    let events = report.runs.iter().flat_map(|run| &run.events);
    // A finding is no failed test.
    let events: Vec<_> = events.filter(|event| event.kind.is_failure()).collect();
    let failures = report.count(Outcome::Fail) + report.count(Outcome::Unreliable);
    let (tests, errors) = (report.verdicts.len() + events.len(), events.len());
    let skipped = report.count(Outcome::Skipped);
    let name = report.target.names.first().map_or(report.target.digest.as_str(), String::as_str);
    let (name, class) = (escaped(name), escaped(&report.profile.name));
    let counts =
        format!("tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\" skipped=\"{skipped}\"");
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(text, "<testsuites name=\"tare\" {counts}>");
    let _ = writeln!(text, "  <testsuite name=\"{name}\" timestamp=\"{}\" {counts}>", escaped(&report.taken));
    for verdict in &report.verdicts {
        let _ = writeln!(text, "    <testcase classname=\"{class}\" name=\"{}\">", escaped(&case(verdict)));
        let reason = escaped(&verdict.reason);
        let _ = match verdict.outcome {
            Outcome::Pass => writeln!(text, "      <system-out>{reason}</system-out>"),
            Outcome::Skipped => writeln!(text, "      <skipped message=\"{reason}\"/>"),
            Outcome::Fail | Outcome::Unreliable => {
                let kind = verdict.outcome.name();
                writeln!(text, "      <failure type=\"{kind}\" message=\"{reason}\"/>")
            }
        };
        text.push_str("    </testcase>\n");
    }
    for event in events {
        let (kind, message) = (event.kind.name(), escaped(&event.message));
        let _ = writeln!(text, "    <testcase classname=\"{class}\" name=\"{}\">", event.pass.name());
        let output = escaped(&event.output.join("\n"));
        let _ = writeln!(text, "      <error type=\"{kind}\" message=\"{message}\">{output}</error>");
        text.push_str("    </testcase>\n");
    }
    text.push_str("  </testsuite>\n</testsuites>\n");
    text
}

/// A gate's name, with the limits where it is judged under several.
fn case(verdict: &Verdict) -> String {
    match &verdict.limits {
        None => verdict.gate.clone(),
        Some(limits) => format!("{} ({limits})", verdict.gate),
    }
}

/// Text in an attribute or an element. XML 1.0 has no way to write most control characters.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' => escaped.push_str("&#10;"),
            '\t' => escaped.push_str("&#9;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}
