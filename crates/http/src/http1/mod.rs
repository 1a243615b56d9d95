//! HTTP/1.1 on one connection.
//!
//! A connection waits for its socket first and takes buffers from its worker then, and gives them back as
//! soon as nothing is left in them: ten thousand idle connections have none. Answers to pipelined requests
//! are collected and sent at once; when a client does not read them, nothing more is read from it.
//!
//! What decides where a request ends is in [`head`] and [`chunked`](crate::chunked), and nothing of it is
//! lenient.

mod transport;

use std::ops::Range;
use std::sync::Arc;

use tokio::net::TcpStream;
use transport::Filled;

use crate::buffers::Buffers;
use crate::chunked::{Chunked, Piece};
use crate::engine::Phase;
use crate::handler::{Block, Handler, Plan, Request};
use crate::head::{self, Framing, Refusal};
use crate::pace::Pace;
use crate::response::{AFTER_HEAD, Body, OCTETS, Persistence, Response, write_head};
use crate::see_off::{OVERLOADED, see_off};
use crate::worker::Seat;

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
pub(crate) async fn serve<H: Handler>(stream: TcpStream, seat: Seat, handler: Arc<H>) {
    let mut connection = Connection {
        stream,
        seat,
        buffers: None,
        stash: Vec::new(),
        #[cfg(feature = "h2")]
        first: true,
    };
    let Err(end) = connection.run(&*handler).await;
    connection.release();
    let worker = Arc::clone(&connection.seat.worker);
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
            crate::h2::serve(stream, seat, stash, handler).await;
        }
    }
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

/// What an answer needs to know of its request.
#[derive(Clone, Copy)]
struct Exchange {
    with_body: bool,
    keep_alive: bool,
    http_1_1: bool,
    expects_continue: bool,
}

/// What is next, as far as that can be told without waiting.
enum Next<'a, T> {
    /// An answer has been written, or nothing happened but reading.
    Again,
    /// The head is not whole.
    More,
    /// There is no room for another answer.
    Flush,
    /// Something that takes time, or a body to read first.
    Slow(Exchange, Plan<'a, T>, Framing),
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
    async fn run<H: Handler>(&mut self, handler: &H) -> Step<std::convert::Infallible> {
        let live = &self.seat.worker.engine.live;
        let now = self.seat.worker.now();
        // The head is due from the moment a client has connected, and later from its first byte.
        let mut head_due = Some(now.saturating_add(live.header_timeout()));
        loop {
            let next = match &mut self.buffers {
                Some(_) => self.next(handler),
                None => Next::More,
            };
            match next {
                Next::Again => head_due = None,
                Next::Flush => self.flush().await?,
                Next::More => {
                    let live = &self.seat.worker.engine.live;
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
                Next::Slow(exchange, plan, framing) => {
                    head_due = None;
                    self.slow(exchange, plan, framing, handler).await?;
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
    fn next<'a, H: Handler>(&mut self, handler: &'a H) -> Next<'a, H::Task> {
        let worker = &self.seat.worker;
        let engine = &worker.engine;
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
        let limit = engine.live.head_limit();
        let (head, length) = match head::parse(unread, limit) {
            Ok(Some(found)) => found,
            Ok(None) => return Next::More,
            Err(refusal) => return Next::Refuse(refusal),
        };
        let plan = handler.plan(&Request::of_head(&head));
        let exchange = Exchange {
            with_body: head.method != "HEAD",
            keep_alive: head.keep_alive,
            http_1_1: head.http_1_1,
            expects_continue: head.expects_continue,
        };
        let prepared = match plan {
            Plan::Prepared(prepared) if head.framing == Framing::Length(0) => prepared,
            plan => {
                let framing = head.framing;
                #[cfg(feature = "h2")]
                {
                    self.first = false;
                }
                buffers.start += length;
                return Next::Slow(exchange, plan, framing);
            }
        };
        if buffers.room() < prepared.room() {
            if !buffers.output.is_empty() {
                return Next::Flush;
            }
            // It is longer than any buffer, and sent in pieces.
            #[cfg(feature = "h2")]
            {
                self.first = false;
            }
            buffers.start += length;
            return Next::Slow(exchange, Plan::Prepared(prepared), Framing::Length(0));
        }
        #[cfg(feature = "h2")]
        {
            self.first = false;
        }
        buffers.start += length;
        // The last answer to what a client has sent in one go asks it to close, not one before.
        let ends = !exchange.keep_alive || (engine.phase() >= Phase::Draining && buffers.unread().is_empty());
        let persistence = persistence(exchange, ends);
        prepared.write(&mut buffers.output, &buffers.date, persistence, exchange.with_body);
        worker.counters.answered(prepared.status());
        if ends { Next::Last(exchange.keep_alive || !buffers.unread().is_empty()) } else { Next::Again }
    }

    /// Everything that a plaintext request does not need.
    async fn slow<H: Handler>(
        &mut self,
        exchange: Exchange,
        plan: Plan<'_, H::Task>,
        framing: Framing,
        handler: &H,
    ) -> Step {
        let live = &self.seat.worker.engine.live;
        let mut body = Incoming {
            framing,
            chunked: Chunked::default(),
            total: 0,
            pace: Pace { start: self.seat.worker.now(), grace: live.body_timeout(), bytes: 0 },
            expects_continue: exchange.expects_continue,
            ended: framing == Framing::Length(0),
        };
        if let Framing::Length(length) = framing
            && length > live.body_limit()
        {
            return self.refuse(Refusal::BodyTooLarge, None).await;
        }
        if matches!(plan, Plan::Echo) {
            self.echo(exchange, &mut body).await?;
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
            let exchange = Exchange { keep_alive: exchange.keep_alive && !unwanted, ..exchange };
            self.carry_out(exchange, plan, handler).await?;
        }
        Ok(())
    }

    async fn carry_out<H: Handler>(
        &mut self,
        exchange: Exchange,
        plan: Plan<'_, H::Task>,
        handler: &H,
    ) -> Step {
        match plan {
            Plan::Prepared(prepared) => self.respond(exchange, prepared.response()).await,
            Plan::Respond(response) => self.respond(exchange, &response).await,
            Plan::Repeat(block, length) => self.repeat(exchange, block, length).await,
            Plan::Task(task) => {
                let response = handler.perform(task).await;
                self.respond(exchange, &response).await
            }
            Plan::LongTask(task) => {
                self.flush().await?;
                self.release_if_empty();
                let response = handler.perform(task).await;
                self.respond(exchange, &response).await
            }
            // Its body is read by what answers it.
            Plan::Echo => Ok(()),
        }
    }

    /// Sends an answer that is known as a whole.
    async fn respond(&mut self, exchange: Exchange, response: &Response) -> Step {
        let body = response.body.bytes();
        self.begin(exchange, response, Some(body.len() as u64)).await?;
        if exchange.with_body && response.status != 304 {
            self.write(body).await?;
        }
        self.end(exchange).await
    }

    async fn repeat(&mut self, exchange: Exchange, block: &Block, length: u64) -> Step {
        let head = Response { content_type: OCTETS, ..Response::text(200, "") };
        self.begin(exchange, &head, Some(length)).await?;
        let mut left = if exchange.with_body { length } else { 0 };
        while left > 0 {
            // It fits: it is no longer than the block.
            let length = left.min(block.len() as u64) as usize;
            self.write(&block[..length]).await?;
            left -= length as u64;
        }
        self.end(exchange).await
    }

    /// Sends a body back as it comes.
    async fn echo(&mut self, exchange: Exchange, body: &mut Incoming) -> Step {
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
        let begun = self.begin(exchange, &head, length).await?;
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
        self.end(exchange).await
    }

    /// Writes the head of an answer; tells where in the buffer it begins.
    async fn begin(&mut self, exchange: Exchange, response: &Response, length: Option<u64>) -> Step<usize> {
        self.have_buffers().await?;
        let draining = self.seat.worker.engine.phase() >= Phase::Draining;
        let ends = !exchange.keep_alive || (draining && !self.has_unread());
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
        write_head(&mut buffers.output, response, length, &buffers.date, persistence(exchange, ends));
        worker.counters.answered(response.status);
        Ok(begun)
    }

    /// Ends an answer, and the connection if it was the last one.
    async fn end(&mut self, exchange: Exchange) -> Step {
        let stays = self.seat.worker.engine.phase() < Phase::Draining || self.has_unread();
        if exchange.keep_alive && stays {
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
        let exchange = Exchange { with_body, keep_alive: false, http_1_1: true, expects_continue: false };
        self.respond(exchange, &response).await
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
        let limit = self.seat.worker.engine.live.body_limit();
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

fn persistence(exchange: Exchange, ends: bool) -> Persistence {
    match ends {
        true => Persistence::Close,
        false if exchange.http_1_1 => Persistence::Default,
        false => Persistence::KeepAlive,
    }
}
