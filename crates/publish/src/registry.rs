//! One repository of a registry: its manifests, blobs and tags (distribution-spec 1.1).

use std::io::Read;

use oci_spec::distribution::{Reference, TagList};
use oci_spec::image::{Descriptor, Digest, MediaType};
use ureq::http::{Method, StatusCode};

use crate::auth::Auth;
use crate::credentials::Keychain;
use crate::documents::{self, sha256};
use crate::error::Error;
use crate::http::{
    Body, Http, HttpOptions, Refused, Request, Response, expect, header, resolve, same_origin, with_query,
};

/// No manifest is larger: registries must take 4 MiB and few take more.
pub(crate) const MANIFEST_LIMIT: u64 = 8 << 20;
/// Pages of tags or referrers; more is a registry that links in a circle.
const PAGES_LIMIT: usize = 1000;

/// What is to be done with a repository, which its tokens are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Read.
    Pull,
    /// Read and write.
    Push,
}

/// A repository and the connections to it.
pub struct Repository {
    http: Http,
    auth: Auth,
    registry: String,
    name: String,
    base: String,
}

/// A manifest as the registry has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredManifest {
    /// Media type, digest and length.
    pub descriptor: Descriptor,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The version that a conditional write names.
    pub(crate) etag: Option<String>,
}

/// Under which condition a manifest is written (RFC 9110, 13.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Condition {
    /// None: the registry gave no version.
    Always,
    /// The tag is still at this version.
    Unchanged(String),
    /// There is no such tag.
    Absent,
}

impl Repository {
    /// Prepares the connection; nothing is sent yet.
    ///
    /// `mount_from`: another repository of the same registry, from which blobs may be taken.
    ///
    /// # Errors
    /// When the certificates cannot be read.
    pub fn open(
        reference: &Reference,
        access: Access,
        mount_from: Option<&str>,
        keychain: &Keychain,
        options: &HttpOptions,
        warn: &dyn Fn(String),
    ) -> Result<Self, Error> {
        let (registry, name) = (reference.registry(), reference.repository());
        // The address of Docker Hub's API.
        let host = if registry == "docker.io" { "registry-1.docker.io" } else { registry };
        let scheme = options.scheme(host);
        let actions = if access == Access::Push { "pull,push" } else { "pull" };
        let mut scopes = vec![format!("repository:{name}:{actions}")];
        scopes.extend(mount_from.map(|from| format!("repository:{from}:pull")));
        Ok(Self {
            http: Http::new(options, host)?,
            auth: Auth::new(keychain.find(reference, warn), scopes, scheme == "https"),
            registry: registry.to_owned(),
            name: name.to_owned(),
            base: format!("{scheme}://{host}"),
        })
    }

    /// `ghcr.io/team/app`
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.name)
    }

    pub(crate) fn http(&self) -> &Http {
        &self.http
    }

    /// The URL of something in the repository.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}/v2/{}/{path}", self.base, self.name)
    }

    /// Sends a request once, with credentials where it goes to the registry itself, and again where these have
    /// expired.
    pub(crate) fn send_once(&self, request: &Request<'_>) -> Result<Response, Refused> {
        let is_own = same_origin(&self.base, &request.url);
        let mut renewed = false;
        loop {
            let (authorization, generation) = if is_own { self.auth.header(&self.http)? } else { (None, 0) };
            let refused = match self.http.send_once(request, authorization.as_deref()) {
                Ok(response) => return Ok(response),
                Err(refused) => refused,
            };
            let status = refused.error.status();
            let (Some(status @ (401 | 403)), true, false) = (status, is_own, renewed) else {
                return Err(refused);
            };
            if !self.auth.answer(&self.http, status, &refused.headers, generation)? {
                return Err(refused);
            }
            renewed = true;
        }
    }

    /// Sends a request until it succeeds or cannot.
    pub(crate) fn send(&self, request: &Request<'_>) -> Result<Response, Error> {
        self.http.retrying(|| self.send_once(request))
    }

    /// Whether the registry has the blob.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn has_blob(&self, digest: &Digest) -> Result<bool, Error> {
        let request = Request::new(Method::HEAD, self.url(&format!("blobs/{digest}")));
        Ok(found(self.send(&request))?.is_some())
    }

    /// A blob from an offset on, and the offset at which the registry begins instead.
    pub(crate) fn blob_from(
        &self,
        digest: &Digest,
        offset: u64,
    ) -> Result<(impl Read + use<>, u64), Refused> {
        let mut request = Request::new(Method::GET, self.url(&format!("blobs/{digest}")));
        if offset > 0 {
            request = request.header("Range", format!("bytes={offset}-"));
        }
        let response = self.send_once(&request)?;
        expect(&response, &request, &[StatusCode::OK, StatusCode::PARTIAL_CONTENT])?;
        let begins = match (response.status(), header(&response, "Content-Range")) {
            (StatusCode::PARTIAL_CONTENT, Some(range)) => {
                let start =
                    range.strip_prefix("bytes ").and_then(|range| range.split('-').next()?.parse().ok());
                let wrong = || Error::Registry(format!("{} is answered with {range}", request.describe()));
                start.filter(|start| *start == offset).ok_or_else(wrong)?
            }
            (StatusCode::PARTIAL_CONTENT, None) => offset,
            _ => 0,
        };
        Ok((response.into_body().into_reader(), begins))
    }

    /// The digest that a tag or digest has in the registry, with one HEAD where the registry says it there.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn head_manifest(&self, reference: &str) -> Result<Option<Digest>, Error> {
        let request = self.manifest_request(Method::HEAD, reference);
        match found(self.send(&request)) {
            Ok(None) => Ok(None),
            Ok(Some(response)) => match header(&response, "Docker-Content-Digest").map(str::parse) {
                Some(Ok(digest)) => Ok(Some(digest)),
                _ => Ok(self.manifest(reference)?.map(|manifest| manifest.descriptor.digest().clone())),
            },
            Err(error) => match error.status() {
                Some(405 | 501) => {
                    Ok(self.manifest(reference)?.map(|manifest| manifest.descriptor.digest().clone()))
                }
                _ => Err(error),
            },
        }
    }

    /// A manifest or index by tag or digest. One that is asked for by digest has it.
    ///
    /// # Errors
    /// When it cannot be asked, or the answer is something else.
    pub fn manifest(&self, reference: &str) -> Result<Option<StoredManifest>, Error> {
        let request = self.manifest_request(Method::GET, reference);
        let Some(response) = found(self.send(&request))? else { return Ok(None) };
        let media_type = header(&response, "Content-Type").unwrap_or_default();
        let media_type = media_type.split(';').next().unwrap_or_default().trim().to_owned();
        let etag = header(&response, "ETag").map(str::to_owned);
        let bytes = self.read(response, &request)?;
        let digest = sha256(&bytes);
        if reference.contains(':') && reference != digest.as_ref() {
            let what = format!("{} has a manifest with the digest {digest}", request.describe());
            return Err(Error::Registry(what));
        }
        // Behind a redirect to a page there is no manifest.
        let said = documents::media_type(&bytes);
        let media_type = said.or_else(|| documents::is_manifest(&media_type).then_some(media_type));
        let Some(media_type) = media_type else {
            return Err(Error::Registry(format!("{} was answered with no manifest", request.describe())));
        };
        let descriptor = Descriptor::new(MediaType::from(media_type.as_str()), bytes.len() as u64, digest);
        Ok(Some(StoredManifest { descriptor, bytes, etag }))
    }

    fn manifest_request(&self, method: Method, reference: &str) -> Request<'static> {
        let request = Request::new(method, self.url(&format!("manifests/{reference}")));
        // GHCR does not know an index that is not asked for by its type.
        request.header("Accept", documents::MANIFEST_TYPES.join(", "))
    }

    /// Writes a manifest or index. Gives the subject that the registry has entered it for (`OCI-Subject`).
    pub(crate) fn put_manifest(
        &self,
        reference: &str,
        media_type: &str,
        bytes: &[u8],
        condition: &Condition,
    ) -> Result<Option<String>, Error> {
        let url = self.url(&format!("manifests/{reference}"));
        let mut request = Request::new(Method::PUT, url).header("Content-Type", media_type);
        match condition {
            Condition::Always => {}
            Condition::Unchanged(etag) => request = request.header("If-Match", etag),
            Condition::Absent => request = request.header("If-None-Match", "*"),
        }
        let request = request.body(Body::Bytes(bytes));
        let response = self.send(&request)?;
        expect(&response, &request, &[StatusCode::CREATED, StatusCode::OK, StatusCode::ACCEPTED])?;
        let digest = sha256(bytes);
        if let Some(said) = header(&response, "Docker-Content-Digest")
            && said != digest.as_ref()
        {
            let what =
                format!("{} was stored with the digest {said} instead of {digest}", request.describe());
            return Err(Error::Registry(what));
        }
        Ok(header(&response, "OCI-Subject").map(str::to_owned))
    }

    /// Every tag of the repository; none where there is no repository yet.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn tags(&self) -> Result<Vec<String>, Error> {
        let pages = self.pages(&self.url("tags/list?n=1000"), "application/json")?;
        let mut tags = Vec::new();
        for page in pages.unwrap_or_default() {
            // A repository whose last tag is gone answers null (distribution).
            let nothing =
                serde_json::from_slice(&page).is_ok_and(|value: serde_json::Value| value["tags"].is_null());
            if nothing {
                continue;
            }
            let list: TagList = serde_json::from_slice(&page).map_err(|error| {
                Error::Registry(format!("the list of tags of {} is none: {error}", self.name()))
            })?;
            tags.extend(list.tags().iter().cloned());
        }
        Ok(tags)
    }

    /// A document and those that its `Link` headers lead to; `None` where there is no such thing.
    pub(crate) fn pages(&self, url: &str, accept: &str) -> Result<Option<Vec<Vec<u8>>>, Error> {
        let mut pages = Vec::new();
        let mut next = Some(url.to_owned());
        while let Some(url) = next.take() {
            let request = Request::new(Method::GET, url).header("Accept", accept);
            let Some(response) = found(self.send(&request))? else { return Ok(None) };
            if let Some(target) = header(&response, "Link").and_then(next_link) {
                next = Some(resolve(&request.url, target)?);
            }
            pages.push(self.read(response, &request)?);
            if pages.len() >= PAGES_LIMIT {
                return Err(Error::Registry(format!("{} has no end", request.describe())));
            }
        }
        Ok(Some(pages))
    }

    /// The body of a document.
    fn read(&self, mut response: Response, request: &Request<'_>) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        let mut body = response.body_mut().as_reader().take(MANIFEST_LIMIT + 1);
        body.read_to_end(&mut bytes).map_err(|error| Error::Exchange {
            request: request.describe(),
            source: ureq::Error::Io(error),
        })?;
        if bytes.len() as u64 > MANIFEST_LIMIT {
            return Err(Error::Registry(format!(
                "{} has more than {MANIFEST_LIMIT} bytes",
                request.describe()
            )));
        }
        Ok(bytes)
    }

    /// Opens an upload, or mounts the blob from another repository: the session, or `None` where it was mounted.
    pub(crate) fn start_upload(
        &self,
        digest: &Digest,
        mount_from: Option<&str>,
    ) -> Result<Option<Response>, Error> {
        let mut url = self.url("blobs/uploads/");
        if let Some(from) = mount_from {
            url = with_query(&with_query(&url, "mount", digest.as_ref()), "from", from);
        }
        let request = Request::new(Method::POST, url);
        let response = self.send(&request)?;
        expect(&response, &request, &[StatusCode::ACCEPTED, StatusCode::CREATED])?;
        let mounted = response.status() == StatusCode::CREATED;
        if mounted && mount_from.is_none() {
            return Err(Error::Registry(format!("{} was answered with 201", request.describe())));
        }
        Ok((!mounted).then_some(response))
    }
}

/// 404 as an answer.
fn found(result: Result<Response, Error>) -> Result<Option<Response>, Error> {
    match result {
        Ok(response) => Ok(Some(response)),
        Err(error) if error.status() == Some(404) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The target of `<…>; rel="next"` (RFC 8288).
fn next_link(value: &str) -> Option<&str> {
    let (target, parameters) = value.trim().strip_prefix('<')?.split_once('>')?;
    let is_next = |parameter: &str| matches!(parameter.trim(), "rel=\"next\"" | "rel=next");
    parameters.split([';', ',']).any(is_next).then_some(target)
}
