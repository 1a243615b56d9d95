//! HTTP/2 without TLS on the port of HTTP/1.1, for clients that know beforehand (RFC 9113, 3.3).
//!
//! hyper and h2 do the protocol. What a client may make the server do is bounded here: streams, fields,
//! windows, resets of streams that nobody has looked at yet (CVE-2023-44487), fields that are spread over
//! CONTINUATION frames, which count against the size of the head, what open streams hold in memory, and how
//! long an answer may go without being read.

use std::convert::Infallible;
use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, DATE};
use http::{HeaderName, HeaderValue, StatusCode};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::buffers::BUFFER;
use crate::engine::Phase;
use crate::handler::{Block, Handler, Plan, Request};
use crate::pace::Pace;
use crate::response::{self, OCTETS, Response};
use crate::see_off::see_off;
use crate::worker::{Pulse, Seat, Worker};

/// What a client begins with (RFC 9113, 3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Whether a connection begins with a line that nothing which speaks HTTP/1 sends: three words of which the
/// last is no version. It is taken for a wrong preface, which ends the connection without an answer
/// (RFC 9113, 3.4), since one of HTTP/1.1 would be taken for a frame.
pub(crate) fn is_wrong_preface(start: &[u8]) -> bool {
    let Some(end) = start.windows(2).position(|pair| pair == b"\r\n") else {
        return false;
    };
    let mut words = start[..end].split(|byte| *byte == b' ');
    let (Some(_), Some(_), Some(version), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return false;
    };
    !version.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"HTTP/"))
}

/// Streams at a time, more wait at the client: "no smaller than 100" is recommended (RFC 9113, 6.5.2).
const STREAMS: u32 = 100;
/// Streams that a client may reset before anybody has looked at them, until the connection ends.
const UNSEEN_RESETS: usize = 20;
/// Streams that are reset for the client's errors, until the connection ends.
const ERROR_RESETS: usize = 256;
/// Bytes that a client may send ahead, for each stream and for all.
const WINDOW: u32 = 64 << 10;
/// Bytes of an answer that are ready to be sent, for each stream.
const AHEAD: usize = BUFFER;
/// What a stream holds at most that has a body or an answer of its own: its head, and as much of the answer.
const STREAM_HOLDS: usize = 2 * BUFFER;
/// What a connection holds beside its streams: the bytes that were sent ahead.
const CONNECTION_HOLDS: usize = WINDOW as usize;
/// A ping after a minute without frames, and ten seconds for the answer, as with keep-alive of the socket.
const PING: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(10));

/// What the streams of a connection share.
struct Shared<H> {
    worker: Arc<Worker>,
    handler: Arc<H>,
    pulse: Arc<Pulse>,
    /// Requests that are not answered yet, or not to their end.
    streams: AtomicUsize,
    /// Those of which the answer has not begun.
    waiting: AtomicUsize,
}

impl<H> Shared<H> {
    /// Something has happened: the next has to within the time.
    fn moved(&self) {
        let live = &self.worker.engine.live;
        let time = if self.waiting.load(Ordering::Relaxed) > 0 {
            // How long an answer may take to begin is bounded by what it is.
            u64::MAX
        } else if self.streams.load(Ordering::Relaxed) > 0 {
            live.write_timeout()
        } else {
            live.idle_timeout()
        };
        self.pulse.set_deadline(self.worker.now().saturating_add(time));
    }
}

/// A request until its answer has been sent.
struct Stream<H> {
    shared: Arc<Shared<H>>,
    /// Bytes that are counted for it.
    held: usize,
    waits: bool,
    pace: Pace,
}

impl<H> Stream<H> {
    fn new(shared: &Arc<Shared<H>>) -> Self {
        shared.streams.fetch_add(1, Ordering::Relaxed);
        shared.waiting.fetch_add(1, Ordering::Relaxed);
        shared.moved();
        let worker = &shared.worker;
        let pace = Pace { start: worker.now(), grace: worker.engine.live.write_timeout(), bytes: 0 };
        Self { shared: Arc::clone(shared), held: 0, waits: true, pace }
    }

    /// Counts what it holds; false when that is more than there is.
    fn hold(&mut self) -> bool {
        self.held = STREAM_HOLDS;
        self.shared.worker.stash(self.held)
    }

    /// Its answer begins.
    fn answers(&mut self) {
        if std::mem::take(&mut self.waits) {
            self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
            self.pace.start = self.shared.worker.now();
            self.shared.moved();
        }
    }

    /// The client has taken what was sent before, and takes so many bytes more; false when it is too slow.
    fn sends(&mut self, bytes: usize) -> bool {
        self.shared.moved();
        let in_time = self.shared.worker.now() <= self.pace.deadline();
        self.pace.bytes += bytes as u64;
        in_time
    }
}

impl<H> Drop for Stream<H> {
    fn drop(&mut self) {
        self.answers();
        self.shared.worker.unstash(self.held);
        self.shared.streams.fetch_sub(1, Ordering::Relaxed);
        self.shared.moved();
    }
}

/// What a connection hears for which there is no memory: SETTINGS, with which a server begins, and GOAWAY with
/// ENHANCE_YOUR_CALM and no stream looked at, so that all may be sent again elsewhere (RFC 9113, 3.4, 6.8, 7).
const OVERLOADED: &[u8] = b"\0\0\0\x04\0\0\0\0\0\
    \0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x0b";

/// Serves a connection that has begun with the preface, of which `read` has been read.
pub(crate) async fn serve<H: Handler>(stream: TcpStream, seat: Seat, read: Vec<u8>, handler: Arc<H>) {
    if seat.worker.stash(CONNECTION_HOLDS) {
        connection(stream, &seat, read, handler).await;
    } else {
        refuse(&stream, &seat.worker).await;
    }
    seat.worker.unstash(CONNECTION_HOLDS);
}

async fn refuse(stream: &TcpStream, worker: &Worker) {
    worker.counters.refused.add(1);
    // A new socket's buffer has room for it; who has gone need not hear it.
    if stream.try_write(OVERLOADED).is_ok() {
        see_off(stream).await;
    }
}

async fn connection<H: Handler>(stream: TcpStream, seat: &Seat, read: Vec<u8>, handler: Arc<H>) {
    let (worker, pulse) = (&seat.worker, &seat.pulse);
    let engine = &worker.engine;
    let shared = Arc::new(Shared {
        worker: Arc::clone(worker),
        handler,
        pulse: Arc::clone(pulse),
        streams: AtomicUsize::new(0),
        waiting: AtomicUsize::new(0),
    });
    shared.moved();
    let answer = service_fn(|request| {
        let stream = Stream::new(&shared);
        async move { Ok::<_, Infallible>(answer(request, stream).await) }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_pending_accept_reset_streams(UNSEEN_RESETS)
        .max_local_error_reset_streams(ERROR_RESETS)
        .max_header_list_size(u32::try_from(engine.live.head_limit()).unwrap_or(u32::MAX))
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_send_buf_size(AHEAD)
        .keep_alive_interval(PING.0)
        .keep_alive_timeout(PING.1)
        .serve_connection(TokioIo::new(Rewound { read, at: 0, stream, worker: Arc::clone(worker) }), answer);
    let mut connection = pin!(connection);
    let (mut told, mut expired) = (false, false);
    poll_fn(|context| {
        pulse.know(context.waker());
        if pulse.is_expired() {
            if expired {
                // It has had its time to end well.
                return Poll::Ready(());
            }
            expired = true;
            pulse.set_deadline(worker.now().saturating_add(engine.live.write_timeout()));
        }
        if !told && (expired || engine.phase() >= Phase::Draining) {
            // It sends GOAWAY, and ends with the last stream.
            connection.as_mut().graceful_shutdown();
            told = true;
        }
        // An error is the client's: it went away, or broke the protocol and has been told by hyper.
        connection.as_mut().poll(context).map(|_| ())
    })
    .await;
}

async fn answer<H: Handler>(
    request: http::Request<Incoming>,
    mut stream: Stream<H>,
) -> http::Response<Sent<H>> {
    let shared = Arc::clone(&stream.shared);
    let live = &shared.worker.engine.live;
    let (request, mut body) = request.into_parts();
    let plan = shared.handler.plan(&Request::of_parts(&request));
    let with_body = request.method != http::Method::HEAD;
    let respond = |response: Response, stream: Stream<H>| {
        let length = response.body.bytes().len() as u64;
        let empty = !with_body || response.status == 304 || length == 0;
        let body = match &response.body {
            _ if empty => Bytes::new(),
            response::Body::Static(bytes) => Bytes::from_static(bytes),
            response::Body::Owned(bytes) => Bytes::copy_from_slice(bytes),
            response::Body::Shared(bytes) => Bytes::from_owner(Arc::clone(bytes)),
        };
        head(response, Some(length), Content::Whole(Some(body).filter(|body| !body.is_empty())), stream)
    };
    // Who waits to be told to send it sends it after a while (RFC 9110, 10.1.1), and some who are answered
    // before they have sent all of it take the end of the stream for that of the answer.
    let comes = !body.is_end_stream();
    let holds = comes || matches!(plan, Plan::Echo | Plan::Respond(_));
    if holds && !stream.hold() {
        return respond(Response::text(503, "overloaded\n").with("Retry-After", "1"), stream);
    }
    if !matches!(plan, Plan::Echo) && comes {
        let time = Duration::from_millis(live.body_timeout());
        let status = match timeout(time, discard(&mut body, live.body_limit())).await {
            Ok(Ok(())) => None,
            Ok(Err(status)) => Some(status),
            Err(_) => Some(408),
        };
        if let Some(status) = status {
            return respond(Response::text(status, ""), stream);
        }
    }
    match plan {
        Plan::Prepared(prepared) => respond(prepared.response().clone(), stream),
        Plan::Respond(response) => respond(*response, stream),
        Plan::Repeat(block, length) => {
            let left = if with_body { length } else { 0 };
            head(octets(), Some(length), Content::Repeat(block, left), stream)
        }
        Plan::Task(task) | Plan::LongTask(task) => respond(shared.handler.perform(task).await, stream),
        Plan::Echo => {
            let limit = live.body_limit();
            let length = body.size_hint().exact();
            if length.is_some_and(|length| length > limit) {
                return respond(Response::text(413, ""), stream);
            }
            head(octets(), length, Content::Echo(body, limit), stream)
        }
    }
}

/// Reads a body that nobody wants, so that what is wrong with it is seen before the request is answered.
async fn discard(body: &mut Incoming, limit: u64) -> Result<(), u16> {
    let mut total = 0;
    while let Some(frame) = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await {
        // h2 has reset the stream already; the answer goes nowhere.
        let frame = frame.map_err(|_| 400_u16)?;
        total += frame.data_ref().map_or(0, |data| data.len() as u64);
        if total > limit {
            return Err(413);
        }
    }
    Ok(())
}

fn octets() -> Response {
    Response { content_type: OCTETS, ..Response::text(200, "") }
}

fn head<H>(
    response: Response,
    length: Option<u64>,
    content: Content,
    stream: Stream<H>,
) -> http::Response<Sent<H>> {
    let worker = Arc::clone(&stream.shared.worker);
    worker.counters.answered(response.status);
    let mut answer = http::Response::new(Sent::new(content, stream));
    *answer.status_mut() = StatusCode::from_u16(response.status).unwrap_or_default();
    let fields = answer.headers_mut();
    if !response.content_type.is_empty() {
        fields.insert(CONTENT_TYPE, HeaderValue::from_static(response.content_type));
    }
    if let Some(length) = length.filter(|_| response.status != 304) {
        fields.insert(CONTENT_LENGTH, length.into());
    }
    if let Ok(date) = HeaderValue::from_bytes(&worker.date()) {
        fields.insert(DATE, date);
    }
    for (name, value) in response.fields {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::try_from(value))
        {
            fields.insert(name, value);
        }
    }
    answer
}

/// The body of an answer.
struct Sent<H> {
    content: Content,
    stream: Stream<H>,
}

enum Content {
    Whole(Option<Bytes>),
    /// So many bytes of a block.
    Repeat(&'static Block, u64),
    /// What comes, as long as it is no more than this.
    Echo(Incoming, u64),
}

impl<H> Sent<H> {
    fn new(content: Content, mut stream: Stream<H>) -> Self {
        stream.answers();
        Self { content, stream }
    }
}

impl Content {
    fn next(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        match self {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(Ok)),
            Self::Repeat(_, 0) => Poll::Ready(None),
            Self::Repeat(block, left) => {
                // It fits: it is no longer than the block.
                let length = (*left).min(block.len() as u64) as usize;
                *left -= length as u64;
                Poll::Ready(Some(Ok(Bytes::from_static(&block[..length]))))
            }
            Self::Echo(body, left) => loop {
                let frame = match Pin::new(&mut *body).poll_frame(context) {
                    Poll::Ready(Some(Ok(frame))) => frame,
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(io::Error::other(error)))),
                    Poll::Ready(None) => return Poll::Ready(None),
                    Poll::Pending => return Poll::Pending,
                };
                // Trailers are not sent back.
                let Ok(data) = frame.into_data() else {
                    continue;
                };
                let Some(rest) = left.checked_sub(data.len() as u64) else {
                    let error = io::Error::new(io::ErrorKind::FileTooLarge, "the body is too long");
                    return Poll::Ready(Some(Err(error)));
                };
                *left = rest;
                return Poll::Ready(Some(Ok(data)));
            },
        }
    }
}

impl<H> Body for Sent<H> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let Self { content, stream } = self.get_mut();
        content.next(context).map(|next| {
            next.map(|data| {
                let data = data?;
                if stream.sends(data.len()) {
                    Ok(Frame::data(data))
                } else {
                    Err(io::ErrorKind::TimedOut.into())
                }
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Whole(bytes) => bytes.is_none(),
            Content::Repeat(_, left) => *left == 0,
            Content::Echo(body, _) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |it| it.len() as u64)),
            Content::Repeat(_, left) => SizeHint::with_exact(*left),
            Content::Echo(body, _) => body.size_hint(),
        }
    }
}

/// A socket from which the start has been read already.
struct Rewound {
    read: Vec<u8>,
    at: usize,
    stream: TcpStream,
    /// Which counts the bytes.
    worker: Arc<Worker>,
}

impl Rewound {
    fn count(&self, sent: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(count)) = sent {
            self.worker.counters.sent.add(*count as u64);
        }
    }
}

impl AsyncRead for Rewound {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        target: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.at < self.read.len() {
            let length = target.remaining().min(self.read.len() - self.at);
            target.put_slice(&self.read[self.at..self.at + length]);
            self.at += length;
            if self.at == self.read.len() {
                self.read = Vec::new();
                self.at = 0;
            }
            return Poll::Ready(Ok(()));
        }
        let before = target.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, target);
        self.worker.counters.received.add((target.filled().len() - before) as u64);
        read
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.count(&sent);
        sent
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.count(&sent);
        sent
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_preface_is_three_words_without_a_version() {
        for (start, expected) in [
            ("INVALID CONNECTION PREFACE\r\n\r\n", true),
            ("PRI * SPDY/3\r\n", true),
            ("GET / HTTP/1.1\r\n", false),
            ("GET / http/1.1\r\n", false),
            ("GET / HTTP/3.0\r\n", false),
            ("GET /\r\n", false),
            ("GET  / HTTP/1.1\r\n", false),
            ("GET / HTTP/1.1 \r\n", false),
            ("INVALID CONNECTION PREF", false),
        ] {
            assert_eq!(is_wrong_preface(start.as_bytes()), expected, "{start:?}");
        }
    }
}
