//! The tables that a profile defines over all images of a run: a row for each image, measured figures beside what others
//! claim. No figure stands without its doubts.

use tare_tool::ui;

use super::units::shown;
use super::{figure, figure_with_interval};
use crate::profile::definition::table::{Column, TableDefinition};
use crate::profile::measurement::{Doubt, Measurement};
use crate::profile::metric::Direction;
use crate::profile::report::{Report, Table};
use tare_report::{Limits, Score};

/// An image of the run.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// Its name in the profile.
    pub name: &'a str,
    /// Its title in the tables.
    pub title: &'a str,
    /// What was measured of it.
    pub report: &'a Report,
}

/// The limits of a run; none for the size pass.
type Place = Option<Limits>;

const NOT_MEASURED: &str = "not measured";

/// The kinds of doubt that the tables mark by letters, each with one example.
#[derive(Debug, Default)]
pub struct Doubts(Vec<Doubt>);

impl Doubts {
    /// ` [a, c]`: empty without a doubt.
    fn marks(&mut self, measurement: &Measurement) -> String {
        let mut letters: Vec<String> = measurement.doubts.iter().map(|doubt| self.letter(doubt)).collect();
        letters.sort();
        if letters.is_empty() { String::new() } else { format!(" [{}]", letters.join(", ")) }
    }

    fn letter(&mut self, doubt: &Doubt) -> String {
        let known = self.0.iter().position(|known| known.kind() == doubt.kind());
        let at = known.unwrap_or_else(|| {
            self.0.push(doubt.clone());
            self.0.len() - 1
        });
        // There are fewer kinds than letters.
        char::from(b'a' + u8::try_from(at % 26).unwrap_or(0)).to_string()
    }

    /// A line for each letter.
    #[must_use]
    pub fn legend(&self) -> Vec<String> {
        let mut known = Self::default();
        let line = |doubt: &Doubt| {
            let letter = known.letter(doubt);
            format!("[{letter}] {}, for example: {doubt}; {}", doubt.kind(), doubt.advice())
        };
        self.0.iter().map(line).collect()
    }
}

/// The measured columns of a table: each of its columns under each of the limits.
fn places(column: &Column, rows: &[Row<'_>]) -> Vec<Place> {
    let mut places = Vec::new();
    for run in rows.iter().flat_map(|row| &row.report.runs) {
        if run.measurements.iter().any(|it| column.is_about(it)) && !places.contains(&run.limits) {
            places.push(run.limits.clone());
        }
    }
    places
}

/// What names limits: the number of CPUs where that is all in which they differ.
fn place_name(place: &Place, all: &[Place]) -> Option<String> {
    let limits = place.as_ref()?;
    let others: Vec<&Limits> = all.iter().flatten().filter(|other| *other != limits).collect();
    let only_cpu = others.iter().all(|other| Limits { cpu: limits.cpu, ..(*other).clone() } == *limits);
    match limits.cpu {
        _ if others.is_empty() => None,
        Some(cpu) if only_cpu => Some(Limits { cpu: Some(cpu), ..Limits::default() }.to_string()),
        _ => Some(limits.to_string()),
    }
}

/// The limits of all runs.
fn all_places(rows: &[Row<'_>]) -> Vec<Place> {
    let mut all: Vec<Place> = Vec::new();
    for run in rows.iter().flat_map(|row| &row.report.runs) {
        if run.limits.is_some() && !all.contains(&run.limits) {
            all.push(run.limits.clone());
        }
    }
    all
}

fn measured<'a>(column: &Column, report: &'a Report, place: &Place) -> Option<&'a Measurement> {
    let mut runs = report.runs.iter().filter(|run| run.limits == *place);
    runs.find_map(|run| run.measurements.iter().find(|it| column.is_about(it)))
}

/// A heading and the cells below it, one for each row.
struct Cells {
    heading: Vec<String>,
    cells: Vec<String>,
}

/// One column of the definition: its figures under each of the limits, and the claims.
fn columns(column: &Column, rows: &[Row<'_>], intervals: bool, doubts: &mut Doubts) -> Vec<Cells> {
    let all = all_places(rows);
    let mut columns = Vec::new();
    for place in places(column, rows) {
        let cell = |row: &Row<'_>| {
            let Some(measurement) = measured(column, row.report, &place) else {
                return missing(row.report, &place);
            };
            let value = if intervals { figure_with_interval(measurement) } else { figure(measurement) };
            format!("{}{value}{}", score(measurement), doubts.marks(measurement))
        };
        let heading = std::iter::once(column.title.clone()).chain(place_name(&place, &all)).collect();
        columns.push(Cells { heading, cells: rows.iter().map(cell).collect() });
    }
    if columns.is_empty() {
        let cells = vec![NOT_MEASURED.to_owned(); rows.len()];
        columns.push(Cells { heading: vec![column.title.clone()], cells });
    }
    if !column.claims.is_empty() {
        let claim = |row: &Row<'_>| column.claims.get(row.name).cloned().unwrap_or_else(|| "-".to_owned());
        let heading = vec![column.title.clone(), "claimed".to_owned()];
        columns.push(Cells { heading, cells: rows.iter().map(claim).collect() });
    }
    columns
}

/// What stands for a figure that an image does not have: what went wrong, if anything did.
fn missing(report: &Report, place: &Place) -> String {
    let mut runs = report.runs.iter().filter(|run| run.limits == *place);
    let event = runs.find_map(|run| run.events.first());
    event.map_or(NOT_MEASURED, |event| event.kind.name()).to_owned()
}

/// The name of an isolation ratio: `good, `, or `good to fair, ` where the interval is in both.
fn score(measurement: &Measurement) -> String {
    if measurement.metric != "isolation.ratio" {
        return String::new();
    }
    let (low, high) = measurement.interval.unwrap_or((measurement.value, measurement.value));
    match (Score::of(low), Score::of(high)) {
        (low, high) if low == high => format!("{low}, "),
        (low, high) => format!("{low} to {high}, "),
    }
}

/// The tables with all that is to be said of each cell, for a page.
#[must_use]
pub fn tables(definitions: &[TableDefinition], rows: &[Row<'_>], doubts: &mut Doubts) -> Vec<Table> {
    let titles = || Cells {
        heading: vec!["system".to_owned()],
        cells: rows.iter().map(|row| row.title.to_owned()).collect(),
    };
    let table = |definition: &TableDefinition| {
        let mut all = vec![titles()];
        all.extend(definition.columns.iter().flat_map(|column| columns(column, rows, true, doubts)));
        Table {
            title: definition.title.clone(),
            columns: all.iter().map(|it| it.heading.join(", ")).collect(),
            numeric: (1..all.len()).collect(),
            rows: (0..rows.len()).map(|at| all.iter().map(|it| it.cells[at].clone()).collect()).collect(),
        }
    };
    definitions.iter().map(table).collect()
}

/// The tables for a terminal of this width, without intervals: columns that do not fit beside the others follow below them.
#[must_use]
pub fn terminal(definitions: &[TableDefinition], rows: &[Row<'_>], width: usize) -> String {
    let mut doubts = Doubts::default();
    let mut parts = Vec::new();
    for definition in definitions {
        let mut text = definition.title.clone();
        let mut group: Vec<Cells> = Vec::new();
        for column in &definition.columns {
            let next = columns(column, rows, false, &mut doubts);
            let wider = render(rows, group.iter().chain(&next));
            if !group.is_empty() && wider.lines().any(|line| line.chars().count() > width) {
                text += &format!("\n{}\n", render(rows, group.iter()));
                group = next;
            } else {
                group.extend(next);
            }
        }
        text += &format!("\n{}", render(rows, group.iter()));
        parts.push(text);
    }
    parts.extend(Some(doubts.legend().join("\n")).filter(|legend| !legend.is_empty()));
    parts.join("\n\n")
}

fn render<'a>(rows: &[Row<'_>], columns: impl Iterator<Item = &'a Cells>) -> String {
    let columns: Vec<&Cells> = columns.collect();
    let headings: Vec<String> = columns.iter().map(|it| it.heading.join("\n")).collect();
    let header: Vec<&str> = std::iter::once("").chain(headings.iter().map(String::as_str)).collect();
    let row = |(at, row): (usize, &Row<'_>)| {
        let cells = columns.iter().map(|it| it.cells[at].clone());
        std::iter::once(row.title.to_owned()).chain(cells).collect()
    };
    let lines: Vec<Vec<String>> = rows.iter().enumerate().map(row).collect();
    ui::table(&header, &lines, &(1..header.len()).collect::<Vec<_>>())
}

/// A sentence for each measured column on where the subject stands among all images.
#[must_use]
pub fn standing<'a>(definitions: &[TableDefinition], rows: &[Row<'a>], subject: &str) -> Vec<String> {
    let Some(subject) = rows.iter().find(|row| row.name == subject) else { return Vec::new() };
    let all = all_places(rows);
    let mut sentences = Vec::new();
    for column in definitions.iter().flat_map(|definition| &definition.columns) {
        let Some(metric) = column.definition() else { continue };
        if metric.direction == Direction::Neither {
            continue;
        }
        for place in places(column, rows) {
            let name: Vec<String> =
                std::iter::once(column.title.clone()).chain(place_name(&place, &all)).collect();
            let figure = |row: &Row<'a>| measured(column, row.report, &place);
            let sentence = match figure(subject) {
                None => NOT_MEASURED.to_owned(),
                Some(own) => {
                    let others = rows.iter().filter(|row| row.name != subject.name);
                    let others: Vec<(&str, &Measurement)> =
                        others.filter_map(|row| Some((row.title, figure(row)?))).collect();
                    place_among(own, &others, metric.direction)
                }
            };
            sentences.push(format!("{}: {sentence}.", name.join(", ")));
        }
    }
    sentences
}

fn place_among(own: &Measurement, others: &[(&str, &Measurement)], direction: Direction) -> String {
    let better = |a: f64, b: f64| if direction == Direction::Lower { a < b } else { a > b };
    let before: Vec<&(&str, &Measurement)> =
        others.iter().filter(|(_, other)| better(other.value, own.value)).collect();
    let of = others.len() + 1;
    let unit = own.definition().unit;
    let best = |best: &&(&str, &Measurement), next: &&(&str, &Measurement)| {
        if better(best.1.value, next.1.value) {
            std::cmp::Ordering::Less
        } else {
            std::cmp::Ordering::Greater
        }
    };
    let mut text = match before.iter().min_by(|a, b| best(a, b)) {
        None => format!("first of {of} with {}", shown(own.value, unit)),
        Some((title, first)) => {
            let place = ordinal(before.len() + 1);
            let overlap = own.interval.zip(first.interval).is_some_and(|(a, b)| a.0 <= b.1 && b.0 <= a.1);
            let overlap = if overlap { "; the intervals of both overlap" } else { "" };
            format!(
                "{place} of {of} with {}, after {title} with {}{overlap}",
                shown(own.value, unit),
                shown(first.value, unit)
            )
        }
    };
    if own.is_doubtful() || before.iter().any(|(_, other)| other.is_doubtful()) {
        text += ", in doubt";
    }
    text
}

fn ordinal(number: usize) -> String {
    let ending = match (number % 100, number % 10) {
        (11..=13, _) => "th",
        (_, 1) => "st",
        (_, 2) => "nd",
        (_, 3) => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
