//! What an image holds at one path, as data.

use std::fmt;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::capabilities::Capabilities;
use super::digest::Digest;
use super::path::ImagePath;
use crate::units::Epoch;

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

/// A file's bytes with their digest, computed once for every layer and key that holds them.
#[derive(Debug)]
pub struct InMemory {
    bytes: Vec<u8>,
    digest: Digest,
}

impl InMemory {
    /// These bytes.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Arc<Self> {
        let digest = Digest::of(&bytes);
        Arc::new(Self { bytes, digest })
    }

    /// Of the bytes.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

impl Deref for InMemory {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Where a file's bytes come from.
#[derive(Clone, Debug)]
pub enum Content {
    /// They are here.
    Bytes(Arc<InMemory>),
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
    /// The modification time.
    pub mtime: Epoch,
    /// With which file capabilities; boxed, because hardly any entry has some.
    pub capabilities: Option<Box<Capabilities>>,
}

impl Entry {
    /// An entry of root's, of the time that files have, without capabilities.
    #[must_use]
    pub fn new(path: ImagePath, kind: EntryKind, mode: u32) -> Self {
        Self { path, kind, mode, owner: Owner::default(), mtime: Epoch::OF_FILES, capabilities: None }
    }

    /// The file that its bytes are read from, if they are read from one.
    #[must_use]
    pub fn source(&self) -> Option<PathBuf> {
        match &self.kind {
            EntryKind::File(Content::File(path, _)) => Some(path.to_path_buf()),
            EntryKind::File(Content::InTree(tree, _)) => Some(tree.path_of(&self.path)),
            _ => None,
        }
    }
}

impl Tree {
    fn path_of(&self, entry: &ImagePath) -> PathBuf {
        let path = entry.as_bytes();
        let relative = path.strip_prefix(self.destination.as_bytes()).unwrap_or(path);
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
