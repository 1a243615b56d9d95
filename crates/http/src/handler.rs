//! What the engine asks the program that it serves.

use std::future::Future;
use std::io;

use crate::head::Head;
use crate::response::{Prepared, Response};

/// The program behind the engine: it plans the answer to each request.
///
/// A handler does not see bodies. They are read, bounded and thrown away before the answer is sent, unless the
/// plan is [`Plan::Echo`].
pub trait Handler: Send + Sync + 'static {
    /// What has to be done before an answer is known. [`std::convert::Infallible`] where nothing ever has.
    type Task: Send;

    /// Plans the answer. It is called once for each request, on the worker's thread, and must not block.
    fn plan(&self, request: &Request<'_>) -> Plan<'_, Self::Task>;

    /// Carries out what [`Plan::Task`] and [`Plan::LongTask`] hold.
    fn perform(&self, task: Self::Task) -> impl Future<Output = Response> + Send;

    /// A worker cannot accept connections for now: said once until it can again.
    fn accept_failed(&self, error: &io::Error) {
        let _ = error;
    }
}

/// What a body of repeated bytes is made of.
pub type Block = [u8; 4 << 10];

/// How a request is answered.
#[derive(Debug)]
pub enum Plan<'a, T> {
    /// With what is always the same.
    Prepared(&'a Prepared),
    /// With what is made for this request.
    Respond(Box<Response>),
    /// With its own body, as it comes.
    Echo,
    /// With so many bytes of a block, over and over.
    Repeat(&'static Block, u64),
    /// With what [`Handler::perform`] makes, mostly without waiting.
    Task(T),
    /// The same, but it takes time: what was answered before is sent first, and the connection holds no
    /// buffers meanwhile.
    LongTask(T),
}

/// What a handler sees of a request.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The method, which is case-sensitive.
    pub method: &'a str,
    /// The path of the target, without its query; `*` for `OPTIONS *`.
    pub path: &'a str,
    fields: Fields<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Fields<'a> {
    Head(&'a Head<'a>),
    #[cfg(feature = "h2")]
    Map(&'a http::HeaderMap),
}

impl<'a> Request<'a> {
    pub(crate) fn of_head(head: &'a Head<'a>) -> Self {
        Self { method: head.method, path: head.path, fields: Fields::Head(head) }
    }

    #[cfg(feature = "h2")]
    pub(crate) fn of_parts(parts: &'a http::request::Parts) -> Self {
        Self { method: parts.method.as_str(), path: parts.uri.path(), fields: Fields::Map(&parts.headers) }
    }

    /// `Accept-Encoding`, if there is exactly one.
    #[must_use]
    pub fn accept_encoding(&self) -> Option<&'a [u8]> {
        match self.fields {
            Fields::Head(head) => head.accept_encoding,
            #[cfg(feature = "h2")]
            Fields::Map(map) => once(map, &http::header::ACCEPT_ENCODING),
        }
    }

    /// `If-None-Match`, if there is exactly one.
    #[must_use]
    pub fn if_none_match(&self) -> Option<&'a [u8]> {
        match self.fields {
            Fields::Head(head) => head.if_none_match,
            #[cfg(feature = "h2")]
            Fields::Map(map) => once(map, &http::header::IF_NONE_MATCH),
        }
    }
}

#[cfg(feature = "h2")]
fn once<'a>(map: &'a http::HeaderMap, name: &http::HeaderName) -> Option<&'a [u8]> {
    let mut values = map.get_all(name).iter();
    values.next().filter(|_| values.next().is_none()).map(http::HeaderValue::as_bytes)
}
