//! The files of an image: a layout's folder, or an archive.
//!
//! Documents are bounded and read only when they are what their descriptors say; archives are read by position;
//! neither names nor links lead out of the folder.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::blob::blob_path;
use super::digest::{Digest, Digesting};
use super::keys::fold;
use super::shown::shown;
use super::spec::{Configuration, Descriptor, ImageIndex, MediaType, oci_media_type, without_nulls};
use super::untar::Untar;
use crate::input::{self, JsonError, Refusal};

/// No document of an image may be larger. skopeo and podman stop at 4 MiB (containers/image, `iolimits`).
const DOCUMENT_LIMIT: u64 = 4 << 20;
/// Steps in one history; an image has at most 127 layers.
const HISTORY_LIMIT: usize = 10_000;
/// Files in one archive.
const MEMBERS_LIMIT: usize = 100_000;

/// What to do where a file may not be read.
const READABLE: &str = "make the file readable for this user (`chmod`, `chown`), or run this as its owner";

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
    /// It is a layout or archive without an image.
    #[error("{path} holds no image: {what}", path = path.display(), what = shown(what))]
    NoImage {
        /// Which.
        path: PathBuf,
        /// What it holds instead.
        what: String,
    },
    /// A blob or document is not there.
    #[error("{name} is missing from {path}", name = shown(name), path = path.display())]
    Missing {
        /// In what.
        path: PathBuf,
        /// Which.
        name: String,
    },
    /// A document is not the JSON it should be.
    #[error("{name} cannot be understood", name = shown(name))]
    Json {
        /// Which.
        name: String,
        /// Where and why.
        source: JsonError,
    },
    /// A blob has another length or digest than its descriptor says.
    #[error("{name} is damaged: {what}", name = shown(name), what = shown(what))]
    Damaged {
        /// Which.
        name: String,
        /// What differs.
        what: String,
    },
    /// A document is of another kind than said, or of two kinds at once.
    #[error("{name} contradicts itself: {what}", name = shown(name), what = shown(what))]
    Contradiction {
        /// Which.
        name: String,
        /// What contradicts what.
        what: String,
    },
    /// It is more than any real image has, or cannot be checked.
    #[error("{}", shown(.0))]
    Refused(String),
    /// A layer is not the tar it should be.
    #[error("layer {name} cannot be read", name = shown(name))]
    Layer {
        /// Which.
        name: String,
        /// Why.
        source: io::Error,
    },
}

impl ReadError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotAnImage(_) => Some(
                "an image is the folder of an OCI layout, or an archive made by `docker save`, `podman save` or tare",
            ),
            Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => Some(READABLE),
            Self::Io { source, .. } => Refusal::of(source).map(Refusal::hint),
            Self::Damaged { .. } => Some("fetch or build the image again"),
            Self::Contradiction { .. } => Some(
                "other programs may take it for another image (CVE-2021-41190): do not use it, and build it again",
            ),
            _ => None,
        }
    }
}

/// A blob as its descriptor says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobRef {
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

impl BlobRef {
    pub(super) fn of(descriptor: &Descriptor) -> Result<Self, ReadError> {
        let digest = descriptor.digest();
        let algorithm = |_| {
            ReadError::Refused(format!("{digest} is no digest of sha256 or sha512, which alone are checked"))
        };
        Ok(Self { digest: Digest::try_from(digest).map_err(algorithm)?, size: descriptor.size() })
    }

    /// Its path in a layout.
    pub(super) fn path(&self) -> String {
        blob_path(&self.digest)
    }

    /// What was read is what the descriptor says (image-spec descriptor.md, "Digests").
    pub(super) fn check(&self, name: &str, digest: Digest, size: u64) -> Result<(), ReadError> {
        let what = match (size == self.size, digest == self.digest) {
            (true, true) => return Ok(()),
            (true, false) => format!("its digest is {digest}"),
            (false, _) => format!("it has {size} bytes, its descriptor says {}", self.size),
        };
        Err(ReadError::Damaged { name: name.to_owned(), what })
    }
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
            // A frame, or one to skip (RFC 8878, 3.1).
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::Plain,
        }
    }
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
    Archive(Archive),
}

/// Where the files of an archive lie in it.
#[derive(Debug, Default)]
struct Archive {
    members: BTreeMap<String, Member>,
    /// Entries whose names, or targets of links, lead out of the archive. They are not read.
    outside: Vec<String>,
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
        if !source.contains("index.json") && !source.contains("manifest.json") {
            return Err(match source.outside().first() {
                Some(entry) => ReadError::Refused(format!("{}: {entry} leads out of it", path.display())),
                None => ReadError::NotAnImage(path.to_path_buf()),
            });
        }
        Ok(source)
    }

    /// The folder or archive.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The entries of an archive that lead out of it; none of them is read.
    #[must_use]
    pub fn outside(&self) -> &[String] {
        match &self.files {
            Files::Folder => &[],
            Files::Archive(archive) => &archive.outside,
        }
    }

    /// Whether anything by this name is in it.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        match &self.files {
            Files::Folder => {
                folder_name(name).is_some_and(|name| self.path.join(name).symlink_metadata().is_ok())
            }
            Files::Archive(archive) => archive.find(name).is_some(),
        }
    }

    /// The length of a file in it, if there is such a file.
    #[must_use]
    pub fn size(&self, name: &str) -> Option<u64> {
        self.open_file(name).ok().map(|(_, size)| size)
    }

    /// Opens a file in it.
    ///
    /// # Errors
    /// When it is missing or cannot be opened.
    pub fn stream(&self, name: &str) -> Result<Box<dyn Read>, ReadError> {
        let (file, size) = self.open_file(name)?;
        Ok(Box::new(BufReader::new(file).take(size)))
    }

    /// Opens a blob that has the length that its descriptor says.
    pub(super) fn stream_blob(&self, blob: BlobRef) -> Result<Box<dyn Read>, ReadError> {
        let name = blob.path();
        let (file, size) = self.open_file(&name)?;
        blob.check(&name, blob.digest, size)?;
        Ok(Box::new(BufReader::new(file).take(size)))
    }

    /// A file at its first byte, and its length.
    fn open_file(&self, name: &str) -> Result<(File, u64), ReadError> {
        let missing = || ReadError::Missing { path: self.path.clone(), name: name.to_owned() };
        let io_error = |path: &Path| {
            let path = path.to_path_buf();
            move |source| ReadError::Io { path, source }
        };
        match &self.files {
            Files::Folder => {
                let inside = folder_name(name).ok_or_else(missing)?;
                let path = self.path.join(&inside);
                match input::open_inside(&self.path, Path::new(&inside)) {
                    Ok(file) => {
                        let size = file.metadata().map_err(io_error(&path))?.len();
                        Ok((file, size))
                    }
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Err(missing()),
                    Err(error) => Err(io_error(&path)(error)),
                }
            }
            Files::Archive(archive) => {
                let (offset, size) = archive.find(name).ok_or_else(missing)?;
                let mut file = input::open(&self.path).map_err(io_error(&self.path))?;
                file.seek(SeekFrom::Start(offset)).map_err(io_error(&self.path))?;
                Ok((file, size))
            }
        }
    }

    /// Reads a whole document.
    ///
    /// # Errors
    /// When it is missing, too large or cannot be read.
    pub fn read(&self, name: &str) -> Result<Vec<u8>, ReadError> {
        let (file, size) = self.open_file(name)?;
        self.read_all(name, file, size)
    }

    fn read_all(&self, name: &str, content: impl Read, size: u64) -> Result<Vec<u8>, ReadError> {
        if size > DOCUMENT_LIMIT {
            let what = format!("{name} has {size} bytes; no document of an image is that large");
            return Err(ReadError::Refused(what));
        }
        let mut bytes = Vec::new();
        let read = content.take(size).read_to_end(&mut bytes);
        read.map_err(|source| ReadError::Io { path: self.path.join(name), source })?;
        Ok(bytes)
    }

    /// Reads a document that no descriptor points at.
    pub(super) fn json<T: DeserializeOwned>(&self, name: &str) -> Result<T, ReadError> {
        typed(name, parse(name, &self.read(name)?)?)
    }

    /// Reads a manifest or an index once its length and digest are what its descriptor says. It must be of the kind
    /// that the descriptor says.
    pub(super) fn document<T: DeserializeOwned>(
        &self,
        blob: BlobRef,
        media_type: &MediaType,
    ) -> Result<T, ReadError> {
        let (name, document) = (blob.path(), self.blob(blob)?);
        check_kind(&name, &document, media_type)?;
        typed(&name, document)
    }

    /// Reads `index.json`.
    pub(super) fn top_index(&self) -> Result<ImageIndex, ReadError> {
        let name = "index.json";
        let document = parse(name, &self.read(name)?)?;
        check_kind(name, &document, &MediaType::ImageIndex)?;
        typed(name, document)
    }

    /// Reads a configuration once its length and digest are what its descriptor says.
    pub(super) fn configuration(&self, blob: BlobRef) -> Result<Configuration, ReadError> {
        configuration(&blob.path(), self.blob(blob)?)
    }

    /// Reads the configuration of a docker archive, and computes its digest.
    pub(super) fn docker_configuration(&self, name: &str) -> Result<(Configuration, Digest), ReadError> {
        let bytes = self.read(name)?;
        Ok((configuration(name, parse(name, &bytes)?)?, Digest::of(&bytes)))
    }

    fn blob(&self, blob: BlobRef) -> Result<Value, ReadError> {
        let name = blob.path();
        let bytes = self.read_all(&name, self.stream_blob(blob)?, blob.size)?;
        let mut hashed = Digesting::like(io::sink(), Some(blob.digest));
        hashed.write_all(&bytes).map_err(|source| ReadError::Io { path: self.path.join(&name), source })?;
        let (_, (digest, size)) = hashed.finish();
        blob.check(&name, digest, size)?;
        parse(&name, &bytes)
    }
}

fn parse(name: &str, bytes: &[u8]) -> Result<Value, ReadError> {
    let ambiguous = || ReadError::Contradiction {
        name: name.to_owned(),
        what: "a key stands twice, or in two cases".to_owned(),
    };
    let read = input::from_unambiguous_json(bytes);
    let read = read.map_err(|source| ReadError::Json { name: name.to_owned(), source })?;
    let document = read.ok_or_else(ambiguous)?;
    match list_for_fields(&document) {
        None => Ok(document),
        Some(field) => {
            let what = format!("{field} is a list, where its fields should be");
            Err(ReadError::Contradiction { name: name.to_owned(), what })
        }
    }
}

/// A list of values in place of an object, which serde takes for the fields in their order and no other reader does.
fn list_for_fields(document: &Value) -> Option<&'static str> {
    const OBJECTS: [&str; 6] = ["config", "platform", "subject", "rootfs", "Healthcheck", "annotations"];
    const LISTS_OF_OBJECTS: [&str; 3] = ["manifests", "layers", "history"];
    match document {
        // Docker's list of images, or a document that is one itself.
        Value::Array(items) => match items.iter().find(|item| !item.is_object()) {
            Some(_) => Some("the document"),
            None => items.iter().find_map(list_for_fields),
        },
        Value::Object(fields) => {
            let wrong = |name: &&&str| fields.get(**name).is_some_and(Value::is_array);
            // Go's sets, whose values are empty objects.
            let in_set = |(name, _): &&(&str, &str)| {
                let set = fields.get(*name).and_then(Value::as_object);
                set.is_some_and(|set| set.values().any(Value::is_array))
            };
            const SETS: [(&str, &str); 2] =
                [("ExposedPorts", "a value of ExposedPorts"), ("Volumes", "a value of Volumes")];
            if let Some((_, shown)) = SETS.iter().find(in_set) {
                return Some(shown);
            }
            let in_objects = OBJECTS.iter().filter_map(|name| fields.get(*name)).find_map(list_for_fields);
            let items =
                LISTS_OF_OBJECTS.iter().filter_map(|name| Some((*name, fields.get(*name)?.as_array()?)));
            let in_lists = || {
                items.flat_map(|(name, items)| items.iter().map(move |item| (name, item))).find_map(
                    |(name, item)| {
                        if item.is_array() { Some(name) } else { list_for_fields(item) }
                    },
                )
            };
            OBJECTS.iter().find(wrong).copied().or(in_objects).or_else(in_lists)
        }
        _ => None,
    }
}

fn typed<T: DeserializeOwned>(name: &str, document: Value) -> Result<T, ReadError> {
    let read = serde_json::from_value(without_nulls(document));
    read.map_err(|error| ReadError::Json { name: name.to_owned(), source: error.into() })
}

fn configuration(name: &str, document: Value) -> Result<Configuration, ReadError> {
    let steps = document.get("history").and_then(Value::as_array).map_or(0, Vec::len);
    if steps > HISTORY_LIMIT {
        return Err(ReadError::Refused(format!(
            "{name} has a history of {steps} steps; no image has that many"
        )));
    }
    Configuration::new(document).map_err(|source| ReadError::Json { name: name.to_owned(), source })
}

/// A document is a manifest or an index, and not something that another reader takes for the other
/// (CVE-2021-41190; image-spec manifest.md and image-index.md). Go reads the names of fields in any case.
fn check_kind(name: &str, document: &Value, media_type: &MediaType) -> Result<(), ReadError> {
    let contradiction = |what: String| Err(ReadError::Contradiction { name: name.to_owned(), what });
    let (kind, foreign): (_, &[&str]) = match oci_media_type(media_type) {
        MediaType::ImageIndex => ("an index", &["config", "layers", "fsLayers"]),
        _ => ("a manifest", &["manifests", "fsLayers"]),
    };
    let fields = document.as_object().into_iter().flatten();
    for (field, _) in fields.filter(|(_, value)| !value.is_null()) {
        if let Some(foreign) = foreign.iter().find(|foreign| fold(foreign) == fold(field)) {
            return contradiction(format!("it is {kind} with the field `{foreign}`"));
        }
        let known = ["mediaType", "config", "layers", "manifests"];
        if let Some(known) = known.iter().find(|known| fold(known) == fold(field) && *known != field) {
            return contradiction(format!("its field `{known}` is written in another case"));
        }
    }
    match document.get("mediaType").and_then(Value::as_str) {
        Some(said) if said != media_type.as_ref() => {
            contradiction(format!("mediaType is `{said}` instead of `{media_type}`"))
        }
        _ => Ok(()),
    }
}

impl Archive {
    fn find(&self, name: &str) -> Option<(u64, u64)> {
        let mut name = normal_name(name)?;
        // As many hops as the kernel follows before ELOOP.
        for _ in 0..40 {
            match self.members.get(&name)? {
                Member::File { offset, size } => return Some((*offset, *size)),
                Member::Link(target) => name.clone_from(target),
            }
        }
        None
    }
}

fn list_archive(path: &Path) -> Result<Archive, ReadError> {
    let io_error = |source| ReadError::Io { path: path.to_path_buf(), source };
    let refused = |what: String| ReadError::Refused(format!("{}: {what}", path.display()));
    let file = input::open(path).map_err(io_error)?;
    let length = file.metadata().map_err(io_error)?.len();
    let mut file = BufReader::new(file);
    let mut magic = Vec::new();
    (&mut file).take(4).read_to_end(&mut magic).map_err(io_error)?;
    if matches!(Encoding::of(&magic), Encoding::Gzip | Encoding::Zstd) {
        return Err(ReadError::Compressed(path.to_path_buf()));
    }
    file.seek(SeekFrom::Start(0)).map_err(io_error)?;
    let mut entries = Untar::by_seeking(file);
    let mut archive = Archive::default();
    loop {
        let entry = match entries.next() {
            // The first header decides whether it is a tar at all.
            Err(error) if !entries.is_tar() && is_content(&error) => {
                return Err(ReadError::NotAnImage(path.to_path_buf()));
            }
            entry => entry.map_err(io_error)?,
        };
        let Some(entry) = entry else { return Ok(archive) };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (shown, offset) = (text(&entry.path), entries.position());
        let Some(name) = normal_name(&shown) else {
            archive.outside.push(shown);
            continue;
        };
        let member = match (entry.kind, entry.link.as_deref().map(text)) {
            ('-', _) if entries.is_sparse() => return Err(refused(format!("{shown} is a sparse file"))),
            ('-', _) if offset.checked_add(entry.size).is_none_or(|end| end > length) => {
                return Err(refused(format!("it is cut short within {shown}")));
            }
            ('-', _) => Member::File { offset, size: entry.size },
            // A symlink is relative to its own folder, a hard link to the archive's root.
            ('l', Some(target)) if !target.starts_with('/') => {
                let from = name.rsplit_once('/').map_or("", |(dir, _)| dir);
                match normal_name(&format!("{from}/{target}")) {
                    Some(target) => Member::Link(target),
                    None => {
                        archive.outside.push(format!("{shown} -> {target}"));
                        continue;
                    }
                }
            }
            ('h', Some(target)) if normal_name(&target).is_some() => {
                Member::Link(normal_name(&target).unwrap_or_default())
            }
            ('l' | 'h', target) => {
                archive.outside.push(format!("{shown} -> {}", target.unwrap_or_default()));
                continue;
            }
            _ => continue,
        };
        if archive.members.insert(name, member).is_some() {
            // Some programs take the first, others the last.
            return Err(refused(format!("{shown} stands twice in it")));
        }
        if archive.members.len() + archive.outside.len() > MEMBERS_LIMIT {
            return Err(refused(format!("it has more than {MEMBERS_LIMIT} files; no image has that many")));
        }
    }
}

/// Whether an error is about what was read, and not about reading it.
fn is_content(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}
