//! Blobs on their way to disk, and the folder where files lie until they are finished.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::digest::Digest;
use super::spec::{Descriptor, MediaType};

/// Makes a folder that did not exist, for this user alone: nobody can put a link into it.
fn create_private(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    #[cfg(not(unix))]
    let _ = &mut builder;
    builder.create(dir)
}

/// A blob and where its bytes are.
#[derive(Clone, Debug)]
pub struct Blob {
    /// Media type, digest, size.
    pub descriptor: Descriptor,
    /// The bytes.
    pub source: BlobSource,
}

/// Where a blob's bytes are.
#[derive(Clone, Debug)]
pub enum BlobSource {
    /// Here.
    Bytes(Arc<[u8]>),
    /// In a file that holds nothing else.
    File(PathBuf),
}

impl Blob {
    /// A blob of these bytes.
    #[must_use]
    pub fn of(media_type: MediaType, bytes: Vec<u8>) -> Self {
        let descriptor = Descriptor::new(media_type, bytes.len() as u64, Digest::of(&bytes));
        Self { descriptor, source: BlobSource::Bytes(bytes.into()) }
    }

    /// Its path in a layout or archive (image-spec image-layout.md).
    #[must_use]
    pub fn path(&self) -> String {
        format!("blobs/{}/{}", self.descriptor.digest().algorithm(), self.descriptor.digest().digest())
    }
}

/// `blobs/sha256/<hex>`
#[must_use]
pub fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}", digest.to_string().replace(':', "/"))
}

/// An operation on a file or folder that failed, and on which.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {path}", path = path.display())]
pub struct FileError {
    /// `write`, `read`, `create` and the like.
    pub operation: &'static str,
    /// On what.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

impl FileError {
    /// For `map_err`: names the operation and the path.
    pub fn on(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self { operation, path, source }
    }
}

/// A folder for unfinished files, on the file system that they will live on. It is removed with all
/// that is still in it when dropped; what a killed run leaves behind is removed by the next one.
#[derive(Debug)]
pub struct Staging {
    dir: PathBuf,
    next: AtomicU64,
}

impl Staging {
    /// Creates the folder, for this user alone, and empties it first. Whoever calls this holds the lock that
    /// keeps other runs out of it.
    ///
    /// # Errors
    /// When the folder cannot be removed or created.
    pub fn create(dir: PathBuf) -> Result<Self, FileError> {
        match fs::remove_dir_all(&dir) {
            // Where something above it is no folder, that it cannot be created says more.
            Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Err(FileError { operation: "remove", path: dir, source: error });
            }
            _ => {}
        }
        let above = dir.parent().map_or(Ok(()), fs::create_dir_all);
        above.and_then(|()| create_private(&dir)).map_err(FileError::on("create", &dir))?;
        Ok(Self { dir, next: AtomicU64::new(0) })
    }

    /// A path in the folder that nothing has yet.
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.join(self.next.fetch_add(1, Ordering::Relaxed).to_string())
    }

    /// A new, empty file.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn file(&self) -> Result<(File, PathBuf), FileError> {
        let path = self.path();
        let file = File::create(&path).map_err(FileError::on("create", &path))?;
        Ok((file, path))
    }

    /// Puts a finished file in its place; whoever looks there sees the old file or the new one.
    ///
    /// # Errors
    /// When it cannot be moved.
    pub fn publish(&self, finished: &Path, place: &Path) -> Result<(), FileError> {
        fs::rename(finished, place).map_err(FileError::on("write", place))
    }

    /// Writes a whole file into its place.
    ///
    /// # Errors
    /// When it cannot be written or moved.
    pub fn write(&self, place: &Path, bytes: &[u8]) -> Result<(), FileError> {
        let path = self.path();
        fs::write(&path, bytes).map_err(FileError::on("write", place))?;
        self.publish(&path, place)
    }

    /// Puts a copy of a file into its place; a hard link where the file system has them, because the
    /// files this is for are never changed, only replaced.
    ///
    /// # Errors
    /// When it cannot be read, copied or moved.
    pub fn link_or_copy(&self, from: &Path, place: &Path) -> Result<(), FileError> {
        let path = self.path();
        if fs::hard_link(from, &path).is_err() {
            fs::copy(from, &path).map_err(FileError::on("write", place))?;
        }
        self.publish(&path, place)?;
        // rename(2) does nothing when both names already are one file.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(FileError { operation: "remove", path, source: error })
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // The next run tries again and reports it.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn staging_empties_what_a_killed_run_left_and_cleans_up_after_itself() {
        let dir = tempfile::tempdir().unwrap();
        let stage = dir.path().join("stage");
        fs::create_dir(&stage).unwrap();
        fs::write(stage.join("left-over"), "x").unwrap();
        let staging = Staging::create(stage.clone()).unwrap();
        assert_eq!(fs::read_dir(&stage).unwrap().count(), 0);
        staging.file().unwrap();
        drop(staging);
        assert!(!stage.exists());
    }

    #[test]
    fn linking_a_file_onto_itself_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let staging = Staging::create(dir.path().join("stage")).unwrap();
        let (from, place) = (dir.path().join("from"), dir.path().join("place"));
        fs::write(&from, "content").unwrap();
        for _ in 0..2 {
            staging.link_or_copy(&from, &place).unwrap();
            assert_eq!(fs::read(&place).unwrap(), b"content");
            assert_eq!(fs::read_dir(dir.path().join("stage")).unwrap().count(), 0);
        }
    }
}
