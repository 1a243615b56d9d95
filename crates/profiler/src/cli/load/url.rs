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
        // A scheme ends before the first slash: any later `://` is the path's or the query's (RFC 3986, 3).
        let scheme = text.split_once("://").filter(|(scheme, _)| !scheme.contains(['/', '?', '#']));
        let rest = match scheme {
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("https") => return Err(UrlError::Https),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some(_) => return Err(UrlError::Form),
            None => text,
        };
        // The fragment is never sent (RFC 9110, 4.2.5).
        let rest = rest.split('#').next().unwrap_or_default();
        let at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(at);
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
            (
                "127.0.0.1:8080/to?url=http://10.0.0.1:1/x",
                Ok(("127.0.0.1:8080", "/to?url=http://10.0.0.1:1/x")),
            ),
            ("http://h/to/http://other/", Ok(("h:80", "/to/http://other/"))),
            ("h?u=https://other/", Ok(("h:80", "/?u=https://other/"))),
            ("HTTP://127.0.0.1:8080/", Ok(("127.0.0.1:8080", "/"))),
            ("http://127.0.0.1:8080#x", Ok(("127.0.0.1:8080", "/"))),
            ("http://h#a?b/c", Ok(("h:80", "/"))),
            ("HTTPS://h/", Err(UrlError::Https)),
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
