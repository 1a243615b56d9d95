//! The caches of a workspace, in the folder `target/images/.cache`: the bound of their size, and their removal.
//!
//! | folder | content | bound |
//! |---|---|---|
//! | `layers` | written layers | [`LIMIT`], together with `crates` |
//! | `crates` | the crate lists of programs | [`LIMIT`], together with `layers` |
//! | `roots` | unpacked images (`tare-container`) | [`LIMIT`] |
//! | `pulled` | images from registries | [`LIMIT`], and 30 days after the last use |
//! | `temporary` | images from the stores of docker and podman | removed after use |
//! | `staging` | unfinished files | removed by the next run |
//!
//! Locks and plans lie there as well and are no caches. No link is followed: what is removed lies in the folder itself.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::private::{self, PrivateError};

/// How many bytes a cache keeps. What was used longest ago is removed first.
pub const LIMIT: u64 = 4 << 30;

/// The age at which temporary files are remains of a killed process: no build takes a day.
pub const UNUSED: Duration = Duration::from_secs(24 * 60 * 60);

/// The folders that [`clear`] removes.
const CACHES: [&str; 6] = ["layers", "crates", "roots", "pulled", "temporary", "staging"];

/// Creates the folder of a cache, or takes the one that exists.
///
/// # Errors
/// When there is a link or a file in its place or in that of its parent: files would be written and removed elsewhere.
pub fn folder(cache: &Path, name: &str) -> Result<PathBuf, PrivateError> {
    let folder = cache.join(name);
    private::real_folder(cache)?;
    private::real_folder(&folder)?;
    Ok(folder)
}

/// The folder that the cache `pulled` has for an image of a registry, or for one platform of it.
#[must_use]
pub fn pulled_name(digest: &str, platform: Option<&str>) -> String {
    let platform = platform.map_or_else(String::new, |platform| format!("-{}", platform.replace('/', "-")));
    format!("{}{platform}", digest.replace(':', "-"))
}

/// Removes the entries of several folders that were used longest ago, until all entries together have at most `limit`
/// bytes. An entry is a folder, or the files of one name before the extension; it was used when the newest of them was
/// changed.
/// Entries that cannot be read or removed are left for the next call.
pub fn prune(folders: &[&Path], limit: u64) {
    let mut entries: BTreeMap<PathBuf, (SystemTime, u64, Vec<PathBuf>)> = BTreeMap::new();
    for file in folders.iter().flat_map(fs::read_dir).flatten().flatten() {
        // This is the file itself, and not the destination of a link.
        let Ok(data) = file.metadata() else { continue };
        let path = file.path();
        let key = path.with_extension("");
        let (used, bytes, files) = entries.entry(key).or_insert((SystemTime::UNIX_EPOCH, 0, vec![]));
        if data.is_file() || data.is_dir() {
            *used = data.modified().map_or(*used, |modified| modified.max(*used));
            *bytes += if data.is_dir() { self::bytes(&path) } else { data.len() };
            files.push(path);
        }
    }
    let mut entries: Vec<_> = entries.into_values().collect();
    entries.sort();
    let mut total: u64 = entries.iter().map(|(_, bytes, _)| bytes).sum();
    for (_, bytes, files) in entries {
        if total <= limit {
            return;
        }
        total -= bytes;
        for file in files {
            let _ = remove(&file);
        }
    }
}

/// Removes the entries of a folder that were changed longer ago than `age`: remains of processes that were killed.
/// Entries that cannot be removed are left for the next call.
pub fn sweep(folder: &Path, age: Duration) {
    if !is_folder(folder) {
        return;
    }
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let modified = entry.metadata().and_then(|data| data.modified());
        if modified.is_ok_and(|time| time.elapsed().is_ok_and(|unused| unused > age)) {
            let _ = remove(&entry.path());
        }
    }
}

/// Removes a file, a link or a folder with its content, also where the folder's mode forbids that to its owner. What
/// does not exist is removed already.
///
/// # Errors
/// When something cannot be removed.
pub fn remove(path: &Path) -> io::Result<()> {
    let result = match fs::symlink_metadata(path) {
        Ok(data) if data.is_dir() => match fs::remove_dir_all(path) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                permit(path)?;
                fs::remove_dir_all(path)
            }
            result => result,
        },
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Gives the owner every right to the folders of a tree.
#[cfg(unix)]
fn permit(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            permit(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(not(unix))]
fn permit(_: &Path) -> io::Result<()> {
    Ok(())
}

/// One cache that was removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cleared {
    /// Its folder's name.
    pub name: &'static str,
    /// Files and folders directly in it.
    pub entries: usize,
    /// Bytes that are free now. A file that has another name elsewhere, such as a layer in an OCI layout, counts as 0.
    pub bytes: u64,
    /// Entries that another process uses, which are left.
    pub in_use: usize,
}

/// The lock of a running build.
#[derive(Debug, thiserror::Error)]
pub enum ClearError {
    /// Another run uses the cache.
    #[error("another run holds the lock {path}", path = .0.display())]
    InUse(PathBuf),
    /// A file or folder cannot be read, locked or removed.
    #[error("cannot {operation} {path}", path = path.display())]
    File {
        /// `read`, `lock` or `remove`
        operation: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl ClearError {
    fn on(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::File { operation, path, source }
    }
}

/// Removes every cache in the folder `cache`, or with `dry_run` only counts what would be removed. A link in the place
/// of a cache is removed itself; its destination is not touched.
///
/// # Errors
/// When another run builds an image, and when something cannot be removed.
pub fn clear(cache: &Path, dry_run: bool) -> Result<Vec<Cleared>, ClearError> {
    let none = |name| Cleared { name, entries: 0, bytes: 0, in_use: 0 };
    if !is_folder(cache) {
        if !dry_run {
            remove(cache).map_err(ClearError::on("remove", cache))?;
        }
        return Ok(CACHES.map(none).into());
    }
    let mut locks = Vec::new();
    for entry in entries(&cache.join("locks"))? {
        locks.push(lock(&entry)?);
    }
    let mut cleared = Vec::new();
    for name in CACHES {
        let folder = cache.join(name);
        let mut sum = none(name);
        for entry in entries(&folder)? {
            // A container runs in an unpacked image whose folder is locked, and `lock` guards the unpacking.
            let held = if name == "roots" { lock(&entry) } else { Ok(None) };
            if let Err(ClearError::InUse(_)) = held {
                sum.in_use += 1;
                continue;
            }
            sum.entries += 1;
            sum.bytes += bytes(&entry);
            if !dry_run {
                remove(&entry).map_err(ClearError::on("remove", &entry))?;
            }
        }
        if !dry_run && sum.in_use == 0 {
            remove(&folder).map_err(ClearError::on("remove", &folder))?;
        }
        cleared.push(sum);
    }
    Ok(cleared)
}

fn is_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|data| data.is_dir())
}

/// The paths in a folder, sorted. A link, a file or nothing in its place has none.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, ClearError> {
    if !is_folder(folder) {
        return Ok(vec![]);
    }
    let read = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let mut paths: Vec<PathBuf> =
        read.map_err(ClearError::on("read", folder))?.iter().map(fs::DirEntry::path).collect();
    paths.sort();
    Ok(paths)
}

/// Locks a regular file or folder. What is neither, or may not be read by its owner, is locked by nobody.
fn lock(path: &Path) -> Result<Option<File>, ClearError> {
    let is_lockable = |data: Metadata| data.is_file() || data.is_dir();
    if !fs::symlink_metadata(path).is_ok_and(is_lockable) {
        return Ok(None);
    }
    let Ok(file) = File::open(path) else { return Ok(None) };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(ClearError::InUse(path.to_path_buf())),
        Err(TryLockError::Error(error)) => Err(ClearError::on("lock", path)(error)),
    }
}

/// The bytes of a tree that its removal frees; 0 for what cannot be read.
fn bytes(path: &Path) -> u64 {
    match fs::symlink_metadata(path) {
        Ok(data) if data.is_dir() => {
            let entries = fs::read_dir(path).into_iter().flatten().flatten();
            entries.map(|entry| bytes(&entry.path())).sum()
        }
        Ok(data) if data.is_file() && has_one_name(&data) => data.len(),
        _ => 0,
    }
}

#[cfg(unix)]
fn has_one_name(data: &Metadata) -> bool {
    std::os::unix::fs::MetadataExt::nlink(data) == 1
}

#[cfg(not(unix))]
fn has_one_name(_: &Metadata) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, bytes: usize) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, vec![0; bytes]).unwrap();
    }

    fn set_age(path: &Path, seconds: u64) {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 - seconds);
        File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
    }

    fn names(folder: &Path) -> Vec<String> {
        let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
        entries(folder).unwrap().iter().map(name).collect()
    }

    #[test]
    fn entries_that_were_used_longest_ago_are_removed_until_the_rest_is_small_enough() {
        let dir = tempfile::tempdir().unwrap();
        let [layers, crates] = ["layers", "crates"].map(|name| dir.path().join(name));
        // The record of `a` is old, but its blob was used a moment ago.
        for (path, bytes, age) in [
            (layers.join("a.blob"), 10, 1),
            (layers.join("a.json"), 1, 9),
            (layers.join("b.blob"), 10, 5),
            (layers.join("b.json"), 1, 5),
            (crates.join("c"), 10, 7),
            (crates.join("d"), 10, 2),
        ] {
            write(&path, bytes);
            set_age(&path, age);
        }
        prune(&[&layers, &crates], 32);
        assert_eq!(
            (names(&layers), names(&crates)),
            (vec!["a.blob".into(), "a.json".into(), "b.blob".into(), "b.json".into()], vec!["d".into()])
        );
        prune(&[&layers, &crates], 31);
        assert_eq!(
            (names(&layers), names(&crates)),
            (vec!["a.blob".into(), "a.json".into()], vec!["d".to_owned()])
        );
    }

    #[test]
    fn folders_are_entries_too() {
        let dir = tempfile::tempdir().unwrap();
        for (name, age) in [("sha256-a", 9), ("sha256-b", 3), ("sha256-c", 5)] {
            write(&dir.path().join(name).join("blobs/sha256/x"), 10);
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 - age);
            File::open(dir.path().join(name)).unwrap().set_modified(time).unwrap();
        }
        prune(&[dir.path()], 20);
        assert_eq!(names(dir.path()), ["sha256-b", "sha256-c"]);
    }

    #[test]
    fn remains_are_removed_when_they_are_old() {
        let dir = tempfile::tempdir().unwrap();
        let age = Duration::from_secs(60);
        for (name, old) in [("old", 2 * age), ("new", age / 2)] {
            write(&dir.path().join(name).join("file"), 1);
            File::open(dir.path().join(name)).unwrap().set_modified(SystemTime::now() - old).unwrap();
        }
        sweep(dir.path(), age);
        assert_eq!(names(dir.path()), ["new"]);
    }

    #[test]
    fn caches_are_cleared_and_everything_else_stays() {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join(".cache");
        write(&cache.join("layers/a.blob"), 100);
        fs::hard_link(cache.join("layers/a.blob"), dir.path().join("layout")).unwrap();
        write(&cache.join("layers/a.json"), 10);
        write(&cache.join("crates/b"), 5);
        write(&cache.join("roots/0/etc/passwd"), 7);
        write(&cache.join("plans/c/plan.json"), 3);
        write(&cache.join("locks/app"), 0);
        let none = |name| Cleared { name, entries: 0, bytes: 0, in_use: 0 };
        let expected = vec![
            Cleared { entries: 2, bytes: 10, ..none("layers") },
            Cleared { entries: 1, bytes: 5, ..none("crates") },
            Cleared { entries: 1, bytes: 7, ..none("roots") },
            none("pulled"),
            none("temporary"),
            none("staging"),
        ];
        assert_eq!(clear(&cache, true).unwrap(), expected);
        assert!(cache.join("layers/a.blob").exists());
        assert_eq!(clear(&cache, false).unwrap(), expected);
        assert_eq!(names(&cache), ["locks", "plans"]);
        assert_eq!(fs::metadata(dir.path().join("layout")).unwrap().len(), 100);
        assert_eq!(clear(&cache, false).unwrap(), CACHES.map(none));
        assert_eq!(clear(&dir.path().join("nowhere"), false).unwrap(), CACHES.map(none));
    }

    #[test]
    fn what_is_in_use_stays() {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join(".cache");
        write(&cache.join("locks/app"), 0);
        write(&cache.join("layers/a"), 1);
        for root in ["used", "unused"] {
            write(&cache.join("roots").join(root).join("file"), 1);
        }
        let build = File::open(cache.join("locks/app")).unwrap();
        build.lock().unwrap();
        let refused = clear(&cache, false).unwrap_err().to_string();
        assert_eq!(refused, format!("another run holds the lock {}", cache.join("locks/app").display()));
        assert!(cache.join("layers/a").exists());
        // Closing would leave the lock to a child that another test is just starting.
        build.unlock().unwrap();

        let container = File::open(cache.join("roots/used")).unwrap();
        container.lock_shared().unwrap();
        let roots = clear(&cache, false).unwrap().swap_remove(2);
        assert_eq!(roots, Cleared { name: "roots", entries: 1, bytes: 1, in_use: 1 });
        assert_eq!(names(&cache.join("roots")), ["used"]);
    }

    #[cfg(unix)]
    #[test]
    fn links_are_removed_and_not_followed() {
        use std::os::unix::fs::symlink;

        let dir = tempfile::tempdir().unwrap();
        let [cache, elsewhere] = [".cache", "elsewhere"].map(|name| dir.path().join(name));
        write(&elsewhere.join("a.blob"), 9);
        write(&elsewhere.join("folder/file"), 9);
        write(&cache.join("crates/kept"), 1);
        symlink(&elsewhere, cache.join("layers")).unwrap();
        symlink(&elsewhere, cache.join("crates/link")).unwrap();
        symlink(elsewhere.join("a.blob"), cache.join("crates/file")).unwrap();
        prune(&[&cache.join("crates")], 0);
        assert_eq!(names(&cache.join("crates")), ["file", "link"]);
        symlink(&elsewhere, dir.path().join("link")).unwrap();
        for (place, name) in [(&cache, "layers"), (&dir.path().join("link"), "layers")] {
            let error = folder(place, name).unwrap_err().to_string();
            assert!(error.ends_with(" is a link or a file"), "{error}");
        }
        clear(&cache, false).unwrap();
        assert_eq!(names(&cache), Vec::<String>::new());
        clear(&dir.path().join("link"), false).unwrap();
        assert_eq!(names(dir.path()), [".cache", "elsewhere"]);
        assert_eq!(names(&elsewhere), ["a.blob", "folder"]);
        assert!(elsewhere.join("folder/file").exists());
    }

    #[cfg(unix)]
    #[test]
    fn folders_that_forbid_it_are_removed() {
        use std::os::unix::fs::PermissionsExt as _;

        let dir = tempfile::tempdir().unwrap();
        let closed = dir.path().join("root/closed");
        write(&closed.join("file"), 1);
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
        remove(&dir.path().join("root")).unwrap();
        assert_eq!(names(dir.path()), Vec::<String>::new());
    }
}
