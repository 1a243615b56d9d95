//! Reading images that anybody wrote: OCI layouts, OCI archives, docker archives, and tars that are both.
//!
//! Nothing here trusts its input: documents are bounded, archives are read by position and not into
//! memory, and names never become paths outside the folder that is read.

use std::io::{self, BufReader, Read};

use super::archive::DockerManifest;
use super::blob::blob_path;
use super::digest::{DiffId, Digest, Digesting};
use super::source::{self, Allowed, HEADERS_LIMIT, check_blob, tar_error};
pub use super::source::{ReadError, Source};
use super::spec::{self, Config, Descriptor, Index, Manifest};

/// Indexes within indexes; one level is usual.
const DEPTH_LIMIT: usize = 4;
/// Images in one layout; more is a mistake or an attack.
const IMAGES_LIMIT: usize = 4096;
/// Descriptors that are followed, however often indexes name each other: each image may have an attestation.
const DESCRIPTORS_LIMIT: usize = 2 * IMAGES_LIMIT;
/// How a layer is compressed, told by its first bytes: media types lie more often than magic numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Not.
    Plain,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Encoding {
    /// What the first bytes of a blob say.
    #[must_use]
    pub fn of(magic: &[u8]) -> Self {
        match magic {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            _ => Self::Plain,
        }
    }
}

/// A blob of an image and where it is.
#[derive(Debug, Clone)]
pub struct LayerBlob {
    /// As the manifest has it; made up for docker archives, which have none.
    pub descriptor: Option<Descriptor>,
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
    pub manifest: Option<(Descriptor, Manifest)>,
    /// The digest of the config.
    pub image_id: Digest,
    /// The file of the config.
    pub config_file: String,
    /// The config.
    pub config: Config,
    /// Lowest first.
    pub layers: Vec<LayerBlob>,
}

/// Names in `index.json` annotations, the fullest first.
fn names(descriptor: &Descriptor) -> Vec<String> {
    ["io.containerd.image.name", "org.opencontainers.image.ref.name"]
        .iter()
        .find_map(|key| descriptor.annotations.get(*key))
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
    for descriptor in &index.manifests {
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
    let name = blob_path(&descriptor.digest);
    if depth == 0 || *left == 0 || images.len() >= IMAGES_LIMIT {
        return Err(ReadError::TooMany { name });
    }
    *left -= 1;
    // The same image under another tag.
    if let Some(known) = images
        .iter_mut()
        .find(|image| image.manifest.as_ref().is_some_and(|(known, _)| known.digest == descriptor.digest))
    {
        known.names.extend_from_slice(names);
        return Ok(());
    }
    match descriptor.media_type.as_str() {
        spec::INDEX | spec::DOCKER_INDEX => {
            let index: Index = source.document_of_kind(descriptor)?;
            for inner in &index.manifests {
                collect(source, inner, names, depth - 1, left, images)?;
            }
        }
        spec::MANIFEST | spec::DOCKER_MANIFEST => {
            let manifest: Manifest = source.document_of_kind(descriptor)?;
            // Attestations and other artifacts are stored as manifests but are no images.
            if !matches!(manifest.config.media_type.as_str(), spec::CONFIG | spec::DOCKER_CONFIG)
                || descriptor.annotations.contains_key("vnd.docker.reference.type")
            {
                return Ok(());
            }
            let config_file = blob_path(&manifest.config.digest);
            let config: Config = source.document(&manifest.config)?;
            let layers = manifest
                .layers
                .iter()
                .enumerate()
                .map(|(at, layer)| LayerBlob {
                    descriptor: Some(layer.clone()),
                    file: blob_path(&layer.digest),
                    diff_id: config.rootfs.diff_ids.get(at).copied(),
                })
                .collect();
            images.push(ReadImage {
                names: names.to_vec(),
                image_id: manifest.config.digest,
                manifest: Some((descriptor.clone(), manifest)),
                config_file,
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
        let bytes = source.read(&item.config)?;
        let config: Config = source::parse(&item.config, &bytes)?;
        let layers = item
            .layers
            .into_iter()
            .enumerate()
            .map(|(at, file)| LayerBlob {
                descriptor: None,
                file,
                diff_id: config.rootfs.diff_ids.get(at).copied(),
            })
            .collect();
        images.push(ReadImage {
            names: item.repo_tags,
            image_id: Digest::of(&bytes),
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

/// A reader that passes everything on and knows the digest and length of what went through.
struct DigestingReader<R> {
    inner: R,
    digest: Digesting<io::Sink>,
}

impl<R: Read> DigestingReader<R> {
    fn new(inner: R) -> Self {
        Self { inner, digest: Digesting::new(io::sink()) }
    }

    fn finish(self) -> (Digest, u64) {
        self.digest.finish().1
    }
}

impl<R: Read> Read for DigestingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        io::Write::write_all(&mut self.digest, &buffer[..length])?;
        Ok(length)
    }
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
    let stream = match &layer.descriptor {
        Some(descriptor) => source.stream_blob(descriptor)?,
        None => source.stream(&layer.file)?,
    };
    let mut blob = BufReader::new(DigestingReader::new(stream));
    let read = read_tar(&mut blob, &mut visit);
    io::copy(&mut blob, &mut io::sink()).map_err(error)?;
    let (digest, size) = blob.into_inner().finish();
    if let Some(descriptor) = &layer.descriptor {
        check_blob(&layer.file, descriptor, digest, size)?;
    }
    let (encoding, diff_id, uncompressed_size) = read.map_err(error)?;
    Ok(LayerFacts { digest, size, diff_id, uncompressed_size, encoding })
}

fn read_tar(
    blob: &mut impl io::BufRead,
    visit: &mut dyn FnMut(ReadEntry, &mut dyn Read) -> io::Result<()>,
) -> io::Result<(Encoding, DiffId, u64)> {
    let encoding = Encoding::of(blob.fill_buf()?);
    let tar: Box<dyn Read + '_> = match encoding {
        Encoding::Plain => Box::new(&mut *blob),
        Encoding::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(&mut *blob)),
        Encoding::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(&mut *blob)?),
    };
    let mut tar = DigestingReader::new(tar);
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
    let (diff_id, uncompressed_size) = tar.finish();
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
