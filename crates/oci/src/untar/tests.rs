use proptest::prelude::*;

use super::header::{CHECKSUM, GID, MODE, MTIME, SIZE, UID};
use super::*;
use crate::capabilities::Capabilities;
use crate::tar;

/// A ustar header with these fields; its checksum is right.
fn header(name: &[u8], flag: u8, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..name.len()].copy_from_slice(name);
    block[MODE].copy_from_slice(b"0000644\0");
    for field in [UID, GID] {
        block[field].copy_from_slice(b"0000000\0");
    }
    for field in [SIZE, MTIME] {
        block[field].copy_from_slice(b"00000000000\0");
    }
    block[156] = flag;
    block[257..265].copy_from_slice(b"ustar\x0000");
    change(&mut block);
    block[CHECKSUM].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

fn size(size: usize) -> impl Fn(&mut [u8]) {
    move |block| block[SIZE].copy_from_slice(format!("{size:011o}\0").as_bytes())
}

fn full(content: &[u8]) -> Vec<u8> {
    let mut content = content.to_vec();
    content.resize(content.len().next_multiple_of(512), 0);
    content
}

fn file(name: &[u8], content: &[u8]) -> Vec<u8> {
    [header(name, b'0', size(content.len())), full(content)].concat()
}

/// A header of this type with this content, as comes before an entry.
fn before(flag: u8, content: &[u8]) -> Vec<u8> {
    [header(b"before", flag, size(content.len())), full(content)].concat()
}

fn pax(records: &[(&str, &[u8])]) -> Vec<u8> {
    let records: Vec<u8> =
        records.iter().flat_map(|(key, value)| tar::pax_record(key.as_bytes(), value)).collect();
    before(b'x', &records)
}

type Listed = Vec<(ReadEntry, Vec<u8>)>;

fn read(parts: &[Vec<u8>]) -> Result<Listed, String> {
    let bytes = [parts.concat(), vec![0; 1024]].concat();
    let mut untar = Untar::new(&bytes[..]);
    let mut listed = Vec::new();
    let mut all = || -> io::Result<()> {
        while let Some(entry) = untar.next()? {
            let mut content = Vec::new();
            (&mut untar).take(1 << 16).read_to_end(&mut content)?;
            listed.push((entry, content));
        }
        Ok(())
    };
    all().map_err(|error| error.to_string())?;
    // The same without reading any content.
    let mut leaping = Untar::by_seeking(io::Cursor::new(&bytes));
    for (entry, _) in &listed {
        assert_eq!(leaping.next().unwrap().as_ref(), Some(entry));
    }
    assert!(leaping.next().unwrap().is_none());
    Ok(listed)
}

fn refused(parts: &[Vec<u8>]) -> String {
    read(parts).expect_err("it is read")
}

fn paths(parts: &[Vec<u8>]) -> Vec<String> {
    read(parts).unwrap().into_iter().map(|(entry, _)| String::from_utf8(entry.path).unwrap()).collect()
}

#[test]
fn records_are_cut_by_their_length_and_hold_any_byte() {
    let value: &[u8] = b"a\nb=\xff 9 path=evil\n\0";
    let attribute = ("SCHILY.xattr.user.x", value);
    let listed = read(&[
        pax(&[("path", b"line\nfeed"), attribute]),
        file(b"a", b"content"),
        pax(&[("linkpath", b"to\n9 path=x\n")]),
        header(b"link", b'2', |_| {}),
    ])
    .unwrap();
    let (first, content) = &listed[0];
    assert_eq!((first.path.as_slice(), content.as_slice()), (&b"line\nfeed"[..], &b"content"[..]));
    assert_eq!(first.attributes, [(b"SCHILY.xattr.user.x".to_vec(), value.to_vec())]);
    assert_eq!(listed[1].0.link.as_deref(), Some(&b"to\n9 path=x\n"[..]));
    assert_eq!(listed[1].0.path, b"link");
}

#[test]
fn capabilities_whose_bytes_are_a_line_feed_are_read() {
    for text in [
        "cap_dac_override,cap_fowner=ep",
        "cap_setpcap,cap_linux_immutable=ep",
        "cap_net_broadcast,cap_net_raw=ep",
        "cap_sys_rawio,cap_sys_ptrace=ep",
        "cap_sys_time,cap_mknod=ep",
        "cap_mac_admin,cap_wake_alarm=ep",
    ] {
        let capabilities: Capabilities = text.parse().unwrap();
        let mut bytes = Vec::new();
        let header = tar::Header {
            path: b"server",
            kind: tar::Kind::File(0),
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: 1,
            capabilities: Some(capabilities),
        };
        tar::write_header(&mut bytes, &header).unwrap();
        let listed = read(&[bytes]).unwrap();
        let key = b"SCHILY.xattr.security.capability".to_vec();
        assert_eq!(listed[0].0.attributes, [(key, capabilities.to_xattr().to_vec())], "{text}");
    }
}

#[test]
fn numbers_that_are_none_are_refused_by_entry_and_record() {
    for key in ["size", "uid", "gid"] {
        for value in
            ["", "-1", "+512", " 1", "1 ", "0x10", "1.0", "9223372036854775808", "99999999999999999999999"]
        {
            let says = format!("a: its pax record `{key}` is no number, or none that it can be");
            assert_eq!(refused(&[pax(&[(key, value.as_bytes())]), file(b"a", b"")]), says, "{value}");
        }
    }
    for key in ["mtime", "atime", "ctime"] {
        for value in ["", "-", "-1e99", "1.5x", "+1", "--1", "9223372036854775808"] {
            let says = format!("a: its pax record `{key}` is no number, or none that it can be");
            assert_eq!(refused(&[pax(&[(key, value.as_bytes())]), file(b"a", b"")]), says, "{value}");
        }
    }
    // As long as said, and then not there.
    for (value, says) in [
        ("1025", "a: the tar ends within its content"),
        ("9223372036854775807", "a: the tar ends within its content"),
    ] {
        assert_eq!(refused(&[pax(&[("size", value.as_bytes())]), header(b"a", b'0', |_| {})]), says);
    }
    let listed = read(&[
        pax(&[("size", b"5"), ("uid", b"4294967295"), ("gid", b"007"), ("mtime", b"-1.25")]),
        header(b"a", b'0', |_| {}),
        full(b"hello"),
        pax(&[("mtime", b"1350244992.023960108")]),
        file(b"b", b""),
    ])
    .unwrap();
    let (first, content) = &listed[0];
    assert_eq!((first.size, first.owner, first.mtime), (5, (4_294_967_295, 7), -1));
    assert_eq!(content, b"hello");
    assert_eq!(listed[1].0.mtime, 1_350_244_992);
}

#[test]
fn what_programs_read_differently_is_refused() {
    let hidden = || header(b"hidden", b'0', |_| {});
    let entry = || file(b"a", b"");
    let record = |key, value| pax(&[(key, value)]);
    for (parts, says) in [
        (
            vec![pax(&[("path", b"good"), ("path", b"../evil")]), entry()],
            "the pax record `path` stands twice for one entry",
        ),
        (
            vec![pax(&[("size", b"512"), ("size", b"0")]), entry(), hidden()],
            "the pax record `size` stands twice for one entry",
        ),
        (vec![record("path", b"b"), record("path", b"c"), entry()], "two pax headers for one entry"),
        (vec![record("path", b""), entry()], "the pax record `path` is empty"),
        (vec![record("path", b"a\0b"), entry()], "the pax record `path` holds a NUL"),
        (vec![record("linkpath", b""), entry()], "the pax record `linkpath` is empty"),
        (
            vec![record("path", b"b"), before(b'L', b"c\0"), entry()],
            "its pax record `path` and its long name of GNU's differ",
        ),
        (vec![before(b'L', b"b\0"), before(b'L', b"c\0"), entry()], "two long names for one entry"),
        (vec![before(b'L', b"b\0c\0"), entry()], "its long name of GNU's is empty or holds a NUL"),
        (
            vec![record("GNU.sparse.name", b"b"), entry()],
            "b: a sparse file without the pax record `GNU.sparse.size`",
        ),
        (
            vec![record("GNU.sparse.block", b"1"), entry()],
            "the pax record `GNU.sparse.block` belongs to no known form of sparse files",
        ),
        (vec![header(b"d", b'5', size(512)), hidden()], "d: it is no regular file and has content"),
        (vec![header(b"l", b'2', size(512)), hidden()], "l: it is no regular file and has content"),
        (
            vec![entry(), vec![0; 512], hidden()],
            "entries after a single block of zeros, where some programs stop",
        ),
        (
            vec![before(b'g', &tar::pax_record(b"path", b"b")), entry()],
            "a pax header for all entries sets `path`, which some programs pass over",
        ),
        (vec![record("path", b"b")], "an extended header without an entry"),
        (vec![header(b"", b'0', |_| {})], ": an entry without a name"),
        (
            vec![record("path", &[b'a'; 5000]), entry()],
            &format!("{}: its name has 5000 bytes, more than 4095", "a".repeat(200)),
        ),
        (vec![header(b"a", b'0', |block| block[SIZE].fill(0xff))], "a: its size is negative"),
        (
            vec![header(b"a", b'0', |block| block[SIZE].copy_from_slice(b"0000000008\0\0"))],
            "a: a number in a tar header is damaged",
        ),
        (
            vec![b"99999999999 path=a\n".to_vec()].into_iter().map(|it| before(b'x', &it)).collect(),
            "a pax header is damaged",
        ),
        (vec![before(b'x', b"8 path=a\n"), entry()], "a pax header is damaged"),
        (vec![before(b'x', b"-9 path=a\n"), entry()], "a pax header is damaged"),
        (vec![before(b'x', b"9 path=a\n\0"), entry()], "a pax header is damaged"),
        (vec![before(b'x', b"7 =abc\n"), entry()], "a pax header is damaged"),
    ] {
        assert_eq!(refused(&parts), says);
    }
    let mut wrong = entry();
    wrong[0] ^= 1;
    assert_eq!(refused(&[wrong]), "a tar header is damaged: its checksum is wrong");
}

#[test]
fn old_forms_are_read() {
    let long = "l".repeat(300);
    let prefixed = header(b"name", b'0', |block| block[345..351].copy_from_slice(b"prefix"));
    let v7 = |name: &[u8]| header(name, 0, |block| block[257..265].fill(0));
    assert_eq!(
        paths(&[
            before(b'g', &tar::pax_record(b"comment", b"0123")),
            before(b'L', format!("{long}\0").as_bytes()),
            file(b"short", b""),
            prefixed,
            v7(b"old"),
        ]),
        [long.as_str(), "prefix/name", "old"]
    );
    let listed = read(&[v7(b"folder/"), before(b'K', b"target\0"), header(b"hard", b'1', |_| {})]).unwrap();
    assert_eq!(listed[0].0.kind, 'd');
    assert_eq!((listed[1].0.kind, listed[1].0.link.as_deref()), ('h', Some(&b"target"[..])));
    // Fields that nobody filled.
    let blank = header(b"a", b'0', |block| block[100..148].fill(0));
    assert_eq!(read(&[blank]).unwrap()[0].0.mode, 0);
    // Numbers of GNU's base 256, and before 1970.
    let listed = read(&[header(b"a", b'0', |block| {
        block[UID].copy_from_slice(b"\x80\0\0\0\0\x2d\xc6\xc0");
        block[MTIME].fill(0xff);
    })])
    .unwrap();
    assert_eq!((listed[0].0.owner.0, listed[0].0.mtime), (3_000_000, -1));
}

#[test]
fn a_sparse_file_has_zeros_in_its_holes() {
    let sparse = |segments: &[(u64, u64)], real: u64, stored: usize| {
        header(b"s", b'S', |block| {
            block[257..265].copy_from_slice(b"ustar  \0");
            for (place, (offset, length)) in segments.iter().enumerate() {
                let at = 386 + 24 * place;
                block[at..at + 24].copy_from_slice(format!("{offset:011o}\0{length:011o}\0").as_bytes());
            }
            block[483..495].copy_from_slice(format!("{real:011o}\0").as_bytes());
            size(stored)(block);
        })
    };
    let listed = read(&[sparse(&[(2, 3), (8, 1)], 10, 4), full(b"abcd"), file(b"next", b"")]).unwrap();
    assert_eq!(listed[0].1, b"\0\0abc\0\0\0d\0");
    assert_eq!(listed[0].0.size, 10);
    assert_eq!(listed[1].0.path, b"next");
    for (segments, real) in [(&[(2, 3), (4, 1)][..], 10), (&[(8, 4)], 10), (&[(1 << 32, 4)], 10)] {
        let says = "s: the parts of a sparse file overlap or lie beyond its end";
        assert_eq!(refused(&[sparse(segments, real, 4), full(b"abcd")]), says);
    }
    let says = "s: the parts of a sparse file are not as long as its content";
    assert_eq!(refused(&[sparse(&[(0, 3)], 10, 4), full(b"abcd")]), says);
}

#[test]
fn sparse_files_in_pax_form_are_read_as_docker_does() {
    let number = |number: u64| number.to_string().into_bytes();
    let form = |form: &str, size: u64, map: &[(u64, u64)], numblocks: u64| {
        let mut records = vec![("GNU.sparse.size".to_owned(), number(size))];
        let mut add = |name: &str, value: Vec<u8>| records.push((format!("GNU.sparse.{name}"), value));
        let joined = |between: &str| {
            let numbers = map.iter().flat_map(|(offset, length)| [offset.to_string(), length.to_string()]);
            numbers.collect::<Vec<_>>().join(between)
        };
        let mut content = Vec::new();
        match form {
            "0.0" => {
                add("numblocks", number(numblocks));
                for (offset, length) in map {
                    add("offset", number(*offset));
                    add("numbytes", number(*length));
                }
            }
            "0.1" => {
                add("name", b"sparse".to_vec());
                add("numblocks", number(numblocks));
                add("map", joined(",").into_bytes());
            }
            _ => {
                let [major, minor] = form.split('.').map(str::as_bytes).collect::<Vec<_>>()[..] else {
                    panic!()
                };
                add("major", major.to_vec());
                add("minor", minor.to_vec());
                add("name", b"sparse".to_vec());
                content = full(format!("{numblocks}\n{}\n", joined("\n")).as_bytes());
            }
        }
        let stored: u64 = map.iter().map(|(_, length)| length).sum();
        content.extend(b"abcdefgh".iter().cycle().take(usize::try_from(stored.min(64)).unwrap()));
        let records: Vec<(&str, &[u8])> = records.iter().map(|(key, value)| (&**key, &**value)).collect();
        vec![pax(&records), file(b"GNUSparseFile.0/sparse", &content), file(b"next", b"n")]
    };
    let map = [(2, 3), (8, 1), (10, 0)];
    for (name, path) in [("0.0", "GNUSparseFile.0/sparse"), ("0.1", "sparse"), ("1.0", "sparse")] {
        let listed = read(&form(name, 10, &map, 3)).unwrap();
        let found: Vec<_> =
            listed.iter().map(|(entry, content)| (&*entry.path, entry.size, &**content)).collect();
        let expected = [(path.as_bytes(), 10, &b"\0\0abc\0\0\0d\0"[..]), (b"next", 1, b"n")];
        assert_eq!(found, expected, "{name}");
        // Many segments, in several blocks, and as long as it likes.
        let many: Vec<(u64, u64)> = (0..40).map(|at| (1 << 50 | at << 20, 1)).collect();
        let listed = read(&form(name, 1 << 60, &many, 40)).unwrap();
        assert_eq!((listed[0].0.size, &*listed[1].1), (1 << 60, &b"n"[..]), "{name}");
        let refused = |map: &[(u64, u64)], count| refused(&form(name, 10, map, count));
        let beyond = format!("{path}: the parts of a sparse file overlap or lie beyond its end");
        for map in [&[(2, 3), (4, 1)][..], &[(8, 4)], &[(1 << 62, 4)]] {
            assert_eq!(refused(map, map.len() as u64), beyond, "{name}");
        }
        assert_eq!(refused(&map, 4), format!("{path}: the map of a sparse file is damaged"), "{name}");
        let stored = format!("{path}: the parts of a sparse file are not as long as its content");
        let mut longer = form(name, 10, &map, 3);
        let last = longer.pop().unwrap();
        longer[1] = file(b"GNUSparseFile.0/sparse", &[&longer[1][512..], &[0; 512]].concat());
        longer.push(last);
        assert_eq!(self::refused(&longer), stored, "{name}");
    }
    let says = "sparse: its pax records `GNU.sparse.*` fit no known form of sparse files";
    assert_eq!(refused(&form("1.1", 10, &map, 3)), says);
    assert_eq!(refused(&form("2.0", 10, &map, 3)), says);
    let link = [form("0.1", 0, &[], 0)[0].clone(), header(b"l", b'2', |_| {})];
    assert_eq!(refused(&link), "sparse: pax records of a sparse file for what is none");
}

#[test]
fn an_archive_may_end_without_a_marker_and_not_within_an_entry() {
    let bytes = file(b"a", b"content");
    for (length, ends) in [
        (519, Ok(1)),
        (1024, Ok(1)),
        (512, Err("a: the tar ends within its content")),
        (518, Err("a: the tar ends within its content")),
        (100, Err("it ends within a header")),
    ] {
        let mut untar = Untar::new(&bytes[..length]);
        let mut count = 0;
        let ended = loop {
            match untar.next() {
                Ok(Some(_)) => count += 1,
                Ok(None) => break Ok(count),
                Err(error) => break Err(error.to_string()),
            }
        };
        assert_eq!(ended, ends.map_err(str::to_owned), "{length}");
    }
}

proptest! {
    /// Whatever the name, target, ids and length are, what was written is read.
    #[test]
    fn what_the_writer_says_is_read_back(
        path in prop::collection::vec(prop::collection::vec(1_u8.., 1..60), 1..8),
        target in prop::option::of(prop::collection::vec(1_u8.., 1..200)),
        mode in 0_u32..0o10000, uid: u32, mtime in 0_u64..253_402_300_800,
        bits in 1_u64..(1 << 40),
    ) {
        let part = |part: Vec<u8>| part.into_iter().map(|b| if b == b'/' { b'_' } else { b }).collect::<Vec<u8>>();
        let path: Vec<u8> = path.into_iter().map(part).collect::<Vec<_>>().join(&b'/');
        let names: Vec<&str> = "chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable \
            net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace"
            .split_whitespace().enumerate().filter(|(at, _)| bits >> at & 1 == 1).map(|(_, name)| name).collect();
        let capabilities: Option<Capabilities> =
            names.iter().map(|name| format!("cap_{name}")).reduce(|a, b| format!("{a},{b}"))
            .map(|names| format!("{names}=ep").parse().unwrap());
        let kind = target.as_deref().map_or(tar::Kind::File(0), tar::Kind::Symlink);
        let written = tar::Header { path: &path, kind, mode, uid, gid: uid / 2, mtime, capabilities };
        let mut bytes = Vec::new();
        tar::write_header(&mut bytes, &written).unwrap();
        let listed = read(&[bytes]).unwrap();
        let attributes = capabilities
            .map(|capabilities| (b"SCHILY.xattr.security.capability".to_vec(), capabilities.to_xattr().to_vec()));
        prop_assert_eq!(&listed[0].0, &ReadEntry {
            path,
            kind: if target.is_some() { 'l' } else { '-' },
            mode,
            owner: (u64::from(uid), u64::from(uid / 2)),
            size: 0,
            mtime: mtime.cast_signed(),
            link: target,
            attributes: attributes.into_iter().collect(),
        });
    }

    /// Any bytes at all end in entries or an error.
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
        let mut untar = Untar::new(&bytes[..]);
        while let Ok(Some(_)) = untar.next() {}
    }
}
