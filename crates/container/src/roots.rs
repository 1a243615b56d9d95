//! The cache of unpacked roots.
//!
//! A root becomes visible only when it is complete. The least recently used roots are removed when the cache is too large.
//! The cache's folder is accessible to its owner alone, so that other users of the host cannot run set-user-id files of an
//! image.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW};
use tare_oci::digest::Digest;
use tare_tool::{cache, private};

use super::cleanup::Transient;
use super::error::ContainerError;
use super::rights::is_root;
use super::target::Target;
use super::unpack::{Bounds, chain_id, unpack};

/// The bounds of the cache; roots in use do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// Bytes on disk of all roots together; those used longest ago go first.
    pub bytes: u64,
    /// Since the last use.
    pub age: Duration,
}

impl Default for Keep {
    /// Some dozen images with a distribution in them, or thousands without; a month.
    fn default() -> Self {
        Self { bytes: cache::LIMIT, age: Duration::from_secs(30 * 24 * 60 * 60) }
    }
}

/// Unpacked roots, each under the digest of its content.
#[derive(Debug, Clone)]
pub struct Cache {
    folder: PathBuf,
    keep: Keep,
}

/// An unpacked root. As long as this lives it stays in the cache.
#[derive(Debug)]
pub struct Root {
    path: PathBuf,
    /// The root's folder under a shared lock; none where its owner may not open it.
    _lock: Option<File>,
}

impl Root {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Changes when the same layers give another root.
const FORMAT: &str = "2";
/// Beside a root's folder: its bytes as text, with the time of its last use as the file's.
const RECORD: &str = "used";

impl Cache {
    /// A cache in a folder, which is made when first used.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>, keep: Keep) -> Self {
        Self { folder: folder.into(), keep }
    }

    /// The root of an image, unpacked if it is not there yet. Nothing is added to what the layers have.
    ///
    /// # Errors
    /// When a layer is damaged, hostile or too large, or the cache cannot be written.
    pub fn rootfs(&self, target: &Target) -> Result<Root, ContainerError> {
        let (diff_ids, blobs) = (&target.config.diff_ids, &target.image.layers);
        if diff_ids.len() != blobs.len() {
            let (name, listed, found) = (&target.name, diff_ids.len(), blobs.len());
            let message = format!("{name}: the config lists {listed} layers, and there are {found}");
            return Err(ContainerError::new(message));
        }
        let root = is_root();
        let key = format!("{FORMAT}\n{}\n{root}", chain_id(diff_ids));
        let place = self.folder.join(Digest::of(key.as_bytes()).hex());
        // Before anything in it is used.
        private::own_folder(&self.folder)?;
        if let Some(found) = hold(&place) {
            return Ok(found);
        }
        let lock = self.folder.join("lock");
        let file = File::create(&lock).map_err(ContainerError::on("create", &lock))?;
        file.lock().map_err(ContainerError::on("lock", &lock))?;
        // Another run may have been quicker.
        if let Some(found) = hold(&place) {
            return Ok(found);
        }
        // The lock is held, so a staging folder was left by a killed run.
        let staging = self.folder.join("staging");
        cache::remove(&staging).map_err(ContainerError::on("remove", &staging))?;
        let unfinished = Transient::new(staging.clone());
        fs::create_dir(&staging).map_err(ContainerError::on("create", &staging))?;
        let bounds = Bounds::for_compressed(target.stored_bytes());
        unpack(target, &staging, bounds, root)?;
        let record = place.with_extension(RECORD);
        let bytes =
            bytes_on_disk(&staging, &mut HashSet::new()).map_err(ContainerError::on("read", &staging))?;
        fs::write(&record, bytes.to_string()).map_err(ContainerError::on("write", &record))?;
        fs::rename(&staging, &place).map_err(ContainerError::on("create", &place))?;
        drop(unfinished);
        let made = hold(&place).unwrap_or_else(|| Root { path: place.clone(), _lock: None });
        self.evict(&place).map_err(ContainerError::on("clear", &self.folder))?;
        Ok(made)
    }

    /// Removes roots that were not used for too long, and then the least recently used ones until the rest is small
    /// enough. Roots in use and the root `made` stay. The time of the record of `made` counts as now.
    fn evict(&self, made: &Path) -> io::Result<()> {
        let now = fs::metadata(made.with_extension(RECORD))?.modified()?;
        let mut total = 0;
        let mut others: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            // Not a root's digest.
            if path.file_name().is_none_or(|name| name.len() != 64) {
                continue;
            }
            let record = path.with_extension(RECORD);
            // Without a record it is the first to go.
            let bytes = fs::read_to_string(&record).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
            let used = fs::metadata(&record).and_then(|it| it.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
            total += bytes;
            if path != made {
                others.push((used, bytes, path));
            }
        }
        others.sort();
        for (used, bytes, path) in others {
            let old = now.duration_since(used).is_ok_and(|unused| unused > self.keep.age);
            if !old && total <= self.keep.bytes {
                continue;
            }
            let in_use = File::open(&path).is_ok_and(|folder| match folder.try_lock() {
                // Under the lock it is moved out of sight.
                Ok(()) => fs::rename(&path, self.folder.join("staging")).is_err(),
                Err(_) => true,
            });
            if in_use {
                continue;
            }
            cache::remove(&self.folder.join("staging"))?;
            // It belongs to no root any more.
            let _ = fs::remove_file(path.with_extension(RECORD));
            total -= bytes;
        }
        Ok(())
    }
}

/// A root that is there, kept from now on, and its use noted.
fn hold(place: &Path) -> Option<Root> {
    loop {
        if !place.is_dir() {
            return None;
        }
        let lock = match File::open(place) {
            Ok(folder) => {
                folder.lock_shared().ok()?;
                // It may have gone, or been made anew, before it was locked.
                let same = fs::metadata(place).ok().zip(folder.metadata().ok());
                if same.is_none_or(|(now, locked)| now.ino() != locked.ino()) {
                    continue;
                }
                Some(folder)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            // A root that forbids its owner to read it.
            Err(_) => None,
        };
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let now = Timestamps { last_access: now, last_modification: now };
        // That it is used is worth no failure.
        let _ = rustix::fs::utimensat(CWD, place.with_extension(RECORD), &now, AtFlags::empty());
        return Some(Root { path: place.to_path_buf(), _lock: lock });
    }
}

/// Bytes of all blocks of a tree; what several names share counts once.
fn bytes_on_disk(path: &Path, counted: &mut HashSet<u64>) -> io::Result<u64> {
    let data = fs::symlink_metadata(path)?;
    if data.nlink() > 1 && !data.is_dir() && !counted.insert(data.ino()) {
        return Ok(0);
    }
    // st_blocks has this unit on every file system (stat(3type)).
    let mut bytes = data.blocks() * 512;
    if data.is_dir() {
        let entries = match fs::read_dir(path) {
            Ok(entries) => entries,
            // A folder that forbids its owner to look into it.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(bytes),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            bytes += match bytes_on_disk(&entry.path(), counted) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => 0,
                result => result?,
            };
        }
    }
    Ok(bytes)
}
