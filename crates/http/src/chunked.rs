//! The chunked transfer coding, read strictly (RFC 9112, 7.1). Pure: bytes go in.

use super::head::{Refusal, is_token};

/// Digits of a chunk's size, leading zeros among them: as many as a 64-bit number has.
const MOST_DIGITS: u8 = 16;
/// Bytes of all chunk extensions of a body. "A server ought to limit the total length of chunk extensions":
/// RFC 9112, 7.1.1.
const MOST_EXTENSION: u16 = 1024;
/// Bytes of the trailer section.
const MOST_TRAILER: u16 = 8 << 10;

/// How far a body has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunked {
    state: State,
    /// Bytes of the chunk that are still to come; its size so far while that is read.
    left: u64,
    extension: u16,
    trailer: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// So many digits have been read.
    Size(u8),
    /// White space before `;`, which is bad and has to be taken.
    BeforeExtension,
    /// After `;`.
    ExtensionStart,
    ExtensionName,
    /// White space after a name, before `=` or `;`.
    AfterName,
    /// After `=`.
    ValueStart,
    Value,
    Quoted,
    QuotedPair,
    /// A quoted value has ended.
    AfterValue,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    LastLf,
    Done,
}

/// What the next bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// So many bytes of framing, and then as many as there are: more have to come.
    Framing(usize),
    /// Framing, then data, in bytes.
    Data(usize, usize),
    /// Framing, and the body has ended.
    End(usize),
}

impl Default for Chunked {
    fn default() -> Self {
        Self { state: State::Size(0), left: 0, extension: 0, trailer: 0 }
    }
}

impl Chunked {
    /// Bytes of the present chunk that are announced and still to come.
    #[must_use]
    pub fn left(&self) -> u64 {
        if self.state == State::Data { self.left } else { 0 }
    }

    /// Reads on.
    ///
    /// # Errors
    /// When it is not chunked, or its framing is too long.
    pub fn read(&mut self, input: &[u8]) -> Result<Piece, Refusal> {
        for (at, byte) in input.iter().copied().enumerate() {
            if self.state == State::Data {
                let there = (input.len() - at) as u64;
                let length = self.left.min(there);
                self.left -= length;
                if self.left == 0 {
                    self.state = State::DataCr;
                }
                // It fits: it is no longer than the input.
                return Ok(Piece::Data(at, length as usize));
            }
            self.state = self.next(byte)?;
            if self.state == State::Done {
                return Ok(Piece::End(at + 1));
            }
        }
        Ok(Piece::Framing(input.len()))
    }

    fn next(&mut self, byte: u8) -> Result<State, Refusal> {
        use State as S;

        let blank = matches!(byte, b' ' | b'\t');
        let text = blank || byte.is_ascii_graphic();
        let next = match (self.state, byte) {
            (S::Size(digits), _) if byte.is_ascii_hexdigit() && digits < MOST_DIGITS => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                // At most sixteen digits: nothing is shifted out.
                self.left = self.left << 4 | u64::from(digit);
                S::Size(digits + 1)
            }
            (S::Size(1..), b'\r') => S::SizeLf,
            (
                S::Size(1..)
                | S::BeforeExtension
                | S::ExtensionName
                | S::AfterName
                | S::Value
                | S::AfterValue,
                b';',
            ) => S::ExtensionStart,
            (S::Size(1..) | S::BeforeExtension | S::Value | S::AfterValue, _) if blank => S::BeforeExtension,
            (S::ExtensionStart, _) if blank => S::ExtensionStart,
            (S::ExtensionStart | S::ExtensionName, _) if is_token(byte) => S::ExtensionName,
            (S::ExtensionName | S::AfterName, _) if blank => S::AfterName,
            (S::ExtensionName | S::AfterName, b'=') => S::ValueStart,
            (S::ValueStart, _) if blank => S::ValueStart,
            (S::ValueStart, b'"') => S::Quoted,
            (S::ValueStart | S::Value, _) if is_token(byte) => S::Value,
            (S::Quoted, b'"') => S::AfterValue,
            (S::Quoted, b'\\') => S::QuotedPair,
            (S::Quoted | S::QuotedPair, _) if text => S::Quoted,
            (S::ExtensionName | S::Value | S::AfterValue, b'\r') => S::SizeLf,
            (S::SizeLf, b'\n') if self.left == 0 => S::TrailerStart,
            (S::SizeLf, b'\n') => S::Data,
            (S::DataCr, b'\r') => S::DataLf,
            (S::DataLf, b'\n') => S::Size(0),
            (S::TrailerStart, b'\r') => S::LastLf,
            (S::TrailerStart | S::TrailerName, _) if is_token(byte) => S::TrailerName,
            (S::TrailerName, b':') => S::TrailerValue,
            (S::TrailerValue, b'\r') => S::TrailerLf,
            (S::TrailerValue, _) if text || byte >= 0x80 => S::TrailerValue,
            (S::TrailerLf, b'\n') => S::TrailerStart,
            (S::LastLf, b'\n') => S::Done,
            _ => return Err(Refusal::BadRequest),
        };
        match next {
            S::BeforeExtension
            | S::ExtensionStart
            | S::ExtensionName
            | S::AfterName
            | S::ValueStart
            | S::Value
            | S::Quoted
            | S::QuotedPair
            | S::AfterValue => {
                self.extension += 1;
                if self.extension > MOST_EXTENSION {
                    return Err(Refusal::BadRequest);
                }
            }
            S::TrailerName | S::TrailerValue | S::TrailerLf => {
                self.trailer += 1;
                if self.trailer > MOST_TRAILER {
                    return Err(Refusal::HeadTooLarge);
                }
            }
            _ => {}
        }
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole body and the bytes it took, when the input comes in pieces of `step` bytes.
    fn read(input: &[u8], step: usize) -> Result<Option<(String, usize)>, Refusal> {
        let (mut chunked, mut body, mut used) = (Chunked::default(), Vec::new(), 0);
        for piece in input.chunks(step) {
            let mut rest = piece;
            while !rest.is_empty() {
                let taken = match chunked.read(rest)? {
                    Piece::Framing(framing) => framing,
                    Piece::Data(framing, data) => {
                        body.extend_from_slice(&rest[framing..][..data]);
                        framing + data
                    }
                    Piece::End(framing) => {
                        return Ok(Some((String::from_utf8_lossy(&body).into_owned(), used + framing)));
                    }
                };
                used += taken;
                rest = &rest[taken..];
            }
        }
        Ok(None)
    }

    #[test]
    fn body_is_the_same_however_it_is_cut() {
        let input = b"3\r\nabc\r\n00A;x=y;z=\"\\\"q;\"\r\n0123456789\r\n0\r\nA: b\r\nC:\r\n\r\nGET ";
        for step in 1..=input.len() {
            let expected = Ok(Some(("abc0123456789".to_owned(), input.len() - 4)));
            assert_eq!(read(input, step), expected, "{step}");
        }
    }

    #[test]
    fn what_is_not_the_grammar_is_refused() {
        for input in [
            "\r\n",
            "g\r\n",
            "-1\r\n",
            "0x1\r\na\r\n",
            "1\na\n0\n\n",
            "1\r\na\n",
            "1\r\nab\r\n",
            "1 \r\na\r\n",
            "1;\r\n",
            "1;a=\r\n",
            "1;a=\"b\r\n\"\r\n",
            "1;a=b\n",
            "00000000000000001\r\na\r\n",
            "0\r\n A: b\r\n\r\n",
            "0\r\nA b\r\n\r\n",
            "0\r\nA : b\r\n\r\n",
            "0\r\nA: b\n\r\n",
            "0\r\nA: \0\r\n\r\n",
            "0\r\n\n",
            "FFFFFFFFFFFFFFFFF\r\n",
        ] {
            assert_eq!(read(input.as_bytes(), 1), Err(Refusal::BadRequest), "{input:?}");
        }
    }

    #[test]
    fn framing_is_bounded_over_the_whole_body() {
        let extensions = format!("1;{}\r\na\r\n", "x".repeat(600)).repeat(2);
        assert_eq!(read(extensions.as_bytes(), 7), Err(Refusal::BadRequest));
        let trailer = format!("0\r\n{}", format!("a: {}\r\n", "b".repeat(100)).repeat(100));
        assert_eq!(read(trailer.as_bytes(), 7), Err(Refusal::HeadTooLarge));
    }

    #[test]
    fn white_space_before_an_extension_is_taken() {
        assert_eq!(read(b"1 \t; a = b ;c\r\nx\r\n0\r\n\r\n", 1), Ok(Some(("x".to_owned(), 23))));
    }
}
