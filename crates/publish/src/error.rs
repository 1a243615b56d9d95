//! What goes wrong between this machine and a registry.

use std::path::PathBuf;

use serde::Deserialize;
use tare_oci::reader::ReadError;

use crate::reference::ReferenceError;

/// An exchange with a registry that failed, or an image that cannot be published.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The registry, or its token server, answered with an error.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// No complete answer came.
    #[error("{request} failed")]
    Exchange {
        /// Method and URL, without the query.
        request: String,
        /// Why.
        source: ureq::Error,
    },
    /// The registry answered what it must not, or not at all what it holds.
    #[error("{0}")]
    Registry(String),
    /// A reference cannot be parsed.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// The image cannot be read.
    #[error(transparent)]
    Image(#[from] ReadError),
    /// The image or an argument is not what it should be.
    #[error("{0}")]
    Input(String),
    /// The profile forbids it.
    #[error("{0}")]
    Gates(String),
    /// A file cannot be read or written.
    #[error("cannot {operation} {path}", path = path.display())]
    File {
        /// `read`, `write` and the like.
        operation: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// An answer with an error status, and what the registry said of it (distribution-spec, "Error Codes").
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{request} was refused: {status}{}{}", if said.is_empty() { "" } else { " " }, said)]
pub struct Refusal {
    /// Method and URL, without the query.
    pub request: String,
    /// The HTTP status.
    pub status: u16,
    /// Codes and messages, as the registry wrote them.
    pub said: String,
}

#[derive(Deserialize)]
struct Answer {
    errors: Vec<AnswerError>,
}

#[derive(Deserialize)]
struct AnswerError {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl Refusal {
    /// Reads the registry's words from the body, which may be anything.
    pub(crate) fn new(request: String, status: u16, body: &[u8]) -> Self {
        let said = match serde_json::from_slice(body) {
            Ok(Answer { errors }) => {
                let lines = errors.iter().map(|error| {
                    let AnswerError { code, message } = error;
                    if message.is_empty() { code.clone() } else { format!("{code}: {message}") }
                });
                lines.collect::<Vec<_>>().join("; ")
            }
            // A page of a proxy, or nothing.
            Err(_) => String::new(),
        };
        Self { request, status, said: said.chars().filter(|c| !c.is_control()).take(500).collect() }
    }

    /// Whether the same request may succeed later (RFC 9110, 15.6; RFC 6585, 4).
    pub(crate) fn is_transient(&self) -> bool {
        matches!(self.status, 408 | 429 | 500..=599) && self.status != 501
    }

    fn is_from(&self, host: &str) -> bool {
        self.request.contains(&format!("://{host}/"))
    }
}

impl Error {
    /// The status of a refusal.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused(refusal) => Some(refusal.status),
            _ => None,
        }
    }

    /// Whether the same request may succeed later.
    pub(crate) fn is_transient(&self) -> bool {
        use std::io::ErrorKind;
        match self {
            Self::Refused(refusal) => refusal.is_transient(),
            Self::Exchange { source, .. } if is_unknown_host(source) => false,
            Self::Exchange { source: ureq::Error::Io(error), .. } => !matches!(
                error.kind(),
                // InvalidData: rustls found something wrong with the other side.
                ErrorKind::ConnectionRefused | ErrorKind::InvalidData | ErrorKind::InvalidInput
            ),
            Self::Exchange { source, .. } => matches!(
                source,
                ureq::Error::Timeout(_) | ureq::Error::ConnectionFailed | ureq::Error::Protocol(_)
            ),
            _ => false,
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Refused(refusal) => refusal_hint(refusal),
            Self::Exchange { source, .. } => {
                let text = source.to_string();
                let hint = if text.contains("UnknownIssuer") || text.contains("certificate") {
                    "a private certificate authority is named with --ca-file FILE"
                } else if text.contains("InvalidContentType") || text.contains("corrupt message") {
                    "a registry without TLS is named with --plain-http HOST"
                } else if matches!(source, ureq::Error::ConnectProxyFailed(_)) {
                    "this is the answer of the proxy that HTTPS_PROXY or HTTP_PROXY names; NO_PROXY lists hosts that are \
                     reached directly"
                } else if is_unknown_host(source) {
                    "the first part of a reference is the registry's host: is it spelt correctly?"
                } else {
                    return None;
                };
                Some(hint.to_owned())
            }
            Self::Gates(_) => Some(format!(
                "run `{} profile`, or name its reports with --report FILE; --allow-failed-gates overrides",
                tare_tool::environment::command()
            )),
            Self::Image(error) => error.hint().map(str::to_owned),
            Self::Reference(error) => Some(error.hint().to_owned()),
            Self::File { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                Some("free some space; what was there before is unchanged".to_owned())
            }
            _ => None,
        }
    }
}

/// std has no kind for what getaddrinfo(3) says.
fn is_unknown_host(error: &ureq::Error) -> bool {
    matches!(error, ureq::Error::HostNotFound) || error.to_string().contains("failed to lookup address")
}

fn refusal_hint(refusal: &Refusal) -> Option<String> {
    // What GHCR answers does not tell these apart.
    if refusal.is_from("ghcr.io") && matches!(refusal.status, 401 | 403) {
        return Some(
            "ghcr.io does not say which of these it is: \
             (1) no login: set GITHUB_TOKEN, or `docker login ghcr.io` with a token that has write:packages; \
             (2) in a workflow, `permissions: packages: write` is missing; \
             (3) the package exists and is not linked to this repository: add it under `Manage Actions access` in the \
             package's settings, or set the label org.opencontainers.image.source; \
             (4) the organisation forbids it: allow package creation in its settings, or authorise the token for SSO"
                .to_owned(),
        );
    }
    let hint = match refusal.status {
        401 => "log in with `docker login` or `podman login`, or give --username NAME --password-stdin",
        403 => "the account that is logged in may not do this with the repository",
        404 => "the registry does not know the repository, or hides it from this account",
        413 => "a proxy before the registry limits the size of requests",
        429 => "the registry limits the number of requests: try again later",
        _ => return None,
    };
    Some(hint.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_repeats_what_the_registry_said() {
        let body = br#"{"errors":[{"code":"DENIED","message":"no\nwrite","detail":{}},{"code":"UNKNOWN"}]}"#;
        let refusal = Refusal::new("PUT https://ghcr.io/v2/a/manifests/1".to_owned(), 403, body);
        let text = "PUT https://ghcr.io/v2/a/manifests/1 was refused: 403 DENIED: nowrite; UNKNOWN";
        assert_eq!(refusal.to_string(), text);
        let hint = Error::from(refusal).hint().unwrap();
        for cause in ["(1) no login", "(2) in a workflow", "(3) the package exists", "(4) the organisation"] {
            assert!(hint.contains(cause), "{hint}");
        }
        let page = Refusal::new("GET https://quay.io/v2/".to_owned(), 502, b"<html>");
        assert_eq!(page.to_string(), "GET https://quay.io/v2/ was refused: 502");
        assert!(page.is_transient());
    }

    #[test]
    fn a_full_disk_has_a_hint() {
        let error = |kind: std::io::ErrorKind| Error::File {
            operation: "write",
            path: "layout.partial/x".into(),
            source: kind.into(),
        };
        let hint = error(std::io::ErrorKind::StorageFull).hint();
        assert_eq!(hint.as_deref(), Some("free some space; what was there before is unchanged"));
        assert_eq!(error(std::io::ErrorKind::NotFound).hint(), None);
    }
}
