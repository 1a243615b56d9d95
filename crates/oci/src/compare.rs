//! Finding where two images differ: the first path, and the first byte in it.

use std::collections::BTreeMap;
use std::fmt;

use super::digest::Digest;
use super::reader::{LayerBlob, ReadEntry, ReadError, ReadImage, Source, images, read_layer};

/// The first difference between two images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The platform, and the layer or document.
    pub place: String,
    /// What differs there.
    pub what: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// A layer's entry with the digest of its content.
type Listing = Vec<(ReadEntry, Digest)>;

/// Compares two images, files first: a binary that differs changes every document above it.
///
/// # Errors
/// When one cannot be read.
pub fn first_difference(a: &Source, b: &Source) -> Result<Option<Difference>, ReadError> {
    let (images_a, images_b) = (images(a)?, images(b)?);
    if images_a.len() != images_b.len() {
        let what = format!("{} images in the first, {} in the second", images_a.len(), images_b.len());
        return Ok(Some(Difference { place: "index".to_owned(), what }));
    }
    for (image_a, image_b) in images_a.iter().zip(&images_b) {
        if let Some(difference) = in_layers(a, b, image_a, image_b)? {
            return Ok(Some(difference));
        }
    }
    let mut documents = vec![];
    for (image_a, image_b) in images_a.iter().zip(&images_b) {
        let platform = image_a.config.platform();
        documents.push((
            format!("{platform}: config"),
            a.read(&image_a.config_file)?,
            b.read(&image_b.config_file)?,
        ));
        if let (Some((manifest_a, _)), Some((manifest_b, _))) = (&image_a.manifest, &image_b.manifest) {
            let manifests = (a.read(&manifest_a.path())?, b.read(&manifest_b.path())?);
            documents.push((format!("{platform}: manifest"), manifests.0, manifests.1));
        }
    }
    documents.push(("index.json".to_owned(), a.read("index.json")?, b.read("index.json")?));
    let differing = documents.into_iter().find(|(_, a, b)| a != b);
    Ok(differing.map(|(place, a, b)| Difference { place, what: first_byte(&a, &b) }))
}

fn in_layers(
    a: &Source,
    b: &Source,
    image_a: &ReadImage,
    image_b: &ReadImage,
) -> Result<Option<Difference>, ReadError> {
    let platform = image_a.config.platform();
    if image_a.layers.len() != image_b.layers.len() {
        let what =
            format!("{} layers in the first, {} in the second", image_a.layers.len(), image_b.layers.len());
        return Ok(Some(Difference { place: platform, what }));
    }
    for (number, (layer_a, layer_b)) in image_a.layers.iter().zip(&image_b.layers).enumerate() {
        let (listing_a, digest_a) = list(a, layer_a)?;
        let (listing_b, digest_b) = list(b, layer_b)?;
        let place = format!("{platform}: layer {}", number + 1);
        let in_second: BTreeMap<&[u8], &(ReadEntry, Digest)> =
            listing_b.iter().map(|item| (item.0.path.as_slice(), item)).collect();
        let path = |entry: &ReadEntry| format!("/{}", String::from_utf8_lossy(&entry.path));
        for item in &listing_a {
            let what = match in_second.get(item.0.path.as_slice()) {
                None => format!("{} is only in the first", path(&item.0)),
                Some(other) if **other == *item => continue,
                Some(other) if other.1 != item.1 => {
                    let bytes = |source, layer| content(source, layer, &item.0.path);
                    let (a, b) = (bytes(a, layer_a)?, bytes(b, layer_b)?);
                    format!("{}: {}", path(&item.0), first_byte(&a, &b))
                }
                Some(other) => format!(
                    "{}: mode {:04o}, owner {:?}, time {} in the first; mode {:04o}, owner {:?}, time {} in the second",
                    path(&item.0),
                    item.0.mode,
                    item.0.owner,
                    item.0.mtime,
                    other.0.mode,
                    other.0.owner,
                    other.0.mtime
                ),
            };
            return Ok(Some(Difference { place, what }));
        }
        if let Some((entry, _)) = listing_b.get(listing_a.len()) {
            return Ok(Some(Difference { place, what: format!("{} is only in the second", path(entry)) }));
        }
        if digest_a != digest_b {
            let what = format!("the same files, but {digest_a} in the first and {digest_b} in the second");
            return Ok(Some(Difference { place, what }));
        }
    }
    Ok(None)
}

fn list(source: &Source, layer: &LayerBlob) -> Result<(Listing, Digest), ReadError> {
    let mut listing = Vec::new();
    let facts = read_layer(source, layer, |entry, content| {
        let (digest, _) = Digest::of_reader(content)?;
        listing.push((entry, digest));
        Ok(())
    })?;
    Ok((listing, facts.digest))
}

fn content(source: &Source, layer: &LayerBlob, path: &[u8]) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    read_layer(source, layer, |entry, content| {
        if entry.path == path {
            content.read_to_end(&mut bytes)?;
        }
        Ok(())
    })?;
    Ok(bytes)
}

fn first_byte(a: &[u8], b: &[u8]) -> String {
    match a.iter().zip(b).position(|(a, b)| a != b) {
        Some(at) => format!("byte {at} differs: {:#04x} in the first, {:#04x} in the second", a[at], b[at]),
        None => format!("{} bytes in the first, {} in the second", a.len(), b.len()),
    }
}
