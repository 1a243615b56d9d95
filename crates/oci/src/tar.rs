//! Writing tar: POSIX ustar headers, with a pax extended header before an entry only where ustar
//! cannot say it (POSIX.1-2017, pax, "ustar Interchange Format" and "pax Extended Header").
//!
//! It is ours because every byte of a header is part of a digest:
//! what goes into a field, and when a pax record is needed, must not change with somebody's release.

use std::io::{self, Write};

use super::capabilities::Capabilities;

/// What one header says.
pub(crate) struct Header<'a> {
    /// Without leading or trailing slash; empty for the root.
    pub(crate) path: &'a [u8],
    pub(crate) kind: Kind<'a>,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: u64,
    pub(crate) capabilities: Option<Capabilities>,
}

/// The kinds of entries that layers hold.
#[derive(Clone, Copy)]
pub(crate) enum Kind<'a> {
    Directory,
    /// With its length in bytes.
    File(u64),
    /// With its target, verbatim.
    Symlink(&'a [u8]),
}

const BLOCK: usize = 512;

/// Most of what an octal field of `digits` digits can hold.
const fn octal_limit(digits: u32) -> u64 {
    8_u64.pow(digits) - 1
}

/// The sizes of ustar's fields, in the octal digits that a terminating NUL leaves room for.
const ID_LIMIT: u64 = octal_limit(7);
const SIZE_LIMIT: u64 = octal_limit(11);

pub(crate) fn write_header(out: &mut impl Write, header: &Header<'_>) -> io::Result<()> {
    let mut path = if header.path.is_empty() { b".".to_vec() } else { header.path.to_vec() };
    if matches!(header.kind, Kind::Directory) {
        path.push(b'/');
    }
    let (size, link, type_flag) = match header.kind {
        Kind::Directory => (0, &b""[..], b'5'),
        Kind::File(size) => (size, &b""[..], b'0'),
        Kind::Symlink(target) => (0, target, b'2'),
    };

    let mut pax = Pax::default();
    let split = if path.is_ascii() { split_path(&path) } else { None };
    if split.is_none() {
        pax.text(b"path", &path);
    }
    if link.len() > 100 || !link.is_ascii() {
        pax.text(b"linkpath", link);
    }
    for (key, value, limit) in [
        (&b"size"[..], size, SIZE_LIMIT),
        (b"uid", u64::from(header.uid), ID_LIMIT),
        (b"gid", u64::from(header.gid), ID_LIMIT),
        (b"mtime", header.mtime, SIZE_LIMIT),
    ] {
        if value > limit {
            pax.record(key, value.to_string().as_bytes());
        }
    }
    if let Some(capabilities) = header.capabilities {
        pax.record(b"SCHILY.xattr.security.capability", &capabilities.to_xattr());
    }
    let (prefix, name) = split.unwrap_or((b"", &path));
    if !pax.records.is_empty() {
        let records = pax.into_bytes();
        let file_name = name.rsplit(|b| *b == b'/').find(|part| !part.is_empty()).unwrap_or(b"file");
        let pax_name: Vec<u8> = [b"PaxHeaders.0/", file_name].concat();
        let fields = Fields {
            prefix: b"",
            name: &pax_name,
            link: b"",
            type_flag: b'x',
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: records.len() as u64,
            mtime: 0,
        };
        out.write_all(&fields.to_block())?;
        out.write_all(&records)?;
        write_padding(out, records.len() as u64)?;
    }
    let fields = Fields {
        prefix,
        name,
        link,
        type_flag,
        mode: header.mode,
        uid: u64::from(header.uid),
        gid: u64::from(header.gid),
        size,
        mtime: header.mtime,
    };
    out.write_all(&fields.to_block())
}

/// Fills a file's last block with zeros.
pub(crate) fn write_padding(out: &mut impl Write, length: u64) -> io::Result<()> {
    let over = (length % BLOCK as u64) as usize;
    if over > 0 {
        out.write_all(&[0; BLOCK][over..])?;
    }
    Ok(())
}

/// Two blocks of zeros. Some writers pad to 10,240 bytes, which tapes wanted and no reader needs.
pub(crate) fn write_end(out: &mut impl Write) -> io::Result<()> {
    out.write_all(&[0; 2 * BLOCK])
}

/// Splits a path into ustar's prefix (155 bytes) and name (100 bytes) at a slash.
fn split_path(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.len() <= 100 {
        return Some((b"", path));
    }
    // The slash that ends a directory's name does not split it.
    let inner = &path[..path.len() - 1];
    let at = inner.iter().enumerate().position(|(at, byte)| *byte == b'/' && path.len() - at - 1 <= 100)?;
    (1..=155).contains(&at).then(|| (&path[..at], &path[at + 1..]))
}

struct Fields<'a> {
    prefix: &'a [u8],
    name: &'a [u8],
    link: &'a [u8],
    type_flag: u8,
    mode: u32,
    uid: u64,
    gid: u64,
    size: u64,
    mtime: u64,
}

impl Fields<'_> {
    fn to_block(&self) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        // What does not fit stands in the pax header, which overrides the field.
        put(&mut block[0..100], self.name);
        put_octal(&mut block[100..108], u64::from(self.mode));
        put_octal(&mut block[108..116], if self.uid > ID_LIMIT { 0 } else { self.uid });
        put_octal(&mut block[116..124], if self.gid > ID_LIMIT { 0 } else { self.gid });
        put_octal(&mut block[124..136], if self.size > SIZE_LIMIT { 0 } else { self.size });
        put_octal(&mut block[136..148], if self.mtime > SIZE_LIMIT { 0 } else { self.mtime });
        block[148..156].fill(b' ');
        block[156] = self.type_flag;
        put(&mut block[157..257], self.link);
        block[257..265].copy_from_slice(b"ustar\x0000");
        put_octal(&mut block[329..337], 0);
        put_octal(&mut block[337..345], 0);
        put(&mut block[345..500], self.prefix);
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        // The checksum alone ends in NUL and space.
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    }
}

fn put(field: &mut [u8], value: &[u8]) {
    let length = field.len().min(value.len());
    field[..length].copy_from_slice(&value[..length]);
}

fn put_octal(field: &mut [u8], value: u64) {
    let width = field.len() - 1;
    put(field, format!("{value:0width$o}").as_bytes());
}

#[derive(Default)]
struct Pax {
    records: Vec<u8>,
    binary: bool,
}

impl Pax {
    /// A record whose value is a name: pax takes it as UTF-8 unless told otherwise.
    fn text(&mut self, key: &[u8], value: &[u8]) {
        self.binary |= std::str::from_utf8(value).is_err();
        self.record(key, value);
    }

    fn record(&mut self, key: &[u8], value: &[u8]) {
        self.records.extend_from_slice(&pax_record(key, value));
    }

    fn into_bytes(self) -> Vec<u8> {
        if self.binary {
            // Says that names below are bytes without a character set; must come first.
            [pax_record(b"hdrcharset", b"BINARY"), self.records].concat()
        } else {
            self.records
        }
    }
}

/// `LENGTH KEY=VALUE\n`, where LENGTH counts the whole record, itself included.
pub(crate) fn pax_record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + rest.to_string().len();
    // Adding its digits can make the length one digit longer.
    length = rest + length.to_string().len();
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(path: &[u8]) -> Header<'_> {
        Header { path, kind: Kind::File(0), mode: 0o644, uid: 0, gid: 0, mtime: 0, capabilities: None }
    }

    fn bytes(headers: &[Header<'_>]) -> Vec<u8> {
        let mut out = Vec::new();
        for header in headers {
            write_header(&mut out, header).unwrap();
        }
        write_end(&mut out).unwrap();
        out
    }

    #[test]
    fn a_record_counts_its_own_length() {
        assert_eq!(pax_record(b"path", b"a"), b"9 path=a\n");
        assert_eq!(pax_record(b"path", b"ab"), b"11 path=ab\n");
        for length in [1, 85, 86, 87, 88, 89, 90, 91, 92, 985, 986, 987, 988, 989, 990, 991, 9_985] {
            let record = pax_record(b"path", &vec![b'x'; length]);
            let digits = record.iter().position(|b| *b == b' ').unwrap();
            let said: usize = std::str::from_utf8(&record[..digits]).unwrap().parse().unwrap();
            assert_eq!(said, record.len());
        }
    }

    #[test]
    fn short_ascii_names_need_no_pax_header() {
        assert_eq!(bytes(&[file(b"etc/passwd")]).len(), 3 * BLOCK);
        let split = [b"d".repeat(90), b"f".repeat(99)].join(&b'/');
        assert_eq!(bytes(&[file(&split)]).len(), 3 * BLOCK);
        assert_eq!(bytes(&[file("é".as_bytes())]).len(), 5 * BLOCK);
        assert_eq!(bytes(&[file(&b"f".repeat(101))]).len(), 5 * BLOCK);
    }

    #[test]
    fn sizes_beyond_8_gib_are_kept() {
        let large = Header { kind: Kind::File(9 << 30), ..file(b"large") };
        let written = bytes(&[large]);
        let mut archive = ::tar::Archive::new(&written[..]);
        let entry = archive.entries().unwrap().next().unwrap().unwrap();
        assert_eq!(entry.size(), 9 << 30);
    }

    #[test]
    fn ids_and_times_beyond_their_fields_are_kept() {
        let header = Header { uid: u32::MAX, gid: 3_000_000, mtime: 253_402_300_799, ..file(b"f") };
        let written = bytes(&[header]);
        let text = String::from_utf8_lossy(&written);
        for record in ["18 uid=4294967295\n", "15 gid=3000000\n", "22 mtime=253402300799\n"] {
            assert!(text.contains(record), "{record}");
        }
    }

    #[test]
    fn capabilities_are_an_xattr_record() {
        let header =
            Header { capabilities: Some("cap_net_bind_service=ep".parse().unwrap()), ..file(b"server") };
        let written = bytes(&[header]);
        let mut archive = ::tar::Archive::new(&written[..]);
        let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
        let extensions = entry.pax_extensions().unwrap().unwrap();
        let records: Vec<(Vec<u8>, Vec<u8>)> = extensions
            .map(|record| record.map(|r| (r.key_bytes().to_vec(), r.value_bytes().to_vec())).unwrap())
            .collect();
        // linux/capability.h: VFS_CAP_REVISION_2 and the effective bit, then permitted and
        // inheritable, low words first. Port binding is capability 10.
        let value = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0].to_vec();
        assert_eq!(records, [(b"SCHILY.xattr.security.capability".to_vec(), value)]);
    }

    proptest! {
        /// Whatever the name, target, ids and length are, an independent reader gets them back. (Names
        /// with a line feed are left out: this reader splits records there and not by their length.)
        #[test]
        fn headers_read_back(
            path in prop::collection::vec(prop::collection::vec(11_u8.., 1..60), 1..8),
            target in prop::option::of(prop::collection::vec(11_u8.., 1..200)),
            mode in 0_u32..0o10000, uid: u32, size in 0_u64..4_000_000_000, mtime in 0_u64..253_402_300_800,
        ) {
            let path: Vec<u8> = path
                .into_iter()
                .map(|part| part.into_iter().map(|b| if b == b'/' { b'_' } else { b }).collect::<Vec<u8>>())
                .collect::<Vec<_>>()
                .join(&b'/');
            let kind = target.as_deref().map_or(Kind::File(size), Kind::Symlink);
            let header = Header { path: &path, kind, mode, uid, gid: uid / 2, mtime, capabilities: None };
            let written = bytes(&[header]);
            let mut archive = ::tar::Archive::new(&written[..]);
            let entry = archive.entries().unwrap().next().unwrap().unwrap();
            prop_assert_eq!(&*entry.path_bytes(), &path[..]);
            let link = entry.link_name_bytes();
            prop_assert_eq!(link.as_deref(), target.as_deref());
            prop_assert_eq!(entry.header().mode().unwrap(), mode);
            if target.is_none() {
                prop_assert_eq!(entry.size(), size);
            }
            prop_assert_eq!(written.len() % BLOCK, 0);
        }
    }
}
