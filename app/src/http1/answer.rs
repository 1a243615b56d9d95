//! Answers as bytes.

use crate::date::IMF_FIXDATE;
use crate::service::{Body, Response};

/// What follows about the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Persistence {
    /// It stays open, as HTTP/1.1 has it by default.
    Default,
    /// It stays open, and an HTTP/1.0 client has to be told.
    KeepAlive,
    /// It ends.
    Close,
}

/// The reason phrase of a status.
pub(super) fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        304 => "Not Modified",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

/// An answer that is always the same but for its date and its last field: made once, copied for each request.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// Up to and with `Date: `.
    head: Box<[u8]>,
    body: &'static [u8],
    pub(crate) status: u16,
}

impl Prepared {
    pub(crate) fn new(response: &Response) -> Self {
        let body = match response.body {
            Body::Static(body) => body,
            _ => b"",
        };
        let mut head = Vec::new();
        before_date(&mut head, response, Some(body.len() as u64));
        Self { head: head.into(), body, status: response.status }
    }

    /// The most bytes that it takes.
    pub(super) fn room(&self) -> usize {
        self.head.len() + AFTER_HEAD + self.body.len()
    }

    pub(super) fn write(
        &self,
        out: &mut Vec<u8>,
        date: &[u8; IMF_FIXDATE],
        persistence: Persistence,
        with_body: bool,
    ) {
        out.extend_from_slice(&self.head);
        after_date(out, date, persistence);
        if with_body {
            out.extend_from_slice(self.body);
        }
    }
}

/// The most bytes that [`after_date`] writes.
pub(super) const AFTER_HEAD: usize = 64;

/// Writes a head whose body has `length` bytes, or comes in chunks.
pub(super) fn write_head(
    out: &mut Vec<u8>,
    response: &Response,
    length: Option<u64>,
    date: &[u8; IMF_FIXDATE],
    persistence: Persistence,
) {
    before_date(out, response, length);
    after_date(out, date, persistence);
}

fn before_date(out: &mut Vec<u8>, response: &Response, length: Option<u64>) {
    // RFC 9110, 6.2: the version is that of the server, whatever the client's.
    let status = response.status;
    out.extend_from_slice(format!("HTTP/1.1 {status} {}\r\n", reason(status)).as_bytes());
    let mut field = |name: &str, value: &str| {
        for part in [name, ": ", value, "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
    };
    if !response.content_type.is_empty() {
        field("Content-Type", response.content_type);
    }
    for (name, value) in &response.fields {
        field(name, value);
    }
    match length {
        // A 304 has no body, and a length would be that of another answer (RFC 9110, 8.6).
        _ if status == 304 => {}
        Some(length) => field("Content-Length", &length.to_string()),
        None => field("Transfer-Encoding", "chunked"),
    }
    out.extend_from_slice(b"Date: ");
}

fn after_date(out: &mut Vec<u8>, date: &[u8; IMF_FIXDATE], persistence: Persistence) {
    out.extend_from_slice(date);
    out.extend_from_slice(match persistence {
        Persistence::Default => b"\r\n\r\n",
        Persistence::KeepAlive => b"\r\nConnection: keep-alive\r\n\r\n",
        Persistence::Close => b"\r\nConnection: close\r\n\r\n",
    });
}
