//! The report in a terminal: plain text, which says the same without colour.

use std::fmt::Write as _;

use tare_tool::ui::table;

use super::{figure, trust};
use crate::profile::gate::{Outcome, Overall};
use crate::profile::measurement::Measurement;
use crate::profile::metric::Pass;
use crate::profile::report::{Report, Run};

/// The widest line where nobody says how wide the terminal is, and of a wider one.
pub const WIDEST: usize = 110;
/// Below this there is nothing left to wrap.
const NARROWEST: usize = 60;

/// The whole report, for a terminal of so many columns.
#[must_use]
pub fn render(report: &Report, columns: usize) -> String {
    let width = columns.clamp(NARROWEST, WIDEST);
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
        render_run(&mut text, run, width);
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
            push_wrapped(&mut text, width, &format!("{line}  "), &verdict.reason);
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
    let events: usize =
        report.runs.iter().flat_map(|run| &run.events).filter(|event| event.kind.is_failure()).count();
    let word = match report.overall {
        Overall::Pass if report.verdicts.is_empty() => {
            return "Measured; the profile has no gates".to_owned();
        }
        Overall::Pass => "PASS",
        Overall::Fail => "FAIL",
        Overall::Unreliable => "UNRELIABLE",
        Overall::Interrupted => "INTERRUPTED",
    };
    let gates = if counted.is_empty() { String::new() } else { format!(": {} gates", counted.join(", ")) };
    let events = match events {
        0 => String::new(),
        1 => ", and something went wrong".to_owned(),
        events => format!(", and {events} things went wrong"),
    };
    format!("{word}{gates}{events}")
}

fn render_run(text: &mut String, run: &Run, width: usize) {
    for pass in Pass::ALL {
        let of_pass: Vec<&Measurement> =
            run.measurements.iter().filter(|it| it.definition().pass == pass).collect();
        let sections = run.sections.iter().filter(|section| section.pass == pass);
        if of_pass.is_empty() && sections.clone().next().is_none() {
            continue;
        }
        let under = run.limits.as_ref().map(|limits| format!(" under {limits}")).unwrap_or_default();
        let _ = writeln!(text, "\n{}{under}", title(pass));
        if pass == Pass::Throughput {
            text.push_str(&by_case(&of_pass, width));
        } else {
            text.push_str(&one_by_one(&of_pass));
        }
        for section in sections {
            for note in &section.notes {
                push_wrapped(text, width, "  ", &plain(note));
            }
            for list in &section.tables {
                let columns: Vec<&str> = list.columns.iter().map(String::as_str).collect();
                let _ = writeln!(text, "\n  {}", list.title);
                let rows: Vec<Vec<String>> =
                    list.rows.iter().map(|row| row.iter().map(|cell| plain(cell)).collect()).collect();
                let _ = writeln!(text, "{}", table(&columns, &rows, &list.numeric));
            }
        }
        // Every kind of doubt once for a case, with its numbers and what to do; the rest is in the JSON report.
        let mut shown_doubts: Vec<(Option<&str>, &str)> = Vec::new();
        for (measurement, doubt) in
            of_pass.iter().flat_map(|it| it.doubts.iter().map(move |doubt| (it, doubt)))
        {
            let case = measurement.case.as_deref();
            if shown_doubts.contains(&(case, doubt.kind())) {
                continue;
            }
            shown_doubts.push((case, doubt.kind()));
            let case = case.map(|case| format!("{case}: ")).unwrap_or_default();
            push_wrapped(text, width, "  doubt: ", &format!("{case}{doubt}; {}", doubt.advice()));
        }
    }
    for event in &run.events {
        let _ = writeln!(text, "\n{}: {}", event.kind.name().to_uppercase(), plain(&event.message));
        for line in &event.output {
            let _ = writeln!(text, "  | {}", plain(line));
        }
    }
}

/// Without the part that says the pass.
fn short(measurement: &Measurement) -> &str {
    measurement.metric.split_once('.').map_or(measurement.metric, |(_, rest)| rest)
}

/// A line for each figure. Those of a case, such as a layer, stand in the pass's own tables.
fn one_by_one(measurements: &[&Measurement]) -> String {
    let whole = measurements.iter().filter(|it| it.case.is_none());
    let rows: Vec<Vec<String>> = whole.map(|it| vec![short(it).to_owned(), figure(it), trust(it)]).collect();
    if rows.is_empty() {
        return String::new();
    }
    table(&["metric", "value", "95 % interval, or doubts"], &rows, &[1]) + "\n"
}

/// A line for each metric and a column for each load case, in the order in which they were run: in as few
/// tables as fit the width.
fn by_case(measurements: &[&Measurement], width: usize) -> String {
    let mut cases: Vec<Option<&str>> = Vec::new();
    for it in measurements {
        if !cases.contains(&it.case.as_deref()) {
            cases.push(it.case.as_deref());
        }
    }
    let mut text = String::new();
    for at_once in (1..=cases.len()).rev() {
        let tables: Vec<String> = cases
            .chunks(at_once)
            .map(|cases| columns(measurements, cases))
            .filter(|it| !it.is_empty())
            .collect();
        text = tables.join("\n");
        if text.lines().all(|line| line.trim_end().chars().count() <= width) {
            break;
        }
    }
    if measurements.iter().any(|it| it.is_doubtful()) {
        text.push_str("  ? may be better or worse; ≥ and ≤ can only be better: see the doubts below\n");
    }
    text
}

/// The table of some load cases.
fn columns(measurements: &[&Measurement], cases: &[Option<&str>]) -> String {
    let mut metrics: Vec<&str> = Vec::new();
    for it in measurements {
        if !metrics.contains(&it.metric) {
            metrics.push(it.metric);
        }
    }
    // What did not happen in any case is one line: that there were no errors, not which there were not.
    let of = |metric: &str| measurements.iter().filter(move |it| it.metric == metric).collect::<Vec<_>>();
    let silent = |metric: &str| {
        let detail = metric.starts_with("throughput.errors.") || metric.starts_with("throughput.throttled-");
        detail && of(metric).iter().all(|it| it.value == 0.0)
    };
    let mut rows = Vec::new();
    for metric in metrics.into_iter().filter(|metric| !silent(metric)) {
        let figures = of(metric);
        let mut row = vec![figures.first().map(|it| short(it).to_owned()).unwrap_or_default()];
        row.extend(cases.iter().map(|case| {
            let Some(it) = figures.iter().find(|it| it.case.as_deref() == *case) else {
                return String::new();
            };
            let shown = figure(it);
            if shown.ends_with(" ?") { shown } else { shown + "  " }
        }));
        rows.push(row);
    }
    if rows.is_empty() {
        return String::new();
    }
    let header: Vec<String> = cases.iter().map(|case| format!("{}  ", case.unwrap_or("all"))).collect();
    let header: Vec<&str> = std::iter::once("metric").chain(header.iter().map(String::as_str)).collect();
    let right: Vec<usize> = (1..header.len()).collect();
    table(&header, &rows, &right) + "\n"
}

/// Others' words in one line: names in an image and what a server prints may move the cursor or end in colour.
pub(crate) fn plain(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    plain.trim_end().to_owned()
}

fn title(pass: Pass) -> &'static str {
    match pass {
        Pass::Size => "Size",
        Pass::Startup => "Start-up",
        Pass::Throughput => "Throughput",
        Pass::Density => "Density",
        Pass::Isolation => "Isolation",
        Pass::Network => "Between containers",
        Pass::Edge => "Edge",
        Pass::Instructions => "Instructions",
    }
}

/// A text behind `head`, broken at spaces; further lines stand below its beginning.
pub(super) fn wrapped(width: usize, head: &str, rest: &str) -> Vec<String> {
    let indent = head.chars().count().min(width / 2);
    let mut lines = Vec::new();
    let mut line = head.to_owned();
    let mut column = head.chars().count();
    let mut first = true;
    for word in rest.split(' ') {
        let length = word.chars().count();
        if !first && column + 1 + length > width {
            lines.push(line.trim_end().to_owned());
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
    lines.push(line.trim_end().to_owned());
    lines
}

fn push_wrapped(text: &mut String, width: usize, head: &str, rest: &str) {
    for line in wrapped(width, head, rest) {
        let _ = writeln!(text, "{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::report;

    #[test]
    fn load_cases_are_columns_and_doubtful_figures_are_marked() {
        let text = render(&report::sample(), WIDEST);
        let line = |begin: &str| text.lines().find(|line| line.trim_start().starts_with(begin)).unwrap();
        let header = text.lines().find(|line| line.contains("closed")).unwrap();
        assert_eq!(header.split_whitespace().collect::<Vec<_>>(), ["metric", "closed", "open-90"]);
        let rate = line("rate ");
        assert!(rate.contains("31,234 req/s") && rate.trim_end().ends_with("28,000 req/s ?"), "{rate}");
        assert!(text.contains("? may be better or worse"), "{text}");
    }

    #[test]
    fn cases_that_do_not_fit_beside_the_others_stand_below_them() {
        let sample = report::sample();
        let mut run = sample.runs[1].clone();
        for case in ["open-50", "open-70", "open-80"] {
            let more = run.measurements.iter().filter(|it| it.case.as_deref() == Some("open-90"));
            let more: Vec<Measurement> =
                more.map(|it| Measurement { case: Some(case.to_owned()), ..it.clone() }).collect();
            run.measurements.extend(more);
        }
        let report = Report { runs: vec![run], ..sample };
        let headers = |columns| {
            let text = render(&report, columns);
            let headers = text.lines().filter(|line| line.trim_start().starts_with("metric  "));
            let names = |line: &str| line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ");
            headers.map(names).filter(|line| line.contains("-") || line == "closed").collect::<Vec<_>>()
        };
        assert_eq!(headers(200), ["closed open-90 open-50 open-70 open-80"]);
        assert_eq!(headers(80), ["closed open-90 open-50 open-70", "open-80"]);
        let narrow = render(&report, 80);
        let wide: Vec<&str> = narrow.lines().filter(|line| line.chars().count() > 80).collect();
        assert!(wide.iter().all(|line| line.contains("sha256:")), "{wide:?}");
    }
}
