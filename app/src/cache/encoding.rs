//! The encodings of a cached response, made once.

#[cfg(feature = "brotli")]
use std::io::Write as _;
use std::sync::Arc;

/// Shorter than this, head and checks outweigh what is saved, and it fits into one packet anyway.
const WORTH_IT: usize = 1024;

/// What a client accepts, and what it has already.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Accepts {
    /// Weights in thousandths; one that is not wanted has 0.
    pub(crate) gzip: u16,
    pub(crate) brotli: u16,
    /// Without an encoding. 0 as long as nothing is said: then any encoding comes before it.
    pub(crate) identity: u16,
    /// `If-None-Match`.
    pub(crate) tags: Option<String>,
}

impl Accepts {
    pub(crate) fn new(accept_encoding: Option<&[u8]>, if_none_match: Option<&[u8]>) -> Self {
        let list = accept_encoding.unwrap_or_default();
        let tags = if_none_match.and_then(|tags| std::str::from_utf8(tags).ok());
        Self {
            gzip: weight(list, b"gzip"),
            brotli: weight(list, b"br"),
            identity: weight(list, b"identity"),
            tags: tags.map(str::to_owned),
        }
    }

    /// Whether a tag is among those that the client has (RFC 9110, 13.1.2: compared weakly).
    pub(crate) fn has(&self, tag: &str) -> bool {
        let Some(tags) = &self.tags else {
            return false;
        };
        tags.trim_ascii() == "*"
            || tags.split(',').map(str::trim_ascii).any(|it| it.strip_prefix("W/").unwrap_or(it) == tag)
    }
}

/// The weight of a coding in a list, in thousandths; `*` stands for those that are not named (RFC 9110,
/// 12.5.3).
fn weight(list: &[u8], coding: &[u8]) -> u16 {
    let mut any = 0;
    for element in list.split(|byte| *byte == b',') {
        let (mut name, mut weight) = (None, 1000);
        for part in element.split(|byte| *byte == b';').map(<[u8]>::trim_ascii) {
            if name.is_none() {
                name = Some(part);
            } else if let [b'q' | b'Q', b'=', number @ ..] = part {
                weight = thousandths(number);
            }
        }
        let name = name.unwrap_or_default();
        if name.eq_ignore_ascii_case(coding) {
            return weight;
        }
        if name == b"*" {
            any = weight;
        }
    }
    any
}

/// `0[.ddd]` or `1[.000]` (RFC 9110, 12.4.2); what is no number is 0.
fn thousandths(weight: &[u8]) -> u16 {
    let (mut sum, mut unit) = (0, 1000);
    for byte in weight.iter().filter(|byte| **byte != b'.') {
        if !byte.is_ascii_digit() {
            return 0;
        }
        sum += u16::from(byte - b'0') * unit;
        unit /= 10;
    }
    sum.min(1000)
}

/// A response in every encoding that makes it shorter.
#[derive(Debug)]
pub(crate) struct Variants {
    pub(crate) identity: Arc<[u8]>,
    pub(crate) gzip: Option<Arc<[u8]>>,
    pub(crate) brotli: Option<Arc<[u8]>>,
}

impl Variants {
    pub(crate) fn of(bytes: Vec<u8>) -> Self {
        let shorter = |encoded: Option<Vec<u8>>| {
            encoded.filter(|encoded| encoded.len() < bytes.len() / 10 * 9).map(Arc::from)
        };
        let worth_it = bytes.len() >= WORTH_IT;
        let (gzip, brotli) =
            if worth_it { (shorter(Some(gzip(&bytes))), shorter(brotli(&bytes))) } else { (None, None) };
        Self { gzip, brotli, identity: bytes.into() }
    }

    pub(crate) fn bytes(&self) -> usize {
        let of = |variant: &Option<Arc<[u8]>>| variant.as_ref().map_or(0, |bytes| bytes.len());
        self.identity.len() + of(&self.gzip) + of(&self.brotli)
    }

    /// What the client likes best, with its name; the shortest of what it likes as much. A client that takes
    /// nothing of all this gets it without an encoding, as RFC 9110, 12.4.1 allows.
    pub(crate) fn choose(&self, accepts: &Accepts) -> (Option<&'static str>, &Arc<[u8]>) {
        let mut best = (accepts.identity, None, &self.identity);
        for (weight, name, bytes) in
            [(accepts.gzip, "gzip", &self.gzip), (accepts.brotli, "br", &self.brotli)]
        {
            if let Some(bytes) = bytes
                && weight > 0
                && weight >= best.0
            {
                best = (weight, Some(name), bytes);
            }
        }
        (best.1, best.2)
    }
}

/// A gzip file of one member (RFC 1952): no name, no time, so the same bytes for the same content.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    // Magic, deflate, no flags, no time, best compression, unknown system.
    let mut file = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 255];
    // It is done once and sent often.
    file.extend(miniz_oxide::deflate::compress_to_vec(bytes, 9));
    file.extend_from_slice(&crc32(bytes).to_le_bytes());
    // "The size of the original input data modulo 2^32".
    file.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    file
}

/// CRC-32 of RFC 1952, 8, four bits at a time. A table of 256 entries would be faster, and
/// compressing takes longer by far.
fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 16] = {
        let mut table = [0; 16];
        let mut at = 0;
        while at < 16 {
            let mut value = at as u32;
            let mut bit = 0;
            while bit < 4 {
                value = if value & 1 == 1 { 0xEDB8_8320 ^ (value >> 1) } else { value >> 1 };
                bit += 1;
            }
            table[at] = value;
            at += 1;
        }
        table
    };
    let step = |sum: u32, byte: &u8| {
        let sum = sum ^ u32::from(*byte);
        let sum = (sum >> 4) ^ TABLE[(sum & 15) as usize];
        (sum >> 4) ^ TABLE[(sum & 15) as usize]
    };
    !bytes.iter().fold(!0, step)
}

#[cfg(feature = "brotli")]
fn brotli(bytes: &[u8]) -> Option<Vec<u8>> {
    // Level 9 of 11: the last two are for what is compressed ahead of time.
    let mut encoder = brotli::CompressorWriter::new(Vec::new(), 4096, 9, 22);
    encoder.write_all(bytes).ok()?;
    Some(encoder.into_inner())
}

#[cfg(not(feature = "brotli"))]
fn brotli(_bytes: &[u8]) -> Option<Vec<u8>> {
    None
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn coding_has_the_weight_of_its_name_or_of_the_star() {
        for (list, expected) in [
            ("gzip", 1000),
            ("br, GZIP;q=0.5", 500),
            ("gzip ; q=0.123", 123),
            ("gzip;Q=1.000", 1000),
            ("*", 1000),
            ("*;q=0.1, gzip;q=0.2", 200),
            ("gzip;q=0", 0),
            ("gzip; q=0.000, *", 0),
            ("*;q=0", 0),
            ("x-gzip", 0),
            ("", 0),
            (",,gzip,", 1000),
            ("gzip;q=x", 0),
            ("gzip;q=9999999999", 1000),
        ] {
            assert_eq!(weight(list.as_bytes(), b"gzip"), expected, "{list:?}");
        }
    }

    #[test]
    fn client_gets_what_it_likes_best() {
        let text = "what is said often is said short. ".repeat(100).into_bytes();
        let variants = Variants::of(text);
        let brotli = if cfg!(feature = "brotli") { Some("br") } else { Some("gzip") };
        for (list, expected) in [
            ("", None),
            ("gzip", Some("gzip")),
            ("gzip, br", brotli),
            ("gzip;q=0.9, br;q=0.8", Some("gzip")),
            ("gzip;q=0.5, identity", None),
            ("gzip;q=0.5, identity;q=0.5", Some("gzip")),
            ("gzip;q=0.001, identity;q=0", Some("gzip")),
            ("identity;q=0", None),
            ("*;q=0", None),
            ("*", brotli),
            ("br;q=0, *", Some("gzip")),
            ("deflate", None),
        ] {
            assert_eq!(variants.choose(&Accepts::new(Some(list.as_bytes()), None)).0, expected, "{list:?}");
        }
    }

    #[test]
    fn checksum_is_that_of_the_standard() {
        assert_eq!([crc32(b""), crc32(b"123456789")], [0, 0xCBF4_3926]);
    }

    #[test]
    fn tag_is_found_in_a_list_and_by_star() {
        let has = |tags: &str| Accepts::new(None, Some(tags.as_bytes())).has("\"a\"");
        for (tags, expected) in [
            ("\"a\"", true),
            ("W/\"a\"", true),
            ("\"b\", \"a\"", true),
            ("*", true),
            ("\"b\"", false),
            ("a", false),
        ] {
            assert_eq!(has(tags), expected, "{tags:?}");
        }
        assert!(!Accepts::default().has("\"a\""));
    }

    #[test]
    fn encoded_response_decodes_to_the_same() {
        let text = "what is said often is said short. ".repeat(100).into_bytes();
        let variants = Variants::of(text.clone());
        let accepts = Accepts::new(Some(b"gzip"), None);
        let (name, bytes) = variants.choose(&accepts);
        let mut decoded = Vec::new();
        flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut decoded).unwrap();
        assert_eq!((name, decoded), (Some("gzip"), text));
        assert_eq!(variants.choose(&Accepts::default()).0, None);
        assert_eq!(variants.brotli.is_some(), cfg!(feature = "brotli"));
    }

    #[cfg(feature = "brotli")]
    #[test]
    fn brotli_decodes_to_the_same_and_comes_first() {
        let text = "what is said often is said short. ".repeat(100).into_bytes();
        let variants = Variants::of(text.clone());
        let (name, bytes) = variants.choose(&Accepts::new(Some(b"gzip, br"), None));
        let mut decoded = Vec::new();
        brotli::Decompressor::new(&bytes[..], 4096).read_to_end(&mut decoded).unwrap();
        assert_eq!((name, decoded), (Some("br"), text));
    }

    #[test]
    fn what_is_short_or_does_not_shrink_is_kept_as_it_is() {
        let mut state = 1_u32;
        let noise = (0..4096).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        });
        for bytes in [b"aaaa".repeat(10), noise.collect()] {
            let variants = Variants::of(bytes.clone());
            assert_eq!((variants.gzip, variants.brotli, variants.identity.len()), (None, None, bytes.len()));
        }
    }
}
