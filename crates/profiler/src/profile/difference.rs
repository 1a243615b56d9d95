//! What changed between two reports: figures, bytes by file, section and crate, and packages.

use std::collections::BTreeMap;

use tare_report::{Part, Report};

use super::gate;
use super::measurement::Measurement;
use super::metric::{Class, Direction};
use super::render::{figure, units};
use super::report::Run;

/// Figures that are compared; of a metric with cases each case.
pub(super) const FIGURES: [&str; 11] = [
    "size.image.compressed",
    "size.image.uncompressed",
    "size.binary.file",
    "size.packages",
    "instructions.per-request",
    "startup.warm.ready",
    "throughput.cpu-per-request",
    "throughput.rate",
    "throughput.latency.p99",
    "throughput.memory.peak",
    "throughput.errors",
];

/// Whether a figure changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// For the better.
    Better,
    /// For the worse.
    Worse,
    /// It is another, and neither is better; or it is in one report alone.
    Changed,
    /// It is the same, or the intervals of both overlap so that no difference is shown.
    Same,
}

/// One figure in both reports.
#[derive(Debug, Clone, PartialEq)]
pub struct FigureChange {
    /// Its name, with the limits where the reports have several.
    pub name: String,
    /// As the old report has it.
    pub before: Option<Measurement>,
    /// As the new one has it.
    pub after: Option<Measurement>,
    /// What they say.
    pub finding: Finding,
}

/// Bytes of one part of the image in both reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartChange {
    /// `/app/app › .text › tokio`
    pub name: String,
    /// None where it was not there.
    pub before: Option<u64>,
    /// None where it is gone.
    pub after: Option<u64>,
}

/// Versions of one package in both reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageChange {
    /// Its name.
    pub name: String,
    /// Its versions in the old report; none where it was not there.
    pub before: Vec<String>,
    /// Its versions in the new one.
    pub after: Vec<String>,
}

/// What changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The names of both images.
    pub names: [String; 2],
    /// Every compared figure that one of the reports has, changed or not.
    pub figures: Vec<FigureChange>,
    /// Parts with other bytes, the largest change first.
    pub parts: Vec<PartChange>,
    /// Packages that were added, removed, or have other versions, by name.
    pub packages: Vec<PackageChange>,
}

impl FigureChange {
    /// Name, old, new and change, as they are shown.
    #[must_use]
    pub fn cells(&self) -> [String; 4] {
        let shown = |it: &Option<Measurement>| it.as_ref().map_or_else(|| "-".to_owned(), figure);
        [self.name.clone(), shown(&self.before), shown(&self.after), self.change()]
    }

    /// `+3.2 %, worse`
    fn change(&self) -> String {
        let (Some(before), Some(after)) = (&self.before, &self.after) else {
            return if self.after.is_some() { "new".to_owned() } else { "no longer measured".to_owned() };
        };
        let unit = after.definition().unit;
        let delta = after.value - before.value;
        let change = if before.value == 0.0 {
            format!("{}{}", if delta > 0.0 { "+" } else { "" }, units::shown(delta, unit))
        } else {
            format!("{:+.1} %", delta / before.value * 100.0)
        };
        match self.finding {
            Finding::Better => format!("{change}, better"),
            Finding::Worse => format!("{change}, worse"),
            Finding::Changed => change,
            Finding::Same if delta == 0.0 => "same".to_owned(),
            Finding::Same if before.interval.is_some() && after.interval.is_some() => {
                format!("{change}, within the noise")
            }
            Finding::Same => format!("{change}, noise not known"),
        }
    }
}

impl PartChange {
    /// Bytes more, or less when negative.
    #[must_use]
    pub fn delta(&self) -> i128 {
        i128::from(self.after.unwrap_or(0)) - i128::from(self.before.unwrap_or(0))
    }

    /// The change with its sign.
    #[must_use]
    pub fn shown_delta(&self) -> String {
        let delta = self.delta();
        let bytes = units::shown(delta.unsigned_abs() as f64, super::metric::Unit::Bytes);
        format!("{}{bytes}", if delta < 0 { "−" } else { "+" })
    }
}

impl PackageChange {
    /// Name, old and new versions.
    #[must_use]
    pub fn cells(&self) -> [String; 3] {
        let shown =
            |versions: &[String]| if versions.is_empty() { "-".to_owned() } else { versions.join(", ") };
        [self.name.clone(), shown(&self.before), shown(&self.after)]
    }
}

impl Difference {
    /// Between an old and a new report.
    #[must_use]
    pub fn between(old: &Report, new: &Report) -> Self {
        let name = |report: &Report| report.target.names.first().unwrap_or(&report.target.digest).clone();
        Self {
            names: [name(old), name(new)],
            figures: figures(old, new),
            parts: parts(old, new),
            packages: packages(old, new),
        }
    }

    /// Whether anything changed that is shown not to be noise.
    #[must_use]
    pub fn is_change(&self) -> bool {
        let figures = self.figures.iter().any(|it| it.finding != Finding::Same);
        figures || !self.parts.is_empty() || !self.packages.is_empty()
    }

    /// What came of it, in a line: the size before and after.
    #[must_use]
    pub fn title(&self) -> String {
        let [old, new] = &self.names;
        let names = if old == new { new.clone() } else { format!("{old} → {new}") };
        let size = self.figures.iter().find(|it| it.name == "size.image.compressed");
        match size.and_then(|it| Some((it, it.before.as_ref()?, it.after.as_ref()?))) {
            Some((it, before, after)) if before.value != after.value => {
                format!("{names}: {} → {} compressed ({})", figure(before), figure(after), it.change())
            }
            Some((_, _, after)) => format!("{names}: {} compressed, as before", figure(after)),
            None => names,
        }
    }
}

fn figures(old: &Report, new: &Report) -> Vec<FigureChange> {
    let several =
        [old, new].iter().any(|report| report.runs.iter().filter(|run| run.limits.is_some()).count() > 1);
    let mut figures: Vec<FigureChange> = Vec::new();
    // Runs under the same limits, and what is in one report alone.
    let mut runs: Vec<(Option<&Run>, Option<&Run>)> =
        new.runs.iter().map(|run| (old.runs.iter().find(|it| it.limits == run.limits), Some(run))).collect();
    runs.extend(
        old.runs
            .iter()
            .filter(|run| new.runs.iter().all(|it| it.limits != run.limits))
            .map(|run| (Some(run), None)),
    );
    for metric in FIGURES {
        for (before, after) in &runs {
            let of = |run: &Option<&Run>| -> BTreeMap<String, Measurement> {
                let all = run.iter().flat_map(|run| &run.measurements).filter(|it| it.metric == metric);
                all.map(|it| (it.key(), it.clone())).collect()
            };
            let (mut before_by_key, after_by_key) = (of(before), of(after));
            let limits = after.or(*before).and_then(|run| run.limits.as_ref());
            let name = |key: String| match limits {
                Some(limits) if several => format!("{key} under {limits}"),
                _ => key,
            };
            for (key, after) in after_by_key {
                let before = before_by_key.remove(&key);
                let finding = finding(before.as_ref(), Some(&after));
                figures.push(FigureChange { name: name(key), before, after: Some(after), finding });
            }
            let gone = before_by_key.into_iter();
            figures.extend(gone.map(|(key, before)| {
                let finding = finding(Some(&before), None);
                FigureChange { name: name(key), before: Some(before), after: None, finding }
            }));
        }
    }
    figures
}

/// Exact figures changed where they differ; counted ones where they differ by more than their runs do; noisy ones where their 95 % intervals do not overlap.
fn finding(before: Option<&Measurement>, after: Option<&Measurement>) -> Finding {
    let (Some(before), Some(after)) = (before, after) else { return Finding::Changed };
    let changed = match (before.definition().class, before.interval, after.interval) {
        (Class::Exact, ..) => before.value != after.value,
        (Class::Counted, ..) => {
            let spread = gate::spread(before).max(gate::spread(after));
            (after.value - before.value).abs() > spread * before.value.abs()
        }
        (Class::Noisy, Some(old), Some(new)) => old.1 < new.0 || new.1 < old.0,
        // One number, and how far it varies is not known.
        (Class::Noisy, ..) => false,
    };
    match (changed, after.definition().direction, after.value > before.value) {
        (false, ..) => Finding::Same,
        (true, Direction::Neither, _) => Finding::Changed,
        (true, Direction::Lower, true) | (true, Direction::Higher, false) => Finding::Worse,
        (true, ..) => Finding::Better,
    }
}

fn parts(old: &Report, new: &Report) -> Vec<PartChange> {
    let sizes = |report: &Report| {
        let mut sizes = BTreeMap::new();
        for layer in report.runs.iter().filter_map(|run| run.bytes.as_ref()).flat_map(|image| &image.parts) {
            // A file that moved to another layer is the same file.
            leaves(layer, "", &mut sizes);
        }
        sizes
    };
    let (mut before, after) = (sizes(old), sizes(new));
    let mut parts: Vec<PartChange> = Vec::new();
    for (name, bytes) in after {
        let was = before.remove(&name);
        if was != Some(bytes) {
            parts.push(PartChange { name, before: was, after: Some(bytes) });
        }
    }
    parts.extend(before.into_iter().map(|(name, was)| PartChange { name, before: Some(was), after: None }));
    parts.sort_by(|a, b| (b.delta().abs(), &a.name).cmp(&(a.delta().abs(), &b.name)));
    parts
}

fn leaves(part: &Part, above: &str, sizes: &mut BTreeMap<String, u64>) {
    for part in &part.parts {
        let path = if above.is_empty() { part.name.clone() } else { format!("{above} › {}", part.name) };
        if part.parts.is_empty() {
            let sum = sizes.entry(path).or_default();
            *sum = sum.saturating_add(part.bytes);
        } else {
            leaves(part, &path, sizes);
        }
    }
}

fn packages(old: &Report, new: &Report) -> Vec<PackageChange> {
    let versions = |report: &Report| {
        let mut versions: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for package in report.runs.iter().flat_map(|run| &run.packages) {
            versions.entry(package.name.clone()).or_default().push(package.version.clone());
        }
        versions
    };
    let (mut before, after) = (versions(old), versions(new));
    let mut changes: Vec<PackageChange> = after
        .into_iter()
        .map(|(name, after)| PackageChange { before: before.remove(&name).unwrap_or_default(), name, after })
        .collect();
    changes.extend(before.into_iter().map(|(name, before)| PackageChange { name, before, after: vec![] }));
    changes.retain(|it| it.before != it.after);
    changes.sort_by(|a, b| a.name.cmp(&b.name));
    changes
}

#[cfg(test)]
#[path = "difference_tests.rs"]
mod tests;
