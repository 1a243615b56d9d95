//! Measured numbers: one for each round, with the statistics that are shown.
//!
//! Everything is a whole number; a ratio is kept in millionths.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use tare_oci::units::ByteSize;

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Unit {
    Nanoseconds,
    /// Of something short: shown in microseconds.
    #[serde(rename = "nanoseconds")]
    ShortNanoseconds,
    Bytes,
    /// A ratio in millionths.
    Millionths,
    Count,
}

/// One.
pub(super) const MILLION: u64 = 1_000_000;

/// The same thing measured once in each round, in the order of the rounds. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Series {
    unit: Unit,
    values: Vec<u64>,
}

impl Series {
    /// How long it took in each round.
    pub(super) fn times(durations: impl IntoIterator<Item = Duration>) -> Self {
        // 64 bits of nanoseconds are 584 years.
        let values = durations.into_iter().map(|duration| duration.as_nanos() as u64).collect();
        Self { unit: Unit::Nanoseconds, values }
    }

    /// Nanoseconds of something that takes milliseconds.
    pub(super) fn times_of(nanoseconds: Vec<u64>) -> Self {
        Self { unit: Unit::Nanoseconds, values: nanoseconds }
    }

    /// Nanoseconds of something that takes microseconds.
    pub(super) fn short_times(nanoseconds: Vec<u64>) -> Self {
        Self { unit: Unit::ShortNanoseconds, values: nanoseconds }
    }

    /// In millionths.
    pub(super) fn ratios(millionths: Vec<u64>) -> Self {
        Self { unit: Unit::Millionths, values: millionths }
    }

    pub(super) fn counts(values: Vec<u64>) -> Self {
        Self { unit: Unit::Count, values }
    }

    pub(super) fn all_bytes(values: Vec<u64>) -> Self {
        Self { unit: Unit::Bytes, values }
    }

    /// What does not differ from round to round.
    pub(super) fn once(unit: Unit, value: u64) -> Self {
        Self { unit, values: vec![value] }
    }

    pub(super) fn bytes(value: u64) -> Self {
        Self::once(Unit::Bytes, value)
    }

    /// The middle of the rounds; of an even number, the mean of the two in the middle.
    pub(super) fn median(&self) -> u64 {
        let mut sorted = self.values.clone();
        sorted.sort_unstable();
        match (sorted.len() / 2, sorted.len() % 2) {
            (0, 0) => 0,
            (half, 0) => sorted[half - 1].midpoint(sorted[half]),
            (half, _) => sorted[half],
        }
    }

    pub(super) fn min(&self) -> u64 {
        self.values.iter().copied().min().unwrap_or_default()
    }

    pub(super) fn max(&self) -> u64 {
        self.values.iter().copied().max().unwrap_or_default()
    }

    /// Its ratio to another in each round: what disturbs a round disturbs both.
    pub(super) fn over(&self, other: &Self) -> Self {
        let ratio = |(a, b): (&u64, &u64)| ratio(*a, *b);
        Self { unit: Unit::Millionths, values: self.values.iter().zip(&other.values).map(ratio).collect() }
    }

    /// What is left in each round when the other is taken away; nothing if the other is larger.
    pub(super) fn beyond(&self, other: &Self) -> Self {
        let values = self.values.iter().zip(&other.values).map(|(a, b)| a.saturating_sub(*b)).collect();
        Self { unit: self.unit, values }
    }

    pub(super) fn show(&self, value: u64) -> String {
        match self.unit {
            Unit::Nanoseconds if value < 10_000_000_000 => {
                format!("{}.{:01} ms", value / MILLION, value / 100_000 % 10)
            }
            Unit::Nanoseconds => format!("{}.{:01} s", value / 1_000_000_000, value / 100_000_000 % 10),
            Unit::ShortNanoseconds => format!("{}.{:02} µs", grouped(value / 1000), value / 10 % 100),
            // Goals are set to the byte where sizes are small.
            Unit::Bytes if value < 10 * MILLION => grouped(value) + " B",
            Unit::Bytes => ByteSize(value).to_string(),
            // Not rounded, so that what is shown never contradicts a verdict.
            Unit::Millionths => format!("{}.{:04}", value / MILLION, value / 100 % 10_000),
            Unit::Count => grouped(value),
        }
    }
}

/// In millionths.
pub(super) fn ratio(a: u64, b: u64) -> u64 {
    u64::try_from(u128::from(a) * u128::from(MILLION) / u128::from(b.max(1))).unwrap_or(u64::MAX)
}

/// `1,234,567`
fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The median, and in brackets the smallest and largest where they differ.
impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.show(self.median()))?;
        if self.min() == self.max() {
            return Ok(());
        }
        let (min, max) = (self.show(self.min()), self.show(self.max()));
        let min = min.split(' ').next().unwrap_or_default();
        let max = max.split(' ').next().unwrap_or_default();
        write!(f, " ({min}–{max})")
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SeriesJson<'a> {
    unit: Unit,
    median: u64,
    min: u64,
    max: u64,
    rounds: &'a [u64],
}

impl Serialize for Series {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (median, min, max) = (self.median(), self.min(), self.max());
        SeriesJson { unit: self.unit, median, min, max, rounds: &self.values }.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn milliseconds(values: &[u64]) -> Series {
        Series::times(values.iter().map(|value| Duration::from_millis(*value)))
    }

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_the_two_in_the_middle() {
        assert_eq!(milliseconds(&[9, 1, 5]).median(), 5 * MILLION);
        assert_eq!(milliseconds(&[9, 1, 5, 6]).median(), 5_500_000);
        assert_eq!(Series::bytes(7).median(), 7);
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let ratios = milliseconds(&[10, 40]).over(&milliseconds(&[20, 160]));
        assert_eq!(ratios.values, [500_000, 250_000]);
        assert_eq!(milliseconds(&[5, 3]).beyond(&milliseconds(&[2, 4])).values, [3 * MILLION, 0]);
    }

    #[test]
    fn numbers_are_shown_with_median_and_range() {
        assert_eq!(milliseconds(&[10, 12, 11]).to_string(), "11.0 ms (10.0–12.0)");
        assert_eq!(Series::bytes(1_234_567).to_string(), "1,234,567 B");
        assert_eq!(Series::short_times(vec![6_529, 1_012_345]).to_string(), "509.43 µs (6.52–1,012.34)");
        assert_eq!(Series::bytes(999).to_string(), "999 B");
        assert_eq!(Series::once(Unit::Millionths, 250_099).to_string(), "0.2500");
        assert_eq!(milliseconds(&[61_250]).to_string(), "61.2 s");
    }
}
