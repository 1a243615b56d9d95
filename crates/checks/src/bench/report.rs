//! What one part found, as data; as text for people and as JSON for programs.

use serde::Serialize;

use super::stats::{MILLION, Series};
use tare_tool::ui::table;

/// One part of the measurements.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Part {
    pub(super) name: &'static str,
    /// What exactly was measured, and what disturbs it.
    pub(super) notes: Vec<String>,
    pub(super) tables: Vec<Table>,
    pub(super) goals: Vec<Goal>,
    /// What could not be measured, and why.
    pub(super) left_out: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Table {
    /// The first is that of the rows' names.
    pub(super) columns: Vec<&'static str>,
    pub(super) rows: Vec<Row>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) cells: Vec<Cell>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Cell {
    Measured(Series),
    Text(&'static str),
}

impl From<Series> for Cell {
    fn from(series: Series) -> Self {
        Self::Measured(series)
    }
}

impl From<Option<Series>> for Cell {
    fn from(series: Option<Series>) -> Self {
        series.map_or(Self::Text(""), Self::Measured)
    }
}

/// Something that must be reached. The median of the rounds decides.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Goal {
    what: String,
    bound: Bound,
    measured: Series,
    reached: bool,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Bound {
    AtMost(u64),
    Below(u64),
    AtLeast(u64),
    Exactly(u64),
}

/// A ratio given in thousandths.
pub(super) const fn thousandths(value: u64) -> u64 {
    value * (MILLION / 1000)
}

impl Goal {
    pub(super) fn new(what: impl Into<String>, bound: Bound, measured: Series) -> Self {
        let median = measured.median();
        let reached = match bound {
            Bound::AtMost(limit) => median <= limit,
            Bound::Below(limit) => median < limit,
            Bound::AtLeast(limit) => median >= limit,
            Bound::Exactly(value) => median == value,
        };
        Self { what: what.into(), bound, measured, reached }
    }

    pub(super) fn reached(&self) -> bool {
        self.reached
    }

    fn text(&self) -> String {
        let verdict = if self.reached { "reached" } else { "missed" };
        let (sign, limit) = match self.bound {
            Bound::AtMost(limit) => ("≤", limit),
            Bound::Below(limit) => ("<", limit),
            Bound::AtLeast(limit) => ("≥", limit),
            Bound::Exactly(value) => ("=", value),
        };
        let Self { what, measured, .. } = self;
        format!("  {verdict:<8} {what}: {measured}, goal {sign} {}", measured.show(limit))
    }
}

impl Part {
    pub(super) fn new(name: &'static str) -> Self {
        Self { name, notes: Vec::new(), tables: Vec::new(), goals: Vec::new(), left_out: Vec::new() }
    }

    pub(super) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    pub(super) fn text(&self) -> String {
        let mut text = format!("{}\n", self.name);
        for table in &self.tables {
            text += &format!("\n{}\n", table.text());
        }
        text.push('\n');
        for note in &self.notes {
            text += &format!("  note     {note}\n");
        }
        for left_out in &self.left_out {
            text += &format!("  left out {left_out}\n");
        }
        for goal in &self.goals {
            text += &format!("{}\n", goal.text());
        }
        text
    }
}

impl Table {
    fn text(&self) -> String {
        let cell = |cell: &Cell| match cell {
            Cell::Measured(series) => series.to_string(),
            Cell::Text(text) => (*text).to_owned(),
        };
        let rows: Vec<Vec<String>> = self
            .rows
            .iter()
            .map(|row| std::iter::once(row.name.clone()).chain(row.cells.iter().map(cell)).collect())
            .collect();
        let right: Vec<usize> = (1..self.columns.len()).collect();
        table(&self.columns, &rows, &right)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::stats::Unit;

    #[test]
    fn a_goal_is_judged_by_its_bound() {
        let reached = |bound| Goal::new("x", bound, Series::bytes(1000)).reached();
        let all = [Bound::AtMost(1000), Bound::AtLeast(1000), Bound::Exactly(1000), Bound::Below(1001)];
        assert_eq!(all.map(reached), [true; 4]);
        let none = [Bound::AtMost(999), Bound::AtLeast(1001), Bound::Exactly(1), Bound::Below(1000)];
        assert_eq!(none.map(reached), [false; 4]);
    }

    #[test]
    fn a_goal_shows_what_was_measured_and_what_was_wanted() {
        let goal =
            Goal::new("time", Bound::AtMost(thousandths(250)), Series::once(Unit::Millionths, 300_000));
        assert_eq!(goal.text(), "  missed   time: 0.3000, goal ≤ 0.2500");
    }
}
