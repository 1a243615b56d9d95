//! Finding where two images differ: the first path, and the first byte in it.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use super::digest::Digest;
use super::reader::{LayerBlob, ReadEntry, ReadError, ReadImage, Source, images, read_layer};
use super::shown::shown;

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
    // A docker archive has no other documents.
    if a.contains("index.json") || b.contains("index.json") {
        documents.push(("index.json".to_owned(), a.read("index.json")?, b.read("index.json")?));
    }
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
        if let Some(what) = in_files((a, layer_a, &listing_a), (b, layer_b, &listing_b))? {
            return Ok(Some(Difference { place, what }));
        }
        if digest_a != digest_b {
            let what = format!("the same files, but {digest_a} in the first and {digest_b} in the second");
            return Ok(Some(Difference { place, what }));
        }
    }
    Ok(None)
}

/// The first entry that one layer alone has, or that differs, in the order of the first layer.
fn in_files(
    (a, layer_a, listing_a): (&Source, &LayerBlob, &Listing),
    (b, layer_b, listing_b): (&Source, &LayerBlob, &Listing),
) -> Result<Option<String>, ReadError> {
    let path = |entry: &ReadEntry| format!("/{}", shown(&entry.path));
    let (mut rest, mut common) = (by_path(listing_b), 0);
    for (at, (entry, digest)) in listing_a.iter().enumerate() {
        let found = rest.get_mut(entry.path.as_slice()).and_then(VecDeque::pop_front);
        let Some((place, (other, other_digest))) = found.map(|place| (place, &listing_b[place])) else {
            return Ok(Some(format!("{} is only in the first", path(entry))));
        };
        common += usize::from(place == at);
        if digest != other_digest {
            let (a, b) = (content(a, layer_a, at)?, content(b, layer_b, place)?);
            return Ok(Some(format!("{}: {}", path(entry), first_byte(&a, &b))));
        }
        let (first, second) = in_header(entry, other);
        if !first.is_empty() {
            return Ok(Some(format!(
                "{}: {} in the first; {} in the second",
                path(entry),
                first.join(", "),
                second.join(", ")
            )));
        }
    }
    if let Some(place) = rest.values().filter_map(|places| places.front()).min() {
        return Ok(Some(format!("{} is only in the second", path(&listing_b[*place].0))));
    }
    Ok((common < listing_a.len()).then(|| "the same files in another order".to_owned()))
}

/// The positions of each path in the listing; a path may occur several times.
fn by_path(listing: &Listing) -> BTreeMap<&[u8], VecDeque<usize>> {
    let mut places = BTreeMap::<&[u8], VecDeque<usize>>::new();
    for (place, (entry, _)) in listing.iter().enumerate() {
        places.entry(&entry.path).or_default().push_back(place);
    }
    places
}

/// The facts of two entries that differ.
fn in_header(a: &ReadEntry, b: &ReadEntry) -> (Vec<String>, Vec<String>) {
    let facts = |entry: &ReadEntry| {
        let attributes =
            entry.attributes.iter().map(|(key, value)| format!("{}={}", shown(key), value.escape_ascii()));
        let attributes: Vec<String> = attributes.collect();
        let link = entry.link.as_deref().map(|link| format!(" to {}", shown(link)));
        [
            format!("kind {}{}", entry.kind, link.unwrap_or_default()),
            format!("mode {:04o}", entry.mode),
            format!("owner {}:{}", entry.owner.0, entry.owner.1),
            format!("time {}", entry.mtime),
            format!("attributes [{}]", attributes.join(", ")),
        ]
    };
    facts(a).into_iter().zip(facts(b)).filter(|(a, b)| a != b).unzip()
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

/// The content of one entry.
fn content(source: &Source, layer: &LayerBlob, place: usize) -> Result<Vec<u8>, ReadError> {
    let (mut at, mut bytes) = (0, Vec::new());
    read_layer(source, layer, |_, content| {
        if at == place {
            content.read_to_end(&mut bytes)?;
        }
        at += 1;
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
