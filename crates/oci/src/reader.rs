//! Reading images that anybody wrote: OCI layouts, OCI archives, docker archives, and tars that are both.
//!
//! Nothing here trusts its input: documents are bounded, archives are read by position and not into
//! memory, and names never become paths outside the folder that is read.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde::de::DeserializeOwned;

use super::archive::DockerManifest;
use super::blob::blob_path;
use super::digest::{DiffId, Digest, Digesting};
use super::spec::{self, Config, Descriptor, Index, Manifest};

/// No document of an image may be larger. containerd stops at 8 MiB for manifests.
const DOCUMENT_LIMIT: u64 = 8 << 20;
/// Indexes within indexes; one level is usual.
const DEPTH_LIMIT: usize = 4;
/// Images in one layout; more is a mistake or an attack.
const IMAGES_LIMIT: usize = 4096;
/// Headers before one entry of a tar, long names and pax records among them, which are held in memory.
/// Go's archive/tar, and with it docker and containerd, stops at 1 MiB for each (`maxSpecialFileSize`).
const HEADERS_LIMIT: u64 = 4 << 20;

/// Why an image cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file, folder or a file in it cannot be read.
    #[error("cannot read {path}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is neither layout nor archive.
    #[error("{path} is no image: it has neither index.json (OCI) nor manifest.json (docker)", path = .0.display())]
    NotAnImage(PathBuf),
    /// It is an archive, but compressed as a whole.
    #[error("{path} is compressed as a whole: decompress it first", path = .0.display())]
    Compressed(PathBuf),
    /// A blob or document is not there.
    #[error("{name} is missing from {path}", path = path.display())]
    Missing {
        /// In what.
        path: PathBuf,
        /// Which.
        name: String,
    },
    /// A document is larger than any real one.
    #[error("{name} has {size} bytes; no document of an image is that large")]
    TooLarge {
        /// Which.
        name: String,
        /// Bytes.
        size: u64,
    },
    /// A document is not the JSON it should be.
    #[error("{name} cannot be understood")]
    Json {
        /// Which.
        name: String,
        /// Where and why.
        source: serde_json::Error,
    },
    /// Too many indexes or images.
    #[error("{name} holds more indexes or images than any real layout")]
    TooMany {
        /// Which.
        name: String,
    },
    /// A layer is not the tar it should be.
    #[error("layer {name} cannot be read")]
    Layer {
        /// Which.
        name: String,
        /// Why.
        source: io::Error,
    },
}

/// Where the files of an image lie.
#[derive(Debug)]
pub struct Source {
    path: PathBuf,
    files: Files,
}

#[derive(Debug)]
enum Files {
    Folder,
    Archive(BTreeMap<String, Member>),
}

#[derive(Debug, Clone)]
enum Member {
    File {
        offset: u64,
        size: u64,
    },
    /// To another member; docker archives before version 25 share layers this way.
    Link(String),
}

/// A path within an image's files in one spelling: no `./`, no `..`.
fn normal_name(name: &str) -> Option<String> {
    let mut parts = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part if part.contains(['\\', '\0']) => return None,
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The same for a file of a folder, where Windows gives a colon a meaning. (Archives have such names:
/// crane calls a config `sha256:…`.)
fn folder_name(name: &str) -> Option<String> {
    normal_name(name).filter(|name| !name.contains(':'))
}

impl Source {
    /// Opens a layout's folder or an archive.
    ///
    /// # Errors
    /// When it cannot be read or is no image.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let io_error = |source| ReadError::Io { path: path.to_path_buf(), source };
        let files = if fs::metadata(path).map_err(io_error)?.is_dir() {
            Files::Folder
        } else {
            Files::Archive(list_archive(path)?)
        };
        let source = Self { path: path.to_path_buf(), files };
        if source.size("index.json").is_none() && source.size("manifest.json").is_none() {
            return Err(ReadError::NotAnImage(path.to_path_buf()));
        }
        Ok(source)
    }

    /// The folder or archive.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The length of a file in it, if there is such a file.
    #[must_use]
    pub fn size(&self, name: &str) -> Option<u64> {
        match &self.files {
            Files::Folder => {
                let path = self.path.join(folder_name(name)?);
                fs::metadata(path).ok().filter(fs::Metadata::is_file).map(|data| data.len())
            }
            Files::Archive(members) => find(members, name).map(|(_, size)| size),
        }
    }

    /// Opens a file in it.
    ///
    /// # Errors
    /// When it is missing or cannot be opened.
    pub fn stream(&self, name: &str) -> Result<Box<dyn Read>, ReadError> {
        let missing = || ReadError::Missing { path: self.path.clone(), name: name.to_owned() };
        let io_error = |path: &Path| {
            let path = path.to_path_buf();
            move |source| ReadError::Io { path, source }
        };
        match &self.files {
            Files::Folder => {
                let path = self.path.join(folder_name(name).ok_or_else(missing)?);
                match File::open(&path) {
                    Ok(file) => Ok(Box::new(BufReader::new(file))),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Err(missing()),
                    Err(error) => Err(io_error(&path)(error)),
                }
            }
            Files::Archive(members) => {
                let (offset, size) = find(members, name).ok_or_else(missing)?;
                let mut file = File::open(&self.path).map_err(io_error(&self.path))?;
                file.seek(SeekFrom::Start(offset)).map_err(io_error(&self.path))?;
                Ok(Box::new(BufReader::new(file).take(size)))
            }
        }
    }

    /// Reads a whole document.
    ///
    /// # Errors
    /// When it is missing, too large or cannot be read.
    pub fn read(&self, name: &str) -> Result<Vec<u8>, ReadError> {
        let mut bytes = Vec::new();
        self.stream(name)?
            .take(DOCUMENT_LIMIT + 1)
            .read_to_end(&mut bytes)
            .map_err(|source| ReadError::Io { path: self.path.join(name), source })?;
        if bytes.len() as u64 > DOCUMENT_LIMIT {
            let size = self.size(name).unwrap_or(bytes.len() as u64);
            return Err(ReadError::TooLarge { name: name.to_owned(), size });
        }
        Ok(bytes)
    }

    pub(crate) fn json<T: DeserializeOwned>(&self, name: &str) -> Result<T, ReadError> {
        serde_json::from_slice(&self.read(name)?)
            .map_err(|source| ReadError::Json { name: name.to_owned(), source })
    }
}

fn find(members: &BTreeMap<String, Member>, name: &str) -> Option<(u64, u64)> {
    let mut name = normal_name(name)?;
    // As many hops as the kernel follows before ELOOP.
    for _ in 0..40 {
        match members.get(&name)? {
            Member::File { offset, size } => return Some((*offset, *size)),
            Member::Link(target) => name.clone_from(target),
        }
    }
    None
}

/// A reader that gives no more than it was allowed to: the crate `tar` reads headers into memory however
/// long they say they are.
struct Allowed<R> {
    inner: R,
    left: Rc<Cell<u64>>,
}

impl<R> Allowed<R> {
    fn new(inner: R) -> (Self, Rc<Cell<u64>>) {
        let left = Rc::new(Cell::new(HEADERS_LIMIT));
        (Self { inner, left: Rc::clone(&left) }, left)
    }
}

impl<R: Read> Read for Allowed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.left.get();
        if left == 0 && !buffer.is_empty() {
            let what = format!("headers of more than {HEADERS_LIMIT} bytes before one entry");
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let length = self.inner.read(&mut buffer[..most])?;
        self.left.set(left - length as u64);
        Ok(length)
    }
}

impl<R: Seek> Seek for Allowed<R> {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.inner.seek(position)
    }
}

fn list_archive(path: &Path) -> Result<BTreeMap<String, Member>, ReadError> {
    let io_error = |source| ReadError::Io { path: path.to_path_buf(), source };
    let mut file = BufReader::new(File::open(path).map_err(io_error)?);
    let mut magic = Vec::new();
    (&mut file).take(4).read_to_end(&mut magic).map_err(io_error)?;
    if matches!(Encoding::of(&magic), Encoding::Gzip | Encoding::Zstd) {
        return Err(ReadError::Compressed(path.to_path_buf()));
    }
    file.seek(SeekFrom::Start(0)).map_err(io_error)?;
    let (file, allowed) = Allowed::new(file);
    let mut archive = ::tar::Archive::new(file);
    let mut members = BTreeMap::new();
    for (at, entry) in archive.entries_with_seek().map_err(io_error)?.enumerate() {
        let entry = match entry {
            // The first header decides whether it is a tar at all; the crate would quote what it met.
            Err(error)
                if at == 0 && matches!(error.kind(), io::ErrorKind::Other | io::ErrorKind::UnexpectedEof) =>
            {
                return Err(ReadError::NotAnImage(path.to_path_buf()));
            }
            entry => entry.map_err(io_error)?,
        };
        allowed.set(HEADERS_LIMIT);
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let Some(name) = normal_name(&name) else { continue };
        let kind = entry.header().entry_type();
        let member = if kind.is_file() || kind.is_contiguous() {
            Some(Member::File { offset: entry.raw_file_position(), size: entry.size() })
        } else if kind.is_symlink() || kind.is_hard_link() {
            let target = entry.link_name_bytes().unwrap_or_default();
            let target = String::from_utf8_lossy(&target).into_owned();
            // A symlink is relative to its own folder, a hard link to the archive's root.
            let from = name.rsplit_once('/').map_or("", |(dir, _)| dir);
            let target = if kind.is_symlink() { format!("{from}/{target}") } else { target };
            normal_name(&target).map(Member::Link)
        } else {
            None
        };
        if let Some(member) = member {
            members.insert(name, member);
        }
    }
    Ok(members)
}

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
    if source.size("index.json").is_none() {
        return docker_images(source);
    }
    let index: Index = source.json("index.json")?;
    let mut images = Vec::new();
    for descriptor in &index.manifests {
        collect(source, descriptor, &names(descriptor), DEPTH_LIMIT, &mut images)?;
    }
    Ok(images)
}

fn collect(
    source: &Source,
    descriptor: &Descriptor,
    names: &[String],
    depth: usize,
    images: &mut Vec<ReadImage>,
) -> Result<(), ReadError> {
    let name = blob_path(&descriptor.digest);
    if depth == 0 || images.len() >= IMAGES_LIMIT {
        return Err(ReadError::TooMany { name });
    }
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
            let index: Index = source.json(&name)?;
            for inner in &index.manifests {
                collect(source, inner, names, depth - 1, images)?;
            }
        }
        spec::MANIFEST | spec::DOCKER_MANIFEST => {
            let manifest: Manifest = source.json(&name)?;
            // Attestations and other artifacts are stored as manifests but are no images.
            if !matches!(manifest.config.media_type.as_str(), spec::CONFIG | spec::DOCKER_CONFIG)
                || descriptor.annotations.contains_key("vnd.docker.reference.type")
            {
                return Ok(());
            }
            let config_file = blob_path(&manifest.config.digest);
            let config: Config = source.json(&config_file)?;
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
        let config: Config = source.json(&item.config)?;
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
/// When the blob cannot be read, decompressed or is no tar, and those of `visit`.
pub fn read_layer(
    source: &Source,
    file: &str,
    mut visit: impl FnMut(ReadEntry, &mut dyn Read) -> io::Result<()>,
) -> Result<LayerFacts, ReadError> {
    let error = |source| ReadError::Layer { name: file.to_owned(), source };
    let mut blob = BufReader::new(DigestingReader::new(source.stream(file)?));
    let encoding = Encoding::of(io::BufRead::fill_buf(&mut blob).map_err(error)?);
    let tar: Box<dyn Read + '_> = match encoding {
        Encoding::Plain => Box::new(&mut blob),
        Encoding::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(&mut blob)),
        Encoding::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(&mut blob).map_err(error)?),
    };
    let mut tar = DigestingReader::new(tar);
    {
        let (tar, allowed) = Allowed::new(&mut tar);
        let mut archive = ::tar::Archive::new(tar);
        for entry in archive.entries().map_err(error)? {
            let mut entry = entry.map_err(error)?;
            // What is stored of it, which for a sparse file is not its size, filled up to a block.
            let stored = match entry.header().entry_type().is_gnu_sparse() {
                true => entry.header().entry_size().map_err(error)?,
                false => entry.size(),
            };
            allowed.set(stored.saturating_add(512 + HEADERS_LIMIT));
            let facts = read_entry(&mut entry).map_err(error)?;
            visit(facts, &mut entry).map_err(error)?;
        }
    }
    // Behind the end marker there may be padding, which the diff id covers too.
    io::copy(&mut tar, &mut io::sink()).map_err(error)?;
    let (diff_id, uncompressed_size) = tar.finish();
    io::copy(&mut blob, &mut io::sink()).map_err(error)?;
    let (digest, size) = blob.into_inner().finish();
    Ok(LayerFacts { digest, size, diff_id: DiffId(diff_id), uncompressed_size, encoding })
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
