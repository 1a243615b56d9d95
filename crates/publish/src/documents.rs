//! Manifests and indexes as far as they have to be understood to be moved: which documents and blobs they name.
//!
//! Their bytes are never written anew: a digest stands for bytes, and other tools order their JSON differently.

use oci_spec::image::{Descriptor, Digest};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::error::Error;

pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// Everything that has a place below `manifests/`.
pub(crate) const MANIFEST_TYPES: [&str; 4] = [INDEX, MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST];

/// What a document names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Links {
    /// Manifests and indexes, of an index.
    pub(crate) manifests: Vec<Descriptor>,
    /// Configuration and layers, of a manifest, without those that other hosts have.
    pub(crate) blobs: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct IndexDocument {
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct ManifestDocument {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

pub(crate) fn is_manifest(media_type: &str) -> bool {
    MANIFEST_TYPES.contains(&media_type)
}

pub(crate) fn is_index(media_type: &str) -> bool {
    matches!(media_type, INDEX | DOCKER_INDEX)
}

/// The `mediaType` that a document says of itself, if it is one of a manifest or index.
pub(crate) fn media_type(bytes: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Document {
        media_type: String,
    }
    let document: Document = serde_json::from_slice(bytes).ok()?;
    is_manifest(&document.media_type).then_some(document.media_type)
}

/// What a manifest or index names.
pub(crate) fn links(descriptor: &Descriptor, bytes: &[u8]) -> Result<Links, Error> {
    let digest = descriptor.digest();
    let wrong = |error| Error::Input(format!("{digest} cannot be understood: {error}"));
    // Other readers would take another value (CVE-2021-41190).
    if tare_oci::input::from_unambiguous_json(bytes).map_err(wrong)?.is_none() {
        return Err(Error::Input(format!(
            "{digest} contradicts itself: a key stands twice, or in two cases"
        )));
    }
    let media_type = descriptor.media_type().to_string();
    if is_index(&media_type) {
        let IndexDocument { manifests } = tare_oci::input::from_json(bytes).map_err(wrong)?;
        return Ok(Links { manifests, blobs: vec![] });
    }
    let ManifestDocument { config, layers } = tare_oci::input::from_json(bytes).map_err(wrong)?;
    let is_here = |layer: &Descriptor| {
        let kind = layer.media_type().to_string();
        !kind.contains("nondistributable") && !kind.contains("foreign")
    };
    let blobs = std::iter::once(config).chain(layers.into_iter().filter(is_here)).collect();
    Ok(Links { manifests: vec![], blobs })
}

/// The digest of some bytes.
pub(crate) fn sha256(bytes: &[u8]) -> Digest {
    digest_of(Sha256::new_with_prefix(bytes))
}

/// The digest of everything that a hasher was given.
#[expect(clippy::expect_used, reason = "64 hexadecimal digits are a digest")]
pub(crate) fn digest_of(hasher: Sha256) -> Digest {
    let hex = hasher.finalize().iter().fold(String::from("sha256:"), |mut text, byte| {
        use std::fmt::Write as _;
        let _ = write!(text, "{byte:02x}");
        text
    });
    hex.parse().expect("a digest")
}
