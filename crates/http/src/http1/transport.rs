//! Bytes in and out of a connection: waiting, buffers, and clients that are too slow.

use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::Poll;

use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;

use super::{Connection, End, Step};
use crate::buffers::{BUFFER, Buffers};
use crate::pace::Pace;

/// What came of waiting for bytes.
pub(super) enum Filled {
    Some,
    /// By the client, or because the server stops.
    Closed,
    Expired,
    /// There is no memory for it.
    Full,
}

enum Waited {
    Ready,
    Expired,
    Closing,
}

impl Connection {
    /// Waits until there is something to read, and reads it. While it waits the connection has no buffers.
    pub(super) async fn fill(&mut self, deadline: u64, idle: bool) -> Step<Filled> {
        if !self.flush_at_once() {
            self.flush().await?;
        }
        self.seat.pulse.set_deadline(deadline);
        loop {
            match &mut self.buffers {
                // A request is longer than what has come of it so far.
                Some(buffers) if buffers.end == buffers.input.len() => {
                    let unread = buffers.start..buffers.end;
                    buffers.end -= buffers.start;
                    buffers.start = 0;
                    buffers.input.copy_within(unread, 0);
                    if buffers.end == buffers.input.len() {
                        return Ok(Filled::Full);
                    }
                }
                _ => {}
            }
            if !self.stash_away() {
                return Ok(Filled::Full);
            }
            match self.readable(idle).await {
                Waited::Ready => {}
                Waited::Expired => return Ok(Filled::Expired),
                Waited::Closing => return Ok(Filled::Closed),
            }
            let Some(mut buffers) = self.seat.worker.take() else {
                return Ok(Filled::Full);
            };
            if !self.stash.is_empty() {
                let stash = std::mem::take(&mut self.stash);
                self.seat.worker.unstash(stash.len());
                buffers.input[..stash.len()].copy_from_slice(&stash);
                buffers.end = stash.len();
            }
            let count = read(&mut self.stream, &mut buffers).await;
            self.buffers = Some(buffers);
            match count {
                Ok(Some(0)) | Err(_) => return Ok(Filled::Closed),
                Ok(Some(count)) => {
                    self.seat.worker.counters.received.add(count as u64);
                    return Ok(Filled::Some);
                }
                // The readiness was of something that has been read already.
                Ok(None) => {}
            }
        }
    }

    /// Waits for the socket, the deadline or, while idle, the end of the server.
    async fn readable(&self, idle: bool) -> Waited {
        poll_fn(|context| {
            let pulse = &self.seat.pulse;
            if pulse.is_expired() {
                return Poll::Ready(Waited::Expired);
            }
            if self.stream.poll_read_ready(context).is_ready() {
                // An error shows when it is read.
                return Poll::Ready(Waited::Ready);
            }
            if idle && self.seat.worker.is_closing() {
                return Poll::Ready(Waited::Closing);
            }
            pulse.know(context.waker());
            Poll::Pending
        })
        .await
    }

    /// Gives the buffers back, and keeps what is unread; false when slow clients have too much already. There
    /// is nothing left to send.
    pub(super) fn stash_away(&mut self) -> bool {
        let Some(buffers) = self.buffers.take() else {
            return true;
        };
        let fits = buffers.unread().is_empty() || {
            self.stash = buffers.unread().to_vec();
            self.seat.worker.stash(self.stash.len())
        };
        self.seat.worker.give(buffers);
        fits
    }

    pub(super) fn release(&mut self) {
        if let Some(buffers) = self.buffers.take() {
            self.seat.worker.give(buffers);
        }
    }

    pub(super) fn release_if_empty(&mut self) {
        if self.buffers.as_ref().is_some_and(|it| it.unread().is_empty() && it.output.is_empty()) {
            self.release();
        }
    }

    pub(super) async fn have_buffers(&mut self) -> Step {
        if self.buffers.is_none() {
            let Some(mut buffers) = self.seat.worker.take() else {
                return self.refuse_without_buffers();
            };
            let stash = std::mem::take(&mut self.stash);
            self.seat.worker.unstash(stash.len());
            buffers.input[..stash.len()].copy_from_slice(&stash);
            buffers.end = stash.len();
            self.buffers = Some(buffers);
        }
        Ok(())
    }

    /// Adds to what is sent: small pieces are collected, large ones go out from where they are.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Step {
        self.have_buffers().await?;
        if self.buffers.as_ref().is_some_and(|buffers| bytes.len() <= buffers.room()) {
            if let Some(buffers) = &mut self.buffers {
                buffers.output.extend_from_slice(bytes);
            }
            return Ok(());
        }
        self.flush().await?;
        if bytes.len() <= BUFFER / 4 {
            if let Some(buffers) = &mut self.buffers {
                buffers.output.extend_from_slice(bytes);
            }
            return Ok(());
        }
        let mut sent = 0;
        let mut pace = self.pace();
        while sent < bytes.len() {
            sent += self.send(&bytes[sent..], &mut pace).await?;
        }
        Ok(())
    }

    /// Copies a range of the input to what is sent; tells whether something had to be sent for that.
    pub(super) async fn copy(&mut self, range: &Range<usize>) -> Step<bool> {
        let mut copied = range.start;
        let mut sent = false;
        while copied < range.end {
            let Some(buffers) = &mut self.buffers else {
                return Err(End::Abort);
            };
            let length = (range.end - copied).min(buffers.room());
            let Buffers { input, output, .. } = &mut **buffers;
            output.extend_from_slice(&input[copied..copied + length]);
            copied += length;
            if copied < range.end {
                self.flush().await?;
                sent = true;
            }
        }
        Ok(sent)
    }

    fn pace(&self) -> Pace {
        let worker = &self.seat.worker;
        let now = self.buffers.as_ref().map_or_else(|| worker.now(), |buffers| buffers.now);
        Pace { start: now, grace: worker.engine.live.write_timeout(), bytes: 0 }
    }

    /// Sends what has been collected as far as the socket takes it at once; true if that is all of it. Nearly
    /// every answer is, and does not go through what can wait. What goes wrong [`Self::flush`] meets again.
    fn flush_at_once(&mut self) -> bool {
        let Some(buffers) = &mut self.buffers else { return true };
        if buffers.sent < buffers.output.len()
            && let Ok(count) = self.stream.try_write(&buffers.output[buffers.sent..])
        {
            buffers.sent += count;
            self.seat.worker.counters.sent.add(count as u64);
        }
        buffers.forget_sent()
    }

    /// Sends what has been collected.
    pub(super) async fn flush(&mut self) -> Step {
        let mut pace = self.pace();
        while let Some(mut buffers) = self.buffers.take() {
            if buffers.forget_sent() {
                self.buffers = Some(buffers);
                break;
            }
            let result = self.send(&buffers.output[buffers.sent..], &mut pace).await;
            buffers.sent += *result.as_ref().unwrap_or(&0);
            self.buffers = Some(buffers);
            result?;
        }
        Ok(())
    }

    /// Sends at least something.
    async fn send(&mut self, bytes: &[u8], pace: &mut Pace) -> Step<usize> {
        let pulse = &self.seat.pulse;
        let stream = &mut self.stream;
        pulse.set_deadline(u64::MAX);
        let sent = poll_fn(|context| match Pin::new(&mut *stream).poll_write(context, bytes) {
            Poll::Ready(Ok(count)) => Poll::Ready(Some(count)),
            Poll::Ready(Err(_)) => Poll::Ready(None),
            Poll::Pending if pulse.is_expired() => Poll::Ready(None),
            Poll::Pending => {
                pulse.set_deadline(pace.deadline());
                pulse.know(context.waker());
                Poll::Pending
            }
        })
        .await;
        // A client that does not read, or is gone.
        let sent = sent.filter(|count| *count > 0).ok_or(End::Abort)?;
        pace.bytes += sent as u64;
        self.seat.worker.counters.sent.add(sent as u64);
        Ok(sent)
    }
}

/// Reads what is there; none when nothing is.
async fn read(stream: &mut TcpStream, buffers: &mut Buffers) -> io::Result<Option<usize>> {
    let end = buffers.end;
    let mut target = ReadBuf::new(&mut buffers.input[end..]);
    let count = poll_fn(|context| {
        Poll::Ready(match Pin::new(&mut *stream).poll_read(context, &mut target) {
            Poll::Ready(Ok(())) => Ok(Some(target.filled().len())),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => Ok(None),
        })
    })
    .await?;
    buffers.end += count.unwrap_or(0);
    Ok(count)
}
