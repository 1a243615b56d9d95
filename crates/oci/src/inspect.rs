//! What is in an image, anybody's: parameters, layers, files, and the crates in its binaries.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read};

use serde::Serialize;

use crate::audit::{self, DependencyKind};
use crate::digest::{DiffId, Digest};
use crate::elf;
use crate::reader::{LayerBlob, Other, OtherKind, ReadError, ReadImage, Source, contents, read_layer};
use crate::spec::Configuration;

/// Larger binaries are not searched for their crates.
const BINARY_LIMIT: u64 = 256 << 20;
/// Files of all layers of all images, which are listed in memory.
const FILES_LIMIT: usize = 2_000_000;

/// One image of one platform.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Inspection {
    /// Names it goes by.
    pub names: Vec<String>,
    /// Of the manifest; none in a docker archive.
    pub digest: Option<Digest>,
    /// Of the config.
    pub image_id: Digest,
    /// `linux/amd64`
    pub platform: String,
    /// The config as it stands there.
    #[serde(serialize_with = "document")]
    pub config: Configuration,
    /// Lowest first.
    pub layers: Vec<LayerInspection>,
    /// Digests of the attestations about it that are stored beside it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attestations: Vec<String>,
    /// For each binary that lists its crates.
    pub packages: BTreeMap<String, Vec<PackageInspection>>,
}

fn document<S: serde::Serializer>(config: &Configuration, serializer: S) -> Result<S::Ok, S::Error> {
    config.document.serialize(serializer)
}

/// One layer.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LayerInspection {
    /// What made it, as the history says.
    pub created_by: Option<String>,
    /// Of the blob.
    pub digest: Digest,
    /// Of the tar.
    pub diff_id: DiffId,
    /// Bytes of the blob.
    pub size: u64,
    /// Bytes of the tar.
    pub uncompressed_size: u64,
    /// In the order of the tar.
    pub files: Vec<FileInspection>,
}

/// One entry of a layer.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FileInspection {
    /// Without a leading slash; what is not UTF-8 is replaced.
    pub path: String,
    /// `-`, `d`, `l` and so on, as `ls` shows it.
    pub kind: char,
    /// Octal.
    pub mode: String,
    /// `uid:gid`
    pub owner: String,
    /// Bytes.
    pub size: u64,
    /// Target of a link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// Names of its extended attributes and other pax records.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<String>,
}

/// One crate in a binary.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub struct PackageInspection {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// `crates.io`, `git`, `local` or `registry`.
    pub source: String,
    /// `runtime` or `build`.
    pub kind: &'static str,
}

/// Reads every image in a source.
///
/// # Errors
/// When a document or layer cannot be read, or there is no image.
pub fn inspect(source: &Source) -> Result<Vec<Inspection>, ReadError> {
    let contents = contents(source)?;
    let mut inspecting = Inspecting { source, files: FILES_LIMIT, layers: HashMap::new() };
    contents.images.into_iter().map(|image| inspecting.image(image, &contents.others)).collect()
}

/// The crates of the binaries of one layer.
type Packages = BTreeMap<String, Vec<PackageInspection>>;

struct Inspecting<'a> {
    source: &'a Source,
    /// How many more files may be listed.
    files: usize,
    /// Layers that were read, by file: images share them.
    layers: HashMap<String, (LayerInspection, Packages)>,
}

impl Inspecting<'_> {
    fn image(&mut self, image: ReadImage, others: &[Other]) -> Result<Inspection, ReadError> {
        let mut history = image.config.history_of_layers();
        let (mut layers, mut packages) = (Vec::new(), Packages::new());
        for blob in &image.layers {
            let (mut layer, found) = self.layer(blob)?;
            layer.created_by = history.next().and_then(|step| step.created_by().clone());
            layers.push(layer);
            packages.extend(found);
        }
        drop(history);
        let digest = image.manifest.as_ref().map(|(descriptor, _)| descriptor.digest);
        let own = digest.map(|digest| digest.to_string());
        let is_about = |other: &&Other| match &other.kind {
            OtherKind::Attestation { of, .. } => of.is_some() && *of == own,
            _ => false,
        };
        Ok(Inspection {
            names: image.names,
            digest,
            image_id: image.image_id,
            platform: image.config.platform(),
            config: image.config,
            layers,
            attestations: others.iter().filter(is_about).map(|other| other.digest.clone()).collect(),
            packages,
        })
    }

    fn layer(&mut self, blob: &LayerBlob) -> Result<(LayerInspection, Packages), ReadError> {
        let (layer, packages) = match self.layers.get(&blob.file) {
            Some(known) => known.clone(),
            None => {
                let read = read(self.source, blob, self.files)?;
                self.layers.insert(blob.file.clone(), read.clone());
                read
            }
        };
        self.files = self.files.checked_sub(layer.files.len()).ok_or_else(too_many_files)?;
        Ok((layer, packages))
    }
}

fn too_many_files() -> ReadError {
    ReadError::Refused(format!("it holds more than {FILES_LIMIT} files"))
}

fn read(source: &Source, layer: &LayerBlob, most: usize) -> Result<(LayerInspection, Packages), ReadError> {
    let (mut files, mut packages) = (Vec::new(), Packages::new());
    let facts = read_layer(source, layer, |entry, content| {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if files.len() == most {
            return Err(io::Error::new(io::ErrorKind::InvalidData, too_many_files().to_string()));
        }
        let path = text(&entry.path);
        let executable = entry.kind == '-' && entry.mode & 0o111 != 0;
        if executable
            && entry.size <= BINARY_LIMIT
            && let Some(crates) = crates(content)?
        {
            packages.insert(path.clone(), crates);
        }
        files.push(FileInspection {
            path,
            kind: entry.kind,
            mode: format!("{:04o}", entry.mode & 0o7777),
            owner: format!("{}:{}", entry.owner.0, entry.owner.1),
            size: entry.size,
            link: entry.link.as_deref().map(text),
            attributes: entry.attributes.iter().map(|(key, _)| text(key)).collect(),
        });
        Ok(())
    })?;
    let layer = LayerInspection {
        created_by: None,
        digest: facts.digest,
        diff_id: facts.diff_id,
        size: facts.size,
        uncompressed_size: facts.uncompressed_size,
        files,
    };
    Ok((layer, packages))
}

/// The crates that a binary lists; none for what is no binary, or lists none that can be understood.
fn crates(content: &mut dyn Read) -> io::Result<Option<Vec<PackageInspection>>> {
    let mut bytes = vec![0; 4];
    match content.read_exact(&mut bytes) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    if bytes != *b"\x7fELF" {
        return Ok(None);
    }
    content.read_to_end(&mut bytes)?;
    let Ok(Some(section)) = elf::audit_data(&bytes) else { return Ok(None) };
    let Ok(list) = audit::decode(section) else { return Ok(None) };
    Ok(Some(
        list.packages
            .into_iter()
            .map(|package| PackageInspection {
                name: package.name,
                version: package.version.to_string(),
                source: package.source.into(),
                kind: match package.kind {
                    DependencyKind::Runtime => "runtime",
                    DependencyKind::Build => "build",
                },
            })
            .collect(),
    ))
}
