//! Signatures with a key: DSSE envelopes in sigstore bundles of version 0.3, which cosign verifies.
//!
//! Filled by hand: the crates of sigstore sign with certificates only, and asynchronously. Only unencrypted keys are
//! read; cosign's own, keys of clouds and keyless signing are cosign's business (`cosign attest --bundle FILE`), whose
//! bundles can be published as they are.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};
use serde_json::json;
use ureq::tls::PemItem;

use crate::documents::sha256;
use crate::error::Error;
use crate::provenance::{IN_TOTO, says_the_same};
use crate::referrers::sorted;

/// The media type of a bundle.
pub const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// Before the 65 bytes of a point on P-256 in a DER SubjectPublicKeyInfo (RFC 5480).
const P256_SPKI: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// A key of ECDSA on P-256.
pub struct SigningKey {
    pair: EcdsaKeyPair,
    random: SystemRandom,
}

impl SigningKey {
    /// Reads a key in PKCS#8 and PEM, as `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256` writes it.
    ///
    /// # Errors
    /// When the file cannot be read, or holds something else.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let pem = tare_oci::input::read(path).map_err(|source| Error::File {
            operation: "read",
            path: path.to_path_buf(),
            source,
        })?;
        let wrong = || {
            Error::Input(format!(
                "{} is no unencrypted P-256 key in PKCS#8: make one with \
                 `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`, or let cosign sign \
                 (`cosign attest --bundle FILE`)",
                path.display()
            ))
        };
        let item = ureq::tls::parse_pem(&pem).find_map(Result::ok);
        let Some(PemItem::PrivateKey(key)) = item else { return Err(wrong()) };
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, key.der(), &random);
        Ok(Self { pair: pair.map_err(|_| wrong())?, random })
    }

    /// What verifiers know the key by: the SHA-256 of its public half (cosign, `svkeypair.go`).
    fn hint(&self) -> String {
        let public = [&P256_SPKI[..], self.pair.public_key().as_ref()].concat();
        BASE64.encode(ring::digest::digest(&ring::digest::SHA256, &public))
    }

    /// A bundle around an in-toto statement.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn sign(&self, statement: &[u8]) -> Result<Vec<u8>, Error> {
        let signature = self.pair.sign(&self.random, &pre_authentication(IN_TOTO, statement));
        let signature = signature.map_err(|_| Error::Input("the system has no random numbers".to_owned()))?;
        // Without `keyid`: cosign compares it with a fingerprint of its own making, in the form of SSH.
        let bundle = json!({
            "mediaType": BUNDLE,
            "verificationMaterial": {"publicKey": {"hint": self.hint()}},
            "dsseEnvelope": {
                "payload": BASE64.encode(statement),
                "payloadType": IN_TOTO,
                "signatures": [{"sig": BASE64.encode(signature)}],
            },
        });
        Ok(sorted(bundle).to_string().into_bytes())
    }

    /// Whether `known` is a bundle with a signature of this key, whose statement says the same as that of `bundle`.
    pub(crate) fn has_signed(&self, known: &[u8], bundle: &[u8]) -> bool {
        let parse = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).ok();
        let part = |bundle: &serde_json::Value, pointer: &str| {
            BASE64.decode(bundle.pointer(pointer)?.as_str()?).ok()
        };
        let (Some(known), Some(bundle)) = (parse(known), parse(bundle)) else { return false };
        let payload = "/dsseEnvelope/payload";
        let (Some(statement), Some(signature)) =
            (part(&known, payload), part(&known, "/dsseEnvelope/signatures/0/sig"))
        else {
            return false;
        };
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, self.pair.public_key().as_ref());
        let frame = |bundle: &serde_json::Value| {
            (bundle["mediaType"].clone(), bundle["verificationMaterial"].clone())
        };
        part(&bundle, payload).is_some_and(|own| says_the_same(&statement, &own))
            && frame(&known) == frame(&bundle)
            && public.verify(&pre_authentication(IN_TOTO, &statement), &signature).is_ok()
    }
}

/// What is signed (DSSE, `PAE`).
fn pre_authentication(kind: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

/// The predicate type of a bundle's statement, for the annotations of its referrer.
///
/// # Errors
/// When it is no bundle of a statement about this image.
pub fn predicate_type(bundle: &[u8], digest: &str) -> Result<String, Error> {
    let wrong = |what: &str| Error::Input(format!("the bundle {what}"));
    let parse = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).ok();
    let bundle = parse(bundle).ok_or_else(|| wrong("is no JSON"))?;
    if bundle["mediaType"] != BUNDLE {
        return Err(wrong("is not of version 0.3"));
    }
    let payload = bundle["dsseEnvelope"]["payload"].as_str().and_then(|text| BASE64.decode(text).ok());
    let statement = payload.and_then(|payload| parse(&payload)).ok_or_else(|| wrong("holds no statement"))?;
    let subjects = statement["subject"].as_array().into_iter().flatten();
    let hex = digest.strip_prefix("sha256:").unwrap_or(digest);
    if !subjects.into_iter().any(|subject| subject["digest"]["sha256"] == hex) {
        return Err(wrong(&format!("is about another image than {digest}")));
    }
    let kind = statement["predicateType"].as_str().map(str::to_owned);
    kind.ok_or_else(|| wrong("has no type of predicate"))
}

/// The digest of a bundle's bytes, for its file's name.
#[must_use]
pub fn short_digest(bundle: &[u8]) -> String {
    sha256(bundle).digest()[..12].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_holds_a_signature_of_its_statement() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        let der =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new()).unwrap();
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", BASE64.encode(der));
        std::fs::write(&path, pem).unwrap();
        let key = SigningKey::read(&path).unwrap();
        let digest = format!("sha256:{}", "01".repeat(32));
        let statement = crate::provenance::statement("app", &digest, "https://a.example/b", &json!({}));
        let bundle = key.sign(&statement).unwrap();
        assert_eq!(predicate_type(&bundle, &digest).unwrap(), "https://a.example/b");
        let other = predicate_type(&bundle, "sha256:02").unwrap_err().to_string();
        assert_eq!(other, "the bundle is about another image than sha256:02");

        let bundle: serde_json::Value = serde_json::from_slice(&bundle).unwrap();
        let signature = bundle["dsseEnvelope"]["signatures"][0]["sig"].as_str().unwrap();
        let signature = BASE64.decode(signature).unwrap();
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.pair.public_key().as_ref());
        let signed = pre_authentication(IN_TOTO, &statement);
        public.verify(&signed, &signature).unwrap();
        let mut changed = signed.clone();
        changed[40] ^= 1;
        assert!(public.verify(&changed, &signature).is_err());

        // What is in a registry is only taken for ours where its signature is.
        let again = key.sign(&statement).unwrap();
        assert!(key.has_signed(bundle.to_string().as_bytes(), &again));
        let mut forged = bundle.clone();
        forged["dsseEnvelope"]["signatures"][0]["sig"] =
            json!(BASE64.encode(&signature[..signature.len() - 1]));
        assert!(!key.has_signed(forged.to_string().as_bytes(), &again));
        let other = key.sign(b"{}").unwrap();
        assert!(!key.has_signed(bundle.to_string().as_bytes(), &other));
    }

    #[test]
    fn other_keys_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        for content in ["", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "secret"] {
            std::fs::write(&path, content).unwrap();
            let error = SigningKey::read(&path).err().unwrap().to_string();
            assert!(
                error.contains("is no unencrypted P-256 key in PKCS#8") && !error.contains("secret"),
                "{error}"
            );
        }
    }
}
