//! The root certificates of Mozilla's program, as the PEM file that programs look for.

/// The comment at the head of the file; readers of PEM skip what is outside its blocks.
const HEADER: &str = "\
# Root certificates of the Mozilla CA Certificate Program (https://wiki.mozilla.org/CA), as distributed
# in the crate webpki-root-certs under CDLA-Permissive-2.0 (https://cdla.dev/permissive-2-0/).
";

/// The bundle, in the crate's order, which is fixed for each of its versions.
#[must_use]
pub(super) fn bundle() -> Vec<u8> {
    let mut pem = HEADER.to_owned();
    for certificate in webpki_root_certs::TLS_SERVER_ROOT_CERTS {
        pem.push_str("-----BEGIN CERTIFICATE-----\n");
        push_base64(&mut pem, certificate);
        pem.push_str("-----END CERTIFICATE-----\n");
    }
    pem.into_bytes()
}

/// Base64 in lines of 64 characters (RFC 7468, section 3).
fn push_base64(pem: &mut String, der: &[u8]) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for line in der.chunks(48) {
        for group in line.chunks(3) {
            let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
            let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
            for digit in 0..4 {
                let shown = if digit <= group.len() {
                    DIGITS[(bits >> (18 - 6 * digit) & 63) as usize]
                } else {
                    b'='
                };
                pem.push(char::from(shown));
            }
        }
        pem.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_rfc_4648() {
        for (bytes, text) in
            [("", ""), ("f", "Zg==\n"), ("fo", "Zm8=\n"), ("foo", "Zm9v\n"), ("foobar", "Zm9vYmFy\n")]
        {
            let mut pem = String::new();
            push_base64(&mut pem, bytes.as_bytes());
            assert_eq!(pem, text);
        }
    }

    #[test]
    fn the_bundle_holds_every_certificate() {
        let pem = String::from_utf8(bundle()).unwrap();
        let count = pem.matches("-----BEGIN CERTIFICATE-----\nMII").count();
        assert_eq!(count, webpki_root_certs::TLS_SERVER_ROOT_CERTS.len());
        assert!(pem.lines().all(|line| line.starts_with('#') || line.len() <= 64));
    }
}
