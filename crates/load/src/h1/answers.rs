//! Received data of a connection: answers, the end of the stream, errors.

use std::io::{self, Read as _};

use super::{BUFFER, LINGER, State, Worker};
use crate::clock;
use crate::outcome::ErrorKind;
use crate::response::Answer;

impl Worker<'_> {
    /// Reads all that is there. `to_the_end`: the other side has closed, and that is to be seen.
    pub(super) fn receive(&mut self, at: usize, to_the_end: bool) {
        let mut buffer = std::mem::take(&mut self.buffer);
        loop {
            let connection = &mut self.connections[at];
            let Some(socket) = &mut connection.socket else { break };
            match socket.read(&mut buffer) {
                Ok(0) => {
                    self.ended(at);
                    break;
                }
                Ok(length) => {
                    let now = clock::now();
                    self.recorder.received(now, length);
                    self.take(at, &buffer[..length], now);
                    // A short read of an edge-triggered socket has emptied it (epoll(7)).
                    let is_closing = matches!(self.connections[at].state, State::Closing(_));
                    if length < BUFFER && !to_the_end && !is_closing {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.broken(at, &error);
                    break;
                }
            }
        }
        self.buffer = buffer;
    }

    /// Reads answers from the received bytes.
    pub(super) fn take(&mut self, at: usize, received: &[u8], now: u64) {
        let mut joined = std::mem::take(&mut self.connections[at].rest);
        let bytes = if joined.is_empty() {
            received
        } else {
            joined.extend_from_slice(received);
            &joined
        };
        let mut used = 0;
        while used < bytes.len() {
            if let State::Closing(_) = self.connections[at].state {
                return;
            }
            let connection = &mut self.connections[at];
            let Some(pending) = connection.pending.front_mut() else {
                let why = || "bytes that nobody asked for".to_owned();
                self.recorder.failed(now, ErrorKind::Malformed, why);
                self.drop_socket(at, false);
                return;
            };
            let request = &self.plan.requests[pending.started.request];
            let comparison = &mut pending.comparison;
            let body = |piece: &[u8]| {
                if let (Some(comparison), Some(expected)) = (comparison.as_mut(), &request.expect.body) {
                    comparison.piece(&expected.0, piece);
                }
            };
            match connection.parser.read(&bytes[used..], request.is_head(), body) {
                Ok((length, answer)) => {
                    used += length;
                    match answer {
                        Some(answer) => self.answered(at, now, answer),
                        None => break,
                    }
                    if self.connections[at].socket.is_none() {
                        return;
                    }
                }
                Err(why) => {
                    self.fail(at, ErrorKind::Malformed, &why.to_string(), false);
                    return;
                }
            }
        }
        if used < bytes.len() {
            self.connections[at].rest = bytes[used..].to_vec();
        }
    }

    pub(super) fn answered(&mut self, at: usize, now: u64, answer: Answer) {
        let Some(pending) = self.connections[at].pending.pop_front() else { return };
        self.under_way -= 1;
        let expect = &self.plan.requests[pending.started.request].expect;
        self.recorder.answered(now, pending.started, expect, &answer, pending.comparison.as_ref());
        if self.plan.keep_alive && answer.keep_alive {
            self.is_ready(at);
        } else if !self.plan.keep_alive && answer.keep_alive {
            self.recorder.found.connections.kept_by_server += 1;
            self.drop_socket(at, false);
        } else {
            if self.plan.keep_alive {
                self.recorder.found.connections.closed_by_server += 1;
            }
            // The requests behind it will not be answered (RFC 9112, 9.6).
            self.lose_all(at, now, ErrorKind::ClosedEarly, "the server announced the end before it");
            self.connections[at].state = State::Closing(now + LINGER);
            self.closing.push_back(at);
        }
    }

    /// The server has closed.
    pub(super) fn ended(&mut self, at: usize) {
        let now = clock::now();
        let connection = &mut self.connections[at];
        match connection.state {
            State::Closing(_) => self.drop_socket(at, false),
            _ => {
                if !connection.pending.is_empty()
                    && let Some(answer) = connection.parser.end()
                {
                    self.answered(at, now, answer);
                }
                let connection = &self.connections[at];
                if connection.pending.is_empty() {
                    if connection.state == State::Open && self.plan.keep_alive {
                        self.recorder.found.connections.closed_by_server += 1;
                    }
                    self.drop_socket(at, false);
                } else {
                    let is_within = !connection.parser.is_at_start() || !connection.rest.is_empty();
                    let why = if is_within {
                        "the connection ended in the middle of an answer"
                    } else {
                        "the connection ended instead of an answer"
                    };
                    self.fail(at, ErrorKind::ClosedEarly, why, false);
                }
            }
        }
    }

    /// Reading or writing has failed.
    pub(super) fn broken(&mut self, at: usize, error: &io::Error) {
        if let State::Closing(_) = self.connections[at].state {
            self.drop_socket(at, false);
            return;
        }
        let kind = ErrorKind::of_broken(error);
        if self.connections[at].pending.is_empty() {
            self.recorder.found.connections.closed_by_server += 1;
            self.drop_socket(at, false);
        } else {
            self.fail(at, kind, &error.to_string(), false);
        }
    }

    /// What is under way on a connection fails: the first request for this reason, those behind it because the
    /// connection is gone.
    pub(super) fn fail(&mut self, at: usize, kind: ErrorKind, why: &str, pause: bool) {
        let now = clock::now();
        if let Some(pending) = self.connections[at].pending.pop_front() {
            self.under_way -= 1;
            self.recorder.lost(now, pending.started, kind, || why.to_owned());
        }
        let behind = if kind == ErrorKind::Malformed { ErrorKind::ClosedEarly } else { kind };
        self.lose_all(at, now, behind, why);
        self.drop_socket(at, pause);
    }

    pub(super) fn lose_all(&mut self, at: usize, now: u64, kind: ErrorKind, why: &str) {
        while let Some(pending) = self.connections[at].pending.pop_front() {
            self.under_way -= 1;
            self.recorder.lost(now, pending.started, kind, || why.to_owned());
        }
    }
}
