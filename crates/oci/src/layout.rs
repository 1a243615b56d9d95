//! Writing an image layout: a folder with `oci-layout`, `index.json` and `blobs/` (image-spec
//! image-layout.md).

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::blob::{Blob, BlobSource, FileError, Staging};
use super::image::Index;
use super::reference::Reference;
use super::spec::{self, Map, OciSpecError};

/// The content of `oci-layout`.
pub const OCI_LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// The content of a layout's `index.json`: a descriptor for every tag, as docker and BuildKit write it.
/// containerd and podman take the full name from one annotation, skopeo the tag from the other.
///
/// # Errors
/// When it cannot be serialised, which no value of these types causes.
pub fn index_json(index: &Index, tags: &[Reference]) -> Result<Vec<u8>, OciSpecError> {
    let tagged = |tag: &Reference| {
        let annotations = [
            ("io.containerd.image.name".to_owned(), tag.canonical()),
            ("org.opencontainers.image.ref.name".to_owned(), tag.tag().to_owned()),
        ];
        let mut descriptor = index.root()?.clone();
        descriptor.set_annotations(Some(annotations.into()));
        Some(descriptor)
    };
    let manifests = match tags {
        [] => index.root().cloned().into_iter().collect(),
        tags => tags.iter().filter_map(tagged).collect(),
    };
    spec::index(manifests, Map::new())
}

/// Writes the image into `dir`, new or holding an older layout. Readers find the older image or the
/// new one: blobs come first, then `index.json`, and at last what nothing refers to any more goes.
///
/// # Errors
/// When a file cannot be written; what was there before is then still whole.
pub fn write(index: &Index, index_json: &[u8], dir: &Path, staging: &Staging) -> Result<(), FileError> {
    let blobs = dir.join("blobs/sha256");
    fs::create_dir_all(&blobs).map_err(FileError::on("create", &blobs))?;
    let mut kept = BTreeSet::new();
    for Blob { descriptor, source } in index.blobs() {
        let name = descriptor.digest().digest().to_owned();
        let place = blobs.join(&name);
        match source {
            BlobSource::Bytes(bytes) => staging.write(&place, bytes)?,
            BlobSource::File(path) => staging.link_or_copy(path, &place)?,
        }
        kept.insert(name);
    }
    staging.write(&dir.join("oci-layout"), OCI_LAYOUT)?;
    staging.write(&dir.join("index.json"), index_json)?;
    for entry in fs::read_dir(&blobs).map_err(FileError::on("read", &blobs))? {
        let entry = entry.map_err(FileError::on("read", &blobs))?;
        if !entry.file_name().to_str().is_some_and(|name| kept.contains(name)) {
            fs::remove_file(entry.path()).map_err(FileError::on("remove", &entry.path()))?;
        }
    }
    Ok(())
}
