//! HTTP/1.1 on one connection.
//!
//! A connection waits for its socket first and takes buffers from its worker then, and gives them back as
//! soon as nothing is left in them: ten thousand idle connections have none. Answers to pipelined requests
//! are collected and sent at once; when a client does not read them, nothing more is read from it.
//!
//! What decides where a request ends is in [`tare_http::head`] and [`tare_http::chunked`], and nothing of it is
//! lenient.

pub(crate) mod answer;
mod transport;

use std::io;
use std::ops::Range;
use std::time::Duration;

use tokio::net::TcpStream;

pub(crate) use answer::Prepared;
use answer::{AFTER_HEAD, Persistence, write_head};
use chunked::{Chunked, Piece};
use head::{Framing, Head, Refusal};
use tare_http::{chunked, head};
use transport::Filled;
pub(crate) use transport::Pace;

use crate::cache::Accepts;
use crate::server::Phase;
use crate::service::{self, Allocation, Body, OCTETS, Plan, Response, Which};
use crate::worker::{Buffers, Seat, race};

/// What a connection hears for which there is no room, before anything is read from it.
pub(crate) const OVERLOADED: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 1\r\nConnection: close\r\n\r\n";

/// "The server could wait for the client to close": RFC 9112, 9.6. So long and for so many bytes, or data
/// that is still on its way makes the kernel reset the connection, and the last answer is lost with it.
const SEE_OFF: (Duration, usize) = (Duration::from_secs(1), 256 << 10);

/// Bytes that `/bytes/N` is made of: lines of 64.
pub(crate) static BLOCK: [u8; 4 << 10] = {
    let mut block = [b'.'; 4 << 10];
    let mut at = 63;
    while at < block.len() {
        block[at] = b'\n';
        at += 64;
    }
    block
};

/// How a connection ends.
enum End {
    /// The client has gone, or everything is said and nothing unread.
    Closed,
    /// The last answer is out, and the client may still be sending.
    SeeOff,
    /// What was begun cannot be finished. The client sees that from the missing rest.
    Abort,
    /// It speaks HTTP/2.
    #[cfg(feature = "h2")]
    Http2,
}

type Step<T = ()> = Result<T, End>;

/// Serves a connection until it ends.
pub(crate) async fn serve(stream: TcpStream, seat: Seat) {
    let mut connection = Connection {
        stream,
        seat,
        buffers: None,
        stash: Vec::new(),
        #[cfg(feature = "h2")]
        first: true,
    };
    let Err(end) = connection.run().await;
    connection.release();
    let worker = std::sync::Arc::clone(&connection.seat.worker);
    worker.unstash(connection.stash.len());
    match end {
        End::Closed => {}
        // A reset tells the client that the answer it has is not whole.
        End::Abort => {
            let _ = connection.stream.set_zero_linger();
        }
        End::SeeOff => see_off(&connection.stream).await,
        #[cfg(feature = "h2")]
        End::Http2 => {
            let Connection { stream, seat, stash, .. } = connection;
            crate::h2::serve(stream, seat, stash).await;
        }
    }
}

/// Closes the sending side, and reads what still comes for a while.
pub(crate) async fn see_off(stream: &TcpStream) {
    let (time, mut bytes) = SEE_OFF;
    if socket2::SockRef::from(stream).shutdown(std::net::Shutdown::Write).is_err() {
        return;
    }
    let drain = async {
        let mut scrap = [0; 512];
        while stream.readable().await.is_ok() {
            match stream.try_read(&mut scrap) {
                Ok(0) => return,
                Ok(count) if count < bytes => bytes -= count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                _ => return,
            }
        }
    };
    race(drain, tokio::time::sleep(time)).await;
}

struct Connection {
    stream: TcpStream,
    seat: Seat,
    /// Only while there is something in them, or about to be.
    buffers: Option<Box<Buffers>>,
    /// What a slow client has sent of a request.
    stash: Vec<u8>,
    /// Nothing has been answered yet.
    #[cfg(feature = "h2")]
    first: bool,
}

/// What a request needs beside its plan.
#[derive(Clone, Copy)]
struct Request {
    with_body: bool,
    keep_alive: bool,
    http_1_1: bool,
    expects_continue: bool,
}

/// What is next, as far as that can be told without waiting.
enum Next {
    /// An answer has been written, or nothing happened but reading.
    Again,
    /// The head is not whole.
    More,
    /// There is no room for another answer.
    Flush,
    /// Something that takes time, or a body to read first.
    Slow(Request, Plan, Framing, Accepts),
    Refuse(Refusal),
    /// The last answer is written; true if more may come from the client.
    Last(bool),
    #[cfg(feature = "h2")]
    Http2,
    /// It speaks no protocol of ours.
    #[cfg(feature = "h2")]
    Nothing,
}

/// The body of the request in hand.
struct Incoming {
    framing: Framing,
    chunked: Chunked,
    /// Bytes of it so far.
    total: u64,
    pace: Pace,
    expects_continue: bool,
    ended: bool,
}

impl Connection {
    async fn run(&mut self) -> Step<std::convert::Infallible> {
        let live = &self.seat.worker.server.live;
        let now = self.seat.worker.now();
        // The head is due from the moment a client has connected, and later from its first byte.
        let mut head_due = Some(now.saturating_add(live.header_timeout()));
        loop {
            let next = match &mut self.buffers {
                Some(_) => self.next(),
                None => Next::More,
            };
            match next {
                Next::Again => head_due = None,
                Next::Flush => self.flush().await?,
                Next::More => {
                    let live = &self.seat.worker.server.live;
                    let now = self.buffers.as_ref().map_or(now, |buffers| buffers.now);
                    let idle = self.buffers.as_ref().is_none_or(|it| it.unread().is_empty())
                        && self.stash.is_empty();
                    let deadline = match head_due {
                        Some(due) => due,
                        None if idle => now.saturating_add(live.idle_timeout()),
                        None => {
                            let due = now.saturating_add(live.header_timeout());
                            head_due = Some(due);
                            due
                        }
                    };
                    match self.fill(deadline, idle).await? {
                        Filled::Some => {}
                        Filled::Closed => return Err(End::Closed),
                        Filled::Expired if idle => return Err(End::Closed),
                        Filled::Expired => self.refuse(Refusal::Timeout, None).await?,
                        Filled::Full => self.refuse_without_buffers()?,
                    }
                }
                Next::Slow(request, plan, framing, accepts) => {
                    head_due = None;
                    self.slow(request, plan, framing, accepts).await?;
                }
                Next::Refuse(refusal) => self.refuse(refusal, None).await?,
                Next::Last(more) => {
                    self.flush().await?;
                    return Err(if more { End::SeeOff } else { End::Closed });
                }
                #[cfg(feature = "h2")]
                Next::Nothing => return Err(End::Closed),
                #[cfg(feature = "h2")]
                Next::Http2 => {
                    self.stash_away();
                    return Err(End::Http2);
                }
            }
        }
    }

    /// Serves what is there. Neither this nor what it calls waits: a plaintext request is read, answered and
    /// forgotten in one call.
    fn next(&mut self) -> Next {
        let worker = &self.seat.worker;
        let server = &worker.server;
        let Some(buffers) = &mut self.buffers else {
            return Next::More;
        };
        let unread = &buffers.input[buffers.start..buffers.end];
        if unread.is_empty() {
            return Next::More;
        }
        #[cfg(feature = "h2")]
        if self.first && unread.starts_with(&crate::h2::PREFACE[..unread.len().min(crate::h2::PREFACE.len())])
        {
            return if unread.len() < crate::h2::PREFACE.len() { Next::More } else { Next::Http2 };
        }
        #[cfg(feature = "h2")]
        if self.first && crate::h2::is_wrong_preface(unread) {
            return Next::Nothing;
        }
        let limit = server.live.head_limit();
        let (head, length) = match head::parse(unread, limit) {
            Ok(Some(found)) => found,
            Ok(None) => return Next::More,
            Err(refusal) => return Next::Refuse(refusal),
        };
        let plan = service::plan(head.method, head.path, server);
        let request = Request {
            with_body: head.method != "HEAD",
            keep_alive: head.keep_alive,
            http_1_1: head.http_1_1,
            expects_continue: head.expects_continue,
        };
        let (Plan::Prepared(which), Framing::Length(0)) = (&plan, head.framing) else {
            let accepts = accepts(&head, &plan);
            let framing = head.framing;
            #[cfg(feature = "h2")]
            {
                self.first = false;
            }
            buffers.start += length;
            return Next::Slow(request, plan, framing, accepts);
        };
        let prepared = &server.prepared[*which as usize];
        if buffers.room() < prepared.room() {
            return Next::Flush;
        }
        #[cfg(feature = "h2")]
        {
            self.first = false;
        }
        buffers.start += length;
        // The last answer to what a client has sent in one go asks it to close, not one before.
        let ends = !request.keep_alive || (server.phase() >= Phase::Draining && buffers.unread().is_empty());
        let persistence = persistence(request, ends);
        prepared.write(&mut buffers.output, &buffers.date, persistence, request.with_body);
        worker.counters.answered(prepared.status);
        if ends { Next::Last(request.keep_alive || !buffers.unread().is_empty()) } else { Next::Again }
    }

    /// Everything that a plaintext request does not need.
    async fn slow(&mut self, request: Request, plan: Plan, framing: Framing, accepts: Accepts) -> Step {
        let live = &self.seat.worker.server.live;
        let mut body = Incoming {
            framing,
            chunked: Chunked::default(),
            total: 0,
            pace: Pace { start: self.seat.worker.now(), grace: live.body_timeout(), bytes: 0 },
            expects_continue: request.expects_continue,
            ended: framing == Framing::Length(0),
        };
        if let Framing::Length(length) = framing
            && length > live.body_limit()
        {
            return self.refuse(Refusal::BodyTooLarge, None).await;
        }
        if matches!(plan, Plan::Echo) {
            self.echo(request, &mut body).await?;
        } else {
            // A client that waits to be told to send a body nobody wants is answered instead, and whether it
            // sends the body after all cannot be known: RFC 9110, 10.1.1.
            let unwanted = body.expects_continue;
            while !unwanted && !body.ended {
                match self.body(&mut body).await {
                    Ok(data) => self.consume(data.len()),
                    Err(Trouble::Refused(refusal)) => return self.refuse(refusal, None).await,
                    Err(Trouble::Ended(end)) => return Err(end),
                }
            }
            let request = Request { keep_alive: request.keep_alive && !unwanted, ..request };
            self.carry_out(request, plan, accepts).await?;
        }
        Ok(())
    }

    async fn carry_out(&mut self, request: Request, plan: Plan, accepts: Accepts) -> Step {
        match plan {
            Plan::Prepared(which) => self.respond(request, &which.response()).await,
            Plan::Respond(response) => self.respond(request, &response).await,
            Plan::Bytes(count) => self.send_bytes(request, count).await,
            Plan::Spin(time) => {
                self.flush().await?;
                self.release_if_empty();
                let mut left = time;
                while !left.is_zero() {
                    left = service::spin(left);
                    tokio::task::yield_now().await;
                }
                self.respond(request, &Response::text(200, "spun\n")).await
            }
            Plan::Alloc(bytes) => {
                let server = std::sync::Arc::clone(&self.seat.worker.server);
                let Some(mut allocation) = Allocation::reserve(&server, bytes) else {
                    return self.respond(request, &Which::OverBudget.response()).await;
                };
                while allocation.grow() {
                    tokio::task::yield_now().await;
                }
                let body = Body::Owned(format!("{} bytes touched\n", allocation.bytes()).into_bytes());
                let response = Response { body, ..Response::text(200, "") };
                self.respond(request, &response).await
            }
            Plan::File(name) => {
                let server = std::sync::Arc::clone(&self.seat.worker.server);
                let response = match &server.cache {
                    Some(cache) => cache.get(&name, &accepts).await,
                    None => Which::NotFound.response(),
                };
                self.respond(request, &response).await
            }
            // Its body is read by what answers it.
            Plan::Echo => Ok(()),
        }
    }

    /// Sends an answer that is known as a whole.
    async fn respond(&mut self, request: Request, response: &Response) -> Step {
        let body = response.body.bytes();
        self.begin(request, response, Some(body.len() as u64)).await?;
        if request.with_body && response.status != 304 {
            self.write(body).await?;
        }
        self.end(request).await
    }

    async fn send_bytes(&mut self, request: Request, count: u64) -> Step {
        let head = Response { content_type: OCTETS, ..Response::text(200, "") };
        self.begin(request, &head, Some(count)).await?;
        let mut left = if request.with_body { count } else { 0 };
        while left > 0 {
            // It fits: it is no longer than the block.
            let length = left.min(BLOCK.len() as u64) as usize;
            self.write(&BLOCK[..length]).await?;
            left -= length as u64;
        }
        self.end(request).await
    }

    /// Sends a body back as it comes.
    async fn echo(&mut self, request: Request, body: &mut Incoming) -> Step {
        let head = Response { content_type: OCTETS, ..Response::text(200, "") };
        let length = match body.framing {
            Framing::Length(length) => Some(length),
            Framing::Chunked => None,
        };
        if body.expects_continue {
            body.expects_continue = false;
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
            self.flush().await?;
        }
        let begun = self.begin(request, &head, length).await?;
        // Until something of it is on its way, the answer can still become another one.
        let mut begun = Some(begun);
        while !body.ended {
            if !self.has_unread() {
                begun = None;
                self.flush().await?;
            }
            let data = match self.body(body).await {
                Ok(data) => data,
                Err(Trouble::Refused(refusal)) if begun.is_some() => {
                    return self.refuse(refusal, begun).await;
                }
                Err(Trouble::Refused(_)) => return Err(End::Abort),
                Err(Trouble::Ended(end)) => return Err(end),
            };
            if data.is_empty() {
                self.consume(0);
                continue;
            }
            if length.is_none() {
                self.write(format!("{:x}\r\n", data.len()).as_bytes()).await?;
            }
            if self.copy(&data).await? {
                begun = None;
            }
            self.consume(data.len());
            if length.is_none() {
                self.write(b"\r\n").await?;
            }
        }
        if length.is_none() {
            self.write(b"0\r\n\r\n").await?;
        }
        self.end(request).await
    }

    /// Writes the head of an answer; tells where in the buffer it begins.
    async fn begin(&mut self, request: Request, response: &Response, length: Option<u64>) -> Step<usize> {
        self.have_buffers().await?;
        let draining = self.seat.worker.server.phase() >= Phase::Draining;
        let ends = !request.keep_alive || (draining && !self.has_unread());
        // Fields and their values are ours and short.
        const MOST: usize = 512 + AFTER_HEAD;
        if self.buffers.as_ref().is_none_or(|buffers| buffers.room() < MOST) {
            self.flush().await?;
        }
        let worker = &self.seat.worker;
        let Some(buffers) = &mut self.buffers else {
            return Err(End::Abort);
        };
        worker.refresh(buffers);
        let begun = buffers.output.len();
        write_head(&mut buffers.output, response, length, &buffers.date, persistence(request, ends));
        worker.counters.answered(response.status);
        Ok(begun)
    }

    /// Ends an answer, and the connection if it was the last one.
    async fn end(&mut self, request: Request) -> Step {
        let stays = self.seat.worker.server.phase() < Phase::Draining || self.has_unread();
        if request.keep_alive && stays {
            return Ok(());
        }
        self.flush().await?;
        Err(End::SeeOff)
    }

    /// Answers what cannot be served; the connection ends with it. `begun` is where an answer has been
    /// begun that is taken back.
    async fn refuse(&mut self, refusal: Refusal, begun: Option<usize>) -> Step {
        if self.buffers.is_none() && self.have_buffers().await.is_err() {
            return self.refuse_without_buffers();
        }
        if let (Some(begun), Some(buffers)) = (begun, &mut self.buffers) {
            buffers.output.truncate(begun);
        }
        let response = match refusal {
            Refusal::BadRequest => Response::text(400, "bad request\n"),
            Refusal::Overloaded => Response::text(503, "overloaded\n").with("Retry-After", "1"),
            _ => Response { body: Body::Static(b""), ..Response::text(refusal.status(), "") },
        };
        // Its head may not have been understood, and HEAD has no body whatever is wrong with it.
        let with_body = !self.buffers.as_ref().is_some_and(|it| it.unread().starts_with(b"HEAD "));
        let request = Request { with_body, keep_alive: false, http_1_1: true, expects_continue: false };
        self.respond(request, &response).await
    }

    /// Slow clients hold all memory that there is for them.
    fn refuse_without_buffers(&mut self) -> Step {
        self.seat.worker.counters.answered(503);
        let _ = self.stream.try_write(OVERLOADED);
        Err(End::SeeOff)
    }

    fn has_unread(&self) -> bool {
        self.buffers.as_ref().is_some_and(|buffers| !buffers.unread().is_empty()) || !self.stash.is_empty()
    }

    fn consume(&mut self, count: usize) {
        if let Some(buffers) = &mut self.buffers {
            buffers.start += count;
        }
    }

    /// The next bytes of a body, as a range of the input that begins at its start; empty when only framing
    /// came. The framing before it is consumed.
    async fn body(&mut self, body: &mut Incoming) -> Result<Range<usize>, Trouble> {
        if !self.has_unread() {
            match self.fill(body.pace.deadline(), false).await.map_err(Trouble::Ended)? {
                Filled::Some => {}
                Filled::Closed => return Err(Trouble::Ended(End::Closed)),
                Filled::Expired => return Err(Trouble::Refused(Refusal::Timeout)),
                Filled::Full => return Err(Trouble::Refused(Refusal::Overloaded)),
            }
        }
        self.have_buffers().await.map_err(Trouble::Ended)?;
        let limit = self.seat.worker.server.live.body_limit();
        let Some(buffers) = &mut self.buffers else {
            return Err(Trouble::Ended(End::Abort));
        };
        let there = buffers.end - buffers.start;
        let length = match body.framing {
            Framing::Length(length) => {
                let left = length - body.total;
                // It fits: it is no longer than what is there.
                let taken = left.min(there as u64) as usize;
                body.ended = taken as u64 == left;
                taken
            }
            Framing::Chunked => match body.chunked.read(buffers.unread()).map_err(Trouble::Refused)? {
                Piece::Framing(framing) => {
                    buffers.start += framing;
                    0
                }
                Piece::Data(framing, data) => {
                    buffers.start += framing;
                    data
                }
                Piece::End(framing) => {
                    buffers.start += framing;
                    body.ended = true;
                    0
                }
            },
        };
        body.total += length as u64;
        body.pace.bytes = body.total;
        // What a chunk announces need not be waited for.
        if body.total.saturating_add(body.chunked.left()) > limit {
            return Err(Trouble::Refused(Refusal::BodyTooLarge));
        }
        Ok(buffers.start..buffers.start + length)
    }
}

enum Trouble {
    /// The client is to be told.
    Refused(Refusal),
    Ended(End),
}

fn persistence(request: Request, ends: bool) -> Persistence {
    match ends {
        true => Persistence::Close,
        false if request.http_1_1 => Persistence::Default,
        false => Persistence::KeepAlive,
    }
}

/// Only a file has encodings and a tag.
fn accepts(head: &Head<'_>, plan: &Plan) -> Accepts {
    match plan {
        Plan::File(_) => Accepts::new(head.accept_encoding, head.if_none_match),
        _ => Accepts::default(),
    }
}
