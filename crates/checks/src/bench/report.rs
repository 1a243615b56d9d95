//! The result of one part of a benchmark, as text for people and as JSON for programs. The profiler computes statistics
//! and formats figures.

use std::fmt;

use serde::Serialize;

use tare_profiler::profile::metric::Unit;
use tare_profiler::profile::render::units::shown;
use tare_profiler::profile::stats;
use tare_tool::ui;

/// One figure, measured once in each round.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Series {
    unit: Unit,
    rounds: Vec<f64>,
}

impl Series {
    pub(super) fn new(unit: Unit, rounds: impl IntoIterator<Item = f64>) -> Self {
        Self { unit, rounds: rounds.into_iter().collect() }
    }

    /// Of no round there is no median: NaN, which reaches no goal.
    pub(super) fn median(&self) -> f64 {
        stats::median(&self.rounds).unwrap_or(f64::NAN)
    }

    /// Its ratio to another in each round: what disturbs a round disturbs both.
    pub(super) fn over(&self, other: &Self) -> Self {
        Self::new(Unit::Count, self.rounds.iter().zip(&other.rounds).map(|(a, b)| a / b))
    }

    /// Its difference to another in each round.
    pub(super) fn minus(&self, other: &Self) -> Self {
        Self::new(self.unit, self.rounds.iter().zip(&other.rounds).map(|(a, b)| a - b))
    }
}

/// The median, and in brackets the least and the most where they differ.
impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |value: f64| match self.unit {
            // Ratios, and counts that are whole.
            Unit::Count if value.fract().abs() > 0.0 => format!("{value:.3}"),
            unit => shown(value, unit),
        };
        let least = self.rounds.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.rounds.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        f.write_str(&show(self.median()))?;
        if least < most { write!(f, " ({}–{})", show(least), show(most)) } else { Ok(()) }
    }
}

/// Something that must be reached. The median of the rounds decides.
#[derive(Debug, Serialize)]
pub(super) struct Goal {
    what: String,
    measured: Series,
    /// `at most` or `at least`.
    bound: &'static str,
    limit: f64,
    pub(super) reached: bool,
}

/// One part of a bench.
#[derive(Debug, Default, Serialize)]
pub(super) struct Part {
    pub(super) name: &'static str,
    /// The headings; the first column holds the names of the rows.
    columns: Vec<String>,
    rows: Vec<(String, Vec<Option<Series>>)>,
    /// How it was measured.
    pub(super) notes: Vec<String>,
    pub(super) goals: Vec<Goal>,
    /// What could not be measured, and why.
    pub(super) left_out: Vec<String>,
}

impl Part {
    pub(super) fn new<'a>(columns: impl IntoIterator<Item = &'a str>) -> Self {
        Self { columns: columns.into_iter().map(str::to_owned).collect(), ..Self::default() }
    }

    pub(super) fn row(
        &mut self,
        name: impl Into<String>,
        cells: impl IntoIterator<Item = impl Into<Option<Series>>>,
    ) {
        self.rows.push((name.into(), cells.into_iter().map(Into::into).collect()));
    }

    pub(super) fn at_most(&mut self, what: impl Into<String>, measured: Series, limit: f64) {
        let reached = measured.median() <= limit;
        self.goals.push(Goal { what: what.into(), measured, bound: "at most", limit, reached });
    }

    pub(super) fn at_least(&mut self, what: impl Into<String>, measured: Series, limit: f64) {
        let reached = measured.median() >= limit;
        self.goals.push(Goal { what: what.into(), measured, bound: "at least", limit, reached });
    }

    pub(super) fn text(&self) -> String {
        let cell = |cell: &Option<Series>| cell.as_ref().map(Series::to_string).unwrap_or_default();
        let row = |(name, cells): &(String, Vec<Option<Series>>)| {
            std::iter::once(name.clone()).chain(cells.iter().map(cell)).collect()
        };
        let rows: Vec<Vec<String>> = self.rows.iter().map(row).collect();
        let columns: Vec<&str> = self.columns.iter().map(String::as_str).collect();
        let right: Vec<usize> = (1..columns.len()).collect();
        let mut lines = vec![self.name.to_owned(), ui::table(&columns, &rows, &right)];
        lines.extend(self.notes.iter().map(|note| format!("  note     {note}")));
        lines.extend(self.left_out.iter().map(|what| format!("  left out {what}")));
        lines.extend(self.goals.iter().map(Goal::to_string));
        lines.join("\n") + "\n"
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, measured, bound, limit, reached } = self;
        let verdict = if *reached { "reached" } else { "missed" };
        write!(f, "  {verdict:<8} {what}: {measured}, goal: {bound} {}", shown(*limit, measured.unit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn milliseconds(values: &[f64]) -> Series {
        Series::new(Unit::Nanoseconds, values.iter().map(|value| value * 1e6))
    }

    #[test]
    fn ratios_and_differences_are_taken_within_a_round() {
        let (a, b) = (milliseconds(&[10.0, 40.0]), milliseconds(&[20.0, 160.0]));
        assert_eq!(a.over(&b), Series::new(Unit::Count, [0.5, 0.25]));
        assert_eq!(b.minus(&a), milliseconds(&[10.0, 120.0]));
    }

    #[test]
    fn a_part_is_shown_with_its_table_and_goals() {
        let mut part = Part::new(["server", "time", "size"]);
        part.row("ours", [Some(milliseconds(&[10.0, 12.0, 11.0])), None]);
        part.notes.push("one thread".to_owned());
        part.left_out.push("theirs: it is not installed".to_owned());
        part.at_most("time", milliseconds(&[10.0]), 10e6);
        part.at_least("ratio", Series::new(Unit::Count, [0.2504]), 0.3);
        part.at_most("of nothing", Series::new(Unit::Count, []), 1.0);
        let expected = "test\n   server                       time  size\n   ours    11.0 ms (10.0 ms–12.0 ms)\n  \
             note     one thread\n  left out theirs: it is not installed\n  \
             reached  time: 10.0 ms, goal: at most 10.0 ms\n  missed   ratio: 0.250, goal: at least 0.30\n  \
             missed   of nothing: -, goal: at most 1\n";
        assert_eq!(Part { name: "test", ..part }.text(), expected);
    }
}
