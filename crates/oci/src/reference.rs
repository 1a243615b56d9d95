//! Image references: `name`, `name:tag`, `registry:5000/team/name:tag`.

use std::fmt;
use std::str::FromStr;

/// A repository and a tag, kept as typed (`app:1.2`) and known in full (`docker.io/library/app:1.2`).
///
/// Grammar: distribution/reference `reference.go`, without digests, which name what is built and
/// cannot be chosen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    repository: String,
    tag: String,
}

/// Why a text is not a reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// It holds a digest.
    #[error("`{0}` names a digest; a tag is a name to give, such as app:1.2")]
    Digest(String),
    /// The repository is not well-formed.
    #[error(
        "`{0}` is not an image name: write [registry/]name[:tag] with lower-case letters, digits and single separators (. _ -)"
    )]
    Repository(String),
    /// The tag is not well-formed.
    #[error("`{0}` has a bad tag: up to 128 letters, digits, `_`, `.` and `-`, not starting with `.` or `-`")]
    Tag(String),
}

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
    pub fn canonical(&self) -> String {
        let Self { repository, tag } = self;
        match repository.split_once('/') {
            None => format!("docker.io/library/{repository}:{tag}"),
            Some((first, _)) if is_registry(first) => format!("{repository}:{tag}"),
            Some(_) => format!("docker.io/{repository}:{tag}"),
        }
    }
}

/// Whether the first component of a name is a host: it has a dot or a port, or is `localhost`.
fn is_registry(component: &str) -> bool {
    component.contains(['.', ':']) || component == "localhost"
}

fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let label = |l: &str| {
        !l.is_empty()
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    host.split('.').all(label)
        && port.is_none_or(|p| (1..=5).contains(&p.len()) && p.bytes().all(|b| b.is_ascii_digit()))
}

/// `[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*`
fn is_path_component(text: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let mut separator = String::new();
    for (at, byte) in text.bytes().enumerate() {
        if alphanumeric(byte) {
            let allowed =
                matches!(separator.as_str(), "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-');
            if !allowed {
                return false;
            }
            separator.clear();
        } else if at > 0 && matches!(byte, b'.' | b'_' | b'-') {
            separator.push(char::from(byte));
        } else {
            return false;
        }
    }
    !text.is_empty() && separator.is_empty()
}

fn is_tag(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && !text.starts_with(['.', '-'])
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// Whether a text is a version, such as `v1`, `1.2.3` or `1.2.3-rc1`. As a reference it would be the name of a
/// repository, where people mean a tag. (`7zip` is no version, and `7-zip` is one.)
#[must_use]
pub fn is_version(text: &str) -> bool {
    let text = text.strip_prefix(['v', 'V']).unwrap_or(text);
    let suffix = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let numbers = &text[..text.len() - suffix.len()];
    let is_suffix = suffix.is_empty() || suffix.starts_with(['-', '+', '_']) || numbers.contains('.');
    numbers.starts_with(|c: char| c.is_ascii_digit()) && is_suffix && !suffix.contains(['/', ':', '@'])
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.contains('@') {
            return Err(ReferenceError::Digest(text.to_owned()));
        }
        // A colon before the last slash belongs to the registry's port.
        let name_start = text.rfind('/').map_or(0, |slash| slash + 1);
        let (repository, tag) = match text[name_start..].split_once(':') {
            Some((name, tag)) => (&text[..name_start + name.len()], tag),
            None => (text, "latest"),
        };
        let path = match repository.split_once('/') {
            Some((first, rest)) if is_registry(first) => is_host(first).then_some(rest),
            _ => Some(repository),
        };
        match path {
            Some(path) if repository.len() <= 255 && path.split('/').all(is_path_component) => {}
            _ => return Err(ReferenceError::Repository(text.to_owned())),
        }
        if !is_tag(tag) {
            return Err(ReferenceError::Tag(text.to_owned()));
        }
        Ok(Self { repository: repository.to_owned(), tag: tag.to_owned() })
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
            assert_eq!((reference.to_string().as_str(), reference.canonical().as_str()), (shown, canonical));
            assert_eq!(reference.to_string().parse(), Ok(reference));
        }
    }

    #[test]
    fn versions_are_told_from_names() {
        for text in ["v1", "V1", "1", "1.2.3", "v1.2.3", "1.2.3-rc1", "v2-alpine", "1.2.3+build", "1.2rc1"] {
            assert!(is_version(text), "{text}");
        }
        for text in [
            "",
            "v",
            "app",
            "7zip",
            "v8engine",
            "version",
            "1.2.3.4:5000/web",
            "10.0.0.1/web",
            "web:v1",
            "a1",
        ] {
            assert!(!is_version(text), "{text}");
        }
    }

    #[test]
    fn what_registries_would_refuse_is_refused_here() {
        for text in
            ["", "App", "a//b", "/a", "a/", "a..b", "a___b", "-a", "a-", "reg.example:port/a", "ä", "a b"]
        {
            assert_eq!(text.parse::<Reference>(), Err(ReferenceError::Repository(text.to_owned())), "{text}");
        }
        for text in ["a:", "a:.x", "a:b:c", "a:b c"] {
            assert_eq!(text.parse::<Reference>(), Err(ReferenceError::Tag(text.to_owned())), "{text}");
        }
        let long = format!("a:{}", "x".repeat(129));
        assert_eq!(long.parse::<Reference>(), Err(ReferenceError::Tag(long)));
        let digest = "a@sha256:00";
        assert_eq!(digest.parse::<Reference>(), Err(ReferenceError::Digest(digest.to_owned())));
    }
}
