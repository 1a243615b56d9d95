//! Reads the layers of a base image, each once: the layer cache keeps the blob and the list of its files.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};

use super::super::cache::{CacheKey, LayerCache};
use super::BaseLayers;
use super::tree::{BaseTree, ListedEntry};
use tare_oci::blob::{BlobSource, FileError, Staging};
use tare_oci::digest::{DiffId, Digest};
use tare_oci::layer::Layer;
use tare_oci::reader::{Encoding, LayerBlob, ReadImage, Source, read_layer};
use tare_oci::shown::shown;
use tare_oci::spec::{Descriptor, MediaType, oci_media_type};

/// The layers of an image, lowest first.
pub(super) fn read(
    source: &Source,
    image: &ReadImage,
    cache: &LayerCache,
    staging: &Staging,
) -> anyhow::Result<BaseLayers> {
    let (layers, diff_ids) = (image.layers.len(), image.config.diff_ids.len());
    ensure!(layers == diff_ids, "it has {layers} layers, but diff ids of {diff_ids}");
    let mut read = BaseLayers { layers: Vec::new(), cached: Vec::new(), tree: BaseTree::default() };
    for (at, (blob, diff_id)) in image.layers.iter().zip(&image.config.diff_ids).enumerate() {
        let name = format!("base image {}", at + 1);
        let said = image.manifest.as_ref().and_then(|(_, manifest)| manifest.layers().get(at));
        let key = CacheKey::of_base(blob.descriptor.map_or(diff_id.0, |blob| blob.digest));
        let of_layer = || format!("layer {}", at + 1);
        let media_type = said.map(|said| layer_type(said.media_type())).transpose().with_context(of_layer)?;
        let found = find(cache, key, &name)
            .filter(|found| found.layer.diff_id == *diff_id)
            .filter(|found| media_type.as_ref().is_none_or(|it| it == found.layer.descriptor.media_type()));
        let (found, cached) = match found {
            Some(found) => (found, true),
            None => {
                let kept = keep(source, blob, *diff_id, (key, &name), media_type, cache, staging);
                (kept.with_context(of_layer)?, false)
            }
        };
        read.tree.add_layer(found.entries);
        read.layers.push((found.layer, BlobSource::File(found.blob)));
        read.cached.push(cached);
    }
    Ok(read)
}

/// A layer with the list of its files.
struct Found {
    layer: Layer,
    blob: PathBuf,
    entries: Vec<ListedEntry>,
}

fn find(cache: &LayerCache, key: CacheKey, name: &str) -> Option<Found> {
    let (layer, blob) = cache.find(key, name)?;
    let entries = serde_json::from_slice(&cache.note(key)?).ok()?;
    Some(Found { layer, blob, entries })
}

/// Reads a layer through, and keeps it.
fn keep(
    source: &Source,
    blob: &LayerBlob,
    diff_id: DiffId,
    (key, name): (CacheKey, &str),
    media_type: Option<MediaType>,
    cache: &LayerCache,
    staging: &Staging,
) -> anyhow::Result<Found> {
    let mut entries = Vec::new();
    let facts = read_layer(source, blob, |entry, _| {
        entries.push(ListedEntry::from(entry));
        Ok(())
    })?;
    ensure!(facts.diff_id == diff_id, "its diff id is {}, and not {diff_id}", facts.diff_id);
    // The archives of docker say nothing about the compression.
    let media_type = media_type.unwrap_or(match facts.encoding {
        Encoding::Gzip => MediaType::ImageLayerGzip,
        Encoding::Zstd => MediaType::ImageLayerZstd,
        _ => MediaType::ImageLayer,
    });
    let (mut file, path) = staging.file()?;
    io::copy(&mut source.stream(&blob.file)?, &mut file).map_err(FileError::on("write", &path))?;
    drop(file);
    let read = File::open(&path).and_then(Digest::of_reader).map_err(FileError::on("read", &path))?;
    ensure!(read == (facts.digest, facts.size), "{} changed while it was read", blob.file);
    let layer = Layer {
        name: name.to_owned(),
        descriptor: Descriptor::new(media_type, facts.size, facts.digest),
        diff_id,
        uncompressed_size: facts.uncompressed_size,
    };
    cache.keep_note(key, &serde_json::to_vec(&entries)?, staging)?;
    let blob = cache.keep(key, &layer, &path, staging)?;
    Ok(Found { layer, blob, entries })
}

/// The media type of a layer in OCI's name. Blobs are the same under docker's names.
fn layer_type(media_type: &MediaType) -> anyhow::Result<MediaType> {
    match oci_media_type(media_type) {
        known @ (MediaType::ImageLayer | MediaType::ImageLayerGzip | MediaType::ImageLayerZstd) => Ok(known),
        other => bail!("its media type is {}, of which no image can be built", shown(other.to_string())),
    }
}
