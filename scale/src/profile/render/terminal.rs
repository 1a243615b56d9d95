//! The report in a terminal: plain text of at most 110 columns, which says the same without colour.

use std::fmt::Write as _;

use xtask_tare::ui::table;

use super::{trust, units::shown};
use crate::profile::gate::{Outcome, Overall};
use crate::profile::measurement::Measurement;
use crate::profile::metric::Pass;
use crate::profile::report::{Report, Run};

/// The widest line.
const WIDTH: usize = 110;

/// The whole report.
#[must_use]
pub fn render(report: &Report) -> String {
    let mut text = String::new();
    let names = plain(&report.target.names.join(", "));
    let _ = writeln!(text, "{names} {}", report.target.digest);
    let host = &report.host;
    let _ = writeln!(
        text,
        "  {}, {}, {} CPUs, kernel {}, cgroup {}",
        report.target.platform, host.cpu, host.cpus, host.kernel, host.cgroup
    );
    let runtime = report.runtime.as_ref().map(|runtime| format!(", runtime {runtime}"));
    let _ = writeln!(text, "  profile {}{}", report.profile.name, runtime.unwrap_or_default());
    for run in &report.runs {
        render_run(&mut text, run);
    }
    if !report.verdicts.is_empty() {
        text.push_str("\nGates\n");
        let rows: Vec<Vec<String>> = report
            .verdicts
            .iter()
            .map(|verdict| vec![verdict.outcome.name().to_owned(), verdict.gate.clone()])
            .collect();
        // Reasons are sentences: they go on the line only as far as it reaches.
        let lines = table(&["", ""], &rows, &[]);
        for (line, verdict) in lines.lines().skip_while(|line| line.trim().is_empty()).zip(&report.verdicts) {
            push_wrapped(&mut text, &format!("{line}  "), &verdict.reason);
        }
    }
    let _ = writeln!(text, "\n{}", conclusion(report));
    text
}

/// The report in one line.
#[must_use]
pub fn conclusion(report: &Report) -> String {
    let counted = [
        (Outcome::Pass, "passed"),
        (Outcome::Fail, "failed"),
        (Outcome::Unreliable, "unreliable"),
        (Outcome::Skipped, "not judged"),
    ]
    .into_iter()
    .map(|(outcome, word)| (report.count(outcome), word))
    .filter(|(count, _)| *count > 0)
    .map(|(count, word)| format!("{count} {word}"))
    .collect::<Vec<_>>();
    let events: usize = report.runs.iter().map(|run| run.events.len()).sum();
    let word = match report.overall {
        Overall::Pass if report.verdicts.is_empty() => {
            return "Measured; the profile has no gates".to_owned();
        }
        Overall::Pass => "PASS",
        Overall::Fail => "FAIL",
        Overall::Unreliable => "UNRELIABLE",
    };
    let gates = if counted.is_empty() { String::new() } else { format!(": {} gates", counted.join(", ")) };
    let events = match events {
        0 => String::new(),
        1 => ", and something went wrong".to_owned(),
        events => format!(", and {events} things went wrong"),
    };
    format!("{word}{gates}{events}")
}

fn render_run(text: &mut String, run: &Run) {
    for pass in Pass::ALL {
        let of_pass: Vec<&Measurement> =
            run.measurements.iter().filter(|it| it.definition().pass == pass).collect();
        let sections = run.sections.iter().filter(|section| section.pass == pass);
        if of_pass.is_empty() && sections.clone().next().is_none() {
            continue;
        }
        let under = run.limits.as_ref().map(|limits| format!(" under {limits}")).unwrap_or_default();
        let _ = writeln!(text, "\n{}{under}", title(pass));
        let rows: Vec<Vec<String>> = of_pass
            .iter()
            .map(|it| {
                let short = it.metric.split_once('.').map_or(it.metric, |(_, rest)| rest);
                vec![
                    short.to_owned(),
                    it.case.as_deref().map(plain).unwrap_or_default(),
                    shown(it.value, it.definition().unit),
                    trust(it),
                ]
            })
            .collect();
        if !rows.is_empty() {
            let _ = writeln!(
                text,
                "{}",
                table(&["metric", "case", "value", "95 % of medians, or doubts"], &rows, &[2])
            );
        }
        for section in sections {
            for note in &section.notes {
                push_wrapped(text, "  ", &plain(note));
            }
            for list in &section.tables {
                let columns: Vec<&str> = list.columns.iter().map(String::as_str).collect();
                let _ = writeln!(text, "\n  {}", list.title);
                let rows: Vec<Vec<String>> =
                    list.rows.iter().map(|row| row.iter().map(|cell| plain(cell)).collect()).collect();
                let _ = writeln!(text, "{}", table(&columns, &rows, &list.numeric));
            }
        }
        // Every doubt once, with its numbers and what to do.
        let mut told: Vec<String> = Vec::new();
        let doubts = of_pass.iter().flat_map(|it| it.doubts.iter().map(move |doubt| (it, doubt)));
        for (measurement, doubt) in doubts {
            let case = measurement.case.as_ref().map(|case| format!("{case}: ")).unwrap_or_default();
            let line = format!("{case}{doubt}; {}", doubt.advice());
            if !told.contains(&line) {
                told.push(line);
            }
        }
        for line in told {
            push_wrapped(text, "  doubt: ", &line);
        }
    }
    for event in &run.events {
        let _ = writeln!(text, "\n{}: {}", event.kind.name().to_uppercase(), plain(&event.message));
        for line in &event.output {
            let _ = writeln!(text, "  | {}", plain(line));
        }
    }
}

/// Others' words in one line: names in an image and what a server prints may move the cursor or end in colour.
pub(super) fn plain(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    plain.trim_end().to_owned()
}

fn title(pass: Pass) -> &'static str {
    match pass {
        Pass::Size => "Size",
        Pass::Startup => "Start-up",
        Pass::Throughput => "Throughput",
    }
}

/// A text behind `head`, broken at spaces; further lines stand below its beginning.
fn push_wrapped(text: &mut String, head: &str, rest: &str) {
    let indent = head.chars().count().min(WIDTH / 2);
    let mut line = head.to_owned();
    let mut column = head.chars().count();
    let mut first = true;
    for word in rest.split(' ') {
        let length = word.chars().count();
        if !first && column + 1 + length > WIDTH {
            let _ = writeln!(text, "{}", line.trim_end());
            line = format!("{}{word}", " ".repeat(indent));
            column = indent + length;
        } else {
            if !first {
                line.push(' ');
                column += 1;
            }
            line.push_str(word);
            column += length;
        }
        first = false;
    }
    let _ = writeln!(text, "{}", line.trim_end());
}
