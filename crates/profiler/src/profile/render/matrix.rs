//! A matrix of variants for a terminal, as Markdown and as JSON.

use std::fmt::Write as _;

use tare_tool::ui::table;

use super::markdown::{escaped, render_table};
use super::terminal::wrapped;
use super::{figure, figure_with_interval};
use crate::profile::matrix::{Matrix, Variant};
use crate::profile::measurement::Measurement;
use crate::profile::report::Table;

const COLUMNS: [&str; 5] = ["variant", "compressed", "ready", "CPU/request", ""];
/// Columns that hold numbers.
const NUMBERS: [usize; 3] = [1, 2, 3];

fn rows(matrix: &Matrix, figure: impl Fn(&Measurement) -> String) -> Vec<Vec<String>> {
    let row = |variant: &Variant| {
        let shown = |it: &Option<Measurement>| it.as_ref().map_or_else(|| "-".to_owned(), &figure);
        let figures = variant.figures.iter().map(shown);
        let place = if variant.failed.is_some() {
            "failed".to_owned()
        } else if variant.is_on_frontier() {
            "frontier".to_owned()
        } else {
            format!("behind {}", variant.dominated_by.join(", "))
        };
        std::iter::once(variant.name.clone()).chain(figures).chain([place]).collect()
    };
    matrix.variants.iter().map(row).collect()
}

fn conclusions(matrix: &Matrix) -> Vec<String> {
    let failed = matrix.variants.iter();
    let failed = failed.filter_map(|it| Some(format!("{} failed: {}", it.name, it.failed.as_ref()?)));
    let frontier = matrix.frontier();
    let frontier = match frontier.as_slice() {
        [] => "No variant could be compared.".to_owned(),
        names => format!(
            "The frontier: {}. No other variant is better than these in one figure and worse in none.",
            names.join(", ")
        ),
    };
    failed.chain([frontier]).collect()
}

/// For a terminal of so many columns.
#[must_use]
pub fn terminal(matrix: &Matrix, columns: usize) -> String {
    let mut text = table(&COLUMNS, &rows(matrix, figure), &NUMBERS);
    text.push_str("\n\n");
    for line in conclusions(matrix) {
        let _ = writeln!(text, "{}", wrapped(columns, "", &line).join("\n"));
    }
    text
}

/// For a pull request or a job's summary.
#[must_use]
pub fn markdown(matrix: &Matrix) -> String {
    let mut text = format!("## {}\n", escaped(&format!("Variants by profile {}", matrix.profile.name)));
    render_table(
        &mut text,
        &Table {
            title: format!("{} CPUs of {}, measured {}", matrix.host.cpus, matrix.host.cpu, matrix.taken),
            columns: COLUMNS.iter().map(|it| (*it).to_owned()).collect(),
            numeric: NUMBERS.to_vec(),
            rows: rows(matrix, figure_with_interval),
        },
    );
    for line in conclusions(matrix) {
        let _ = writeln!(text, "{}\n", escaped(&line));
    }
    text
}

/// For programs.
///
/// # Errors
/// Never for what was measured; serde leaves the possibility.
pub fn json(matrix: &Matrix) -> serde_json::Result<String> {
    Ok(serde_json::to_string_pretty(matrix)? + "\n")
}
