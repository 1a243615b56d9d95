//! Reading tar as others wrote it: ustar and GNU's form, with the long names of GNU and the extended headers of pax.
//!
//! The crate tar reads the headers. The loop over them is ours, because the crate cuts pax records at line feeds:
//! pax records are cut by their length, as the format demands (POSIX.1-2017, pax, "pax Extended Header"), so that a
//! value may hold any byte. An archive that different programs would read differently is refused: this is also how
//! entries are hidden from a scanner. Nothing that an archive says makes memory grow beyond [`HEADERS_LIMIT`].

mod extended;
mod header;
mod sparse;

use std::io::{self, Read, Seek};

use self::extended::{Extended, check_global};
use self::header::{Header, more_segments};
use self::sparse::{Map, MapInContent, Sparse};
use ::tar::EntryType;

use super::shown::shown;

const BLOCK: u64 = 512;

/// Headers before one entry, long names and pax records among them, which are held in memory.
/// Go's archive/tar, and with it docker and containerd, stops at 1 MiB for each (`maxSpecialFileSize`).
const HEADERS_LIMIT: u64 = 4 << 20;

/// Linux takes no longer paths (PATH_MAX, without its final NUL).
const NAME_LIMIT: usize = 4095;

/// One entry of a layer, as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadEntry {
    /// As it stands in the tar.
    pub path: Vec<u8>,
    /// `-`, `d`, `l`, `h`, `c`, `b`, `p` or `?`, as `ls` and `tar` show it.
    pub kind: char,
    /// Permission bits.
    pub mode: u32,
    /// User and group.
    pub owner: (u64, u64),
    /// Bytes of content; of a sparse file with its holes.
    pub size: u64,
    /// Seconds since 1970.
    pub mtime: i64,
    /// Target of a link.
    pub link: Option<Vec<u8>>,
    /// Keys and values of its pax header, without those that only widen ustar's fields.
    pub attributes: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A tar that is read from its first entry to its last.
pub(crate) struct Untar<R> {
    inner: R,
    skip: fn(&mut R, u64) -> io::Result<()>,
    /// Bytes that were read or skipped.
    position: u64,
    /// Whether there was a header whose checksum is right.
    is_tar: bool,
    /// Of the entry at hand.
    content: Content,
}

/// What is left of an entry's content.
#[derive(Default)]
struct Content {
    /// Of the entry, for errors.
    path: Vec<u8>,
    /// Bytes that are stored and not read yet.
    stored: u64,
    /// Bytes that fill the last block.
    padding: u64,
    /// Of a sparse file.
    sparse: Option<Sparse>,
}

fn damaged(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

fn cut_short(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, format!("it ends within {what}"))
}

fn without_end() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the tar ends within its content")
}

/// An error about an entry.
fn named(path: &[u8], error: &io::Error) -> io::Error {
    let name: String = shown(path).chars().take(200).collect();
    io::Error::new(error.kind(), format!("{name}: {error}"))
}

fn too_many_headers() -> io::Error {
    damaged(format!("headers of more than {HEADERS_LIMIT} bytes before one entry"))
}

impl<R: Read> Untar<R> {
    /// One whose contents are read.
    pub(crate) fn new(inner: R) -> Self {
        let skip = |inner: &mut R, length| match io::copy(&mut inner.take(length), &mut io::sink())? {
            skipped if skipped == length => Ok(()),
            _ => Err(without_end()),
        };
        Self { inner, skip, position: 0, is_tar: false, content: Content::default() }
    }

    /// Where the next byte that is read stands.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Whether what was read so far is a tar.
    pub(crate) fn is_tar(&self) -> bool {
        self.is_tar
    }

    /// Whether the entry at hand has holes.
    pub(crate) fn is_sparse(&self) -> bool {
        self.content.sparse.is_some()
    }

    /// The next entry; its content is what [`Read`] gives until the next call.
    pub(crate) fn next(&mut self) -> io::Result<Option<ReadEntry>> {
        self.finish_entry()?;
        let mut extended = Extended::default();
        let mut left = HEADERS_LIMIT;
        loop {
            let Some(header) = self.header()? else {
                return match extended.is_empty() {
                    true => Ok(None),
                    false => Err(damaged("an extended header without an entry")),
                };
            };
            left = left.checked_sub(BLOCK).ok_or_else(too_many_headers)?;
            let size =
                || u64::try_from(header.size()?).map_err(|_| damaged("a header of less than no bytes"));
            let mut content = || -> io::Result<Vec<u8>> {
                let size = size()?;
                left = left.checked_sub(size).ok_or_else(too_many_headers)?;
                self.block_of(size)
            };
            match header.kind() {
                EntryType::XHeader => extended.add(&content()?)?,
                EntryType::XGlobalHeader => check_global(&content()?)?,
                EntryType::GNULongName => {
                    set_once(&mut extended.gnu_path, content()?, "two long names for one entry")?;
                }
                EntryType::GNULongLink => {
                    set_once(&mut extended.gnu_link, content()?, "two long targets for one entry")?;
                }
                _ => return self.entry(&header, &extended, left).map(Some),
            }
        }
    }

    fn entry(&mut self, header: &Header, extended: &Extended, left: u64) -> io::Result<ReadEntry> {
        let path = match extended.name("path", &extended.path, &extended.gnu_path)? {
            path if extended.sparse.name().is_none() => path,
            _ => extended.sparse.name().map(<[u8]>::to_vec),
        };
        let path = path.unwrap_or_else(|| header.path());
        check_name(&path).map_err(|error| named(&path, &error))?;
        let described = self.described(header, extended, &path, left);
        let (entry, content) = described.map_err(|error| named(&path, &error))?;
        self.content = Content { path: path.clone(), ..content };
        Ok(ReadEntry { path, ..entry })
    }

    /// The entry without its path, and the content that follows.
    fn described(
        &mut self,
        header: &Header,
        extended: &Extended,
        path: &[u8],
        left: u64,
    ) -> io::Result<(ReadEntry, Content)> {
        let kind = match header.kind() {
            // Before POSIX a directory was a file whose name ends so.
            EntryType::Regular if header.is_old() && path.ends_with(b"/") => 'd',
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => '-',
            EntryType::Link => 'h',
            EntryType::Symlink => 'l',
            EntryType::Char => 'c',
            EntryType::Block => 'b',
            EntryType::Directory => 'd',
            EntryType::Fifo => 'p',
            _ => '?',
        };
        let natural = |number: io::Result<i64>, name: &str| {
            u64::try_from(number?).map_err(|_| damaged(format!("its {name} is negative")))
        };
        let record = |key: &str| extended.natural(key).transpose();
        let mut stored = record("size").unwrap_or_else(|| natural(header.size(), "size"))?;
        let owner = (
            record("uid").unwrap_or_else(|| natural(header.uid(), "user"))?,
            record("gid").unwrap_or_else(|| natural(header.gid(), "group"))?,
        );
        let mtime = extended.time("mtime").transpose().unwrap_or_else(|| header.mtime())?;
        for time in ["atime", "ctime"] {
            extended.time(time)?;
        }
        let mode = header.mode()?;
        header.check_device()?;
        if stored > 0 && !matches!(kind, '-' | '?') {
            // Some programs skip it, others read it as the next headers.
            return Err(damaged("it is no regular file and has content"));
        }
        let link = match (kind, extended.name("linkpath", &extended.link, &extended.gnu_link)?) {
            ('l' | 'h', Some(link)) => Some(link),
            ('l' | 'h', None) => Some(header.link()),
            _ => None,
        };
        if link.as_ref().is_some_and(|link| link.len() > NAME_LIMIT) {
            return Err(damaged(format!("its target has more than {NAME_LIMIT} bytes")));
        }
        let padding = (BLOCK - stored % BLOCK) % BLOCK;
        let sparse = match header.kind() {
            EntryType::GNUSparse if extended.sparse.is_empty() => Some(self.sparse(header, stored, left)?),
            _ if extended.sparse.is_empty() => None,
            EntryType::Regular | EntryType::Continuous if kind == '-' => {
                Some(self.sparse_of_pax(extended, &mut stored, left)?)
            }
            _ => return Err(damaged("pax records of a sparse file for what is none")),
        };
        let size = sparse.as_ref().map_or(stored, |sparse| sparse.size);
        let attributes = extended.attributes.clone();
        Ok((
            ReadEntry { path: Vec::new(), kind, mode, owner, size, mtime, link, attributes },
            Content { path: Vec::new(), stored, padding, sparse },
        ))
    }

    /// GNU's older form of a sparse file: four segments in the header, 21 in each block that follows.
    fn sparse(&mut self, header: &Header, stored: u64, mut left: u64) -> io::Result<Sparse> {
        let (size, mut segments, mut more) = header.sparse()?;
        while more {
            let (next, is_continued) = more_segments(&self.block_of_map(&mut left)?)?;
            segments.extend(next);
            more = is_continued;
        }
        Sparse::new(segments, size, stored)
    }

    /// The forms in pax records. The map of form 1.0 is the first part of what is stored.
    fn sparse_of_pax(&mut self, extended: &Extended, stored: &mut u64, mut left: u64) -> io::Result<Sparse> {
        let (size, map) = extended.sparse.map()?;
        let segments = match map {
            Map::Here(segments) => segments,
            Map::InContent => {
                let mut map = MapInContent::default();
                loop {
                    *stored =
                        stored.checked_sub(BLOCK).ok_or_else(|| cut_short("the map of a sparse file"))?;
                    if let Some(segments) = map.add(&self.block_of_map(&mut left)?)? {
                        break segments;
                    }
                }
            }
        };
        Sparse::new(segments, size, *stored)
    }

    fn block_of_map(&mut self, left: &mut u64) -> io::Result<[u8; BLOCK as usize]> {
        *left = left.checked_sub(BLOCK).ok_or_else(too_many_headers)?;
        self.block()?.ok_or_else(|| cut_short("the map of a sparse file"))
    }

    /// The next header; none at the end.
    fn header(&mut self) -> io::Result<Option<Header>> {
        let Some(block) = self.block()? else { return Ok(None) };
        if block == [0; BLOCK as usize] {
            return match self.block()? {
                Some(block) if block != [0; BLOCK as usize] => {
                    Err(damaged("entries after a single block of zeros, where some programs stop"))
                }
                _ => Ok(None),
            };
        }
        let header = Header::new(block)?;
        self.is_tar = true;
        Ok(Some(header))
    }

    /// The next block; none at the end.
    fn block(&mut self) -> io::Result<Option<[u8; BLOCK as usize]>> {
        let mut block = [0; BLOCK as usize];
        let mut filled = 0;
        while filled < block.len() {
            match self.inner.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(cut_short("a header")),
                Ok(length) => filled += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.position += BLOCK;
        Ok(Some(block))
    }

    /// So many bytes, which fill up blocks.
    fn block_of(&mut self, size: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        (&mut self.inner).take(size).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != size {
            return Err(cut_short("a header"));
        }
        self.position += size;
        self.pass((BLOCK - size % BLOCK) % BLOCK)?;
        Ok(bytes)
    }

    fn pass(&mut self, length: u64) -> io::Result<()> {
        let position = self.position.checked_add(length).filter(|end| i64::try_from(*end).is_ok());
        self.position = position.ok_or_else(|| damaged("it ends beyond what any file can hold"))?;
        if length > 0 { (self.skip)(&mut self.inner, length) } else { Ok(()) }
    }

    fn finish_entry(&mut self) -> io::Result<()> {
        let Content { path, stored, padding, .. } = std::mem::take(&mut self.content);
        self.pass(stored).map_err(|error| named(&path, &error))?;
        match self.pass(padding) {
            // The last entry may end where its content does.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
            passed => passed,
        }
    }

    fn read_stored(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.content.stored).unwrap_or(usize::MAX).min(buffer.len());
        let length = self.inner.read(&mut buffer[..most])?;
        if length == 0 && most > 0 {
            return Err(named(&self.content.path, &without_end()));
        }
        self.content.stored -= length as u64;
        self.position += length as u64;
        Ok(length)
    }
}

impl<R: Read + Seek> Untar<R> {
    /// One whose contents are not read but leapt over, also beyond its end.
    pub(crate) fn by_seeking(inner: R) -> Self {
        let skip = |inner: &mut R, length: u64| inner.seek_relative(length.cast_signed());
        Self { inner, skip, position: 0, is_tar: false, content: Content::default() }
    }
}

/// The content of the entry at hand.
impl<R: Read> Read for Untar<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(sparse) = &mut self.content.sparse else { return self.read_stored(buffer) };
        let (is_data, next) = sparse.next();
        let most = usize::try_from(next).unwrap_or(usize::MAX).min(buffer.len());
        let length = if is_data {
            self.read_stored(&mut buffer[..most])?
        } else {
            buffer[..most].fill(0);
            most
        };
        if let Some(sparse) = &mut self.content.sparse {
            sparse.advance(length);
        }
        Ok(length)
    }
}

fn set_once<T>(place: &mut Option<T>, value: T, twice: &str) -> io::Result<()> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(damaged(twice)),
    }
}

fn check_name(path: &[u8]) -> io::Result<()> {
    match path.len() {
        0 => Err(damaged("an entry without a name")),
        length if length > NAME_LIMIT => {
            Err(damaged(format!("its name has {length} bytes, more than {NAME_LIMIT}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
