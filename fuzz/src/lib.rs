//! The form that the target `layout` gives its input.

use std::io::Read as _;

use tare_oci::digest::Digest;

/// What stands between the parts.
pub const CUT: &[u8] = b"\n---\n";

/// More of a layer is not unpacked to find its diff id.
const UNPACKED: u64 = 1 << 20;

/// Cuts the input into parts: a manifest, a config and layers, or whatever stands there. In each,
/// `@N` becomes the digest of the later part N, `#N` its size and `~N` its diff id, so that the fuzzer need not
/// guess digests.
#[must_use]
pub fn parts(input: &[u8]) -> Vec<Vec<u8>> {
    let mut raw: Vec<&[u8]> = Vec::new();
    let mut rest = input;
    while let Some(at) = rest.windows(CUT.len()).position(|window| window == CUT) {
        raw.push(&rest[..at]);
        rest = &rest[at + CUT.len()..];
    }
    raw.push(rest);
    raw.truncate(10);
    let mut parts: Vec<Vec<u8>> = vec![Vec::new(); raw.len()];
    for at in (0..raw.len()).rev() {
        parts[at] = resolved(raw[at], at, &parts);
    }
    parts
}

fn resolved(raw: &[u8], own: usize, parts: &[Vec<u8>]) -> Vec<u8> {
    // Only documents refer to others.
    if !raw.starts_with(b"{") {
        return raw.to_vec();
    }
    let mut text = Vec::with_capacity(raw.len());
    let mut bytes = raw.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        let number = bytes.peek().filter(|next| next.is_ascii_digit()).map(|next| usize::from(next - b'0'));
        let part = number.filter(|number| *number > own).and_then(|number| parts.get(number));
        let word = match (byte, part) {
            (b'@', Some(part)) => Digest::of(part).to_string(),
            (b'#', Some(part)) => part.len().to_string(),
            (b'~', Some(part)) => Digest::of(&unpacked(part)).to_string(),
            _ => {
                text.push(byte);
                continue;
            }
        };
        bytes.next();
        text.extend_from_slice(word.as_bytes());
    }
    text
}

fn unpacked(layer: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    // What is damaged has the diff id of what can be read of it.
    let _ = match layer {
        [0x1f, 0x8b, ..] => flate2::read::MultiGzDecoder::new(layer).take(UNPACKED).read_to_end(&mut bytes),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => match zstd::Decoder::new(layer) {
            Ok(decoder) => decoder.take(UNPACKED).read_to_end(&mut bytes),
            Err(error) => Err(error),
        },
        _ => return layer.to_vec(),
    };
    bytes
}
