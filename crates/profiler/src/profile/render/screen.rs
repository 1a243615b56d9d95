//! The first screen: what a measurement came to, in at most 24 lines of 80 columns. Everything else is in the files and in
//! `--full`.
//!
//! Plain text, which says the same without colour and on any background.

use tare_tool::ui::table;

use super::headline::{self, Case, Headline};
use super::terminal::{plain, wrapped};
use super::{figure, figure_with_interval, passes};
use crate::profile::gate::{self, Outcome, Overall, Verdict};
use crate::profile::report::{Event, Report, Run};

/// The most lines, which a terminal of the least usual height shows.
pub const LINES: usize = 24;
/// The widest line.
pub const COLUMNS: usize = 80;
/// Where the text behind a label begins.
const LABEL: usize = 10;
/// The most sets of limits that stand in the table.
const LIMITS: usize = 6;

/// What the screen says of the call that made the report.
#[derive(Debug, Clone, Copy, Default)]
pub struct Call<'a> {
    /// The command that measures the same again, without a baseline.
    pub command: &'a str,
    /// The image as the command line names it.
    pub image: &'a str,
    /// The folder of the files, as it is shown.
    pub folder: &'a str,
    /// The file that the baseline was read from or is saved to.
    pub baseline: Option<&'a str>,
}

/// Lines under one label. What does not fit on the screen is taken from the end of the blocks that may be shortest.
struct Block {
    lines: Vec<String>,
    /// To how many lines it may be cut.
    least: usize,
}

/// The screen of one image.
#[must_use]
pub fn render(report: &Report, call: &Call<'_>) -> String {
    let runs: Vec<&Run> = report.runs.iter().filter(|run| run.limits.is_some()).collect();
    let head = headline::of(report);
    let mut blocks = vec![title(report), context(report, &runs)];
    blocks.push(Block { lines: vec![String::new()], least: 0 });
    blocks.extend(report.runs.iter().flat_map(|run| &run.events).take(2).map(event));
    blocks.extend(size(&head));
    match runs.as_slice() {
        [] => {}
        [run] => {
            blocks.extend(start(&head, run).into_iter().chain(load(&head)));
            blocks.extend(passes::lines(run).iter().map(|(label, text)| labelled(label, text, 1)));
        }
        several => blocks.push(limits(several)),
    }
    blocks.extend(headline::doubt(report).map(|(case, doubt, others)| {
        let others =
            if others.is_empty() { String::new() } else { format!(" (also: {})", others.join(", ")) };
        labelled("Doubt", &format!("{case}{doubt}: {}{others}", doubt.advice()), 2)
    }));
    blocks.extend(gates(report));
    let files = format!("{}/report.html, report.md, report.json, junit.xml", call.folder);
    blocks.push(labelled("Report", &files, 1));
    blocks.push(next(report, call));
    fit(&mut blocks);
    blocks.into_iter().flat_map(|block| block.lines).map(|line| line + "\n").collect()
}

/// Cuts the blocks until all of them fit, from the last that has lines to spare.
fn fit(blocks: &mut [Block]) {
    let mut over = blocks.iter().map(|block| block.lines.len()).sum::<usize>().saturating_sub(LINES);
    for block in blocks.iter_mut().rev() {
        let cut = over.min(block.lines.len().saturating_sub(block.least));
        over -= cut;
        block.lines.truncate(block.lines.len() - cut);
        if cut > 0
            && let Some(last) = block.lines.last_mut()
        {
            let kept: String = last.chars().take(COLUMNS - 2).collect();
            *last = format!("{} …", kept.trim_end());
        }
    }
}

fn labelled(label: &str, text: &str, least: usize) -> Block {
    Block { lines: wrapped(COLUMNS, &format!("{label:<LABEL$}"), &plain(text)), least }
}

fn title(report: &Report) -> Block {
    let name = report.target.names.first().map_or(report.target.digest.as_str(), String::as_str);
    let lines = wrapped(COLUMNS, "", &plain(&format!("{name}: {}", verdict(report))));
    Block { lines, least: 1 }
}

/// The verdict in words.
#[must_use]
pub fn verdict(report: &Report) -> String {
    let count = |outcome| report.count(outcome);
    let gates = |number: usize| if number == 1 { "1 gate".to_owned() } else { format!("{number} gates") };
    match report.overall {
        Overall::Fail => {
            let mut why: Vec<String> = Vec::new();
            if let Some(event) = report.runs.iter().find_map(Run::failure) {
                why.push(event.kind.name().to_owned());
            }
            if count(Outcome::Fail) > 0 {
                why.push(format!("{} of {}", count(Outcome::Fail), gates(report.verdicts.len())));
            }
            format!("failed ({})", why.join(", "))
        }
        Overall::Interrupted => "interrupted; nothing was judged".to_owned(),
        Overall::Unreliable => {
            format!("cannot tell: {} on figures that are in doubt", gates(count(Outcome::Unreliable)))
        }
        Overall::Pass if report.verdicts.is_empty() => "measured; the profile has no gates".to_owned(),
        Overall::Pass if count(Outcome::Pass) == 0 => "measured; no gate could be judged".to_owned(),
        Overall::Pass => {
            let waiting = if waiting(report) > 0 { " that need no baseline" } else { "" };
            format!("passed all {}{waiting}", gates(count(Outcome::Pass)))
        }
    }
}

/// Gates that were not judged for want of a baseline.
fn waiting(report: &Report) -> usize {
    report.verdicts.iter().filter(|verdict| is_waiting(verdict)).count()
}

fn is_waiting(verdict: &Verdict) -> bool {
    verdict.outcome == Outcome::Skipped && verdict.value.is_some()
}

fn context(report: &Report, runs: &[&Run]) -> Block {
    let host = &report.host;
    let runtime = report.runtime.as_ref().map(|it| format!(", runtime {it}")).unwrap_or_default();
    let limits = match runs {
        [run] => run.limits.as_ref().map(|limits| format!("{limits}, ")).unwrap_or_default(),
        _ => String::new(),
    };
    let text = format!(
        "{}, profile {}, {limits}{} CPUs of {}{runtime}",
        report.target.platform, report.profile.name, host.cpus, host.cpu
    );
    Block { lines: wrapped(COLUMNS, "", &plain(&text)), least: 1 }
}

fn event(event: &Event) -> Block {
    let head = format!("{} in the {} pass: ", event.kind.name().to_uppercase(), event.pass.name());
    let mut lines = wrapped(COLUMNS, "", &plain(&(head + &event.message)));
    lines.truncate(3);
    let last = event.output.len().saturating_sub(3);
    for line in &event.output[last..] {
        lines.push(format!("  | {}", plain(line)).chars().take(COLUMNS).collect());
    }
    Block { lines, least: 1 }
}

fn size(head: &Headline<'_>) -> Option<Block> {
    let compressed = head.compressed?;
    let parts = if head.parts.is_empty() {
        String::new()
    } else {
        format!("; largest files: {}", head.parts.join(", "))
    };
    Some(labelled("Size", &format!("{} compressed{parts}", figure(compressed)), 1))
}

fn start(head: &Headline<'_>, run: &Run) -> Option<Block> {
    let ready = head.ready?;
    let mut lines = wrapped(
        COLUMNS,
        &format!("{:<LABEL$}", "Start-up"),
        &format!("ready {}", figure_with_interval(ready)),
    );
    let of = |metric: &str| run.measurements.iter().find(|it| it.metric == metric);
    if let Some(runtime) = of("startup.warm.runtime-baseline") {
        let text = format!("runtime alone {}", figure_with_interval(runtime));
        lines.extend(wrapped(COLUMNS, &" ".repeat(LABEL), &text));
    }
    Some(Block { lines, least: 1 })
}

fn load(head: &Headline<'_>) -> Option<Block> {
    let Case { cost, rate, .. } = head.capacity.as_ref()?;
    let mut rows = Vec::new();
    let beside =
        |it: &Option<&_>, label: &str| it.map(|it| format!(", {} {label}", figure(it))).unwrap_or_default();
    let other =
        head.latency.as_ref().filter(|case| Some(case.name) != head.capacity.as_ref().map(|it| it.name));
    if let Some(cost) = cost {
        let open = other.map(|case| beside(&case.cost, &case.label())).unwrap_or_default();
        rows.push(("CPU per request".to_owned(), format!("{}{open}", figure(cost))));
    }
    if let Some(instructions) = head.instructions {
        let spread = gate::spread(instructions) * 100.0;
        rows.push((
            "instructions".to_owned(),
            format!("{} per request (runs differ by {spread:.2} %)", figure(instructions)),
        ));
    }
    if let Some(rate) = rate {
        rows.push(("rate".to_owned(), figure_with_interval(rate)));
    }
    if let Some((case, p99)) = head.latency.as_ref().and_then(|case| Some((case, case.p99?))) {
        rows.push((format!("p99 {}", case.label()), figure(p99)));
    }
    if let Some(peak) = head.peak {
        rows.push(("peak memory".to_owned(), figure(peak)));
    }
    if let Some(errors) = head.errors.clone() {
        rows.push(("errors".to_owned(), errors));
    }
    let names = rows.iter().map(|(name, _)| name.chars().count()).max()?;
    let line = |(at, (name, value)): (usize, (String, String))| {
        let label = if at == 0 { "Load" } else { "" };
        wrapped(COLUMNS, &format!("{label:<LABEL$}{name:<names$}  "), &value)
    };
    let lines: Vec<String> = rows.into_iter().enumerate().flat_map(line).collect();
    Some(Block { least: lines.len(), lines })
}

/// A line for each set of limits.
fn limits(runs: &[&Run]) -> Block {
    let rows: Vec<Vec<String>> = runs
        .iter()
        .take(LIMITS)
        .map(|run| {
            let head = headline::of_run(run);
            let shown = |it: Option<&_>| it.map_or_else(|| "-".to_owned(), figure);
            let cell = |case: &Option<Case<'_>>, of: &dyn Fn(&Case<'_>) -> String| {
                case.as_ref().map_or("-".to_owned(), of)
            };
            let limits = run.limits.as_ref().map(|limits| limits.to_string().replace(" memory", ""));
            let limits = limits.unwrap_or_default();
            let failed = if run.failure().is_none() { "" } else { " !" };
            vec![
                limits.chars().take(18).collect::<String>() + failed,
                shown(head.ready),
                cell(&head.capacity, &|case| shown(case.cost)),
                cell(&head.capacity, &|case| shown(case.rate)),
                cell(&head.latency, &|case| shown(case.p99)),
                shown(head.peak),
            ]
        })
        .collect();
    let text = table(&["limits", "ready", "CPU/request", "rate", "p99", "memory"], &rows, &[1, 2, 3, 4, 5]);
    let cut = |line: &str| line.strip_prefix("   ").unwrap_or(line).chars().take(COLUMNS).collect::<String>();
    let mut lines: Vec<String> = text.lines().map(|line| cut(line).trim_end().to_owned()).collect();
    let rest: Vec<String> =
        runs.iter().skip(LIMITS).filter_map(|run| Some(run.limits.as_ref()?.to_string())).collect();
    if !rest.is_empty() {
        lines.extend(
            wrapped(COLUMNS, "", &format!("in the report only: {}", rest.join("; "))).into_iter().take(2),
        );
    }
    Block { least: lines.len(), lines }
}

fn gates(report: &Report) -> Option<Block> {
    if report.verdicts.is_empty() {
        return None;
    }
    let waiting = waiting(report);
    let counted = [
        (report.count(Outcome::Pass), "passed"),
        (report.count(Outcome::Fail), "failed"),
        (report.count(Outcome::Unreliable), "in doubt"),
        (waiting, "waiting for a baseline"),
        (report.count(Outcome::Skipped) - waiting, "of passes that did not run"),
    ];
    let counted =
        counted.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
    let mut block = labelled("Gates", &counted.collect::<Vec<_>>().join(", "), 1);
    let indent = " ".repeat(LABEL);
    let wrong: Vec<&Verdict> = [Outcome::Fail, Outcome::Unreliable]
        .iter()
        .flat_map(|outcome| report.verdicts.iter().filter(move |verdict| verdict.outcome == *outcome))
        .collect();
    let (shown, rest) = wrong.split_at(wrong.len().min(3));
    for verdict in shown {
        let mut text = plain(&format!("{}: {}", verdict.gate, verdict.reason));
        if verdict.outcome == Outcome::Unreliable {
            text = format!("in doubt: {text}");
        }
        block.lines.extend(wrapped(COLUMNS, &indent, &text).into_iter().take(2));
    }
    if !rest.is_empty() {
        let mut names: Vec<&str> = rest.iter().map(|verdict| verdict.gate.as_str()).collect();
        names.dedup();
        block.lines.extend(
            wrapped(COLUMNS, &indent, &format!("also: {}", plain(&names.join(", ")))).into_iter().take(2),
        );
    }
    block.least = block.lines.len().min(3);
    Some(block)
}

/// What to call next.
fn next(report: &Report, call: &Call<'_>) -> Block {
    let Call { command, image, baseline, .. } = call;
    let text = if report.runs.iter().any(|run| run.failure().is_some()) {
        format!("{} run {image}  # the same container in the foreground", tare_tool::environment::command())
    } else if waiting(report) > 0 {
        let file = baseline.map_or_else(|| format!("{}.baseline/", report.profile.name), str::to_owned);
        let then = if baseline.is_some() { "--baseline" } else { "--save-baseline" };
        format!("{command} {then} {file}")
    } else {
        format!("{command} --full")
    };
    Block { lines: command_lines(&text), least: 3 }
}

/// A command, which can be copied as it stands: a line that is too long goes on as a shell reads it.
fn command_lines(command: &str) -> Vec<String> {
    let (label, command) = (format!("{:<LABEL$}", "Next"), plain(command));
    let whole = wrapped(COLUMNS, &label, &command);
    let lines = if whole.len() == 1 { whole } else { wrapped(COLUMNS - 2, &label, &command) };
    let last = lines.len() - 1;
    lines.into_iter().enumerate().map(|(at, line)| if at < last { line + " \\" } else { line }).collect()
}

#[cfg(test)]
#[path = "screen_tests.rs"]
mod tests;
