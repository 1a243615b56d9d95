//! What is answered to a request, whatever protocol it came by. No sockets: a request and the state of the
//! server go in, a plan comes out.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::http1::Prepared;
use crate::server::{Phase, Server};
use crate::{metrics, report};

/// The most that `/bytes/N` sends.
const MOST_BYTES: u64 = 1 << 30;
/// The longest that `/spin/MICROS` burns.
const LONGEST_SPIN: Duration = Duration::from_secs(10);

/// What to do about a request.
pub(crate) enum Plan {
    /// Answer what is always the same.
    Prepared(Which),
    /// Answer what is made for this request.
    Respond(Box<Response>),
    /// Send the body back.
    Echo,
    /// Send so many bytes.
    Bytes(u64),
    /// Burn so much CPU time.
    Spin(Duration),
    /// Touch so much memory.
    Alloc(u64),
    /// Send a file, if need be from the cache.
    File(String),
}

/// An answer, but for what the protocol adds.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) content_type: &'static str,
    pub(crate) fields: Vec<(&'static str, String)>,
    pub(crate) body: Body,
}

/// The body of an answer.
#[derive(Debug)]
pub(crate) enum Body {
    Static(&'static [u8]),
    Owned(Vec<u8>),
    Shared(Arc<[u8]>),
}

impl Body {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Static(bytes) => bytes,
            Self::Owned(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

const PLAIN: &str = "text/plain; charset=utf-8";
pub(crate) const JSON: &str = "application/json";
pub(crate) const OCTETS: &str = "application/octet-stream";

impl Response {
    pub(crate) fn text(status: u16, body: &'static str) -> Self {
        let body = Body::Static(body.as_bytes());
        Self { status, content_type: PLAIN, fields: Vec::new(), body }
    }

    fn json(body: String) -> Self {
        let body = Body::Owned(body.into_bytes());
        Self { status: 200, content_type: JSON, fields: Vec::new(), body }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }
}

/// The answers that are made once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    Hello,
    Json,
    Healthy,
    Ready,
    Starting,
    Draining,
    OverBudget,
    NotFound,
    MethodNotAllowed,
    PostOnly,
    Options,
}

impl Which {
    /// In the order of the variants.
    pub(crate) const ALL: [Self; 11] = [
        Self::Hello,
        Self::Json,
        Self::Healthy,
        Self::Ready,
        Self::Starting,
        Self::Draining,
        Self::OverBudget,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::PostOnly,
        Self::Options,
    ];

    pub(crate) fn response(self) -> Response {
        match self {
            Self::Hello => Response::text(200, "Hello from tare\n"),
            Self::Json => {
                Response { content_type: JSON, ..Response::text(200, "{\"message\":\"Hello from tare\"}\n") }
            }
            Self::Healthy => Response::text(200, "ok\n"),
            Self::Ready => Response::text(200, "ready\n"),
            Self::Starting => Response::text(503, "starting\n"),
            Self::Draining => Response::text(503, "draining\n"),
            Self::OverBudget => Response::text(503, "over the memory budget\n"),
            Self::NotFound => Response::text(404, "not found\n"),
            Self::MethodNotAllowed => Response::text(405, "method not allowed\n").with("Allow", "GET, HEAD"),
            Self::PostOnly => Response::text(405, "method not allowed\n").with("Allow", "POST"),
            Self::Options => Response::text(200, "").with("Allow", "GET, HEAD, OPTIONS, POST"),
        }
    }
}

/// Prepares the answers that are made once.
pub(crate) fn prepare() -> [Prepared; Which::ALL.len()] {
    Which::ALL.map(|which| Prepared::new(&which.response()))
}

/// Plans the answer to a request.
pub(crate) fn plan(method: &str, path: &str, server: &Server) -> Plan {
    let Some(route) = route(path) else {
        return Plan::Prepared(Which::NotFound);
    };
    let allowed = match route {
        Route::Echo if method != "POST" => return Plan::Prepared(Which::PostOnly),
        Route::Asterisk | Route::Echo => true,
        _ => matches!(method, "GET" | "HEAD"),
    };
    if !allowed {
        return Plan::Prepared(Which::MethodNotAllowed);
    }
    match route {
        Route::Hello => Plan::Prepared(Which::Hello),
        Route::Json => Plan::Prepared(Which::Json),
        Route::Health => Plan::Prepared(Which::Healthy),
        Route::Ready => Plan::Prepared(readiness(server)),
        Route::Asterisk => Plan::Prepared(Which::Options),
        Route::Limits => Plan::Respond(Box::new(Response::json(report::json(server)))),
        Route::Metrics => {
            let body = Body::Owned(metrics::text(server).into_bytes());
            let content_type = "text/plain; version=0.0.4; charset=utf-8";
            Plan::Respond(Box::new(Response { status: 200, content_type, fields: Vec::new(), body }))
        }
        Route::Echo => Plan::Echo,
        Route::Bytes(count) => Plan::Bytes(count),
        Route::Spin(micros) => Plan::Spin(micros),
        Route::Alloc(bytes) => Plan::Alloc(bytes),
        Route::File(_) if server.cache.is_none() => Plan::Prepared(Which::NotFound),
        Route::File(name) => Plan::File(name),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Route {
    Hello,
    Json,
    Health,
    Ready,
    Limits,
    Metrics,
    Echo,
    Asterisk,
    Bytes(u64),
    Spin(Duration),
    Alloc(u64),
    File(String),
}

fn route(path: &str) -> Option<Route> {
    Some(match path {
        "/" => Route::Hello,
        "/json" => Route::Json,
        "/health" => Route::Health,
        "/ready" => Route::Ready,
        "/limits" => Route::Limits,
        "/metrics" => Route::Metrics,
        "/echo" => Route::Echo,
        "*" => Route::Asterisk,
        _ => {
            let (first, rest) = path.strip_prefix('/')?.split_once('/')?;
            match first {
                "bytes" => Route::Bytes(number(rest).filter(|count| *count <= MOST_BYTES)?),
                "spin" => {
                    let time = Duration::from_micros(number(rest)?);
                    Route::Spin(Some(time).filter(|time| *time <= LONGEST_SPIN)?)
                }
                "alloc" => Route::Alloc(number(rest)?),
                "files" => Route::File(file_name(rest)?),
                _ => return None,
            }
        }
    })
}

fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// The name of a file below the folder: decoded, and never one that leads out of it.
fn file_name(encoded: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let mut digit = || char::from(rest.next()?).to_digit(16);
            // Two digits of 16: it fits.
            bytes.push((digit()? * 16 + digit()?) as u8);
        } else {
            bytes.push(byte);
        }
    }
    let name = String::from_utf8(bytes).ok()?;
    // What Windows takes for separators and drives is left out as well.
    let is_name = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.starts_with('.');
    let plain = !name.contains(['\\', ':', '\0']) && name.split('/').all(is_name);
    plain.then_some(name)
}

fn readiness(server: &Server) -> Which {
    match server.phase() {
        Phase::Starting => Which::Starting,
        Phase::Draining => Which::Draining,
        Phase::Serving if server.is_over_budget() => Which::OverBudget,
        Phase::Serving => Which::Ready,
    }
}

/// Memory that is being touched, counted against the budget while it is held.
pub(crate) struct Allocation<'a> {
    server: &'a Server,
    blocks: Vec<Vec<u8>>,
    bytes: u64,
}

/// How much is touched between two looks at other connections: a millisecond or two.
const BLOCK: usize = 4 << 20;
/// The pages of the machines this runs on are of this size or a multiple.
const PAGE: usize = 4096;

impl<'a> Allocation<'a> {
    /// None when the budget does not allow it.
    pub(crate) fn reserve(server: &'a Server, bytes: u64) -> Option<Self> {
        let before = server.allocated.fetch_add(bytes, Ordering::Relaxed);
        let allocation = Self { server, blocks: Vec::new(), bytes };
        let total = before.checked_add(bytes)?;
        // The other way out gives the reservation back too.
        (total <= server.sizing.budget.heap).then_some(allocation)
    }

    /// Touches some more of it; false when all has been.
    pub(crate) fn grow(&mut self) -> bool {
        let held: u64 = self.blocks.iter().map(|block| block.len() as u64).sum();
        let length = usize::try_from(self.bytes - held).unwrap_or(BLOCK).min(BLOCK);
        if length == 0 {
            return false;
        }
        let mut block = vec![0; length];
        for at in (0..length).step_by(PAGE) {
            block[at] = 1;
        }
        // Or the compiler may see that nobody reads it.
        self.blocks.push(std::hint::black_box(block));
        true
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Allocation<'_> {
    fn drop(&mut self) {
        self.server.allocated.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// How long CPU time is burnt between two looks at other connections.
const SLICE: Duration = Duration::from_millis(1);

/// Burns CPU time of this thread: at most a slice of what is `left`, and returns what remains.
pub(crate) fn spin(left: Duration) -> Duration {
    let wanted = left.min(SLICE);
    let start = cpu_time();
    loop {
        let burnt = cpu_time().saturating_sub(start);
        if burnt >= wanted {
            return left.saturating_sub(burnt);
        }
        std::hint::spin_loop();
    }
}

/// CPU time of this thread, so that what a quota takes away does not count as burnt.
#[cfg(target_os = "linux")]
fn cpu_time() -> Duration {
    use rustix::time::{ClockId, clock_gettime};

    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// Elsewhere the time that passes, counted from the first call.
#[cfg(not(target_os = "linux"))]
fn cpu_time() -> Duration {
    use std::sync::OnceLock;
    use std::time::Instant;

    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_has_at_most_one_route() {
        let file = |name: &str| Some(Route::File(name.to_owned()));
        for (path, expected) in [
            ("/", Some(Route::Hello)),
            ("/bytes/0", Some(Route::Bytes(0))),
            ("/bytes/1073741824", Some(Route::Bytes(1 << 30))),
            ("/bytes/1073741825", None),
            ("/bytes/", None),
            ("/bytes/+1", None),
            ("/bytes", None),
            ("/spin/1000", Some(Route::Spin(Duration::from_millis(1)))),
            ("/spin/10000001", None),
            ("/alloc/4096", Some(Route::Alloc(4096))),
            ("/files/a/b.txt", file("a/b.txt")),
            ("/files/a%20b", file("a b")),
            ("/files/..", None),
            ("/files/%2e%2e/passwd", None),
            ("/files/a/../b", None),
            ("/files//etc", None),
            ("/files/.hidden", None),
            ("/files/a%00", None),
            ("/files/a%5cb", None),
            ("/files/a%2", None),
            ("/files/%ff", None),
            ("/files/", None),
            ("/health/", None),
            ("//", None),
            ("", None),
        ] {
            assert_eq!(route(path), expected, "{path:?}");
        }
    }

    #[test]
    fn spinning_burns_what_was_asked_for() {
        let start = cpu_time();
        let mut left = Duration::from_millis(3);
        while !left.is_zero() {
            left = spin(left);
        }
        assert!(cpu_time() - start >= Duration::from_millis(3));
    }
}
