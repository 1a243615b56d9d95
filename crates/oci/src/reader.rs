//! Reading images that anybody wrote: OCI layouts, OCI archives, docker archives, and tars that are both.
//!
//! Nothing here trusts its input: documents are bounded, archives are read by position and not into
//! memory, and names never become paths outside the folder that is read.

use std::io::{self, BufReader, Read};

use super::archive::DockerManifest;
use super::digest::{DiffId, Digest, Digesting};
use super::source::{Allowed, HEADERS_LIMIT, tar_error};
pub use super::source::{BlobRef, Encoding, ReadError, Source};
use super::spec::{Configuration, Descriptor, ImageIndex, ImageManifest, MediaType, oci_media_type};

/// Indexes within indexes; one level is usual.
const DEPTH_LIMIT: usize = 4;
/// Images in one layout; more is a mistake or an attack.
const IMAGES_LIMIT: usize = 4096;
/// Descriptors that are followed, however often indexes name each other: each image may have an attestation.
const DESCRIPTORS_LIMIT: usize = 2 * IMAGES_LIMIT;

/// A blob of an image and where it is.
#[derive(Debug, Clone)]
pub struct LayerBlob {
    /// As the manifest has it; docker archives have none.
    pub descriptor: Option<BlobRef>,
    /// Its file in the source.
    pub file: String,
    /// As the config has it.
    pub diff_id: Option<DiffId>,
}

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
/// When a document is missing or wrong.
pub fn images(source: &Source) -> Result<Vec<ReadImage>, ReadError> {
    if !source.contains("index.json") {
        return docker_images(source);
    }
    let index = source.top_index()?;
    let (mut images, mut left) = (Vec::new(), DESCRIPTORS_LIMIT);
    for descriptor in index.manifests() {
        collect(source, descriptor, &names(descriptor), DEPTH_LIMIT, &mut left, &mut images)?;
    }
    Ok(images)
}

fn collect(
    source: &Source,
    descriptor: &Descriptor,
    names: &[String],
    depth: usize,
    left: &mut usize,
    images: &mut Vec<ReadImage>,
) -> Result<(), ReadError> {
    let blob = BlobRef::of(descriptor)?;
    if depth == 0 || *left == 0 || images.len() >= IMAGES_LIMIT {
        let what = format!("{} holds more indexes or images than any real layout", blob.path());
        return Err(ReadError::Refused(what));
    }
    *left -= 1;
    // The same image under another tag.
    if let Some(known) = images
        .iter_mut()
        .find(|image| image.manifest.as_ref().is_some_and(|(known, _)| known.digest == blob.digest))
    {
        known.names.extend_from_slice(names);
        return Ok(());
    }
    match oci_media_type(descriptor.media_type()) {
        MediaType::ImageIndex => {
            let index: ImageIndex = source.document(blob, descriptor.media_type())?;
            for inner in index.manifests() {
                collect(source, inner, names, depth - 1, left, images)?;
            }
        }
        MediaType::ImageManifest => {
            let manifest: ImageManifest = source.document(blob, descriptor.media_type())?;
            // Attestations and other artifacts are stored as manifests but are no images.
            let is_attestation = descriptor
                .annotations()
                .as_ref()
                .is_some_and(|annotations| annotations.contains_key("vnd.docker.reference.type"));
            if oci_media_type(manifest.config().media_type()) != MediaType::ImageConfig || is_attestation {
                return Ok(());
            }
            let config_blob = BlobRef::of(manifest.config())?;
            let config = source.configuration(config_blob)?;
            let layer = |(at, layer): (usize, &Descriptor)| {
                let blob = BlobRef::of(layer)?;
                let diff_id = config.diff_ids.get(at).copied();
                Ok(LayerBlob { descriptor: Some(blob), file: blob.path(), diff_id })
            };
            let layers = manifest.layers().iter().enumerate().map(layer).collect::<Result<_, ReadError>>()?;
            images.push(ReadImage {
                names: names.to_vec(),
                image_id: config_blob.digest,
                manifest: Some((blob, manifest)),
                config_file: config_blob.path(),
                config,
                layers,
            });
        }
        _ => {}
    }
    Ok(())
}

fn docker_images(source: &Source) -> Result<Vec<ReadImage>, ReadError> {
    let items: Vec<DockerManifest> = source.json("manifest.json")?;
    let mut images = Vec::new();
    for item in items.into_iter().take(IMAGES_LIMIT) {
        let (config, image_id) = source.docker_configuration(&item.config)?;
        let layers = item
            .layers
            .unwrap_or_default()
            .into_iter()
            .enumerate()
            .map(|(at, file)| LayerBlob { descriptor: None, file, diff_id: config.diff_ids.get(at).copied() })
            .collect();
        images.push(ReadImage {
            names: item.repo_tags.unwrap_or_default(),
            image_id,
            manifest: None,
            config_file: item.config,
            config,
            layers,
        });
    }
    Ok(images)
}

/// One entry of a layer, as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadEntry {
    /// As it stands in the tar.
    pub path: Vec<u8>,
    /// `-`, `d`, `l`, `h`, `c`, `b`, `p` or `?`, as `ls` and `tar` show it.
    pub kind: char,
    /// Permission bits.
    pub mode: u32,
    /// User and group.
    pub owner: (u64, u64),
    /// Bytes of content.
    pub size: u64,
    /// Seconds.
    pub mtime: u64,
    /// Target of a link.
    pub link: Option<Vec<u8>>,
    /// Keys and values of its pax header, without those that only widen ustar's fields.
    pub attributes: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What reading a layer through tells about it.
#[derive(Debug, Clone)]
pub struct LayerFacts {
    /// Of the blob.
    pub digest: Digest,
    /// Bytes of the blob.
    pub size: u64,
    /// Of the tar.
    pub diff_id: DiffId,
    /// Bytes of the tar.
    pub uncompressed_size: u64,
    /// How it is compressed.
    pub encoding: Encoding,
}

/// Reads a layer through, from the first byte to the last: every entry goes to `visit` together with
/// its content, and digest and diff id are computed on the way. Memory does not grow with the layer.
///
/// # Errors
/// When the blob is not what its descriptor says, cannot be read or decompressed or is no tar, and those of
/// `visit`. A damaged blob is reported as such, whatever else was wrong with its content.
pub fn read_layer(
    source: &Source,
    layer: &LayerBlob,
    mut visit: impl FnMut(ReadEntry, &mut dyn Read) -> io::Result<()>,
) -> Result<LayerFacts, ReadError> {
    let error = |source| ReadError::Layer { name: layer.file.clone(), source };
    let stream = match layer.descriptor {
        Some(blob) => source.stream_blob(blob)?,
        None => source.stream(&layer.file)?,
    };
    let digest = layer.descriptor.map(|blob| blob.digest);
    let mut blob = BufReader::new(Digesting::like(stream, digest));
    let read = read_tar(&mut blob, layer.diff_id, &mut visit);
    io::copy(&mut blob, &mut io::sink()).map_err(error)?;
    let (_, (digest, size)) = blob.into_inner().finish();
    if let Some(blob) = layer.descriptor {
        blob.check(&layer.file, digest, size)?;
    }
    let (encoding, diff_id, uncompressed_size) = read.map_err(error)?;
    Ok(LayerFacts { digest, size, diff_id, uncompressed_size, encoding })
}

fn read_tar(
    blob: &mut impl io::BufRead,
    diff_id: Option<DiffId>,
    visit: &mut dyn FnMut(ReadEntry, &mut dyn Read) -> io::Result<()>,
) -> io::Result<(Encoding, DiffId, u64)> {
    let encoding = Encoding::of(blob.fill_buf()?);
    let tar: Box<dyn Read + '_> = match encoding {
        Encoding::Plain => Box::new(&mut *blob),
        Encoding::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(&mut *blob)),
        Encoding::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(&mut *blob)?),
    };
    let mut tar = Digesting::like(tar, diff_id.map(|DiffId(digest)| digest));
    {
        let (tar, allowed) = Allowed::new(&mut tar);
        let mut archive = ::tar::Archive::new(tar);
        for entry in archive.entries()? {
            let mut entry = entry.map_err(tar_error)?;
            // What is stored of it, which for a sparse file is not its size, filled up to a block.
            let stored = match entry.header().entry_type().is_gnu_sparse() {
                true => entry.header().entry_size().map_err(tar_error)?,
                false => entry.size(),
            };
            allowed.set(stored.saturating_add(512 + HEADERS_LIMIT));
            let facts = read_entry(&mut entry).map_err(tar_error)?;
            visit(facts, &mut entry)?;
        }
    }
    // Behind the end marker there may be padding, which the diff id covers too.
    io::copy(&mut tar, &mut io::sink())?;
    let (_, (diff_id, uncompressed_size)) = tar.finish();
    Ok((encoding, DiffId(diff_id), uncompressed_size))
}

fn read_entry<R: Read>(entry: &mut ::tar::Entry<'_, R>) -> io::Result<ReadEntry> {
    use ::tar::EntryType;
    let mut attributes = Vec::new();
    // One that stands for all entries after it is no entry, and would be read into memory here.
    let global = entry.header().entry_type().is_pax_global_extensions();
    let records = if global { None } else { entry.pax_extensions()? };
    if let Some(records) = records {
        for record in records {
            let record = record?;
            let key = record.key_bytes();
            let widens: [&[u8]; 7] = [b"path", b"linkpath", b"size", b"uid", b"gid", b"mtime", b"hdrcharset"];
            if !widens.contains(&key) {
                attributes.push((key.to_vec(), record.value_bytes().to_vec()));
            }
        }
    }
    let header = entry.header();
    let kind = match header.entry_type() {
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => '-',
        EntryType::Directory => 'd',
        EntryType::Symlink => 'l',
        EntryType::Link => 'h',
        EntryType::Char => 'c',
        EntryType::Block => 'b',
        EntryType::Fifo => 'p',
        _ => '?',
    };
    Ok(ReadEntry {
        path: entry.path_bytes().into_owned(),
        kind,
        mode: header.mode()?,
        owner: (header.uid()?, header.gid()?),
        size: entry.size(),
        mtime: header.mtime()?,
        link: entry.link_name_bytes().map(std::borrow::Cow::into_owned),
        attributes,
    })
}
