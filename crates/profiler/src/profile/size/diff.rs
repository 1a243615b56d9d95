//! What changed between two images, by layer, file, section, crate and function.

use std::collections::BTreeMap;

use serde::Serialize;

use super::SizeResult;

/// One size before and after; none where it was not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// `total`, `layer`, `file`, `section`, `crate` or `function`.
    pub what: &'static str,
    /// Which.
    pub name: String,
    /// Bytes.
    pub before: Option<u64>,
    /// Bytes.
    pub after: Option<u64>,
}

impl Change {
    /// Bytes more, or less when negative.
    #[must_use]
    pub fn delta(&self) -> i128 {
        i128::from(self.after.unwrap_or(0)) - i128::from(self.before.unwrap_or(0))
    }
}

type Sizes = BTreeMap<(&'static str, String), u64>;

/// Only what changed, the largest change of each kind first. Crates are an estimate, and functions are those among the
/// largest of both.
#[must_use]
pub fn diff(before: &SizeResult, after: &SizeResult) -> Vec<Change> {
    let (a, b) = (sizes(before), sizes(after));
    let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
    let changes = keys.map(|key| Change {
        what: key.0,
        name: key.1.clone(),
        before: a.get(key).copied(),
        after: b.get(key).copied(),
    });
    // A function that is in one list alone may only have fallen off the other.
    let changed = |it: &Change| {
        it.before != it.after && (it.what != "function" || (it.before.is_some() && it.after.is_some()))
    };
    let mut changes: Vec<Change> = changes.filter(changed).collect();
    let order = ["total", "layer", "file", "section", "crate", "function"];
    let position = |what: &str| order.iter().position(|it| *it == what);
    changes.sort_by_key(|it| (position(it.what), std::cmp::Reverse(it.delta().unsigned_abs())));
    changes
}

fn sizes(of: &SizeResult) -> Sizes {
    let mut sizes = Sizes::new();
    let mut add = |what, name: &str, bytes: u64| {
        let sum = sizes.entry((what, name.to_owned())).or_default();
        *sum = sum.saturating_add(bytes);
    };
    add("total", "compressed", of.bytes.total);
    add("total", "uncompressed", of.bytes.uncompressed);
    add("total", "on disk", of.bytes.on_disk);
    for (number, layer) in of.layers.iter().enumerate() {
        add("layer", layer.created_by.as_deref().unwrap_or(&format!("{}", number + 1)), layer.compressed);
    }
    for file in &of.files {
        add("file", &format!("/{}", file.path), file.size);
    }
    let Some(program) = &of.program else { return sizes };
    for section in &program.sections {
        add("section", &section.name, section.file);
    }
    if let Some(attribution) = &program.attribution {
        for krate in &attribution.crates {
            add("crate", &krate.name, krate.total());
        }
        for (section, bytes) in &attribution.unattributed {
            add("crate", &format!("[unattributed {section}]"), *bytes);
        }
        for function in &attribution.functions {
            add("function", &function.name, function.bytes);
        }
    }
    sizes
}
