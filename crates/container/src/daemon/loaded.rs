//! The images that this process has loaded into a daemon's store.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tare_oci::digest::Digest;

use super::{host_name, run};
use crate::cleanup::{Cleanup, Removable};
use crate::leftovers::Owner;

/// Their names. Dropped, the images are removed, and so they are when this process ends by a signal.
#[derive(Debug)]
pub(super) struct Loaded {
    program: PathBuf,
    names: Mutex<Vec<String>>,
}

impl Loaded {
    /// None yet. The program is the daemon's client.
    pub(super) fn new(program: &Path, cleanup: &Cleanup) -> Arc<Self> {
        let loaded = Arc::new(Self { program: program.to_path_buf(), names: Mutex::default() });
        cleanup.register(Arc::downgrade(&loaded) as Weak<dyn Removable>);
        loaded
    }

    pub(super) fn names(&self) -> MutexGuard<'_, Vec<String>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Removable for Loaded {
    fn remove_now(&self) {
        for name in std::mem::take(&mut *self.names()) {
            // Only the name that we gave; an image that has others stays.
            let _ = run(&self.program, &["rmi", &name]);
        }
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        self.remove_now();
    }
}

/// The tag of an image that a process has loaded: the image, the host and the process.
pub(super) fn tag(image: &str, owner: Owner) -> String {
    let host = Digest::of(host_name().as_bytes());
    format!("{image}-{}-{}", host.short(), owner.to_string().replace(':', "-"))
}

/// The process of this host that gave a tag.
pub(super) fn owner_of(tag: &str) -> Option<Owner> {
    let (_, rest) = tag.split_once('-')?;
    let (host, owner) = rest.split_once('-')?;
    let own = Digest::of(host_name().as_bytes());
    (host == own.short()).then(|| owner.replace('-', ":").parse().ok())?
}
