//! Layers and parameters joined to an image, and images of several platforms to an index.

use serde::Serialize;

use super::blob::{Blob, BlobSource};
use super::digest::Digest;
use super::layer::Layer;
use super::platform::Platform;
use super::spec::{self, Config, Descriptor, Execution, History, Index as SpecIndex, Manifest, Map, RootFs};
use crate::units::Epoch;

/// What an image is made of.
#[derive(Clone, Debug)]
pub struct Parts {
    /// What it runs on.
    pub platform: Platform,
    /// How it runs.
    pub execution: Execution,
    /// Who made it.
    pub author: Option<String>,
    /// Never "now": the commit's time, or what SOURCE_DATE_EPOCH says.
    pub created: Epoch,
    /// The manifest's annotations.
    pub annotations: Map,
    /// Lowest first, each with its blob.
    pub layers: Vec<(Layer, BlobSource)>,
}

/// An image for one platform: manifest, config and layers.
#[derive(Clone, Debug)]
pub struct Image {
    /// What it runs on.
    pub platform: Platform,
    /// Its digest is the image's digest.
    pub manifest: Blob,
    /// Its digest is the image id.
    pub config: Blob,
    /// Lowest first.
    pub layers: Vec<(Layer, Blob)>,
}

impl Image {
    /// Joins the parts.
    ///
    /// # Errors
    /// When a document cannot be serialised, which no value of these types causes.
    pub fn new(parts: Parts) -> serde_json::Result<Self> {
        let Parts { platform, execution, author, created, annotations, layers } = parts;
        let created = created.to_string();
        let history = layers.iter().map(|(layer, _)| History {
            created: Some(created.clone()),
            created_by: Some(format!("tare: layer {}", layer.name)),
            ..History::default()
        });
        let config = Config {
            created: Some(created.clone()),
            author,
            architecture: platform.architecture().to_owned(),
            os: "linux".to_owned(),
            variant: None,
            config: execution,
            rootfs: RootFs {
                kind: "layers".to_owned(),
                diff_ids: layers.iter().map(|(layer, _)| layer.diff_id).collect(),
            },
            history: history.collect(),
        };
        let config = Blob::of(spec::CONFIG, to_json(&config)?);
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(spec::MANIFEST.to_owned()),
            config: config.descriptor.clone(),
            layers: layers.iter().map(|(layer, _)| layer.descriptor.clone()).collect(),
            annotations,
        };
        let mut manifest = Blob::of(spec::MANIFEST, to_json(&manifest)?);
        manifest.descriptor.platform = Some(platform.to_spec());
        let layers = layers
            .into_iter()
            .map(|(layer, source)| {
                let blob = Blob { descriptor: layer.descriptor.clone(), source };
                (layer, blob)
            })
            .collect();
        Ok(Self { platform, manifest, config, layers })
    }
}

/// What a name refers to: one image, or an index of one image for each platform.
#[derive(Clone, Debug)]
pub struct Index {
    images: Vec<Image>,
    index: Option<Blob>,
}

impl Index {
    /// Joins images; a single one needs no index above it.
    ///
    /// # Errors
    /// When a document cannot be serialised, which no value of these types causes.
    pub fn new(images: Vec<Image>, annotations: Map) -> serde_json::Result<Self> {
        let index = match images.as_slice() {
            [_] => None,
            _ => {
                let index = SpecIndex {
                    schema_version: 2,
                    media_type: Some(spec::INDEX.to_owned()),
                    manifests: images.iter().map(|image| image.manifest.descriptor.clone()).collect(),
                    annotations,
                };
                Some(Blob::of(spec::INDEX, to_json(&index)?))
            }
        };
        Ok(Self { images, index })
    }

    /// The images, in the order of the definition's platforms.
    #[must_use]
    pub fn images(&self) -> &[Image] {
        &self.images
    }

    /// What the name refers to. None only for an index of no images.
    #[must_use]
    pub fn root(&self) -> Option<&Descriptor> {
        let manifest = || self.images.first().map(|image| &image.manifest.descriptor);
        self.index.as_ref().map(|blob| &blob.descriptor).or_else(manifest)
    }

    /// Every blob once, in the order of their digests.
    #[must_use]
    pub fn blobs(&self) -> Vec<&Blob> {
        let of_images = self.images.iter().flat_map(|image| {
            [&image.manifest, &image.config].into_iter().chain(image.layers.iter().map(|(_, blob)| blob))
        });
        let mut blobs: Vec<&Blob> = of_images.chain(&self.index).collect();
        blobs.sort_by_key(|blob| blob.descriptor.digest);
        blobs.dedup_by_key(|blob| blob.descriptor.digest);
        blobs
    }

    /// The digest that stands behind `@` in a reference.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        self.root().map(|root| root.digest)
    }
}

/// Compact JSON: the bytes that digests are taken of.
pub(crate) fn to_json(document: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(document)
}
