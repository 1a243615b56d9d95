//! Checking an image against the image specification: every digest, size and diff id is computed anew
//! and every document is read for what the spec demands of it. Nothing that stands in the image is
//! believed.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::io;

use super::archive::DockerManifest;
use super::digest::{DiffId, Digest, Digesting};
use super::reader::{
    BlobRef, DOCUMENTS_LIMIT, Encoding, IMAGES_LIMIT, LayerBlob, Other, OtherKind, ReadEntry, ReadError,
    Source, contents, instead_of_images, is_not_carried, layer_encoding, no_image_but, platform_of,
    read_layer,
};
use super::shown::shown;
use super::spec::{self, Configuration, Descriptor, ImageIndex, ImageManifest, MediaType, oci_media_type};
use crate::units::is_rfc3339;

/// Something that is not as the spec demands, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// A file of the image, or a path in a layer.
    pub place: String,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// What was checked and what was found.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Report {
    /// Blobs whose digest and size were computed.
    pub blobs: usize,
    /// Layers whose diff id was computed.
    pub layers: usize,
    /// Files and directories in those layers.
    pub entries: usize,
    /// In the order they were met.
    pub problems: Vec<Problem>,
    /// What is no fault, as a platform that is listed and not carried.
    pub notes: Vec<String>,
}

struct Validation<'a> {
    source: &'a Source,
    report: Report,
    /// The blobs that were met: their length if they are intact.
    met: BTreeMap<Digest, Option<u64>>,
    /// Bytes of documents that may still be read.
    documents: u64,
    /// Layers that were read, by file.
    layers: BTreeMap<String, KnownLayer>,
    /// How many images were met.
    images: usize,
    /// What else the indexes list.
    others: Vec<Other>,
}

/// A layer that was read.
#[derive(Clone)]
struct KnownLayer {
    diff_id: DiffId,
    encoding: Encoding,
    /// The first hard link to what is not in the layer above it.
    to_below: Option<String>,
}

/// A blob that a descriptor points at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Blob {
    /// Intact, and met for the first time.
    First,
    /// Intact, and checked before.
    Again,
    /// Missing or not what its descriptor says, which is in the report.
    Damaged,
}

/// Checks everything in a source.
///
/// # Errors
/// Only when the source itself cannot be read; what is wrong with it is in the report.
pub fn validate(source: &Source) -> Result<Report, ReadError> {
    let (met, layers, others) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
    let (report, documents) = (Report::default(), DOCUMENTS_LIMIT);
    let mut validation = Validation { source, report, met, documents, layers, images: 0, others };
    for entry in source.outside() {
        validation.problem(entry, "it leads out of the archive");
    }
    let is_layout = source.contains("index.json");
    if is_layout {
        validation.layout();
    }
    if source.contains("manifest.json") {
        validation.docker_archive(is_layout);
    }
    validation.account_for_others(if is_layout { "index.json" } else { "manifest.json" });
    // Whatever keeps an image from being read is a problem, and most of them were met already.
    if validation.report.problems.is_empty()
        && let Err(error) = contents(source)
    {
        let path = source.path().display().to_string();
        validation.read_problem(&path, &error);
    }
    Ok(validation.report)
}

impl Validation<'_> {
    fn problem(&mut self, place: &str, what: impl Into<String>) {
        self.report.problems.push(Problem { place: shown(place), what: shown(what.into()) });
    }

    fn require(&mut self, holds: bool, place: &str, what: impl FnOnce() -> String) {
        if !holds {
            self.problem(place, what());
        }
    }

    /// A document, or a problem in its place.
    fn document<T>(&mut self, name: &str, document: Result<T, ReadError>) -> Option<T> {
        document.map_err(|error| self.read_problem(name, &error)).ok()
    }

    fn read_problem(&mut self, name: &str, error: &ReadError) {
        match error {
            ReadError::Damaged { name, what } | ReadError::Contradiction { name, what } => {
                return self.problem(name, what.as_str());
            }
            _ => {}
        }
        let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
        self.problem(name, format!("{error}{cause}"));
    }

    /// image-layout.md
    fn layout(&mut self) {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct OciLayout {
            image_layout_version: String,
        }
        if let Some(layout) = self.document::<OciLayout>("oci-layout", self.source.json("oci-layout")) {
            self.require(layout.image_layout_version == "1.0.0", "oci-layout", || {
                format!("imageLayoutVersion is `{}` instead of `1.0.0`", layout.image_layout_version)
            });
        }
        if let Some(index) = self.document("index.json", self.source.top_index()) {
            self.index("index.json", &index, 4);
        }
    }

    fn index(&mut self, name: &str, index: &ImageIndex, depth: usize) {
        self.schema(name, index.schema_version());
        for descriptor in index.manifests() {
            // image-index.md: other media types are to be ignored.
            let kind = oci_media_type(descriptor.media_type());
            if !matches!(kind, MediaType::ImageIndex | MediaType::ImageManifest) {
                self.other(descriptor, OtherKind::Unknown(descriptor.media_type().to_string()));
                continue;
            }
            // image-layout.md: blobs may be missing.
            if let Ok(blob) = BlobRef::of(descriptor)
                && !self.source.contains(&blob.path())
            {
                let missing = blob.path();
                self.other(descriptor, OtherKind::NotCarried { platform: platform_of(descriptor), missing });
                continue;
            }
            if let Some((blob, state)) = self.blob(name, descriptor) {
                match state {
                    Blob::First => self.manifest_or_index(blob, descriptor, depth),
                    Blob::Again => self.again(blob, descriptor),
                    // It may have been one.
                    Blob::Damaged => self.images += 1,
                }
            }
        }
    }

    /// Whether so many more bytes of documents may be read.
    fn may_read(&mut self, bytes: u64) -> bool {
        let left = self.documents.checked_sub(bytes);
        if left.is_none() && self.documents > 0 {
            let place = self.source.path().display().to_string();
            self.problem(&place, format!("its documents have more than {DOCUMENTS_LIMIT} bytes"));
        }
        self.documents = left.unwrap_or(0);
        left.is_some()
    }

    /// A manifest or index that was checked under another descriptor.
    fn again(&mut self, blob: BlobRef, descriptor: &Descriptor) {
        let (name, media_type) = (blob.path(), descriptor.media_type());
        if !self.may_read(blob.size) {
            return;
        }
        if oci_media_type(media_type) != MediaType::ImageManifest {
            self.document::<ImageIndex>(&name, self.source.document(blob, media_type));
            return;
        }
        let manifest: Option<ImageManifest> = self.document(&name, self.source.document(blob, media_type));
        if let Some(config) = manifest.and_then(|manifest| BlobRef::of(manifest.config()).ok())
            && descriptor.platform().is_some()
            && self.may_read(config.size)
            && let Ok(config) = self.source.configuration(config)
        {
            self.platform(&name, descriptor, &config);
        }
    }

    fn other(&mut self, descriptor: &Descriptor, kind: OtherKind) {
        let other = Other { digest: descriptor.digest().to_string(), kind };
        if !self.others.contains(&other) {
            self.others.push(other);
        }
    }

    /// What is listed beside the images, or in place of any.
    fn account_for_others(&mut self, place: &str) {
        let others = std::mem::take(&mut self.others);
        if self.images > 0 {
            let notes = others.iter().filter(|other| !matches!(other.kind, OtherKind::Artifact(_)));
            self.report.notes.extend(notes.map(ToString::to_string));
            return;
        }
        for other in &others {
            if let OtherKind::NotCarried { missing, .. } = &other.kind {
                let path = self.source.path().display();
                let what = format!("{missing} is missing from {path}");
                self.problem(missing, what);
            }
        }
        // Any other problem may be why none was met.
        if self.report.problems.is_empty() {
            self.problem(place, format!("it holds no image: {}", instead_of_images(&others)));
        }
    }

    fn schema(&mut self, name: &str, version: u32) {
        self.require(version == 2, name, || format!("schemaVersion is {version} instead of 2"));
    }

    /// descriptor.md: the blob is there, as long as said, and its digest is the one said. None if that cannot be
    /// checked.
    fn blob(&mut self, place: &str, descriptor: &Descriptor) -> Option<(BlobRef, Blob)> {
        let blob = self.document(place, BlobRef::of(descriptor))?;
        let name = blob.path();
        match self.met.get(&blob.digest) {
            Some(Some(size)) if *size == blob.size => return Some((blob, Blob::Again)),
            // This descriptor says something else of it than the first.
            Some(Some(size)) => {
                let checked = blob.check(&name, blob.digest, *size);
                self.document(&name, checked);
                return Some((blob, Blob::Damaged));
            }
            Some(None) => return Some((blob, Blob::Damaged)),
            None => {}
        }
        let checked = self.source.stream(&name).and_then(|stream| {
            let mut hashed = Digesting::like(stream, Some(blob.digest));
            let read = io::copy(&mut hashed, &mut io::sink());
            read.map_err(|source| ReadError::Io { path: self.source.path().join(&name), source })?;
            Ok(hashed.finish().1)
        });
        if checked.is_ok() {
            self.report.blobs += 1;
        }
        let checked = checked.and_then(|(digest, size)| blob.check(&name, digest, size));
        self.met.insert(blob.digest, checked.is_ok().then_some(blob.size));
        match self.document(&name, checked) {
            Some(()) => Some((blob, Blob::First)),
            None => Some((blob, Blob::Damaged)),
        }
    }

    fn manifest_or_index(&mut self, blob: BlobRef, descriptor: &Descriptor, depth: usize) {
        let (name, media_type) = (blob.path(), descriptor.media_type());
        if !self.may_read(blob.size) {
            return;
        }
        match oci_media_type(media_type) {
            MediaType::ImageIndex if depth == 0 => self.problem(&name, "indexes are nested too deeply"),
            MediaType::ImageIndex => {
                if let Some(index) = self.document(&name, self.source.document(blob, media_type)) {
                    self.index(&name, &index, depth - 1);
                }
            }
            MediaType::ImageManifest => {
                if let Some(manifest) = self.document(&name, self.source.document(blob, media_type)) {
                    self.manifest(&name, &manifest, descriptor);
                }
            }
            _ => {}
        }
    }

    /// manifest.md
    fn manifest(&mut self, name: &str, manifest: &ImageManifest, descriptor: &Descriptor) {
        self.schema(name, manifest.schema_version());
        if let Some(kind) = no_image_but(descriptor, manifest) {
            // Nothing is known of its content.
            for blob in std::iter::once(manifest.config()).chain(manifest.layers()) {
                self.blob(name, blob);
            }
            self.other(descriptor, kind);
            return;
        }
        if is_not_carried(self.source, manifest)
            && let Ok(config) = BlobRef::of(manifest.config())
        {
            let (platform, missing) = (platform_of(descriptor), config.path());
            self.other(descriptor, OtherKind::NotCarried { platform, missing });
            return;
        }
        self.images += 1;
        let config = self.blob(name, manifest.config());
        let config = config.filter(|(_, state)| *state != Blob::Damaged).and_then(|(blob, _)| {
            if !self.may_read(blob.size) {
                return None;
            }
            let config = self.document(&blob.path(), self.source.configuration(blob))?;
            self.config(&blob.path(), &config, manifest.layers().len());
            Some(config)
        });
        if let Some(config) = &config {
            self.platform(name, descriptor, config);
        }
        for (at, layer) in manifest.layers().iter().enumerate() {
            let Some(blob) = self.document(name, BlobRef::of(layer)) else { continue };
            let Some(encoding) = layer_encoding(layer.media_type()) else {
                let what = format!("`{}` is no layer's media type", layer.media_type());
                self.problem(&blob.path(), what);
                continue;
            };
            let diff_id = config.as_ref().and_then(|config| config.diff_ids.get(at)).copied();
            let stored = LayerBlob { descriptor: Some(blob), file: blob.path(), diff_id };
            let found = self.layer(&stored, at == 0);
            if let Some(found) = found.filter(|found| *found != encoding) {
                let what = format!("it is {found:?}, its media type is `{}`", layer.media_type());
                self.problem(&blob.path(), what);
            }
        }
    }

    /// image-index.md: the platform is the config's.
    fn platform(&mut self, name: &str, descriptor: &Descriptor, config: &Configuration) {
        let Some(platform) = descriptor.platform() else { return };
        let image = &config.image;
        let same = platform.os() == image.os() && platform.architecture() == image.architecture();
        self.require(same, name, || {
            let said = spec::platform(platform.os(), platform.architecture(), platform.variant());
            let found = spec::platform(image.os(), image.architecture(), &None);
            format!("the index says {said}, the config says {found}")
        });
    }

    /// config.md
    fn config(&mut self, name: &str, config: &Configuration, layers: usize) {
        let Configuration { image, execution, .. } = config;
        let kind = image.rootfs().typ();
        self.require(kind == "layers", name, || format!("rootfs.type is `{kind}` instead of `layers`"));
        let diff_ids = config.diff_ids.len();
        self.require(diff_ids == layers, name, || format!("{diff_ids} diff ids for {layers} layers"));
        for (field, value) in
            [("architecture", image.architecture().to_string()), ("os", image.os().to_string())]
        {
            // Its base says so where crane appends to nothing.
            if value.is_empty() {
                self.report.notes.push(format!("{}: {field} is empty", shown(name)));
            }
        }
        if let Some(created) = image.created() {
            self.require(is_rfc3339(created), name, || format!("created `{created}` is not RFC 3339"));
        }
        for step in image.history().iter().flatten() {
            if let Some(created) = step.created() {
                self.require(is_rfc3339(created), name, || {
                    format!("history: created `{created}` is not RFC 3339")
                });
            }
        }
        if image.history().as_ref().is_some_and(|history| !history.is_empty()) {
            let made = config.history_of_layers().count();
            self.require(made == layers, name, || {
                format!("history tells of {made} layers, there are {layers}")
            });
        }
        for variable in execution.env().iter().flatten() {
            let named = variable.split_once('=').is_some_and(|(key, _)| !key.is_empty());
            self.require(named, name, || format!("Env `{variable}` is not NAME=VALUE"));
        }
        for port in execution.exposed_ports().iter().flatten() {
            let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
            let valid = number.parse::<u16>().is_ok_and(|number| number > 0)
                && matches!(protocol, "tcp" | "udp" | "sctp");
            self.require(valid, name, || format!("ExposedPorts `{port}` is not PORT[/tcp|/udp]"));
        }
    }

    /// layer.md. Its encoding, if it can be read.
    fn layer(&mut self, layer: &LayerBlob, is_lowest: bool) -> Option<Encoding> {
        let known =
            self.layers.get(&layer.file).filter(|known| is_like(layer.diff_id, known.diff_id)).cloned();
        let known = match known {
            Some(known) => known,
            None => {
                let read = self.read_layer(layer)?;
                self.layers.insert(layer.file.clone(), read.clone());
                read
            }
        };
        if let Some(said) = layer.diff_id {
            let found = known.diff_id;
            self.require(found == said, &layer.file, || {
                format!("its diff id is {found}, the config says {said}")
            });
        }
        if let Some(link) = known.to_below.filter(|_| is_lowest) {
            self.problem(&layer.file, format!("{link}: a hard link to what is not there"));
        }
        Some(known.encoding)
    }

    fn read_layer(&mut self, layer: &LayerBlob) -> Option<KnownLayer> {
        let mut to_below = None;
        let mut paths = HashSet::new();
        let mut problems = Vec::new();
        let name = layer.file.as_str();
        // The content goes into the diff id as it is stored. It is not read as a file's: a sparse one
        // of a few bytes can be as long as it likes.
        let facts = read_layer(self.source, layer, |entry, _| {
            let is_above = |link: &[u8]| paths.contains(&plain(link));
            if entry.kind == 'h' && to_below.is_none() && !entry.link.as_deref().is_some_and(is_above) {
                to_below = Some(shown(&entry.path));
            }
            check_entry(&entry, &mut paths, &mut problems);
            Ok(())
        });
        if let Some(blob) = layer.descriptor {
            self.met.insert(blob.digest, facts.is_ok().then_some(blob.size));
        }
        if let Err(error @ ReadError::Damaged { .. }) = &facts {
            self.read_problem(name, error);
            return None;
        }
        self.report.entries += paths.len();
        self.report.problems.extend(
            problems
                .into_iter()
                .map(|(path, what)| Problem { place: format!("{name}: {}", shown(&path)), what }),
        );
        let facts = self.document(name, facts)?;
        self.report.layers += 1;
        self.report.blobs += usize::from(layer.descriptor.is_some());
        Some(KnownLayer { diff_id: facts.diff_id, encoding: facts.encoding, to_below })
    }

    /// What `docker load` reads; in a tar that is an OCI layout too, the blobs are checked already.
    fn docker_archive(&mut self, is_layout: bool) {
        let Some(items) =
            self.document::<Vec<DockerManifest>>("manifest.json", self.source.json("manifest.json"))
        else {
            return;
        };
        if items.len() > IMAGES_LIMIT {
            let what = format!("it holds {} images, more than any real archive", items.len());
            return self.problem("manifest.json", what);
        }
        for item in items {
            if !self.may_read(self.source.size(&item.config).unwrap_or(0)) {
                return;
            }
            let config = self.source.docker_configuration(&item.config);
            self.images += usize::from(!is_layout);
            let Some((config, _)) = self.document(&item.config, config) else { continue };
            let layers = item.layers.unwrap_or_default();
            if !is_layout {
                self.config(&item.config, &config, layers.len());
            }
            for (at, file) in layers.into_iter().enumerate() {
                if !is_layout {
                    let diff_id = config.diff_ids.get(at).copied();
                    self.layer(&LayerBlob { descriptor: None, file, diff_id }, at == 0);
                } else if !self.source.contains(&file) {
                    self.problem("manifest.json", format!("{file} is missing"));
                }
            }
        }
    }
}

/// Whether a diff id can be compared with another.
fn is_like(said: Option<DiffId>, found: DiffId) -> bool {
    said.is_none_or(|said| std::mem::discriminant(&said.0) == std::mem::discriminant(&found.0))
}

fn check_entry(entry: &ReadEntry, paths: &mut HashSet<Vec<u8>>, problems: &mut Vec<(Vec<u8>, String)>) {
    let mut problem = |what: &str| problems.push((entry.path.clone(), what.to_owned()));
    let escapes = |path: &[u8]| path.split(|byte| *byte == b'/').any(|part| part == b"..");
    if escapes(&entry.path) {
        problem("the path has a `..` component");
    }
    if entry.kind == 'h' && entry.link.as_deref().is_some_and(escapes) {
        problem("the hard link's target has a `..` component");
    }
    if entry.kind == 'l' && entry.link.as_ref().is_none_or(Vec::is_empty) {
        problem("a link to nothing");
    }
    if entry.kind == '?' {
        problem("an entry of a type that layers do not have");
    }
    if !paths.insert(plain(&entry.path)) {
        problem("the path stands twice in one layer");
    }
}

/// A path in one spelling.
fn plain(path: &[u8]) -> Vec<u8> {
    let parts = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".");
    parts.collect::<Vec<_>>().join(&b'/')
}
