//! What is in an image, anybody's: parameters, layers, files, and the crates in its binaries.

use std::collections::BTreeMap;
use std::io::{self, Read};

use serde::Serialize;

use crate::audit::{self, DependencyKind};
use crate::digest::{DiffId, Digest};
use crate::elf;
use crate::reader::{ReadError, ReadImage, Source, images, read_layer};
use crate::spec::Configuration;

/// Larger binaries are not searched for their crates.
const BINARY_LIMIT: u64 = 512 << 20;

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
    /// For each binary that lists its crates.
    pub packages: BTreeMap<String, Vec<PackageInspection>>,
}

fn document<S: serde::Serializer>(config: &Configuration, serializer: S) -> Result<S::Ok, S::Error> {
    config.document.serialize(serializer)
}

/// One layer.
#[derive(Debug, Serialize)]
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
#[derive(Debug, Serialize)]
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
#[derive(Debug, Serialize, PartialEq, Eq)]
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
/// When a document or layer cannot be read.
pub fn inspect(source: &Source) -> Result<Vec<Inspection>, ReadError> {
    images(source)?.into_iter().map(|image| inspect_image(source, image)).collect()
}

fn inspect_image(source: &Source, image: ReadImage) -> Result<Inspection, ReadError> {
    let mut history = image.config.history_of_layers();
    let mut layers = Vec::new();
    let mut packages = BTreeMap::new();
    for layer in &image.layers {
        let mut files = Vec::new();
        let facts = read_layer(source, layer, |entry, content| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
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
        layers.push(LayerInspection {
            created_by: history.next().and_then(|step| step.created_by().clone()),
            digest: facts.digest,
            diff_id: facts.diff_id,
            size: facts.size,
            uncompressed_size: facts.uncompressed_size,
            files,
        });
    }
    drop(history);
    Ok(Inspection {
        names: image.names,
        digest: image.manifest.as_ref().map(|(descriptor, _)| descriptor.digest),
        image_id: image.image_id,
        platform: image.config.platform(),
        config: image.config,
        layers,
        packages,
    })
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
