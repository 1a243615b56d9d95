//! The options with which a runtime is opened.

use std::ffi::OsString;
use std::path::PathBuf;

use super::cleanup::Cleanup;

/// The options with which a runtime is opened. This package does not read the environment.
#[derive(Debug, Clone)]
pub struct Options {
    /// The folder of unpacked images.
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
