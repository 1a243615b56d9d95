//! Compression of layers: which, at what level, and on every core without the bytes depending on how
//! many there are.
//!
//! A layer is cut into blocks ([`block_length`]), each a gzip member (RFC 1952) or a zstd frame (RFC 8878,
//! section 3): readers see their concatenation as one stream. A block's place in the output is fixed when it is
//! cut, whichever thread compresses it.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use self::pool::{BlockResult, Job, Permit, thread_gone};
use super::digest::{Digest, Digesting};
use super::spec::MediaType;

mod pool;

pub use self::pool::Pool;

/// No block is longer. Small enough that a block in each of a few threads fits in tens of megabytes, large enough
/// that starting each block with an empty window costs 0.1 % at most.
const LONGEST_BLOCK: u64 = 4 << 20;

/// A layer that is not longer is one gzip member: compressing it takes less time than a second thread needs to start.
const LONGEST_UNCUT: u64 = 128 << 10;

/// How long the blocks of a tar of this length are: equal ones, with gzip at least two where it pays, so that two
/// cores finish together. Depends on nothing but the length and the method.
#[must_use]
pub fn block_length(compression: Compression, tar_length: u64) -> usize {
    let fewest = match compression {
        Compression::Gzip(_) if tar_length > LONGEST_UNCUT => 2,
        _ => 1,
    };
    tar_length.div_ceil(tar_length.div_ceil(LONGEST_BLOCK).max(fewest)) as usize
}

/// How layers are compressed. Written `none`, `gzip`, `gzip:6`, `zstd`, `zstd:19`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    None,
    /// libdeflate at this level, 1 to 12.
    Gzip(u8),
    /// zstd at this level, 1 to 22. Docker before version 23 cannot load it.
    Zstd(u8),
}

/// Not a compression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a compression: write none, gzip[:1-12] or zstd[:1-22]")]
pub struct CompressionError(String);

impl Compression {
    /// The first of libdeflate's near-optimal levels: on programs within 0.1 % of the smallest
    /// (docs/benchmarks.md has the table).
    pub const DEFAULT_GZIP: u8 = 10;
    /// What zstd's own documentation calls the highest level without extreme memory.
    pub const DEFAULT_ZSTD: u8 = 19;

    /// The media type of layers compressed this way.
    #[must_use]
    pub fn media_type(self) -> MediaType {
        match self {
            Self::None => MediaType::ImageLayer,
            Self::Gzip(_) => MediaType::ImageLayerGzip,
            Self::Zstd(_) => MediaType::ImageLayerZstd,
        }
    }
}

impl Default for Compression {
    fn default() -> Self {
        Self::Gzip(Self::DEFAULT_GZIP)
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Gzip(level) => write!(f, "gzip:{level}"),
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
            ("gzip", None) => Ok(Self::default()),
            ("gzip", Some(level @ 1..=12)) => Ok(Self::Gzip(level)),
            ("zstd", None) => Ok(Self::Zstd(Self::DEFAULT_ZSTD)),
            ("zstd", Some(level @ 1..=22)) => Ok(Self::Zstd(level)),
            _ => Err(CompressionError(text.to_owned())),
        }
    }
}

impl Pool {
    /// A writer that compresses a tar of this length into `sink`.
    pub fn encoder<W: Write>(&self, compression: Compression, tar_length: u64, sink: W) -> Encoder<'_, W> {
        Encoder {
            pool: self,
            compression,
            block_length: block_length(compression, tar_length).max(1),
            sink,
            block: Vec::new(),
            started: false,
            in_flight: VecDeque::new(),
            tar: Digesting::new(io::sink()),
        }
    }
}

/// Compresses what is written into it, and computes the digest of the uncompressed bytes.
/// [`finish`](Self::finish) must be called at the end.
pub struct Encoder<'a, W: Write> {
    pool: &'a Pool,
    compression: Compression,
    block_length: usize,
    sink: W,
    /// The block that is being filled.
    block: Vec<u8>,
    started: bool,
    in_flight: VecDeque<(Permit, Receiver<BlockResult>)>,
    /// Of what was written. A block is hashed after it was handed to a thread, so that no thread waits for that.
    tar: Digesting<io::Sink>,
}

impl<W: Write> Encoder<'_, W> {
    /// Compresses what is left and returns the sink, and the digest and length of the uncompressed bytes.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn finish(mut self) -> io::Result<(W, (Digest, u64))> {
        // Nothing at all is one empty member or frame: an empty file is neither gzip nor zstd.
        if !self.block.is_empty() || !self.started && self.compression != Compression::None {
            self.submit()?;
        }
        while self.collect()? {}
        Ok((self.sink, self.tar.finish().1))
    }

    /// Hands the block to a thread.
    fn submit(&mut self) -> io::Result<()> {
        let bytes = Arc::new(std::mem::take(&mut self.block));
        self.started = true;
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
        self.in_flight.push_back((permit, result));
        self.pool.submit(Job { compression: self.compression, block: Arc::clone(&bytes), done })?;
        self.tar.write_all(&bytes)
    }

    /// Writes out the oldest block; false if there is none.
    fn collect(&mut self) -> io::Result<bool> {
        let Some((permit, result)) = self.in_flight.pop_front() else { return Ok(false) };
        let compressed = result.recv().map_err(|_| thread_gone())??;
        self.sink.write_all(&compressed)?;
        drop(permit);
        Ok(true)
    }
}

impl<W: Write> Write for Encoder<'_, W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if self.compression == Compression::None {
            let written = self.sink.write(buffer)?;
            self.tar.write_all(&buffer[..written])?;
            return Ok(written);
        }
        if self.block.capacity() == 0 {
            self.block.reserve_exact(self.block_length);
        }
        let taken = buffer.len().min(self.block_length - self.block.len());
        self.block.extend_from_slice(&buffer[..taken]);
        if self.block.len() == self.block_length {
            self.submit()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

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
        for compression in [Compression::Gzip(1), Compression::Zstd(1), Compression::None] {
            let one = compress(compression, 1, &data);
            assert_eq!(one, compress(compression, 4, &data), "{compression}");
        }
    }

    #[test]
    fn bytes_are_those_that_they_always_were() {
        let data = sample(300_000);
        for (compression, digest) in
            [("gzip", "83c02a07622b"), ("gzip:10", "83c02a07622b"), ("gzip:6", "43cbd161cc5d")]
        {
            let compressed = compress(compression.parse().unwrap(), 2, &data);
            assert_eq!(Digest::of(&compressed).short(), digest, "{compression}");
        }
    }

    #[test]
    fn cuts_cost_a_thousandth_at_most() {
        let data = sample(2 * BLOCK);
        for level in [6, 10] {
            let cut = compress(Compression::Gzip(level), 2, &data).len();
            let level = libdeflater::CompressionLvl::new(level.into()).unwrap();
            let mut whole = vec![0; 2 * data.len()];
            let whole = libdeflater::Compressor::new(level).gzip_compress(&data, &mut whole).unwrap();
            assert!(cut > whole && cut < whole + whole / 1000, "{cut} {whole}");
        }
    }

    #[test]
    fn blocks_read_back_as_one_stream() {
        for length in [0, 1, BLOCK, BLOCK + 1, 2 * BLOCK + 5] {
            let data = sample(length);
            let zstd = compress(Compression::Zstd(1), 2, &data);
            assert_eq!(zstd::stream::decode_all(&zstd[..]).unwrap(), data);
            let mut gzip = Vec::new();
            let compressed = compress(Compression::Gzip(1), 2, &data);
            flate2::read::MultiGzDecoder::new(&compressed[..]).read_to_end(&mut gzip).unwrap();
            assert_eq!(gzip, data);
        }
    }

    #[test]
    fn several_layers_share_few_threads_without_blocking_each_other() {
        let data = sample(5 * BLOCK);
        let pool = Pool::start(1);
        let alone = compress(Compression::Gzip(1), 1, &data);
        let together: Vec<Vec<u8>> = std::thread::scope(|scope| {
            let layers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let mut encoder = pool.encoder(Compression::Gzip(1), data.len() as u64, Vec::new());
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
        let mut failing = pool.encoder(Compression::Gzip(1), data.len() as u64, Full);
        assert_eq!(failing.write_all(&data).unwrap_err().kind(), io::ErrorKind::StorageFull);
        drop(failing);
        let mut good = pool.encoder(Compression::Gzip(1), data.len() as u64, Vec::new());
        good.write_all(&data).unwrap();
        assert!(!good.finish().unwrap().0.is_empty());
    }

    #[test]
    fn blocks_are_equal_and_depend_on_the_length_alone() {
        let (kib, mib) = (1_u64 << 10, 1_u64 << 20);
        for (tar, member) in [
            (0, 0),
            (1, 1),
            (128 * kib, 128 * kib),
            (128 * kib + 1, 64 * kib + 1),
            (mib, 512 * kib),
            (mib + 1, 512 * kib + 1),
            (1 << 40, 4 * mib),
        ] {
            assert_eq!(block_length(Compression::default(), tar), member as usize, "{tar}");
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
