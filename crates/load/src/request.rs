//! The bytes of a request of HTTP/1.1 (RFC 9112, 3).

use super::plan::Request;

/// The bytes of a request of HTTP/1.1 to `HOST:PORT`. Without `keep_alive` it asks the server to close the connection.
#[must_use]
pub fn request_bytes(address: &str, request: &Request, keep_alive: bool) -> Vec<u8> {
    let mut bytes = format!("{} {} HTTP/1.1\r\n", request.method, request.path);
    if !request.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        bytes += &format!("host: {}\r\n", authority(address));
    }
    for (name, value) in &request.headers {
        bytes += &format!("{name}: {value}\r\n");
    }
    if !request.body.0.is_empty() || matches!(request.method.as_str(), "POST" | "PUT" | "PATCH") {
        bytes += &format!("content-length: {}\r\n", request.body.0.len());
    }
    if !keep_alive {
        bytes += "connection: close\r\n";
    }
    bytes += "\r\n";
    [bytes.as_bytes(), &request.body.0].concat()
}

/// The authority of `HOST:PORT`: without the port of the scheme (RFC 9110, 4.2.3), by which servers find no site.
pub(crate) fn authority(address: &str) -> &str {
    address.strip_suffix(":80").unwrap_or(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_without_the_port_of_the_scheme() {
        for (address, host) in [
            ("localhost:80", "localhost"),
            ("localhost:8080", "localhost:8080"),
            ("localhost:180", "localhost:180"),
            ("[::1]:80", "[::1]"),
        ] {
            let text = String::from_utf8(request_bytes(address, &Request::get("/"), true)).unwrap();
            assert_eq!(text, format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n"));
        }
        let mut named = Request::get("/");
        named.headers = vec![("Host".to_owned(), "shop.example:80".to_owned())];
        let text = String::from_utf8(request_bytes("localhost:80", &named, false)).unwrap();
        assert_eq!(text, "GET / HTTP/1.1\r\nHost: shop.example:80\r\nconnection: close\r\n\r\n");
    }
}
