//! The head of a request, read strictly. Pure: bytes go in.
//!
//! httparse splits it. What decides where a request ends is checked here and nowhere lenient, because a
//! proxy in front that reads it otherwise can be made to smuggle requests: RFC 9112, 11.2.

use std::mem::MaybeUninit;

use httparse::{Error, Header, Request, Status};

/// Field lines of one head. More are answered 431.
const MOST_FIELDS: usize = 100;

/// A request, but for its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head<'a> {
    /// The method, which is case-sensitive.
    pub method: &'a str,
    /// The path of the target, without its query; `*` for `OPTIONS *`.
    pub path: &'a str,
    /// Whether it is HTTP/1.1 rather than 1.0.
    pub http_1_1: bool,
    /// Where its body ends.
    pub framing: Framing,
    /// Whether the client can go on with this connection.
    pub keep_alive: bool,
    /// Whether it waits to be told to send the body.
    pub expects_continue: bool,
    /// `Accept-Encoding`, if there is exactly one.
    pub accept_encoding: Option<&'a [u8]>,
    /// `If-None-Match`, if there is exactly one.
    pub if_none_match: Option<&'a [u8]>,
}

/// Where a body ends (RFC 9112, 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// After so many bytes; 0 where there is none.
    Length(u64),
    /// With its last chunk.
    Chunked,
}

/// Why a request is not served. The connection cannot go on after any of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// 400
    BadRequest,
    /// 408
    Timeout,
    /// 413
    BodyTooLarge,
    /// 414
    TargetTooLong,
    /// 417
    Expectation,
    /// 431
    HeadTooLarge,
    /// 501
    NotImplemented,
    /// 503
    Overloaded,
    /// 505
    Version,
}

impl Refusal {
    /// Its status.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Timeout => 408,
            Self::BodyTooLarge => 413,
            Self::TargetTooLong => 414,
            Self::Expectation => 417,
            Self::HeadTooLarge => 431,
            Self::NotImplemented => 501,
            Self::Overloaded => 503,
            Self::Version => 505,
        }
    }
}

/// Reads the head that `input` begins with: it and its length, or none while it is not whole.
///
/// # Errors
/// With what it is answered when it is no request, or too long.
pub fn parse(input: &[u8], limit: usize) -> Result<Option<(Head<'_>, usize)>, Refusal> {
    // "A server that is expecting to receive and parse a request-line SHOULD ignore at least one empty line
    // (CRLF) received prior to the request-line": RFC 9112, 2.2. One it is.
    let skipped = match input {
        // It may not be whole yet.
        b"\r" => return Ok(None),
        [b'\r', b'\n', ..] => 2,
        _ => 0,
    };
    let head = &input[skipped..];
    if head.first().is_some_and(|byte| !is_token(*byte)) {
        return Err(Refusal::BadRequest);
    }
    let mut fields = [const { MaybeUninit::uninit() }; MOST_FIELDS];
    let mut request = Request::new(&mut []);
    let status = request.parse_with_uninit_headers(head, &mut fields);
    let length = match status {
        Ok(Status::Complete(length)) if length <= limit => length,
        Ok(Status::Partial) if head.len() <= limit => return Ok(None),
        Ok(_) => return Err(too_long(head, limit)),
        Err(Error::TooManyHeaders) => return Err(Refusal::HeadTooLarge),
        Err(Error::Version) if names_a_version(head) => return Err(Refusal::Version),
        // Which version it is, the end of a line that may still be on its way tells.
        Err(Error::Version) if head.len() <= limit && !head.contains(&b'\n') => return Ok(None),
        Err(_) => return Err(Refusal::BadRequest),
    };
    let head = &head[..length];
    if !lines_end_with_crlf(head, request.headers) {
        return Err(Refusal::BadRequest);
    }
    let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
        return Err(Refusal::BadRequest);
    };
    let read = interpret(method, target, version == 1, request.headers)?;
    Ok(Some((read, skipped + length)))
}

/// 414 when the first line alone is longer than the whole head may be.
fn too_long(head: &[u8], limit: usize) -> Refusal {
    let line = &head[..head.len().min(limit)];
    if line.contains(&b'\n') { Refusal::HeadTooLarge } else { Refusal::TargetTooLong }
}

/// `HTTP/DIGIT.DIGIT` as the third word of the first line: a version that exists, and is not served.
fn names_a_version(head: &[u8]) -> bool {
    // Only a whole line names one: `HTTP/2.0` may go on.
    let Some(line) = head.iter().position(|byte| *byte == b'\r').map(|end| &head[..end]) else {
        return false;
    };
    let mut words = line.splitn(3, |byte| *byte == b' ').skip(2);
    matches!(words.next(), Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor])
        if major.is_ascii_digit() && minor.is_ascii_digit())
}

/// httparse takes a bare LF for the end of a line. A line that begins elsewhere than a proxy thinks is how
/// fields are smuggled, so it is not taken here.
fn lines_end_with_crlf(head: &[u8], fields: &[Header<'_>]) -> bool {
    let ends_before = |field: &Header<'_>| {
        // Where the name stands in the head: both are slices of the same buffer.
        let at = (field.name.as_ptr() as usize).wrapping_sub(head.as_ptr() as usize);
        at.checked_sub(2).and_then(|at| head.get(at)) == Some(&b'\r')
    };
    head.ends_with(b"\r\n\r\n") && fields.iter().all(ends_before)
}

fn interpret<'a>(
    method: &'a str,
    target: &'a str,
    http_1_1: bool,
    fields: &[Header<'a>],
) -> Result<Head<'a>, Refusal> {
    let mut hosts = 0;
    let mut length = None;
    let mut codings = Codings::None;
    let (mut close, mut keep_alive) = (false, false);
    let mut expects_continue = false;
    let mut accept_encoding = Once::default();
    let mut if_none_match = Once::default();
    for Header { name, value } in fields {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        // The length first: most fields are of none of these.
        match name.len() {
            4 if is("host") => {
                if !is_host(value) {
                    return Err(Refusal::BadRequest);
                }
                hosts += 1;
            }
            6 if is("expect") => {
                // RFC 9110, 10.1.1: an expectation that is not known may be answered 417.
                if !value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(Refusal::Expectation);
                }
                expects_continue = http_1_1;
            }
            10 if is("connection") => {
                for option in list(value) {
                    close |= option.eq_ignore_ascii_case(b"close");
                    keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            13 if is("if-none-match") => if_none_match.add(value),
            14 if is("content-length") => {
                // A second one is an error even if it says the same (RFC 9112, 6.3 leaves the choice).
                if length.is_some() {
                    return Err(Refusal::BadRequest);
                }
                length = Some(content_length(value).ok_or(Refusal::BadRequest)?);
            }
            15 if is("accept-encoding") => accept_encoding.add(value),
            17 if is("transfer-encoding") => {
                // A field without any coding is no way to say that there is none.
                if list(value).next().is_none() {
                    return Err(Refusal::BadRequest);
                }
                codings = list(value).fold(codings, Codings::and);
            }
            _ => {}
        }
    }
    // RFC 9112, 3.2: 1.1 without a Host field, or any request with two.
    if hosts > 1 || (http_1_1 && hosts == 0) {
        return Err(Refusal::BadRequest);
    }
    let framing = match (codings, length) {
        (Codings::None, length) => Framing::Length(length.unwrap_or(0)),
        // RFC 9112, 6.1: with a length beside it, or from HTTP/1.0, the framing is faulty.
        (_, Some(_)) => return Err(Refusal::BadRequest),
        _ if !http_1_1 => return Err(Refusal::BadRequest),
        (Codings::Chunked, None) => Framing::Chunked,
        (Codings::Unknown, None) => return Err(Refusal::NotImplemented),
        (Codings::Faulty, None) => return Err(Refusal::BadRequest),
    };
    Ok(Head {
        method,
        path: path(method, target)?,
        http_1_1,
        framing,
        keep_alive: !close && (http_1_1 || keep_alive),
        expects_continue: expects_continue && framing != Framing::Length(0),
        accept_encoding: accept_encoding.value(),
        if_none_match: if_none_match.value(),
    })
}

/// A field that counts only if it is there once.
#[derive(Default)]
struct Once<'a> {
    value: Option<&'a [u8]>,
    times: usize,
}

impl<'a> Once<'a> {
    fn add(&mut self, value: &'a [u8]) {
        self.value = Some(value);
        self.times += 1;
    }

    fn value(self) -> Option<&'a [u8]> {
        self.value.filter(|_| self.times == 1)
    }
}

/// What the transfer codings of a request amount to (RFC 9112, 6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Codings {
    None,
    /// `chunked` and nothing else.
    Chunked,
    /// One that is not known, and as far as seen `chunked` may still come last.
    Unknown,
    /// Something after `chunked`: where the body ends cannot be told.
    Faulty,
}

impl Codings {
    fn and(self, coding: &[u8]) -> Self {
        match (self, coding.eq_ignore_ascii_case(b"chunked")) {
            (Self::None, true) => Self::Chunked,
            (Self::None, false) => Self::Unknown,
            // `gzip, chunked` is framed well, and not understood.
            (Self::Unknown, _) => Self::Unknown,
            (Self::Chunked | Self::Faulty, _) => Self::Faulty,
        }
    }
}

/// The elements of a comma-separated list, of which empty ones do not count (RFC 9110, 5.6.1).
fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

/// `1*DIGIT` and nothing else.
fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// Which bytes a `reg-name` may hold as they are: unreserved and sub-delims (RFC 3986, 3.2.2). A table, because
/// every request has a host.
const IN_NAME: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < table.len() {
        table[byte] = matches!(byte as u8,
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' | b'_' | b'~'
            | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=');
        byte += 1;
    }
    table
};

/// `uri-host [ ":" port ]`, which may be empty (RFC 9110, 7.2).
fn is_host(value: &[u8]) -> bool {
    let mut rest = value;
    loop {
        let other = rest.iter().position(|byte| !IN_NAME[usize::from(*byte)]).unwrap_or(rest.len());
        rest = match &rest[other..] {
            [] => return true,
            [b':', port @ ..] => return port.iter().all(u8::is_ascii_digit),
            [b'%', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => rest,
            [b'[', address @ ..] if address.len() + 1 == value.len() => return is_ip_literal(address),
            _ => return false,
        };
    }
}

/// The same behind a `[`: an address of IPv6, and what may follow it.
fn is_ip_literal(value: &[u8]) -> bool {
    let is_address = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
    let end = value.iter().position(|byte| !is_address(byte)).unwrap_or(value.len());
    match &value[end..] {
        _ if end == 0 => false,
        [b']'] => true,
        [b']', b':', port @ ..] => port.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

/// The path of a target in one of its four forms (RFC 9112, 3.2).
fn path<'a>(method: &str, target: &'a str) -> Result<&'a str, Refusal> {
    // What browsers do not send as it is either. A fragment is never sent.
    let is_uri = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'#' | b'"' | b'<' | b'>' | b'\\');
    if !target.bytes().all(is_uri) {
        return Err(Refusal::BadRequest);
    }
    if method == "CONNECT" {
        // Its target is an authority. This is no proxy.
        return Err(Refusal::NotImplemented);
    }
    if target.starts_with('/') {
        return Ok(without_query(target));
    }
    if target == "*" && method == "OPTIONS" {
        return Ok(target);
    }
    let rest = ["http://", "https://"].into_iter().find_map(|scheme| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    });
    let rest = rest.ok_or(Refusal::BadRequest)?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    if authority.is_empty() || authority.starts_with(':') || !is_host(authority.as_bytes()) {
        return Err(Refusal::BadRequest);
    }
    // An empty path is that of the root, but for OPTIONS, for which it is `*` (RFC 9112, 3.2.4).
    match without_query(rest) {
        "" if method == "OPTIONS" && rest.is_empty() => Ok("*"),
        "" => Ok("/"),
        path => Ok(path),
    }
}

fn without_query(target: &str) -> &str {
    let end = target.bytes().position(|byte| byte == b'?');
    end.map_or(target, |end| &target[..end])
}

/// `tchar` (RFC 9110, 5.6.2).
pub(crate) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(head: &str) -> Result<Option<Head<'_>>, Refusal> {
        parse(head.as_bytes(), 1024).map(|found| found.map(|(head, _)| head))
    }

    #[test]
    fn head_is_whole_with_its_empty_line_and_not_before() {
        // With the empty line that may come before it, and without.
        for before in ["", "\r\n"] {
            let text = format!("{before}GET /a?b HTTP/1.1\r\nHost: x\r\n\r\nGET ");
            let text = text.as_bytes();
            let whole = text.len() - 4;
            for end in 0..whole {
                assert_eq!(parse(&text[..end], 1024), Ok(None), "{before:?} {end}");
            }
            let (head, length) = parse(text, 1024).unwrap().unwrap();
            assert_eq!((head.method, head.path, head.keep_alive, length), ("GET", "/a", true, whole));
        }
    }

    #[test]
    fn target_in_each_form_has_its_path() {
        for (line, expected) in [
            ("GET /", Ok("/")),
            ("GET /a%20b?c=d/e", Ok("/a%20b")),
            ("GET /?a|b{c}", Ok("/")),
            ("GET http://x", Ok("/")),
            ("GET HTTP://x:80/a?b", Ok("/a")),
            ("GET http://x?b", Ok("/")),
            ("GET http://[::1]:8/a", Ok("/a")),
            ("OPTIONS *", Ok("*")),
            ("OPTIONS http://x", Ok("*")),
            ("GET *", Err(Refusal::BadRequest)),
            ("GET a", Err(Refusal::BadRequest)),
            ("GET ftp://x/", Err(Refusal::BadRequest)),
            ("GET http:///a", Err(Refusal::BadRequest)),
            ("GET http://u@x/", Err(Refusal::BadRequest)),
            ("GET /#a", Err(Refusal::BadRequest)),
            ("CONNECT x:443", Err(Refusal::NotImplemented)),
        ] {
            let head = format!("{line} HTTP/1.1\r\nHost: x\r\n\r\n");
            assert_eq!(read(&head).map(|head| head.unwrap().path), expected, "{line}");
        }
    }

    #[test]
    fn host_is_a_name_or_an_address_with_or_without_a_port() {
        for (host, expected) in [
            ("", true),
            ("example.com", true),
            ("example.com:80", true),
            ("example.com:", true),
            ("127.0.0.1:1", true),
            ("[::1]", true),
            ("[::1]:1", true),
            ("a b", false),
            ("a/b", false),
            ("a@b", false),
            ("a:b", false),
            ("a:1:2", false),
            ("a%2Db", true),
            ("a%", false),
            ("a%2", false),
            ("%2g", false),
            ("%%41", false),
            ("[::1", false),
            ("[]", false),
            ("[::1]1", false),
        ] {
            assert_eq!(is_host(host.as_bytes()), expected, "{host:?}");
        }
    }

    #[test]
    fn connection_goes_on_by_default_since_1_1() {
        for (version, field, expected) in [
            ("1.1", "", true),
            ("1.1", "Connection: close\r\n", false),
            ("1.1", "Connection: upgrade, Close\r\n", false),
            ("1.1", "Connection: keep-alive\r\nConnection: close\r\n", false),
            ("1.0", "", false),
            ("1.0", "Connection: Keep-Alive\r\n", true),
        ] {
            let head = format!("GET / HTTP/{version}\r\nHost: x\r\n{field}\r\n");
            assert_eq!(read(&head).map(|head| head.unwrap().keep_alive), Ok(expected), "{head:?}");
        }
    }

    #[test]
    fn too_long_is_the_target_or_the_head() {
        let long = "a".repeat(2000);
        for (head, expected) in [
            (format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n"), Refusal::TargetTooLong),
            (format!("GET /{long}"), Refusal::TargetTooLong),
            (format!("GET / HTTP/1.1\r\nHost: x\r\nA: {long}\r\n\r\n"), Refusal::HeadTooLarge),
            (format!("GET / HTTP/1.1\r\nHost: x\r\nA: {long}"), Refusal::HeadTooLarge),
            (format!("GET / HTTP/1.1\r\n{}\r\n", "a:b\r\n".repeat(150)), Refusal::HeadTooLarge),
        ] {
            assert_eq!(read(&head), Err(expected), "{:?}", &head[..40]);
        }
    }

    #[test]
    fn fields_that_may_stand_once_count_only_then() {
        let head = "GET / HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\nIf-None-Match: \"a\"\r\n\r\n";
        let once = read(head).unwrap().unwrap();
        assert_eq!((once.accept_encoding, once.if_none_match), (Some(&b"gzip"[..]), Some(&b"\"a\""[..])));
        let twice = head.replace("\r\n\r\n", "\r\nif-none-match: \"b\"\r\n\r\n");
        assert_eq!(read(&twice).unwrap().unwrap().if_none_match, None);
    }
}
