//! Content digests, and the two meanings that a layer's digest can have.

use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256, Sha512};

/// A digest that can be checked (image-spec descriptor.md, "Digests"). What is made here has SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Digest {
    /// Written `sha256:` and 64 lower-case hexadecimal digits.
    Sha256([u8; 32]),
    /// Written `sha512:` and 128 lower-case hexadecimal digits.
    Sha512([u8; 64]),
}

/// Not a digest this tool can check.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a digest: sha256:<64 lower-case hexadecimal digits> or sha512:<128>")]
pub struct DigestError(String);

impl Digest {
    /// The SHA-256 of some bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self::Sha256(Sha256::digest(bytes).into())
    }

    /// SHA-256 and length of everything that can still be read from `input`.
    ///
    /// # Errors
    /// Those of the reader.
    pub fn of_reader(mut input: impl Read) -> io::Result<(Self, u64)> {
        let mut sink = Digesting::new(io::sink());
        io::copy(&mut input, &mut sink)?;
        Ok(sink.finish().1)
    }

    /// The digits without the algorithm: the name of the blob's file in a layout.
    #[must_use]
    pub fn hex(&self) -> String {
        use fmt::Write as _;
        let bytes: &[u8] = match self {
            Self::Sha256(bytes) => bytes,
            Self::Sha512(bytes) => bytes,
        };
        bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    /// The first twelve digits, for tables.
    #[must_use]
    pub fn short(&self) -> String {
        self.hex()[..12].to_owned()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let algorithm = match self {
            Self::Sha256(_) => "sha256",
            Self::Sha512(_) => "sha512",
        };
        write!(f, "{algorithm}:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let digest = match text.split_once(':') {
            Some(("sha256", hex)) => bytes(hex).map(Self::Sha256),
            Some(("sha512", hex)) => bytes(hex).map(Self::Sha512),
            _ => None,
        };
        digest.ok_or_else(|| DigestError(text.to_owned()))
    }
}

/// The bytes of exactly as many lower-case hexadecimal digits.
fn bytes<const LENGTH: usize>(hex: &str) -> Option<[u8; LENGTH]> {
    let digit = |digit: u8| char::from(digit).to_digit(16).filter(|_| !digit.is_ascii_uppercase());
    let pairs = hex.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => u8::try_from(digit(*high)? << 4 | digit(*low)?).ok(),
        _ => None,
    });
    pairs.collect::<Option<Vec<u8>>>()?.try_into().ok()
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, DigestError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl TryFrom<&oci_spec::image::Digest> for Digest {
    type Error = DigestError;

    fn try_from(digest: &oci_spec::image::Digest) -> Result<Self, DigestError> {
        digest.as_ref().parse()
    }
}

impl From<Digest> for oci_spec::image::Digest {
    #[expect(clippy::expect_used, reason = "oci-spec takes every digest of these two algorithms")]
    fn from(digest: Digest) -> Self {
        digest.to_string().parse().expect("a digest")
    }
}

/// The digest of a layer's *uncompressed* tar (image-spec config.md, "Layer DiffID"). A [`Digest`]
/// alone always means the blob as it is stored, compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DiffId(pub Digest);

impl fmt::Display for DiffId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Passes on what is written into it or read through it, and knows the digest and length of what went through.
pub(crate) struct Digesting<T> {
    inner: T,
    hasher: Hasher,
    length: u64,
}

enum Hasher {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl<T> Digesting<T> {
    pub(crate) fn new(inner: T) -> Self {
        Self { inner, hasher: Hasher::Sha256(Sha256::new()), length: 0 }
    }

    /// With the algorithm of another digest, to compare with it.
    pub(crate) fn like(inner: T, other: Option<Digest>) -> Self {
        match other {
            Some(Digest::Sha512(_)) => Self { inner, hasher: Hasher::Sha512(Sha512::new()), length: 0 },
            _ => Self::new(inner),
        }
    }

    /// What was wrapped, and the digest and length of what went through.
    pub(crate) fn finish(self) -> (T, (Digest, u64)) {
        let digest = match self.hasher {
            Hasher::Sha256(hasher) => Digest::Sha256(hasher.finalize().into()),
            Hasher::Sha512(hasher) => Digest::Sha512(hasher.finalize().into()),
        };
        (self.inner, (digest, self.length))
    }

    fn update(&mut self, bytes: &[u8]) {
        match &mut self.hasher {
            Hasher::Sha256(hasher) => hasher.update(bytes),
            Hasher::Sha512(hasher) => hasher.update(bytes),
        }
        self.length += bytes.len() as u64;
    }
}

impl<W: Write> Write for Digesting<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buffer)?;
        self.update(&buffer[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<R: Read> Read for Digesting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.update(&buffer[..length]);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_digest_round_trips() {
        assert_eq!(Digest::of(b"").to_string(), EMPTY);
        assert_eq!(EMPTY.parse(), Ok(Digest::of(b"")));
        assert_eq!(Digest::of_reader(&b"abc"[..]).unwrap(), (Digest::of(b"abc"), 3));
        // FIPS 180-2, C.1.
        let abc = "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
                   2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";
        let mut hashed = Digesting::like(&b"abc"[..], Some(abc.parse().unwrap()));
        io::copy(&mut hashed, &mut io::sink()).unwrap();
        assert_eq!(hashed.finish().1, (abc.parse().unwrap(), 3));
    }

    #[test]
    fn other_algorithms_lengths_and_upper_case_are_refused() {
        let upper = EMPTY.to_uppercase().replace("SHA256", "sha256");
        for text in ["", "sha256:", "sha512:00", "md5:00", &EMPTY[7..], &EMPTY[..70], &upper, "sha256:é"] {
            assert_eq!(text.parse::<Digest>(), Err(DigestError(text.to_owned())));
        }
    }
}
