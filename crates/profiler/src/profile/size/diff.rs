//! What changed between two images: the sum, layers, files, sections and crates. For a pull request.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ProgramSize, SizeResult};

/// One size before and after; none where it was not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// Of what.
    pub name: String,
    /// Bytes.
    pub before: Option<u64>,
    /// Bytes.
    pub after: Option<u64>,
}

impl Change {
    fn new(name: &str, before: u64, after: u64) -> Self {
        Self { name: name.to_owned(), before: Some(before), after: Some(after) }
    }

    /// Bytes more, or less when negative.
    #[must_use]
    pub fn delta(&self) -> i128 {
        i128::from(self.after.unwrap_or(0)) - i128::from(self.before.unwrap_or(0))
    }
}

/// What changed in a program that both images have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProgramDiff {
    /// In the second image.
    pub path: String,
    /// By section, in the file.
    pub sections: Vec<Change>,
    /// By crate, and `[.rodata]` and so on for what no crate owns. Empty when one of both had no symbols.
    pub crates: Vec<Change>,
    /// By function; only what is among the largest of both.
    pub functions: Vec<Change>,
}

/// What changed. Lists have only what did, the largest change first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SizeDiff {
    /// Sums that did not change are here too.
    pub totals: Vec<Change>,
    /// Compressed. The same layer in both is none; others are matched by what made them.
    pub layers: Vec<Change>,
    /// By path.
    pub files: Vec<Change>,
    /// Programs of both, the entrypoints matched whatever they are called.
    pub programs: Vec<ProgramDiff>,
}

impl SizeDiff {
    /// Whether there is nothing to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.totals.iter().all(|change| change.delta() == 0)
            && self.layers.is_empty()
            && self.files.is_empty()
            && self.programs.iter().all(|p| p.sections.is_empty() && p.crates.is_empty())
    }
}

type Sizes = BTreeMap<String, u64>;

/// Compares two images.
#[must_use]
pub fn diff(before: &SizeResult, after: &SizeResult) -> SizeDiff {
    let (a, b) = (&before.bytes, &after.bytes);
    let totals = vec![
        Change::new("total (config and layers)", a.total, b.total),
        Change::new("layers compressed", a.compressed, b.compressed),
        Change::new("layers uncompressed", a.uncompressed, b.uncompressed),
        Change::new("on disk", a.on_disk, b.on_disk),
        Change::new("hidden", before.waste.hidden, after.waste.hidden),
        Change::new("files", a.files, b.files),
    ];
    let files = |of: &SizeResult| sums(of.files.iter().map(|file| (file.path.clone(), file.size)));
    let programs = after.programs.iter().filter_map(|program| {
        let same = |other: &&ProgramSize| match program.entrypoint {
            true => other.entrypoint,
            false => !other.entrypoint && other.path == program.path,
        };
        Some(program_diff(before.programs.iter().find(same)?, program))
    });
    SizeDiff {
        totals,
        layers: changes(&layers(before, after), &layers(after, before)),
        files: changes(&files(before), &files(after)),
        programs: programs.collect(),
    }
}

/// The layers that the other image has not, by what made them and the how manieth of that name it is.
fn layers(of: &SizeResult, other: &SizeResult) -> Sizes {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let own = of.layers.iter().filter(|layer| other.layers.iter().all(|o| o.diff_id != layer.diff_id));
    own.map(|layer| {
        let name = layer.created_by.as_deref().unwrap_or("layer");
        let count = seen.entry(name).or_default();
        *count += 1;
        let name = if *count == 1 { name.to_owned() } else { format!("{name} ({count})") };
        (name, layer.compressed)
    })
    .collect()
}

fn program_diff(before: &ProgramSize, after: &ProgramSize) -> ProgramDiff {
    let sections = |of: &ProgramSize| sums(of.sections.iter().map(|row| (row.name.clone(), row.file)));
    let (mut crates, mut functions) = (Vec::new(), Vec::new());
    if let (Some(a), Some(b)) = (&before.attribution, &after.attribution) {
        let shares = |of: &super::Attribution| {
            let owned = of.crates.iter().map(|krate| (krate.name.clone(), krate.total()));
            let rest = of.unattributed.iter().map(|(name, bytes)| (format!("[{}]", bare(name)), *bytes));
            sums(owned.chain(rest))
        };
        crates = changes(&shares(a), &shares(b));
        let largest =
            |of: &super::Attribution| sums(of.functions.iter().map(|row| (row.name.clone(), row.bytes)));
        functions = changes(&largest(a), &largest(b));
        // One that is in one list alone may only have fallen off the other.
        functions.retain(|change| change.before.is_some() && change.after.is_some());
    }
    ProgramDiff {
        path: after.path.clone(),
        sections: changes(&sections(before), &sections(after)),
        crates,
        functions,
    }
}

/// `[padding]` is in brackets already.
pub(super) fn bare(name: &str) -> &str {
    name.trim_matches(['[', ']'])
}

/// Rows of one name together.
fn sums(rows: impl Iterator<Item = (String, u64)>) -> Sizes {
    let mut sums = Sizes::new();
    for (name, bytes) in rows {
        let sum = sums.entry(name).or_default();
        *sum = sum.saturating_add(bytes);
    }
    sums
}

fn changes(before: &Sizes, after: &Sizes) -> Vec<Change> {
    let names: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let mut changes: Vec<Change> = names
        .into_iter()
        .map(|name| Change {
            name: name.clone(),
            before: before.get(name).copied(),
            after: after.get(name).copied(),
        })
        .filter(|change| change.before != change.after)
        .collect();
    changes.sort_by(|a, b| (b.delta().unsigned_abs(), &a.name).cmp(&(a.delta().unsigned_abs(), &b.name)));
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(rows: &[(&str, u64)]) -> Sizes {
        rows.iter().map(|(name, bytes)| ((*name).to_owned(), *bytes)).collect()
    }

    #[test]
    fn only_what_changed_is_told_the_largest_change_first() {
        let before = sizes(&[("gone", 10), ("same", 5), ("grew", 100), ("shrank", 50)]);
        let after = sizes(&[("new", 20), ("same", 5), ("grew", 101), ("shrank", 20)]);
        let rows: Vec<(String, i128)> = changes(&before, &after)
            .into_iter()
            .map(|change| (change.name.clone(), change.delta()))
            .collect();
        let expected = [("shrank", -30), ("new", 20), ("gone", -10), ("grew", 1)];
        assert_eq!(rows, expected.map(|(name, delta)| (name.to_owned(), delta)));
    }
}
