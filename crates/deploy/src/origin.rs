//! A number together with where it comes from, which becomes the comment beside it.

use std::fmt;

use tare_oci::units::ByteSize;
use tare_report::metric::Unit;
use tare_report::{Doubt, Measurement};

use crate::yaml::{Node, Value};

/// A number of a manifest with its origin.
#[derive(Debug, Clone, PartialEq)]
pub struct Sourced<T> {
    /// The number.
    pub value: T,
    /// Where it comes from.
    pub origin: Origin,
}

/// Where a number comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum Origin {
    /// Computed from figures of a report.
    Measured {
        /// How, with every margin: `largest peak × 1.5, at least 16 MiB`.
        rule: String,
        /// From which figures.
        figures: Vec<Figure>,
    },
    /// Set by a flag or by `[deploy]` in image.toml; the text names both.
    Stated(&'static str),
    /// Nobody measured or set it; the text says why it is this number.
    Assumed(&'static str),
}

/// One figure of a report.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// Metric and case: `throughput.rate@open-70`.
    pub key: String,
    /// In the metric's unit.
    pub value: f64,
    /// The metric's unit.
    pub unit: Unit,
    /// Why it may not be believed.
    pub doubts: Vec<Doubt>,
}

impl<T> Sourced<T> {
    /// A number that is computed from figures.
    pub(crate) fn measured(value: T, rule: impl Into<String>, figures: Vec<Figure>) -> Self {
        Self { value, origin: Origin::Measured { rule: rule.into(), figures } }
    }

    /// A number that is set, or else assumed.
    pub(crate) fn stated_or(stated: Option<T>, by: &'static str, default: T, why: &'static str) -> Self {
        match stated {
            Some(value) => Self { value, origin: Origin::Stated(by) },
            None => Self { value: default, origin: Origin::Assumed(why) },
        }
    }
}

impl Figure {
    /// The figure of a measurement.
    pub(crate) fn of(measurement: &Measurement) -> Self {
        Self {
            key: measurement.key(),
            value: measurement.value,
            unit: measurement.definition().unit,
            doubts: measurement.doubts.clone(),
        }
    }
}

impl<T: Clone + Into<Value>> From<&Sourced<T>> for Node {
    fn from(number: &Sourced<T>) -> Self {
        Self::from(number.value.clone()).comment(number.origin.to_string())
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Measured { rule, figures } if figures.is_empty() => f.write_str(rule),
            Self::Measured { rule, figures } => {
                let figures: Vec<String> = figures.iter().map(ToString::to_string).collect();
                write!(f, "{rule}: {}", figures.join(", "))
            }
            Self::Stated(by) => write!(f, "stated by {by}"),
            Self::Assumed(why) => write!(f, "assumed: {why}"),
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}", self.key, quantity(self.value, self.unit))?;
        if self.doubts.is_empty() {
            return Ok(());
        }
        let doubts: Vec<String> = self.doubts.iter().map(ToString::to_string).collect();
        write!(f, " (doubt: {})", doubts.join("; "))
    }
}

/// A value as people read it.
pub(crate) fn quantity(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Bytes => ByteSize(value as u64).to_string(),
        Unit::Nanoseconds => {
            let (value, unit) = match value {
                ns if ns < 1e3 => (ns, "ns"),
                ns if ns < 1e6 => (ns / 1e3, "µs"),
                ns if ns < 1e9 => (ns / 1e6, "ms"),
                ns => (ns / 1e9, "s"),
            };
            // Three significant digits.
            let decimals = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
            format!("{value:.decimals$} {unit}")
        }
        Unit::PerSecond => format!("{} req/s", grouped(value)),
        Unit::Share => format!("{:.1} %", value * 100.0),
        Unit::Count => grouped(value),
    }
}

/// A whole number with commas between thousands; one below 10 keeps two decimals unless they are 0.
fn grouped(value: f64) -> String {
    if value < 10.0 && value.fract() != 0.0 {
        return format!("{value:.2}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_have_three_digits_and_a_unit() {
        for (value, unit, text) in [
            (827_400.0, Unit::Bytes, "827.4 kB"),
            (5_632.0, Unit::Nanoseconds, "5.63 µs"),
            (13_200_000.0, Unit::Nanoseconds, "13.2 ms"),
            (2e9, Unit::Nanoseconds, "2.00 s"),
            (1_234_567.0, Unit::PerSecond, "1,234,567 req/s"),
            (0.5, Unit::PerSecond, "0.50 req/s"),
            (0.7, Unit::Share, "70.0 %"),
            (64.0, Unit::Count, "64"),
        ] {
            assert_eq!(quantity(value, unit), text);
        }
    }
}
