//! Values as they are written in a file, a variable or a flag, and how they are shown again.

use std::fmt::Display;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::log::{Filter, Format};
use crate::sizing::Rules;

/// A value of a setting. `u64` are bytes.
pub(super) trait Value: Sized {
    /// Reads it; none when it is something else.
    fn parse(text: &str) -> Option<Self>;
    /// As [`Self::parse`] reads it; none when it is left to be decided.
    fn show(&self) -> Option<String>;
}

/// For each type: how it is read, and how it is shown.
macro_rules! values {
    ($($kind:ty: $parse:expr, $show:expr;)*) => {$(
        impl Value for $kind {
            fn parse(text: &str) -> Option<Self> {
                $parse(text)
            }

            fn show(&self) -> Option<String> {
                Some($show(self))
            }
        }
    )*};
}

values! {
    bool: number, ToString::to_string;
    u16: number, ToString::to_string;
    u32: number, ToString::to_string;
    usize: number, ToString::to_string;
    u64: bytes, |it: &u64| show_bytes(*it);
    Duration: duration, |it: &Duration| show_duration(*it);
    IpAddr: |text: &str| text.parse().ok(), ToString::to_string;
    PathBuf: |text: &str| (!text.is_empty()).then(|| text.into()), |it: &PathBuf| it.display().to_string();
    Filter: Filter::parse, ToString::to_string;
    Format: Format::parse, |it: &Format| it.name().to_owned();
    Rules: Rules::parse, |it: &Rules| it.name().to_owned();
}

impl<T: Value> Value for Option<T> {
    fn parse(text: &str) -> Option<Self> {
        T::parse(text).map(Some)
    }

    fn show(&self) -> Option<String> {
        self.as_ref()?.show()
    }
}

fn number<T: FromStr + Display>(text: &str) -> Option<T> {
    // `+1` and `01` would read as numbers too, and show as others.
    text.parse::<T>().ok().filter(|number| number.to_string() == text)
}

/// `500ms`, `30s`, `5m`, `2h`, `1d`. A unit is asked for, because a bare number has been taken for seconds
/// and for milliseconds.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|it: char| !it.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let seconds = |each: u64| number.checked_mul(each).map(Duration::from_secs);
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => seconds(1),
        "m" => seconds(60),
        "h" => seconds(3600),
        "d" => seconds(86_400),
        _ => None,
    }
}

fn show_duration(duration: Duration) -> String {
    if duration.subsec_millis() > 0 {
        format!("{}ms", duration.as_millis())
    } else {
        format!("{}s", duration.as_secs())
    }
}

/// `4096`, `64KiB`, `16MiB`, `1GiB`.
fn bytes(text: &str) -> Option<u64> {
    let digits = text.find(|it: char| !it.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let shift = match unit {
        "" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

fn show_bytes(bytes: u64) -> String {
    for (unit, shift) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] {
        if bytes > 0 && bytes.trailing_zeros() >= shift {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duration_is_a_number_with_a_unit() {
        for (text, expected) in [
            ("500ms", Some(Duration::from_millis(500))),
            ("30s", Some(Duration::from_secs(30))),
            ("5m", Some(Duration::from_secs(300))),
            ("2h", Some(Duration::from_secs(7200))),
            ("1d", Some(Duration::from_secs(86_400))),
            ("0s", Some(Duration::ZERO)),
            ("30", None),
            ("s", None),
            ("-1s", None),
            ("1.5s", None),
            ("1 s", None),
            ("5 parsecs", None),
            ("18446744073709551615d", None),
        ] {
            assert_eq!(duration(text), expected, "{text:?}");
        }
    }

    #[test]
    fn size_is_a_number_of_bytes_with_or_without_a_unit() {
        for (text, expected) in [
            ("4096", Some(4096)),
            ("64KiB", Some(65_536)),
            ("16MiB", Some(16 << 20)),
            ("1GiB", Some(1 << 30)),
            ("0", Some(0)),
            ("1MB", None),
            ("KiB", None),
            ("-1", None),
            ("18446744073709551615KiB", None),
        ] {
            assert_eq!(bytes(text), expected, "{text:?}");
        }
    }

    #[test]
    fn what_is_shown_reads_as_the_same() {
        for it in ["500ms", "30s", "1500ms", "0s"].map(|text| duration(text).unwrap()) {
            assert_eq!(duration(&show_duration(it)), Some(it));
        }
        for it in [0, 1, 1023, 1024, 65_536, 3 << 20, (1 << 30) + 1] {
            assert_eq!(bytes(&show_bytes(it)), Some(it));
        }
    }
}
