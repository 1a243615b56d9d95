//! The platforms an image can be for.

use std::fmt;
use std::str::FromStr;

use super::spec;

/// This host's architecture in Go's name.
#[must_use]
pub fn host_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Operating system and architecture in Go's names, as the image spec wants them
/// (image-spec image-index.md, `platform`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Platform {
    /// `linux/amd64`
    LinuxAmd64,
    /// `linux/arm64`
    LinuxArm64,
}

/// Not a platform that images are built for here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a platform this tool builds for: choose from linux/amd64, linux/arm64")]
pub struct PlatformError(String);

impl Platform {
    /// Every platform, in the order of their names.
    pub const ALL: [Self; 2] = [Self::LinuxAmd64, Self::LinuxArm64];

    /// `amd64` or `arm64`.
    #[must_use]
    pub fn architecture(self) -> &'static str {
        match self {
            Self::LinuxAmd64 => "amd64",
            Self::LinuxArm64 => "arm64",
        }
    }

    /// The target triple whose static binaries run on it.
    #[must_use]
    pub fn target(self) -> &'static str {
        match self {
            Self::LinuxAmd64 => "x86_64-unknown-linux-musl",
            Self::LinuxArm64 => "aarch64-unknown-linux-musl",
        }
    }

    /// The `platform` of an index entry.
    #[must_use]
    pub fn to_spec(self) -> spec::Platform {
        let mut platform = spec::Platform::default();
        platform.set_os("linux".into()).set_architecture(self.architecture().into());
        platform
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::LinuxAmd64 => "linux/amd64",
            Self::LinuxArm64 => "linux/arm64",
        })
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        match text {
            "linux/amd64" => Ok(Self::LinuxAmd64),
            // containerd and docker write the default variant of arm64 in both ways.
            "linux/arm64" | "linux/arm64/v8" => Ok(Self::LinuxArm64),
            _ => Err(PlatformError(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_round_trip() {
        for platform in Platform::ALL {
            assert_eq!(platform.to_string().parse(), Ok(platform));
        }
        assert_eq!("linux/arm64/v8".parse(), Ok(Platform::LinuxArm64));
        for text in ["", "linux", "amd64", "linux/x86_64", "windows/amd64", "linux/amd64/"] {
            assert_eq!(text.parse::<Platform>(), Err(PlatformError(text.to_owned())));
        }
    }
}
