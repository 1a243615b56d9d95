//! The plan of a run as plain data: requests, pace, duration, and the expected answers. It is passed to another process as
//! one line of JSON.

use serde::{Deserialize, Serialize};

/// Nanoseconds of one millisecond.
const MILLISECOND: u64 = 1_000_000;
/// Nanoseconds of one second.
const SECOND: u64 = 1_000_000_000;

/// One run of the generator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Where the server is, `host:port`. The first address that the name resolves to is used.
    pub address: String,
    /// The requests; not empty.
    pub requests: Vec<Request>,
    /// HTTP/1.1 or HTTP/2.
    pub protocol: Protocol,
    /// When requests are started.
    pub pace: Pace,
    /// Connections, over all threads; at least one.
    pub connections: u32,
    /// Threads; at least one, at most as many as connections.
    pub threads: u32,
    /// Requests under way on one connection: the depth of pipelining of HTTP/1.1, the streams of HTTP/2.
    pub depth: u32,
    /// False: every request has a connection of its own and says `connection: close`.
    pub keep_alive: bool,
    /// Nanoseconds before the measurement, with the same load; only the windows tell of them.
    pub warm_up: u64,
    /// Nanoseconds of the measurement.
    pub duration: u64,
    /// Nanoseconds of one window of [`Outcome::windows`](super::Outcome::windows).
    pub window: u64,
    /// Nanoseconds after which a request, or an attempt to connect, is given up.
    pub timeout: u64,
    /// The seed of the choice between weighted requests: the same seed gives the same sequence.
    pub seed: u64,
    /// The run ends after so many requests, before its time; that takes a closed loop with one thread. None: by time
    /// alone.
    pub most: Option<u64>,
    /// Every so many-th body on a connection is compared byte by byte, and the first always. 0: the first
    /// only.
    pub sample_every: u64,
}

impl Plan {
    /// A closed loop of plain GETs over 64 connections on one thread for ten seconds.
    #[must_use]
    pub fn new(address: impl Into<String>, path: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            requests: vec![Request::get(path)],
            protocol: Protocol::Http1,
            pace: Pace::Closed,
            connections: 64,
            threads: 1,
            depth: 1,
            keep_alive: true,
            warm_up: 0,
            duration: 10 * SECOND,
            window: 100 * MILLISECOND,
            timeout: 5 * SECOND,
            seed: 1,
            most: None,
            sample_every: 64,
        }
    }

    /// Whether the body of the answer to a connection's request, counted from 0, is compared byte by byte.
    pub(crate) fn is_sampled(&self, request: u64) -> bool {
        request == 0 || (self.sample_every > 0 && request.is_multiple_of(self.sample_every))
    }

    /// How long after the end of an open loop its last requests may be sent: a stall of a moment just before the end is part
    /// of their latency, and a server that is too slow has no more room for its backlog.
    pub(crate) fn backlog(&self) -> u64 {
        match self.pace {
            Pace::Closed => 0,
            Pace::Open { .. } => (self.duration / 10).min(SECOND),
        }
    }

    /// The error of a request that is given up.
    pub(crate) fn late(&self) -> String {
        format!("no whole answer within {} ms", self.timeout / 1_000_000)
    }

    /// What cannot be run is said before anything is sent.
    ///
    /// # Errors
    /// Names the field.
    pub fn check(&self) -> Result<(), PlanError> {
        let refuse = |why: String| Err(PlanError(why));
        for (field, value) in [
            ("connections", self.connections.into()),
            ("threads", self.threads.into()),
            ("depth", self.depth.into()),
            ("duration", self.duration),
            ("window", self.window),
            ("timeout", self.timeout),
        ] {
            if value == 0 {
                return refuse(format!("`{field}` is 0"));
            }
        }
        if self.most == Some(0) {
            return refuse("`most` is 0".to_owned());
        }
        let Self { threads, connections, depth, window, .. } = self;
        if self.most.is_some() && (*threads > 1 || self.pace != Pace::Closed) {
            return refuse("`most` needs a closed loop with one thread".to_owned());
        }
        if threads > connections {
            return refuse(format!("{threads} threads for {connections} connections"));
        }
        if *depth > 1 && !self.keep_alive {
            return refuse(format!("{depth} requests at a time on a connection that is closed after one"));
        }
        // HTTP/2 has no `connection: close` (RFC 9113, 8.2.2).
        if self.protocol == Protocol::Http2 && !self.keep_alive {
            return refuse("HTTP/2 cannot go without keep-alive".to_owned());
        }
        let longest = self.warm_up.checked_add(self.duration).and_then(|all| all.checked_add(self.timeout));
        if longest.is_none_or(|all| all > MOST_NANOSECONDS) {
            return refuse("warm-up, duration and timeout together are longer than a week".to_owned());
        }
        if (self.warm_up + self.duration) / window > MOST_WINDOWS {
            return refuse(format!("windows of {window} ns are more than {MOST_WINDOWS} for this duration"));
        }
        if let Pace::Open { rate } = self.pace
            && !(rate.is_finite() && (MIN_RATE..=MAX_RATE).contains(&rate))
        {
            let why = format!("{rate} requests per second is not between {MIN_RATE} and {MAX_RATE}");
            return refuse(why);
        }
        if self.requests.is_empty() {
            return refuse("there is no request".to_owned());
        }
        if self.requests.iter().all(|request| request.weight == 0) {
            return refuse("no request has a weight above 0".to_owned());
        }
        self.requests.iter().try_for_each(Request::check)
    }
}

/// A run of a week is a mistake in a unit.
const MOST_NANOSECONDS: u64 = 7 * 24 * 3_600 * SECOND;
/// Windows are kept one by one.
const MOST_WINDOWS: u64 = 1_000_000;
/// One request in a quarter of an hour.
const MIN_RATE: f64 = 0.001;
/// One request per nanosecond, the resolution of the clock.
const MAX_RATE: f64 = 1e9;

/// The fault of a plan, with the name of the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PlanError(pub(crate) String);

impl PlanError {
    /// For a method, a path, or the name or value of a header.
    pub(crate) fn characters(what: &str, value: &str) -> Self {
        Self(format!("{what} `{value}` has characters that cannot stand in a request"))
    }
}

/// HTTP over plain TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1 (RFC 9112).
    Http1,
    /// HTTP/2 with prior knowledge (RFC 9113, 3.3).
    Http2,
}

/// When requests are started.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pace {
    /// Each as soon as there is a free place on a connection: finds the capacity.
    Closed,
    /// At fixed times, whether the server keeps up or not: finds the latency at that rate.
    Open {
        /// Requests per second, over all connections.
        rate: f64,
    },
}

/// One kind of request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// How often it is chosen, relative to the others.
    pub weight: u32,
    /// Upper case, such as `GET`.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Further headers. `host` may be among them; `content-length` and `connection` are the generator's.
    pub headers: Vec<(String, String)>,
    /// The body of the request; may be empty.
    pub body: Blob,
    /// The expected answer.
    pub expect: Expect,
}

impl Request {
    /// A GET without further headers that expects success.
    #[must_use]
    pub fn get(path: impl Into<String>) -> Self {
        Self {
            weight: 1,
            method: "GET".to_owned(),
            path: path.into(),
            headers: Vec::new(),
            body: Blob::default(),
            expect: Expect::default(),
        }
    }

    /// Whether the answer never has a body, even if its head announces one (RFC 9110, 9.3.2).
    #[must_use]
    pub fn is_head(&self) -> bool {
        self.method == "HEAD"
    }

    fn check(&self) -> Result<(), PlanError> {
        let refuse = |what, value: &str| Err(PlanError::characters(what, value));
        if !is_token(&self.method) {
            return refuse("the method", &self.method);
        }
        let visible = self.path.bytes().all(|byte| byte.is_ascii_graphic());
        if !visible || !(self.path.starts_with('/') || self.path == "*") {
            return refuse("the path", &self.path);
        }
        for (name, value) in &self.headers {
            if !is_token(name) {
                return refuse("the header name", name);
            }
            if !value.bytes().all(|byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f)) {
                return refuse("the header value", value);
            }
            let reserved = ["content-length", "connection", "transfer-encoding", "expect"];
            if reserved.contains(&name.to_ascii_lowercase().as_str()) {
                return Err(PlanError(format!("the header `{name}` is the generator's to set")));
            }
        }
        Ok(())
    }
}

/// RFC 9110, 5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// The expected answer. Status and length are checked every time, the bytes of the body in samples.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// The status; none: any from 200 to 299.
    pub status: Option<u16>,
    /// Bytes of the body after transfer coding; none: any.
    pub length: Option<u64>,
    /// The body; none: any.
    pub body: Option<Blob>,
}

impl Expect {
    /// Whether the status is the one asked for.
    #[must_use]
    pub fn takes_status(&self, status: u16) -> bool {
        self.status.map_or_else(|| (200..300).contains(&status), |expected| expected == status)
    }
}

/// Bytes. In JSON a string in which every character from U+0000 to U+00FF is one byte: ASCII stays
/// readable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Blob(pub Vec<u8>);

impl Serialize for Blob {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.iter().copied().map(char::from).collect::<String>())
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = text.chars().map(u8::try_from).collect::<Result<_, _>>();
        bytes.map(Self).map_err(|_| serde::de::Error::custom("a character above U+00FF is not a byte"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_survives_json() {
        let mut plan = Plan::new("127.0.0.1:80", "/");
        plan.pace = Pace::Open { rate: 1_234.5 };
        plan.requests[0].body = Blob((0..=255).collect());
        plan.requests[0].expect.body = Some(Blob(b"Hello".to_vec()));
        let text = serde_json::to_string(&plan).unwrap();
        assert!(!text.contains('\n') && text.contains("\"Hello\""), "{text}");
        assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
        assert!(serde_json::from_str::<Blob>("\"\u{100}\"").is_err());
    }

    #[test]
    fn a_plan_that_cannot_be_run_is_refused_by_field() {
        type Change = fn(&mut Plan);
        let cases: [(Change, &str); 15] = [
            (|plan| plan.connections = 0, "`connections` is 0"),
            (|plan| plan.threads = 65, "65 threads for 64 connections"),
            (|plan| plan.window = 0, "`window` is 0"),
            (|plan| plan.most = Some(0), "`most` is 0"),
            (|plan| (plan.most, plan.threads) = (Some(9), 2), "`most` needs a closed loop with one thread"),
            (|plan| plan.window = 1, "windows of 1 ns are more than 1000000 for this duration"),
            (
                |plan| plan.duration = u64::MAX,
                "warm-up, duration and timeout together are longer than a week",
            ),
            (
                |plan| plan.pace = Pace::Open { rate: f64::NAN },
                "NaN requests per second is not between 0.001 and 1000000000",
            ),
            (
                |plan| plan.pace = Pace::Open { rate: 0.0 },
                "0 requests per second is not between 0.001 and 1000000000",
            ),
            (|plan| plan.requests.clear(), "there is no request"),
            (|plan| plan.requests[0].weight = 0, "no request has a weight above 0"),
            (
                |plan| plan.requests[0].path = "/a b".to_owned(),
                "the path `/a b` has characters that cannot stand in a request",
            ),
            (
                |plan| plan.requests[0].headers = vec![("a".to_owned(), "b\r\nc: d".to_owned())],
                "the header value `b\r\nc: d` has characters that cannot stand in a request",
            ),
            (
                |plan| plan.requests[0].headers = vec![("Content-Length".to_owned(), "3".to_owned())],
                "the header `Content-Length` is the generator's to set",
            ),
            (
                |plan| (plan.keep_alive, plan.depth) = (false, 2),
                "2 requests at a time on a connection that is closed after one",
            ),
        ];
        for (change, expected) in cases {
            let mut plan = Plan::new("127.0.0.1:80", "/");
            assert_eq!(plan.check(), Ok(()));
            change(&mut plan);
            assert_eq!(plan.check().unwrap_err().to_string(), expected);
        }
    }
}
