//! Removes containers when this process ends, also by a signal.

use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};

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
        for it in list.iter().filter_map(Weak::upgrade) {
            it.remove_now();
        }
    }
}
