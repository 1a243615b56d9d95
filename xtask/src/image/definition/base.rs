//! The key `base` of image.toml: the image below the layers of another one.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use tare_oci::digest::Digest;
use tare_oci::reference::{Reference, ReferenceError};

use super::Position;

/// The key with its place in the definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseDefinition {
    /// The image.
    pub reference: BaseReference,
    /// Where the definition names it.
    pub place: Position,
}

/// Where the base is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BaseReference {
    /// An OCI layout or an archive, relative to the image's folder.
    Path(PathBuf),
    /// An image in a registry.
    Registry(RegistryReference),
}

/// An image in a registry, with the registry's name: `docker.io/library/debian:12`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryReference {
    /// Repository and tag; `latest` where the definition has neither tag nor digest.
    pub name: String,
    /// The name without the tag.
    pub repository: String,
    /// The digest that the definition itself has.
    pub digest: Option<Digest>,
}

impl RegistryReference {
    /// The reference of one state of the image.
    #[must_use]
    pub fn at(&self, digest: Digest) -> String {
        format!("{}@{digest}", self.repository)
    }
}

/// Why a text names no base image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BaseError {
    /// It has no registry.
    #[error(
        "`{text}` names no registry: write `{full}`; the path of a layout or archive begins with ./, ../ or /"
    )]
    NoRegistry {
        /// The text.
        text: String,
        /// With Docker Hub, which docker assumes.
        full: String,
    },
    /// It is no reference.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// What follows `@` is no digest.
    #[error("`{0}` has a bad digest: write sha256: and 64 hexadecimal digits")]
    Digest(String),
}

impl FromStr for BaseReference {
    type Err = BaseError;

    fn from_str(text: &str) -> Result<Self, BaseError> {
        let is_path = Path::new(text).is_absolute() || text.starts_with(['.', '/']);
        if is_path && !text.contains('\0') {
            return Ok(Self::Path(PathBuf::from(text)));
        }
        let written = text.strip_prefix("docker://").unwrap_or(text);
        let (name, digest) = match written.split_once('@') {
            None => (written, None),
            Some((name, digest)) => {
                let parsed: Option<Digest> = digest.parse().ok().filter(|it| matches!(it, Digest::Sha256(_)));
                (name, Some(parsed.ok_or_else(|| BaseError::Digest(text.to_owned()))?))
            }
        };
        let reference: Reference = name.parse()?;
        let (full, repository) = (reference.canonical(), reference.repository().to_owned());
        if full != reference.to_string() {
            let full = match digest {
                None => full,
                Some(digest) => format!("{}@{digest}", full.strip_suffix(":latest").unwrap_or(&full)),
            };
            return Err(BaseError::NoRegistry { text: text.to_owned(), full });
        }
        let name = if digest.is_some() { name.to_owned() } else { full };
        Ok(Self::Registry(RegistryReference { name, repository, digest }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

    #[test]
    fn a_base_is_a_path_or_a_reference_with_its_registry() {
        for path in ["./base", "../base.tar", "/var/base", "."] {
            assert_eq!(path.parse(), Ok(BaseReference::Path(path.into())));
        }
        let pinned = format!("ghcr.io/team/base:1@{DIGEST}");
        let untagged = format!("ghcr.io/team/base@{DIGEST}");
        for (text, name, repository, digest) in [
            ("ghcr.io/team/base", "ghcr.io/team/base:latest", "ghcr.io/team/base", None),
            ("docker://localhost:5000/base:1", "localhost:5000/base:1", "localhost:5000/base", None),
            (&pinned, "ghcr.io/team/base:1", "ghcr.io/team/base", Some(DIGEST)),
            (&untagged, "ghcr.io/team/base", "ghcr.io/team/base", Some(DIGEST)),
        ] {
            let expected = RegistryReference {
                name: name.to_owned(),
                repository: repository.to_owned(),
                digest: digest.map(|digest| digest.parse().unwrap()),
            };
            assert_eq!(text.parse(), Ok(BaseReference::Registry(expected)), "{text}");
        }
    }

    #[test]
    fn what_names_no_base_is_refused_with_what_to_write() {
        let says = |text: &str| text.parse::<BaseReference>().unwrap_err().to_string();
        for (text, full) in [
            ("debian:12".to_owned(), "docker.io/library/debian:12".to_owned()),
            ("team/base".to_owned(), "docker.io/team/base:latest".to_owned()),
            (format!("debian@{DIGEST}"), format!("docker.io/library/debian@{DIGEST}")),
        ] {
            let expected = format!(
                "`{text}` names no registry: write `{full}`; the path of a layout or archive begins with ./, ../ or /"
            );
            assert_eq!(says(&text), expected);
        }
        for text in ["ghcr.io/a@sha256:12", "ghcr.io/a@", &format!("ghcr.io/a@sha512:{}", "0".repeat(128))] {
            assert_eq!(
                says(text),
                format!("`{text}` has a bad digest: write sha256: and 64 hexadecimal digits")
            );
        }
        for text in ["", "ghcr.io/A", "ghcr.io/a:b c", "ghcr.io/a b", "/a\0b"] {
            assert!(text.parse::<BaseReference>().is_err(), "{text}");
        }
    }
}
