//! An image out of a repository, into an OCI layout.
//!
//! Everything is fetched into a folder beside the layout and moved when it is whole and has its digest. So a pull that
//! fails leaves the layout that was there, and a killed one leaves only that folder, which the next one empties.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use oci_spec::image::{Descriptor, Digest};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::content::{Content, Document, blob_path};
use crate::documents::{self, digest_of};
use crate::error::Error;
use crate::http::Refused;
use crate::push::Progress;
use crate::registry::Repository;

/// Blobs on their way at once.
const PARALLEL: usize = 4;

/// What was pulled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// The image's digest.
    pub digest: Digest,
    /// Bytes that were fetched.
    pub fetched: u64,
}

/// Fetches an image by tag or digest into the layout `folder`, which is new or is replaced. With a platform, such as
/// `linux/arm64`, the one image of an index that is for it.
///
/// # Errors
/// When there is no such image, it is not what its digests say, or the layout cannot be written.
pub fn pull(
    repository: &Repository,
    reference: &str,
    platform: Option<&str>,
    folder: &Path,
    progress: &dyn Progress,
) -> Result<Pulled, Error> {
    let content = Content::fetch(repository, reference, platform)?;
    check_layout(folder)?;
    let partial = Partial::create(folder)?;
    let blobs = content.blobs();
    progress.start(blobs.iter().map(Descriptor::size).sum());
    let fetched = fetch_all(repository, blobs, folder, &partial, progress)?;

    let in_layout = folder.join("blobs/sha256");
    fs::create_dir_all(&in_layout).map_err(on("create", &in_layout))?;
    let mut kept: Vec<&str> = Vec::new();
    for blob in blobs {
        let (name, file) = (blob.digest().digest(), partial.file(blob.digest().digest()));
        kept.push(name);
        if file.exists() {
            fs::rename(&file, in_layout.join(name)).map_err(on("write", &in_layout.join(name)))?;
        }
    }
    for Document { descriptor, bytes } in content.documents() {
        kept.push(descriptor.digest().digest());
        partial.put(&in_layout.join(descriptor.digest().digest()), bytes)?;
    }
    partial.put(&folder.join("oci-layout"), tare_oci::layout::OCI_LAYOUT)?;
    partial
        .put(&folder.join("index.json"), &top_index(&content.root().descriptor, repository, reference)?)?;
    for entry in fs::read_dir(&in_layout).map_err(on("read", &in_layout))? {
        let entry = entry.map_err(on("read", &in_layout))?;
        if !entry.file_name().to_str().is_some_and(|name| kept.contains(&name)) {
            fs::remove_file(entry.path()).map_err(on("remove", &entry.path()))?;
        }
    }
    Ok(Pulled { digest: content.root().descriptor.digest().clone(), fetched })
}

fn on(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let path = path.to_path_buf();
    move |source| Error::File { operation, path, source }
}

/// Only what is a layout already may be replaced by one.
fn check_layout(folder: &Path) -> Result<(), Error> {
    let empty = match fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(error) => return Err(on("read", folder)(error)),
    };
    if empty || folder.join("oci-layout").is_file() {
        return Ok(());
    }
    Err(Error::Input(format!("{} holds something else than an OCI layout", folder.display())))
}

/// Fetches the blobs that the layout does not have yet. Gives the number of bytes.
fn fetch_all(
    repository: &Repository,
    blobs: &[Descriptor],
    folder: &Path,
    partial: &Partial,
    progress: &dyn Progress,
) -> Result<u64, Error> {
    let next = AtomicUsize::new(0);
    let result = Mutex::new(Ok(0));
    let work = || {
        while let Some(blob) = blobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let one = if is_there(&folder.join(blob_path(blob.digest())), blob) {
                progress.advance(blob.size().cast_signed());
                Ok(0)
            } else {
                fetch(repository, blob, &partial.file(blob.digest().digest()), progress).map(|()| blob.size())
            };
            let mut result = result.lock().unwrap_or_else(PoisonError::into_inner);
            match (one, &mut *result) {
                (Ok(bytes), Ok(sum)) => *sum += bytes,
                (Err(error), Ok(_)) => {
                    *result = Err(error);
                    next.store(blobs.len(), Ordering::Relaxed);
                }
                (_, Err(_)) => {}
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..PARALLEL.min(blobs.len()) {
            scope.spawn(work);
        }
    });
    result.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a file is the blob.
fn is_there(path: &Path, blob: &Descriptor) -> bool {
    let Ok(file) = tare_oci::input::open(path) else { return false };
    let found = tare_oci::digest::Digest::of_reader(file);
    found.is_ok_and(|(digest, size)| size == blob.size() && digest.to_string() == blob.digest().as_ref())
}

/// A blob on its way into a file.
struct Download {
    file: File,
    hasher: Sha256,
    have: u64,
}

fn fetch(
    repository: &Repository,
    blob: &Descriptor,
    path: &Path,
    progress: &dyn Progress,
) -> Result<(), Error> {
    let file = File::create(path).map_err(on("create", path))?;
    let mut download = Download { file, hasher: Sha256::new(), have: 0 };
    let mut tried = 0;
    loop {
        let before = download.have;
        let result = fetch_rest(repository, blob, &mut download, path, progress);
        match result {
            Ok(()) => break,
            Err(refused) => {
                if download.have > before {
                    tried = 0;
                }
                repository.http().pause(&mut tried, refused)?;
            }
        }
    }
    let found = digest_of(download.hasher);
    if &found != blob.digest() {
        let name = repository.name();
        return Err(Error::Registry(format!(
            "{name} answers other bytes for {}: their digest is {found}",
            blob.digest()
        )));
    }
    Ok(())
}

/// Fetches what is missing, digesting on the way.
fn fetch_rest(
    repository: &Repository,
    blob: &Descriptor,
    download: &mut Download,
    path: &Path,
    progress: &dyn Progress,
) -> Result<(), Refused> {
    let (mut body, begins) = repository.blob_from(blob.digest(), download.have)?;
    if begins != download.have {
        // The registry knows no ranges.
        progress.advance(-download.have.cast_signed());
        download.file = File::create(path).map_err(on("create", path))?;
        (download.hasher, download.have) = (Sha256::new(), 0);
    }
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                let request = format!("GET {}", repository.url(&blob_path(blob.digest())));
                return Err(Error::Exchange { request, source: ureq::Error::Io(error) }.into());
            }
        };
        download.have += read as u64;
        if download.have > blob.size() {
            return Err(wrong_size(repository, blob, "more").into());
        }
        download.hasher.update(&buffer[..read]);
        download.file.write_all(&buffer[..read]).map_err(on("write", path))?;
        progress.advance((read as u64).cast_signed());
    }
    if download.have < blob.size() {
        return Err(wrong_size(repository, blob, "fewer").into());
    }
    Ok(())
}

fn wrong_size(repository: &Repository, blob: &Descriptor, how: &str) -> Error {
    let (name, digest, size) = (repository.name(), blob.digest(), blob.size());
    Error::Registry(format!("{name} answers {how} than the {size} bytes that {digest} has"))
}

/// The layout's `index.json`, with the names by which skopeo, podman and containerd find the image.
fn top_index(root: &Descriptor, repository: &Repository, reference: &str) -> Result<Vec<u8>, Error> {
    let mut descriptor = serde_json::to_value(root)
        .map_err(|error| Error::Input(format!("{} cannot be written: {error}", root.digest())))?;
    if !reference.contains(':') {
        descriptor["annotations"] = json!({
            "io.containerd.image.name": format!("{}:{reference}", repository.name()),
            "org.opencontainers.image.ref.name": reference,
        });
    }
    let index = json!({"schemaVersion": 2, "mediaType": documents::INDEX, "manifests": [descriptor]});
    Ok(Value::to_string(&index).into_bytes())
}

/// The folder for what is not whole yet. It is removed when dropped.
struct Partial {
    folder: PathBuf,
    /// Held for as long as the folder is in use.
    _lock: File,
}

impl Partial {
    fn create(layout: &Path) -> Result<Self, Error> {
        let mut name = layout.as_os_str().to_owned();
        name.push(".partial");
        let folder = PathBuf::from(name);
        fs::create_dir_all(&folder).map_err(on("create", &folder))?;
        let path = folder.join("lock");
        let lock = tare_oci::input::open_or_create(&path).map_err(on("create", &path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                let what = format!("{} is being pulled by another process", layout.display());
                return Err(Error::Input(what));
            }
            Err(fs::TryLockError::Error(error)) => return Err(on("lock", &path)(error)),
        }
        for entry in fs::read_dir(&folder).map_err(on("read", &folder))?.flatten() {
            if entry.path() != path {
                fs::remove_file(entry.path()).map_err(on("remove", &entry.path()))?;
            }
        }
        Ok(Self { folder, _lock: lock })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Writes a whole file into its place.
    fn put(&self, place: &Path, bytes: &[u8]) -> Result<(), Error> {
        let path = self.file("document");
        fs::write(&path, bytes).map_err(on("write", place))?;
        fs::rename(&path, place).map_err(on("write", place))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // The next pull tries again and reports it.
        let _ = fs::remove_dir_all(&self.folder);
    }
}
