//! Layers and parameters joined to an image, and images of several platforms to an index.

use super::blob::{Blob, BlobSource};
use super::layer::Layer;
use super::platform::Platform;
use super::spec::{
    self, Config, Descriptor, Healthcheck, History, ImageConfiguration, ImageManifestBuilder, Map, MediaType,
    OciSpecError, RootFs, to_json, unless_empty,
};
use crate::units::Epoch;

/// The part of an image that is taken over from another image, as its base.
#[derive(Clone, Debug, Default)]
pub struct Base {
    /// Lowest first, each with its blob.
    pub layers: Vec<(Layer, BlobSource)>,
    /// The steps that made its layers, oldest first. If their number of layers is another one, they are replaced.
    pub history: Vec<History>,
    /// Docker's `Shell`, which starts commands in shell form.
    pub shell: Vec<String>,
}

impl Base {
    /// One step for each layer, and those without a layer between them.
    fn into_history(self) -> Vec<History> {
        let with_layer = self.history.iter().filter(|step| step.empty_layer() != Some(true)).count();
        if with_layer == self.layers.len() {
            return self.history;
        }
        let unknown = |_| {
            let mut step = History::default();
            step.set_created_by(Some("layer of the base image".to_owned()));
            step
        };
        self.layers.iter().map(unknown).collect()
    }
}

/// What an image is made of.
#[derive(Clone, Debug)]
pub struct Parts {
    /// What it runs on.
    pub platform: Platform,
    /// The image below the layers; without layers if there is none.
    pub base: Base,
    /// How it runs.
    pub execution: Config,
    /// Docker's health check.
    pub healthcheck: Option<Healthcheck>,
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
    pub fn new(parts: Parts) -> Result<Self, OciSpecError> {
        let Parts { platform, base, execution, healthcheck, author, created, annotations, layers } = parts;
        let created = Some(created.to_string());
        let own = layers.iter().map(|(layer, _)| {
            let mut step = History::default();
            step.set_created(created.clone()).set_created_by(Some(format!("tare: layer {}", layer.name)));
            step
        });
        let own: Vec<History> = own.collect();
        let layers: Vec<_> = base.layers.iter().cloned().chain(layers).collect();
        let shell = base.shell.clone();
        let history = base.into_history().into_iter().chain(own).collect();
        let mut rootfs = RootFs::default();
        rootfs.set_diff_ids(layers.iter().map(|(layer, _)| layer.diff_id.to_string()).collect());
        let spec = platform.to_spec();
        let mut config = ImageConfiguration::default();
        config.set_created(created.clone()).set_author(author).set_config(Some(execution)).set_rootfs(rootfs);
        config.set_os(spec.os().clone()).set_architecture(spec.architecture().clone());
        config.set_history(Some(history));
        let mut config = serde_json::to_value(&config)?;
        if let Some(healthcheck) = healthcheck {
            config["config"]["Healthcheck"] = serde_json::to_value(healthcheck)?;
        }
        if !shell.is_empty() {
            config["config"]["Shell"] = shell.into();
        }
        let config = Blob::of(MediaType::ImageConfig, to_json(&config)?);
        let layer_descriptors = layers.iter().map(|(layer, _)| layer.descriptor.clone());
        let mut manifest = ImageManifestBuilder::default()
            .schema_version(2_u32)
            .media_type(MediaType::ImageManifest)
            .config(config.descriptor.clone())
            .layers(layer_descriptors.collect::<Vec<_>>())
            .build()?;
        manifest.set_annotations(unless_empty(annotations));
        let mut manifest = Blob::of(MediaType::ImageManifest, to_json(&manifest)?);
        manifest.descriptor.set_platform(Some(spec));
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
    pub fn new(images: Vec<Image>, annotations: Map) -> Result<Self, OciSpecError> {
        let index = match images.as_slice() {
            [_] => None,
            _ => {
                let manifests = images.iter().map(|image| image.manifest.descriptor.clone()).collect();
                Some(Blob::of(MediaType::ImageIndex, spec::index(manifests, annotations)?))
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
        blobs.sort_by(|a, b| a.descriptor.digest().as_ref().cmp(b.descriptor.digest().as_ref()));
        blobs.dedup_by(|a, b| a.descriptor.digest() == b.descriptor.digest());
        blobs
    }
}
