//! The root certificates of Mozilla's program, as the PEM file that programs look for.

/// The comment at the head of the file; readers of PEM skip what is outside its blocks.
const HEADER: &str = "\
# Root certificates of the Mozilla CA Certificate Program (https://wiki.mozilla.org/CA), as distributed
# in the crate webpki-root-certs under CDLA-Permissive-2.0 (https://cdla.dev/permissive-2-0/).
";

/// The bundle, in the crate's order, which is fixed for each of its versions.
#[must_use]
pub(super) fn bundle() -> Vec<u8> {
    let mut pem = HEADER.as_bytes().to_vec();
    for certificate in webpki_root_certs::TLS_SERVER_ROOT_CERTS {
        pem.extend_from_slice(b"-----BEGIN CERTIFICATE-----\n");
        certificate.chunks(48).for_each(|line| push_line(&mut pem, line));
        pem.extend_from_slice(b"-----END CERTIFICATE-----\n");
    }
    pem
}

/// Up to 48 bytes as base64 in a line of up to 64 characters (RFC 7468, section 3). Digit by digit into an array:
/// adopters build this without optimisation, where anything nicer takes longer than to compress what comes out.
fn push_line(pem: &mut Vec<u8>, der: &[u8]) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = [0; 48];
    bytes[..der.len()].copy_from_slice(der);
    let mut line = [0; 65];
    let mut length = 0;
    let mut at = 0;
    while at < der.len() {
        let (one, two, three) = (bytes[at] as usize, bytes[at + 1] as usize, bytes[at + 2] as usize);
        line[length] = DIGITS[one >> 2];
        line[length + 1] = DIGITS[one << 4 & 63 | two >> 4];
        line[length + 2] = DIGITS[two << 2 & 63 | three >> 6];
        line[length + 3] = DIGITS[three & 63];
        length += 4;
        at += 3;
    }
    for missing in 0..at - der.len() {
        line[length - 1 - missing] = b'=';
    }
    line[length] = b'\n';
    pem.extend_from_slice(&line[..=length]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_rfc_4648() {
        for (bytes, text) in
            [("", ""), ("f", "Zg==\n"), ("fo", "Zm8=\n"), ("foo", "Zm9v\n"), ("foobar", "Zm9vYmFy\n")]
        {
            let mut pem = Vec::new();
            bytes.as_bytes().chunks(48).for_each(|line| push_line(&mut pem, line));
            assert_eq!(String::from_utf8_lossy(&pem), text);
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
