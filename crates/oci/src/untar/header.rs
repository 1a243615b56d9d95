//! One header of a tar. The crate tar knows the fields of ustar's and GNU's form; what it takes in another way than
//! Go's archive/tar, with which docker and containerd read layers, is refused here.

use std::io;

use ::tar::{EntryType, GnuExtSparseHeader, GnuSparseHeader, Header as Fields};

use super::sparse::Segments;
use super::{BLOCK, damaged};

pub(super) type Field = std::ops::Range<usize>;
pub(super) const MODE: Field = 100..108;
pub(super) const UID: Field = 108..116;
pub(super) const GID: Field = 116..124;
pub(super) const SIZE: Field = 124..136;
pub(super) const MTIME: Field = 136..148;
pub(super) const CHECKSUM: Field = 148..156;
const MAGIC: Field = 257..263;
const VERSION: Field = 263..265;
const DEVICE_MAJOR: Field = 329..337;
const DEVICE_MINOR: Field = 337..345;
/// The last byte of the prefix in star's form of ustar, which has times behind it.
const STAR_PREFIX_END: usize = 475;
const STAR_MAGIC: Field = 508..512;

/// A header whose checksum is right.
pub(super) struct Header(Fields);

impl Header {
    pub(super) fn new(block: [u8; BLOCK as usize]) -> io::Result<Self> {
        let mut fields = Fields::new_old();
        *fields.as_mut_bytes() = block;
        let bytes =
            || block.iter().enumerate().map(|(at, byte)| if CHECKSUM.contains(&at) { b' ' } else { *byte });
        let unsigned: i64 = bytes().map(i64::from).sum();
        // Some old programs took bytes for signed numbers.
        let signed: i64 = bytes().map(|byte| i64::from(byte.cast_signed())).sum();
        if !fields.cksum().is_ok_and(|sum| [unsigned, signed].contains(&sum.into())) {
            return Err(damaged("a tar header is damaged: its checksum is wrong"));
        }
        let is_star = &block[STAR_MAGIC] == b"tar\0" && block[STAR_PREFIX_END] != 0;
        if &block[MAGIC] == b"ustar\0" && (&block[VERSION] != b"00" || is_star) {
            return Err(damaged("a tar header has a form of ustar that some programs take for another one"));
        }
        Ok(Self(fields))
    }

    pub(super) fn kind(&self) -> EntryType {
        self.0.entry_type()
    }

    /// Whether a regular file has the type that was used before POSIX.
    pub(super) fn is_old(&self) -> bool {
        self.0.as_old().linkflag == [0]
    }

    pub(super) fn path(&self) -> Vec<u8> {
        self.0.path_bytes().into_owned()
    }

    pub(super) fn link(&self) -> Vec<u8> {
        self.0.link_name_bytes().unwrap_or_default().into_owned()
    }

    pub(super) fn mode(&self) -> io::Result<u32> {
        let mode = self.number(MODE, self.0.mode().map(u64::from))?;
        Ok((mode & 0o7_777_777) as u32)
    }

    pub(super) fn size(&self) -> io::Result<i64> {
        self.number(SIZE, self.0.entry_size())
    }

    pub(super) fn uid(&self) -> io::Result<i64> {
        self.number(UID, self.0.uid())
    }

    pub(super) fn gid(&self) -> io::Result<i64> {
        self.number(GID, self.0.gid())
    }

    pub(super) fn mtime(&self) -> io::Result<i64> {
        self.number(MTIME, self.0.mtime())
    }

    /// Device numbers mean nothing in most entries, but Go refuses an archive where they are damaged.
    pub(super) fn check_device(&self) -> io::Result<()> {
        let number = |device: io::Result<Option<u32>>| device.map(|number| number.unwrap_or(0).into());
        self.number(DEVICE_MAJOR, number(self.0.device_major()))?;
        self.number(DEVICE_MINOR, number(self.0.device_minor()))?;
        Ok(())
    }

    /// What the crate read from a field. An empty field is 0, and a number of GNU's base 256 must fit into 64 bits.
    fn number(&self, field: Field, read: io::Result<u64>) -> io::Result<i64> {
        let bytes = &self.0.as_bytes()[field];
        if bytes.iter().all(|byte| matches!(byte, b' ' | 0)) {
            return Ok(0);
        }
        let number = read.map_err(|_| damaged_number())?.cast_signed();
        if bytes[0] & 0x80 != 0 {
            let sign = if number < 0 { 0xff } else { 0 };
            // In a field of eight bytes the first one is a part of the number.
            let beyond = &bytes[1..bytes.len().max(9) - 8];
            if bytes[0] != 0x80 | sign || beyond.iter().any(|byte| *byte != sign) {
                return Err(damaged_number());
            }
        }
        Ok(number)
    }

    /// The size of a sparse file in GNU's older form, the segments that the header names, and whether a block with
    /// more of them follows.
    pub(super) fn sparse(&self) -> io::Result<(u64, Segments, bool)> {
        let gnu = self.0.as_gnu().ok_or_else(|| damaged("a sparse file in a header that is not GNU's"))?;
        let size = gnu.real_size().map_err(|_| damaged_number())?;
        Ok((size, segments(&gnu.sparse)?, gnu.is_extended()))
    }
}

/// The segments in a block that follows the header of a sparse file, and whether another one follows.
pub(super) fn more_segments(block: &[u8; BLOCK as usize]) -> io::Result<(Segments, bool)> {
    let mut header = GnuExtSparseHeader::new();
    *header.as_mut_bytes() = *block;
    Ok((segments(header.sparse())?, header.is_extended()))
}

/// Offsets and lengths up to the first empty place.
fn segments(places: &[GnuSparseHeader]) -> io::Result<Segments> {
    let used = places.iter().take_while(|place| !place.is_empty());
    used.map(|place| Ok((place.offset()?, place.length()?)))
        .collect::<io::Result<_>>()
        .map_err(|_| damaged_number())
}

fn damaged_number() -> io::Error {
    damaged("a number in a tar header is damaged")
}
