//! Requests and their repetition.
//!
//! Filled by hand: ureq repeats nothing. Here are backoff with jitter, `Retry-After` in both forms, and one budget of
//! waiting for the whole run, so that a registry that is down ends a job and does not hold it.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use ureq::http::{HeaderMap, Method, StatusCode, Uri};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig};
use ureq::{Agent, SendBody};

use crate::error::{Error, Refusal};
use crate::proxy::Proxies;

/// A stalled connection is given up after this long without a byte. A registry may move a layer of gigabytes to its
/// storage before it answers.
const STALLED: Duration = Duration::from_secs(120);
/// Bodies of errors are longer only in pages of proxies.
const ERROR_LIMIT: u64 = 64 << 10;
/// From this length on a body is only sent when the registry has agreed to the request, which costs a round trip.
const EXPECT_FROM: u64 = 8 << 20;

/// Hosts that a download is sent on to; more is a circle.
const REDIRECTS: usize = 5;

/// How requests are repeated.
#[derive(Clone)]
pub struct Retry {
    /// How often one request is sent at most.
    pub attempts: u32,
    /// The first pause; each further one is twice as long, up to 30 s.
    pub first_pause: Duration,
    /// How long a run may wait in all.
    pub budget: Duration,
    /// Waits. Tests record instead.
    pub sleep: Arc<dyn Fn(Duration) + Send + Sync>,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 6,
            first_pause: Duration::from_millis(500),
            budget: Duration::from_secs(300),
            sleep: Arc::new(std::thread::sleep),
        }
    }
}

/// How registries are reached.
#[derive(Clone, Default)]
pub struct HttpOptions {
    /// Certificates that are trusted beside Mozilla's, in PEM.
    pub ca_file: Option<PathBuf>,
    /// Hosts that are spoken to without TLS, beside loopback ones.
    pub plain_http: Vec<String>,
    /// Proxies for what is not on this machine.
    pub proxies: Proxies,
    /// How requests are repeated.
    pub retry: Retry,
}

impl HttpOptions {
    /// `http` or `https`. Loopback hosts have no TLS, unless a certificate authority is named.
    pub(crate) fn scheme(&self, host: &str) -> &'static str {
        let loopback = crate::reference::is_loopback(host) && self.ca_file.is_none();
        if loopback || self.plain_http.iter().any(|plain| plain == host) { "http" } else { "https" }
    }
}

/// Connections to one registry and what belongs to it.
pub(crate) struct Http {
    agent: Agent,
    proxies: Proxies,
    retry: Retry,
    waited: Mutex<Duration>,
}

/// What is sent beside the head.
#[derive(Clone, Copy)]
pub(crate) enum Body<'a> {
    None,
    Bytes(&'a [u8]),
    /// Opened anew for each attempt.
    Stream {
        length: u64,
        open: &'a dyn Fn() -> Result<Box<dyn Read + 'a>, Error>,
    },
}

impl Body<'_> {
    fn length(self) -> u64 {
        match self {
            Self::None => 0,
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Stream { length, .. } => length,
        }
    }
}

/// A request that can be sent again.
#[derive(Clone)]
pub(crate) struct Request<'a> {
    pub(crate) method: Method,
    pub(crate) url: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Body<'a>,
}

impl Request<'_> {
    pub(crate) fn new(method: Method, url: String) -> Self {
        Self { method, url, headers: vec![], body: Body::None }
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn body(self, body: Body<'_>) -> Request<'_> {
        let Self { method, url, headers, body: _ } = self;
        Request { method, url, headers, body }
    }

    /// Whether it has a body, be it an empty one.
    fn sends(&self) -> bool {
        matches!(self.method, Method::POST | Method::PUT | Method::PATCH)
    }

    /// For messages: the query may hold secrets.
    pub(crate) fn describe(&self) -> String {
        format!("{} {}", self.method, self.url.split('?').next().unwrap_or(&self.url))
    }
}

/// An answer, whose body is still to be read.
pub(crate) type Response = ureq::http::Response<ureq::Body>;

/// An answer that is an error, with what its head says about the next attempt.
pub(crate) struct Refused {
    pub(crate) error: Error,
    pub(crate) headers: Box<HeaderMap>,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self { error, headers: Box::default() }
    }
}

impl Http {
    pub(crate) fn new(options: &HttpOptions, host: &str) -> Result<Self, Error> {
        // A registry without TLS on this machine has its token server there, too.
        let is_plain = options.ca_file.is_none() && crate::reference::is_loopback(host);
        let roots = if is_plain { RootCerts::WebPki } else { roots_with(options.ca_file.as_deref())? };
        let config = Agent::config_builder()
            .user_agent(concat!("tare/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(30)))
            .timeout_per_read(Some(STALLED))
            .timeout_per_write(Some(STALLED))
            .max_idle_connections_per_host(8)
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            // Each request has its own.
            .proxy(None);
        let agent = config.build().new_agent();
        Ok(Self {
            agent,
            proxies: options.proxies.clone(),
            retry: options.retry.clone(),
            waited: Mutex::default(),
        })
    }

    /// Sends a request once. Redirects are followed without credentials, and never from TLS to plain HTTP; a body is
    /// not redirected.
    pub(crate) fn send_once(
        &self,
        request: &Request<'_>,
        authorization: Option<&str>,
    ) -> Result<Response, Refused> {
        let mut url = request.url.clone();
        let mut authorization = authorization;
        for _ in 0..=REDIRECTS {
            let response = self.exchange(request, &url, authorization)?;
            let status = response.status();
            if status.is_success() {
                return Ok(response);
            }
            let target =
                header(&response, "Location").filter(|_| status.is_redirection() && !request.sends());
            let Some(target) = target else { return Err(refusal(request, response)) };
            url = resolve(&url, target)?;
            authorization = None;
        }
        Err(Error::Registry(format!("{} is redirected in a circle", request.describe())).into())
    }

    /// One request, to this URL, and its answer.
    fn exchange(
        &self,
        request: &Request<'_>,
        url: &str,
        authorization: Option<&str>,
    ) -> Result<Response, Error> {
        let failed = |source| Error::Exchange { request: request.describe(), source };
        let mut builder = ureq::http::Request::builder().method(request.method.clone()).uri(url);
        for (name, value) in &request.headers {
            builder = builder.header(*name, value);
        }
        if let Some(authorization) = authorization {
            builder = builder.header("Authorization", authorization);
        }
        if request.sends() {
            // Without it the body would be sent in chunks of HTTP, which some registries refuse.
            builder = builder.header("Content-Length", request.body.length());
        }
        if request.body.length() >= EXPECT_FROM {
            builder = builder.header("Expect", "100-continue");
        }
        let proxy = self.proxies.of(url).cloned();
        let sent = if request.sends() {
            let mut stream: Box<dyn Read + '_> = match request.body {
                Body::None => Box::new(io::empty()),
                Body::Bytes(bytes) => Box::new(bytes),
                Body::Stream { open, .. } => open()?,
            };
            let body = SendBody::from_reader(&mut *stream);
            let request = builder.body(body).map_err(|error| failed(error.into()))?;
            self.agent.run(self.agent.configure_request(request).proxy(proxy).max_redirects(0).build())
        } else {
            let request = builder.body(()).map_err(|error| failed(error.into()))?;
            self.agent.run(self.agent.configure_request(request).proxy(proxy).max_redirects(0).build())
        };
        sent.map_err(failed)
    }

    /// Does something again while its error may pass, with pauses in between.
    pub(crate) fn retrying<T>(&self, mut attempt: impl FnMut() -> Result<T, Refused>) -> Result<T, Error> {
        let mut tried = 0;
        loop {
            match attempt() {
                Ok(done) => return Ok(done),
                Err(refused) => self.pause(&mut tried, refused)?,
            }
        }
    }

    /// Waits before the next attempt, or gives the error back where there is to be none.
    pub(crate) fn pause(&self, tried: &mut u32, refused: Refused) -> Result<(), Error> {
        *tried += 1;
        let Refused { error, headers } = refused;
        if !error.is_transient() || *tried >= self.retry.attempts {
            return Err(error);
        }
        let backoff = self.retry.first_pause * 2_u32.pow((*tried - 1).min(10));
        // Between half of it and all of it, so that those who were refused together do not come back together.
        let backoff = backoff.min(Duration::from_secs(30)).mul_f64(0.5 + fastrand::f64() / 2.0);
        let pause = retry_after(&headers, SystemTime::now()).map_or(backoff, |asked| asked.max(backoff));
        {
            let mut waited = self.waited.lock().unwrap_or_else(PoisonError::into_inner);
            if *waited + pause > self.retry.budget {
                return Err(error);
            }
            *waited += pause;
        }
        self.wait(pause);
        Ok(())
    }

    /// Waits for something that takes time at the registry.
    pub(crate) fn wait(&self, pause: Duration) {
        (self.retry.sleep)(pause);
    }
}

/// What an answer with an error status says.
fn refusal(request: &Request<'_>, mut response: Response) -> Refused {
    let mut body = Vec::new();
    // What cannot be read is not said.
    let _ = response.body_mut().as_reader().take(ERROR_LIMIT).read_to_end(&mut body);
    let error = Refusal::new(request.describe(), response.status().as_u16(), &body).into();
    Refused { error, headers: Box::new(response.headers().clone()) }
}

/// Mozilla's certificates, the system's, and those of a file.
fn roots_with(file: Option<&Path>) -> Result<RootCerts, Error> {
    let mut roots: Vec<Certificate<'static>> =
        webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().map(|der| Certificate::from_der(der)).collect();
    // A system without any, or with some that cannot be read, has Mozilla's.
    for der in rustls_native_certs::load_native_certs().certs {
        if !webpki_root_certs::TLS_SERVER_ROOT_CERTS.contains(&der) {
            roots.push(Certificate::from_der(&der).to_owned());
        }
    }
    let Some(file) = file else { return Ok(RootCerts::Specific(Arc::new(roots))) };
    let pem = tare_oci::input::read(file).map_err(|source| Error::File {
        operation: "read",
        path: file.to_path_buf(),
        source,
    })?;
    let bad = || Error::Input(format!("{} holds no certificate in PEM", file.display()));
    let others = roots.len();
    for item in ureq::tls::parse_pem(&pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|_| bad())? {
            roots.push(certificate);
        }
    }
    if roots.len() == others {
        return Err(bad());
    }
    Ok(RootCerts::Specific(Arc::new(roots)))
}

/// Seconds or a date (RFC 9110, 10.2.3).
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get("Retry-After")?.to_str().ok()?.trim();
    match value.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => httpdate::parse_http_date(value).ok()?.duration_since(now).ok(),
    }
}

/// A `Location` against the URL that it answers (RFC 3986, 5.3).
pub(crate) fn resolve(base: &str, location: &str) -> Result<String, Error> {
    let wrong = || Error::Registry(format!("{base} answers the location `{location}`"));
    let uri: Uri = base.parse().map_err(|_| wrong())?;
    let (scheme, authority) = uri.scheme_str().zip(uri.authority()).ok_or_else(wrong)?;
    let origin = format!("{scheme}://{authority}");
    let url = match location {
        _ if location.contains("://") && !location.starts_with(['/', '?']) => location.to_owned(),
        _ if location.starts_with("//") => format!("{scheme}:{location}"),
        _ if location.starts_with('/') => format!("{origin}{location}"),
        _ if location.starts_with('?') => format!("{origin}{}{location}", uri.path()),
        _ => {
            let folder = uri.path().rsplit_once('/').map_or("", |(folder, _)| folder);
            format!("{origin}{folder}/{location}")
        }
    };
    let resolved: Uri = url.parse().map_err(|_| wrong())?;
    let downgraded = scheme == "https" && resolved.scheme_str() != Some("https");
    if resolved.host().is_none() || downgraded { Err(wrong()) } else { Ok(url) }
}

/// Whether two URLs have scheme, host and port in common: credentials for one may go to the other.
pub(crate) fn same_origin(one: &str, other: &str) -> bool {
    let origin = |url: &str| {
        let uri: Uri = url.parse().ok()?;
        let default = if uri.scheme_str() == Some("https") { 443 } else { 80 };
        Some((uri.scheme_str()?.to_owned(), uri.host()?.to_lowercase(), uri.port_u16().unwrap_or(default)))
    };
    origin(one).is_some_and(|one| Some(one) == origin(other))
}

/// With one more parameter in the query.
pub(crate) fn with_query(url: &str, name: &str, value: &str) -> String {
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}{name}={}", encoded(value))
}

/// Percent-encoding of everything that is not unreserved (RFC 3986, 2.3).
pub(crate) fn encoded(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

/// A header as text.
pub(crate) fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}

/// Whether an answer has one of these statuses; any other success is the registry's fault.
pub(crate) fn expect(
    response: &Response,
    request: &Request<'_>,
    expected: &[StatusCode],
) -> Result<(), Error> {
    if expected.contains(&response.status()) {
        return Ok(());
    }
    Err(Error::Registry(format!("{} was answered with {}", request.describe(), response.status())))
}

/// Unused in the seconds since this: for tokens.
pub(crate) fn after(duration: Duration) -> Instant {
    Instant::now() + duration
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_absolute_relative_or_a_query() {
        let base = "https://r.example:5000/v2/a/blobs/uploads/1?state=x";
        for (location, expected) in [
            ("https://s.example/u?x=1", "https://s.example/u?x=1"),
            ("//s.example/u", "https://s.example/u"),
            ("/v2/a/blobs/uploads/2?_state=a%3D", "https://r.example:5000/v2/a/blobs/uploads/2?_state=a%3D"),
            ("2", "https://r.example:5000/v2/a/blobs/uploads/2"),
            ("?next=2", "https://r.example:5000/v2/a/blobs/uploads/1?next=2"),
            ("/u?back=http://other", "https://r.example:5000/u?back=http://other"),
        ] {
            assert_eq!(resolve(base, location).unwrap(), expected, "{location}");
        }
        for location in ["http://r.example:5000/u", "https://", "ftp://r.example/u"] {
            assert!(resolve(base, location).is_err(), "{location}");
        }
    }

    #[test]
    fn credentials_stay_with_scheme_host_and_port() {
        for (one, other, same) in [
            ("https://r.example/a", "https://R.example:443/b?c", true),
            ("http://r.example/a", "http://r.example:80/", true),
            ("https://r.example/a", "http://r.example/a", false),
            ("https://r.example/a", "https://r.example:5000/a", false),
            ("https://r.example/a", "https://s.example/a", false),
        ] {
            assert_eq!(same_origin(one, other), same, "{one} {other}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_770);
        for (value, expected) in [
            ("3", Some(3)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(7)),
            ("Sun, 06 Nov 1994 08:49:00 GMT", None),
            ("soon", None),
            ("-1", None),
        ] {
            let headers = HeaderMap::from_iter([("Retry-After".parse().unwrap(), value.parse().unwrap())]);
            assert_eq!(retry_after(&headers, now), expected.map(Duration::from_secs), "{value}");
        }
    }

    #[test]
    fn pauses_grow_to_the_budget_and_no_further() {
        let pauses = Arc::new(Mutex::new(vec![]));
        let record = Arc::clone(&pauses);
        let sleep = Arc::new(move |pause| record.lock().unwrap().push(pause));
        let first_pause = Duration::from_secs(1);
        let retry = Retry { attempts: 5, first_pause, budget: Duration::from_secs(20), sleep };
        let options = HttpOptions { retry, ..HttpOptions::default() };
        let http = Http::new(&options, "localhost").unwrap();
        let refusal = |status| Error::from(Refusal { request: String::new(), status, said: String::new() });
        let mut tries = 0;
        let result = http.retrying::<()>(|| {
            tries += 1;
            Err(refusal(503).into())
        });
        assert_eq!((result.unwrap_err().status(), tries), (Some(503), 5));
        let recorded = std::mem::take(&mut *pauses.lock().unwrap());
        let grown: Vec<_> = recorded.iter().map(Duration::as_secs_f64).collect();
        for (pause, longest) in grown.iter().zip([1.0, 2.0, 4.0, 8.0]) {
            assert!((longest / 2.0..=longest).contains(pause), "{grown:?}");
        }
        // What is left of the budget is less than this.
        let headers = HeaderMap::from_iter([("Retry-After".parse().unwrap(), "19".parse().unwrap())]);
        let refused = Refused { error: refusal(429), headers: Box::new(headers) };
        assert!(http.pause(&mut 0, refused).is_err());
        // An error that stays is not repeated.
        let mut tries = 0;
        let result = http.retrying::<()>(|| {
            tries += 1;
            Err(refusal(404).into())
        });
        assert_eq!((result.unwrap_err().status(), tries), (Some(404), 1));
        assert!(pauses.lock().unwrap().is_empty());
    }
}
