//! Unpacks the layers of an image that is not trusted. The cache ([`super::roots`]) decides where.
//!
//! The kernel resolves every path inside the new root (`openat2` with RESOLVE_IN_ROOT), so neither `..` nor links lead out
//! of it. Sizes and numbers are bounded, and digests are checked.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;
use tare_oci::digest::{DiffId, Digest};
use tare_oci::reader::{self, ReadEntry};
use tare_tool::process;

use super::cleanup;
use super::error::ContainerError;
use super::target::{Target, unreadable};

/// How much an image may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of all files.
    pub bytes: u64,
    /// Entries of all layers.
    pub entries: u64,
}

impl Bounds {
    /// The bounds for an image with this many compressed bytes. Bytes: 100 times the compressed size, at least 2 GiB and
    /// at most 64 GiB (text shrinks to a tenth, zeros to a thousandth). Entries: half a million, five times the number in
    /// the largest images of distributions.
    #[must_use]
    pub fn for_compressed(bytes: u64) -> Self {
        let bytes = bytes.saturating_mul(100).clamp(2 << 30, 64 << 30);
        Self { bytes, entries: 500_000 }
    }
}

/// The chain id of layers, lowest first (image-spec config.md, "Layer ChainID").
#[must_use]
pub fn chain_id(diff_ids: &[DiffId]) -> String {
    let mut chain: Option<Digest> = None;
    for DiffId(digest) in diff_ids {
        chain = Some(match chain {
            None => *digest,
            Some(chain) => Digest::of(format!("{chain} {digest}").as_bytes()),
        });
    }
    chain.map_or_else(|| "empty".to_owned(), |chain| chain.to_string())
}

impl Target {
    /// Bytes of all layers as they are stored.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        self.image.layers.iter().filter_map(|layer| self.source.size(&layer.file)).sum()
    }
}

/// Unpacks all layers into an empty folder.
///
/// # Errors
/// When a layer is damaged, hostile or too large, or the folder cannot be written.
pub fn unpack(target: &Target, folder: &Path, bounds: Bounds, as_root: bool) -> Result<(), ContainerError> {
    let on = || ContainerError::on("write", folder);
    let mut tree = Tree::open(folder, bounds, as_root).map_err(on())?;
    for layer in &target.image.layers {
        tree.begin_layer();
        let facts = reader::read_layer(&target.source, layer, |entry, content| {
            // Not while the process ends, which removes the folder.
            drop(cleanup::making());
            let named = |error: io::Error| {
                let path = String::from_utf8_lossy(&entry.path).into_owned();
                io::Error::new(error.kind(), format!("{}: {error}", shown(&path)))
            };
            tree.add(&entry, content).map_err(named)
        });
        let facts = facts.map_err(|source| unreadable(&target.name, source))?;
        if let Some(expected) = layer.diff_id
            && expected != facts.diff_id
        {
            let error = ContainerError::new(format_args!(
                "{}: layer {} has the diff id {}, not {}: it was damaged or changed",
                target.name, layer.file, facts.diff_id.0, expected.0
            ));
            return Err(error.with_hint("fetch or build it again"));
        }
    }
    tree.finish().map_err(on())
}

/// A name from an image, fit for a terminal.
fn shown(name: &str) -> String {
    let name: String = name.chars().map(|c| if c.is_control() { '?' } else { c }).take(200).collect();
    if name.is_empty() { "(no name)".to_owned() } else { name }
}

fn refused(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// Mode, owner and time of a folder, which come last: a folder may forbid to write into it.
#[derive(Debug, Clone, Copy)]
struct Finish {
    mode: u32,
    owner: (u64, u64),
    mtime: i64,
}

/// The root while it is filled.
struct Tree {
    root: OwnedFd,
    as_root: bool,
    bounds: Bounds,
    folders: BTreeMap<PathBuf, Finish>,
    /// Paths of the current layer. Whiteouts hide paths of lower layers only.
    in_layer: HashSet<PathBuf>,
}

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Longer paths no kernel takes (PATH_MAX).
const PATH_MOST: usize = 4096;

impl Tree {
    fn open(folder: &Path, bounds: Bounds, as_root: bool) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
        let root = rustix::fs::openat(CWD, folder, flags, Mode::empty())?;
        rustix::fs::fchmod(&root, Mode::from_raw_mode(0o755))?;
        Ok(Self { root, as_root, bounds, folders: BTreeMap::new(), in_layer: HashSet::new() })
    }

    fn begin_layer(&mut self) {
        self.in_layer.clear();
    }

    fn add(&mut self, entry: &ReadEntry, content: &mut dyn Read) -> io::Result<()> {
        self.bounds.entries =
            self.bounds.entries.checked_sub(1).ok_or_else(|| refused("too many entries"))?;
        let path = clean(&entry.path)?;
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            if entry.kind == 'd' {
                self.folders.insert(PathBuf::new(), Finish::of(entry));
            }
            return Ok(());
        };
        let name = name.as_bytes();
        if name == OPAQUE {
            return self.empty(parent);
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            if hidden.starts_with(WHITEOUT) {
                // aufs' own bookkeeping.
                return Ok(());
            }
            return self.whiteout(parent, hidden);
        }
        let folder = self.folder(parent)?;
        let path = self.real(&folder)?.join(path.file_name().unwrap_or_default());
        self.make(entry, &path, folder.as_fd(), Path::new(std::ffi::OsStr::from_bytes(name)), content)
    }

    fn make(
        &mut self,
        entry: &ReadEntry,
        path: &Path,
        folder: BorrowedFd<'_>,
        name: &Path,
        content: &mut dyn Read,
    ) -> io::Result<()> {
        let existing = kind_of(folder, name)?;
        let keeps = entry.kind == 'd' && existing == Some(FileType::Directory);
        if existing.is_some() && !keeps && !(entry.kind == 'h' && self.is_itself(entry, path)?) {
            remove_at(folder, name)?;
            self.forget(path);
        }
        match entry.kind {
            'd' => {
                if !keeps {
                    rustix::fs::mkdirat(folder, name, Mode::from_raw_mode(0o700))?;
                }
                self.folders.insert(path.to_path_buf(), Finish::of(entry));
            }
            '-' => self.file(entry, folder, name, content)?,
            'l' => {
                let target = entry.link.as_deref().ok_or_else(|| refused("a link to nothing"))?;
                rustix::fs::symlinkat(Path::new(std::ffi::OsStr::from_bytes(target)), folder, name)?;
                self.own(folder, name, entry)?;
                set_time(folder, name, entry.mtime)?;
            }
            'h' => self.hard_link(entry, path, folder, name)?,
            'p' => {
                rustix::fs::mknodat(
                    folder,
                    name,
                    FileType::Fifo,
                    Mode::from_raw_mode(entry.mode & 0o7777),
                    0,
                )?;
                self.own(folder, name, entry)?;
            }
            // There is a file system of its own mounted over it, with the devices that a container gets.
            'c' | 'b' if path.starts_with("dev") => return Ok(()),
            'c' | 'b' => return Err(refused("a device outside /dev")),
            _ => return Err(refused("neither file, folder, link nor pipe")),
        }
        self.in_layer.insert(path.to_path_buf());
        Ok(())
    }

    fn file(
        &mut self,
        entry: &ReadEntry,
        folder: BorrowedFd<'_>,
        name: &Path,
        content: &mut dyn Read,
    ) -> io::Result<()> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // It may be a container's program.
        let _guard = process::no_start();
        let mut file = File::from(rustix::fs::openat(folder, name, flags, Mode::from_raw_mode(0o600))?);
        let written = io::copy(&mut content.take(self.bounds.bytes.saturating_add(1)), &mut file)?;
        self.bounds.bytes =
            self.bounds.bytes.checked_sub(written).ok_or_else(|| refused("too many bytes for its size"))?;
        if self.as_root {
            let (user, group) = ids(entry.owner)?;
            rustix::fs::fchown(&file, Some(user), Some(group))?;
        }
        // After the owner, whose change clears set-user-id.
        rustix::fs::fchmod(&file, Mode::from_raw_mode(entry.mode & 0o7777))?;
        for (key, value) in &entry.attributes {
            let Some(name) = key.strip_prefix(b"SCHILY.xattr.") else { continue };
            // Others are of the host's file systems and security modules.
            if name != b"security.capability" && !name.starts_with(b"user.") {
                continue;
            }
            let name = std::ffi::OsStr::from_bytes(name);
            match rustix::fs::fsetxattr(&file, name, value, XattrFlags::empty()) {
                Ok(()) | Err(Errno::NOTSUP) => {}
                // The right to set capabilities is root's.
                Err(Errno::PERM) if !self.as_root => {}
                Err(error) => return Err(error.into()),
            }
        }
        rustix::fs::futimens(&file, &times(entry.mtime))?;
        Ok(())
    }

    fn hard_link(
        &self,
        entry: &ReadEntry,
        path: &Path,
        folder: BorrowedFd<'_>,
        name: &Path,
    ) -> io::Result<()> {
        if self.is_itself(entry, path)? {
            return Ok(());
        }
        let target = clean(entry.link.as_deref().unwrap_or_default())?;
        let (Some(parent), Some(of)) = (target.parent(), target.file_name()) else {
            return Err(refused("a hard link to the root"));
        };
        let parent = self.existing(parent).map_err(|_| refused("a hard link to what is not there"))?;
        match kind_of(parent.as_fd(), Path::new(of))? {
            None => return Err(refused("a hard link to what is not there")),
            Some(FileType::Directory) => return Err(refused("a hard link to a folder")),
            Some(_) => {}
        }
        rustix::fs::linkat(&parent, of, folder, name, AtFlags::empty())?;
        Ok(())
    }

    fn is_itself(&self, entry: &ReadEntry, path: &Path) -> io::Result<bool> {
        Ok(clean(entry.link.as_deref().unwrap_or_default())? == path)
    }

    fn own(&self, folder: BorrowedFd<'_>, name: &Path, entry: &ReadEntry) -> io::Result<()> {
        if self.as_root {
            let (user, group) = ids(entry.owner)?;
            rustix::fs::chownat(folder, name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        if entry.kind != 'l' {
            rustix::fs::chmodat(folder, name, Mode::from_raw_mode(entry.mode & 0o7777), AtFlags::empty())?;
        }
        Ok(())
    }

    /// A folder that is there, resolved inside the root.
    fn existing(&self, path: &Path) -> io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        loop {
            match rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve) {
                // The kernel could not be sure that nothing was renamed meanwhile (openat2(2)).
                Err(Errno::AGAIN | Errno::INTR) => {}
                result => return Ok(result?),
            }
        }
    }

    /// The same, made with what is missing above it.
    fn folder(&mut self, path: &Path) -> io::Result<OwnedFd> {
        match self.existing(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => return result,
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(refused("no such folder"));
        };
        let folder = self.folder(parent)?;
        match rustix::fs::mkdirat(&folder, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        self.in_layer.insert(self.real(&folder)?.join(name));
        self.existing(path)
    }

    /// The path of an open folder from the root, without links: two names of a folder are one for whiteouts.
    fn real(&self, folder: &OwnedFd) -> io::Result<PathBuf> {
        let path = |file: &OwnedFd| std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let (root, path) = (path(&self.root)?, path(folder)?);
        path.strip_prefix(root).map(Path::to_path_buf).map_err(|_| refused("a folder outside of the root"))
    }

    fn whiteout(&mut self, parent: &Path, name: &[u8]) -> io::Result<()> {
        let name = Path::new(std::ffi::OsStr::from_bytes(name));
        if name.as_os_str().is_empty() || name == Path::new(".") || name == Path::new("..") {
            return Err(refused("a whiteout of nothing"));
        }
        let folder = match self.existing(parent) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            folder => folder?,
        };
        let path = self.real(&folder)?.join(name);
        if self.in_layer.contains(&path) {
            return Ok(());
        }
        if kind_of(folder.as_fd(), name)?.is_some() {
            remove_at(folder.as_fd(), name)?;
            self.forget(&path);
        }
        Ok(())
    }

    /// Removes from a folder what lower layers put there.
    fn empty(&mut self, path: &Path) -> io::Result<()> {
        let folder = match self.existing(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            folder => folder?,
        };
        let path = self.real(&folder)?;
        for name in names(folder.as_fd())? {
            let inner = path.join(&name);
            if !self.in_layer.contains(&inner) {
                remove_at(folder.as_fd(), &name)?;
                self.forget(&inner);
            } else if kind_of(folder.as_fd(), &name)? == Some(FileType::Directory) {
                self.empty(&inner)?;
            }
        }
        Ok(())
    }

    fn forget(&mut self, path: &Path) {
        self.folders.retain(|folder, _| !folder.starts_with(path));
    }

    fn finish(self) -> io::Result<()> {
        // Deepest first: a folder that forbids to be entered is left last.
        for (path, finish) in self.folders.iter().rev() {
            let folder = self.existing(path)?;
            if self.as_root {
                let (user, group) = ids(finish.owner)?;
                rustix::fs::fchown(&folder, Some(user), Some(group))?;
            }
            rustix::fs::fchmod(&folder, Mode::from_raw_mode(finish.mode & 0o7777))?;
            rustix::fs::futimens(&folder, &times(finish.mtime))?;
        }
        Ok(())
    }
}

impl Finish {
    fn of(entry: &ReadEntry) -> Self {
        Self { mode: entry.mode, owner: entry.owner, mtime: entry.mtime }
    }
}

/// A path from the root in one spelling. `..` has no honest use in a layer.
fn clean(path: &[u8]) -> io::Result<PathBuf> {
    if path.len() > PATH_MOST || path.contains(&0) {
        return Err(refused("no path"));
    }
    let mut clean = PathBuf::new();
    for part in Path::new(std::ffi::OsStr::from_bytes(path)).components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            Component::ParentDir => return Err(refused("a path that leads up")),
        }
    }
    Ok(clean)
}

fn ids(owner: (u64, u64)) -> io::Result<(Uid, Gid)> {
    let id = |id: u64| {
        u32::try_from(id).ok().filter(|id| *id != u32::MAX).ok_or_else(|| refused("an owner that cannot be"))
    };
    Ok((Uid::from_raw(id(owner.0)?), Gid::from_raw(id(owner.1)?)))
}

fn times(mtime: i64) -> Timestamps {
    let time = Timespec { tv_sec: mtime, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

fn set_time(folder: BorrowedFd<'_>, name: &Path, mtime: i64) -> io::Result<()> {
    Ok(rustix::fs::utimensat(folder, name, &times(mtime), AtFlags::SYMLINK_NOFOLLOW)?)
}

fn kind_of(folder: BorrowedFd<'_>, name: &Path) -> io::Result<Option<FileType>> {
    match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn names(folder: BorrowedFd<'_>) -> io::Result<Vec<PathBuf>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(PathBuf::from(std::ffi::OsString::from_vec(name.to_vec())));
        }
    }
    Ok(names)
}

/// Removes a file or a tree, following no link.
fn remove_at(folder: BorrowedFd<'_>, name: &Path) -> io::Result<()> {
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
    let inner = rustix::fs::openat(folder, name, flags, Mode::empty())?;
    for entry in names(inner.as_fd())? {
        remove_at(inner.as_fd(), &entry)?;
    }
    Ok(rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR)?)
}

/// A text file of a root. Links are resolved inside the root. Empty if there is none.
pub(crate) fn read_inside(root: &Path, path: &str) -> String {
    const LIMIT: u64 = 1 << 20;
    let bytes = bytes_inside(root, path, LIMIT).ok().flatten().unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The beginning of a file of a root, found inside it whatever links say; none of anything but a file.
pub(crate) fn bytes_inside(root: &Path, path: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
    let root = rustix::fs::openat(CWD, root, flags, Mode::empty())?;
    let flags = OFlags::CLOEXEC | OFlags::RDONLY | OFlags::NONBLOCK;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let file = File::from(rustix::fs::openat2(root, path, flags, Mode::empty(), resolve)?);
    if !file.metadata()?.is_file() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}
