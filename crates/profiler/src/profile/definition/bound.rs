//! Bounds of gates: a text in the unit of its metric.

use tare_oci::units::{ByteSize, Nanoseconds};

use crate::profile::metric::Unit;

/// What a bound in this unit looks like.
pub(super) fn expected(unit: Unit) -> String {
    match unit {
        Unit::Bytes => "a size with a unit, such as \"5MB\"",
        Unit::Nanoseconds => "a duration with a unit, such as \"20ms\"",
        Unit::PerSecond => "a rate, such as 10000",
        Unit::Share => "a share, such as \"5%\" or 0.05",
        Unit::Count => "a number, such as 3",
    }
    .to_owned()
}

/// A bound's text in the unit of its metric.
pub(super) fn bound(text: &str, unit: Unit) -> Result<f64, String> {
    let value = match unit {
        #[expect(clippy::cast_precision_loss, reason = "a bound beyond 2^53 bytes is none")]
        Unit::Bytes => text.parse::<ByteSize>().ok().map(|size| size.0 as f64),
        Unit::Nanoseconds => nanoseconds(text),
        Unit::PerSecond => text.strip_suffix("/s").and_then(|number| number.trim_end().parse().ok()),
        Unit::Share => percent(text),
        Unit::Count => text.parse().ok(),
    };
    value.ok_or_else(|| expected(unit))
}

/// A duration as elsewhere, or with decimals and one unit (`2.5ms`), as figures are shown.
fn nanoseconds(text: &str) -> Option<f64> {
    if let Ok(whole) = text.parse::<Nanoseconds>() {
        #[expect(clippy::cast_precision_loss, reason = "a bound beyond 2^53 nanoseconds is none")]
        return Some(whole.0 as f64);
    }
    let letters = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let number: f64 = text[..letters].parse().ok()?;
    let factor = match text[letters..].trim_start() {
        "ns" => 1.0,
        "us" | "µs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        _ => return None,
    };
    Some(number * factor)
}

/// `5%` as 0.05.
pub(super) fn percent(text: &str) -> Option<f64> {
    let number: f64 = text.strip_suffix('%')?.trim_end().parse().ok()?;
    (number.is_finite() && number >= 0.0).then_some(number / 100.0)
}
