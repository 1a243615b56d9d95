//! Removes containers, files and folders when this process ends, also by a signal.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};

use tare_tool::cache;

/// Shared by everything that makes groups and containers, and closed for good before everything is removed.
static GATE: RwLock<()> = RwLock::new(());

/// To be held while a group or container is made. Waits for ever once the process is about to end.
pub fn making() -> RwLockReadGuard<'static, ()> {
    GATE.read().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until no container is being created. None is created as long as the guard lives.
pub(crate) fn close() -> RwLockWriteGuard<'static, ()> {
    GATE.write().unwrap_or_else(PoisonError::into_inner)
}

/// The containers that must not outlive this process. The handler of SIGINT and SIGTERM calls
/// [`leave`](super::leftovers::leave).
#[derive(Debug, Clone, Default)]
pub struct Cleanup(Arc<Mutex<Vec<Weak<dyn Removable>>>>);

/// A file or folder that is needed for a while. Dropped, it is removed, and so it is when this process ends by a signal.
#[derive(Debug)]
pub struct Transient(PathBuf);

/// The paths of all.
static TRANSIENT: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

impl Transient {
    /// To be called before the file or folder is made.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        TRANSIENT.lock().unwrap_or_else(PoisonError::into_inner).insert(path.clone());
        Self(path)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Transient {
    fn drop(&mut self) {
        // What stays is removed by a later clean-up of its folder.
        let _ = cache::remove(&self.0);
        TRANSIENT.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}

/// Removes the files and folders of all values of [`Transient`].
pub(crate) fn remove_transient() {
    for path in &*TRANSIENT.lock().unwrap_or_else(PoisonError::into_inner) {
        let _ = cache::remove(path);
    }
}

/// Something to clean up. Removing it twice, and from any thread, is allowed.
pub(crate) trait Removable: Send + Sync + std::fmt::Debug {
    fn remove_now(&self);
}

impl Cleanup {
    pub(crate) fn register(&self, what: Weak<dyn Removable>) {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        list.retain(|it| it.strong_count() > 0);
        list.push(what);
    }

    /// Removes all of them, now.
    pub fn run(&self) {
        let list = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        // The last first: an image cannot be removed before its containers.
        for it in list.iter().rev().filter_map(Weak::upgrade) {
            it.remove_now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transient_folder_goes_with_its_value_or_with_the_process() {
        let folder = tempfile::tempdir().unwrap();
        let [dropped, left] = ["dropped", "left"].map(|name| folder.path().join(name));
        for path in [&dropped, &left] {
            std::fs::create_dir_all(path.join("x")).unwrap();
        }
        drop(Transient::new(dropped.clone()));
        assert!(!dropped.exists());
        let kept = Transient::new(left.clone());
        remove_transient();
        assert!(!left.exists());
        drop(kept);
    }
}
