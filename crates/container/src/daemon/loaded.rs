//! The images that this process has loaded into a daemon's store.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tare_oci::digest::Digest;

use super::{host_name, run};
use crate::cleanup::{Cleanup, Removable};
use crate::leftovers::Owner;

/// A daemon may go on removing a container for a moment when its client has ended, and has the image until then.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(50);

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
            let begun = Instant::now();
            while let Err(error) = run(&self.program, &["rmi", &name])
                && is_in_use(&error.to_string())
                && begun.elapsed() < PATIENCE
            {
                std::thread::sleep(PAUSE);
            }
        }
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        self.remove_now();
    }
}

/// Whether a client says that a container still has the image: docker's words, and podman's.
fn is_in_use(error: &str) -> bool {
    ["conflict: ", "in use by a container"].iter().any(|words| error.contains(words))
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

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    /// How often a client is called that refuses with these words twice.
    fn calls(words: &str) -> usize {
        let folder = tempfile::tempdir().unwrap();
        let (program, called) = (folder.path().join("docker"), folder.path().join("called"));
        let script = format!(
            "#!/bin/sh\necho \"$@\" >>'{0}'\n[ $(wc -l <'{0}') -gt 2 ] || {{ echo '{words}' >&2; exit 1; }}\n",
            called.display()
        );
        {
            let _alone = tare_tool::process::no_start();
            std::fs::write(&program, script).unwrap();
        }
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let loaded = Loaded::new(&program, &Cleanup::default());
        loaded.names().push("tare-run:x".to_owned());
        drop(loaded);
        let called = std::fs::read_to_string(called).unwrap();
        assert!(called.lines().all(|line| line == "rmi tare-run:x"), "{called}");
        called.lines().count()
    }

    #[test]
    fn an_image_is_removed_when_the_daemon_has_let_its_container_go() {
        let docker = "Error response from daemon: conflict: unable to remove repository reference \"tare-run:x\" \
            (must force) - container 1 is using its referenced image 2";
        let podman =
            "Error: image used by 1: image is in use by a container: consider listing external containers";
        assert_eq!([docker, podman].map(calls), [3, 3]);
        assert_eq!(calls("Error response from daemon: No such image: tare-run:x"), 1);
    }
}
