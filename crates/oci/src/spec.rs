//! The JSON documents of the OCI image specification 1.1, field by field in the order they are written.
//!
//! Maps are ordered, absent fields are left out, unknown fields of other tools' images are ignored.
//! `Healthcheck` is no OCI field but a reserved one (image-spec config.md): docker reads it
//! whatever the media type, in its own form (docker-image-spec, `Healthcheck`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::digest::{DiffId, Digest};

/// `application/vnd.oci.image.index.v1+json`
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// `application/vnd.oci.image.manifest.v1+json`
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// `application/vnd.oci.image.config.v1+json`
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// An uncompressed layer.
pub const LAYER_TAR: &str = "application/vnd.oci.image.layer.v1.tar";
/// A layer compressed with gzip.
pub const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// A layer compressed with zstd.
pub const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// Docker's names for the same documents, met in other tools' images.
pub(crate) const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
pub(crate) const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
pub(crate) const DOCKER_LAYER_TAR: &str = "application/vnd.docker.image.rootfs.diff.tar";

/// Ordered keys and values, as annotations and labels are.
pub type Map = BTreeMap<String, String>;

/// A set without values, written `{"8080/tcp": {}}` (exposed ports and volumes).
pub type Set = BTreeMap<String, Empty>;

/// `{}`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// Points at a blob by digest and size (image-spec descriptor.md).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the blob is.
    pub media_type: String,
    /// Digest of the blob as stored.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// For a manifest in an index: what it runs on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// For a referrer: what kind of artifact it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Keys and values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: Map,
}

impl Descriptor {
    /// A descriptor without the optional parts.
    #[must_use]
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            platform: None,
            artifact_type: None,
            annotations: Map::new(),
        }
    }
}

/// What an image runs on (image-spec image-index.md).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// Go's `GOARCH`.
    pub architecture: String,
    /// Go's `GOOS`.
    pub os: String,
    /// Version of the operating system.
    #[serde(rename = "os.version", skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Variant of the CPU, such as `v8`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

/// The list of manifests of one image, or of everything in a layout (image-spec image-index.md).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// [`INDEX`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Manifests or further indexes.
    pub manifests: Vec<Descriptor>,
    /// Keys and values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: Map,
}

/// One image for one platform (image-spec manifest.md).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// [`MANIFEST`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Descriptor of the [`Config`].
    pub config: Descriptor,
    /// Layers, lowest first.
    pub layers: Vec<Descriptor>,
    /// Keys and values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: Map,
}

/// The image configuration; its digest is the image id (image-spec config.md).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Go's `GOARCH`.
    pub architecture: String,
    /// Go's `GOOS`.
    pub os: String,
    /// Variant of the CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// What a container made from it starts with.
    #[serde(default)]
    pub config: Execution,
    /// The layers' diff ids.
    pub rootfs: RootFs,
    /// One entry for every layer, and more for steps that made none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
}

/// The `config` of a [`Config`]: the parameters a container is run with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Execution {
    /// `UID[:GID]`, or names that the image's own passwd knows.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// `PORT/tcp`, `PORT/udp`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_as_default")]
    pub exposed_ports: Set,
    /// `NAME=VALUE`.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_as_default")]
    pub env: Vec<String>,
    /// The command that is always run.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_as_default")]
    pub entrypoint: Vec<String>,
    /// Its default arguments.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_as_default")]
    pub cmd: Vec<String>,
    /// Docker's health check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Paths that hold data.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_as_default")]
    pub volumes: Set,
    /// Current directory of the command.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Keys and values.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_as_default")]
    pub labels: Map,
    /// The signal that asks it to stop.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
}

/// Go writes an absent slice or map as `null`, and docker's images are full of them.
fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Docker's health check. Durations are nanoseconds; 0 or absent means docker's default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `["CMD", arg…]`, `["CMD-SHELL", line]` or `["NONE"]`.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_as_default")]
    pub test: Vec<String>,
    /// From the end of one check to the start of the next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<u64>,
    /// How long one check may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u64>,
    /// How long failures do not count after the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_period: Option<u64>,
    /// The interval during the start period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_interval: Option<u64>,
    /// Failures in a row that mean unhealthy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
}

/// The layers as the config lists them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Diff ids, lowest layer first.
    pub diff_ids: Vec<DiffId>,
}

/// How a layer came to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// What made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// Free text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whether the step made no layer.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}
