//! Folders and files that other users of this host can neither prepare nor change.
//!
//! Every user can create links and folders in `/tmp`. Files and folders with predictable names in such places are created
//! here: exclusively, or after a check of the owner.

use std::fs::{self, File};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Why a folder or file cannot be kept from other users.
#[derive(Debug, thiserror::Error)]
pub enum PrivateError {
    /// An operation failed.
    #[error("cannot {operation} {path}", path = path.display())]
    File {
        /// `create`, `open`, …
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The folder exists, and another user owns it or can change it.
    #[error("the folder {path} {fault}", path = path.display())]
    Exposed {
        /// Which.
        path: PathBuf,
        /// The fault, such as `is a link or a file`.
        fault: String,
    },
}

impl PrivateError {
    /// The hint of the error.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Exposed { path, .. } => Some(format!(
                "remove {path}, or choose a folder of your own: XDG_RUNTIME_DIR or TMPDIR in place of /tmp, CARGO_TARGET_DIR in place of target",
                path = path.display()
            )),
            Self::File { .. } => None,
        }
    }

    pub(crate) fn on(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::File { operation, path, source }
    }
}

/// Makes a folder that did not exist, for this user alone (mode 0700).
///
/// # Errors
/// When it exists, if only as a link to nowhere, or cannot be made.
pub fn create_folder(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        fs::DirBuilder::new().mode(0o700).create(path)
    }
    #[cfg(not(unix))]
    fs::create_dir(path)
}

/// Makes a folder for this user alone (mode 0700) with all that is above it, or takes the one that exists if
/// this user owns it, nobody else can write to it, and it is no link.
///
/// # Errors
/// When the folder that exists is another's, or it cannot be made.
pub fn own_folder(path: &Path) -> Result<(), PrivateError> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(PrivateError::on("create", parent))?;
    }
    match create_folder(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => take(path),
        result => result.map_err(PrivateError::on("create", path)),
    }
}

/// The path of a folder for temporary files of this user, the same in every process. [`own_folder`] makes it.
#[must_use]
pub fn temporary_folder(name: &str) -> PathBuf {
    #[cfg(unix)]
    let name = format!("{name}-{}", user());
    std::env::temp_dir().join(name)
}

/// Makes a folder with all that is above it, or takes the one that exists if it is no link. Unlike [`own_folder`] it
/// takes folders of other users, as a target folder on a shared volume has them.
///
/// # Errors
/// When there is a link or a file in its place, or it cannot be made.
pub fn real_folder(path: &Path) -> Result<(), PrivateError> {
    match fs::symlink_metadata(path) {
        Ok(data) if data.is_dir() => Ok(()),
        Ok(_) => {
            Err(PrivateError::Exposed { path: path.to_path_buf(), fault: "is a link or a file".to_owned() })
        }
        // The error of the creation also covers the folders above.
        Err(_) => fs::create_dir_all(path).map_err(PrivateError::on("create", path)),
    }
}

/// Checks the opened folder and not its path, which may lead to another folder a moment later.
#[cfg(unix)]
fn take(path: &Path) -> Result<(), PrivateError> {
    use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};

    let exposed = |fault: String| PrivateError::Exposed { path: path.to_path_buf(), fault };
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let folder = match File::options().read(true).custom_flags(flags).open(path) {
        Ok(folder) => folder,
        // open(2): a link, or anything else that is no folder.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ELOOP | libc::ENOTDIR)) => {
            return Err(exposed("is a link or a file".to_owned()));
        }
        Err(error) => return Err(PrivateError::on("open", path)(error)),
    };
    let data = folder.metadata().map_err(PrivateError::on("open", path))?;
    let (owner, mode) = (data.uid(), data.mode() & 0o7777);
    if owner != user() {
        return Err(exposed(format!("belongs to another user ({owner})")));
    }
    // Files of others may be in it already, so changing its mode now would not help.
    if mode & 0o022 != 0 {
        return Err(exposed(format!("can be written by other users (mode {mode:04o})")));
    }
    if mode != 0o700 {
        let private = fs::Permissions::from_mode(0o700);
        folder.set_permissions(private).map_err(PrivateError::on("protect", path))?;
    }
    Ok(())
}

/// Elsewhere folders for temporary files are each user's own.
#[cfg(not(unix))]
fn take(path: &Path) -> Result<(), PrivateError> {
    match path.is_dir() {
        true => Ok(()),
        false => Err(PrivateError::Exposed { path: path.to_path_buf(), fault: "is no folder".to_owned() }),
    }
}

/// The user that this process makes files as.
#[cfg(unix)]
#[expect(unsafe_code, reason = "std does not tell, and rustix would add its build to everybody's first")]
fn user() -> u32 {
    // SAFETY: geteuid(2) takes nothing, touches no memory and always succeeds.
    unsafe { libc::geteuid() }
}

/// A new folder of an unpredictable name, for this user alone (mode 0700). Dropped, it is removed with all that
/// is in it.
#[derive(Debug)]
pub struct FreshFolder {
    path: PathBuf,
}

impl FreshFolder {
    /// Makes one whose name begins with `prefix`.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(parent: &Path, prefix: &str) -> Result<Self, PrivateError> {
        let (path, ()) = unused(|suffix| parent.join(format!("{prefix}{suffix}")), create_folder)
            .map_err(PrivateError::on("create a folder in", parent))?;
        Ok(Self { path })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path; the caller removes the folder.
    #[must_use]
    pub fn keep(mut self) -> PathBuf {
        std::mem::take(&mut self.path)
    }
}

impl Drop for FreshFolder {
    fn drop(&mut self) {
        // Given away, it has no path any more; what cannot be removed lies where temporary files do.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Creates a folder, and calls `work` while no other process does so for the same folder: of two that write the same files
/// at once, the later one's stay. Where folders cannot be locked (Windows) nothing is waited for.
///
/// # Errors
/// When the folder cannot be created. What `work` returns is returned.
pub fn in_turn<T>(folder: &Path, work: impl FnOnce() -> T) -> io::Result<T> {
    fs::create_dir_all(folder)?;
    // Held until the end of this function.
    let _lock = File::open(folder).and_then(|folder| folder.lock().map(|()| folder));
    Ok(work())
}

/// Replaces a file in a folder that others may write to. Readers find the old content or the new one. A link in its place
/// is replaced and not followed.
///
/// # Errors
/// When it cannot be written or moved; nothing is left then.
pub fn replace_file(place: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = |suffix: &str| {
        let mut name = place.as_os_str().to_owned();
        name.push(format!(".{suffix}"));
        PathBuf::from(name)
    };
    let (unfinished, mut file) = unused(beside, |path| File::create_new(path))?;
    let written = file.write_all(bytes).and_then(|()| {
        drop(file);
        fs::rename(&unfinished, place)
    });
    if written.is_err() {
        // The error of the writing says more.
        let _ = fs::remove_file(&unfinished);
    }
    written
}

/// Creates something exclusively, under a new name that `name` makes of a random suffix.
fn unused<T>(
    name: impl Fn(&str) -> PathBuf,
    make: impl Fn(&Path) -> io::Result<T>,
) -> io::Result<(PathBuf, T)> {
    loop {
        // RandomState is seeded from the operating system.
        let path = name(&format!("{:016x}", RandomState::new().build_hasher().finish()));
        match make(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            result => return result.map(|made| (path, made)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_folders_are_different_and_go_when_they_are_dropped() {
        let parent = tempfile::tempdir().unwrap();
        let [one, other] = [(); 2].map(|()| FreshFolder::create(parent.path(), "a-").unwrap());
        assert_ne!(one.path(), other.path());
        assert!(one.path().file_name().unwrap().to_string_lossy().starts_with("a-"));
        fs::write(one.path().join("file"), "x").unwrap();
        drop((one, other));
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_is_replaced_and_nothing_stays_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("file");
        for text in ["old", "new"] {
            replace_file(&place, text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&place).unwrap(), text);
        }
        // It cannot take the place of a folder that holds something.
        fs::create_dir_all(folder.path().join("folder/full")).unwrap();
        assert!(replace_file(&folder.path().join("folder"), b"x").is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[cfg(unix)]
    mod unix {
        use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};

        use super::*;

        fn mode(path: &Path) -> u32 {
            fs::symlink_metadata(path).unwrap().mode() & 0o7777
        }

        fn fault(path: &Path) -> String {
            let error = own_folder(path).unwrap_err();
            assert!(error.hint().unwrap().contains(&format!("remove {},", path.display())), "{error}");
            let said = error.to_string();
            said.strip_prefix(&format!("the folder {} ", path.display())).unwrap().to_owned()
        }

        #[test]
        fn a_folder_is_taken_only_if_nobody_else_could_write_to_it() {
            let parent = tempfile::tempdir().unwrap();
            let path = parent.path().join("above/state");
            own_folder(&path).unwrap();
            assert_eq!(mode(&path), 0o700);
            fs::write(path.join("kept"), "").unwrap();
            own_folder(&path).unwrap();
            // As a version made it that left this to the umask.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            own_folder(&path).unwrap();
            assert_eq!(mode(&path), 0o700);
            assert!(path.join("kept").exists());

            for open in [0o777, 0o1777, 0o770, 0o702] {
                fs::set_permissions(&path, fs::Permissions::from_mode(open)).unwrap();
                let expected = format!("can be written by other users (mode {open:04o})");
                assert_eq!(fault(&path), expected);
            }
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
            let link = parent.path().join("link");
            symlink(&path, &link).unwrap();
            assert_eq!(fault(&link), "is a link or a file");
            let dangling = parent.path().join("dangling");
            symlink(parent.path().join("nowhere"), &dangling).unwrap();
            assert_eq!(fault(&dangling), "is a link or a file");
            assert_eq!(fault(&path.join("kept")), "is a link or a file");
            if user() == 0 {
                chown(&path, Some(1001), None).unwrap();
                assert_eq!(fault(&path), "belongs to another user (1001)");
            }
        }

        #[test]
        fn what_is_made_is_for_its_owner_alone_and_never_made_through_a_link() {
            let parent = tempfile::tempdir().unwrap();
            let fresh = FreshFolder::create(parent.path(), "").unwrap();
            assert_eq!(mode(fresh.path()), 0o700);
            let link = parent.path().join("link");
            symlink(parent.path().join("elsewhere"), &link).unwrap();
            assert_eq!(create_folder(&link).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
            replace_file(&link, b"text").unwrap();
            assert!(!parent.path().join("elsewhere").exists());
            assert!(fs::symlink_metadata(&link).unwrap().is_file());
        }
    }
}
