//! Histories for a terminal and as Markdown: every change, the largest first.

use std::fmt::Write as _;

use tare_tool::ui::table;

use super::markdown::{escaped, render_table};
use super::terminal::wrapped;
use super::units;
use crate::profile::history::{Change, History, MOST, Order, Series, method};
use crate::profile::metric::Class;
use crate::profile::report::Table;

/// Changes that a terminal shows, so that they fit on one screen.
const ON_SCREEN: usize = 12;
/// Changes that the Markdown lists.
const LISTED: usize = 40;
/// Smaller changes are counted alone, and their values are in the page: a size changes a little with nearly every commit.
const SMALL: f64 = 0.001;
/// Characters of a report's name in a terminal.
const NAME: usize = 10;
/// Fewer reports hardly ever show a change of a noisy figure.
const ENOUGH: usize = 12;

/// The columns of [`rows`].
pub(super) const COLUMNS: [&str; 7] = ["figure", "from", "date", "before", "after", "change", "also changed"];
/// Those of them that hold dates and numbers.
pub(super) const NUMBERS: [usize; 4] = [2, 3, 4, 5];

/// Every change, the largest first.
pub(super) fn changes(history: &History) -> Vec<(&Series, &Change)> {
    let changes = history.series.iter().flat_map(|series| series.changes.iter().map(move |it| (series, it)));
    let mut changes: Vec<(&Series, &Change)> = changes.collect();
    changes.sort_by(|(_, a), (_, b)| b.share().abs().total_cmp(&a.share().abs()));
    changes
}

/// Whether a change is listed and marked.
pub(super) fn is_large(change: &Change) -> bool {
    change.share().abs() >= SMALL
}

/// How many of the changes, the largest first, are listed where there is room for so many.
fn listed(changes: &[(&Series, &Change)], room: usize) -> usize {
    changes.iter().take_while(|(_, change)| is_large(change)).count().min(room)
}

fn smaller(count: usize) -> String {
    format!("{count} smaller change{}", if count == 1 { "" } else { "s" })
}

/// `+10.0 % worse`
pub(super) fn judged(series: &Series, change: &Change) -> String {
    let share = if change.before == 0.0 {
        format!("from {}", units::shown(0.0, series.metric.unit))
    } else {
        format!("{:+.1} %", change.share() * 100.0)
    };
    match change.is_worse(series.metric) {
        Some(true) => format!("{share} worse"),
        Some(false) => format!("{share} better"),
        None => share,
    }
}

/// The largest changes as cells of [`COLUMNS`].
pub(super) fn rows(history: &History, room: usize) -> Vec<Vec<String>> {
    let row = |(series, change): (&Series, &Change)| {
        let (unit, report) = (series.metric.unit, &history.reports[series.values[change.at].report]);
        vec![
            series.name.clone(),
            report.name.clone(),
            report.date.clone(),
            units::shown(change.before, unit),
            units::shown(change.after, unit),
            judged(series, change),
            change.also.join(", "),
        ]
    };
    let changes = changes(history);
    let count = listed(&changes, room);
    changes.into_iter().take(count).map(row).collect()
}

/// Which reports there are and in which order, in sentences.
pub(super) fn about(history: &History) -> String {
    let ends = history.reports.first().zip(history.reports.last());
    let ends = ends.map(|(first, last)| match history.reports.len() {
        1 => format!(", {} ({}): nothing to compare it with", cut(&first.name), first.date),
        _ => format!(", {} ({}) to {} ({})", cut(&first.name), first.date, cut(&last.name), last.date),
    });
    let order = match history.order {
        _ if history.reports.len() < 2 => "",
        Order::Created => ", in the order in which their images were made",
        Order::Measured => ", in the order in which they were measured",
    };
    let left_out = match history.left_out {
        0 => String::new(),
        count => format!("; {count} older reports are left out (the most are {MOST})"),
    };
    let plural = if history.reports.len() == 1 { "" } else { "s" };
    format!("{} report{plural}{}{order}{left_out}", history.reports.len(), ends.unwrap_or_default())
}

/// What was found where nothing changed, if anything.
pub(super) fn unchanged(history: &History) -> Option<String> {
    let unchanged: Vec<&Series> = history.series.iter().filter(|series| series.changes.is_empty()).collect();
    if history.reports.len() < 2 || unchanged.is_empty() {
        return None;
    }
    let names: Vec<&str> = unchanged.iter().map(|series| series.name.as_str()).collect();
    let too_few =
        history.reports.len() < ENOUGH && unchanged.iter().any(|it| it.metric.class == Class::Noisy);
    let too_few =
        if too_few { format!("; noisy figures need about {ENOUGH} reports") } else { String::new() };
    Some(format!("No change found: {}{too_few}", names.join(", ")))
}

/// Histories for a terminal of so many columns; `rest` is the page with all changes.
#[must_use]
pub fn terminal(histories: &[History], columns: usize, rest: &str) -> String {
    let mut text = String::new();
    let mut is_marked = false;
    for history in histories {
        let lines = |head: &str, words: &str| wrapped(columns, head, words).join("\n");
        let _ = writeln!(text, "{}\n{}\n", history.name, lines("  ", &about(history)));
        let all = changes(history);
        let count = listed(&all, ON_SCREEN);
        let rows: Vec<Vec<String>> = all
            .iter()
            .take(count)
            .map(|(series, change)| {
                let report = &history.reports[series.values[change.at].report];
                let mark = if change.also.is_empty() { "" } else { "*" };
                is_marked |= !change.also.is_empty();
                let after = units::shown(change.after, series.metric.unit);
                vec![series.name.clone(), cut(&report.name) + mark, after, judged(series, change)]
            })
            .collect();
        if !rows.is_empty() {
            let _ = writeln!(text, "{}\n", table(&["figure", "from", "is now", "change"], &rows, &[2]));
        }
        if all.len() > count {
            let _ = writeln!(text, "  and {} in {rest}\n", smaller(all.len() - count));
        }
        if let Some(unchanged) = unchanged(history) {
            let _ = writeln!(text, "{}\n", lines("  ", &unchanged));
        }
    }
    if is_marked {
        let _ = writeln!(text, "* the host or the profile changed as well: see {rest}\n");
    }
    text
}

fn cut(name: &str) -> String {
    let is_commit = name.len() == 40 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_commit || name.chars().count() <= NAME {
        return name.chars().take(NAME).collect();
    }
    name.chars().take(NAME - 1).chain(['…']).collect()
}

/// Histories for a pull request or a job's summary.
#[must_use]
pub fn markdown(histories: &[History]) -> String {
    let mut text = String::new();
    for history in histories {
        let _ = writeln!(text, "## {}\n\n{}.", escaped(&history.name), escaped(&about(history)));
        let rows = rows(history, LISTED);
        let left_out = changes(history).len() - rows.len();
        if !rows.is_empty() {
            let columns = COLUMNS.iter().map(|it| (*it).to_owned()).collect();
            let title = "Changes, the largest first".to_owned();
            render_table(&mut text, &Table { title, columns, numeric: NUMBERS.to_vec(), rows });
        }
        if left_out > 0 {
            let _ = writeln!(text, "and {} in history.html\n", smaller(left_out));
        }
        if let Some(unchanged) = unchanged(history) {
            let _ = writeln!(text, "{}.\n", escaped(&unchanged));
        }
    }
    let _ = writeln!(text, "{}", escaped(&method().join(" ")));
    text
}
