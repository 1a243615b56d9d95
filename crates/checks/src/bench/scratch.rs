//! Folders that are gone afterwards, whatever happened in them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use tare_tool::private::FreshFolder;
use tare_tool::process::Cmd;

/// A folder for one part. What a killed run left in it is removed first; it is removed with everything
/// in it when dropped, and what is mounted in it is unmounted before.
#[derive(Debug)]
pub(super) struct Scratch {
    dir: PathBuf,
}

impl Scratch {
    pub(super) fn create(dir: PathBuf) -> anyhow::Result<Self> {
        remove(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        Ok(Self { dir })
    }

    /// Where the paths of sockets stay below 108 bytes (unix(7)).
    pub(super) fn short(name: &str) -> anyhow::Result<Self> {
        let fresh = FreshFolder::create(&std::env::temp_dir(), &format!("tare-bench-{name}-"))?;
        Ok(Self { dir: fresh.keep() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.dir
    }

    /// Another one in it.
    pub(super) fn within(&self, name: &str) -> anyhow::Result<Self> {
        Self::create(self.dir.join(name))
    }

    /// A folder in it.
    pub(super) fn folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        let dir = self.dir.join(name);
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        Ok(dir)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // The next run tries again and reports it.
        let _ = remove(&self.dir);
    }
}

/// Removes a folder that may not be there.
pub(super) fn remove(dir: &Path) -> io::Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for mounted in mounted_below(&mounts, dir) {
        // What stays mounted makes the removal fail, which is reported.
        let _ = Cmd::new("umount").arg(mounted).read();
    }
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The places below a folder where something is mounted, the innermost first; `mounts` is
/// `/proc/self/mounts` (proc_pid_mounts(5)), where blanks in paths are octal escapes.
fn mounted_below(mounts: &str, dir: &Path) -> Vec<PathBuf> {
    let places = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    let mut below: Vec<PathBuf> = places
        .map(|place| PathBuf::from(place.replace("\\040", " ")))
        .filter(|place| place.starts_with(dir))
        .collect();
    below.reverse();
    below
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_found_innermost_first() {
        let mounts = "/dev/vda / ext4 rw 0 0\n/dev/vda /x/a\\040b ext4 rw 0 0\n\
            overlay /x/a\\040b/merged overlay rw 0 0\ntmpfs /xyz tmpfs rw 0 0\n";
        let found = mounted_below(mounts, Path::new("/x"));
        assert_eq!(found, [PathBuf::from("/x/a b/merged"), PathBuf::from("/x/a b")]);
    }

    #[test]
    fn a_scratch_folder_is_emptied_first_and_removed_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("scratch");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("left-over"), "x").unwrap();
        let scratch = Scratch::create(path.clone()).unwrap();
        assert!(!path.join("left-over").exists() && path.exists());
        drop(scratch);
        assert!(!path.exists());
    }
}
