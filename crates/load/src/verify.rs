//! Sends every request once and compares the answers in full, before and after the load.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::outcome::ErrorKind;
use super::plan::{Blob, Plan, Protocol, Request};
use super::recorder::{Comparison, check};
use super::response::{Answer, Answered, Fault, MOST_BODY, Malformed, Parser};
use super::{LoadError, h2, request};

/// Sends every request of the plan once, one after another on connections of their own, and compares status,
/// length and every byte of the body.
///
/// # Errors
/// With the first answer that is not as expected.
pub fn verify(plan: &Plan) -> Result<Vec<Answered>, LoadError> {
    plan.check()?;
    let address = super::reach(plan)?;
    let answers = plan.requests.iter().map(|request| {
        let answered = match plan.protocol {
            Protocol::Http1 => ask(plan, address, request),
            Protocol::Http2 => h2::ask(plan, address, request)?,
        };
        answered.and_then(|answered| compare(request, answered)).map_err(|fault| LoadError::Answer {
            kind: fault.kind,
            address: plan.address.clone(),
            method: request.method.clone(),
            path: request.path.clone(),
            why: fault.why,
        })
    });
    answers.collect()
}

/// What of an answer must be as in the answers before the load.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Check {
    /// The status.
    Status,
    /// And the length, if it was the same twice.
    Length,
    /// And the body, if it was the same twice.
    #[default]
    Body,
}

/// Lets the plan expect what two rounds of answers have in common, where it expects nothing yet: the status, and as far as
/// `what` goes the length if it stays the same, and the body if it does.
pub fn expect_what_was_answered(plan: &mut Plan, first: &[Answered], second: &[Answered], what: Check) {
    for ((request, first), second) in plan.requests.iter_mut().zip(first).zip(second) {
        let expect = &mut request.expect;
        expect.status = expect.status.or((first.status == second.status).then_some(first.status));
        if what != Check::Status && first.body.0.len() == second.body.0.len() {
            expect.length = expect.length.or(Some(first.body.0.len() as u64));
        }
        if what == Check::Body && first.body == second.body && expect.body.is_none() {
            expect.body = Some(first.body.clone());
        }
    }
}

fn compare(request: &Request, answered: Answered) -> Result<Answered, Fault> {
    let mut comparison = Comparison::new();
    if let Some(expected) = &request.expect.body {
        comparison.piece(&expected.0, &answered.body.0);
    }
    let answer = Answer { status: answered.status, length: answered.body.0.len() as u64, keep_alive: true };
    match check(&request.expect, &answer, Some(&comparison)) {
        Ok(()) => Ok(answered),
        Err((kind, why)) => Err(Fault { kind, why }),
    }
}

fn fault(error: &io::Error) -> Fault {
    let kind = match error.kind() {
        // A read that times out would block.
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => ErrorKind::Timeout,
        io::ErrorKind::ConnectionRefused | io::ErrorKind::AddrNotAvailable => ErrorKind::of_connect(error),
        _ => ErrorKind::of_broken(error),
    };
    Fault { kind, why: error.to_string() }
}

fn ask(plan: &Plan, address: SocketAddr, request: &Request) -> Result<Answered, Fault> {
    let timeout = Duration::from_nanos(plan.timeout);
    let mut socket = TcpStream::connect_timeout(&address, timeout).map_err(|error| fault(&error))?;
    socket.set_read_timeout(Some(timeout)).map_err(|error| fault(&error))?;
    socket.set_write_timeout(Some(timeout)).map_err(|error| fault(&error))?;
    // A server may answer before it has read the request, and close (RFC 9112, 9.3): an answer that has come counts.
    let written = socket.write_all(&request::request_bytes(&plan.address, request, plan.keep_alive));
    let unsent = |other: Fault| written.as_ref().err().map_or(other, fault);
    let mut parser = Parser::new();
    let mut body = Vec::new();
    let mut rest = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = match socket.read(&mut buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(unsent(fault(&error))),
        };
        rest.extend_from_slice(&buffer[..length]);
        let keep = |piece: &[u8]| body.extend_from_slice(piece);
        let answer = if length == 0 {
            let why = "the connection ended before the answer was whole".to_owned();
            Some(parser.end().ok_or_else(|| unsent(Fault { kind: ErrorKind::ClosedEarly, why }))?)
        } else {
            let malformed = |error: Malformed| Fault { kind: ErrorKind::Malformed, why: error.to_string() };
            let (used, answer) = parser.read(&rest, request.is_head(), keep).map_err(malformed)?;
            rest.drain(..used);
            answer
        };
        if body.len() > MOST_BODY {
            return Err(Fault::too_long());
        }
        if let Some(answer) = answer {
            return Ok(Answered { status: answer.status, body: Blob(body) });
        }
    }
}
