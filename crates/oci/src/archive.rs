//! Writing one tar that everybody loads: an image layout with docker's `manifest.json` beside it.
//!
//! Docker's classic store needs `manifest.json` ("docker save" v1.2 form, layers may be compressed) up
//! to this day; containerd's, podman's and skopeo's `oci-archive:` read `oci-layout` and `index.json`.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use super::blob::BlobSource;
use super::image::{Image, Index};
use super::layout::OCI_LAYOUT;
use super::reference::Reference;
use super::spec::to_json;
use super::tar::{Header, Kind, write_end, write_header, write_padding};
use crate::input;

/// An entry of docker's `manifest.json` (moby image/tarexport `manifestItem`).
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct DockerManifest {
    pub(crate) config: String,
    pub(crate) repo_tags: Option<Vec<String>>,
    pub(crate) layers: Option<Vec<String>>,
}

fn docker_manifest(image: &Image, tags: &[Reference]) -> serde_json::Result<Vec<u8>> {
    to_json(&[DockerManifest {
        config: image.config.path(),
        repo_tags: Some(tags.iter().map(ToString::to_string).collect()),
        layers: Some(image.layers.iter().map(|(_, blob)| blob.path()).collect()),
    }])
}

/// Writes the archive. Readers that know no index get the image of the first platform.
///
/// Every header is the same on every host: the archive's bytes depend on the image and its tags alone.
///
/// # Errors
/// When a blob cannot be read or `out` cannot be written.
pub fn write(index: &Index, index_json: &[u8], tags: &[Reference], out: impl Write) -> io::Result<()> {
    let mut out = io::BufWriter::with_capacity(128 << 10, out);
    let mut small: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
    small.insert("oci-layout", OCI_LAYOUT.to_vec());
    small.insert("index.json", index_json.to_vec());
    if let Some(first) = index.images().first() {
        small.insert("manifest.json", docker_manifest(first, tags)?);
    }
    for (name, bytes) in &small {
        put(&mut out, name, bytes.len() as u64, &mut &bytes[..])?;
    }
    for dir in ["blobs", "blobs/sha256"] {
        write_header(&mut out, &header(dir, Kind::Directory))?;
    }
    for blob in index.blobs() {
        let (path, size) = (blob.path(), blob.descriptor.size());
        match &blob.source {
            BlobSource::Bytes(bytes) => put(&mut out, &path, size, &mut &bytes[..])?,
            BlobSource::File(file) => put(&mut out, &path, size, &mut input::open(file)?)?,
        }
    }
    write_end(&mut out)?;
    out.flush()
}

fn header<'a>(path: &'a str, kind: Kind<'a>) -> Header<'a> {
    let mode = if matches!(kind, Kind::Directory) { 0o755 } else { 0o644 };
    Header { path: path.as_bytes(), kind, mode, uid: 0, gid: 0, mtime: 0, capabilities: None }
}

fn put(out: &mut impl Write, path: &str, size: u64, content: &mut impl io::Read) -> io::Result<()> {
    write_header(out, &header(path, Kind::File(size)))?;
    let copied = io::copy(content, out)?;
    if copied != size {
        return Err(io::Error::other(format!("{path} has {copied} bytes instead of {size}")));
    }
    write_padding(out, size)
}
