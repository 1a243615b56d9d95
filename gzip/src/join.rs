//! Joining pieces to one gzip member.

use std::io::Write;
use std::ops::Range;

use crate::Error;
use crate::bits::Writer;
use crate::deflate;
use crate::inflate::{self, Block};

/// What a member begins with (RFC 1952, section 2.3): deflate, no flags, no time, an unknown system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// A part of a piece.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// Bits of blocks with Huffman codes.
    Coded(Range<u64>),
    /// Bytes of a stored block.
    Stored(Range<usize>),
}

/// Compressed data that continues what came before it. Made by [`Compressor::piece`](crate::Compressor::piece).
#[derive(Debug)]
pub struct Piece {
    /// What its parts are of.
    bytes: Vec<u8>,
    parts: Vec<Part>,
    /// CRC-32 of the data, with their length.
    checksum: crc32fast::Hasher,
    length: u64,
}

impl Piece {
    /// From what libdeflate made of `input`, whose first `before` bytes come before the piece. `None` if that is not
    /// deflate.
    pub(crate) fn new(deflated: &[u8], before: usize, input: &[u8]) -> Option<Self> {
        let mut bytes = Vec::with_capacity(deflated.len() + 64);
        let mut bits = Writer::default();
        let mut parts = Vec::new();
        let mut start = 0;
        inflate::after(deflated, before, input, |block| {
            match block {
                Block::Coded([], _) => {}
                Block::Coded(tokens, counts) => deflate::write_block(tokens, counts, &mut bits, &mut bytes)?,
                Block::Stored([]) => {}
                Block::Stored(stored) => {
                    parts.push(Part::Coded(start..bits.position(&bytes)));
                    bits.align(&mut bytes);
                    parts.push(Part::Stored(bytes.len()..bytes.len() + stored.len()));
                    bytes.extend_from_slice(stored);
                    start = bits.position(&bytes);
                }
            }
            Some(())
        })?;
        parts.push(Part::Coded(start..bits.position(&bytes)));
        bits.align(&mut bytes);
        let data = &input[before..];
        let checksum = crc32fast::Hasher::new_with_initial_len(libdeflater::crc32(data), data.len() as u64);
        Some(Self { bytes, parts, checksum, length: data.len() as u64 })
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
                Part::Coded(range) => bits.copy(ready, &piece.bytes, range.start, range.end),
                Part::Stored(range) => {
                    bits.put(ready, 0, 3);
                    bits.align(ready);
                    let length = range.len() as u32;
                    bits.put(ready, length, 16);
                    bits.put(ready, !length & 0xffff, 16);
                    ready.extend_from_slice(&piece.bytes[range.clone()]);
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
