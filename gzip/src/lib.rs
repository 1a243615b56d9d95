//! gzip (RFC 1952) on several cores, as one member that is as small as if one core had made it.
//!
//! libdeflate compresses better than zlib and knows neither streams nor preset dictionaries: data that is
//! cut so that cores can share it loses what each piece could have found in the 32 KiB before it. So each
//! piece is compressed together with those 32 KiB ([`Compressor::piece`]), what they became is taken out
//! again, and the rest is joined to the piece before it at the bit where that one ended ([`Joiner`]). It is
//! what `gzjoin` of zlib's examples does, at the borders of tokens instead of whole blocks. On the way the
//! tokens get Huffman codes that take fewer bits to tell, as zopfli's do, which saves more than the cuts cost.
//!
//! ```
//! use tare_gzip::{Compressor, Joiner, WINDOW};
//!
//! let data = b"the same words, the same words, the same words".repeat(3000);
//! let half = data.len() / 2;
//! let mut compressor = Compressor::new(9)?;
//! let mut joiner = Joiner::new(Vec::new());
//! joiner.append(&compressor.piece(&data[..half], 0)?)?;
//! joiner.append(&compressor.piece(&data[half - WINDOW..], WINDOW)?)?;
//! let gzip = joiner.finish()?;
//! assert!(gzip.len() < 1000);
//! # Ok::<(), tare_gzip::Error>(())
//! ```

mod bits;
mod deflate;
mod huffman;
mod inflate;
mod join;
mod token;

use libdeflater::CompressionLvl;

pub use join::{Joiner, Piece};

/// How far a match of deflate looks back, in bytes (RFC 1951, section 2).
pub const WINDOW: usize = 32 << 10;

/// Why nothing could be compressed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A level that libdeflate does not have.
    #[error("libdeflate has no level {0}, only 0 to 12")]
    Level(u8),
    /// libdeflate did something that it promises not to do.
    #[error("libdeflate {0}")]
    Libdeflate(&'static str),
    /// The sink failed.
    #[error(transparent)]
    Sink(#[from] std::io::Error),
}

const DAMAGED: Error = Error::Libdeflate("wrote something that is not deflate");

/// Compresses pieces at one level. Keeps its memory, which is some megabytes, from piece to piece.
pub struct Compressor {
    libdeflate: libdeflater::Compressor,
}

impl Compressor {
    /// For a level of libdeflate, 0 (stored) to 12 (smallest).
    ///
    /// # Errors
    /// When there is no such level.
    pub fn new(level: u8) -> Result<Self, Error> {
        let checked = CompressionLvl::new(i32::from(level)).map_err(|_| Error::Level(level))?;
        Ok(Self { libdeflate: libdeflater::Compressor::new(checked) })
    }

    /// Compresses a piece: `data` without its first `before` bytes, which are what comes before the piece.
    /// The more of them there are, up to [`WINDOW`], the smaller it becomes.
    ///
    /// # Errors
    /// When libdeflate breaks a promise.
    ///
    /// # Panics
    /// If `before` is more than there is.
    pub fn piece(&mut self, data: &[u8], before: usize) -> Result<Piece, Error> {
        let (input, before) = match before.checked_sub(WINDOW) {
            Some(too_far) => (&data[too_far..], WINDOW),
            None => (data, before),
        };
        let mut deflated = vec![0; self.libdeflate.deflate_compress_bound(input.len())];
        let length = self
            .libdeflate
            .deflate_compress(input, &mut deflated)
            .map_err(|_| Error::Libdeflate("found its own bound too small"))?;
        deflated.truncate(length);
        Piece::new(&deflated, before, input).ok_or(DAMAGED)
    }

    /// Compresses all of it at once into a member, which is quicker than a single piece.
    ///
    /// # Errors
    /// When libdeflate breaks a promise.
    pub fn member(&mut self, data: &[u8]) -> Result<Vec<u8>, Error> {
        let mut output = vec![0; self.libdeflate.gzip_compress_bound(data.len())];
        let length = self
            .libdeflate
            .gzip_compress(data, &mut output)
            .map_err(|_| Error::Libdeflate("found its own bound too small"))?;
        output.truncate(length);
        Ok(output)
    }
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compressor").finish_non_exhaustive()
    }
}
