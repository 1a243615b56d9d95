//! Sizes, durations and points in time, each with one spelling in and one out.
//!
//! Pure: no clock is read here. Integers throughout (bytes, nanoseconds, seconds); decimals appear
//! only in what is shown to people.

use std::fmt;
use std::str::FromStr;

/// A number of bytes. Shown in decimal units (1 kB = 1000 B), as registries and browsers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.0 {
            n if n < 1_000 => format!("{n} B"),
            n if n < 1_000_000 => format!("{:.1} kB", n as f64 / 1e3),
            n if n < 1_000_000_000 => format!("{:.2} MB", n as f64 / 1e6),
            n => format!("{:.2} GB", n as f64 / 1e9),
        };
        f.pad(&text)
    }
}

/// What is wrong with a size's text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a size: write a number and a unit (B, kB, MB, GB, KiB, MiB, GiB), such as `64MiB`")]
pub struct ByteSizeError(String);

/// Those that sizes are written in.
const SIZE_UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

impl ByteSize {
    /// The size to the byte in the unit that gives the smallest whole number: `64MiB`, `512MB`, `1001B`.
    #[must_use]
    pub fn exact(self) -> String {
        // The first of equals is kept, and bytes divide everything.
        let whole = SIZE_UNITS.iter().filter(|(_, factor)| self.0 != 0 && self.0.is_multiple_of(*factor));
        let (unit, factor) = whole.min_by_key(|(_, factor)| self.0 / factor).unwrap_or(&("B", 1));
        format!("{}{unit}", self.0 / factor)
    }
}

/// `64MiB`, `1.5 GB`, `4096B`; docker's `64m` is not taken, for it means 64 MiB.
impl FromStr for ByteSize {
    type Err = ByteSizeError;

    fn from_str(text: &str) -> Result<Self, ByteSizeError> {
        let error = || ByteSizeError(text.to_owned());
        let letters = text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(error)?;
        let (number, unit) = (text[..letters].trim_end(), &text[letters..]);
        let (_, factor) = SIZE_UNITS.iter().find(|(known, _)| *known == unit).ok_or_else(error)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        // Six decimals of a GiB are a kilobyte: nobody means more.
        if !digits(whole) || !digits(fraction) || fraction.len() > 6 {
            return Err(error());
        }
        let whole: u64 = whole.parse().map_err(|_| error())?;
        let parts: u64 = format!("{fraction:0<6}").parse().map_err(|_| error())?;
        // A part of a unit, below 2^30 · 10^6.
        let part = parts * factor / 1_000_000;
        let bytes = whole.checked_mul(*factor).and_then(|bytes| bytes.checked_add(part));
        // Kernel files hold signed 64-bit numbers.
        bytes.filter(|bytes| *bytes <= i64::MAX as u64).map(Self).ok_or_else(error)
    }
}

/// What is wrong with a duration's text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a duration: write a number and a unit (ns, us, ms, s, m, h), such as `30s` or `1m30s`")]
pub struct DurationError(String);

/// A length of time in whole nanoseconds, written like Go's and Docker's (`30s`, `1m30s`, `500ms`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nanoseconds(pub u64);

const DURATION_UNITS: [(&str, u64); 6] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

impl FromStr for Nanoseconds {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        let error = || DurationError(text.to_owned());
        if text == "0" {
            return Ok(Self(0));
        }
        let mut rest = text;
        let mut total = 0_u64;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(error)?;
            let number: u64 = rest[..digits].parse().map_err(|_| error())?;
            rest = &rest[digits..];
            let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
            let (_, factor) =
                DURATION_UNITS.iter().find(|(unit, _)| *unit == &rest[..letters]).ok_or_else(error)?;
            rest = &rest[letters..];
            let part = number.checked_mul(*factor).ok_or_else(error)?;
            // Docker's durations are signed 64-bit nanoseconds; more than that cannot be stored.
            total = total.checked_add(part).filter(|t| *t <= i64::MAX as u64).ok_or_else(error)?;
        }
        if text.is_empty() { Err(error()) } else { Ok(Self(total)) }
    }
}

impl fmt::Display for Nanoseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        if rest == 0 {
            return f.write_str("0s");
        }
        for (unit, factor) in DURATION_UNITS {
            if rest >= factor {
                write!(f, "{}{unit}", rest / factor)?;
                rest %= factor;
            }
        }
        Ok(())
    }
}

/// What is wrong with a point in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EpochError {
    /// Not a whole number of seconds.
    #[error("`{0}` is not a whole number of seconds since 1970-01-01T00:00:00Z")]
    NotSeconds(String),
    /// After 9999-12-31, which RFC 3339 cannot write.
    #[error("{0} seconds lie after the year 9999")]
    TooLate(u64),
}

/// Seconds since 1970-01-01T00:00:00Z, from 0 to the end of the year 9999.
///
/// `FromStr` takes the spelling of [SOURCE_DATE_EPOCH](https://reproducible-builds.org/specs/source-date-epoch/).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(u64);

/// 9999-12-31T23:59:59Z.
const LAST_SECOND: u64 = 253_402_300_799;

impl Epoch {
    /// 1970-01-01T00:00:00Z.
    pub const ZERO: Self = Self(0);

    /// The modification time of files in layers unless their definition says otherwise: 1970-01-01T00:00:01Z, as
    /// Jib's. A layer whose files did not change keeps its digest from commit to commit, and no program takes the
    /// time for an unset one.
    pub const OF_FILES: Self = Self(1);

    /// A time by its seconds.
    ///
    /// # Errors
    /// When it lies after the year 9999.
    pub fn from_seconds(seconds: u64) -> Result<Self, EpochError> {
        if seconds > LAST_SECOND { Err(EpochError::TooLate(seconds)) } else { Ok(Self(seconds)) }
    }

    /// The seconds.
    #[must_use]
    pub fn seconds(self) -> u64 {
        self.0
    }
}

impl FromStr for Epoch {
    type Err = EpochError;

    fn from_str(text: &str) -> Result<Self, EpochError> {
        // `parse` alone would take a leading plus sign.
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(EpochError::NotSeconds(text.to_owned()));
        }
        let seconds = text.parse().map_err(|_| EpochError::NotSeconds(text.to_owned()))?;
        Self::from_seconds(seconds)
    }
}

/// RFC 3339 in UTC with whole seconds, the form of `org.opencontainers.image.created`.
impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil_from_days(self.0 / 86_400);
        let second = self.0 % 86_400;
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
            second / 3_600,
            second / 60 % 60,
            second % 60
        )
    }
}

/// The Gregorian date of a day counted from 1970-01-01.
///
/// Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`. Fourteen lines
/// here spare everybody who builds an image the seconds that a calendar library takes to compile.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

/// Whether a text is an RFC 3339 date and time, as `created` must be (image-spec config.md).
#[must_use]
pub fn is_rfc3339(text: &str) -> bool {
    const FIXED: usize = "0000-00-00T00:00:00".len();
    // Every digit as 0: what is left is the shape.
    let shape: String =
        text.to_ascii_uppercase().chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    let Some(("0000-00-00T00:00:00", zone)) = shape.split_at_checked(FIXED) else { return false };
    let zone = match zone.strip_prefix(".0") {
        Some(fraction) => fraction.trim_start_matches('0'),
        None => zone,
    };
    let between = |from: usize, low: u32, high: u32| {
        text.get(from..from + 2)
            .and_then(|number| number.parse().ok())
            .is_some_and(|n| (low..=high).contains(&n))
    };
    // A leap second is written :60.
    let ranges = [(5, 1, 12), (8, 1, 31), (11, 0, 23), (14, 0, 59), (17, 0, 60)];
    let offset = text.len().saturating_sub(5);
    let zone_ok = match zone {
        "Z" => true,
        "+00:00" | "-00:00" => between(offset, 0, 23) && between(offset + 3, 0, 59),
        _ => false,
    };
    zone_ok && ranges.into_iter().all(|(from, low, high)| between(from, low, high))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_shown_in_decimal_units() {
        let shown: Vec<String> =
            [0, 999, 1_000, 349_777, 1_234_567, 5_000_000_000].map(|n| ByteSize(n).to_string()).into();
        assert_eq!(shown, ["0 B", "999 B", "1.0 kB", "349.8 kB", "1.23 MB", "5.00 GB"]);
    }

    #[test]
    fn sizes_are_read_with_their_unit_and_spelled_to_the_byte() {
        for (text, bytes, exact) in [
            ("64MiB", 64 << 20, "64MiB"),
            ("512 MB", 512_000_000, "512MB"),
            ("1.5GB", 1_500_000_000, "1500MB"),
            ("0.5KiB", 512, "512B"),
            ("1001B", 1001, "1001B"),
            ("0B", 0, "0B"),
            ("1024B", 1024, "1KiB"),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
            assert_eq!(ByteSize(bytes).exact(), exact);
            assert_eq!(exact.parse(), Ok(ByteSize(bytes)), "{exact}");
        }
        for text in
            ["", "64", "64m", "512M", "-1B", "+1B", "1.B", ".5MB", "1e3B", "99999999999GiB", "1.0000001GB"]
        {
            assert_eq!(text.parse::<ByteSize>(), Err(ByteSizeError(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn durations_round_trip() {
        for (text, nanoseconds) in [
            ("30s", 30_000_000_000),
            ("1m30s", 90_000_000_000),
            ("500ms", 500_000_000),
            ("2h", 7_200_000_000_000),
            ("1us1ns", 1_001),
        ] {
            let parsed: Nanoseconds = text.parse().unwrap();
            assert_eq!((parsed, parsed.to_string()), (Nanoseconds(nanoseconds), text.to_owned()));
        }
        assert_eq!("0".parse(), Ok(Nanoseconds(0)));
    }

    #[test]
    fn durations_without_unit_or_beyond_64_bits_are_refused() {
        for text in ["", "30", "s", "-1s", "1.5s", "1d", "9999999999h", "1s2", "١s"] {
            assert_eq!(text.parse::<Nanoseconds>(), Err(DurationError(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn times_are_written_as_rfc3339() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_795_478_400, "2026-11-24T00:00:00Z"),
            (LAST_SECOND, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(Epoch(seconds).to_string(), text);
        }
    }

    #[test]
    fn source_date_epoch_takes_digits_only() {
        assert_eq!("1700000000".parse(), Ok(Epoch(1_700_000_000)));
        for text in ["", "now", "-1", "+1", "1.5", " 1", "99999999999999999999999"] {
            assert_eq!(text.parse::<Epoch>(), Err(EpochError::NotSeconds(text.to_owned())), "{text}");
        }
        assert_eq!("253402300800".parse::<Epoch>(), Err(EpochError::TooLate(253_402_300_800)));
    }

    #[test]
    fn rfc3339_is_told_from_what_only_looks_like_it() {
        for good in ["2026-11-24T00:00:00Z", "2026-11-24t23:59:60.123456789z", "0001-01-01T00:00:00+02:30"] {
            assert!(is_rfc3339(good), "{good}");
        }
        for bad in [
            "",
            "2026-11-24",
            "2026-11-24 00:00:00Z",
            "2026-13-24T00:00:00Z",
            "2026-11-24T24:00:00Z",
            "2026-11-24T00:00:00",
            "2026-11-24T00:00:00.Z",
            "2026-11-24T00:00:00+2:30",
            "2026-11-24T00:00:00Zé",
        ] {
            assert!(!is_rfc3339(bad), "{bad}");
        }
    }
}
