//! How slow a client may be.

/// A slow client has its time extended by a second for each of so many bytes.
const BYTES_PER_SECOND: u64 = 1 << 10;

/// A client that is slower than this is cut off: so much time, and a second for each KiB.
pub(crate) struct Pace {
    pub(crate) start: u64,
    pub(crate) grace: u64,
    pub(crate) bytes: u64,
}

impl Pace {
    pub(crate) fn deadline(&self) -> u64 {
        self.start.saturating_add(self.grace).saturating_add(self.bytes * 1000 / BYTES_PER_SECOND)
    }
}
