//! The writable layers of containers, on disk beside the unpacked images. A layer is removed with its
//! container. After a process was killed, the next runtime removes its layers: the lock on their folder was released.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use tare_tool::{cache, private};

use super::error::ContainerError;

/// The folder of one container's layer. Dropped, it is removed.
#[derive(Debug)]
pub(crate) struct Layer {
    path: PathBuf,
    /// The layer's folder, and the one that it is in, under shared locks.
    _locks: [File; 2],
}

impl Layer {
    /// An empty folder for the layer of a container.
    pub(crate) fn create(roots: &Path, id: &str) -> Result<Self, ContainerError> {
        let folder = folder(roots);
        private::own_folder(&folder)?;
        let path = folder.join(id);
        let create = || -> io::Result<[File; 2]> {
            // Of a dead process that had our id.
            cache::remove(&path)?;
            // Seen without its lock it would be a dead one's.
            let all = File::create(folder.join(LOCK))?;
            all.lock()?;
            fs::create_dir(&path)?;
            let locks = [File::open(&path)?, File::open(&folder)?];
            locks.iter().try_for_each(File::lock_shared)?;
            Ok(locks)
        };
        let locks = create().map_err(ContainerError::on("create", &path))?;
        Ok(Self { path, _locks: locks })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Layer {
    fn drop(&mut self) {
        // The keeper has usually removed it; what stays a later sweep removes.
        let _ = cache::remove(&self.path);
    }
}

/// Locked while a layer's folder is made.
const LOCK: &str = "lock";

fn folder(roots: &Path) -> PathBuf {
    roots.join("layers")
}

/// Removes the layers of dead processes.
pub(crate) fn sweep(roots: &Path) {
    let folder = folder(roots);
    // Nobody has ever made one, or it is not ours.
    if !folder.is_dir() || private::own_folder(&folder).is_err() {
        return;
    }
    let Ok(all) = File::create(folder.join(LOCK)) else { return };
    if all.lock().is_err() {
        return;
    }
    for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_dead = path.is_dir() && File::open(&path).is_ok_and(|folder| folder.try_lock().is_ok());
        if is_dead {
            // The next sweep tries again.
            let _ = cache::remove(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_go_with_their_owner_and_dead_ones_with_a_sweep() {
        let roots = tempfile::tempdir().unwrap();
        sweep(roots.path());
        let living = Layer::create(roots.path(), "tare-1-0").unwrap();
        let dead = folder(roots.path()).join("tare-1-1");
        fs::create_dir_all(dead.join("upper/x")).unwrap();
        sweep(roots.path());
        assert!(living.path().is_dir() && !dead.exists());
        let path = living.path().to_path_buf();
        drop(living);
        assert!(!path.exists());
    }
}
