//! An image into a repository: what is missing there, blobs in parallel, manifests after what they name, tags last.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use oci_spec::image::{Descriptor, Digest};

use crate::content::{Content, Document};
use crate::error::Error;
use crate::registry::{Condition, Repository};
use crate::upload::{Arrival, Upload, upload};

/// Blobs on their way at once. Registries answer slowly rather than that the line is full.
const PARALLEL: usize = 4;

/// What a push did, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pushed {
    /// Blobs that were sent.
    pub sent: Vec<Descriptor>,
    /// How many blobs were there already.
    pub present: usize,
    /// How many blobs were taken from another repository.
    pub mounted: usize,
    /// Tags that stand at the image now.
    pub tags: Vec<MovedTag>,
}

/// A tag and where it stood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MovedTag {
    /// The tag.
    pub tag: String,
    /// The image that it stood at before, if any.
    pub before: Option<Digest>,
}

/// Hears what a push does.
pub trait Progress: Sync {
    /// So many bytes are to be sent in all.
    fn start(&self, bytes: u64);
    /// So many more were sent, or less than none where they are sent again.
    fn advance(&self, bytes: i64);
}

impl Progress for () {
    fn start(&self, _: u64) {}
    fn advance(&self, _: i64) {}
}

/// Puts everything of an image into a repository that is not there yet, and gives it no tag.
///
/// # Errors
/// When a blob or manifest cannot be read or is not taken. Nothing names what was sent until then.
pub fn push_content(
    content: &Content<'_>,
    repository: &Repository,
    mount_from: Option<&str>,
    progress: &dyn Progress,
) -> Result<Pushed, Error> {
    let mut pushed = Pushed::default();
    let root = content.root();
    if repository.head_manifest(root.descriptor.digest().as_ref())?.as_ref() == Some(root.descriptor.digest())
    {
        pushed.present = content.blobs().len();
        return Ok(pushed);
    }
    progress.start(content.blobs().iter().map(Descriptor::size).sum());
    for (blob, arrival) in push_blobs(content, repository, mount_from, progress)? {
        match arrival {
            Arrival::Present => pushed.present += 1,
            Arrival::Mounted => pushed.mounted += 1,
            Arrival::Sent => pushed.sent.push(blob),
        }
    }
    for Document { descriptor, bytes } in content.documents() {
        let (digest, media_type) = (descriptor.digest().as_ref(), descriptor.media_type().to_string());
        repository.put_manifest(digest, &media_type, bytes, &Condition::Always)?;
    }
    Ok(pushed)
}

fn push_blobs(
    content: &Content<'_>,
    repository: &Repository,
    mount_from: Option<&str>,
    progress: &dyn Progress,
) -> Result<Vec<(Descriptor, Arrival)>, Error> {
    let blobs = content.blobs();
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    let work = || {
        while let Some(blob) = blobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let open = |offset| content.read_from(blob.digest(), offset);
            let advance = |bytes| progress.advance(bytes);
            let one = Upload { digest: blob.digest(), size: blob.size(), open: &open, progress: &advance };
            let result = upload(repository, &one, mount_from);
            if matches!(result, Ok(Arrival::Present | Arrival::Mounted)) {
                progress.advance(blob.size().cast_signed());
            }
            if result.is_err() {
                // The others would be sent for nothing.
                next.store(blobs.len(), Ordering::Relaxed);
            }
            let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
            results.push(result.map(|arrival| (blob.clone(), arrival)));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..PARALLEL.min(blobs.len()) {
            scope.spawn(work);
        }
    });
    let mut arrived = results
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
        .into_iter()
        .collect::<Result<Vec<_>, _>>()?;
    arrived.sort_by(|(one, _), (other, _)| one.digest().as_ref().cmp(other.digest().as_ref()));
    Ok(arrived)
}

/// Lets a tag stand at an image that is in the repository, unless it stands there already.
///
/// # Errors
/// When the registry does not take it.
pub fn tag(
    repository: &Repository,
    image: &Document,
    tag: &str,
    before: Option<Digest>,
) -> Result<MovedTag, Error> {
    if before.as_ref() != Some(image.descriptor.digest()) {
        let media_type = image.descriptor.media_type().to_string();
        repository.put_manifest(tag, &media_type, &image.bytes, &Condition::Always)?;
    }
    Ok(MovedTag { tag: tag.to_owned(), before })
}

/// What [`push_content`] would send: the blobs that the repository lacks.
///
/// # Errors
/// When the registry cannot be asked.
pub fn missing(content: &Content<'_>, repository: &Repository) -> Result<Vec<Descriptor>, Error> {
    let root = content.root().descriptor.digest();
    if repository.head_manifest(root.as_ref())?.as_ref() == Some(root) {
        return Ok(vec![]);
    }
    let mut missing = Vec::new();
    let mut seen = BTreeSet::new();
    for blob in content.blobs() {
        if seen.insert(blob.digest().as_ref()) && !repository.has_blob(blob.digest())? {
            missing.push(blob.clone());
        }
    }
    Ok(missing)
}
