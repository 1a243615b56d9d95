//! The report for a pull request or a job's summary: GitHub's Markdown.

use std::fmt::Write as _;

use super::headline;
use super::screen::verdict;
use super::terminal::plain;
use super::{figure, passes, trust};
use crate::profile::gate::{Outcome, Verdict};
use crate::profile::measurement::Measurement;
use crate::profile::metric::Pass;
use crate::profile::report::{Event, Report, Run, Table};

/// Sets of limits, events and gates that stand unfolded, at most of each: with all else not more than 60 lines.
const LIMITS: usize = 8;
const EVENTS: usize = 6;
const GATES: usize = 12;

/// The whole report: what it came to, and the rest folded.
#[must_use]
pub fn render(report: &Report) -> String {
    let mut text = String::new();
    let name = report.target.names.first().map_or(report.target.digest.as_str(), String::as_str);
    let _ = writeln!(text, "## {}: {}\n", escaped(name), escaped(&verdict(report)));
    figures(&mut text, report);
    let events: Vec<&Event> = report.runs.iter().flat_map(|run| &run.events).collect();
    for event in events.iter().take(EVENTS) {
        let message = escaped(&event.message);
        let _ = writeln!(text, "**{}** in the {} pass: {message}\n", event.kind.name(), event.pass.name());
    }
    if let Some((case, doubt, others)) = headline::doubt(report) {
        let others =
            if others.is_empty() { String::new() } else { format!(" Other doubts: {}.", others.join(", ")) };
        let _ =
            writeln!(text, "Doubt: {}\n", escaped(&format!("{case}{doubt}; {}.{others}", doubt.advice())));
    }
    let wrong = |verdict: &&Verdict| matches!(verdict.outcome, Outcome::Fail | Outcome::Unreliable);
    let wrong: Vec<&Verdict> = report.verdicts.iter().filter(wrong).collect();
    let (unfolded, rest) = wrong.split_at(wrong.len().min(GATES));
    gates(&mut text, unfolded);
    if !rest.is_empty() {
        let names: Vec<&str> = rest.iter().map(|verdict| verdict.gate.as_str()).collect();
        let _ = writeln!(text, "Also: {}\n", escaped(&names.join(", ")));
    }
    if !report.verdicts.is_empty() {
        text.push_str("<details><summary>All gates</summary>\n\n");
        gates(&mut text, &report.verdicts.iter().collect::<Vec<_>>());
        text.push_str("</details>\n\n");
    }
    text.push_str("<details><summary>All figures</summary>\n\n");
    report.runs.iter().for_each(|run| folded(&mut text, run));
    text.push_str("</details>\n\n");
    let host = &report.host;
    let runtime = report.runtime.as_ref().map(|runtime| format!(", runtime {runtime}")).unwrap_or_default();
    let line = format!(
        "{}, profile {}{runtime}, {}, {} CPUs, kernel {}, cgroup {}, tare {}",
        report.target.platform,
        report.profile.name,
        host.cpu,
        host.cpus,
        host.kernel,
        host.cgroup,
        report.tool
    );
    let _ = writeln!(text, "{} · {}", code(&report.target.digest), escaped(&line));
    text
}

/// The figures that a reader wants first.
fn figures(text: &mut String, report: &Report) {
    let head = headline::of(report);
    if let Some(compressed) = head.compressed {
        let parts: Vec<String> = head.parts.iter().map(|part| escaped(part)).collect();
        let parts =
            if parts.is_empty() { String::new() } else { format!("; largest files: {}", parts.join(", ")) };
        let _ = writeln!(text, "{} compressed{parts}\n", figure(compressed));
    }
    let runs: Vec<&Run> = report.runs.iter().filter(|run| run.limits.is_some()).collect();
    if runs.is_empty() {
        return;
    }
    text.push_str(
        "| limits | ready | CPU per request | rate | p99 | peak memory |\n|---|---:|---:|---:|---:|---:|\n",
    );
    for run in runs.iter().take(LIMITS) {
        let head = headline::of_run(run);
        let limits = run.limits.as_ref().map(ToString::to_string).unwrap_or_default();
        let cell = |it: Option<&Measurement>| it.map_or_else(|| "-".to_owned(), figure);
        let (cost, rate) = head.capacity.map_or((None, None), |case| (case.cost, case.rate));
        let p99 = head.latency.and_then(|case| Some(format!("{} {}", figure(case.p99?), case.label())));
        let p99 = p99.unwrap_or_else(|| "-".to_owned());
        let [ready, cost, rate, peak] = [head.ready, cost, rate, head.peak].map(cell);
        let _ = writeln!(text, "| {} | {ready} | {cost} | {rate} | {p99} | {peak} |", escaped(&limits));
    }
    let rest: Vec<String> =
        runs.iter().skip(LIMITS).filter_map(|run| Some(run.limits.as_ref()?.to_string())).collect();
    text.push('\n');
    if !rest.is_empty() {
        let _ = writeln!(text, "Below only: {}\n", escaped(&rest.join("; ")));
    }
    for run in runs.iter().take(LIMITS) {
        let limits = run.limits.as_ref().filter(|_| runs.len() > 1).map(|limits| format!(" under {limits}"));
        for (label, line) in passes::lines(run) {
            let _ = writeln!(
                text,
                "{label}{}: {}\n",
                escaped(limits.as_deref().unwrap_or_default()),
                escaped(&line)
            );
        }
    }
}

fn gates(text: &mut String, verdicts: &[&Verdict]) {
    if verdicts.is_empty() {
        return;
    }
    text.push_str("| gate | verdict | why |\n|---|---|---|\n");
    for verdict in verdicts {
        let limits = verdict.limits.as_ref().map(|it| format!(" ({it})")).unwrap_or_default();
        let mark = match verdict.outcome {
            Outcome::Pass => "pass",
            Outcome::Fail => "**fail**",
            Outcome::Unreliable => "**in doubt**",
            Outcome::Skipped => "not judged",
        };
        let (gate, why) = (code(&verdict.gate), escaped(&verdict.reason));
        let _ = writeln!(text, "| {gate}{} | {mark} | {why} |", escaped(&limits));
    }
    text.push('\n');
}

/// Everything of one run.
fn folded(text: &mut String, run: &Run) {
    let heading = run.limits.as_ref().map_or("Size".to_owned(), |limits| format!("Under {limits}"));
    let _ = writeln!(text, "<details><summary>{}</summary>\n", escaped(&heading));
    for event in &run.events {
        let _ = writeln!(text, "**{}**: {}\n", event.kind.name(), escaped(&event.message));
        if !event.output.is_empty() {
            // Indented code: no fence that the output could close.
            for line in &event.output {
                let _ = writeln!(text, "    {}", plain(line));
            }
            text.push('\n');
        }
    }
    for pass in Pass::ALL {
        let of_pass: Vec<_> = run.measurements.iter().filter(|it| it.definition().pass == pass).collect();
        if !of_pass.is_empty() {
            text.push_str("| metric | case | value | 95 % interval, or doubts |\n|---|---|---:|---|\n");
            for it in of_pass {
                let case = it.case.as_deref().map(escaped).unwrap_or_default();
                let _ =
                    writeln!(text, "| `{}` | {case} | {} | {} |", it.metric, figure(it), escaped(&trust(it)));
            }
            text.push('\n');
        }
        for section in run.sections.iter().filter(|section| section.pass == pass) {
            for note in &section.notes {
                let _ = writeln!(text, "- {}", escaped(note));
            }
            for list in &section.tables {
                render_table(text, list);
            }
        }
    }
    text.push_str("</details>\n\n");
}

/// A table with its title.
pub(crate) fn render_table(text: &mut String, list: &Table) {
    let _ = writeln!(text, "\n{}\n", escaped(&list.title));
    let row = |cells: &[String]| cells.iter().map(|cell| escaped(cell)).collect::<Vec<_>>().join(" | ");
    let rule = (0..list.columns.len()).map(|at| if list.numeric.contains(&at) { "---:" } else { "---" });
    let _ = writeln!(text, "| {} |\n|{}|", row(&list.columns), rule.collect::<Vec<_>>().join("|"));
    for cells in &list.rows {
        let _ = writeln!(text, "| {} |", row(cells));
    }
    text.push('\n');
}

/// Text that is neither markup nor HTML nor the end of a cell: names in an image are others' words.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '~' | '@' | '!' => {
                escaped.push('\\');
                escaped.push(c);
            }
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A name in code; a backtick would end it.
fn code(text: &str) -> String {
    if text.contains(['`', '|', '\n']) { escaped(text) } else { format!("`{text}`") }
}
