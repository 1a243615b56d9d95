//! A difference as GitHub's Markdown: at most 40 lines, for a pull request.

use std::fmt::Write as _;

use super::markdown::escaped;
use crate::profile::difference::{Difference, Finding};

/// The most lines.
pub const LINES: usize = 40;
/// Rows of each table.
const FIGURES: usize = 12;
const PARTS: usize = 10;
const PACKAGES: usize = 5;

/// The text; one line where nothing changed.
#[must_use]
pub fn markdown(difference: &Difference) -> String {
    let title = escaped(&difference.title());
    if !difference.is_change() {
        return format!("{title}; nothing changed\n");
    }
    let mut text = format!("## {title}\n\n");
    // What changed comes first, and what did not as far as there is room.
    let mut figures: Vec<_> = difference.figures.iter().collect();
    figures.sort_by_key(|it| it.finding == Finding::Same);
    if !figures.is_empty() {
        text.push_str("| figure | old | new | change |\n|---|---:|---:|---|\n");
    }
    for it in figures.iter().take(FIGURES) {
        row(&mut text, &it.cells());
    }
    rest(&mut text, figures.len(), FIGURES, "figures");
    if !difference.parts.is_empty() {
        text.push_str("\n| bytes of | change |\n|---|---:|\n");
    }
    for it in difference.parts.iter().take(PARTS) {
        row(&mut text, &[it.name.clone(), it.shown_delta()]);
    }
    rest(&mut text, difference.parts.len(), PARTS, "parts");
    if !difference.packages.is_empty() {
        text.push('\n');
    }
    for it in difference.packages.iter().take(PACKAGES) {
        let [name, old, new] = it.cells().map(|cell| escaped(&cell));
        let _ = match (it.before.is_empty(), it.after.is_empty()) {
            (true, _) => writeln!(text, "- added {name} {new}"),
            (_, true) => writeln!(text, "- removed {name} {old}"),
            _ => writeln!(text, "- {name} {old} → {new}"),
        };
    }
    if difference.packages.len() > PACKAGES {
        let _ = writeln!(text, "- and {} more packages", difference.packages.len() - PACKAGES);
    }
    text
}

fn row(text: &mut String, cells: &[String]) {
    let cells: Vec<String> = cells.iter().map(|cell| escaped(cell)).collect();
    let _ = writeln!(text, "| {} |", cells.join(" | "));
}

fn rest(text: &mut String, all: usize, shown: usize, what: &str) {
    if all > shown {
        let _ = writeln!(text, "\nand {} more {what}", all - shown);
    }
}
