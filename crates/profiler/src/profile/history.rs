//! The figures of an image over its commits, and where they changed: values in, values out.

use std::collections::{BTreeMap, BTreeSet};

use tare_report::Report;

use super::change_points::change_points;
use super::difference::FIGURES;
use super::gate;
use super::measurement::Measurement;
use super::metric::{self, Class, Direction, Metric};
use super::render::figure;
use super::stats;

/// The probability that any noisy figure of one image is said to have changed, where none has.
const FALSE_ALARMS: f64 = 0.05;
/// The most reports of a history; older ones are left out.
pub const MOST: usize = 300;

/// The figures of one image by one profile on one platform.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    /// `app, profile ci, linux/amd64`
    pub name: String,
    /// The reports in their order.
    pub reports: Vec<Point>,
    /// What the order is by.
    pub order: Order,
    /// How many older reports are left out.
    pub left_out: usize,
    /// In the order of the metric table.
    pub series: Vec<Series>,
}

/// One report of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// The name of its file or folder: the commit.
    pub name: String,
    /// The date by which it is put in order, `2026-12-01`.
    pub date: String,
}

/// What the order of the reports is by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// When the images were made, which is the time of the commit for images of this tool; then when they were measured.
    Created,
    /// When they were measured, since not every report says when its image was made.
    Measured,
}

/// One figure over the reports.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// The metric and its case, and the limits where reports have several.
    pub name: String,
    /// Its entry in the metric table.
    pub metric: &'static Metric,
    /// What it was, in the reports that have it.
    pub values: Vec<Value>,
    /// Where its level changed, in order.
    pub changes: Vec<Change>,
}

/// One figure of one report.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    /// The position of the report in [`History::reports`].
    pub report: usize,
    /// In the unit of the metric.
    pub value: f64,
    /// As it is shown, with its doubts.
    pub shown: String,
    /// How far the runs of the measurement differ, as a share of the value; for counted metrics.
    spread: f64,
}

/// A change of a level.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The position of its first value in [`Series::values`].
    pub at: usize,
    /// The level before: an exact figure's value, and the median of a noisy one's values.
    pub before: f64,
    /// The new level.
    pub after: f64,
    /// What else differs between both reports: facts of the host, settings of the profile.
    pub also: Vec<String>,
}

impl Change {
    /// The relative change; infinite where there was nothing before.
    #[must_use]
    pub fn share(&self) -> f64 {
        if self.before == 0.0 { f64::INFINITY } else { self.after / self.before - 1.0 }
    }

    /// Whether it is for the worse; none where neither more nor less is better.
    #[must_use]
    pub fn is_worse(&self, metric: &Metric) -> Option<bool> {
        match metric.direction {
            Direction::Lower => Some(self.after > self.before),
            Direction::Higher => Some(self.after < self.before),
            Direction::Neither => None,
        }
    }
}

/// What a history needs of one report.
#[derive(Debug, Clone)]
pub struct Entry {
    name: String,
    history: String,
    created: Option<String>,
    taken: String,
    /// Facts of the host and settings of the profile, by name.
    circumstances: BTreeMap<String, String>,
    /// By position in the metric table and name.
    figures: BTreeMap<(usize, String), (&'static Metric, Value)>,
}

impl Entry {
    /// From a report and its name, which is the commit's.
    #[must_use]
    pub fn of(name: String, report: &Report) -> Self {
        let image = report.target.names.first().unwrap_or(&report.target.digest);
        let host = report.host.facts().into_iter().map(|(key, value)| (format!("host {key}"), value));
        let profile = report.profile.settings.iter();
        let profile = profile.map(|(key, value)| (format!("profile {key}"), value.clone()));
        Self {
            name,
            history: format!("{image}, profile {}, {}", report.profile.name, report.target.platform),
            created: report.target.created.clone(),
            taken: report.taken.clone(),
            circumstances: host.chain(profile).collect(),
            figures: figures(report),
        }
    }
}

fn figures(report: &Report) -> BTreeMap<(usize, String), (&'static Metric, Value)> {
    let several = report.runs.iter().filter(|run| run.limits.is_some()).count() > 1;
    let mut figures = BTreeMap::new();
    for run in &report.runs {
        let limits = run.limits.as_ref().filter(|_| several);
        let limits = limits.map(|limits| format!(" under {limits}")).unwrap_or_default();
        for it in run.measurements.iter().filter(|it| is_followed(it)) {
            let value = Value { report: 0, value: it.value, shown: figure(it), spread: gate::spread(it) };
            let key = (metric::position(it.metric), format!("{}{limits}", it.key()));
            figures.insert(key, (it.definition(), value));
        }
    }
    figures
}

/// Under open loop the rate is planned, and says nothing of the server.
fn is_followed(it: &Measurement) -> bool {
    let is_planned = it.metric == "throughput.rate" && it.case.as_deref() != Some("closed");
    FIGURES.contains(&it.metric) && it.value.is_finite() && !is_planned
}

/// A history for each image, profile and platform, by name.
#[must_use]
pub fn histories(entries: Vec<Entry>) -> Vec<History> {
    let mut groups: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
    for entry in entries {
        groups.entry(entry.history.clone()).or_default().push(entry);
    }
    groups.into_iter().map(|(name, entries)| history(name, entries)).collect()
}

fn history(name: String, mut entries: Vec<Entry>) -> History {
    let is_dated = entries.iter().all(|entry| entry.created.is_some());
    let order = if is_dated { Order::Created } else { Order::Measured };
    let created = |entry: &Entry| entry.created.clone().filter(|_| is_dated);
    entries.sort_by_cached_key(|entry| (created(entry), entry.taken.clone(), entry.name.clone()));
    let left_out = entries.len().saturating_sub(MOST);
    entries.drain(..left_out);
    let mut series: BTreeMap<(usize, String), Series> = BTreeMap::new();
    for (report, entry) in entries.iter().enumerate() {
        for (key, (metric, value)) in &entry.figures {
            let new = || Series { name: key.1.clone(), metric, values: vec![], changes: vec![] };
            let values = &mut series.entry(key.clone()).or_insert_with(new).values;
            values.push(Value { report, ..value.clone() });
        }
    }
    let mut series: Vec<Series> = series.into_values().collect();
    let is_tested = |series: &&Series| series.metric.class == Class::Noisy && !is_constant(&series.values);
    let level = FALSE_ALARMS / series.iter().filter(is_tested).count().max(1) as f64;
    for series in &mut series {
        series.changes = match series.metric.class {
            Class::Exact | Class::Counted => exact_changes(&series.values),
            Class::Noisy => noisy_changes(&series.values, level),
        };
        for change in &mut series.changes {
            let [before, after] = [change.at - 1, change.at].map(|at| &entries[series.values[at].report]);
            change.also = differences(&before.circumstances, &after.circumstances);
        }
    }
    let date =
        |entry: &Entry| created(entry).unwrap_or_else(|| entry.taken.clone()).chars().take(10).collect();
    let reports = entries.iter().map(|entry| Point { name: entry.name.clone(), date: date(entry) }).collect();
    History { name, reports, order, left_out, series }
}

fn is_constant(values: &[Value]) -> bool {
    values.iter().all(|it| it.value == values[0].value)
}

/// Each value that differs from the level before by more than the runs of both measurements do.
fn exact_changes(values: &[Value]) -> Vec<Change> {
    let mut changes = Vec::new();
    let Some(mut level) = values.first() else { return changes };
    for (at, it) in values.iter().enumerate() {
        let spread = (level.spread + it.spread) * level.value.abs();
        if (it.value - level.value).abs() > spread {
            changes.push(Change { at, before: level.value, after: it.value, also: vec![] });
            level = it;
        }
    }
    changes
}

fn noisy_changes(values: &[Value], level: f64) -> Vec<Change> {
    let values: Vec<f64> = values.iter().map(|it| it.value).collect();
    let found = change_points(&values, level);
    let bounds: Vec<usize> = std::iter::once(0).chain(found).chain([values.len()]).collect();
    let change = |bounds: &[usize]| {
        let [from, at, to] = *bounds else { return None };
        let (before, after) = (stats::median(&values[from..at])?, stats::median(&values[at..to])?);
        // Levels that differ by their ranks alone.
        (before != after).then(|| Change { at, before, after, also: vec![] })
    };
    bounds.windows(3).filter_map(change).collect()
}

fn differences(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<String> {
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    keys.into_iter().filter(|key| before.get(*key) != after.get(*key)).cloned().collect()
}

/// How changes are found, in sentences.
#[must_use]
pub fn method() -> [String; 2] {
    [
        "Sizes and packages are exact: each difference is a change. Instructions changed if they differ by more than their runs do.".to_owned(),
        format!(
            "Noisy figures changed their level where the ranks of the values before and after differ more than in other orders of the same values (permutation test); where nothing changed, the probability of any false alarm is {:.0} %. A new level is found after about six reports, and which of them is the first is an estimate.",
            FALSE_ALARMS * 100.0
        ),
    ]
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
