//! Locks between runs of this tool.

use std::fs::{self, File, TryLockError};
use std::path::Path;

use tare_oci::blob::FileError;
use tare_oci::input;

/// Takes a lock. If another run holds it, calls `wait` and waits. The lock ends with the process.
///
/// # Errors
/// When the file cannot be created or locked.
pub fn lock(dir: &Path, name: &str, wait: impl FnOnce()) -> Result<File, FileError> {
    fs::create_dir_all(dir).map_err(FileError::on("create", dir))?;
    let path = dir.join(name);
    let file = input::open_or_create(&path).map_err(FileError::on("open", &path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            wait();
            file.lock().map_err(FileError::on("lock", &path))?;
        }
        Err(TryLockError::Error(error)) => return Err(FileError::on("lock", &path)(error)),
    }
    Ok(file)
}
