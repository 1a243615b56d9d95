//! The names of the runtimes.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tare_tool::process::find_program;

use super::error::ContainerError;

/// A program that creates and runs containers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuntimeKind {
    /// Our own, on libcontainer; needs nothing installed.
    #[default]
    Embedded,
    /// `runc`.
    Runc,
    /// `crun`.
    Crun,
    /// `youki`.
    Youki,
    /// Docker's daemon.
    Docker,
    /// Podman.
    Podman,
}

/// Not a runtime.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no runtime: choose from embedded, runc, crun, youki, docker, podman")]
pub struct RuntimeKindError(String);

impl RuntimeKind {
    /// Every runtime.
    pub const ALL: [Self; 6] =
        [Self::Embedded, Self::Runc, Self::Crun, Self::Youki, Self::Docker, Self::Podman];

    /// Its name, which is its program's too.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Runc => "runc",
            Self::Crun => "crun",
            Self::Youki => "youki",
            Self::Docker => "docker",
            Self::Podman => "podman",
        }
    }

    /// Whether it has a store of images and a command line like docker's.
    #[must_use]
    pub fn is_daemon(self) -> bool {
        matches!(self, Self::Docker | Self::Podman)
    }

    /// Its program in these directories (`PATH`); none for the embedded one, which is brought along.
    ///
    /// # Errors
    /// When it is not installed.
    pub fn find(self, path: Option<&OsString>) -> Result<Option<PathBuf>, ContainerError> {
        if self == Self::Embedded {
            return Ok(None);
        }
        find_program(self.name(), path).map(Some).ok_or_else(|| {
            ContainerError::new(format_args!("the runtime `{self}` is not installed or not on PATH"))
                .with_hint(format!("install {self}, or leave `--runtime` out to use the embedded one"))
        })
    }
}

impl fmt::Display for RuntimeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for RuntimeKind {
    type Err = RuntimeKindError;

    fn from_str(text: &str) -> Result<Self, RuntimeKindError> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == text);
        found.ok_or_else(|| RuntimeKindError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runtimes_round_trip_by_name() {
        for kind in RuntimeKind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        assert_eq!("Docker".parse::<RuntimeKind>(), Err(RuntimeKindError("Docker".to_owned())));
    }
}
