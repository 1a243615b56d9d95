//! What a client sends to a server of `tare-http`: a head, and a chunked body.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tare_http::chunked::{Chunked, Piece};
use tare_http::head;

/// The body and what it took, in pieces of at most `step` bytes.
fn body(input: &[u8], step: usize) -> Option<(Vec<u8>, usize, bool)> {
    let (mut chunked, mut body, mut used) = (Chunked::default(), Vec::new(), 0);
    for piece in input.chunks(step) {
        let mut rest = piece;
        while !rest.is_empty() {
            let (framing, data, ended) = match chunked.read(rest).ok()? {
                Piece::Framing(framing) => (framing, 0, false),
                Piece::Data(framing, data) => (framing, data, false),
                Piece::End(framing) => (framing, 0, true),
            };
            body.extend_from_slice(&rest[framing..framing + data]);
            used += framing + data;
            if ended {
                return Some((body, used, true));
            }
            rest = &rest[framing + data..];
        }
    }
    Some((body, used, false))
}

fuzz_target!(|input: &[u8]| {
    if let Ok(Some((_, length))) = head::parse(input, 8192) {
        assert!(length <= input.len() && input[..length].ends_with(b"\r\n\r\n"));
        // A head ends where it ends, whatever follows.
        assert!(matches!(head::parse(&input[..length], 8192), Ok(Some((_, again))) if again == length));
        assert!(!matches!(head::parse(&input[..length - 1], 8192), Ok(Some(_))));
    }
    assert_eq!(body(input, 1), body(input, input.len().max(1)));
});
