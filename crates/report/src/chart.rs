//! What charts and differences are made from: the bytes of an image as a tree, its packages, curves of a load,
//! and calls of functions.

use serde::{Deserialize, Serialize};

/// A part of an image with its bytes: a layer, a file, a section, a crate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Its name; in brackets for what several small parts come to together, or for what belongs to none.
    pub name: String,
    /// Uncompressed bytes; with parts of its own their sum.
    pub bytes: u64,
    /// What it consists of, largest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
}

impl Part {
    /// A part without parts of its own.
    #[must_use]
    pub fn leaf(name: impl Into<String>, bytes: u64) -> Self {
        Self { name: name.into(), bytes, parts: vec![] }
    }

    /// A part that is the sum of its own, which are put in order, largest first.
    #[must_use]
    pub fn of(name: impl Into<String>, mut parts: Vec<Self>) -> Self {
        parts.retain(|part| part.bytes > 0);
        parts.sort_by(|a, b| (b.bytes, &a.name).cmp(&(a.bytes, &b.name)));
        let bytes = parts.iter().map(|part| part.bytes).fold(0, u64::saturating_add);
        Self { name: name.into(), bytes, parts }
    }
}

/// One line of a chart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Curve {
    /// What x and y are.
    pub kind: CurveKind,
    /// The load case: `closed`, `open-70`.
    pub case: String,
    /// `[x, y]`, with x rising.
    pub points: Vec<(f64, f64)>,
}

/// What x and y of a curve are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CurveKind {
    /// x: a share of the requests, from 0 to 1. y: within how many nanoseconds of their planned start they were answered.
    Latency,
    /// The same from the moment they were sent.
    Service,
    /// x: nanoseconds since the measurement began, at the start of a window. y: right answers per second in it.
    Rate,
    /// x as in [`CurveKind::Rate`]. y: within how many nanoseconds 99 % of the requests planned there were answered.
    P99,
    /// x as in [`CurveKind::Rate`]. y: share of the enforcement periods of the window in which the CPU quota was used up.
    Throttled,
}

/// A package that a program was built from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// A function as it is called on one path, with what it calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Frame {
    /// Its name; in brackets an address that has none.
    pub function: String,
    /// Instructions of its own and of all that it calls here.
    pub instructions: u64,
    /// What it calls, most instructions first. Small ones are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub callees: Vec<Frame>,
}

impl Frame {
    /// How many frames there are, with this one.
    #[must_use]
    pub fn count(&self) -> usize {
        1 + self.callees.iter().map(Self::count).sum::<usize>()
    }
}
