//! What is profiled or compared, and with what.

use std::path::{Path, PathBuf};

use tare_container::target::Target;
use tare_container::{ContainerError, Runtime};

use super::abilities::Unable;
use super::baseline::{Baseline, BaselineError, Disagreement};
use super::size::SizeError;
use super::subject::PassError;

/// An image to profile.
#[derive(Debug, Clone)]
pub struct Image {
    /// Its name in reports.
    pub name: String,
    /// What is read and run.
    pub target: Target,
    /// The entrypoint's program before it was stripped, where it is at hand: its symbols say which crate the bytes are of.
    pub unstripped: Option<PathBuf>,
}

impl Image {
    /// Opens an OCI layout, an OCI archive or a docker archive by its path, or an image of docker's or podman's store as
    /// `docker-daemon:REF` or `containers-storage:REF`. What comes out of a store is copied to the folder `temporary`,
    /// and removed when the image is dropped.
    ///
    /// # Errors
    /// When there is no image for this host.
    pub fn open(location: &str, temporary: &Path) -> Result<Self, ContainerError> {
        let target = Target::resolve(location, None, temporary)?;
        Ok(Self { name: folder_name(location), target, unstripped: None })
    }
}

/// A name for a folder: the last part of a path or reference, of letters that every file system takes.
#[must_use]
pub fn folder_name(location: &str) -> String {
    let last = location.trim_end_matches('/').rsplit('/').find(|part| !part.is_empty() && *part != "layout");
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let name: String = last.unwrap_or("image").chars().map(plain).collect();
    if name.starts_with('.') { format!("image{name}") } else { name }
}

/// What [`profile`](super::profiling::profile) needs beside the image and the profile. The default is enough for the size pass alone.
#[derive(Debug, Clone, Default)]
pub struct Options<'a> {
    /// What runs containers.
    pub runtime: Option<&'a Runtime>,
    /// The program that sends the load, started as `PROGRAM generate …`: `tare-profiler`, or one whose `main` begins
    /// with [`run_if_asked`](crate::generator::run_if_asked). None: the current program.
    pub generator: Option<PathBuf>,
    /// The folder for the image of the runtime baseline.
    pub cache: PathBuf,
    /// The figures that `max-regression` gates are judged by.
    pub baseline: Option<&'a Baseline>,
    /// The image of the baseline: gates on noisy metrics are judged by measuring it and the image in turns, and by its
    /// stored figures only where that cannot be.
    pub before: Option<&'a Image>,
}

impl Options<'_> {
    pub(super) fn generator(&self) -> Result<PathBuf, ProfileError> {
        self.generator.clone().map_or_else(|| std::env::current_exe().map_err(ProfileError::NoProgram), Ok)
    }
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// The image cannot be read.
    #[error("{0}")]
    Size(#[from] SizeError),
    /// A container cannot be had. What the server does wrong is part of the report, not an error.
    #[error("{0}")]
    Pass(#[from] PassError),
    /// The image of the runtime baseline cannot be opened, or the runtime cannot be used.
    #[error("{0}")]
    Container(#[from] ContainerError),
    /// The baseline was measured in other circumstances.
    #[error("{0}")]
    Baseline(#[from] BaselineError),
    /// Two runs that are to make a baseline differ.
    #[error("{0}")]
    Disagreement(#[from] Disagreement),
    /// The image and that of the baseline cannot be measured in turns.
    #[error("the image and the baseline's cannot be measured in turns")]
    Turns(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A pass runs the image, and the options have no runtime.
    #[error("the passes of profile {0} run the image, and no runtime is given")]
    NoRuntime(String),
    /// The runtime cannot do what a pass needs.
    #[error("{0}")]
    Unable(#[from] Unable),
    /// The path of the current program is unknown.
    #[error("cannot find this program")]
    NoProgram(#[source] std::io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_named_after_the_last_part() {
        for (name, folder) in [
            ("target/images/app/layout", "app"),
            ("./image.tar", "image.tar"),
            ("docker-daemon:example/server:1.2", "server-1.2"),
            ("oci:/", "oci-"),
            ("..", "image.."),
            ("/", "image"),
        ] {
            assert_eq!(folder_name(name), folder, "{name}");
        }
    }
}
