//! The metric table: what every figure is, in one place.
//!
//! Gates, `--list-metrics`, the reports and docs/metrics.md come from it. Every value is in one base unit of
//! its kind (bytes, nanoseconds, parts of 1), whatever it is shown in.

mod table;

use std::str::FromStr;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

pub use self::table::ERRORS;

/// What measures a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pass {
    /// Reads the image; runs nothing.
    Size,
    /// Starts it over and over.
    Startup,
    /// Sends it requests.
    Throughput,
    /// Starts copy after copy until a budget is used up.
    Density,
    /// Sends it requests alone and beside a neighbour.
    Isolation,
    /// Sends it requests from another container.
    Network,
    /// Asks for files whose source goes away.
    Edge,
    /// Counts the instructions of requests, with valgrind.
    Instructions,
}

impl Pass {
    /// In the order they run.
    pub const ALL: [Self; 8] = [
        Self::Size,
        Self::Startup,
        Self::Throughput,
        Self::Density,
        Self::Isolation,
        Self::Network,
        Self::Edge,
        Self::Instructions,
    ];
    /// Those of a profile that names none.
    pub const DEFAULT: [Self; 3] = [Self::Size, Self::Startup, Self::Throughput];

    /// Its name in profiles and flags.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Size => "size",
            Self::Startup => "startup",
            Self::Throughput => "throughput",
            Self::Density => "density",
            Self::Isolation => "isolation",
            Self::Network => "network",
            Self::Edge => "edge",
            Self::Instructions => "instructions",
        }
    }
}

impl FromStr for Pass {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let pass = Self::ALL.into_iter().find(|pass| pass.name() == text);
        let names = Self::ALL.map(Self::name).join(", ");
        pass.ok_or_else(|| format!("`{text}` is not a pass: the passes are {names}"))
    }
}

/// What a value counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Nanoseconds.
    Nanoseconds,
    /// Requests in a second.
    PerSecond,
    /// A part of 1.
    Share,
    /// A number of things.
    Count,
}

impl Unit {
    /// Its short name in tables.
    #[must_use]
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Bytes => "B",
            Self::Nanoseconds => "ns",
            Self::PerSecond => "1/s",
            Self::Share => "share",
            Self::Count => "count",
        }
    }
}

/// Whether the same image always gives the same value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// It does: a difference of one is a difference.
    Exact,
    /// Within the spread of its samples, on any machine of the architecture, however busy: a difference beyond the spread
    /// is a difference.
    Counted,
    /// It does not: differences need a test.
    Noisy,
}

impl Class {
    /// Its name in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Counted => "counted",
            Self::Noisy => "noisy",
        }
    }
}

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Less is better.
    Lower,
    /// More is better.
    Higher,
    /// Neither: it is shown, and may have a `min` and `max`, but cannot regress.
    Neither,
}

impl Direction {
    /// Its name in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Lower => "lower",
            Self::Higher => "higher",
            Self::Neither => "-",
        }
    }
}

/// What one figure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Metric {
    /// Its name in gates, baselines and reports.
    pub id: &'static str,
    /// What measures it.
    pub pass: Pass,
    /// What the value counts.
    pub unit: Unit,
    /// Whether it repeats exactly.
    pub class: Class,
    /// Which way is better.
    pub direction: Direction,
    /// How the value comes from the samples.
    pub statistic: &'static str,
    /// What it means.
    pub description: &'static str,
    /// What the cases of a measurement are, where there are several.
    pub cases: Option<&'static str>,
}

/// Every metric, in the order of the reports.
pub static TABLE: LazyLock<Vec<Metric>> = LazyLock::new(table::rows);

/// What stands for an id that is not in the table; no pass measures it.
pub static UNKNOWN: Metric = Metric {
    id: "unknown",
    pass: Pass::Size,
    unit: Unit::Count,
    class: Class::Exact,
    direction: Direction::Neither,
    statistic: "none",
    description: "Not in the metric table",
    cases: None,
};

/// The metric of that id.
#[must_use]
pub fn find(id: &str) -> Option<&'static Metric> {
    TABLE.iter().find(|metric| metric.id == id)
}

/// Where a metric stands in the table; the order of reports.
#[must_use]
pub fn position(id: &str) -> usize {
    TABLE.iter().position(|metric| metric.id == id).unwrap_or(TABLE.len())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_id_is_there_once_and_begins_with_its_pass() {
        let ids: BTreeSet<&str> = TABLE.iter().map(|metric| metric.id).collect();
        assert_eq!(ids.len(), TABLE.len());
        for metric in TABLE.iter() {
            assert!(metric.id.starts_with(&format!("{}.", metric.pass.name())), "{}", metric.id);
            assert_eq!(find(metric.id), Some(metric));
            assert!(
                metric
                    .id
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'-'),
                "{} needs no escape in a gate",
                metric.id
            );
        }
    }

    #[test]
    fn the_class_follows_from_the_pass() {
        for metric in TABLE.iter() {
            let class = match metric.pass {
                Pass::Size => Class::Exact,
                Pass::Instructions => Class::Counted,
                _ => Class::Noisy,
            };
            assert_eq!(metric.class, class, "{}", metric.id);
        }
    }
}
