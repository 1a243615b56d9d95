//! Parses HTTP/1.1 answers incrementally, in pieces of any size (RFC 9112).
//!
//! There are no side effects: bytes in, answers out. Bodies are passed on and not kept, so that the size of a head bounds
//! the memory.

use super::outcome::ErrorKind;
use super::plan::Blob;

/// The longest head, size line of a chunk or trailer section. Servers allow requests 8 to 64 KiB.
const MAX_HEAD: usize = 64 << 10;
/// The most headers of an answer.
const MAX_HEADERS: usize = 128;
/// The longest line that begins a chunk: 16 digits and an extension.
const MAX_CHUNK_LINE: usize = 4 << 10;

/// Why it is not an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The head breaks the grammar (RFC 9112, 4 and 5).
    #[error("the head is not HTTP: {0}")]
    Head(httparse::Error),
    /// Longer than anything that is meant.
    #[error("a head, chunk line or trailer section of more than {0} bytes")]
    TooLong(usize),
    /// Not a number, or several that differ (RFC 9112, 6.3).
    #[error("the content-length is not one number")]
    ContentLength,
    /// Length and chunks at once, which is how answers are smuggled (RFC 9112, 6.3).
    #[error("content-length and transfer-encoding in one answer")]
    LengthAndEncoding,
    /// Only `chunked` was not asked for and yet can be read (RFC 9112, 6.1).
    #[error("a transfer coding other than chunked")]
    Encoding,
    /// The size of a chunk is no number, or its data does not end where it should (RFC 9112, 7.1).
    #[error("a chunk is not well formed")]
    Chunk,
    /// 101 without having been asked to change.
    #[error("it switches to another protocol")]
    Switches,
    /// HTTP/1.1 and 1.0 are understood.
    #[error("a status below 100 or above 999")]
    Status,
}

/// The end of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Bytes of its body, after transfer coding.
    pub length: u64,
    /// Whether the connection may be used again (RFC 9112, 9.3).
    pub keep_alive: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    /// So many bytes of body are left.
    Fixed(u64),
    UntilClose,
    ChunkLine,
    ChunkData(u64),
    /// The line end after the data.
    ChunkEnd,
    Trailers,
}

/// Bodies are kept whole to be compared: no more than 256 MiB of one.
pub(crate) const MOST_BODY: usize = 256 << 20;

/// The answer to one request of a plan.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Answered {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: Blob,
}

/// Why there is no answer to compare.
pub(crate) struct Fault {
    pub(crate) kind: ErrorKind,
    pub(crate) why: String,
}

impl Fault {
    /// A body that is not kept.
    pub(crate) fn too_long() -> Self {
        Self { kind: ErrorKind::BadLength, why: format!("a body of more than {MOST_BODY} bytes") }
    }
}

/// Reads one answer after another.
#[derive(Debug)]
pub struct Parser {
    state: State,
    answer: Answer,
    trailers: usize,
}

impl Default for Parser {
    fn default() -> Self {
        Self::new()
    }
}

const NONE: Answer = Answer { status: 0, length: 0, keep_alive: true };

impl Parser {
    /// At the beginning of an answer.
    #[must_use]
    pub fn new() -> Self {
        Self { state: State::Head, answer: NONE, trailers: 0 }
    }

    /// Reads on. Says how many of the bytes are used up, and the answer if it ends with them; the rest
    /// is to be given again, with more behind it or to the next answer. `body` gets what belongs to the body.
    ///
    /// `to_head`: the answer is to a HEAD request, so without a body.
    ///
    /// # Errors
    /// When it is not HTTP/1.x; the parser cannot be used after that.
    pub fn read(
        &mut self,
        bytes: &[u8],
        to_head: bool,
        mut body: impl FnMut(&[u8]),
    ) -> Result<(usize, Option<Answer>), Malformed> {
        let mut used = 0;
        loop {
            let rest = &bytes[used..];
            match self.state {
                State::Head => {
                    let Some(length) = self.head(rest, to_head)? else { return Ok((used, None)) };
                    used += length;
                    if self.state == State::Head && self.answer.status >= 200 {
                        return Ok((used, Some(self.take())));
                    }
                }
                State::Fixed(left) => {
                    let (piece, after) = split(rest, left);
                    body(piece);
                    self.answer.length += piece.len() as u64;
                    used += piece.len();
                    self.state = State::Fixed(after);
                    return Ok((used, (after == 0).then(|| self.take())));
                }
                State::UntilClose => {
                    body(rest);
                    self.answer.length += rest.len() as u64;
                    return Ok((bytes.len(), None));
                }
                State::ChunkLine => {
                    let Some(line) = line(rest, MAX_CHUNK_LINE)? else { return Ok((used, None)) };
                    used += line.len() + 2;
                    self.state = match chunk_size(line)? {
                        0 => State::Trailers,
                        size => State::ChunkData(size),
                    };
                }
                State::ChunkData(left) => {
                    if rest.is_empty() {
                        return Ok((used, None));
                    }
                    let (piece, after) = split(rest, left);
                    body(piece);
                    self.answer.length += piece.len() as u64;
                    used += piece.len();
                    self.state = if after == 0 { State::ChunkEnd } else { State::ChunkData(after) };
                }
                State::ChunkEnd => match rest {
                    [b'\r', b'\n', ..] => {
                        used += 2;
                        self.state = State::ChunkLine;
                    }
                    [] | [b'\r'] => return Ok((used, None)),
                    _ => return Err(Malformed::Chunk),
                },
                State::Trailers => {
                    let left = MAX_HEAD - self.trailers;
                    let Some(line) = line(rest, left)? else { return Ok((used, None)) };
                    used += line.len() + 2;
                    self.trailers = (self.trailers + line.len() + 2).min(MAX_HEAD);
                    if line.is_empty() {
                        return Ok((used, Some(self.take())));
                    }
                }
            }
        }
    }

    /// The connection has ended: an answer whose body lasts until then is whole, any other is not.
    #[must_use]
    pub fn end(&mut self) -> Option<Answer> {
        (self.state == State::UntilClose).then(|| self.take())
    }

    /// Whether nothing of an answer has been used up.
    #[must_use]
    pub fn is_at_start(&self) -> bool {
        self.state == State::Head
    }

    fn take(&mut self) -> Answer {
        let answer = self.answer;
        *self = Self::new();
        answer
    }

    /// Reads a head and decides how the body ends (RFC 9112, 6.3). Says how long it is, if it is whole.
    fn head(&mut self, bytes: &[u8], to_head: bool) -> Result<Option<usize>, Malformed> {
        let mut headers = [const { std::mem::MaybeUninit::uninit() }; MAX_HEADERS];
        let mut head = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        let length = match config.parse_response_with_uninit_headers(&mut head, bytes, &mut headers) {
            Ok(httparse::Status::Complete(length)) if length <= MAX_HEAD => length,
            Ok(httparse::Status::Partial) if bytes.len() <= MAX_HEAD => return Ok(None),
            Ok(_) => return Err(Malformed::TooLong(MAX_HEAD)),
            Err(error) => return Err(Malformed::Head(error)),
        };
        let status = head.code.unwrap_or_default();
        match status {
            101 => return Err(Malformed::Switches),
            // Interim: the answer proper follows.
            100..200 => return Ok(Some(length)),
            200..1000 => {}
            _ => return Err(Malformed::Status),
        }
        let is_1_1 = head.version == Some(1);
        let mut framing = Framing { keep_alive: is_1_1, ..Framing::default() };
        for header in head.headers.iter() {
            framing.header(header.name, header.value)?;
        }
        if framing.length.is_some() && framing.is_encoded {
            return Err(Malformed::LengthAndEncoding);
        }
        self.answer = Answer { status, length: 0, keep_alive: framing.keep_alive };
        self.state = if to_head || matches!(status, 204 | 304) {
            State::Head
        } else if framing.is_chunked {
            State::ChunkLine
        } else if framing.is_encoded {
            return Err(Malformed::Encoding);
        } else {
            match framing.length {
                Some(0) => State::Head,
                Some(length) => State::Fixed(length),
                None => {
                    self.answer.keep_alive = false;
                    State::UntilClose
                }
            }
        };
        Ok(Some(length))
    }
}

/// Where the answer ends, and whether the connection stays open, according to the headers.
#[derive(Debug, Default)]
struct Framing {
    length: Option<u64>,
    is_encoded: bool,
    is_chunked: bool,
    keep_alive: bool,
}

impl Framing {
    fn header(&mut self, name: &str, value: &[u8]) -> Result<(), Malformed> {
        // By length first: most headers are none of these.
        match name.len() {
            10 if name.eq_ignore_ascii_case("connection") => {
                for option in value.split(|byte| *byte == b',') {
                    let option = option.trim_ascii();
                    if option.eq_ignore_ascii_case(b"close") {
                        self.keep_alive = false;
                    } else if option.eq_ignore_ascii_case(b"keep-alive") {
                        self.keep_alive = true;
                    }
                }
            }
            14 if name.eq_ignore_ascii_case("content-length") => {
                let length = decimal(value.trim_ascii()).ok_or(Malformed::ContentLength)?;
                if self.length.is_some_and(|before| before != length) {
                    return Err(Malformed::ContentLength);
                }
                self.length = Some(length);
            }
            17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                // Only as the one and only coding.
                self.is_chunked = !self.is_encoded && value.trim_ascii().eq_ignore_ascii_case(b"chunked");
                self.is_encoded = true;
            }
            _ => {}
        }
        Ok(())
    }
}

/// The first `left` bytes or as many as there are, and how many are left after them.
fn split(bytes: &[u8], left: u64) -> (&[u8], u64) {
    let length = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
    (&bytes[..length], left - length as u64)
}

/// A line without its end, if its end is there.
fn line(bytes: &[u8], longest: usize) -> Result<Option<&[u8]>, Malformed> {
    match bytes.iter().position(|byte| *byte == b'\n') {
        Some(at) if at > longest => Err(Malformed::TooLong(longest)),
        Some(at) if at > 0 && bytes[at - 1] == b'\r' => Ok(Some(&bytes[..at - 1])),
        // A bare line feed ends no line here (RFC 9112, 7.1).
        Some(_) => Err(Malformed::Chunk),
        None if bytes.len() > longest => Err(Malformed::TooLong(longest)),
        None => Ok(None),
    }
}

/// `1*HEXDIG [ chunk-ext ]`.
fn chunk_size(line: &[u8]) -> Result<u64, Malformed> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let text = std::str::from_utf8(&line[..digits]).map_err(|_| Malformed::Chunk)?;
    // Bad whitespace may stand before an extension only.
    match line[digits..].trim_ascii_start() {
        [] if line.len() == digits => {}
        [b';', ..] => {}
        _ => return Err(Malformed::Chunk),
    }
    u64::from_str_radix(text, 16).map_err(|_| Malformed::Chunk)
}

fn decimal(digits: &[u8]) -> Option<u64> {
    // `parse` takes a sign, and nothing shorter than one digit.
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Status, body, and whether the connection stays.
    type Whole = (u16, Vec<u8>, bool);

    /// Every answer in the bytes with its body, given in pieces that end at `cuts`.
    fn read_all(bytes: &[u8], to_head: bool, cuts: &[usize]) -> Result<Vec<Whole>, Malformed> {
        let mut parser = Parser::new();
        let mut answers = Vec::new();
        let mut body = Vec::new();
        let mut kept: Vec<u8> = Vec::new();
        let mut from = 0;
        for to in cuts.iter().copied().chain([bytes.len()]) {
            kept.extend_from_slice(&bytes[from..to]);
            from = to;
            loop {
                let (used, answer) = parser.read(&kept, to_head, |piece| body.extend_from_slice(piece))?;
                kept.drain(..used);
                let Some(answer) = answer else { break };
                assert_eq!(answer.length, body.len() as u64);
                answers.push((answer.status, std::mem::take(&mut body), answer.keep_alive));
                if kept.is_empty() {
                    break;
                }
            }
        }
        if let Some(answer) = parser.end() {
            answers.push((answer.status, body, answer.keep_alive));
        }
        Ok(answers)
    }

    fn answer(status: u16, body: &str, keep_alive: bool) -> Whole {
        (status, body.as_bytes().to_vec(), keep_alive)
    }

    #[test]
    fn answers_end_where_the_head_says() {
        let cases: [(&str, bool, Vec<Whole>); 13] = [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nHello", false, vec![answer(200, "Hello", true)]),
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false, vec![answer(200, "", true)]),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true, vec![answer(200, "", true)]),
            ("HTTP/1.1 204 No Content\r\n\r\n", false, vec![answer(204, "", true)]),
            ("HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", false, vec![answer(304, "", true)]),
            ("HTTP/1.1 200 OK\r\n\r\nHel\r\nlo", false, vec![answer(200, "Hel\r\nlo", false)]),
            ("HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\na", false, vec![answer(200, "a", false)]),
            (
                "HTTP/1.0 200 OK\r\ncontent-length: 1\r\nConnection: Keep-Alive\r\n\r\na",
                false,
                vec![answer(200, "a", true)],
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 1\r\nConnection: x, close\r\n\r\na",
                false,
                vec![answer(200, "a", false)],
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\nHel\r\n2;a=b\r\nlo\r\n0\r\nx: y\r\n\r\n",
                false,
                vec![answer(200, "Hello", true)],
            ),
            (
                "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 C\r\ncontent-length: 1\r\n\r\na",
                false,
                vec![answer(201, "a", true)],
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\naHTTP/1.1 404 N\r\ncontent-length: 2\r\n\r\nbc",
                false,
                vec![answer(200, "a", true), answer(404, "bc", true)],
            ),
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nHel", false, vec![]),
        ];
        for (text, to_head, expected) in cases {
            assert_eq!(read_all(text.as_bytes(), to_head, &[]).unwrap(), expected, "{text}");
            // Byte by byte it is the same.
            let cuts: Vec<usize> = (1..text.len()).collect();
            assert_eq!(read_all(text.as_bytes(), to_head, &cuts).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_http_is_refused() {
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        let cases = [
            ("SSH-2.0-OpenSSH_9.2\r\n".to_owned(), Malformed::Head(httparse::Error::Version)),
            ("HTTP/1.1 099 x\r\n\r\n".to_owned(), Malformed::Status),
            ("HTTP/1.1 101 x\r\n\r\n".to_owned(), Malformed::Switches),
            ("HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n".to_owned(), Malformed::ContentLength),
            ("HTTP/1.1 200 OK\r\ncontent-length: +1\r\n\r\n".to_owned(), Malformed::ContentLength),
            ("HTTP/1.1 200 OK\r\ncontent-length: \r\n\r\n".to_owned(), Malformed::ContentLength),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n".to_owned(),
                Malformed::ContentLength,
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n".to_owned(),
                Malformed::ContentLength,
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n".to_owned(),
                Malformed::LengthAndEncoding,
            ),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n".to_owned(), Malformed::Encoding),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n"
                    .to_owned(),
                Malformed::Encoding,
            ),
            (format!("{chunked}x\r\n"), Malformed::Chunk),
            (format!("{chunked}\r\n"), Malformed::Chunk),
            (format!("{chunked}2 \r\nab\r\n"), Malformed::Chunk),
            (format!("{chunked}2\nab\r\n"), Malformed::Chunk),
            (format!("{chunked}2\r\nabc\r\n"), Malformed::Chunk),
            (format!("{chunked}11111111111111111\r\n"), Malformed::Chunk),
            (format!("{chunked}1;{}", "a".repeat(5_000)), Malformed::TooLong(MAX_CHUNK_LINE)),
            (format!("HTTP/1.1 200 OK\r\na: {}", "b".repeat(70_000)), Malformed::TooLong(MAX_HEAD)),
            (
                format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(200)),
                Malformed::Head(httparse::Error::TooManyHeaders),
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(read_all(text.as_bytes(), false, &[]), Err(expected), "{text:.80}");
        }
        let endless = format!("{chunked}0\r\n{}", "a: b\r\n".repeat(20_000));
        assert!(matches!(read_all(endless.as_bytes(), false, &[]), Err(Malformed::TooLong(_))));
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(
            bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..5),
            chunk in 0..40_usize,
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..20),
        ) {
            let mut bytes = Vec::new();
            for body in &bodies {
                if chunk == 0 {
                    bytes.extend(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len()).bytes());
                    bytes.extend(body);
                } else {
                    bytes.extend(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
                    for piece in body.chunks(chunk) {
                        bytes.extend(format!("{:X}\r\n", piece.len()).bytes());
                        bytes.extend(piece);
                        bytes.extend(b"\r\n");
                    }
                    bytes.extend(b"0\r\n\r\n");
                }
            }
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
            cuts.sort_unstable();
            let expected: Vec<_> = bodies.iter().map(|body| (200, body.clone(), true)).collect();
            prop_assert_eq!(read_all(&bytes, false, &cuts), Ok(expected));
        }

        #[test]
        fn any_bytes_end_in_answers_or_an_error(
            bytes in proptest::collection::vec(any::<u8>(), 0..400),
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..5),
            chunked in any::<bool>(),
        ) {
            let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
            let bytes = if chunked { [head.as_bytes(), &bytes].concat() } else { bytes };
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len().max(1)).min(bytes.len())).collect();
            cuts.sort_unstable();
            let whole = read_all(&bytes, false, &[]);
            let pieces = read_all(&bytes, false, &cuts);
            prop_assert_eq!(whole, pieces);
        }
    }
}
