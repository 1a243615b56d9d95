//! What is answered to a request: the handler that the engine calls.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tare_http::{Block, Body, Handler, Phase, Plan, Prepared, Request, Response};
use tokio::task::yield_now;

use crate::cache::{Accepts, JSON};
use crate::log::Level;
use crate::server::Server;
use crate::work::{Allocation, spin};
use crate::{metrics, report};

/// The most that `/bytes/N` sends.
const MOST_BYTES: u64 = 1 << 30;
/// The longest that `/spin/MICROS` burns.
const LONGEST_SPIN: Duration = Duration::from_secs(10);

/// Bytes that `/bytes/N` is made of: lines of 64.
static BLOCK: Block = {
    let mut block = [b'.'; 4 << 10];
    let mut at = 63;
    while at < block.len() {
        block[at] = b'\n';
        at += 64;
    }
    block
};

/// The routes over the state of a server.
#[derive(Debug)]
pub(crate) struct Routes {
    server: Arc<Server>,
    answers: Answers,
}

/// What takes time.
#[derive(Debug)]
pub(crate) enum Task {
    /// Burn so much CPU time.
    Spin(Duration),
    /// Touch so much memory.
    Alloc(u64),
    /// Send a file, if need be from the cache.
    File(String, Accepts),
}

impl Routes {
    pub(crate) fn new(server: Arc<Server>) -> Self {
        Self { server, answers: Answers::new() }
    }

    fn readiness(&self) -> &Prepared {
        match self.server.engine.phase() {
            Phase::Starting => &self.answers.starting,
            Phase::Draining => &self.answers.draining,
            Phase::Serving if self.server.is_over_budget() => &self.answers.over_budget,
            Phase::Serving => &self.answers.ready,
        }
    }
}

impl Handler for Routes {
    type Task = Task;

    fn plan(&self, request: &Request<'_>) -> Plan<'_, Task> {
        let answers = &self.answers;
        let Some(route) = route(request.path) else {
            return Plan::Prepared(&answers.not_found);
        };
        let allowed = match route {
            Route::Echo if request.method != "POST" => return Plan::Prepared(&answers.post_only),
            Route::Asterisk | Route::Echo => true,
            _ => matches!(request.method, "GET" | "HEAD"),
        };
        if !allowed {
            return Plan::Prepared(&answers.method_not_allowed);
        }
        match route {
            Route::Hello => Plan::Prepared(&answers.hello),
            Route::Json => Plan::Prepared(&answers.json),
            Route::Health => Plan::Prepared(&answers.healthy),
            Route::Ready => Plan::Prepared(self.readiness()),
            Route::Asterisk => Plan::Prepared(&answers.options),
            Route::Limits => made(JSON, report::json(&self.server)),
            Route::Metrics => made("text/plain; version=0.0.4; charset=utf-8", metrics::text(&self.server)),
            Route::Echo => Plan::Echo,
            Route::Bytes(count) => Plan::Repeat(&BLOCK, count),
            Route::Spin(time) => Plan::LongTask(Task::Spin(time)),
            Route::Alloc(bytes) => Plan::Task(Task::Alloc(bytes)),
            Route::File(_) if self.server.cache.is_none() => Plan::Prepared(&answers.not_found),
            Route::File(name) => {
                let accepts = Accepts::new(request.accept_encoding(), request.if_none_match());
                Plan::Task(Task::File(name, accepts))
            }
        }
    }

    async fn perform(&self, task: Task) -> Response {
        let server = &self.server;
        match task {
            Task::Spin(time) => {
                let mut left = time;
                while !left.is_zero() {
                    left = spin(left);
                    yield_now().await;
                }
                Response::text(200, "spun\n")
            }
            Task::Alloc(bytes) => {
                let budget = server.sizing.budget.heap;
                let Some(mut allocation) = Allocation::reserve(&server.allocated, budget, bytes) else {
                    return over_budget();
                };
                while allocation.grow() {
                    yield_now().await;
                }
                let body = Body::Owned(format!("{bytes} bytes touched\n").into_bytes());
                Response { body, ..Response::text(200, "") }
            }
            Task::File(name, accepts) => {
                let found = match &server.cache {
                    Some(cache) => cache.get(&name, &accepts).await,
                    None => None,
                };
                found.unwrap_or_else(not_found)
            }
        }
    }

    fn accept_failed(&self, error: &io::Error) {
        let message = format_args!("cannot accept connections for now: {error}");
        self.server.log.line(Level::Warn, message);
    }
}

fn made(content_type: &'static str, text: String) -> Plan<'static, Task> {
    let body = Body::Owned(text.into_bytes());
    Plan::Respond(Box::new(Response { status: 200, content_type, fields: Vec::new(), body }))
}

/// The answers that are made once.
#[derive(Debug)]
struct Answers {
    hello: Prepared,
    json: Prepared,
    healthy: Prepared,
    ready: Prepared,
    starting: Prepared,
    draining: Prepared,
    over_budget: Prepared,
    not_found: Prepared,
    method_not_allowed: Prepared,
    post_only: Prepared,
    options: Prepared,
}

impl Answers {
    fn new() -> Self {
        let text = |status, text| Prepared::new(Response::text(status, text));
        let allow =
            |status, text, methods| Prepared::new(Response::text(status, text).with("Allow", methods));
        let json = Response::text(200, "{\"message\":\"Hello from tare\"}\n");
        Self {
            hello: text(200, "Hello from tare\n"),
            json: Prepared::new(Response { content_type: JSON, ..json }),
            healthy: text(200, "ok\n"),
            ready: text(200, "ready\n"),
            starting: text(503, "starting\n"),
            draining: text(503, "draining\n"),
            over_budget: Prepared::new(over_budget()),
            not_found: Prepared::new(not_found()),
            method_not_allowed: allow(405, "method not allowed\n", "GET, HEAD"),
            post_only: allow(405, "method not allowed\n", "POST"),
            options: allow(200, "", "GET, HEAD, OPTIONS, POST"),
        }
    }
}

fn over_budget() -> Response {
    Response::text(503, "over the memory budget\n")
}

fn not_found() -> Response {
    Response::text(404, "not found\n")
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
}
