//! Layers: what they will hold, as data; and the one pass that writes tar, diff id, compressed blob and
//! digest together.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use super::compress::{Compression, Pool};
use super::digest::{DiffId, Digest, Digesting};
use super::spec::Descriptor;
use super::tar;
use crate::units::Epoch;

/// An absolute path inside an image, kept without the leading slash. Empty is the root.
///
/// Bytes, not text: Linux file names need not be UTF-8. Cheap to clone, because a plan of a hundred
/// thousand files has each path in more than one place.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImagePath(Arc<[u8]>);

/// Why a path cannot be in an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImagePathError {
    /// It does not start at the root.
    #[error("`{0}` is not absolute: start it with /")]
    Relative(String),
    /// It leaves the root, or says one place in two ways.
    #[error("`{0}` must not have empty, `.` or `..` components")]
    Component(String),
    /// Layers delete files by names of this kind (image-spec layer.md, "Whiteouts").
    #[error("`{0}` has a component that starts with .wh., which marks a deletion in an image layer")]
    Whiteout(String),
    /// No file system has such names.
    #[error("`{0}` has a component of more than 255 bytes, or a NUL")]
    Name(String),
}

impl ImagePath {
    /// The root directory.
    #[must_use]
    pub fn root() -> Self {
        Self(Arc::default())
    }

    /// From components, none of them empty.
    ///
    /// # Errors
    /// When a component is none.
    pub fn from_bytes(path: &[u8]) -> Result<Self, ImagePathError> {
        let shown = || format!("/{}", String::from_utf8_lossy(path));
        for component in path.split(|byte| *byte == b'/') {
            match component {
                b"" | b"." | b".." => return Err(ImagePathError::Component(shown())),
                c if c.starts_with(b".wh.") => return Err(ImagePathError::Whiteout(shown())),
                c if c.len() > 255 || c.contains(&0) => return Err(ImagePathError::Name(shown())),
                _ => {}
            }
        }
        Ok(Self(path.into()))
    }

    /// The bytes without a leading slash.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The path with more components behind it.
    ///
    /// # Errors
    /// When one of them cannot be in an image.
    pub fn join(&self, relative: &[u8]) -> Result<Self, ImagePathError> {
        if self.0.is_empty() {
            return Self::from_bytes(relative);
        }
        Self::from_bytes(&[&self.0, &b"/"[..], relative].concat())
    }

    /// The directory it lies in; none for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        if self.0.is_empty() {
            return None;
        }
        let end = self.0.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        Some(Self(self.0[..end].into()))
    }

    /// Whether the other path is this one or lies below it.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        match other.0.strip_prefix(&*self.0) {
            Some(rest) => self.0.is_empty() || rest.is_empty() || rest[0] == b'/',
            None => false,
        }
    }
}

impl FromStr for ImagePath {
    type Err = ImagePathError;

    fn from_str(text: &str) -> Result<Self, ImagePathError> {
        match text.strip_prefix('/') {
            None => Err(ImagePathError::Relative(text.to_owned())),
            Some("") => Ok(Self::root()),
            Some(rest) => Self::from_bytes(rest.strip_suffix('/').unwrap_or(rest).as_bytes()),
        }
    }
}

/// With the leading slash; bytes that are not UTF-8 are escaped.
impl fmt::Display for ImagePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("/")?;
        for chunk in self.0.utf8_chunks() {
            f.write_str(chunk.valid())?;
            chunk.invalid().iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))?;
        }
        Ok(())
    }
}

impl fmt::Debug for ImagePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Numeric user and group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}:{}", self.uid, self.gid))
    }
}

/// File capabilities, written as for setcap: `cap_net_bind_service,cap_net_raw=ep`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Capabilities {
    permitted: u64,
    inheritable: u64,
    effective: bool,
}

/// Why a text is no set of capabilities.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CapabilitiesError {
    /// No names or no flags.
    #[error("`{0}` is not a set of capabilities: write NAME[,NAME…]=ep, as for setcap")]
    Form(String),
    /// The kernel has no capability of that name.
    #[error("`{0}` is not a capability of Linux")]
    Unknown(String),
}

/// In the order of their numbers in linux/capability.h.
const CAPABILITY_NAMES: [&str; 41] = [
    "cap_chown",
    "cap_dac_override",
    "cap_dac_read_search",
    "cap_fowner",
    "cap_fsetid",
    "cap_kill",
    "cap_setgid",
    "cap_setuid",
    "cap_setpcap",
    "cap_linux_immutable",
    "cap_net_bind_service",
    "cap_net_broadcast",
    "cap_net_admin",
    "cap_net_raw",
    "cap_ipc_lock",
    "cap_ipc_owner",
    "cap_sys_module",
    "cap_sys_rawio",
    "cap_sys_chroot",
    "cap_sys_ptrace",
    "cap_sys_pacct",
    "cap_sys_admin",
    "cap_sys_boot",
    "cap_sys_nice",
    "cap_sys_resource",
    "cap_sys_time",
    "cap_sys_tty_config",
    "cap_mknod",
    "cap_lease",
    "cap_audit_write",
    "cap_audit_control",
    "cap_setfcap",
    "cap_mac_override",
    "cap_mac_admin",
    "cap_syslog",
    "cap_wake_alarm",
    "cap_block_suspend",
    "cap_audit_read",
    "cap_perfmon",
    "cap_bpf",
    "cap_checkpoint_restore",
];

impl Capabilities {
    /// `struct vfs_cap_data` of revision 2 (linux/capability.h), little-endian: magic and effective
    /// bit, then permitted and inheritable, low words first.
    #[must_use]
    pub fn to_xattr(self) -> [u8; 20] {
        const VFS_CAP_REVISION_2: u32 = 0x0200_0000;
        let words = [
            VFS_CAP_REVISION_2 | u32::from(self.effective),
            self.permitted as u32,
            self.inheritable as u32,
            (self.permitted >> 32) as u32,
            (self.inheritable >> 32) as u32,
        ];
        let mut bytes = [0; 20];
        for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}

impl FromStr for Capabilities {
    type Err = CapabilitiesError;

    fn from_str(text: &str) -> Result<Self, CapabilitiesError> {
        let form = || CapabilitiesError::Form(text.to_owned());
        let (names, flags) = text.split_once(['=', '+']).ok_or_else(form)?;
        let mut set = 0;
        for name in names.split(',') {
            let name = name.trim().to_ascii_lowercase();
            let number = CAPABILITY_NAMES.iter().position(|known| *known == name);
            set |= 1 << number.ok_or(CapabilitiesError::Unknown(name))?;
        }
        // `=+ep` is how getcap used to print it.
        let flags = flags.strip_prefix('+').unwrap_or(flags);
        if flags.is_empty() || !flags.bytes().all(|flag| b"eip".contains(&flag)) {
            return Err(form());
        }
        let capabilities = Self {
            permitted: if flags.contains('p') { set } else { 0 },
            inheritable: if flags.contains('i') { set } else { 0 },
            effective: flags.contains('e'),
        };
        // An effective bit without a permitted or inheritable set gives nothing.
        if capabilities.permitted | capabilities.inheritable == 0 { Err(form()) } else { Ok(capabilities) }
    }
}

/// setcap's spelling, names in the kernel's order.
impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = self.permitted | self.inheritable;
        let names: Vec<&str> = CAPABILITY_NAMES
            .iter()
            .enumerate()
            .filter(|(number, _)| set >> number & 1 == 1)
            .map(|(_, name)| *name)
            .collect();
        write!(f, "{}=", names.join(","))?;
        for (flag, on) in [("e", self.effective), ("i", self.inheritable != 0), ("p", self.permitted != 0)] {
            f.write_str(if on { flag } else { "" })?;
        }
        Ok(())
    }
}

/// Where a file's bytes come from.
#[derive(Clone, Debug)]
pub enum Content {
    /// They are here.
    Bytes(Arc<[u8]>),
    /// They are in a file of this length.
    File(Box<Path>, u64),
    /// They are in a file of this length in a folder that is taken over as a whole; its path there is
    /// the entry's path relative to where the folder goes.
    InTree(Arc<Tree>, u64),
}

/// A folder that is taken over as a whole.
#[derive(Debug)]
pub struct Tree {
    /// Where it lies.
    pub source: PathBuf,
    /// Where it goes.
    pub destination: ImagePath,
}

impl Content {
    /// Length in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(_, size) | Self::InTree(_, size) => *size,
        }
    }
}

/// What an entry is.
#[derive(Clone, Debug)]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A regular file.
    File(Content),
    /// A symbolic link with this target, verbatim.
    Symlink(Box<[u8]>),
}

/// One path of a layer.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Where.
    pub path: ImagePath,
    /// What.
    pub kind: EntryKind,
    /// Permission bits, with set-user-id, set-group-id and sticky.
    pub mode: u32,
    /// Whose.
    pub owner: Owner,
    /// With which file capabilities; boxed, because hardly any entry has some.
    pub capabilities: Option<Box<Capabilities>>,
}

impl Entry {
    /// The file that its bytes are read from, if they are read from one.
    #[must_use]
    pub fn source(&self) -> Option<PathBuf> {
        match &self.kind {
            EntryKind::File(Content::File(path, _)) => Some(path.to_path_buf()),
            EntryKind::File(Content::InTree(tree, _)) => Some(tree.path_of(&self.path)),
            _ => None,
        }
    }

    /// Opens its content.
    fn open(&self, content: &Content) -> Result<Box<dyn Read + '_>, LayerError> {
        match (content, self.source()) {
            (_, Some(path)) => match File::open(&path) {
                Ok(file) => Ok(Box::new(file)),
                Err(source) => Err(LayerError::Read { path, source }),
            },
            (Content::Bytes(bytes), None) => Ok(Box::new(io::Cursor::new(Arc::clone(bytes)))),
            (_, None) => Ok(Box::new(io::empty())),
        }
    }
}

impl Tree {
    fn path_of(&self, entry: &ImagePath) -> PathBuf {
        let relative = entry.0.strip_prefix(&*self.destination.0).unwrap_or(&entry.0);
        let relative = relative.strip_prefix(b"/").unwrap_or(relative);
        self.source.join(path_from_bytes(relative))
    }
}

#[cfg(unix)]
fn path_from_bytes(bytes: &[u8]) -> &Path {
    use std::os::unix::ffi::OsStrExt as _;
    Path::new(std::ffi::OsStr::from_bytes(bytes))
}

/// Elsewhere every name is Unicode, and came from such a name.
#[cfg(not(unix))]
fn path_from_bytes(bytes: &[u8]) -> PathBuf {
    PathBuf::from(String::from_utf8_lossy(bytes).into_owned())
}

/// Everything a layer will hold, before a byte of it is written.
#[derive(Clone, Debug)]
pub struct LayerPlan {
    /// What it is called in the definition, in tables and in the image's history.
    pub name: String,
    /// Sorted by path, each path once, parents before what lies in them.
    pub entries: Vec<Entry>,
    /// The modification time of every entry.
    pub mtime: Epoch,
}

/// Why a layer could not be written.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// A file that goes into it cannot be read.
    #[error("cannot read {path}", path = path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that goes into it has another length than when the layer was planned.
    #[error("{path} changed while the layer was written: {planned} bytes were planned, {read} were read", path = path.display())]
    Changed {
        /// Which.
        path: PathBuf,
        /// Bytes planned.
        planned: u64,
        /// Bytes read; one more than planned if there are more.
        read: u64,
    },
    /// The layer cannot be written.
    #[error("cannot write the layer")]
    Write(#[source] io::Error),
}

/// A layer that was written: all that an image says about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// What it is called.
    pub name: String,
    /// Of the blob as stored.
    pub descriptor: Descriptor,
    /// Of its tar.
    pub diff_id: DiffId,
    /// Bytes of its tar.
    pub uncompressed_size: u64,
}

/// Writes a layer in one pass: tar → diff id → compressed → digest → `out`.
///
/// # Errors
/// When a file cannot be read or is not as planned, or `out` cannot be written.
pub fn write<W: Write>(
    plan: &LayerPlan,
    compression: Compression,
    pool: &Pool,
    out: W,
) -> Result<(Layer, W), LayerError> {
    let length = tar_length(plan)?;
    let mut tar = Digesting::new(pool.encoder(compression, length, Digesting::new(out)));
    write_tar(plan, &mut tar)?;
    let (encoder, (diff_id, uncompressed_size)) = tar.finish();
    let (out, (digest, size)) = encoder.finish().map_err(LayerError::Write)?.finish();
    let layer = Layer {
        name: plan.name.clone(),
        descriptor: Descriptor::new(compression.media_type(), digest, size),
        diff_id: DiffId(diff_id),
        uncompressed_size,
    };
    Ok((layer, out))
}

/// How long the tar of a plan is, known before it is written.
fn tar_length(plan: &LayerPlan) -> Result<u64, LayerError> {
    struct Counting(u64);

    impl Write for Counting {
        fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
            self.0 += buffer.len() as u64;
            Ok(buffer.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let mut length = Counting(0);
    for entry in &plan.entries {
        write_header(entry, plan.mtime, &mut length)?;
        if let EntryKind::File(content) = &entry.kind {
            length.0 += content.size();
            tar::write_padding(&mut length, content.size()).map_err(LayerError::Write)?;
        }
    }
    tar::write_end(&mut length).map_err(LayerError::Write)?;
    Ok(length.0)
}

fn write_header(entry: &Entry, mtime: Epoch, out: &mut impl Write) -> Result<(), LayerError> {
    let kind = match &entry.kind {
        EntryKind::Directory => tar::Kind::Directory,
        EntryKind::File(content) => tar::Kind::File(content.size()),
        EntryKind::Symlink(target) => tar::Kind::Symlink(target),
    };
    let header = tar::Header {
        path: entry.path.as_bytes(),
        kind,
        mode: entry.mode,
        uid: entry.owner.uid,
        gid: entry.owner.gid,
        mtime: mtime.seconds(),
        capabilities: entry.capabilities.as_deref().copied(),
    };
    tar::write_header(out, &header).map_err(LayerError::Write)
}

fn write_tar(plan: &LayerPlan, out: &mut impl Write) -> Result<(), LayerError> {
    let mut buffer = vec![0; 128 << 10];
    for entry in &plan.entries {
        write_header(entry, plan.mtime, out)?;
        if let EntryKind::File(content) = &entry.kind {
            for_each_chunk(entry, content, &mut buffer, |chunk| {
                out.write_all(chunk).map_err(LayerError::Write)
            })?;
            tar::write_padding(out, content.size()).map_err(LayerError::Write)?;
        }
    }
    tar::write_end(out).map_err(LayerError::Write)
}

/// Passes a file's bytes on, exactly as many as were planned.
fn for_each_chunk(
    entry: &Entry,
    content: &Content,
    buffer: &mut [u8],
    mut take: impl FnMut(&[u8]) -> Result<(), LayerError>,
) -> Result<(), LayerError> {
    if let Content::Bytes(bytes) = content {
        return take(bytes);
    }
    let mut input = entry.open(content)?;
    let planned = content.size();
    let mut read = 0;
    loop {
        let length = loop {
            match input.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(LayerError::Read { path: entry.source().unwrap_or_default(), source });
                }
                Ok(length) => break length,
            }
        };
        read += length as u64;
        if read > planned || (length == 0 && read < planned) {
            return Err(LayerError::Changed { path: entry.source().unwrap_or_default(), planned, read });
        }
        if length == 0 {
            return Ok(());
        }
        take(&buffer[..length])?;
    }
}

/// The identity of a plan's bytes: two plans with one fingerprint are written as the same layer.
/// Covers every field of every entry and the content of every file, which are read for it.
///
/// # Errors
/// When a file cannot be read or is not as planned.
pub fn fingerprint(plan: &LayerPlan) -> Result<Digest, LayerError> {
    let mut sink = Digesting::new(io::sink());
    let mut buffer = vec![0; 128 << 10];
    let put = |sink: &mut Digesting<io::Sink>, bytes: &[u8]| {
        // Lengths go first, so that no two sequences of fields read alike.
        sink.write_all(&(bytes.len() as u64).to_le_bytes())
            .and_then(|()| sink.write_all(bytes))
            .map_err(LayerError::Write)
    };
    put(&mut sink, &plan.mtime.seconds().to_le_bytes())?;
    for entry in &plan.entries {
        put(&mut sink, entry.path.as_bytes())?;
        put(&mut sink, &entry.mode.to_le_bytes())?;
        put(&mut sink, &entry.owner.uid.to_le_bytes())?;
        put(&mut sink, &entry.owner.gid.to_le_bytes())?;
        put(&mut sink, entry.capabilities.as_deref().map(|c| c.to_xattr()).as_ref().map_or(&[], |x| &x[..]))?;
        match &entry.kind {
            EntryKind::Directory => put(&mut sink, b"directory")?,
            EntryKind::Symlink(target) => {
                put(&mut sink, b"symlink")?;
                put(&mut sink, target)?;
            }
            EntryKind::File(content) => {
                put(&mut sink, b"file")?;
                put(&mut sink, &content.size().to_le_bytes())?;
                for_each_chunk(entry, content, &mut buffer, |chunk| {
                    sink.write_all(chunk).map_err(LayerError::Write)
                })?;
            }
        }
    }
    Ok(sink.finish().1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, kind: EntryKind) -> Entry {
        Entry { path: path.parse().unwrap(), kind, mode: 0o644, owner: Owner::default(), capabilities: None }
    }

    fn plan(entries: Vec<Entry>) -> LayerPlan {
        LayerPlan { name: "test".into(), entries, mtime: Epoch::ZERO }
    }

    fn bytes(content: &[u8]) -> EntryKind {
        EntryKind::File(Content::Bytes(content.into()))
    }

    #[test]
    fn paths_that_leave_the_image_or_delete_from_it_are_refused() {
        use ImagePathError as E;
        let owned = |s: &str| s.to_owned();
        for (text, error) in [
            ("etc", E::Relative(owned("etc"))),
            ("", E::Relative(owned(""))),
            ("/etc/../x", E::Component(owned("/etc/../x"))),
            ("/etc//x", E::Component(owned("/etc//x"))),
            ("/./x", E::Component(owned("/./x"))),
            ("/a/.wh.b", E::Whiteout(owned("/a/.wh.b"))),
            ("/a\0", E::Name(owned("/a\0"))),
        ] {
            assert_eq!(text.parse::<ImagePath>(), Err(error), "{text:?}");
        }
        assert_eq!("/app/".parse::<ImagePath>().unwrap().as_bytes(), b"app");
        assert_eq!("/".parse(), Ok(ImagePath::root()));
    }

    #[test]
    fn containment_goes_by_components() {
        let path = |text: &str| text.parse::<ImagePath>().unwrap();
        assert!(path("/a").contains(&path("/a/b")) && path("/a").contains(&path("/a")));
        assert!(path("/").contains(&path("/a")) && !path("/a").contains(&path("/ab")));
        assert_eq!(path("/a/b").parent(), Some(path("/a")));
        assert_eq!((path("/a").parent(), path("/").parent()), (Some(path("/")), None));
    }

    #[test]
    fn names_that_are_not_utf8_are_shown_escaped() {
        assert_eq!(ImagePath::from_bytes(b"a/\xff\xc3\xa9").unwrap().to_string(), "/a/\\xffé");
    }

    #[test]
    fn capabilities_round_trip_in_setcaps_spelling() {
        for text in ["cap_net_bind_service=ep", "cap_chown,cap_bpf=eip", "cap_net_raw=i"] {
            assert_eq!(text.parse::<Capabilities>().unwrap().to_string(), text);
        }
        assert_eq!("CAP_NET_RAW+ep".parse::<Capabilities>(), "cap_net_raw=ep".parse());
        assert_eq!("cap_net_raw=+ep".parse::<Capabilities>(), "cap_net_raw=ep".parse());
        for text in ["", "cap_net_raw", "cap_net_raw=", "cap_net_raw=x", "cap_net_raw=e"] {
            assert_eq!(text.parse::<Capabilities>(), Err(CapabilitiesError::Form(text.to_owned())));
        }
        assert_eq!("cap_x=p".parse::<Capabilities>(), Err(CapabilitiesError::Unknown("cap_x".into())));
    }

    #[test]
    fn one_pass_yields_tar_diff_id_and_digest() {
        let plan = plan(vec![
            Entry { mode: 0o755, ..entry("/a", EntryKind::Directory) },
            entry("/a/f", bytes(b"hello")),
            entry("/a/l", EntryKind::Symlink(b"f".as_slice().into())),
        ]);
        let pool = Pool::start(1);
        let (layer, blob) = write(&plan, Compression::Gzip(6), &pool, Vec::new()).unwrap();
        let (raw, tar) = write(&plan, Compression::None, &pool, Vec::new()).unwrap();
        assert_eq!(layer.descriptor.digest, Digest::of(&blob));
        assert_eq!(layer.descriptor.size, blob.len() as u64);
        assert_eq!((layer.diff_id, raw.diff_id), (DiffId(Digest::of(&tar)), DiffId(Digest::of(&tar))));
        assert_eq!(layer.uncompressed_size, tar.len() as u64);
        let names: Vec<String> = ::tar::Archive::new(&tar[..])
            .entries()
            .unwrap()
            .map(|e| e.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(names, ["a/", "a/f", "a/l"]);
    }

    #[test]
    fn a_file_that_changes_length_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, "12345").unwrap();
        for (planned, read) in [(4, 5), (6, 5)] {
            let file = EntryKind::File(Content::File(path.as_path().into(), planned));
            let plan = plan(vec![entry("/f", file)]);
            let error = write(&plan, Compression::None, &Pool::start(1), Vec::new()).unwrap_err();
            assert!(
                matches!(&error, LayerError::Changed { planned: p, read: r, .. } if (*p, *r) == (planned, read)),
                "{error}"
            );
        }
    }

    #[test]
    fn every_field_is_part_of_the_fingerprint() {
        let base = entry("/f", bytes(b"x"));
        let of = |entry: Entry| fingerprint(&plan(vec![entry])).unwrap();
        let variants = [
            base.clone(),
            entry("/g", bytes(b"x")),
            entry("/f", bytes(b"y")),
            entry("/f", EntryKind::Directory),
            entry("/f", EntryKind::Symlink(b"x".as_slice().into())),
            Entry { mode: 0o600, ..base.clone() },
            Entry { owner: Owner { uid: 1, gid: 0 }, ..base.clone() },
            Entry { owner: Owner { uid: 0, gid: 1 }, ..base.clone() },
            Entry { capabilities: Some(Box::new("cap_chown=ep".parse().unwrap())), ..base.clone() },
        ];
        let mut prints: Vec<Digest> = variants.into_iter().map(of).collect();
        prints.push(
            fingerprint(&LayerPlan { mtime: "1".parse().unwrap(), ..plan(vec![base.clone()]) }).unwrap(),
        );
        let distinct: std::collections::BTreeSet<&Digest> = prints.iter().collect();
        assert_eq!(distinct.len(), prints.len());
        assert_eq!(of(base), prints[0]);
    }
}
