//! Reading images that anybody wrote: OCI layouts, OCI archives, docker archives, and tars that are both.
//!
//! Nothing here trusts its input: documents are bounded, archives are read by position and not into
//! memory, and names never become paths outside the folder that is read.

use super::archive::DockerManifest;
use super::digest::Digest;
pub use super::read_layer::{LayerBlob, LayerFacts, read_layer};
pub use super::source::{BlobRef, Encoding, ReadError, Source};
use super::spec::{self, Configuration, Descriptor, ImageIndex, ImageManifest, MediaType, oci_media_type};
pub use super::untar::ReadEntry;

/// Indexes within indexes; one level is usual.
const DEPTH_LIMIT: usize = 4;
/// Images in one layout; more is a mistake or an attack.
pub(super) const IMAGES_LIMIT: usize = 4096;
/// Descriptors that are followed, however often indexes name each other: each image may have an attestation.
const DESCRIPTORS_LIMIT: usize = 2 * IMAGES_LIMIT;
/// Bytes of all documents, which are kept.
pub(super) const DOCUMENTS_LIMIT: u64 = 32 << 20;

/// One image for one platform, as read.
#[derive(Debug, Clone)]
pub struct ReadImage {
    /// Names it goes by.
    pub names: Vec<String>,
    /// Of the manifest; none in a docker archive.
    pub manifest: Option<(BlobRef, ImageManifest)>,
    /// The digest of the config.
    pub image_id: Digest,
    /// The file of the config.
    pub config_file: String,
    /// The config.
    pub config: Configuration,
    /// Lowest first.
    pub layers: Vec<LayerBlob>,
}

/// Something in an index that is no image to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Other {
    /// As the index has it.
    pub digest: String,
    /// What it is.
    pub kind: OtherKind,
}

/// What stands in an index beside the images that are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OtherKind {
    /// An image or index whose blobs are not there: `docker save` and `skopeo copy` without `--all` write the one
    /// platform that they have, and the index of all (image-spec image-layout.md: "blobs may be missing").
    NotCarried {
        /// As the index has it.
        platform: Option<String>,
        /// The first file that is not there.
        missing: String,
    },
    /// What BuildKit says about an image: an SBOM or a provenance (docker docs, "Image attestation storage").
    Attestation {
        /// The digest of the image's manifest, as written there.
        of: Option<String>,
        /// Types of the statements (in-toto).
        predicates: Vec<String>,
    },
    /// A manifest of something else, with its media type.
    Artifact(String),
    /// Neither manifest nor index, with its media type.
    Unknown(String),
}

impl std::fmt::Display for Other {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { digest, kind } = self;
        match kind {
            OtherKind::NotCarried { platform, .. } => {
                let platform = platform.as_deref().unwrap_or("a manifest");
                write!(f, "{platform} is listed, but not carried: {digest}")
            }
            OtherKind::Attestation { of, predicates } => {
                write!(f, "attestation {digest}")?;
                of.iter().try_for_each(|of| write!(f, " of {of}"))?;
                let predicates = predicates.join(", ");
                if predicates.is_empty() { Ok(()) } else { write!(f, ": {predicates}") }
            }
            OtherKind::Artifact(media_type) => write!(f, "an artifact of `{media_type}`: {digest}"),
            OtherKind::Unknown(media_type) => write!(f, "`{media_type}`, which is not known: {digest}"),
        }
    }
}

/// Everything that a layout or archive lists.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    /// The images that are there.
    pub images: Vec<ReadImage>,
    /// What else its indexes list.
    pub others: Vec<Other>,
}

/// Names in `index.json` annotations, the fullest first.
fn names(descriptor: &Descriptor) -> Vec<String> {
    ["io.containerd.image.name", "org.opencontainers.image.ref.name"]
        .iter()
        .find_map(|key| descriptor.annotations().as_ref()?.get(*key))
        .cloned()
        .into_iter()
        .collect()
}

/// Finds every image in a source.
///
/// # Errors
/// When a document is missing or wrong, or there is no image.
pub fn images(source: &Source) -> Result<Vec<ReadImage>, ReadError> {
    Ok(contents(source)?.images)
}

/// Finds every image in a source, and what is listed beside them.
///
/// # Errors
/// When a document is missing or wrong, or there is no image.
pub fn contents(source: &Source) -> Result<Contents, ReadError> {
    let contents = Contents::default();
    let mut reading =
        Reading { source, descriptors: DESCRIPTORS_LIMIT, documents: DOCUMENTS_LIMIT, contents };
    if source.contains("index.json") {
        let index = source.top_index()?;
        for descriptor in index.manifests() {
            reading.descriptor(descriptor, &names(descriptor), DEPTH_LIMIT)?;
        }
    } else {
        reading.docker_images()?;
    }
    let contents = reading.contents;
    if contents.images.is_empty() {
        return Err(no_image(source, &contents.others));
    }
    if source.contains("index.json") && source.contains("manifest.json") {
        agree(source, &contents.images)?;
    }
    Ok(contents)
}

fn no_image(source: &Source, others: &[Other]) -> ReadError {
    let path = source.path().to_path_buf();
    let missing = |other: &Other| match &other.kind {
        OtherKind::NotCarried { missing, .. } => Some(missing.clone()),
        _ => None,
    };
    match others.iter().find_map(missing) {
        Some(name) => ReadError::Missing { path, name },
        None => ReadError::NoImage { path, what: instead_of_images(others) },
    }
}

/// What there is where there is no image.
pub(super) fn instead_of_images(others: &[Other]) -> String {
    const SHOWN: usize = 5;
    if others.is_empty() {
        return "nothing is listed in it".to_owned();
    }
    let mut shown: Vec<String> = others.iter().take(SHOWN).map(ToString::to_string).collect();
    if others.len() > SHOWN {
        shown.push(format!("and {} more", others.len() - SHOWN));
    }
    shown.join("; ")
}

/// What `docker load` takes out of an archive that is a layout too is one of the layout's images.
fn agree(source: &Source, images: &[ReadImage]) -> Result<(), ReadError> {
    // What cannot be read is no other image; `validate` names it.
    let Ok(items) = source.json::<Vec<DockerManifest>>("manifest.json") else { return Ok(()) };
    for item in items.iter().take(IMAGES_LIMIT) {
        if images.iter().any(|image| image.config_file == item.config) {
            continue;
        }
        let Ok((_, id)) = source.docker_configuration(&item.config) else { continue };
        if !images.iter().any(|image| image.image_id == id) {
            let what = format!("its config {} is of no image in index.json", item.config);
            return Err(ReadError::Contradiction { name: "manifest.json".to_owned(), what });
        }
    }
    Ok(())
}

/// Whether a layer with this media type is a layer of files, whatever its compression.
pub(super) fn is_layer(media_type: &MediaType) -> bool {
    layer_encoding(media_type).is_some()
}

/// How a layer is compressed, as its media type says.
pub(super) fn layer_encoding(media_type: &MediaType) -> Option<Encoding> {
    match oci_media_type(media_type) {
        MediaType::ImageLayer | MediaType::ImageLayerNonDistributable => Some(Encoding::Plain),
        MediaType::ImageLayerGzip | MediaType::ImageLayerNonDistributableGzip => Some(Encoding::Gzip),
        MediaType::ImageLayerZstd | MediaType::ImageLayerNonDistributableZstd => Some(Encoding::Zstd),
        _ => None,
    }
}

/// The type that newer versions of BuildKit give their attestations, whose config is then empty.
const ATTESTATION: &str = "application/vnd.docker.attestation.manifest.v1+json";

/// What a manifest is that is none of an image's.
///
/// BuildKit gives its attestations the config of an image, as cosign its signatures: layers tell them apart. An image
/// cannot be hidden by an annotation.
pub(super) fn no_image_but(descriptor: &Descriptor, manifest: &ImageManifest) -> Option<OtherKind> {
    let config_type = manifest.config().media_type();
    let is_config = oci_media_type(config_type) == MediaType::ImageConfig;
    let layers = manifest.layers();
    if is_config && layers.iter().any(|layer| is_layer(layer.media_type())) {
        return None;
    }
    let annotation = |of: &Descriptor, key: &str| of.annotations().as_ref()?.get(key).cloned();
    let in_toto = |layer: &Descriptor| layer.media_type().as_ref() == "application/vnd.in-toto+json";
    let says_so =
        annotation(descriptor, "vnd.docker.reference.type").as_deref() == Some("attestation-manifest");
    let unknown = descriptor.platform().as_ref().is_some_and(|it| it.os().to_string() == "unknown");
    let typed = manifest.artifact_type().as_ref().is_some_and(|it| it.as_ref() == ATTESTATION);
    if says_so || typed || is_config && (unknown || (!layers.is_empty() && layers.iter().all(in_toto))) {
        let predicates = layers.iter().filter_map(|layer| annotation(layer, "in-toto.io/predicate-type"));
        let of = annotation(descriptor, "vnd.docker.reference.digest");
        return Some(OtherKind::Attestation { of, predicates: predicates.collect() });
    }
    let named = match (manifest.artifact_type(), layers.first()) {
        (Some(named), _) => named,
        (None, Some(layer)) if is_config => layer.media_type(),
        _ if !is_config => config_type,
        // An image of no layers.
        _ => return None,
    };
    Some(OtherKind::Artifact(named.to_string()))
}

/// The platform that an index gives an entry.
pub(super) fn platform_of(descriptor: &Descriptor) -> Option<String> {
    let platform = descriptor.platform().as_ref()?;
    Some(spec::platform(platform.os(), platform.architecture(), platform.variant()))
}

struct Reading<'a> {
    source: &'a Source,
    /// How many more may be followed.
    descriptors: usize,
    /// How many more bytes may be read.
    documents: u64,
    contents: Contents,
}

impl Reading<'_> {
    fn other(&mut self, descriptor: &Descriptor, kind: OtherKind) {
        let other = Other { digest: descriptor.digest().to_string(), kind };
        // Known by several names, it is still one.
        if !self.contents.others.contains(&other) {
            self.contents.others.push(other);
        }
    }

    fn spend(&mut self, bytes: u64) -> Result<(), ReadError> {
        let what = || ReadError::Refused(format!("its documents have more than {DOCUMENTS_LIMIT} bytes"));
        self.documents = self.documents.checked_sub(bytes).ok_or_else(what)?;
        Ok(())
    }

    fn descriptor(
        &mut self,
        descriptor: &Descriptor,
        names: &[String],
        depth: usize,
    ) -> Result<(), ReadError> {
        if depth == 0 || self.descriptors == 0 || self.contents.images.len() >= IMAGES_LIMIT {
            let what = format!("{} holds more indexes or images than any real layout", descriptor.digest());
            return Err(ReadError::Refused(what));
        }
        self.descriptors -= 1;
        let kind = oci_media_type(descriptor.media_type());
        if !matches!(kind, MediaType::ImageIndex | MediaType::ImageManifest) {
            self.other(descriptor, OtherKind::Unknown(descriptor.media_type().to_string()));
            return Ok(());
        }
        let blob = BlobRef::of(descriptor)?;
        let Some(size) = self.source.contains(&blob.path()).then(|| self.source.size(&blob.path())) else {
            let missing = blob.path();
            self.other(descriptor, OtherKind::NotCarried { platform: platform_of(descriptor), missing });
            return Ok(());
        };
        self.spend(size.unwrap_or(0))?;
        if kind == MediaType::ImageIndex {
            let index: ImageIndex = self.source.document(blob, descriptor.media_type())?;
            return index.manifests().iter().try_for_each(|inner| self.descriptor(inner, names, depth - 1));
        }
        let manifest: ImageManifest = self.source.document(blob, descriptor.media_type())?;
        // The same image under another tag.
        let is_it = |image: &&mut ReadImage| image.manifest.as_ref().is_some_and(|it| it.0 == blob);
        if let Some(known) = self.contents.images.iter_mut().find(is_it) {
            known.names.extend_from_slice(names);
            return Ok(());
        }
        if let Some(kind) = no_image_but(descriptor, &manifest) {
            self.other(descriptor, kind);
            return Ok(());
        }
        if is_not_carried(self.source, &manifest) {
            let missing = BlobRef::of(manifest.config())?.path();
            self.other(descriptor, OtherKind::NotCarried { platform: platform_of(descriptor), missing });
            return Ok(());
        }
        self.image(blob, manifest, names)
    }

    fn image(&mut self, blob: BlobRef, manifest: ImageManifest, names: &[String]) -> Result<(), ReadError> {
        let config_blob = BlobRef::of(manifest.config())?;
        self.spend(self.source.size(&config_blob.path()).unwrap_or(0))?;
        let config = self.source.configuration(config_blob)?;
        let layer = |(at, layer): (usize, &Descriptor)| {
            let blob = BlobRef::of(layer)?;
            let diff_id = config.diff_ids.get(at).copied();
            Ok(LayerBlob { descriptor: Some(blob), file: blob.path(), diff_id })
        };
        let layers = manifest.layers().iter().enumerate().map(layer).collect::<Result<_, ReadError>>()?;
        self.contents.images.push(ReadImage {
            names: names.to_vec(),
            image_id: config_blob.digest,
            manifest: Some((blob, manifest)),
            config_file: config_blob.path(),
            config,
            layers,
        });
        Ok(())
    }

    fn docker_images(&mut self) -> Result<(), ReadError> {
        let items: Vec<DockerManifest> = self.source.json("manifest.json")?;
        if items.len() > IMAGES_LIMIT {
            let what = format!("manifest.json holds {} images, more than any real archive", items.len());
            return Err(ReadError::Refused(what));
        }
        for item in items {
            self.spend(self.source.size(&item.config).unwrap_or(0))?;
            let (config, image_id) = self.source.docker_configuration(&item.config)?;
            let layers = item
                .layers
                .unwrap_or_default()
                .into_iter()
                .enumerate()
                .map(|(at, file)| LayerBlob {
                    descriptor: None,
                    file,
                    diff_id: config.diff_ids.get(at).copied(),
                })
                .collect();
            self.contents.images.push(ReadImage {
                names: item.repo_tags.unwrap_or_default(),
                image_id,
                manifest: None,
                config_file: item.config,
                config,
                layers,
            });
        }
        Ok(())
    }
}

/// Whether nothing that a manifest points at is there.
pub(super) fn is_not_carried(source: &Source, manifest: &ImageManifest) -> bool {
    let is_there =
        |descriptor: &Descriptor| BlobRef::of(descriptor).map_or(true, |blob| source.contains(&blob.path()));
    !is_there(manifest.config()) && !manifest.layers().iter().any(is_there)
}
