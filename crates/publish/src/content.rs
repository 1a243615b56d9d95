//! What is moved: the documents and blobs of one image, in a layout, an archive or a registry.

mod join;

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::path::Path;

use oci_spec::image::{Descriptor, Digest, DigestAlgorithm, MediaType, Platform};
use serde::Deserialize;
use tare_oci::reader::Source;

use crate::documents::{is_index, is_manifest, links, sha256};
use crate::error::Error;
use crate::facts::{self, ImageFacts};
use crate::registry::Repository;

/// Indexes within indexes; one level is usual.
const DEPTH_LIMIT: usize = 4;
/// Documents of one image; more is a mistake or an attack.
const DOCUMENTS_LIMIT: usize = 4096;

/// A manifest or index with its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Media type, digest, length.
    pub descriptor: Descriptor,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl Document {
    /// Of bytes that were just made.
    pub(crate) fn new(media_type: &str, bytes: Vec<u8>) -> Self {
        let descriptor = Descriptor::new(MediaType::from(media_type), bytes.len() as u64, sha256(&bytes));
        Self { descriptor, bytes }
    }
}

/// One image, or an index of several, with everything below it.
pub struct Content<'a> {
    origin: Origin<'a>,
    /// Each after those that it names: the root is the last.
    documents: Vec<Document>,
    /// Configurations and layers, each once.
    blobs: Vec<Descriptor>,
}

/// Where the bytes are.
enum Origin<'a> {
    /// Layouts and archives; each blob is in one of them.
    Files(Vec<Source>),
    Registry(&'a Repository),
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

impl<'a> Content<'a> {
    /// Reads the documents of the one image in a layout or archive, which may have several names.
    ///
    /// # Errors
    /// When it cannot be read, is no OCI image, holds several, or a document is not what its descriptor says.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let source = Source::open(path)?;
        let shown = path.display();
        if !source.contains("index.json") {
            return Err(Error::Input(format!(
                "{shown} is an archive of docker without an OCI index: make an OCI layout of it, as with skopeo copy"
            )));
        }
        let wrong = |error| Error::Input(format!("{shown}: index.json cannot be understood: {error}"));
        let Index { manifests } = tare_oci::input::from_json(&source.read("index.json")?).map_err(wrong)?;
        let digests: BTreeSet<&str> = manifests.iter().map(|manifest| manifest.digest().as_ref()).collect();
        let Some(root) = manifests.first() else {
            return Err(Error::Input(format!("{shown} holds no image")));
        };
        if digests.len() > 1 {
            let count = digests.len();
            return Err(Error::Input(format!("{shown} holds {count} images; one is published at a time")));
        }
        Self { origin: Origin::Files(vec![source]), documents: vec![], blobs: vec![] }.with_root(root, None)
    }

    /// Fetches the documents of an image in a registry by tag or digest; with a platform, such as `linux/arm64`, those
    /// of the one image of an index that is for it.
    ///
    /// # Errors
    /// When there is no such image, or a document is not what its descriptor says.
    pub fn fetch(repository: &'a Repository, reference: &str, platform: Option<&str>) -> Result<Self, Error> {
        let absent = || Error::Registry(format!("{} has no image {reference}", repository.name()));
        let top = repository.manifest(reference)?.ok_or_else(absent)?;
        let content = Self { origin: Origin::Registry(repository), documents: vec![], blobs: vec![] };
        let is_index = is_index(top.descriptor.media_type().as_ref());
        match platform {
            Some(platform) if is_index => content.with_root(&choose(&top.bytes, platform, repository)?, None),
            Some(platform) => content.with_root(&top.descriptor, Some(top.bytes))?.for_platform(platform),
            None => content.with_root(&top.descriptor, Some(top.bytes)),
        }
    }

    /// The image that a reference names and, where that is an index, those that it lists, the first one first. No image
    /// is read further.
    ///
    /// # Errors
    /// As [`Content::fetch`].
    pub fn fetch_documents(repository: &Repository, reference: &str) -> Result<Vec<Document>, Error> {
        let mut documents = Content::fetch(repository, reference, None)?.documents;
        // The root is the last.
        documents.rotate_right(1);
        Ok(documents)
    }

    /// An image without an index says in its configuration what it is for.
    fn for_platform(self, wanted: &str) -> Result<Self, Error> {
        let found = self.configured_platform()?;
        let found = platform_name(&found);
        if is_platform(&found, wanted) {
            Ok(self)
        } else {
            Err(Error::Input(format!("the image is for {found}")))
        }
    }

    fn with_root(mut self, root: &Descriptor, bytes: Option<Vec<u8>>) -> Result<Self, Error> {
        self.collect(root, bytes, DEPTH_LIMIT)?;
        Ok(self)
    }

    fn collect(
        &mut self,
        descriptor: &Descriptor,
        bytes: Option<Vec<u8>>,
        depth: usize,
    ) -> Result<(), Error> {
        let digest = descriptor.digest();
        if self.documents.iter().any(|known| known.descriptor.digest() == digest) {
            return Ok(());
        }
        let media_type = descriptor.media_type().to_string();
        if depth == 0 || self.documents.len() >= DOCUMENTS_LIMIT {
            return Err(Error::Input(format!("{digest} holds more indexes or images than any real one")));
        }
        if !is_manifest(&media_type) {
            return Err(Error::Input(format!("{digest} is neither manifest nor index but {media_type}")));
        }
        let bytes = match (bytes, &self.origin) {
            (Some(bytes), _) => bytes,
            (None, Origin::Files(sources)) => holder(sources, digest)?.read(&blob_path(digest))?,
            (None, Origin::Registry(repository)) => {
                let lacking = || Error::Registry(format!("{digest} is missing from {}", repository.name()));
                repository.manifest(digest.as_ref())?.ok_or_else(lacking)?.bytes
            }
        };
        if bytes.len() as u64 != descriptor.size() || &sha256(&bytes) != digest {
            return Err(Error::Input(format!("{digest} is damaged: it is not what its descriptor says")));
        }
        let found = links(descriptor, &bytes)?;
        for child in &found.manifests {
            self.collect(child, None, depth - 1)?;
        }
        for blob in found.blobs {
            self.add_blob(blob)?;
        }
        // Only now: a document follows those that it names.
        self.documents.push(Document { descriptor: descriptor.clone(), bytes });
        Ok(())
    }

    fn add_blob(&mut self, blob: Descriptor) -> Result<(), Error> {
        let (digest, said) = (blob.digest(), blob.size());
        if digest.algorithm() != &DigestAlgorithm::Sha256 {
            return Err(Error::Input(format!("{digest} is no SHA-256")));
        }
        let size = match self.blobs.iter().find(|known| known.digest() == digest) {
            Some(known) => Some(known.size()),
            None => match &self.origin {
                Origin::Files(sources) => sources.iter().find_map(|source| source.size(&blob_path(digest))),
                // Its answer is compared when it is read.
                Origin::Registry(_) => Some(said),
            },
        };
        match size {
            None => Err(Error::Input(format!("{digest} is missing from the image"))),
            Some(size) if size != said => Err(Error::Input(format!(
                "{digest} is damaged: it has {size} bytes, its descriptor says {said}"
            ))),
            Some(_) => {
                if !self.blobs.iter().any(|known| known.digest() == digest) {
                    self.blobs.push(blob);
                }
                Ok(())
            }
        }
    }

    /// What is known of its images from their own bytes; nothing of an image that is in a registry.
    ///
    /// # Errors
    /// When a layer cannot be read.
    pub fn facts(&self) -> Result<Vec<ImageFacts>, Error> {
        match &self.origin {
            Origin::Files(sources) => {
                let facts = sources.iter().map(facts::read).collect::<Result<Vec<_>, _>>()?;
                Ok(facts.into_iter().flatten().collect())
            }
            Origin::Registry(_) => Ok(vec![]),
        }
    }

    /// The image itself.
    #[must_use]
    pub fn root(&self) -> &Document {
        // It was put there last.
        &self.documents[self.documents.len() - 1]
    }

    /// The documents, each after those that it names.
    #[must_use]
    pub fn documents(&self) -> &[Document] {
        &self.documents
    }

    /// Configurations and layers.
    #[must_use]
    pub fn blobs(&self) -> &[Descriptor] {
        &self.blobs
    }

    /// The manifests of images, without the index above them.
    pub fn manifests(&self) -> impl Iterator<Item = &Document> {
        self.documents.iter().filter(|document| !is_index(document.descriptor.media_type().as_ref()))
    }

    /// A blob from an offset on. Memory does not grow with it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read_from(&self, digest: &Digest, offset: u64) -> Result<Box<dyn Read>, Error> {
        let (mut stream, begins): (Box<dyn Read>, u64) = match &self.origin {
            Origin::Files(sources) => (holder(sources, digest)?.stream(&blob_path(digest))?, 0),
            Origin::Registry(repository) => {
                let opened = repository.http().retrying(|| repository.blob_from(digest, offset))?;
                (Box::new(opened.0), opened.1)
            }
        };
        let skipped = io::copy(&mut (&mut stream).take(offset - begins), &mut io::sink());
        skipped.map_err(|source| Error::File {
            operation: "read",
            path: blob_path(digest).into(),
            source,
        })?;
        Ok(stream)
    }
}

/// The file or folder that has a blob.
fn holder<'a>(sources: &'a [Source], digest: &Digest) -> Result<&'a Source, Error> {
    let found = sources.iter().find(|source| source.contains(&blob_path(digest)));
    found.ok_or_else(|| Error::Input(format!("{digest} is missing from the image")))
}

/// The image of an index that is for a platform.
fn choose(index: &[u8], wanted: &str, repository: &Repository) -> Result<Descriptor, Error> {
    let name = repository.name();
    let wrong = |error| Error::Registry(format!("the index in {name} cannot be understood: {error}"));
    let Index { manifests } = tare_oci::input::from_json(index).map_err(wrong)?;
    let of = |manifest: &Descriptor| manifest.platform().as_ref().map(platform_name);
    let is_wanted = |manifest: &&Descriptor| of(manifest).is_some_and(|name| is_platform(&name, wanted));
    if let Some(found) = manifests.iter().find(is_wanted) {
        return Ok(found.clone());
    }
    let there: Vec<String> =
        manifests.iter().filter_map(of).filter(|name| name != "unknown/unknown").collect();
    Err(Error::Input(format!("{name} has no image for {wanted}, but for {}", there.join(", "))))
}

/// `linux/arm64` is every variant of it.
fn is_platform(name: &str, wanted: &str) -> bool {
    name.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// `linux/arm64/v8`
pub(crate) fn platform_name(platform: &Platform) -> String {
    let name = format!("{}/{}", platform.os(), platform.architecture());
    platform.variant().iter().fold(name, |name, variant| format!("{name}/{variant}"))
}

/// Where a layout has a blob (image-spec image-layout.md).
pub(crate) fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.digest())
}
