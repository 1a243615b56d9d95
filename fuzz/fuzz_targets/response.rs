//! What a server of any bytes answers, in two pieces and in one: the same answers.
//!
//! The first byte says where the piece ends and whether HEAD was asked.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tare_load::response::{Answer, Malformed, Parser};

fuzz_target!(|input: &[u8]| {
    let Some((first, bytes)) = input.split_first() else { return };
    let (cut, to_head) = ((first >> 1) as usize, first & 1 == 1);
    let cut = cut.min(bytes.len());
    let whole = answers(&[bytes], to_head);
    let pieces = answers(&[&bytes[..cut], &bytes[cut..]], to_head);
    // Which mistake is found first may depend on how far one sees.
    match (whole, pieces) {
        (Ok(whole), Ok(pieces)) => assert_eq!(whole, pieces),
        (whole, pieces) => assert_eq!(whole.is_err(), pieces.is_err()),
    }
});

/// Every answer with its body.
fn answers(pieces: &[&[u8]], to_head: bool) -> Result<Vec<(Answer, Vec<u8>)>, Malformed> {
    let mut parser = Parser::new();
    let (mut answers, mut body, mut rest) = (Vec::new(), Vec::new(), Vec::new());
    for piece in pieces {
        rest.extend_from_slice(piece);
        while !rest.is_empty() {
            let (used, answer) = parser.read(&rest, to_head, |piece| body.extend_from_slice(piece))?;
            rest.drain(..used);
            let Some(answer) = answer else { break };
            assert_eq!(answer.length, body.len() as u64);
            answers.push((answer, std::mem::take(&mut body)));
        }
    }
    answers.extend(parser.end().map(|answer| (answer, body)));
    Ok(answers)
}
