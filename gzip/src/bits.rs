//! Bits in deflate's order: the first is the lowest of the first byte (RFC 1951, section 3.1.1).

/// Reads bits of a slice; behind its end there are zeros, and [`Reader::overran`] says so.
#[derive(Clone)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    /// The next byte that is not in `buffer` yet.
    next: usize,
    buffer: u64,
    /// How many bits of the buffer are valid.
    count: u32,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, next: 0, buffer: 0, count: 0 }
    }

    /// Where the next bit is, from the start of the slice.
    pub(crate) fn position(&self) -> u64 {
        self.next as u64 * 8 - u64::from(self.count)
    }

    /// Whether bits were taken that are not there.
    pub(crate) fn overran(&self) -> bool {
        self.position() > self.bytes.len() as u64 * 8
    }

    /// Makes at least 56 bits available, which may be zeros behind the end.
    #[inline]
    pub(crate) fn refill(&mut self) {
        if let Some(chunk) = self.bytes.get(self.next..).and_then(|rest| rest.first_chunk::<8>()) {
            self.buffer |= u64::from_le_bytes(*chunk) << self.count;
            let taken = (63 - self.count) >> 3;
            self.next += taken as usize;
            self.count += taken * 8;
        } else {
            while self.count <= 56 {
                let byte = self.bytes.get(self.next).copied().unwrap_or(0);
                self.buffer |= u64::from(byte) << self.count;
                self.next += 1;
                self.count += 8;
            }
        }
    }

    /// Takes bits of those that [`refill`](Self::refill) has made available.
    #[inline]
    pub(crate) fn take_filled(&mut self, count: u32) -> u32 {
        let value = (self.buffer & ((1 << count) - 1)) as u32;
        self.skip(count);
        value
    }

    /// The next bits without taking them, as many as [`refill`](Self::refill) has left.
    #[inline]
    pub(crate) fn peek_filled(&self) -> u32 {
        self.buffer as u32
    }

    /// Takes bits that were peeked at.
    #[inline]
    pub(crate) fn skip(&mut self, count: u32) {
        self.buffer >>= count;
        self.count -= count;
    }

    /// Takes at most 16 bits.
    #[inline]
    pub(crate) fn take(&mut self, count: u32) -> u32 {
        if self.count < count {
            self.refill();
        }
        self.take_filled(count)
    }

    /// Skips what is left of a byte.
    pub(crate) fn align(&mut self) {
        self.skip(self.count % 8);
    }

    /// Skips whole bytes, from the start of one; `None` if there are not as many.
    pub(crate) fn skip_bytes(&mut self, count: usize) -> Option<()> {
        let start = (self.position() / 8) as usize;
        let end = start.checked_add(count).filter(|end| *end <= self.bytes.len())?;
        (self.next, self.buffer, self.count) = (end, 0, 0);
        Some(())
    }
}

/// Appends bits to bytes; the bits of an unfinished byte are kept aside.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    buffer: u64,
    /// Below 32 between calls.
    count: u32,
}

impl Writer {
    /// At most 32 bits.
    #[inline]
    pub(crate) fn put(&mut self, out: &mut Vec<u8>, value: u32, count: u32) {
        self.buffer |= u64::from(value) << self.count;
        self.count += count;
        if self.count >= 32 {
            out.extend_from_slice(&(self.buffer as u32).to_le_bytes());
            self.buffer >>= 32;
            self.count -= 32;
        }
    }

    /// Many at once, at most 48 bits each (as a token of deflate has: RFC 1951, section 3.2.5) and `length` together.
    #[inline]
    pub(crate) fn put_all(
        &mut self,
        out: &mut Vec<u8>,
        length: u64,
        words: impl Iterator<Item = (u64, u32)>,
    ) {
        let mut place = out.len();
        // Whole registers are written, of which only some bytes count.
        out.resize(place + (u64::from(self.count) + length).div_ceil(8) as usize + 16, 0);
        let (mut buffer, mut count) = (self.buffer, self.count);
        let mut flush = |buffer: &mut u64, count: &mut u32| {
            out[place..place + 8].copy_from_slice(&buffer.to_le_bytes());
            place += (*count / 8) as usize;
            *buffer >>= *count & !7;
            *count &= 7;
        };
        for (value, bits) in words {
            // So that there are at most 7 before it.
            flush(&mut buffer, &mut count);
            buffer |= value << count;
            count += bits;
        }
        flush(&mut buffer, &mut count);
        out.truncate(place);
        (self.buffer, self.count) = (buffer, count);
    }

    /// Fills the byte up with zeros, and appends all there is.
    pub(crate) fn align(&mut self, out: &mut Vec<u8>) {
        let bytes = self.count.div_ceil(8) as usize;
        out.extend_from_slice(&self.buffer.to_le_bytes()[..bytes]);
        *self = Self::default();
    }

    /// How many bits there are, with those of `out`.
    pub(crate) fn position(&self, out: &[u8]) -> u64 {
        out.len() as u64 * 8 + u64::from(self.count)
    }

    /// Bits `from..to` of `bytes`.
    pub(crate) fn copy(&mut self, out: &mut Vec<u8>, bytes: &[u8], from: u64, to: u64) {
        let mut reader = Reader::new(bytes);
        reader.next = (from / 8) as usize;
        let mut left = to - from;
        let head = u64::from((8 - (from % 8) as u32) % 8).min(left);
        if head > 0 {
            reader.take((from % 8) as u32);
            let bits = reader.take(head as u32);
            self.put(out, bits, head as u32);
            left -= head;
        }
        // Whole bytes from here: shifted together as many at a time as a register takes.
        let start = ((to - left) / 8) as usize;
        let whole = &bytes[start..start + (left / 8) as usize];
        out.reserve(whole.len() + 1);
        if self.count == 0 {
            out.extend_from_slice(whole);
        } else {
            let (chunks, rest) = whole.as_chunks::<4>();
            for chunk in chunks {
                self.buffer |= u64::from(u32::from_le_bytes(*chunk)) << self.count;
                out.extend_from_slice(&(self.buffer as u32).to_le_bytes());
                self.buffer >>= 32;
            }
            for byte in rest {
                self.put(out, u32::from(*byte), 8);
            }
        }
        let tail = (left % 8) as u32;
        if tail > 0 {
            let last = u32::from(bytes[start + whole.len()]);
            self.put(out, last & ((1 << tail) - 1), tail);
        }
    }
}
