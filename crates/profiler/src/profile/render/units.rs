//! Figures for people: three or four digits and a unit.

use tare_oci::units::ByteSize;

use crate::profile::metric::Unit;

/// A value in the base unit of its kind, as it is shown: `1.50 MB`, `2.50 ms`, `31,234 req/s`, `5.0 %`.
#[must_use]
pub fn shown(value: f64, unit: Unit) -> String {
    if !value.is_finite() {
        return "-".to_owned();
    }
    match unit {
        Unit::Bytes if value >= 0.0 => {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative")]
            let bytes = value.round() as u64;
            ByteSize(bytes).to_string()
        }
        Unit::Bytes => format!("-{}", shown(-value, unit)),
        Unit::Nanoseconds => duration(value),
        Unit::PerSecond => format!("{} req/s", separated(value)),
        Unit::Share => format!("{:.1} %", value * 100.0),
        Unit::Count => separated(value),
    }
}

fn duration(nanoseconds: f64) -> String {
    let size = nanoseconds.abs();
    // Bounds lie where rounding would carry into the next unit.
    let (value, unit) = match size {
        size if size < 999.5 => return format!("{nanoseconds:.0} ns"),
        size if size < 999_500.0 => (nanoseconds / 1e3, "µs"),
        size if size < 999_500_000.0 => (nanoseconds / 1e6, "ms"),
        _ => (nanoseconds / 1e9, "s"),
    };
    let decimals = match value.abs() {
        value if value < 9.995 => 2,
        value if value < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$} {unit}")
}

/// A number with a comma at every third digit; decimals only where it is small.
fn separated(value: f64) -> String {
    if value.fract() != 0.0 && value.abs() < 100.0 {
        return format!("{value:.2}");
    }
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits_and_their_unit() {
        for (value, unit, expected) in [
            (1_500_000.0, Unit::Bytes, "1.50 MB"),
            (-2_000.0, Unit::Bytes, "-2.0 kB"),
            (0.0, Unit::Nanoseconds, "0 ns"),
            (999.4, Unit::Nanoseconds, "999 ns"),
            (999.6, Unit::Nanoseconds, "1.00 µs"),
            (2_500_000.0, Unit::Nanoseconds, "2.50 ms"),
            (12_340_000.0, Unit::Nanoseconds, "12.3 ms"),
            (999_600_000.0, Unit::Nanoseconds, "1.00 s"),
            (123_456_789_000.0, Unit::Nanoseconds, "123 s"),
            (-3_000.0, Unit::Nanoseconds, "-3.00 µs"),
            (31_234.4, Unit::PerSecond, "31,234 req/s"),
            (0.05, Unit::Share, "5.0 %"),
            (1_234_567.0, Unit::Count, "1,234,567"),
            (0.25, Unit::Count, "0.25"),
            (3.0, Unit::Count, "3"),
            (f64::NAN, Unit::Count, "-"),
        ] {
            assert_eq!(shown(value, unit), expected, "{value} {unit:?}");
        }
    }
}
