//! What is answered to which request.

use std::time::{Duration, SystemTime};

/// Answers, made anew once a second because of their date.
#[derive(Debug)]
pub(crate) struct Answers {
    second: u64,
    root: Vec<u8>,
    json: Vec<u8>,
    health: Vec<u8>,
    ready: Vec<u8>,
    not_found: Vec<u8>,
    method_not_allowed: Vec<u8>,
    bad_request: Vec<u8>,
}

impl Answers {
    /// Those of a second since the epoch.
    pub(crate) fn at(second: u64) -> Self {
        let date = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(second));
        let typed = |head: &str, media_type: &str, body: &str| {
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {head}\r\nContent-Type: {media_type}\r\nContent-Length: {length}\r\nDate: {date}\r\n\r\n{body}"
            );
            answer.into_bytes()
        };
        let answer = |head: &str, body: &str| typed(head, "text/plain; charset=utf-8", body);
        Self {
            second,
            root: answer("200 OK", "Hello from tare\n"),
            json: typed("200 OK", "application/json", "{\"message\":\"Hello from tare\"}\n"),
            health: answer("200 OK", "ok\n"),
            ready: answer("200 OK", "ready\n"),
            not_found: answer("404 Not Found", "not found\n"),
            method_not_allowed: answer("405 Method Not Allowed\r\nAllow: GET", "method not allowed\n"),
            bad_request: answer("400 Bad Request\r\nConnection: close", "bad request\n"),
        }
    }

    /// Makes them anew when the second is another.
    pub(crate) fn refresh(&mut self, second: u64) {
        if second != self.second {
            *self = Self::at(second);
        }
    }

    /// The answer to a request.
    pub(crate) fn to(&self, method: &str, path: &str) -> &[u8] {
        match (method, path) {
            ("GET", "/") => &self.root,
            ("GET", "/json") => &self.json,
            ("GET", "/health") => &self.health,
            ("GET", "/ready") => &self.ready,
            (_, "/" | "/json" | "/health" | "/ready") => &self.method_not_allowed,
            _ => &self.not_found,
        }
    }

    /// The last answer on a connection.
    pub(crate) fn bad_request(&self) -> &[u8] {
        &self.bad_request
    }
}
