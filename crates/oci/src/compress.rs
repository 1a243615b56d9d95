//! Compression of layers: which, at what level, and on every core without the bytes depending on how
//! many there are.
//!
//! A layer is cut into blocks ([`block_length`]). Those of gzip's levels from 10 on, which are for size, are joined
//! to one member (RFC 1952) that is as small as if it had never been cut ([`tare_gzip`]); those of the levels below,
//! which are for speed, are members, and those of zstd frames (RFC 8878, section 3), whose concatenation readers see
//! as one stream. A block's place in the output is fixed when it is cut, whoever compresses it.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use tare_gzip::{Joiner, WINDOW};

use self::pool::{Block, BlockResult, Compressed, Job, Permit, thread_gone};
use super::digest::{Digest, Digesting};
use super::spec;

mod pool;

pub use self::pool::Pool;

/// No member and no frame is longer. Small enough that a block in each of a few threads fits in tens of
/// megabytes, large enough that starting each block with an empty window costs 0.1 % at most.
const LONGEST_BLOCK: u64 = 4 << 20;

/// No piece of a joined member is longer: the 32 KiB before a piece are compressed once more with it, which is 6 %
/// of the time, and the layers of small programs occupy several cores.
const LONGEST_PIECE: u64 = 512 << 10;

/// A layer that is not longer is one member, which takes less time than to cut it.
const LONGEST_UNCUT: u64 = 128 << 10;

/// How long the blocks of a tar of this length are: equal ones, with gzip at least two where it pays, so that two
/// cores finish together. Depends on nothing but the length and the method.
#[must_use]
pub fn block_length(compression: Compression, tar_length: u64) -> usize {
    let blocks = match compression {
        Compression::Gzip(_) if tar_length <= LONGEST_UNCUT => 1,
        Compression::Gzip(_) if compression.is_joined() => tar_length.div_ceil(LONGEST_PIECE).max(2),
        Compression::Gzip(_) => tar_length.div_ceil(LONGEST_BLOCK).max(2),
        Compression::Zstd(_) | Compression::None => tar_length.div_ceil(LONGEST_BLOCK).max(1),
    };
    tar_length.div_ceil(blocks) as usize
}

/// How layers are compressed. Written `none`, `gzip`, `gzip:6`, `zstd`, `zstd:19`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    None,
    /// libdeflate at this level, 1 to 12, or at the one that suits the layer.
    Gzip(Option<u8>),
    /// zstd at this level, 1 to 22. Docker before version 23 cannot load it.
    Zstd(u8),
}

/// Not a compression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a compression: write none, gzip[:1-12] or zstd[:1-22]")]
pub struct CompressionError(String);

impl Compression {
    /// Of libdeflate's levels the fastest whose result is within 0.1 % of the smallest
    /// (`cargo xtask bench image` prints the tables).
    pub const DEFAULT_GZIP: u8 = 11;
    /// The same for layers that are little else than a program, which has few long matches to find.
    pub const PROGRAM_GZIP: u8 = 10;
    /// What zstd's own documentation calls the highest level without extreme memory.
    pub const DEFAULT_ZSTD: u8 = 19;

    /// The same for a layer that is little else than a program, or is not.
    #[must_use]
    pub fn of_layer(self, program: bool) -> Self {
        match self {
            Self::Gzip(None) if program => Self::Gzip(Some(Self::PROGRAM_GZIP)),
            other => other,
        }
    }

    /// Whether a layer's blocks are joined to one member. At libdeflate's near-optimal levels, from 10 on, that is 8 %
    /// of the time; to that of those below it would add half and more.
    fn is_joined(self) -> bool {
        matches!(self, Self::Gzip(None | Some(10..)))
    }

    /// The media type of layers compressed this way.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::None => spec::LAYER_TAR,
            Self::Gzip(_) => spec::LAYER_GZIP,
            Self::Zstd(_) => spec::LAYER_ZSTD,
        }
    }
}

impl Default for Compression {
    fn default() -> Self {
        Self::Gzip(None)
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Gzip(None) => f.write_str("gzip"),
            Self::Gzip(Some(level)) => write!(f, "gzip:{level}"),
            Self::Zstd(level) => write!(f, "zstd:{level}"),
        }
    }
}

impl FromStr for Compression {
    type Err = CompressionError;

    fn from_str(text: &str) -> Result<Self, CompressionError> {
        let (method, level) = match text.split_once(':') {
            Some((method, level)) => {
                (method, Some(level.parse::<u8>().map_err(|_| CompressionError(text.to_owned()))?))
            }
            None => (text, None),
        };
        match (method, level) {
            ("none", None) => Ok(Self::None),
            ("gzip", None) => Ok(Self::Gzip(None)),
            ("gzip", Some(level @ 1..=12)) => Ok(Self::Gzip(Some(level))),
            ("zstd", None) => Ok(Self::Zstd(Self::DEFAULT_ZSTD)),
            ("zstd", Some(level @ 1..=22)) => Ok(Self::Zstd(level)),
            _ => Err(CompressionError(text.to_owned())),
        }
    }
}

impl Pool {
    /// A writer that compresses a tar of this length into `sink`.
    pub fn encoder<W: Write>(&self, compression: Compression, tar_length: u64, sink: W) -> Encoder<'_, W> {
        let block_length = block_length(compression, tar_length);
        let joined = compression.is_joined() && tar_length > block_length as u64;
        Encoder {
            pool: self,
            compression,
            block_length: block_length.max(1),
            sink: if joined { Sink::Joined(Joiner::new(sink)) } else { Sink::Plain(sink) },
            block: Vec::new(),
            before: 0,
            started: false,
            in_flight: VecDeque::new(),
            tar: Digesting::new(io::sink()),
        }
    }
}

/// Compresses what is written into it, and knows the digest of that. [`finish`](Self::finish) must be called at the
/// end.
pub struct Encoder<'a, W: Write> {
    pool: &'a Pool,
    compression: Compression,
    block_length: usize,
    sink: Sink<W>,
    /// The block that is being filled, behind what comes before it.
    block: Vec<u8>,
    before: usize,
    started: bool,
    in_flight: VecDeque<(Permit, Receiver<BlockResult>)>,
    /// Of what was written. A block is hashed when it has been handed out, so that no thread waits for that; the last
    /// one before it is compressed here.
    tar: Digesting<io::Sink>,
}

/// Where compressed blocks go to.
enum Sink<W: Write> {
    Plain(W),
    Joined(Joiner<W>),
}

impl<W: Write> Encoder<'_, W> {
    /// Compresses what is left and gives back what was written into, and the digest and length of what was written.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn finish(mut self) -> io::Result<(W, (Digest, u64))> {
        // Nothing at all is one empty member or frame: an empty file is neither gzip nor zstd.
        if self.block.len() > self.before || !self.started && self.compression != Compression::None {
            self.submit(true)?;
        }
        while self.collect()? {}
        let sink = match self.sink {
            Sink::Plain(sink) => sink,
            Sink::Joined(joiner) => joiner.finish().map_err(io_error)?,
        };
        Ok((sink, self.tar.finish().1))
    }

    /// Hands out the full block, or the last one.
    fn submit(&mut self, last: bool) -> io::Result<()> {
        let bytes = Arc::new(std::mem::take(&mut self.block));
        let (before, alone) = (self.before, matches!(self.sink, Sink::Plain(_)));
        let block = Block { before, alone, bytes: Arc::clone(&bytes) };
        self.started = true;
        if !last {
            let window = if alone { &[] } else { &bytes[bytes.len().saturating_sub(WINDOW)..] };
            self.block.reserve_exact(window.len() + self.block_length);
            self.block.extend_from_slice(window);
            self.before = window.len();
        }
        // The permits may all be with blocks of this very layer, so these are written out first;
        // only without any is it safe to wait for another layer.
        let permit = loop {
            if let Some(permit) = self.pool.try_permit() {
                break permit;
            }
            if !self.collect()? {
                break self.pool.permit();
            }
        };
        let (done, result) = channel();
        let job = Job { compression: self.compression, block, done };
        self.in_flight.push_back((permit, result));
        if last {
            self.tar.write_all(&bytes[before..])?;
            drop(bytes);
            self.pool.submit_last(job)
        } else {
            self.pool.submit(job)?;
            self.tar.write_all(&bytes[before..])
        }
    }

    /// Writes out the oldest block; false if there is none.
    fn collect(&mut self) -> io::Result<bool> {
        let Some((permit, result)) = self.in_flight.pop_front() else { return Ok(false) };
        let compressed = result.recv().map_err(|_| thread_gone())??;
        match (&mut self.sink, compressed) {
            (Sink::Plain(sink), Compressed::Bytes(bytes)) => sink.write_all(&bytes)?,
            (Sink::Joined(joiner), Compressed::Piece(piece)) => joiner.append(&piece).map_err(io_error)?,
            _ => return Err(io::Error::other("a block was compressed in another way than the others")),
        }
        drop(permit);
        Ok(true)
    }

    /// How many bytes more belong to the block.
    fn missing(&self) -> usize {
        self.before + self.block_length - self.block.len()
    }
}

/// The error of the sink itself, so that a full disk is still seen as one.
fn io_error(error: tare_gzip::Error) -> io::Error {
    match error {
        tare_gzip::Error::Sink(error) => error,
        other => io::Error::other(other),
    }
}

impl<W: Write> Write for Encoder<'_, W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if let (Compression::None, Sink::Plain(sink)) = (self.compression, &mut self.sink) {
            let written = sink.write(buffer)?;
            self.tar.write_all(&buffer[..written])?;
            return Ok(written);
        }
        if self.block.capacity() == 0 {
            self.block.reserve_exact(self.block_length);
        }
        // Not before there is more: the last block is left to the end.
        if self.missing() == 0 && !buffer.is_empty() {
            self.submit(false)?;
        }
        let taken = buffer.len().min(self.missing());
        self.block.extend_from_slice(&buffer[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use tare_gzip::Compressor;

    use super::pool::SHORT_BLOCK;
    use super::*;

    const BLOCK: usize = LONGEST_BLOCK as usize;

    fn compress(compression: Compression, threads: usize, data: &[u8]) -> Vec<u8> {
        let pool = Pool::start(threads);
        let mut encoder = pool.encoder(compression, data.len() as u64, Vec::new());
        encoder.write_all(data).unwrap();
        let (compressed, (digest, length)) = encoder.finish().unwrap();
        assert_eq!((digest, length), (Digest::of(data), data.len() as u64));
        compressed
    }

    /// Text-like bytes that compress, but differently from block to block.
    fn sample(length: usize) -> Vec<u8> {
        let mut state = 1_u32;
        (0..length)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                b"abcdefghijklmnop"[(state >> 28) as usize]
            })
            .collect()
    }

    #[test]
    fn bytes_do_not_depend_on_the_number_of_threads() {
        let data = sample(3 * BLOCK + 17);
        for compression in [Compression::Gzip(Some(1)), Compression::Zstd(1), Compression::None] {
            let one = compress(compression, 1, &data);
            assert_eq!(one, compress(compression, 4, &data), "{compression}");
        }
    }

    #[test]
    fn bytes_are_those_that_they_always_were() {
        let data = sample(300_000);
        for (compression, digest) in
            [("gzip", "efe345424a24"), ("gzip:10", "684db40d9373"), ("gzip:6", "43cbd161cc5d")]
        {
            let compressed = compress(compression.parse().unwrap(), 2, &data);
            assert_eq!(Digest::of(&compressed).short(), digest, "{compression}");
        }
    }

    #[test]
    fn the_level_counts_where_there_is_more_than_a_short_block() {
        let level = |level: u8, length: usize| compress(Compression::Gzip(Some(level)), 2, &sample(length));
        assert_eq!(level(1, SHORT_BLOCK), level(12, SHORT_BLOCK));
        assert_ne!(level(1, SHORT_BLOCK + 1), level(12, SHORT_BLOCK + 1));
    }

    #[test]
    fn cuts_cost_next_to_nothing() {
        let data = sample(2 * BLOCK);
        // Of members a thousandth, of pieces some bytes each.
        for (level, blocks, cost) in [(6, 2, data.len() / 1000), (10, 16, 16 * 200)] {
            let compression = Compression::Gzip(Some(level));
            let cut = compress(compression, 2, &data).len();
            let whole = Compressor::new(level).unwrap().member(&data).unwrap().len();
            assert_eq!(data.len().div_ceil(block_length(compression, data.len() as u64)), blocks, "{level}");
            assert!(cut < whole + cost, "{level}: {cut} {whole}");
        }
    }

    #[test]
    fn blocks_read_back_as_one_stream() {
        for length in [0, 1, BLOCK, BLOCK + 1, 2 * BLOCK + 5] {
            let data = sample(length);
            let zstd = compress(Compression::Zstd(1), 2, &data);
            assert_eq!(zstd::stream::decode_all(&zstd[..]).unwrap(), data);
            let mut gzip = Vec::new();
            let compressed = compress(Compression::Gzip(Some(1)), 2, &data);
            flate2::read::MultiGzDecoder::new(&compressed[..]).read_to_end(&mut gzip).unwrap();
            assert_eq!(gzip, data);
        }
    }

    #[test]
    fn what_is_compressed_for_size_is_one_member() {
        for length in [1, BLOCK / 8, BLOCK / 2 + 1] {
            let data = sample(length);
            for level in [None, Some(10)] {
                let compressed = compress(Compression::Gzip(level), 2, &data);
                let mut gzip = Vec::new();
                // Stops at the end of the first, as some readers do.
                flate2::read::GzDecoder::new(&compressed[..]).read_to_end(&mut gzip).unwrap();
                assert_eq!(gzip, data, "{level:?} {length}");
            }
        }
    }

    #[test]
    fn several_layers_share_few_threads_without_blocking_each_other() {
        let data = sample(5 * BLOCK);
        let pool = Pool::start(1);
        let alone = compress(Compression::Gzip(Some(1)), 1, &data);
        let together: Vec<Vec<u8>> = std::thread::scope(|scope| {
            let layers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let mut encoder =
                            pool.encoder(Compression::Gzip(Some(1)), data.len() as u64, Vec::new());
                        encoder.write_all(&data).unwrap();
                        encoder.finish().unwrap().0
                    })
                })
                .collect();
            layers.into_iter().map(|layer| layer.join().unwrap()).collect()
        });
        assert!(together.iter().all(|layer| *layer == alone));
    }

    #[test]
    fn a_sink_that_fails_gives_its_permits_back() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::Error::from(io::ErrorKind::StorageFull))
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let pool = Pool::start(1);
        let data = sample(4 * BLOCK);
        let mut failing = pool.encoder(Compression::Gzip(Some(1)), data.len() as u64, Full);
        assert_eq!(failing.write_all(&data).unwrap_err().kind(), io::ErrorKind::StorageFull);
        drop(failing);
        let mut good = pool.encoder(Compression::Gzip(Some(1)), data.len() as u64, Vec::new());
        good.write_all(&data).unwrap();
        assert!(!good.finish().unwrap().0.is_empty());
    }

    #[test]
    fn blocks_are_equal_and_depend_on_the_length_alone() {
        let (kib, mib) = (1_u64 << 10, 1_u64 << 20);
        for (tar, piece, member) in [
            (0, 0, 0),
            (1, 1, 1),
            (128 * kib, 128 * kib, 128 * kib),
            (128 * kib + 1, 64 * kib + 1, 64 * kib + 1),
            (mib, 512 * kib, 512 * kib),
            (mib + 1, (mib + 1).div_ceil(3), 512 * kib + 1),
            (1 << 40, 512 * kib, 4 * mib),
        ] {
            assert_eq!(block_length(Compression::Gzip(None), tar), piece as usize, "{tar}");
            assert_eq!(block_length(Compression::Gzip(Some(10)), tar), piece as usize, "{tar}");
            assert_eq!(block_length(Compression::Gzip(Some(9)), tar), member as usize, "{tar}");
        }
        assert_eq!(block_length(Compression::Zstd(19), 2 * mib), 2 << 20);
        assert_eq!(block_length(Compression::Zstd(19), 5 * mib), (5 << 20) / 2);
    }

    #[test]
    fn compressions_round_trip() {
        for text in ["none", "gzip:1", "gzip:12", "zstd:1", "zstd:22"] {
            assert_eq!(text.parse::<Compression>().unwrap().to_string(), text);
        }
        assert_eq!("gzip".parse(), Ok(Compression::default()));
        for text in ["", "gz", "gzip:0", "gzip:13", "zstd:23", "zstd:-1", "none:1", "gzip:"] {
            assert_eq!(text.parse::<Compression>(), Err(CompressionError(text.to_owned())));
        }
    }
}
