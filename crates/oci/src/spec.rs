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
#[must_use]
pub fn oci_media_type(media_type: &MediaType) -> MediaType {
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

/// What docker adds to the `config` of an image, and what the specification reserves for it (image-spec config.md).
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct DockerConfig {
    healthcheck: Option<Healthcheck>,
    on_build: Option<Vec<String>>,
    shell: Option<Vec<String>>,
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
    /// Docker's instructions for a build that begins with this image.
    pub on_build: Vec<String>,
    /// The shell that docker starts commands in shell form with.
    pub shell: Vec<String>,
    /// Of the layers, lowest first.
    pub diff_ids: Vec<DiffId>,
}

impl Configuration {
    /// Reads the document.
    ///
    /// # Errors
    /// When it is no configuration, or has diff ids that cannot be checked.
    pub fn new(document: Value) -> Result<Self, JsonError> {
        let plain = without_nulls(document.clone());
        let docker = plain.get("config").map(DockerConfig::deserialize).transpose()?.unwrap_or_default();
        let DockerConfig { healthcheck, on_build, shell } = docker;
        let (on_build, shell) = (on_build.unwrap_or_default(), shell.unwrap_or_default());
        let image: ImageConfiguration = serde_json::from_value(plain)?;
        let mut execution = image.config().clone().unwrap_or_default();
        let (ports, volumes) = (sorted(execution.exposed_ports()), sorted(execution.volumes()));
        execution.set_exposed_ports(ports).set_volumes(volumes);
        let diff_ids = image.rootfs().diff_ids().clone().into();
        let diff_ids = serde_json::from_value(diff_ids)?;
        Ok(Self { document, image, execution, healthcheck, on_build, shell, diff_ids })
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

/// The document without the fields that are `null`: Go writes that for an absent list or map, and reads it as absent.
///
/// Lists that must be there become empty ones. A key of the author's stays, with the empty value that Go reads.
pub(crate) fn without_nulls(document: Value) -> Value {
    without_nulls_in("", document)
}

fn without_nulls_in(parent: &str, document: Value) -> Value {
    match document {
        Value::Object(fields) => {
            let kept = fields.into_iter().filter_map(|(key, value)| {
                let value = match (value, parent, key.as_str()) {
                    (Value::Null, "Labels" | "annotations", _) => Value::String(String::new()),
                    (Value::Null, "ExposedPorts" | "Volumes", _) => Value::Object(serde_json::Map::new()),
                    (Value::Null, _, "layers" | "manifests" | "diff_ids") => Value::Array(Vec::new()),
                    (Value::Null, ..) => return None,
                    (value, ..) => without_nulls_in(&key, value),
                };
                Some((key, value))
            });
            Value::Object(kept.collect())
        }
        Value::Array(items) => {
            Value::Array(items.into_iter().map(|item| without_nulls_in("", item)).collect())
        }
        other => other,
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
    let variant = variant.as_ref().filter(|variant| !variant.is_empty());
    let variant = variant.map(|variant| format!("/{variant}")).unwrap_or_default();
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn null_means_absent_in_every_optional_field() {
        let fields = json!({
            "created": null, "author": null, "os.version": null, "os.features": null, "variant": null, "history": null,
        });
        let of_config = json!({
            "User": null, "ExposedPorts": null, "Env": null, "Entrypoint": null, "Cmd": null, "Volumes": null,
            "WorkingDir": null, "Labels": null, "StopSignal": null, "Healthcheck": null, "OnBuild": null, "Shell": null,
        });
        let mut least = json!({
            "os": "linux", "architecture": "amd64", "config": {}, "rootfs": { "type": "layers", "diff_ids": [] },
        });
        let absent = Configuration::new(least.clone()).unwrap();
        least.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        least["config"] = of_config;
        least["rootfs"]["diff_ids"] = Value::Null;
        let null = Configuration::new(least.clone()).unwrap();
        assert_eq!(null, Configuration { document: least.clone(), ..absent });
        least["config"] = Value::Null;
        assert!(Configuration::new(least.clone()).is_ok());
        least["history"] =
            json!([{ "created": null, "created_by": null, "comment": null, "empty_layer": null }]);
        assert_eq!(Configuration::new(least.clone()).unwrap().history_of_layers().count(), 1);
        // A key of the author's is there all the same, as in Go.
        least["config"] = json!({
            "ExposedPorts": { "80/tcp": null }, "Volumes": { "/data": null }, "Labels": { "a": null },
            "Healthcheck": { "Test": null },
        });
        let read = Configuration::new(least).unwrap();
        assert_eq!(read.execution.exposed_ports(), &Some(vec!["80/tcp".to_owned()]));
        assert_eq!(read.execution.volumes(), &Some(vec!["/data".to_owned()]));
        assert_eq!(read.execution.labels().as_ref().unwrap()["a"], "");
        assert_eq!(read.healthcheck, Some(Healthcheck::default()));
    }

    #[test]
    fn null_is_absent_in_manifests_and_indexes() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let descriptor = json!({
            "mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": 1,
            "urls": null, "annotations": null, "platform": null, "artifactType": null, "data": null,
        });
        let manifest = json!({
            "schemaVersion": 2, "mediaType": null, "artifactType": null, "config": descriptor, "layers": null,
            "subject": null, "annotations": null,
        });
        let read: ImageManifest = serde_json::from_value(without_nulls(manifest)).unwrap();
        assert_eq!((read.layers().len(), read.annotations()), (0, &None));
        let index = json!({ "schemaVersion": 2, "manifests": null, "annotations": null, "subject": null });
        let read: ImageIndex = serde_json::from_value(without_nulls(index)).unwrap();
        assert!(read.manifests().is_empty());
    }
}
