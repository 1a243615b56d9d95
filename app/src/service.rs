//! The answer to one request. No sockets and no clock: a request and whether the server is stopping go in,
//! a response comes out.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Version};

pub(crate) type Answer = Response<Full<Bytes>>;

/// Answers `request`. While `draining`, `/ready` says so and every answer asks the client to close its
/// connection.
pub(crate) fn answer<B>(request: &Request<B>, draining: bool) -> Answer {
    let mut answer = route(request, draining);
    if draining {
        let close = HeaderValue::from_static("close");
        answer.headers_mut().insert(CONNECTION, close);
    }
    answer
}

fn route<B>(request: &Request<B>, draining: bool) -> Answer {
    if !names_one_host(request) {
        return text(StatusCode::BAD_REQUEST, "bad request\n");
    }
    let (status, body) = match request.uri().path() {
        "/" => (StatusCode::OK, "Hello from tare\n"),
        "/health" => (StatusCode::OK, "ok\n"),
        "/ready" if draining => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        "/ready" => (StatusCode::OK, "ready\n"),
        _ => return text(StatusCode::NOT_FOUND, "not found\n"),
    };
    // hyper leaves the body of an answer to HEAD out, and keeps its length.
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refusal = text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n");
        let allowed = HeaderValue::from_static("GET, HEAD");
        refusal.headers_mut().insert(ALLOW, allowed);
        return refusal;
    }
    text(status, body)
}

/// RFC 9112, 3.2: a request of HTTP/1.1 without a Host field, and any request with two, is answered 400.
/// hyper leaves that to the service.
fn names_one_host<B>(request: &Request<B>) -> bool {
    match request.headers().get_all(HOST).iter().count() {
        0 => request.version() < Version::HTTP_11,
        1 => true,
        _ => false,
    }
}

fn text(status: StatusCode, body: &'static str) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from_static(body.as_bytes())));
    *answer.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(CONTENT_TYPE, plain);
    answer
}
