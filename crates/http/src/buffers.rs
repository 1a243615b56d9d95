//! What a request is read into and its answer written to.

use crate::date::IMF_FIXDATE;

/// Bytes of each buffer. A whole head fits, and sixteen small requests with their answers.
pub(crate) const BUFFER: usize = 16 << 10;

/// What a request is read into and its answer written to. A connection has them only while there is
/// something in them: an idle one has none, and a slow one what it has sent so far.
pub(crate) struct Buffers {
    /// What has come, of which `start..end` is unread.
    pub(crate) input: Box<[u8]>,
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// What is to be sent, from `sent` on. It never grows.
    pub(crate) output: Vec<u8>,
    pub(crate) sent: usize,
    /// The date of answers, as of when the buffers were taken or filled.
    pub(crate) date: [u8; IMF_FIXDATE],
    /// Milliseconds since the worker's start, as of the same moment.
    pub(crate) now: u64,
}

impl Buffers {
    pub(crate) fn new() -> Self {
        Self {
            // Zeroed by the kernel: pages that are never used cost nothing.
            input: vec![0; BUFFER].into(),
            start: 0,
            end: 0,
            output: Vec::with_capacity(BUFFER),
            sent: 0,
            date: [0; IMF_FIXDATE],
            now: 0,
        }
    }

    #[inline]
    pub(crate) fn unread(&self) -> &[u8] {
        &self.input[self.start..self.end]
    }

    /// Makes room again if everything has been sent, and tells whether it has.
    pub(crate) fn forget_sent(&mut self) -> bool {
        let all = self.sent == self.output.len();
        if all {
            self.output.clear();
            self.sent = 0;
        }
        all
    }

    pub(crate) fn room(&self) -> usize {
        self.output.capacity() - self.output.len()
    }
}
