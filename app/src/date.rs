//! Times as HTTP and logs write them. Pure: seconds since 1970 go in.

use std::fmt;

/// Length of [`imf_fixdate`], always.
pub(crate) const IMF_FIXDATE: usize = 29;

struct Civil {
    year: u64,
    month: usize,
    day: u64,
    weekday: usize,
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
        // 1970 began on a Thursday.
        weekday: ((days + 4) % 7) as usize,
        second_of_day: seconds % 86_400,
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, 5.6.7). Correct until the year 9999.
pub(crate) fn imf_fixdate(seconds: u64) -> [u8; IMF_FIXDATE] {
    const DAYS: &[u8; 21] = b"SunMonTueWedThuFriSat";
    const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";

    let civil = civil(seconds);
    let mut text = *b"Sun, 00 Jan 0000 00:00:00 GMT";
    text[..3].copy_from_slice(&DAYS[civil.weekday * 3..][..3]);
    text[8..11].copy_from_slice(&MONTHS[(civil.month - 1) * 3..][..3]);
    let mut two = |at: usize, value: u64| {
        text[at] = b'0' + (value / 10 % 10) as u8;
        text[at + 1] = b'0' + (value % 10) as u8;
    };
    two(5, civil.day);
    two(12, civil.year / 100);
    two(14, civil.year % 100);
    two(17, civil.second_of_day / 3600);
    two(20, civil.second_of_day / 60 % 60);
    two(23, civil.second_of_day % 60);
    text
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
        for (seconds, http, log) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT", "1970-01-01T00:00:00Z"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT", "1994-11-06T08:49:37Z"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT", "2000-02-29T00:00:00Z"),
            (4_107_542_399, "Sun, 28 Feb 2100 23:59:59 GMT", "2100-02-28T23:59:59Z"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT", "2100-03-01T00:00:00Z"),
            (253_402_300_799, "Fri, 31 Dec 9999 23:59:59 GMT", "9999-12-31T23:59:59Z"),
        ] {
            let found = imf_fixdate(seconds);
            assert_eq!(std::str::from_utf8(&found), Ok(http));
            assert_eq!(rfc3339(seconds).to_string(), log);
        }
    }
}
