//! References to images in registries, as `oci_spec::distribution::Reference` holds them.
//!
//! Filled by hand: oci-spec's parser says only "invalid reference format", accepts digests in upper case and tags in
//! every alphabet, which no registry does, and compiles a regular expression for 190 ms in the profile that xtask is
//! built with. So `fault` knows the grammar, and the place for the caret of [`ReferenceError`]; the tests hold it
//! against oci-spec's.

use std::fmt;

use oci_spec::distribution::Reference;

/// Why a text is not a reference, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferenceError {
    text: String,
    /// In characters.
    at: usize,
    fault: &'static str,
}

impl fmt::Display for ReferenceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { text, at, fault } = self;
        write!(f, "not an image reference: {fault}\n  {text}\n  {:at$}^", "")
    }
}

impl std::error::Error for ReferenceError {}

impl ReferenceError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        "write HOST[:PORT]/REPOSITORY[:TAG][@sha256:DIGEST], such as ghcr.io/team/app:1.2.0"
    }
}

/// Parses a reference: `ghcr.io/team/app:1.2`, `localhost:5000/app@sha256:…`, and Docker Hub's short names.
///
/// # Errors
/// When it is none, with the place of the first fault.
pub fn parse(text: &str) -> Result<Reference, ReferenceError> {
    if let Some((byte, fault)) = fault(text) {
        let at = text.get(..byte).unwrap_or(text).chars().count();
        return Err(ReferenceError { text: text.to_owned(), at, fault });
    }
    let Parts { name, tag, digest } = split(text);
    let (registry, repository) = match name.split_once('/') {
        Some((host, rest)) if is_host(host) => (if host == "index.docker.io" { HUB } else { host }, rest),
        _ => (HUB, name),
    };
    let is_official = registry == HUB && !repository.contains('/');
    let repository = if is_official { format!("library/{repository}") } else { repository.to_owned() };
    let registry = registry.to_owned();
    Ok(match (tag, digest) {
        (Some(tag), Some(digest)) => {
            Reference::with_tag_and_digest(registry, repository, tag.to_owned(), digest.to_owned())
        }
        (None, Some(digest)) => Reference::with_digest(registry, repository, digest.to_owned()),
        (tag, None) => Reference::with_tag(registry, repository, tag.unwrap_or("latest").to_owned()),
    })
}

/// Docker Hub, which names without a host are of.
const HUB: &str = "docker.io";

struct Parts<'a> {
    name: &'a str,
    tag: Option<&'a str>,
    digest: Option<&'a str>,
}

fn split(text: &str) -> Parts<'_> {
    let (tagged, digest) = match text.split_once('@') {
        Some((tagged, digest)) => (tagged, Some(digest)),
        None => (text, None),
    };
    let last = tagged.rfind('/').map_or(0, |slash| slash + 1);
    let (name, tag) = match tagged[last..].find(':') {
        Some(colon) => (&tagged[..last + colon], Some(&tagged[last + colon + 1..])),
        None => (tagged, None),
    };
    Parts { name, tag, digest }
}

/// Whether the first component of several is a host.
fn is_host(component: &str) -> bool {
    component.contains(['.', ':']) || component == "localhost"
}

/// Whether a text can be a tag (distribution-spec, "Pulling manifests").
#[must_use]
pub fn is_tag(text: &str) -> bool {
    !text.is_empty() && text.len() <= 128 && tag_fault(text).is_none()
}

/// Whether a host is this machine, which is spoken to without TLS, as crane and docker do.
#[must_use]
pub fn is_loopback(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name == "localhost" || name.parse().is_ok_and(|address: std::net::Ipv4Addr| address.is_loopback())
}

/// The first fault, and the byte where it is.
fn fault(text: &str) -> Option<(usize, &'static str)> {
    if text.contains("://") {
        return Some((0, "it has no scheme such as https://"));
    }
    let Parts { name, tag, digest } = split(text);
    if name.len() > 255 {
        return Some((255, "a repository has at most 255 characters"));
    }
    let mut at = 0;
    for (position, component) in name.split('/').enumerate() {
        let found = if position == 0 && name.contains('/') && is_host(component) {
            host_fault(component)
        } else {
            component_fault(component)
        };
        if let Some((offset, fault)) = found {
            return Some((at + offset, fault));
        }
        at += component.len() + 1;
    }
    if let Some(tag) = tag {
        let at = name.len() + 1;
        if tag.is_empty() {
            return Some((at, "the tag is empty"));
        }
        if tag.len() > 128 {
            return Some((at, "a tag has at most 128 characters"));
        }
        if let Some(offset) = tag_fault(tag) {
            return Some((
                at + offset,
                "a tag has letters, digits, `_`, `.` and `-`, and begins with none of the last two",
            ));
        }
    }
    let digest = digest?;
    let parsed = digest.parse::<oci_spec::image::Digest>();
    let is_known = parsed.is_ok_and(|digest| digest.algorithm().digest_hexlen().is_some());
    (!is_known)
        .then_some((text.len() - digest.len(), "a digest is `sha256:` and 64 lower-case hexadecimal digits"))
}

fn host_fault(host: &str) -> Option<(usize, &'static str)> {
    let (name, port) = host.split_once(':').unwrap_or((host, "0"));
    if let Some(at) = name.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '.')) {
        return Some((at, "a host name has letters, digits, `-` and `.`"));
    }
    if let Some(at) = name
        .split('.')
        .scan(0, |at, label| Some((std::mem::replace(at, *at + label.len() + 1), label)))
        .find_map(|(at, label)| {
            (label.is_empty() || label.starts_with('-') || label.ends_with('-')).then_some(at)
        })
    {
        return Some((at, "a part of the host name is empty, or begins or ends with `-`"));
    }
    let number = port.parse::<u16>().is_ok() && port.bytes().all(|byte| byte.is_ascii_digit());
    (!number).then_some((name.len() + 1, "a port is a number up to 65535"))
}

fn component_fault(component: &str) -> Option<(usize, &'static str)> {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if component.is_empty() {
        return Some((0, "a component of the repository is empty"));
    }
    if let Some((at, c)) =
        component.char_indices().find(|(_, c)| !is_plain(*c) && !matches!(c, '.' | '_' | '-'))
    {
        let upper = "a repository is lower-case";
        return Some((
            at,
            if c.is_uppercase() { upper } else { "a repository has letters, digits, `.`, `_`, `-` and `/`" },
        ));
    }
    if !component.starts_with(is_plain) {
        return Some((0, "a component of the repository begins with a letter or digit"));
    }
    if !component.ends_with(is_plain) {
        return Some((component.len() - 1, "a component of the repository ends with a letter or digit"));
    }
    // Separators: one `.`, one or two `_`, any number of `-`.
    let doubled = ["..", "._", "_.", "___", ".-", "-.", "_-", "-_"];
    let at = doubled.iter().filter_map(|pair| component.find(pair)).min()?;
    Some((at, "separators in a repository stand alone"))
}

fn tag_fault(tag: &str) -> Option<usize> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if tag.starts_with(['.', '-']) { Some(0) } else { tag.find(|c| !allowed(c)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_name_registry_repository_tag_and_digest() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        for (text, whole) in [
            ("app", "docker.io/library/app:latest".to_owned()),
            ("team/app:1.2", "docker.io/team/app:1.2".to_owned()),
            ("ghcr.io/team/app", "ghcr.io/team/app:latest".to_owned()),
            ("localhost:5000/a/b__c/d--e:x_Y.z-1", "localhost:5000/a/b__c/d--e:x_Y.z-1".to_owned()),
            (&format!("GHCR.io/app:1@{digest}"), format!("GHCR.io/app:1@{digest}")),
        ] {
            assert_eq!(parse(text).unwrap().whole(), whole);
        }
    }

    #[test]
    fn a_caret_stands_under_the_first_fault() {
        let upper = format!("a@sha256:{}", "0A".repeat(32));
        let long = format!("app:{}", "x".repeat(129));
        for (text, at, fault) in [
            ("", 0, "a component of the repository is empty"),
            ("https://ghcr.io/app", 0, "it has no scheme such as https://"),
            ("ghcr.io/Team/app", 8, "a repository is lower-case"),
            ("ghcr.io/tëam/app", 9, "a repository has letters, digits, `.`, `_`, `-` and `/`"),
            ("ghcr.io//app", 8, "a component of the repository is empty"),
            ("ghcr.io/app/", 12, "a component of the repository is empty"),
            ("ghcr.io/-app", 8, "a component of the repository begins with a letter or digit"),
            ("ghcr.io/app.:1", 11, "a component of the repository ends with a letter or digit"),
            ("ghcr.io/a..b", 9, "separators in a repository stand alone"),
            ("gh_cr.io/app", 2, "a host name has letters, digits, `-` and `.`"),
            ("ghcr.-x/app", 5, "a part of the host name is empty, or begins or ends with `-`"),
            ("localhost:port/app", 10, "a port is a number up to 65535"),
            ("localhost:70000/app", 10, "a port is a number up to 65535"),
            ("app:", 4, "the tag is empty"),
            (
                "app:-1",
                4,
                "a tag has letters, digits, `_`, `.` and `-`, and begins with none of the last two",
            ),
            (
                "app:1+2",
                5,
                "a tag has letters, digits, `_`, `.` and `-`, and begins with none of the last two",
            ),
            (&long, 4, "a tag has at most 128 characters"),
            ("app@md5:00", 4, "a digest is `sha256:` and 64 lower-case hexadecimal digits"),
            (&upper, 2, "a digest is `sha256:` and 64 lower-case hexadecimal digits"),
        ] {
            assert_eq!(parse(text), Err(ReferenceError { text: text.to_owned(), at, fault }), "{text}");
        }
        let shown = "not an image reference: a repository is lower-case\n  ghcr.io/Team/app\n          ^";
        assert_eq!(parse("ghcr.io/Team/app").unwrap_err().to_string(), shown);
    }

    #[test]
    fn oci_spec_reads_every_text_in_the_same_way_in_which_no_fault_is_found() {
        let alphabet = ['a', 'A', '0', '.', '_', '-', '/', ':', 'é'];
        let mut texts = vec![String::new()];
        for _ in 0..5 {
            texts = texts.iter().flat_map(|text| alphabet.map(|c| format!("{text}{c}"))).collect();
            for text in &texts {
                if let Ok(reference) = parse(text) {
                    assert_eq!(text.parse(), Ok(reference), "{text}");
                }
            }
        }
    }

    #[test]
    fn only_this_machine_is_spoken_to_without_tls() {
        for (host, expected) in [
            ("localhost", true),
            ("localhost:5000", true),
            ("127.0.0.1:5000", true),
            ("127.8.9.1", true),
            ("localhost.example", false),
            ("128.0.0.1:80", false),
            ("ghcr.io", false),
        ] {
            assert_eq!(is_loopback(host), expected, "{host}");
        }
    }
}
