//! The date of answers.

use std::io::Write as _;
use std::time::SystemTime;

/// Length of a date in the form that is sent (RFC 9110, 5.6.7), always.
pub(crate) const IMF_FIXDATE: usize = 29;

/// `Sun, 06 Nov 1994 08:49:37 GMT`; blank for times that the form does not have.
pub(crate) fn imf_fixdate(time: SystemTime) -> [u8; IMF_FIXDATE] {
    let mut text = [b' '; IMF_FIXDATE];
    // It fits: its length is fixed.
    let _ = write!(&mut text[..], "{}", httpdate::HttpDate::from(time));
    text
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

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
    }
}
