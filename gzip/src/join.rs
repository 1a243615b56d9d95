//! Joining pieces to one gzip member.

use std::io::Write;
use std::ops::Range;

use crate::Error;
use crate::bits::Writer;

/// What a member begins with (RFC 1952, section 2.3): deflate, no flags, no time, an unknown system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// A part of a piece, in places of its deflate stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// Bytes of a match that began before the piece.
    Literals(Vec<u8>),
    /// Bits of a block with Huffman codes: its type and codes, and its tokens with the end.
    Block {
        /// From behind the bit that says whether it is the last.
        header: Range<u64>,
        /// To behind the end of the block.
        tokens: Range<u64>,
    },
    /// Bytes of a stored block.
    Stored(Range<usize>),
}

/// Compressed data that continues what came before it. Made by [`Compressor::piece`](crate::Compressor::piece).
#[derive(Debug)]
pub struct Piece {
    deflated: Vec<u8>,
    parts: Vec<Part>,
    /// CRC-32 of the data, with their length.
    checksum: crc32fast::Hasher,
    length: u64,
}

impl Piece {
    pub(crate) fn new(deflated: Vec<u8>, parts: Vec<Part>, data: &[u8]) -> Self {
        let checksum = crc32fast::Hasher::new_with_initial_len(libdeflater::crc32(data), data.len() as u64);
        Self { deflated, parts, checksum, length: data.len() as u64 }
    }
}

/// Writes pieces as one member, each at the bit where the one before it ended.
#[derive(Debug)]
pub struct Joiner<W> {
    sink: W,
    bits: Writer,
    ready: Vec<u8>,
    checksum: crc32fast::Hasher,
    /// Of everything so far, modulo 2³².
    length: u32,
}

impl<W: Write> Joiner<W> {
    /// Begins a member.
    pub fn new(sink: W) -> Self {
        Self {
            sink,
            bits: Writer::default(),
            ready: HEADER.to_vec(),
            checksum: crc32fast::Hasher::new(),
            length: 0,
        }
    }

    /// Appends a piece. It must have been made with the end of what was appended before it.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn append(&mut self, piece: &Piece) -> Result<(), Error> {
        let Self { bits, ready, .. } = self;
        for part in &piece.parts {
            match part {
                Part::Literals(bytes) => {
                    // Not the last block; with the fixed codes (RFC 1951, section 3.2.6).
                    bits.put(ready, 0b01 << 1, 3);
                    for byte in bytes {
                        let (word, length) = match u32::from(*byte) {
                            byte @ 0..144 => (0x30 + byte, 8),
                            byte => (0x190 + byte - 144, 9),
                        };
                        bits.put(ready, word.reverse_bits() >> (32 - length), length);
                    }
                    bits.put(ready, 0, 7);
                }
                Part::Block { header, tokens } => {
                    bits.put(ready, 0, 1);
                    bits.copy(ready, &piece.deflated, header.start, header.end);
                    bits.copy(ready, &piece.deflated, tokens.start, tokens.end);
                }
                Part::Stored(range) => {
                    bits.put(ready, 0, 3);
                    bits.align(ready);
                    let length = range.len() as u32;
                    bits.put(ready, length, 16);
                    bits.put(ready, !length & 0xffff, 16);
                    ready.extend_from_slice(&piece.deflated[range.clone()]);
                }
            }
        }
        self.checksum.combine(&piece.checksum);
        self.length = self.length.wrapping_add(piece.length as u32);
        self.sink.write_all(&self.ready)?;
        self.ready.clear();
        Ok(())
    }

    /// Ends the member and gives back the sink.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn finish(mut self) -> Result<W, Error> {
        // The last block, with the fixed codes and nothing in it.
        self.bits.put(&mut self.ready, 0b011, 10);
        self.bits.align(&mut self.ready);
        self.ready.extend_from_slice(&self.checksum.finalize().to_le_bytes());
        self.ready.extend_from_slice(&self.length.to_le_bytes());
        self.sink.write_all(&self.ready)?;
        Ok(self.sink)
    }
}
