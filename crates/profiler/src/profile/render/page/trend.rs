//! The page of histories: for each figure a dot for each report, its levels as lines, and a mark where the level changed.

use super::super::history::{COLUMNS, NUMBERS, about, is_large, judged, rows, unchanged};
use super::super::units;
use super::svg::{Svg, WIDTH, ticks};
use super::view::{Chart, Grid, Page, list};
use crate::profile::history::{History, Series, method};
use crate::profile::metric::Unit;
use crate::profile::report::Table;
use crate::profile::stats;

const LEFT: f64 = 90.0;
const RIGHT: f64 = WIDTH - 20.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 170.0;
/// The width of a character of labels.
const CHARACTER: f64 = 6.6;
/// Characters of a report's name in a drawing.
const NAME: usize = 10;
/// Values that the table below a drawing lists, the latest.
const LISTED: usize = 40;
/// Changes that the first table lists, the largest.
const CHANGES: usize = 100;
/// The axis spans at least this share of the largest value, so that its labels differ.
const LEAST_SPAN: f64 = 0.03;
/// Drawings of one page: with more figures only those that changed have one.
const DRAWINGS: usize = 40;

pub(super) fn page(histories: &[History]) -> Page {
    let several = histories.len() > 1;
    let all: usize = histories.iter().map(|history| history.series.len()).sum();
    let mut charts = Vec::new();
    for history in histories {
        let rows = rows(history, CHANGES);
        if !rows.is_empty() {
            let columns = COLUMNS.iter().map(|it| (*it).to_owned()).collect();
            let grid = list(&Table { title: String::new(), columns, numeric: NUMBERS.to_vec(), rows });
            let title = if several { format!("Changes of {}", history.name) } else { "Changes".to_owned() };
            charts.push(Chart {
                title,
                note: "The largest first; those below 0.1 % are in the drawings alone.",
                svg: String::new(),
                grid,
            });
        }
        let series = history.series.iter();
        for series in series.filter(|it| all <= DRAWINGS || !it.changes.is_empty()).take(DRAWINGS) {
            let name = &series.name;
            let title = if several { format!("{name}: {}", history.name) } else { name.clone() };
            let svg = draw(history, series, &title);
            let grid = Grid::new("", &["report", "date", "value"], 1, values(history, series));
            charts.push(Chart { title, note: series.metric.description, svg, grid });
        }
    }
    let mut facts = Vec::new();
    for history in histories {
        let name = if several { format!("{}: ", history.name) } else { String::new() };
        facts.push(format!("{name}{}", about(history)));
        facts.extend(unchanged(history).map(|unchanged| format!("{name}{unchanged}")));
    }
    facts.extend(method());
    let names: Vec<&str> = histories.iter().map(|history| history.name.as_str()).collect();
    Page { title: format!("History of {}", names.join("; ")), facts, charts, ..Page::default() }
}

/// The latest values, the last one first.
fn values(history: &History, series: &Series) -> Vec<Vec<String>> {
    let latest = series.values.iter().rev().take(LISTED);
    let row = latest.map(|it| {
        let report = &history.reports[it.report];
        vec![report.name.clone(), report.date.clone(), it.shown.clone()]
    });
    row.collect()
}

/// The ends of the axis: from 0 where the values come near to it, and else around them.
fn span(series: &Series) -> (f64, f64) {
    let values = || series.values.iter().map(|it| it.value);
    let most = values().fold(0.0, f64::max);
    let least = values().fold(f64::INFINITY, f64::min).min(most);
    if least < most / 2.0 || most <= 0.0 {
        return (0.0, most.max(f64::MIN_POSITIVE) * 1.1);
    }
    let room = ((most - least) * 0.1).max((LEAST_SPAN * most - (most - least)) / 2.0);
    ((least - room).max(0.0), most + room)
}

fn draw(history: &History, series: &Series, label: &str) -> String {
    let unit = series.metric.unit;
    let (low, high) = span(series);
    let last = history.reports.len().saturating_sub(1).max(1) as f64;
    let x = |report: usize| LEFT + report as f64 / last * (RIGHT - LEFT);
    let y = |value: f64| BOTTOM - (value - low) / (high - low) * (BOTTOM - TOP);
    let mut svg = Svg::new(BOTTOM + 24.0, label);
    let step = ticks(high - low).get(1).copied().unwrap_or(high - low);
    // There are no halves of things.
    let step = if unit == Unit::Count && high >= 2.0 { step.max(1.0) } else { step };
    let mut tick = (low / step).ceil() * step;
    while tick <= high {
        svg.line((LEFT, y(tick)), (RIGHT, y(tick)), "grid");
        svg.text(LEFT - 8.0, y(tick) + 4.0, "end", &units::shown(tick, unit));
        tick += step;
    }
    let short = |report: usize| {
        let name = history.reports.get(report).map(|it| it.name.as_str()).unwrap_or_default();
        name.chars().take(NAME).collect::<String>()
    };
    svg.text(LEFT, BOTTOM + 16.0, "small", &short(0));
    if history.reports.len() > 1 {
        svg.text(RIGHT, BOTTOM + 16.0, "end small", &short(history.reports.len() - 1));
    }
    for it in &series.values {
        svg.dot(x(it.report), y(it.value), "sample");
    }
    let begins = std::iter::once(0).chain(series.changes.iter().map(|change| change.at));
    let ends = series.changes.iter().map(|change| change.at).chain([series.values.len()]);
    for (from, to) in begins.zip(ends) {
        let level: Vec<f64> = series.values[from..to].iter().map(|it| it.value).collect();
        if let (Some(level), Some(first), Some(last)) =
            (stats::median(&level), series.values.get(from), series.values.get(to - 1))
        {
            let title = format!("level {}", units::shown(level, unit));
            svg.path([(x(first.report), y(level)), (x(last.report), y(level))].into_iter(), "s0", &title);
        }
    }
    // Names of changes from the left, as far as there is room for them.
    let mut free = LEFT;
    for change in series.changes.iter().filter(|change| is_large(change)) {
        let report = series.values[change.at].report;
        let at = x(report);
        let colour = match change.is_worse(series.metric) {
            Some(true) => "s4 dashed",
            Some(false) => "s2 dashed",
            None => "s5 dashed",
        };
        let title = format!("{}: {}", short(report), judged(series, change));
        svg.path([(at, TOP), (at, BOTTOM)].into_iter(), colour, &title);
        let width = title.chars().count() as f64 * CHARACTER;
        let start = at.min(WIDTH - width);
        if start >= free {
            svg.text(start, TOP - 8.0, "small", &title);
            free = start + width + CHARACTER;
        }
    }
    svg.finish()
}
