//! The list of crates in a binary, in cargo-auditable's format: JSON, compressed with zlib, in the
//! section `.dep-v0`. syft, grype, trivy and cargo-audit read it.
//!
//! Pure; where the list comes from is `image::cargo`'s business.

use std::io::Read;

pub use auditable_serde::{DependencyKind, Package, Source, VersionInfo};

/// The readers of the format stop at 8 MiB as well (auditable-extract, PARSING.md).
const JSON_LIMIT: u64 = 8 << 20;

/// Why a section holds no list of crates.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// Not zlib, or too much.
    #[error("the audit data cannot be decompressed")]
    Zlib(#[source] std::io::Error),
    /// Not the JSON of the format.
    #[error("the audit data is not in cargo-auditable's format")]
    Json(#[source] serde_json::Error),
    /// It cannot be compressed.
    #[error("the audit data cannot be compressed")]
    Compress,
}

/// The section's content.
///
/// # Errors
/// Never for a list that a build can have; the libraries' signatures allow for it.
pub fn encode(packages: &VersionInfo) -> Result<Vec<u8>, AuditError> {
    let json = serde_json::to_vec(packages).map_err(AuditError::Json)?;
    let mut compressor = libdeflater::Compressor::new(libdeflater::CompressionLvl::best());
    let mut output = vec![0; compressor.zlib_compress_bound(json.len())];
    let length = compressor.zlib_compress(&json, &mut output).map_err(|_| AuditError::Compress)?;
    output.truncate(length);
    Ok(output)
}

/// The list of crates in a section.
///
/// # Errors
/// When it is damaged, too large, or of another format.
pub fn decode(section: &[u8]) -> Result<VersionInfo, AuditError> {
    let mut json = Vec::new();
    flate2::read::ZlibDecoder::new(section)
        .take(JSON_LIMIT)
        .read_to_end(&mut json)
        .map_err(AuditError::Zlib)?;
    serde_json::from_slice(&json).map_err(AuditError::Json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_round_trips() {
        let json = r#"{"packages":[{"name":"a","version":"1.0.0","source":"local","dependencies":[1],"root":true},{"name":"b","version":"0.1.0","source":"crates.io","kind":"build"}],"format":1}"#;
        let list: VersionInfo = json.parse().unwrap();
        assert_eq!(decode(&encode(&list).unwrap()).unwrap(), list);
        assert_eq!(serde_json::to_string(&list).unwrap(), json);
    }

    #[test]
    fn damage_is_an_error() {
        assert!(matches!(decode(b"not zlib"), Err(AuditError::Zlib(_))));
        let mut compressor = libdeflater::Compressor::new(libdeflater::CompressionLvl::best());
        let mut section = vec![0; 64];
        let length = compressor.zlib_compress(b"[]", &mut section).unwrap();
        assert!(matches!(decode(&section[..length]), Err(AuditError::Json(_))));
    }
}
