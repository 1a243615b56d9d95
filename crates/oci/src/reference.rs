//! Image references: `name`, `name:tag`, `registry:5000/team/name:tag`.

use std::fmt;
use std::str::FromStr;

/// A repository and a tag, kept as typed (`app:1.2`) and known in full (`docker.io/library/app:1.2`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    repository: String,
    tag: String,
    canonical: String,
}

/// Not a reference that an image can be given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a name for an image: write [registry/]name[:tag] with lower-case letters, digits and single separators (. _ -), and no digest"
)]
pub struct ReferenceError(String);

impl Reference {
    /// The repository as typed, without the tag.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, `latest` if none was typed.
    #[must_use]
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// With registry and namespace, as containerd stores names: `docker.io/library/app:latest`.
    #[must_use]
    pub fn canonical(&self) -> &str {
        &self.canonical
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let error = || ReferenceError(text.to_owned());
        let full: oci_spec::distribution::Reference = text.parse().map_err(|_| error())?;
        // The crate takes letters of every alphabet in tags. A digest names what is built and cannot be chosen.
        let tag = full.tag().filter(|_| text.is_ascii() && full.digest().is_none()).ok_or_else(error)?;
        let repository = text.strip_suffix(&format!(":{tag}")).unwrap_or(text).to_owned();
        Ok(Self { repository, tag: tag.to_owned(), canonical: full.to_string() })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.repository, self.tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_as_docker_reads_them() {
        for (text, shown, canonical) in [
            ("app", "app:latest", "docker.io/library/app:latest"),
            ("app:1.2_b-3", "app:1.2_b-3", "docker.io/library/app:1.2_b-3"),
            ("team/app", "team/app:latest", "docker.io/team/app:latest"),
            ("localhost/app:x", "localhost/app:x", "localhost/app:x"),
            (
                "reg.example:5000/a/b__c--d:V1",
                "reg.example:5000/a/b__c--d:V1",
                "reg.example:5000/a/b__c--d:V1",
            ),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!((reference.to_string().as_str(), reference.canonical()), (shown, canonical));
            assert_eq!(reference.to_string().parse(), Ok(reference));
        }
    }

    #[test]
    fn what_registries_would_refuse_is_refused_here() {
        let of_repository =
            ["", "App", "a//b", "/a", "a/", "a..b", "a___b", "-a", "a-", "reg.example:port/a", "ä", "a b"];
        for text in of_repository.into_iter().chain(["a:", "a:.x", "a:b:c", "a:b c", "a:ä"]) {
            assert_eq!(text.parse::<Reference>(), Err(ReferenceError(text.to_owned())), "{text}");
        }
        let long = format!("a:{}", "x".repeat(129));
        assert_eq!(long.parse::<Reference>(), Err(ReferenceError(long)));
        let digest = format!("a@sha256:{}", "0".repeat(64));
        assert_eq!(digest.parse::<Reference>(), Err(ReferenceError(digest)));
    }
}
