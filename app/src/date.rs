//! Times as logs write them. Pure: seconds since 1970 go in.

use std::fmt;

struct Civil {
    year: u64,
    month: usize,
    day: u64,
    second_of_day: u64,
}

/// Days to year, month and day: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms",
/// `civil_from_days`, for days after 1970.
fn civil(seconds: u64) -> Civil {
    let days = seconds / 86_400;
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    Civil {
        year: year_of_era + era * 400 + u64::from(month <= 2),
        month: month as usize,
        day: day_of_year - (153 * shifted_month + 2) / 5 + 1,
        second_of_day: seconds % 86_400,
    }
}

/// `1994-11-06T08:49:37Z` (RFC 3339).
pub(crate) fn rfc3339(seconds: u64) -> impl fmt::Display {
    let Civil { year, month, day, second_of_day, .. } = civil(seconds);
    let (hour, minute, second) = (second_of_day / 3600, second_of_day / 60 % 60, second_of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_seconds_are_known_dates() {
        for (seconds, log) in [
            (0, "1970-01-01T00:00:00Z"),
            (784_111_777, "1994-11-06T08:49:37Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(seconds).to_string(), log);
        }
    }
}
