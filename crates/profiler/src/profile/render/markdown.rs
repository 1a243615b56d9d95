//! The report for a pull request or a job's summary: GitHub's Markdown.

use std::fmt::Write as _;

use super::terminal::{conclusion, plain};
use super::{trust, units::shown};
use crate::profile::gate::Outcome;
use crate::profile::metric::Pass;
use crate::profile::report::{Report, Table};

/// The whole report.
#[must_use]
pub fn render(report: &Report) -> String {
    let mut text = String::new();
    let name = report.target.names.first().map_or(report.target.digest.as_str(), String::as_str);
    let _ = writeln!(text, "## {}: {}\n", escaped(name), escaped(&conclusion(report)));
    if !report.verdicts.is_empty() {
        text.push_str("| gate | verdict | why |\n|---|---|---|\n");
        for verdict in &report.verdicts {
            let limits = verdict.limits.as_ref().map(|it| format!(" ({it})")).unwrap_or_default();
            let mark = match verdict.outcome {
                Outcome::Pass => "pass",
                Outcome::Fail => "**fail**",
                Outcome::Unreliable => "**unreliable**",
                Outcome::Skipped => "not judged",
            };
            let (gate, why) = (code(&verdict.gate), escaped(&verdict.reason));
            let _ = writeln!(text, "| {gate}{} | {mark} | {why} |", escaped(&limits));
        }
        text.push('\n');
    }
    for run in &report.runs {
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
        let heading = run.limits.as_ref().map_or("Size".to_owned(), |limits| format!("Under {limits}"));
        let _ = writeln!(text, "<details><summary>{}</summary>\n", escaped(&heading));
        for pass in Pass::ALL {
            let of_pass: Vec<_> = run.measurements.iter().filter(|it| it.definition().pass == pass).collect();
            if !of_pass.is_empty() {
                text.push_str("| metric | case | value | 95 % of medians, or doubts |\n|---|---|---:|---|\n");
                for it in of_pass {
                    let case = it.case.as_deref().map(escaped).unwrap_or_default();
                    let value = shown(it.value, it.definition().unit);
                    let _ =
                        writeln!(text, "| `{}` | {case} | {value} | {} |", it.metric, escaped(&trust(it)));
                }
                text.push('\n');
            }
            for section in run.sections.iter().filter(|section| section.pass == pass) {
                for note in &section.notes {
                    let _ = writeln!(text, "- {}", escaped(note));
                }
                for list in &section.tables {
                    render_table(&mut text, list);
                }
            }
        }
        text.push_str("</details>\n\n");
    }
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
fn escaped(text: &str) -> String {
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
