//! Sparse files: content with holes, of which a tar stores the data alone (GNU tar manual, "Storing Sparse Files").

use std::io;
use std::iter::Peekable;
use std::vec::IntoIter;

use super::damaged;
use super::extended::digits;
use crate::shown::shown;

/// Where data lies: offsets and lengths, in order.
pub(super) type Segments = Vec<(u64, u64)>;

/// What is left to read of a file with holes.
#[derive(Debug)]
pub(super) struct Sparse {
    segments: Peekable<IntoIter<(u64, u64)>>,
    position: u64,
    /// Bytes with the holes.
    pub(super) size: u64,
}

impl Sparse {
    /// A file of `size` bytes, of which `stored` are in the archive.
    pub(super) fn new(segments: Segments, size: u64, stored: u64) -> io::Result<Self> {
        let (mut end, mut sum) = (0_u64, 0_u64);
        for (offset, length) in &segments {
            let in_order = *offset >= end;
            end = offset
                .checked_add(*length)
                .filter(|end| in_order && *end <= size)
                .ok_or_else(|| damaged("the parts of a sparse file overlap or lie beyond its end"))?;
            sum = sum.saturating_add(*length);
        }
        if sum != stored {
            return Err(damaged("the parts of a sparse file are not as long as its content"));
        }
        Ok(Self { segments: segments.into_iter().peekable(), position: 0, size })
    }

    /// Whether data or a hole comes next, and how many bytes of it.
    pub(super) fn next(&mut self) -> (bool, u64) {
        let position = self.position;
        while self.segments.next_if(|(offset, length)| offset + length <= position).is_some() {}
        match self.segments.peek() {
            Some((offset, length)) if *offset <= position => (true, offset + length - position),
            Some((offset, _)) => (false, offset - position),
            None => (false, self.size - position),
        }
    }

    /// Notes that so many bytes were read.
    pub(super) fn advance(&mut self, length: usize) {
        self.position += length as u64;
    }
}

/// The pax records `GNU.sparse.*` of an entry, in their order. Forms 0.0, 0.1 and 1.0 are those that GNU tar writes and
/// Go's archive/tar reads.
#[derive(Debug, Default)]
pub(super) struct SparseRecords(Vec<(Vec<u8>, Vec<u8>)>);

/// Where the segments of a sparse file stand.
pub(super) enum Map {
    /// In the records (0.0 and 0.1).
    Here(Segments),
    /// At the beginning of the content (1.0).
    InContent,
}

/// What the names of such records begin with.
pub(super) const PREFIX: &[u8] = b"GNU.sparse.";
const KNOWN: [&str; 9] =
    ["major", "minor", "name", "size", "realsize", "numblocks", "map", "offset", "numbytes"];

impl SparseRecords {
    /// Notes a record, whose key begins with [`PREFIX`].
    pub(super) fn add(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let name = key.strip_prefix(PREFIX).unwrap_or(key);
        let about = |what: &str| damaged(format!("the pax record `{}` {what}", shown(key)));
        if !KNOWN.iter().any(|known| known.as_bytes() == name) {
            return Err(about("belongs to no known form of sparse files"));
        }
        // Form 0.0 repeats these two for every segment.
        let may_repeat = [&b"offset"[..], b"numbytes"].contains(&name);
        if !may_repeat && self.0.iter().any(|(known, _)| known == name) {
            return Err(about("stands twice for one entry"));
        }
        if name == b"name" && (value.is_empty() || value.contains(&0)) {
            return Err(about("is empty or holds a NUL"));
        }
        self.0.push((name.to_vec(), value.to_vec()));
        Ok(())
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The path, in place of the one that the entry has for programs that do not know sparse files.
    pub(super) fn name(&self) -> Option<&[u8]> {
        self.record("name")
    }

    fn record(&self, name: &str) -> Option<&[u8]> {
        let mut found = self.0.iter().filter(|(known, _)| known == name.as_bytes());
        found.next().map(|(_, value)| value.as_slice())
    }

    fn number(&self, name: &str) -> io::Result<Option<u64>> {
        self.record(name).map(|value| natural(value).ok_or_else(|| wrong(name))).transpose()
    }

    /// Bytes of the file with its holes, and the segments.
    pub(super) fn map(&self) -> io::Result<(u64, Map)> {
        let size = match (self.number("size")?, self.number("realsize")?) {
            (Some(size), Some(real)) if size != real => {
                return Err(damaged("its pax records `GNU.sparse.size` and `GNU.sparse.realsize` differ"));
            }
            (size, real) => size.or(real),
        };
        let size = size.ok_or_else(|| damaged("a sparse file without the pax record `GNU.sparse.size`"))?;
        let in_records =
            ["map", "offset", "numbytes", "numblocks"].iter().any(|name| self.record(name).is_some());
        match (self.record("major"), self.record("minor")) {
            (Some(b"1"), Some(b"0")) if !in_records => Ok((size, Map::InContent)),
            (Some(b"0"), Some(b"0" | b"1")) | (None, None) if in_records => {
                Ok((size, Map::Here(self.segments()?)))
            }
            _ => Err(damaged("its pax records `GNU.sparse.*` fit no known form of sparse files")),
        }
    }

    /// Form 0.0: a record for each offset and length; 0.1: one with all of them.
    fn segments(&self) -> io::Result<Segments> {
        let pairs = self.0.iter().filter(|(name, _)| name == b"offset" || name == b"numbytes");
        let pairs: Vec<&(Vec<u8>, Vec<u8>)> = pairs.collect();
        let values: Vec<&[u8]> = match self.record("map") {
            Some(map) if pairs.is_empty() => map.split(|byte| *byte == b',').collect(),
            Some(_) => return Err(wrong("map")),
            None => {
                let alternate =
                    |(at, pair): (usize, &&(Vec<u8>, Vec<u8>))| (at % 2 == 0) == (pair.0 == b"offset");
                if !pairs.iter().enumerate().all(alternate) {
                    return Err(wrong("offset"));
                }
                pairs.into_iter().map(|(_, value)| value.as_slice()).collect()
            }
        };
        // An empty map is one of no segment.
        let values: Vec<&[u8]> = if values == [b""] { Vec::new() } else { values };
        let numbers: Option<Vec<u64>> = values.into_iter().map(natural).collect();
        let (pairs, rest) = numbers.as_deref().unwrap_or(&[0]).as_chunks::<2>();
        let count = self.number("numblocks")?;
        if !rest.is_empty() || count != Some(pairs.len() as u64) {
            return Err(damaged_map());
        }
        Ok(pairs.iter().map(|[offset, length]| (*offset, *length)).collect())
    }
}

fn wrong(name: &str) -> io::Error {
    damaged(format!("its pax record `GNU.sparse.{name}` is no number, or none that it can be"))
}

/// A number that is not negative, in decimal.
fn natural(text: &[u8]) -> Option<u64> {
    digits(text)?.parse::<i64>().ok().map(i64::cast_unsigned)
}

/// The map of form 1.0, which is read block by block: decimal numbers, each with a line feed; first how many segments
/// there are.
#[derive(Debug, Default)]
pub(super) struct MapInContent {
    numbers: Vec<u64>,
    text: Vec<u8>,
}

impl MapInContent {
    /// Reads a block. Gives back the segments once they are complete; the rest of the block is padding.
    pub(super) fn add(&mut self, block: &[u8]) -> io::Result<Option<Segments>> {
        for byte in block {
            if *byte != b'\n' {
                self.text.push(*byte);
                // The greatest number has 19 digits.
                if self.text.len() > 20 {
                    break;
                }
                continue;
            }
            let number = natural(&std::mem::take(&mut self.text));
            self.numbers.push(number.ok_or_else(damaged_map)?);
            let count = self.numbers.first().copied().unwrap_or_default();
            if (self.numbers.len() as u64 - 1) / 2 == count && self.numbers.len() % 2 == 1 {
                let (pairs, _) = self.numbers[1..].as_chunks::<2>();
                return Ok(Some(pairs.iter().map(|[offset, length]| (*offset, *length)).collect()));
            }
        }
        if self.text.len() > 20 { Err(damaged_map()) } else { Ok(None) }
    }
}

fn damaged_map() -> io::Error {
    damaged("the map of a sparse file is damaged")
}
