//! Checking an image against the image specification: every digest, size and diff id is computed anew
//! and every document is read for what the spec demands of it. Nothing that stands in the image is
//! believed.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use super::archive::DockerManifest;
use super::blob::blob_path;
use super::digest::{DiffId, Digest};
use super::reader::{Encoding, LayerBlob, ReadEntry, ReadError, Source, read_layer};
use super::source::check_blob;
use super::spec::{self, Config, Descriptor, Index, Manifest};
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
}

struct Validation<'a> {
    source: &'a Source,
    report: Report,
    /// The blobs that were met, and whether each is intact.
    met: BTreeMap<Digest, bool>,
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
    let mut validation = Validation { source, report: Report::default(), met: BTreeMap::new() };
    if source.contains("index.json") {
        validation.layout();
    }
    if source.contains("manifest.json") {
        validation.docker_archive();
    }
    Ok(validation.report)
}

impl Validation<'_> {
    fn problem(&mut self, place: &str, what: impl Into<String>) {
        self.report.problems.push(Problem { place: place.to_owned(), what: what.into() });
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
        if let ReadError::Damaged { what, .. } | ReadError::Contradiction { what, .. } = error {
            return self.problem(name, what.as_str());
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

    fn index(&mut self, name: &str, index: &Index, depth: usize) {
        self.schema(name, index.schema_version);
        for descriptor in &index.manifests {
            if self.blob(descriptor) == Blob::First {
                self.manifest_or_index(descriptor, depth);
            }
        }
    }

    fn schema(&mut self, name: &str, version: u32) {
        self.require(version == 2, name, || format!("schemaVersion is {version} instead of 2"));
    }

    /// descriptor.md: the blob is there, as long as said, and its digest is the one said.
    fn blob(&mut self, descriptor: &Descriptor) -> Blob {
        let name = blob_path(&descriptor.digest);
        match self.met.get(&descriptor.digest) {
            Some(true) => return Blob::Again,
            Some(false) => return Blob::Damaged,
            None => {}
        }
        let checked = self.source.stream(&name).and_then(|stream| {
            let read = Digest::of_reader(stream);
            read.map_err(|source| ReadError::Io { path: self.source.path().join(&name), source })
        });
        if checked.is_ok() {
            self.report.blobs += 1;
        }
        let checked = checked.and_then(|(digest, size)| check_blob(&name, descriptor, digest, size));
        self.met.insert(descriptor.digest, checked.is_ok());
        match checked {
            Ok(()) => Blob::First,
            Err(error) => {
                self.read_problem(&name, &error);
                Blob::Damaged
            }
        }
    }

    fn manifest_or_index(&mut self, descriptor: &Descriptor, depth: usize) {
        let name = blob_path(&descriptor.digest);
        match descriptor.media_type.as_str() {
            spec::INDEX | spec::DOCKER_INDEX if depth == 0 => {
                self.problem(&name, "indexes are nested too deeply");
            }
            spec::INDEX | spec::DOCKER_INDEX => {
                if let Some(index) = self.document(&name, self.source.document_of_kind(descriptor)) {
                    self.index(&name, &index, depth - 1);
                }
            }
            spec::MANIFEST | spec::DOCKER_MANIFEST => {
                if let Some(manifest) = self.document(&name, self.source.document_of_kind(descriptor)) {
                    self.manifest(&name, &manifest, descriptor);
                }
            }
            // image-index.md: other media types are to be ignored.
            _ => {}
        }
    }

    /// manifest.md
    fn manifest(&mut self, name: &str, manifest: &Manifest, descriptor: &Descriptor) {
        self.schema(name, manifest.schema_version);
        let config = self.blob(&manifest.config);
        if !matches!(manifest.config.media_type.as_str(), spec::CONFIG | spec::DOCKER_CONFIG) {
            for layer in &manifest.layers {
                self.blob(layer);
            }
            return;
        }
        let config_name = blob_path(&manifest.config.digest);
        let config = match config {
            Blob::Damaged => None,
            Blob::First | Blob::Again => {
                self.document::<Config>(&config_name, self.source.document(&manifest.config))
            }
        };
        if let Some(config) = &config {
            self.config(&config_name, config, manifest.layers.len());
            if let Some(platform) = &descriptor.platform {
                let same = platform.os == config.os && platform.architecture == config.architecture;
                self.require(same, name, || {
                    format!(
                        "the index says {platform}, the config says {}/{}",
                        config.os, config.architecture
                    )
                });
            }
        }
        for (at, layer) in manifest.layers.iter().enumerate() {
            let name = blob_path(&layer.digest);
            let said = config.as_ref().and_then(|config| config.rootfs.diff_ids.get(at));
            let encoding = match layer.media_type.as_str() {
                spec::LAYER_TAR | spec::DOCKER_LAYER_TAR => Some(Encoding::Plain),
                spec::LAYER_GZIP | spec::DOCKER_LAYER_GZIP => Some(Encoding::Gzip),
                spec::LAYER_ZSTD => Some(Encoding::Zstd),
                _ => None,
            };
            match encoding {
                None => self.problem(&name, format!("`{}` is no layer's media type", layer.media_type)),
                Some(encoding) => {
                    self.layer(&name, Some((layer, encoding)), said);
                }
            }
        }
    }

    /// config.md
    fn config(&mut self, name: &str, config: &Config, layers: usize) {
        self.require(config.rootfs.kind == "layers", name, || {
            format!("rootfs.type is `{}` instead of `layers`", config.rootfs.kind)
        });
        let diff_ids = config.rootfs.diff_ids.len();
        self.require(diff_ids == layers, name, || format!("{diff_ids} diff ids for {layers} layers"));
        for (field, value) in [("architecture", &config.architecture), ("os", &config.os)] {
            self.require(!value.is_empty(), name, || format!("{field} is empty"));
        }
        if let Some(created) = &config.created {
            self.require(is_rfc3339(created), name, || format!("created `{created}` is not RFC 3339"));
        }
        if !config.history.is_empty() {
            let made = config.history.iter().filter(|step| !step.empty_layer).count();
            self.require(made == layers, name, || {
                format!("history tells of {made} layers, there are {layers}")
            });
        }
        for variable in &config.config.env {
            let named = variable.split_once('=').is_some_and(|(key, _)| !key.is_empty());
            self.require(named, name, || format!("Env `{variable}` is not NAME=VALUE"));
        }
        for port in config.config.exposed_ports.keys() {
            let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
            let valid = number.parse::<u16>().is_ok_and(|number| number > 0)
                && matches!(protocol, "tcp" | "udp" | "sctp");
            self.require(valid, name, || format!("ExposedPorts `{port}` is not PORT[/tcp|/udp]"));
        }
    }

    /// layer.md
    fn layer(&mut self, name: &str, said: Option<(&Descriptor, Encoding)>, diff_id: Option<&DiffId>) {
        let mut paths = HashSet::new();
        let mut problems = Vec::new();
        let descriptor = said.map(|(descriptor, _)| descriptor.clone());
        let layer = LayerBlob { descriptor, file: name.to_owned(), diff_id: diff_id.copied() };
        // The content goes into the diff id as it is stored. It is not read as a file's: a sparse one
        // of a few bytes can be as long as it likes.
        let facts = read_layer(self.source, &layer, |entry, _| {
            check_entry(&entry, &mut paths, &mut problems);
            Ok(())
        });
        if let Some((descriptor, _)) = said {
            self.met.insert(descriptor.digest, facts.is_ok());
        }
        if let Err(error @ ReadError::Damaged { .. }) = &facts {
            return self.read_problem(name, error);
        }
        self.report.entries += paths.len();
        self.report.problems.extend(problems.into_iter().map(|(path, what)| Problem {
            place: format!("{name}: {}", String::from_utf8_lossy(&path)),
            what,
        }));
        let facts = match facts {
            Ok(facts) => facts,
            Err(error) => return self.read_problem(name, &error),
        };
        self.report.layers += 1;
        if let Some((descriptor, encoding)) = said {
            self.report.blobs += 1;
            self.require(facts.encoding == encoding, name, || {
                format!("it is {:?}, its media type is `{}`", facts.encoding, descriptor.media_type)
            });
        }
        if let Some(said) = diff_id {
            self.require(facts.diff_id == *said, name, || {
                format!("its diff id is {}, the config says {said}", facts.diff_id)
            });
        }
    }

    /// What `docker load` reads; in a tar that is an OCI layout too, the blobs are checked already.
    fn docker_archive(&mut self) {
        let Some(items) =
            self.document::<Vec<DockerManifest>>("manifest.json", self.source.json("manifest.json"))
        else {
            return;
        };
        let alone = !self.source.contains("index.json");
        for item in items {
            let Some(config) = self.document::<Config>(&item.config, self.source.json(&item.config)) else {
                continue;
            };
            if alone {
                self.config(&item.config, &config, item.layers.len());
            }
            for (at, file) in item.layers.iter().enumerate() {
                if alone {
                    self.layer(file, None, config.rootfs.diff_ids.get(at));
                } else if !self.source.contains(file) {
                    self.problem("manifest.json", format!("{file} is missing"));
                }
            }
        }
    }
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
    if entry.kind == '?' {
        problem("an entry of a type that layers do not have");
    }
    let plain = entry.path.strip_prefix(b"./").unwrap_or(&entry.path);
    let plain = plain.strip_suffix(b"/").unwrap_or(plain);
    if !paths.insert(plain.to_vec()) {
        problem("the path stands twice in one layer");
    }
}
