//! The date of answers.

use std::io::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Length of a date in the form that is sent (RFC 9110, 5.6.7), always.
pub(crate) const IMF_FIXDATE: usize = 29;

/// The last second of the year 9999, the last that the form has.
const LAST: Duration = Duration::from_secs(253_402_300_799);

/// `Sun, 06 Nov 1994 08:49:37 GMT`; the first or the last that there is for a clock that is wrong by ages.
pub(crate) fn imf_fixdate(time: SystemTime) -> [u8; IMF_FIXDATE] {
    let mut text = [b' '; IMF_FIXDATE];
    let time = UNIX_EPOCH + time.duration_since(UNIX_EPOCH).unwrap_or_default().min(LAST);
    // It fits: its length is fixed.
    let _ = write!(&mut text[..], "{}", httpdate::HttpDate::from(time));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_seconds_are_known_dates() {
        for (seconds, expected) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (4_107_542_399, "Sun, 28 Feb 2100 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
            (253_402_300_799, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            let found = imf_fixdate(UNIX_EPOCH + Duration::from_secs(seconds));
            assert_eq!(std::str::from_utf8(&found), Ok(expected));
        }
        for (time, expected) in [
            (UNIX_EPOCH - Duration::from_secs(1), "Thu, 01 Jan 1970 00:00:00 GMT"),
            (UNIX_EPOCH + Duration::from_secs(253_402_300_800), "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            assert_eq!(std::str::from_utf8(&imf_fixdate(time)), Ok(expected));
        }
    }
}
