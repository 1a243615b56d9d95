//! The URL of a server: `http://HOST[:PORT][/PATH]`, and nothing else that URLs may have.

use std::str::FromStr;

/// Where and what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Url {
    /// `host:port`.
    pub(super) address: String,
    /// Path and query.
    pub(super) path: String,
}

/// Why it is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum UrlError {
    #[error(
        "https is not spoken: what is measured is a server, not its TLS; ask it by http, without a proxy"
    )]
    Https,
    #[error("write it as http://HOST:PORT/PATH")]
    Form,
    #[error("`{0}` is not a port")]
    Port(String),
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        if text.starts_with("https://") {
            return Err(UrlError::Https);
        }
        let rest = match text.split_once("://") {
            Some(("http", rest)) => rest,
            Some(_) => return Err(UrlError::Form),
            None => text,
        };
        let at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(at);
        let path = path.split('#').next().unwrap_or_default();
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        // The colons of an IPv6 address stand in brackets.
        let end = authority.rfind(']').map_or(0, |at| at + 1);
        let (host, port) = match authority[end..].rfind(':') {
            Some(at) => (&authority[..end + at], &authority[end + at + 1..]),
            None => (authority, "80"),
        };
        if host.is_empty() || host.contains(['@', ' ']) || (end == 0 && host.contains(':')) {
            return Err(UrlError::Form);
        }
        let number: u16 = port.parse().map_err(|_| UrlError::Port(port.to_owned()))?;
        Ok(Self { address: format!("{host}:{number}"), path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_url_is_an_address_and_a_path() {
        let cases = [
            ("http://localhost", Ok(("localhost:80", "/"))),
            ("http://localhost:8080/a?b=c#d", Ok(("localhost:8080", "/a?b=c"))),
            ("127.0.0.1:8080", Ok(("127.0.0.1:8080", "/"))),
            ("http://[::1]:80/x", Ok(("[::1]:80", "/x"))),
            ("http://[::1]", Ok(("[::1]:80", "/"))),
            ("http://h?q", Ok(("h:80", "/?q"))),
            ("https://h/", Err(UrlError::Https)),
            ("ftp://h/", Err(UrlError::Form)),
            ("http:///x", Err(UrlError::Form)),
            ("http://user@h/", Err(UrlError::Form)),
            ("http://::1/", Err(UrlError::Form)),
            ("http://h:99999/", Err(UrlError::Port("99999".to_owned()))),
        ];
        for (text, expected) in cases {
            let expected =
                expected.map(|(address, path)| Url { address: address.to_owned(), path: path.to_owned() });
            assert_eq!(text.parse::<Url>(), expected, "{text}");
        }
    }
}
