//! Files of a folder, served from memory: read and compressed once, and served on while the folder cannot be
//! read, as a node at the edge has to when its volume or its network is away.
//!
//! A file is *fresh* for a while after it was read and is then served without a look at the folder. After
//! that it is read again, once, however many ask; if that fails for any reason but that the file is no longer
//! there, the old one is served as *stale*. Memory is bounded: what was asked for the longest ago goes first.

mod encoding;

use std::collections::HashMap;
use std::fs;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub(crate) use encoding::Accepts;
use encoding::Variants;
use tare_http::{Body, OCTETS, Response};
use tokio::time::timeout;

/// The media type of JSON.
pub(crate) const JSON: &str = "application/json";

/// How long the folder may take before it counts as away. The read goes on and is used when it is done.
const PATIENCE: Duration = Duration::from_secs(1);
/// What an entry costs beside its bytes and its name, about.
const OVERHEAD: u64 = 256;

/// Cached files of one folder.
#[derive(Debug)]
pub(crate) struct Cache {
    folder: PathBuf,
    budget: u64,
    /// Milliseconds.
    fresh: AtomicU64,
    stale: AtomicU64,
    entries: Arc<Mutex<Entries>>,
    counts: Counters,
}

#[derive(Debug, Default)]
struct Counters {
    hits: AtomicU64,
    misses: AtomicU64,
    stale: AtomicU64,
    failed: AtomicU64,
}

/// How often what happened, and the memory in use.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) stale: u64,
    pub(crate) failed: u64,
    pub(crate) bytes: u64,
}

#[derive(Debug, Default)]
struct Entries {
    files: HashMap<String, Entry>,
    bytes: u64,
    /// Counts requests, to know what was asked for the longest ago.
    clock: u64,
}

#[derive(Debug)]
struct Entry {
    file: Arc<File>,
    used: u64,
    /// Somebody is reading it again.
    renewing: bool,
}

#[derive(Debug)]
struct File {
    variants: Variants,
    /// A hash of the content, seeded for each process: two servers with the same file have different tags.
    tag: String,
    read: Instant,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Cache {
    pub(crate) fn new(folder: PathBuf, budget: u64, fresh: Duration, stale: Duration) -> Self {
        let cache = Self {
            folder,
            budget,
            fresh: AtomicU64::new(0),
            stale: AtomicU64::new(0),
            entries: Arc::default(),
            counts: Counters::default(),
        };
        cache.set_times(fresh, stale);
        cache
    }

    pub(crate) fn set_times(&self, fresh: Duration, stale: Duration) {
        self.fresh.store(millis(fresh), Ordering::Relaxed);
        self.stale.store(millis(stale), Ordering::Relaxed);
    }

    pub(crate) fn counts(&self) -> Counts {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counts {
            hits: load(&self.counts.hits),
            misses: load(&self.counts.misses),
            stale: load(&self.counts.stale),
            failed: load(&self.counts.failed),
            bytes: lock(&self.entries).bytes,
        }
    }

    /// The answer to a request for a file; none if there is no such file.
    pub(crate) async fn get(&self, name: &str, accepts: &Accepts) -> Option<Response> {
        let count = |count: &AtomicU64| count.fetch_add(1, Ordering::Relaxed);
        let fresh = self.fresh.load(Ordering::Relaxed);
        let cached = self.look_up(name, fresh);
        let kept = |file: &File| {
            let age = millis(file.read.elapsed());
            if age < fresh {
                count(&self.counts.hits);
                Some(answer(name, file, accepts, "hit"))
            } else if age <= self.longest(fresh) {
                count(&self.counts.stale);
                // For so many seconds it has been stale (RFC 9211, 2.3).
                let status = format!("hit; ttl=-{}", (age - fresh) / 1000);
                Some(answer(name, file, accepts, &status))
            } else {
                None
            }
        };
        if let Some((file, Turn::None)) = &cached
            && let Some(response) = kept(file)
        {
            return Some(response);
        }
        match self.read(name).await {
            Ok(file) => {
                count(&self.counts.misses);
                Some(answer(name, &file, accepts, "fwd=miss; stored"))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.folder.is_dir() => {
                self.forget(name);
                None
            }
            Err(_) => cached.and_then(|(file, _)| kept(&file)).or_else(|| {
                count(&self.counts.failed);
                Some(Response::text(503, "the source is away\n").with("Retry-After", "5"))
            }),
        }
    }

    fn longest(&self, fresh: u64) -> u64 {
        fresh.saturating_add(self.stale.load(Ordering::Relaxed))
    }

    fn look_up(&self, name: &str, fresh: u64) -> Option<(Arc<File>, Turn)> {
        let mut entries = lock(&self.entries);
        entries.clock += 1;
        let clock = entries.clock;
        let entry = entries.files.get_mut(name)?;
        entry.used = clock;
        // One reads it again; the others have what there is meanwhile.
        let is_fresh = millis(entry.file.read.elapsed()) < fresh || entry.renewing;
        let turn = if is_fresh { Turn::None } else { Turn::Ours };
        entry.renewing |= !is_fresh;
        Some((Arc::clone(&entry.file), turn))
    }

    /// Reads and compresses a file on another thread, and keeps it.
    async fn read(&self, name: &str) -> io::Result<Arc<File>> {
        let path = self.folder.join(name);
        let (entries, budget, name) = (Arc::clone(&self.entries), self.budget, name.to_owned());
        let read = tokio::task::spawn_blocking(move || {
            let result = load(&path, budget).map(Arc::new);
            let mut entries = lock(&entries);
            match &result {
                Ok(file) => entries.keep(&name, file, budget),
                Err(_) => entries.renewed(&name),
            }
            result
        });
        // A volume that hangs is as good as one that is away.
        timeout(PATIENCE, read).await.map_err(io::Error::other)?.map_err(io::Error::other)?
    }

    fn forget(&self, name: &str) {
        lock(&self.entries).remove(name);
    }
}

/// Whose turn it is to read a file again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Ours,
    /// Nobody's, or somebody's else.
    None,
}

impl Entries {
    fn keep(&mut self, name: &str, file: &Arc<File>, budget: u64) {
        self.remove(name);
        let size = size_of(name, file);
        if size > budget {
            return;
        }
        while self.bytes + size > budget {
            let oldest = self.files.iter().min_by_key(|(_, entry)| entry.used);
            let Some(oldest) = oldest.map(|(name, _)| name.clone()) else {
                break;
            };
            self.remove(&oldest);
        }
        self.bytes += size;
        let entry = Entry { file: Arc::clone(file), used: self.clock, renewing: false };
        self.files.insert(name.to_owned(), entry);
    }

    fn remove(&mut self, name: &str) {
        if let Some(entry) = self.files.remove(name) {
            self.bytes -= size_of(name, &entry.file);
        }
    }

    fn renewed(&mut self, name: &str) {
        if let Some(entry) = self.files.get_mut(name) {
            entry.renewing = false;
        }
    }
}

fn size_of(name: &str, file: &File) -> u64 {
    (file.variants.bytes() + name.len()) as u64 + OVERHEAD
}

/// A file that is not larger than the whole cache; nothing that is no file.
fn load(path: &Path, budget: u64) -> io::Result<File> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::ErrorKind::NotFound.into());
    }
    if metadata.len() > budget {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let bytes = fs::read(path)?;
    let tag = format!("\"{:016x}-{:x}\"", hasher().hash_one(&bytes), bytes.len());
    Ok(File { variants: Variants::of(bytes), tag, read: Instant::now() })
}

/// One for the process, or a file read again would have another tag.
fn hasher() -> &'static RandomState {
    use std::sync::OnceLock;

    static HASHER: OnceLock<RandomState> = OnceLock::new();
    HASHER.get_or_init(RandomState::new)
}

fn answer(name: &str, file: &File, accepts: &Accepts, status: &str) -> Response {
    let (encoding, bytes) = file.variants.choose(accepts);
    // Each encoding is a representation of its own (RFC 9110, 8.8.3.3).
    let tag = match encoding {
        Some(encoding) => format!("{}-{encoding}\"", file.tag.trim_end_matches('"')),
        None => file.tag.clone(),
    };
    let mut response = Response {
        status: 200,
        content_type: content_type(name),
        fields: Vec::new(),
        body: Body::Shared(Arc::clone(bytes)),
    };
    if accepts.has(&tag) {
        response.status = 304;
        response.content_type = "";
    } else if let Some(encoding) = encoding {
        response = response.with("Content-Encoding", encoding);
    }
    let age = file.read.elapsed().as_secs().to_string();
    // RFC 9211.
    let status = format!("app; {status}");
    response.with("ETag", tag).with("Vary", "Accept-Encoding").with("Age", age).with("Cache-Status", status)
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("txt" | "md") => "text/plain; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("json") => JSON,
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("wasm") => "application/wasm",
        _ => OCTETS,
    }
}

#[cfg(test)]
mod tests;
