//! The documents of the OCI image specification: the types of the crate `oci-spec`, and what is docker's beside them.
//!
//! Its maps are unordered, so documents are written by `to_json` alone. `Healthcheck` is no OCI field but a reserved
//! one (image-spec config.md): docker reads it whatever the media type (docker-image-spec, `Healthcheck`).

use std::collections::{BTreeMap, HashMap};

pub use oci_spec::OciSpecError;
pub use oci_spec::image::{
    Arch, Config, Descriptor, History, ImageConfiguration, ImageIndex, ImageIndexBuilder, ImageManifest,
    ImageManifestBuilder, MediaType, Os, Platform, RootFs,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::digest::DiffId;
use crate::input::JsonError;

/// Ordered keys and values, as annotations and labels are written.
pub type Map = BTreeMap<String, String>;

/// Annotations or labels as oci-spec has them.
#[must_use]
pub fn unless_empty(map: Map) -> Option<HashMap<String, String>> {
    (!map.is_empty()).then(|| map.into_iter().collect())
}

/// The media type in OCI's name, where it is docker's name for the same kind of document or layer.
pub(crate) fn oci_media_type(media_type: &MediaType) -> MediaType {
    match media_type.as_ref() {
        "application/vnd.docker.distribution.manifest.list.v2+json" => MediaType::ImageIndex,
        "application/vnd.docker.distribution.manifest.v2+json" => MediaType::ImageManifest,
        "application/vnd.docker.container.image.v1+json" => MediaType::ImageConfig,
        "application/vnd.docker.image.rootfs.diff.tar.gzip" => MediaType::ImageLayerGzip,
        "application/vnd.docker.image.rootfs.diff.tar" => MediaType::ImageLayer,
        _ => media_type.clone(),
    }
}

/// Docker's health check. Durations are nanoseconds; 0 or absent means docker's default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `["CMD", arg…]`, `["CMD-SHELL", line]` or `["NONE"]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<Vec<String>>,
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

/// An image's configuration, as read; its digest is the image id (image-spec config.md).
#[derive(Clone, Debug, PartialEq)]
pub struct Configuration {
    /// The document as it stands there.
    pub document: Value,
    /// What oci-spec reads in it.
    pub image: ImageConfiguration,
    /// The parameters that a container is run with. Ports and volumes are sorted.
    pub execution: Config,
    /// Docker's health check.
    pub healthcheck: Option<Healthcheck>,
    /// Of the layers, lowest first.
    pub diff_ids: Vec<DiffId>,
}

impl Configuration {
    /// Reads the document.
    ///
    /// # Errors
    /// When it is no configuration, or has diff ids that cannot be checked.
    pub fn new(document: Value) -> Result<Self, JsonError> {
        let image: ImageConfiguration = serde_json::from_value(document.clone())?;
        let healthcheck = document.pointer("/config/Healthcheck").cloned().unwrap_or_default();
        let mut execution = image.config().clone().unwrap_or_default();
        let (ports, volumes) = (sorted(execution.exposed_ports()), sorted(execution.volumes()));
        execution.set_exposed_ports(ports).set_volumes(volumes);
        let diff_ids = image.rootfs().diff_ids().clone().into();
        let healthcheck = serde_json::from_value(healthcheck)?;
        let diff_ids = serde_json::from_value(diff_ids)?;
        Ok(Self { document, image, execution, healthcheck, diff_ids })
    }

    /// What it runs on: `linux/arm64/v8`.
    #[must_use]
    pub fn platform(&self) -> String {
        platform(self.image.os(), self.image.architecture(), self.image.variant())
    }

    /// The steps that made a layer, lowest first.
    pub fn history_of_layers(&self) -> impl Iterator<Item = &History> {
        self.image.history().iter().flatten().filter(|step| step.empty_layer() != Some(true))
    }
}

/// What oci-spec took out of an unordered map.
fn sorted(names: &Option<Vec<String>>) -> Option<Vec<String>> {
    let mut names = names.clone();
    names.iter_mut().for_each(|names| names.sort_unstable());
    names
}

/// `linux/arm64/v8`
pub(crate) fn platform(os: &Os, architecture: &Arch, variant: &Option<String>) -> String {
    let variant = variant.as_ref().map(|variant| format!("/{variant}")).unwrap_or_default();
    format!("{os}/{architecture}{variant}")
}

/// An index as it is written.
pub(crate) fn index(manifests: Vec<Descriptor>, annotations: Map) -> Result<Vec<u8>, OciSpecError> {
    let index = ImageIndexBuilder::default().schema_version(2_u32).media_type(MediaType::ImageIndex);
    let mut index = index.manifests(manifests).build()?;
    index.set_annotations(unless_empty(annotations));
    Ok(to_json(&index)?)
}

/// Compact JSON with sorted keys: the bytes that digests are taken of. serde_json sorts them itself, unless another
/// package of the build wants `preserve_order`.
pub(crate) fn to_json(document: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut value = serde_json::to_value(document)?;
    value.sort_all_objects();
    serde_json::to_vec(&value)
}
