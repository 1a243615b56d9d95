//! Answers, and how they are written.

use std::sync::Arc;

use crate::date::IMF_FIXDATE;

/// The media type of bytes that are nothing in particular.
pub const OCTETS: &str = "application/octet-stream";
const PLAIN: &str = "text/plain; charset=utf-8";

/// An answer, but for what the engine adds: its date, its length, and what becomes of the connection.
#[derive(Debug, Clone)]
pub struct Response {
    /// Its status. One that is not of [`STATUSES`](crate::STATUSES) is sent without a reason phrase and not
    /// counted.
    pub status: u16,
    /// `Content-Type`; empty for none.
    pub content_type: &'static str,
    /// Other fields, as they are sent: none of them may hold CR or LF. They are few and short: half a KiB of them
    /// is what a buffer keeps free.
    pub fields: Vec<(&'static str, String)>,
    /// Its body, which is not sent to HEAD nor with a 304.
    pub body: Body,
}

/// The body of an answer.
#[derive(Debug, Clone)]
pub enum Body {
    /// Bytes of the program.
    Static(&'static [u8]),
    /// Bytes made for this answer.
    Owned(Vec<u8>),
    /// Bytes of many answers.
    Shared(Arc<[u8]>),
}

impl Body {
    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Static(bytes) => bytes,
            Self::Owned(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

impl Response {
    /// Plain text.
    #[must_use]
    pub fn text(status: u16, body: &'static str) -> Self {
        let body = Body::Static(body.as_bytes());
        Self { status, content_type: PLAIN, fields: Vec::new(), body }
    }

    /// The same with a field more.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }
}

/// What follows about the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Persistence {
    /// It stays open, as HTTP/1.1 has it by default.
    Default,
    /// It stays open, and an HTTP/1.0 client has to be told.
    KeepAlive,
    /// It ends.
    Close,
}

/// The reason phrase of a status.
pub(crate) fn reason(status: u16) -> &'static str {
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
pub struct Prepared {
    /// Up to and with `Date: `.
    head: Box<[u8]>,
    /// That of the response, without the choice where it lies.
    body: Box<[u8]>,
    response: Response,
}

impl Prepared {
    /// Prepares an answer.
    #[must_use]
    pub fn new(response: Response) -> Self {
        let mut head = Vec::new();
        before_date(&mut head, &response, Some(response.body.bytes().len() as u64));
        Self { head: head.into(), body: response.body.bytes().into(), response }
    }

    pub(crate) fn response(&self) -> &Response {
        &self.response
    }

    pub(crate) fn status(&self) -> u16 {
        self.response.status
    }

    /// The most bytes that it takes.
    pub(crate) fn room(&self) -> usize {
        self.head.len() + AFTER_HEAD + self.body.len()
    }

    // For every answer that is always the same.
    #[inline(always)]
    pub(crate) fn write(
        &self,
        out: &mut Vec<u8>,
        date: &[u8; IMF_FIXDATE],
        persistence: Persistence,
        with_body: bool,
    ) {
        out.extend_from_slice(&self.head);
        after_date(out, date, persistence);
        if with_body {
            out.extend_from_slice(&self.body);
        }
    }
}

/// The most bytes that [`after_date`] writes.
pub(crate) const AFTER_HEAD: usize = 64;

/// Writes a head whose body has `length` bytes, or comes in chunks.
pub(crate) fn write_head(
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

// Written for every answer.
#[inline]
fn after_date(out: &mut Vec<u8>, date: &[u8; IMF_FIXDATE], persistence: Persistence) {
    out.extend_from_slice(date);
    out.extend_from_slice(match persistence {
        Persistence::Default => b"\r\n\r\n",
        Persistence::KeepAlive => b"\r\nConnection: keep-alive\r\n\r\n",
        Persistence::Close => b"\r\nConnection: close\r\n\r\n",
    });
}
