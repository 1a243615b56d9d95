//! One header of a tar: its checksum, and the fields of ustar and GNU's form.

use std::io;

use super::{BLOCK, damaged};

pub(super) type Field = std::ops::Range<usize>;
pub(super) const NAME: Field = 0..100;
pub(super) const MODE: Field = 100..108;
pub(super) const UID: Field = 108..116;
pub(super) const GID: Field = 116..124;
pub(super) const SIZE: Field = 124..136;
pub(super) const MTIME: Field = 136..148;
pub(super) const CHECKSUM: Field = 148..156;
pub(super) const LINK: Field = 157..257;
pub(super) const DEVICE_MAJOR: Field = 329..337;
pub(super) const DEVICE_MINOR: Field = 337..345;

/// A block whose checksum is right.
pub(super) struct Header(pub(super) [u8; BLOCK as usize]);

impl Header {
    pub(super) fn new(block: [u8; BLOCK as usize]) -> io::Result<Self> {
        let bytes =
            || block.iter().enumerate().map(|(at, byte)| if CHECKSUM.contains(&at) { b' ' } else { *byte });
        let unsigned: i64 = bytes().map(i64::from).sum();
        // Some old programs took bytes for signed numbers.
        let signed: i64 = bytes().map(|byte| i64::from(byte.cast_signed())).sum();
        let said = number(&block[CHECKSUM]).ok();
        if said == Some(unsigned) || said == Some(signed) {
            Ok(Self(block))
        } else {
            Err(damaged("a tar header is damaged: its checksum is wrong"))
        }
    }

    pub(super) fn flag(&self) -> u8 {
        self.0[156]
    }

    pub(super) fn number(&self, field: Field) -> io::Result<i64> {
        number(&self.0[field])
    }

    /// Up to the first NUL.
    pub(super) fn text(&self, field: Field) -> &[u8] {
        let field = &self.0[field];
        field.split(|byte| *byte == 0).next().unwrap_or_default()
    }

    pub(super) fn is_posix(&self) -> bool {
        &self.0[257..263] == b"ustar\0"
    }

    pub(super) fn is_posix_or_gnu(&self) -> bool {
        self.is_posix() || &self.0[257..265] == b"ustar  \0"
    }

    pub(super) fn path(&self) -> Vec<u8> {
        // star's form of ustar has times behind a shorter prefix.
        let end = if &self.0[508..] == b"tar\0" { 476 } else { 500 };
        let prefix: &[u8] = if self.is_posix() { self.text(345..end) } else { b"" };
        match prefix {
            b"" => self.text(NAME).to_vec(),
            prefix => [prefix, b"/", self.text(NAME)].concat(),
        }
    }
}

/// Octal digits between spaces and NULs, or a two's complement of the bits behind the first (GNU's base 256).
pub(super) fn number(field: &[u8]) -> io::Result<i64> {
    let wrong = || damaged("a number in a tar header is damaged");
    let Some(first) = field.first().filter(|first| **first & 0x80 != 0) else {
        let blank = |byte: &u8| matches!(byte, b' ' | 0);
        let start = field.iter().position(|byte| !blank(byte)).unwrap_or(field.len());
        let end = field.iter().rposition(|byte| !blank(byte)).map_or(start, |last| last + 1);
        let digits = field[start..end].split(|byte| *byte == 0).next().unwrap_or_default();
        // At most eleven or twelve of them, which cannot overflow.
        return digits.iter().try_fold(0_i64, |sum, digit| match digit {
            b'0'..=b'7' => Ok(sum * 8 + i64::from(digit - b'0')),
            _ => Err(wrong()),
        });
    };
    let negative = first & 0x40 != 0;
    let invert = if negative { 0xff } else { 0 };
    let magnitude = field.iter().enumerate().try_fold(0_u64, |sum, (at, byte)| {
        let byte = (byte ^ invert) & if at == 0 { 0x3f } else { 0xff };
        (sum >> 55 == 0).then_some(sum << 8 | u64::from(byte))
    });
    let magnitude = magnitude.and_then(|magnitude| i64::try_from(magnitude).ok()).ok_or_else(wrong)?;
    Ok(if negative { !magnitude } else { magnitude })
}
