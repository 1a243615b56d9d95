//! One blob on its way into a registry.
//!
//! Filled by hand: no blocking crate uploads blobs, and none at all resumes. The order is: HEAD; mount; the whole blob
//! in one PUT; after a failure the session is asked how much it has, and the rest follows in chunks, of a size that
//! the registry's refusals and `OCI-Chunk-Min-Length` decide (distribution-spec 1.1, "Pushing blobs").

use std::cell::Cell;
use std::io::{self, Read};

use oci_spec::image::Digest;
use ureq::http::{Method, StatusCode};

use crate::error::Error;
use crate::http::{Body, Refused, Request, Response, expect, header, resolve, with_query};
use crate::registry::Repository;

/// The first size of a chunk.
const CHUNK: u64 = 16 << 20;
/// GHCR refuses more in one PATCH.
const SMALL_CHUNK: u64 = 4 << 20;
/// A registry that refuses this much does not take chunks.
const SMALLEST_CHUNK: u64 = 64 << 10;
/// Sessions for one blob.
const SESSIONS: u32 = 4;
/// Failures in a row, whatever they are.
const FAILURES: u32 = 20;

/// A blob and how its bytes are read.
pub(crate) struct Upload<'a> {
    pub(crate) digest: &'a Digest,
    pub(crate) size: u64,
    /// Reads from an offset to the end.
    pub(crate) open: &'a (dyn Fn(u64) -> Result<Box<dyn Read>, Error> + Sync),
    /// Takes how many bytes were sent, and less than none where they are sent again.
    pub(crate) progress: &'a (dyn Fn(i64) + Sync),
}

/// How a blob came into the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// It was there.
    Present,
    /// Taken from another repository of the registry.
    Mounted,
    /// Sent.
    Sent,
}

/// An open upload.
struct Session {
    location: String,
    /// What the registry has.
    offset: u64,
    /// What it wants at least in each chunk but the last.
    min_chunk: u64,
    /// Whether a request broke off: `0-0` may then mean one byte.
    broken: bool,
}

/// Puts a blob into a repository.
pub(crate) fn upload(
    repository: &Repository,
    upload: &Upload<'_>,
    mount_from: Option<&str>,
) -> Result<Arrival, Error> {
    if repository.has_blob(upload.digest)? {
        return Ok(Arrival::Present);
    }
    let Some(mut session) = start(repository, upload, mount_from)? else { return Ok(Arrival::Mounted) };
    // None: whole.
    let mut chunk = None;
    let (mut sessions, mut failures, mut tried) = (1, 0, 0);
    loop {
        let before = session.offset;
        let step = match chunk {
            None => send_whole(repository, upload, &session),
            Some(size) => send_chunk(repository, upload, &mut session, size),
        };
        let refused = match step {
            Ok(true) => return Ok(Arrival::Sent),
            Ok(false) if session.offset > before => {
                (failures, tried) = (0, 0);
                continue;
            }
            Ok(false) => {
                Error::Registry(format!("{} does not take {}", repository.name(), upload.digest)).into()
            }
            Err(refused) => refused,
        };
        failures += 1;
        if failures > FAILURES {
            return Err(refused.error);
        }
        let status = refused.error.status();
        // Too much at once, or not from where the registry stands.
        let too_much = matches!(status, Some(413 | 416));
        let whole_only = matches!(status, Some(400 | 405 | 501)) && chunk.is_some();
        if !too_much && !whole_only && status != Some(404) {
            repository.http().pause(&mut tried, refused)?;
        }
        session.broken |= status.is_none();
        let state = if whole_only { None } else { state_of(repository, &session)? };
        let stands = state.as_ref().is_none_or(|state| state.offset == before);
        let unclear = too_much && chunk.is_some() && session.broken && before == 0 && stands;
        let state = state.filter(|_| !unclear);
        chunk = match chunk {
            _ if whole_only => None,
            None => Some(if too_much { SMALL_CHUNK } else { CHUNK }.max(session.min_chunk)),
            Some(size) if too_much && stands && !unclear => {
                Some(smaller(size, &session, repository, upload)?)
            }
            Some(size) => Some(size),
        };
        match state {
            Some(state) if state.offset <= upload.size => {
                (upload.progress)(difference(state.offset, before));
                session.offset = state.offset;
                session.location = state.location;
            }
            // The session is gone; perhaps because the blob has arrived and only the answer was lost.
            _ => {
                if repository.has_blob(upload.digest)? {
                    return Ok(Arrival::Sent);
                }
                (upload.progress)(difference(0, before));
                sessions += 1;
                if sessions > SESSIONS {
                    let name = repository.name();
                    return Err(Error::Registry(format!("{name} loses each upload of {}", upload.digest)));
                }
                let Some(new) = start(repository, upload, None)? else { return Ok(Arrival::Mounted) };
                session = new;
            }
        }
    }
}

fn difference(now: u64, before: u64) -> i64 {
    now.cast_signed() - before.cast_signed()
}

/// The next smaller size of a chunk.
fn smaller(size: u64, session: &Session, repository: &Repository, upload: &Upload<'_>) -> Result<u64, Error> {
    let smaller = (size / 2).min(SMALL_CHUNK);
    if smaller >= SMALLEST_CHUNK.max(session.min_chunk) {
        return Ok(smaller);
    }
    let (name, digest) = (repository.name(), upload.digest);
    Err(Error::Registry(format!("{name} takes {digest} neither whole nor in chunks")))
}

/// Opens a session; `None` where the blob was mounted instead.
fn start(
    repository: &Repository,
    upload: &Upload<'_>,
    mount_from: Option<&str>,
) -> Result<Option<Session>, Error> {
    let response = match repository.start_upload(upload.digest, mount_from) {
        // A registry that does not mount, or not from there.
        Err(Error::Refused(refusal)) if mount_from.is_some() && !refusal.is_transient() => {
            repository.start_upload(upload.digest, None)?
        }
        response => response?,
    };
    let Some(response) = response else { return Ok(None) };
    let location = location(&response, &repository.url("blobs/uploads/"))?;
    let location = location.ok_or_else(|| {
        Error::Registry(format!("{} opens an upload without a location", repository.name()))
    })?;
    let min_chunk = header(&response, "OCI-Chunk-Min-Length").and_then(|text| text.trim().parse().ok());
    Ok(Some(Session { location, offset: 0, min_chunk: min_chunk.unwrap_or(0), broken: false }))
}

fn location(response: &Response, base: &str) -> Result<Option<String>, Error> {
    header(response, "Location").map(|location| resolve(base, location)).transpose()
}

/// Sends the whole blob in one request.
fn send_whole(repository: &Repository, upload: &Upload<'_>, session: &Session) -> Result<bool, Refused> {
    let url = with_query(&session.location, "digest", upload.digest.as_ref());
    let request = Request::new(Method::PUT, url).header("Content-Type", "application/octet-stream");
    send(repository, upload, request, 0, upload.size, |response, request| finished(response, request, upload))
}

/// Sends the next chunk, or closes the upload when there is none left.
fn send_chunk(
    repository: &Repository,
    upload: &Upload<'_>,
    session: &mut Session,
    size: u64,
) -> Result<bool, Refused> {
    let from = session.offset;
    if from == upload.size {
        let url = with_query(&session.location, "digest", upload.digest.as_ref());
        let request = Request::new(Method::PUT, url);
        let response = repository.send_once(&request)?;
        return Ok(finished(&response, &request, upload)?);
    }
    let length = size.min(upload.size - from);
    let request = Request::new(Method::PATCH, session.location.clone())
        .header("Content-Type", "application/octet-stream")
        .header("Content-Range", format!("{from}-{}", from + length - 1));
    send(repository, upload, request, from, length, |response, request| {
        // ECR says 201.
        expect(response, request, &[StatusCode::ACCEPTED, StatusCode::CREATED, StatusCode::NO_CONTENT])?;
        session.offset = end_of_range(response).unwrap_or(from + length);
        if let Some(next) = location(response, &request.url)? {
            session.location = next;
        }
        Ok(false)
    })
}

/// Sends some of the blob's bytes and counts them.
fn send(
    repository: &Repository,
    upload: &Upload<'_>,
    request: Request<'_>,
    from: u64,
    length: u64,
    read: impl FnOnce(&Response, &Request<'_>) -> Result<bool, Error>,
) -> Result<bool, Refused> {
    let sent = Cell::new(0);
    let open = || {
        (upload.progress)(-sent.take());
        let stream = (upload.open)(from)?.take(length);
        Ok(Box::new(Counting { inner: stream, sent: &sent, progress: upload.progress }) as Box<dyn Read + '_>)
    };
    let request = request.body(Body::Stream { length, open: &open });
    let result = match repository.send_once(&request) {
        Ok(response) => read(&response, &request).map_err(Refused::from),
        Err(refused) => Err(refused),
    };
    if result.is_err() {
        (upload.progress)(-sent.get());
    }
    result
}

fn finished(response: &Response, request: &Request<'_>, upload: &Upload<'_>) -> Result<bool, Error> {
    expect(response, request, &[StatusCode::CREATED, StatusCode::NO_CONTENT])?;
    match header(response, "Docker-Content-Digest") {
        Some(said) if said != upload.digest.as_ref() => {
            Err(Error::Registry(format!("{} was stored with the digest {said}", request.describe())))
        }
        _ => Ok(true),
    }
}

/// How far the registry is, or `None` where the session is gone.
fn state_of(repository: &Repository, session: &Session) -> Result<Option<Session>, Error> {
    let request = Request::new(Method::GET, session.location.clone());
    match repository.send(&request) {
        Ok(response) => Ok(Some(Session {
            location: location(&response, &request.url)?.unwrap_or_else(|| session.location.clone()),
            offset: end_of_range(&response).unwrap_or(0),
            min_chunk: session.min_chunk,
            broken: session.broken,
        })),
        Err(error) if error.status().is_some_and(|status| (400..500).contains(&status)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// `0-N` means N + 1 bytes; distribution writes `0-0` for none too.
fn end_of_range(response: &Response) -> Option<u64> {
    let range = header(response, "Range")?;
    let end: u64 = range.rsplit_once('-')?.1.trim().parse().ok()?;
    Some(if end == 0 { 0 } else { end + 1 })
}

/// Counts what is read from it.
struct Counting<'a, R> {
    inner: R,
    sent: &'a Cell<i64>,
    progress: &'a dyn Fn(i64),
}

impl<R: Read> Read for Counting<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        let step = i64::try_from(read).unwrap_or(i64::MAX);
        self.sent.set(self.sent.get() + step);
        (self.progress)(step);
        Ok(read)
    }
}
