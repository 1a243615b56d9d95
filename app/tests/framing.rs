//! Where requests end: what RFC 9112 asks for, case by case, over a real socket.
//!
//! Every case is sent as one write, followed by a request for `/health`. What the server takes for the end
//! of the first request shows in how many answers come, and whether the second one is served: if it is not
//! meant to be, bytes that a proxy takes for a body would be taken for a request, or the other way round.

mod support;

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::thread;

use app::Config;
use support::Client;
use tokio::sync::oneshot;

/// What has to come of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// The first request is answered with this status, the second is served.
    Goes(u16),
    /// The first request is answered with this status, and the connection ends.
    Ends(u16),
}

use Outcome::{Ends, Goes};

const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\n";
const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

/// Section, what it is about, the head to begin with, the rest, the outcome. `POST /` is answered 405 when
/// its framing is good.
const CASES: &[(&str, &str, &str, &str, Outcome)] = &[
    // 2.2: lines.
    ("2.2", "an empty line before a request", "\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", Goes(200)),
    ("2.2", "two empty lines", "\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", Ends(400)),
    ("2.2", "an empty line of a bare LF", "\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", Ends(400)),
    ("2.2", "bare LF after the request line", "GET / HTTP/1.1\n", "Host: a\r\n\r\n", Ends(400)),
    ("2.2", "bare LF after a field", "GET / HTTP/1.1\r\nHost: a\n", "A: b\r\n\r\n", Ends(400)),
    ("2.2", "bare LF at the end", "GET / HTTP/1.1\r\nHost: a\r\n", "\n", Ends(400)),
    ("2.2", "bare LF everywhere", "GET / HTTP/1.1\nHost: a\n", "\n", Ends(400)),
    ("2.2", "bare CR in a value", POST, "A: b\rc\r\n\r\n", Ends(400)),
    ("2.2", "bare CR after the request line", "GET / HTTP/1.1\r", "Host: a\r\n\r\n", Ends(400)),
    (
        "2.2",
        "white space before the first field",
        "GET / HTTP/1.1\r\n",
        " A: b\r\nHost: a\r\n\r\n",
        Ends(400),
    ),
    // 3: the request line.
    ("3", "two spaces after the method", "GET  / HTTP/1.1\r\n", "Host: a\r\n\r\n", Ends(400)),
    ("3", "a tab for the space", "GET\t/ HTTP/1.1\r\n", "Host: a\r\n\r\n", Ends(400)),
    ("3", "a space after the version", "GET / HTTP/1.1 \r\n", "Host: a\r\n\r\n", Ends(400)),
    ("3", "a space before the method", " GET / HTTP/1.1\r\n", "Host: a\r\n\r\n", Ends(400)),
    ("3", "no version", "GET /\r\n", "Host: a\r\n\r\n", Ends(400)),
    ("3.1", "a method that is no token", "G@T / HTTP/1.1\r\n", "Host: a\r\n\r\n", Ends(400)),
    ("3.1", "a method in lower case is another", "get / HTTP/1.1\r\n", "Host: a\r\n\r\n", Goes(405)),
    ("3.2", "a target that is none", "GET a HTTP/1.1\r\n", "Host: a\r\n\r\n", Ends(400)),
    ("3.2", "a fragment in the target", "GET /#a HTTP/1.1\r\n", "Host: a\r\n\r\n", Ends(400)),
    ("3.2", "a target that is no ASCII", "GET /\u{e9} HTTP/1.1\r\n", "Host: a\r\n\r\n", Ends(400)),
    ("3.2", "no host", "GET / HTTP/1.1\r\n", "\r\n", Ends(400)),
    ("3.2", "two hosts", "GET / HTTP/1.1\r\n", "Host: a\r\nHost: a\r\n\r\n", Ends(400)),
    ("3.2", "two hosts that differ in case", "GET / HTTP/1.1\r\n", "Host: a\r\nhost: b\r\n\r\n", Ends(400)),
    ("3.2", "a host that is none", "GET / HTTP/1.1\r\n", "Host: a b\r\n\r\n", Ends(400)),
    ("3.2", "an empty host", "GET / HTTP/1.1\r\n", "Host:\r\n\r\n", Goes(200)),
    ("3.2.2", "a target with a host of its own", "GET http://b/ HTTP/1.1\r\n", "Host: a\r\n\r\n", Goes(200)),
    ("3.2.3", "a tunnel", "CONNECT a:1 HTTP/1.1\r\n", "Host: a:1\r\n\r\n", Ends(501)),
    ("3.2.4", "an asterisk with another method", "GET * HTTP/1.1\r\n", "Host: a\r\n\r\n", Ends(400)),
    // 2.3: the version.
    ("2.3", "a later minor version", "GET / HTTP/1.2\r\n", "Host: a\r\n\r\n", Ends(505)),
    ("2.3", "another major version", "GET / HTTP/3.0\r\n", "Host: a\r\n\r\n", Ends(505)),
    ("2.3", "a version in lower case", "GET / http/1.1\r\n", "Host: a\r\n\r\n", Ends(400)),
    ("2.3", "a version of two digits", "GET / HTTP/1.10\r\n", "Host: a\r\n\r\n", Ends(400)),
    // 5: fields.
    ("5.1", "a space before the colon", POST, "Content-Length : 5\r\n\r\nhello", Ends(400)),
    ("5.1", "a tab before the colon", POST, "Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n", Ends(400)),
    ("5.1", "no colon", POST, "Content-Length 5\r\n\r\nhello", Ends(400)),
    ("5.1", "no name", POST, ": 5\r\n\r\n", Ends(400)),
    ("5.1", "a name that is no token", POST, "Content(Length): 5\r\n\r\n", Ends(400)),
    ("5.1", "NUL in a name", POST, "Content-Length\0: 5\r\n\r\nhello", Ends(400)),
    ("5.5", "NUL in a value", POST, "A: b\0c\r\n\r\n", Ends(400)),
    ("5.5", "white space around a value", POST, "Content-Length: \t5 \t\r\n\r\nhello", Goes(405)),
    ("5.2", "a folded line", POST, "A: b\r\n c\r\n\r\n", Ends(400)),
    ("5.2", "a folded length", POST, "Content-Length:\r\n 5\r\n\r\nhello", Ends(400)),
    ("5.2", "a folded coding", POST, "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", Ends(400)),
    // 6.1, 6.3: which framing.
    ("6.3", "a length", POST, "Content-Length: 5\r\n\r\nhello", Goes(405)),
    ("6.3", "a length of 0", POST, "Content-Length: 0\r\n\r\n", Goes(405)),
    ("6.3", "a length with leading zeros", POST, "Content-Length: 005\r\n\r\nhello", Goes(405)),
    ("6.3", "a body of a GET", "GET / HTTP/1.1\r\nHost: a\r\n", "Content-Length: 5\r\n\r\nhello", Goes(200)),
    ("6.3", "the same length twice", POST, "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", Ends(400)),
    ("6.3", "two lengths", POST, "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", Ends(400)),
    ("6.3", "two lengths in a list", POST, "Content-Length: 5, 6\r\n\r\nhello", Ends(400)),
    ("6.3", "the same length in a list", POST, "Content-Length: 5, 5\r\n\r\nhello", Ends(400)),
    ("6.2", "a length with a sign", POST, "Content-Length: +5\r\n\r\nhello", Ends(400)),
    ("6.2", "a negative length", POST, "Content-Length: -1\r\n\r\n", Ends(400)),
    ("6.2", "a hexadecimal length", POST, "Content-Length: 0x5\r\n\r\nhello", Ends(400)),
    ("6.2", "an empty length", POST, "Content-Length:\r\n\r\n", Ends(400)),
    ("6.2", "a length with a space", POST, "Content-Length: 1 0\r\n\r\nhello", Ends(400)),
    ("6.2", "a length beyond 64 bits", POST, "Content-Length: 18446744073709551616\r\n\r\n", Ends(400)),
    (
        "6.3",
        "a length and a coding",
        POST,
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Ends(400),
    ),
    (
        "6.3",
        "a coding and a length",
        POST,
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        Ends(400),
    ),
    ("6.1", "a coding in capitals", POST, "transfer-encoding: CHUNKED\r\n\r\n0\r\n\r\n", Goes(405)),
    (
        "6.1",
        "chunked twice in a list",
        POST,
        "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        Ends(400),
    ),
    (
        "6.1",
        "chunked in two fields",
        POST,
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Ends(400),
    ),
    ("6.1", "chunked and then another", POST, "Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", Ends(400)),
    (
        "6.1",
        "chunked and then identity",
        POST,
        "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        Ends(400),
    ),
    ("6.1", "another and then chunked", POST, "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", Ends(501)),
    ("6.1", "a coding that is not known", POST, "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", Ends(501)),
    ("6.1", "identity", POST, "Transfer-Encoding: identity\r\n\r\n", Ends(501)),
    ("6.1", "chunked with a parameter", POST, "Transfer-Encoding: chunked;a=b\r\n\r\n0\r\n\r\n", Ends(501)),
    ("6.1", "chunked in quotation marks", POST, "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", Ends(501)),
    ("6.1", "no coding", POST, "Transfer-Encoding:\r\n\r\n", Ends(400)),
    (
        "6.1",
        "a vertical tab before the coding",
        POST,
        "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        Ends(400),
    ),
    (
        "6.1",
        "a coding from HTTP/1.0",
        "POST / HTTP/1.0\r\nHost: a\r\n",
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Ends(400),
    ),
    // 7.1: chunks.
    ("7.1", "chunks", CHUNKED, "5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n", Goes(405)),
    ("7.1", "a size in capitals", CHUNKED, "A\r\n0123456789\r\n0\r\n\r\n", Goes(405)),
    ("7.1", "a size with some zeros", CHUNKED, "0005\r\nhello\r\n000\r\n\r\n", Goes(405)),
    ("7.1", "a size with endless zeros", CHUNKED, "00000000000000005\r\nhello\r\n0\r\n\r\n", Ends(400)),
    ("7.1", "a size beyond 64 bits", CHUNKED, "10000000000000005\r\nhello\r\n0\r\n\r\n", Ends(400)),
    ("7.1", "a size with a sign", CHUNKED, "+5\r\nhello\r\n0\r\n\r\n", Ends(400)),
    ("7.1", "a negative size", CHUNKED, "-5\r\nhello\r\n0\r\n\r\n", Ends(400)),
    ("7.1", "a size with 0x", CHUNKED, "0x5\r\nhello\r\n0\r\n\r\n", Ends(400)),
    ("7.1", "a size with an underscore", CHUNKED, "1_0\r\nhello\r\n0\r\n\r\n", Ends(400)),
    ("7.1", "no size", CHUNKED, "\r\nhello\r\n0\r\n\r\n", Ends(400)),
    ("7.1", "a space after the size", CHUNKED, "5 \r\nhello\r\n0\r\n\r\n", Ends(400)),
    ("7.1", "a space before the size", CHUNKED, " 5\r\nhello\r\n0\r\n\r\n", Ends(400)),
    ("7.1", "bare LF after the size", CHUNKED, "5\nhello\r\n0\r\n\r\n", Ends(400)),
    ("7.1", "bare LF after the data", CHUNKED, "5\r\nhello\n0\r\n\r\n", Ends(400)),
    ("7.1", "bare CR after the size", CHUNKED, "5\rhello\r\n0\r\n\r\n", Ends(400)),
    ("7.1", "data longer than its size", CHUNKED, "5\r\nhello!\r\n0\r\n\r\n", Ends(400)),
    ("7.1", "bare LF at the end", CHUNKED, "5\r\nhello\r\n0\r\n\n", Ends(400)),
    ("7.1.1", "an extension", CHUNKED, "5;a=b;c;d=\"\\\"e\"\r\nhello\r\n0;f\r\n\r\n", Goes(405)),
    ("7.1.1", "an extension without a name", CHUNKED, "5;\r\nhello\r\n0\r\n\r\n", Ends(400)),
    ("7.1.1", "bare LF in an extension", CHUNKED, "5;a\nb\r\nhello\r\n0\r\n\r\n", Ends(400)),
    ("7.1.1", "bare LF in a quoted extension", CHUNKED, "5;a=\"\n\"\r\nhello\r\n0\r\n\r\n", Ends(400)),
    ("7.1.2", "a trailer", CHUNKED, "0\r\nA: b\r\nC: \r\n\r\n", Goes(405)),
    ("7.1.2", "a length in the trailer", CHUNKED, "0\r\nContent-Length: 5\r\n\r\n", Goes(405)),
    ("7.1.2", "a folded trailer", CHUNKED, "0\r\nA: b\r\n c\r\n\r\n", Ends(400)),
    ("7.1.2", "a trailer that is no field", CHUNKED, "0\r\nGET / HTTP/1.1\r\n\r\n", Ends(400)),
    ("7.1.2", "bare LF in the trailer", CHUNKED, "0\r\nA: b\nC: d\r\n\r\n", Ends(400)),
    // 9: connections.
    ("9.3", "the client wants to close", POST, "Connection: close\r\n\r\n", Ends(405)),
    ("9.3", "the client wants to close, in a list", POST, "Connection: te, CLOSE\r\n\r\n", Ends(405)),
    ("9.3", "HTTP/1.0", "GET / HTTP/1.0\r\n", "\r\n", Ends(200)),
    ("9.3", "HTTP/1.0 that stays", "GET / HTTP/1.0\r\n", "Connection: keep-alive\r\n\r\n", Goes(200)),
    (
        "3.3",
        "HTTP/2 without its feature or with a wrong preface",
        "PRI * HTTP/2.0\r\n\r\n",
        "XX\r\n\r\n",
        Ends(505),
    ),
];

/// The statuses of all answers, until the connection ends.
fn statuses(mut client: Client) -> io::Result<Vec<u16>> {
    let mut found = Vec::new();
    loop {
        match client.answer(true) {
            Ok(answer) => {
                let status = answer.status.split(' ').nth(1).and_then(|status| status.parse().ok());
                found.push(status.ok_or(io::ErrorKind::InvalidData)?);
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(found),
            Err(error) => return Err(error),
        }
    }
}

#[test]
fn every_case_ends_where_the_standard_says() -> io::Result<()> {
    assert!(CASES.len() >= 100);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let (stop, stopping) = oneshot::channel::<()>();
    let config = Config { workers: Some(1), ..Config::default() };
    let server = thread::spawn(move || {
        app::runtime()?.block_on(app::run(vec![listener], config, async {
            let _ = stopping.await;
        }))
    });
    let mut wrong = Vec::new();
    for (section, about, start, rest, outcome) in CASES {
        let mut client = Client::connect(address)?;
        client.send(format!("{start}{rest}GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"))?;
        let expected = match outcome {
            Goes(status) => vec![*status, 200],
            Ends(status) => vec![*status],
        };
        let found = statuses(client);
        if found.as_ref().ok() != Some(&expected) {
            wrong.push(format!("{section} {about}: {found:?} and not {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), CASES.len(), wrong.join("\n"));
    drop(stop);
    server.join().map_err(|_| io::Error::other("the server panicked"))??;
    Ok(())
}

#[test]
fn every_case_ends_the_same_when_it_comes_byte_by_byte() -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let (stop, stopping) = oneshot::channel::<()>();
    let config = Config { workers: Some(1), ..Config::default() };
    let server = thread::spawn(move || {
        app::runtime()?.block_on(app::run(vec![listener], config, async {
            let _ = stopping.await;
        }))
    });
    let mut wrong = Vec::new();
    for (section, about, start, rest, outcome) in CASES {
        let mut client = Client::connect(address)?;
        client.no_delay()?;
        let bytes = format!("{start}{rest}GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        for byte in bytes.as_bytes() {
            // The server may have closed by now, as it should.
            if client.send([*byte]).is_err() {
                break;
            }
        }
        let expected = match outcome {
            Goes(status) => vec![*status, 200],
            Ends(status) => vec![*status],
        };
        let found = statuses(client);
        if found.as_ref().ok() != Some(&expected) {
            wrong.push(format!("{section} {about}: {found:?} and not {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), CASES.len(), wrong.join("\n"));
    drop(stop);
    server.join().map_err(|_| io::Error::other("the server panicked"))??;
    Ok(())
}
