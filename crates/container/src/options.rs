//! What a runtime is opened with.

use std::ffi::OsString;
use std::path::PathBuf;

use super::cleanup::Cleanup;

/// What a runtime is opened with; nothing of it is looked for in the environment here.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where unpacked images are kept.
    pub cache: PathBuf,
    /// Where records of containers are kept ([`state_folder`](super::leftovers::state_folder)).
    pub state: PathBuf,
    /// The program `tare-keeper`.
    pub keeper: Option<PathBuf>,
    /// The directories that programs are looked for in (`PATH`).
    pub path: Option<OsString>,
    /// Removes everything at a signal.
    pub cleanup: Cleanup,
}
