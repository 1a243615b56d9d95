//! A registry on loopback that keeps everything in memory and misbehaves as it is asked to.
//!
//! What real registries do wrong is a [`Quirks`] where it concerns many requests, and a script of [`Reaction`]s where
//! it concerns some.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use sha2::{Digest as _, Sha256};

/// A request as it arrived, without its body.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) method: String,
    /// Without the query.
    pub(crate) path: String,
    pub(crate) query: BTreeMap<String, String>,
    /// Names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
}

impl Head {
    pub(crate) fn is(&self, method: &str, part: &str) -> bool {
        self.method == method && self.path.contains(part)
    }
}

/// An answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn of(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn error(status: u16, code: &str) -> Self {
        let body = format!(r#"{{"errors":[{{"code":"{code}","message":"as scripted"}}]}}"#);
        Self { status, headers: vec![], body: body.into_bytes() }
    }
}

/// What a script does with a request.
pub(crate) enum Reaction {
    /// Answers instead of the registry.
    Answer(Answer),
    /// Cuts the connection after so many bytes of the request's body, which the registry keeps.
    CutRequest(usize),
    /// Lets the registry act, and cuts the connection after so many bytes of its answer.
    CutAnswer(usize),
}

type Script = Box<dyn FnMut(&Head) -> Option<Reaction> + Send>;

/// How the registry differs from the specification, or which of its choices it takes.
#[derive(Debug, Clone)]
pub(crate) struct Quirks {
    /// No larger PATCH; 416 beyond.
    pub(crate) patch_limit: usize,
    /// No larger PUT of a blob; 413 beyond.
    pub(crate) put_limit: usize,
    /// The answer to a PATCH; an error says that there are no chunks.
    pub(crate) patch_status: u16,
    /// `OCI-Chunk-Min-Length`, which is insisted on.
    pub(crate) min_chunk: usize,
    /// The answer to the state of an upload.
    pub(crate) state_status: u16,
    /// 201, or 202 with a session.
    pub(crate) mounts: bool,
    /// `Location` without the host, and with a query.
    pub(crate) relative_locations: bool,
    /// Whether the referrers API exists.
    pub(crate) referrers: bool,
    /// What the referrers API lists as the type of every artifact (go-containerregistry).
    pub(crate) listed_type: Option<&'static str>,
    /// Whether `OCI-Subject` is answered.
    pub(crate) subject: bool,
    /// Whether manifests have an ETag, and `If-Match` is obeyed.
    pub(crate) etags: bool,
    /// User and password for tokens; tokens of an older generation are refused.
    pub(crate) login: Option<(&'static str, &'static str)>,
    /// What is answered to an old token.
    pub(crate) expired_status: u16,
}

impl Default for Quirks {
    fn default() -> Self {
        Self {
            patch_limit: usize::MAX,
            put_limit: usize::MAX,
            patch_status: 202,
            min_chunk: 0,
            state_status: 204,
            mounts: true,
            relative_locations: false,
            referrers: false,
            listed_type: None,
            subject: false,
            etags: false,
            login: None,
            expired_status: 401,
        }
    }
}

/// What is stored. Keys begin with the repository.
#[derive(Debug, Default)]
pub(crate) struct Store {
    pub(crate) blobs: BTreeMap<(String, String), Vec<u8>>,
    pub(crate) manifests: BTreeMap<(String, String), (String, Vec<u8>)>,
    pub(crate) tags: BTreeMap<(String, String), String>,
    pub(crate) uploads: BTreeMap<String, Vec<u8>>,
    /// `METHOD path`, in the order of their arrival.
    pub(crate) log: Vec<String>,
    /// Values of `Authorization`, beside the log.
    pub(crate) authorizations: Vec<Option<String>>,
    pub(crate) token: u32,
    next: u32,
}

pub(crate) struct TestRegistry {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    address: SocketAddr,
    quirks: Quirks,
    store: Mutex<Store>,
    script: Mutex<Script>,
    closing: std::sync::atomic::AtomicBool,
}

impl TestRegistry {
    pub(crate) fn start(quirks: Quirks) -> Self {
        Self::scripted(quirks, |_| None)
    }

    pub(crate) fn scripted(
        quirks: Quirks,
        script: impl FnMut(&Head) -> Option<Reaction> + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            address,
            quirks,
            store: Mutex::default(),
            script: Mutex::new(Box::new(script)),
            closing: false.into(),
        });
        let of_thread = Arc::clone(&shared);
        let accepting = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if of_thread.closing.load(std::sync::atomic::Ordering::SeqCst) {
                    return;
                }
                let shared = Arc::clone(&of_thread);
                std::thread::spawn(move || shared.serve(&stream));
            }
        });
        Self { address, shared, accepting: Some(accepting) }
    }

    /// `127.0.0.1:PORT/NAME`
    pub(crate) fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    pub(crate) fn store<T>(&self, look: impl FnOnce(&mut Store) -> T) -> T {
        look(&mut self.shared.store.lock().unwrap())
    }

    /// The requests of which this is true.
    pub(crate) fn count(&self, is: impl Fn(&str) -> bool) -> usize {
        self.store(|store| store.log.iter().filter(|line| is(line)).count())
    }

    /// The digest that a tag stands at.
    pub(crate) fn tag(&self, repository: &str, tag: &str) -> Option<String> {
        self.store(|store| store.tags.get(&(repository.to_owned(), tag.to_owned())).cloned())
    }
}

impl Drop for TestRegistry {
    fn drop(&mut self) {
        self.shared.closing.store(true, std::sync::atomic::Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            accepting.join().unwrap();
        }
    }
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn read_head(stream: &mut BufReader<&TcpStream>) -> Option<Head> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let mut words = lines.first()?.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let query = query.split('&').filter_map(|pair| pair.split_once('='));
    let decoded = |text: &str| text.replace("%3A", ":").replace("%2F", "/").replace("%2C", ",");
    let headers = lines[1..].iter().filter_map(|line| line.split_once(':'));
    Some(Head {
        method,
        path: path.to_owned(),
        query: query.map(|(name, value)| (name.to_owned(), decoded(value))).collect(),
        headers: headers.map(|(name, value)| (name.to_lowercase(), value.trim().to_owned())).collect(),
    })
}

impl Shared {
    fn serve(&self, socket: &TcpStream) {
        let mut stream = BufReader::new(socket);
        while let Some(head) = read_head(&mut stream) {
            {
                let mut store = self.store.lock().unwrap();
                store.log.push(format!("{} {}", head.method, head.path));
                store.authorizations.push(head.headers.get("authorization").cloned());
            }
            let reaction = (self.script.lock().unwrap())(&head);
            let length = head.headers.get("content-length").map_or(0, |length| length.parse().unwrap());
            assert!(!head.headers.contains_key("transfer-encoding"), "{head:?}");
            if length > 0 && head.headers.contains_key("expect") {
                let _ = (&mut &*socket).write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
            }
            let wanted = match reaction {
                Some(Reaction::CutRequest(bytes)) => bytes.min(length),
                _ => length,
            };
            let mut body = Vec::new();
            if (&mut stream).take(wanted as u64).read_to_end(&mut body).is_err() || body.len() < wanted {
                return;
            }
            let (answer, sent) = match reaction {
                Some(Reaction::Answer(answer)) => (answer, usize::MAX),
                Some(Reaction::CutRequest(_)) => {
                    self.keep(&head, &body);
                    return;
                }
                Some(Reaction::CutAnswer(bytes)) => (self.answer(&head, body), bytes),
                None => (self.answer(&head, body), usize::MAX),
            };
            let reason = "Some Reason";
            let mut text = format!("HTTP/1.1 {} {reason}\r\n", answer.status);
            for (name, value) in &answer.headers {
                text.push_str(&format!("{name}: {value}\r\n"));
            }
            if !answer.headers.iter().any(|(name, _)| *name == "Content-Length") && answer.status != 204 {
                text.push_str(&format!("Content-Length: {}\r\n", answer.body.len()));
            }
            text.push_str("\r\n");
            let mut bytes = text.into_bytes();
            if head.method != "HEAD" {
                bytes.extend_from_slice(&answer.body);
            }
            let sent = sent.min(bytes.len());
            if (&mut &*socket).write_all(&bytes[..sent]).is_err() || sent < bytes.len() {
                return;
            }
        }
    }

    /// What arrived of a body before the connection was cut.
    fn keep(&self, head: &Head, body: &[u8]) {
        if let Some((_, id)) = head.path.split_once("/blobs/uploads/")
            && let Some(upload) = self.store.lock().unwrap().uploads.get_mut(id)
        {
            upload.extend_from_slice(body);
        }
    }

    fn answer(&self, head: &Head, body: Vec<u8>) -> Answer {
        if head.path == "/token" {
            return self.token(head);
        }
        if let Some(refused) = self.unauthorized(head) {
            return refused;
        }
        let path = head.path.strip_prefix("/v2/").unwrap();
        for kind in ["/blobs/uploads/", "/blobs/", "/manifests/", "/tags/list", "/referrers/"] {
            if let Some((name, rest)) = path.split_once(kind) {
                return match kind {
                    "/blobs/uploads/" => self.upload(head, name, rest, &body),
                    "/blobs/" => self.blob(head, name, rest),
                    "/manifests/" => self.manifest(head, name, rest, body),
                    "/tags/list" => self.tags(head, name),
                    _ => self.referrers(name, rest),
                };
            }
        }
        Answer::error(404, "UNSUPPORTED")
    }

    fn token(&self, head: &Head) -> Answer {
        use base64::Engine as _;
        let (user, password) = self.quirks.login.unwrap();
        let basic = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        if head.headers.get("authorization") != Some(&format!("Basic {basic}")) {
            return Answer::error(401, "UNAUTHORIZED");
        }
        let token = self.store.lock().unwrap().token;
        let mut answer = Answer::of(200).header("Content-Type", "application/json");
        answer.body = format!(r#"{{"token":"opaque-{token}"}}"#).into_bytes();
        answer
    }

    fn unauthorized(&self, head: &Head) -> Option<Answer> {
        self.quirks.login?;
        let token = format!("Bearer opaque-{}", self.store.lock().unwrap().token);
        match head.headers.get("authorization") {
            Some(given) if *given == token => None,
            given => {
                let challenge = format!(
                    r#"Bearer realm="http://{}/token",service="test",scope="repository:x:pull,push""#,
                    self.address
                );
                let status = if given.is_some() { self.quirks.expired_status } else { 401 };
                let answer = Answer::error(status, "UNAUTHORIZED");
                Some(if status == 401 { answer.header("WWW-Authenticate", challenge) } else { answer })
            }
        }
    }

    fn location(&self, name: &str, id: &str) -> String {
        let host =
            if self.quirks.relative_locations { String::new() } else { format!("http://{}", self.address) };
        format!("{host}/v2/{name}/blobs/uploads/{id}?_state=a%3D%3D")
    }

    fn upload(&self, head: &Head, name: &str, id: &str, body: &[u8]) -> Answer {
        let mut store = self.store.lock().unwrap();
        if head.method == "POST" {
            if let (Some(mount), Some(from)) = (head.query.get("mount"), head.query.get("from"))
                && self.quirks.mounts
                && let Some(blob) = store.blobs.get(&(from.clone(), mount.clone())).cloned()
            {
                store.blobs.insert((name.to_owned(), mount.clone()), blob);
                return Answer::of(201).header("Location", format!("/v2/{name}/blobs/{mount}"));
            }
            store.next += 1;
            let id = format!("session-{}", store.next);
            store.uploads.insert(id.clone(), vec![]);
            let answer = Answer::of(202).header("Location", self.location(name, &id));
            return match self.quirks.min_chunk {
                0 => answer,
                bytes => answer.header("OCI-Chunk-Min-Length", bytes.to_string()),
            };
        }
        let Some(have) = store.uploads.get(id).map(Vec::len) else {
            return Answer::error(404, "BLOB_UPLOAD_UNKNOWN");
        };
        let at = |end: usize| format!("0-{}", end.saturating_sub(1));
        match head.method.as_str() {
            "GET" if self.quirks.state_status == 204 => {
                Answer::of(204).header("Location", self.location(name, id)).header("Range", at(have))
            }
            "GET" => Answer::error(self.quirks.state_status, "UNSUPPORTED"),
            "PATCH" if self.quirks.patch_status >= 400 => {
                Answer::error(self.quirks.patch_status, "UNSUPPORTED")
            }
            "PATCH" => {
                let (from, to) = head.headers["content-range"].split_once('-').unwrap();
                let (from, to): (usize, usize) = (from.parse().unwrap(), to.parse().unwrap());
                assert_eq!(to + 1 - from, body.len(), "{head:?}");
                if from != have || body.len() > self.quirks.patch_limit {
                    return Answer::error(416, "RANGE_INVALID").header("Range", at(have));
                }
                let upload = store.uploads.get_mut(id).unwrap();
                upload.extend_from_slice(body);
                let end = upload.len();
                let location = self.location(name, id);
                Answer::of(self.quirks.patch_status).header("Location", location).header("Range", at(end))
            }
            "PUT" => {
                if body.len() > self.quirks.put_limit {
                    return Answer::error(413, "SIZE_INVALID");
                }
                let mut bytes = store.uploads.remove(id).unwrap();
                bytes.extend_from_slice(body);
                let said = head.query["digest"].clone();
                if digest(&bytes) != said {
                    return Answer::error(400, "DIGEST_INVALID");
                }
                store.blobs.insert((name.to_owned(), said.clone()), bytes);
                Answer::of(201).header("Docker-Content-Digest", said)
            }
            _ => Answer::error(405, "UNSUPPORTED"),
        }
    }

    fn blob(&self, head: &Head, name: &str, digest: &str) -> Answer {
        let store = self.store.lock().unwrap();
        let Some(bytes) = store.blobs.get(&(name.to_owned(), digest.to_owned())) else {
            return Answer::error(404, "BLOB_UNKNOWN");
        };
        let from =
            head.headers.get("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
        let start = from.map_or(0, |from| from.parse().unwrap());
        let mut answer = Answer::of(if from.is_some() { 206 } else { 200 });
        if from.is_some() {
            answer =
                answer.header("Content-Range", format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len()));
        }
        answer.body = bytes[start..].to_vec();
        answer
    }

    fn manifest(&self, head: &Head, name: &str, reference: &str, body: Vec<u8>) -> Answer {
        let mut store = self.store.lock().unwrap();
        let key = |text: &str| (name.to_owned(), text.to_owned());
        let stands = if reference.contains(':') {
            Some(reference.to_owned())
        } else {
            store.tags.get(&key(reference)).cloned()
        };
        let current = stands.filter(|digest| store.manifests.contains_key(&key(digest)));
        match head.method.as_str() {
            "PUT" => {
                if let (true, Some(wanted)) = (self.quirks.etags, head.headers.get("if-match"))
                    && current.as_ref().map(|digest| format!("\"{digest}\"")).as_ref() != Some(wanted)
                {
                    return Answer::error(412, "PRECONDITION_FAILED");
                }
                let wants_none = head.headers.get("if-none-match").is_some_and(|value| value == "*");
                if self.quirks.etags && wants_none && current.is_some() {
                    return Answer::error(412, "PRECONDITION_FAILED");
                }
                let document: serde_json::Value = serde_json::from_slice(&body).unwrap();
                if let Some(missing) = missing(&store, name, &document) {
                    return Answer::error(400, &format!("MANIFEST_BLOB_UNKNOWN {missing}"));
                }
                let digest = digest(&body);
                store.manifests.insert(key(&digest), (head.headers["content-type"].clone(), body));
                if !reference.contains(':') {
                    store.tags.insert(key(reference), digest.clone());
                }
                let answer = Answer::of(201).header("Docker-Content-Digest", digest);
                match document["subject"]["digest"].as_str() {
                    Some(subject) if self.quirks.subject => answer.header("OCI-Subject", subject),
                    _ => answer,
                }
            }
            "GET" | "HEAD" => {
                let Some(digest) = current else { return Answer::error(404, "MANIFEST_UNKNOWN") };
                let (media_type, bytes) = store.manifests[&key(&digest)].clone();
                assert!(head.headers["accept"].contains(&media_type), "{head:?}");
                let mut answer = Answer::of(200).header("Content-Type", media_type);
                if self.quirks.etags {
                    answer = answer.header("ETag", format!("\"{digest}\""));
                }
                answer = answer.header("Docker-Content-Digest", digest);
                answer.body = bytes;
                answer
            }
            _ => Answer::error(405, "UNSUPPORTED"),
        }
    }

    /// Two tags a page.
    fn tags(&self, head: &Head, name: &str) -> Answer {
        let store = self.store.lock().unwrap();
        let last = head.query.get("last").cloned().unwrap_or_default();
        let tags: Vec<&String> =
            store.tags.keys().filter(|(of, tag)| of == name && *tag > last).map(|(_, tag)| tag).collect();
        if tags.is_empty() && last.is_empty() {
            return Answer::error(404, "NAME_UNKNOWN");
        }
        let page = &tags[..tags.len().min(2)];
        let mut answer = Answer::of(200);
        if page.len() < tags.len() {
            let next = format!("</v2/{name}/tags/list?n=2&last={}>; rel=\"next\"", page[1]);
            answer = answer.header("Link", next);
        }
        answer.body = serde_json::to_vec(&serde_json::json!({"name": name, "tags": page})).unwrap();
        answer
    }

    fn referrers(&self, name: &str, subject: &str) -> Answer {
        if !self.quirks.referrers {
            return Answer::error(404, "MANIFEST_UNKNOWN");
        }
        let store = self.store.lock().unwrap();
        let mut manifests = Vec::new();
        for ((of, digest), (media_type, bytes)) in &store.manifests {
            let document: serde_json::Value = serde_json::from_slice(bytes).unwrap();
            if of == name && document["subject"]["digest"] == subject {
                let listed = self.quirks.listed_type.map_or(document["artifactType"].clone(), Into::into);
                manifests
                    .push(serde_json::json!({"mediaType": media_type, "digest": digest, "size": bytes.len(),
                    "artifactType": listed, "annotations": document["annotations"]}));
            }
        }
        let media_type = "application/vnd.oci.image.index.v1+json";
        let index = serde_json::json!({"schemaVersion": 2, "mediaType": media_type, "manifests": manifests});
        let mut answer = Answer::of(200).header("Content-Type", media_type);
        answer.body = serde_json::to_vec(&index).unwrap();
        answer
    }
}

/// What a manifest names that the repository lacks.
fn missing(store: &Store, name: &str, document: &serde_json::Value) -> Option<String> {
    let digests = |value: &serde_json::Value| -> Vec<String> {
        let list = value.as_array().into_iter().flatten();
        list.map(|descriptor| descriptor["digest"].as_str().unwrap().to_owned()).collect()
    };
    let config = document["config"]["digest"].as_str().map(str::to_owned);
    let blobs = digests(&document["layers"]).into_iter().chain(config);
    let lacks_blob = |digest: &String| !store.blobs.contains_key(&(name.to_owned(), digest.clone()));
    let lacks_manifest = |digest: &String| !store.manifests.contains_key(&(name.to_owned(), digest.clone()));
    blobs
        .into_iter()
        .find(lacks_blob)
        .or_else(|| digests(&document["manifests"]).into_iter().find(lacks_manifest))
}
