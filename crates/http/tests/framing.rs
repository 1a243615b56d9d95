//! Where requests end: what RFC 9112 asks for, case by case, over a real socket.
//!
//! Every case is sent as one write, followed by a request for `/health`. What the server takes for the end
//! of the first request shows in how many answers come, and whether the second one is served: if it is not
//! meant to be, bytes that a proxy takes for a body would be taken for a request, or the other way round.

mod sample;
mod support;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use sample::Sample;
use support::Client;
use tare_http::{Engine, Stopped};
use tokio::sync::oneshot;

/// What has to come of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// The first request is answered with this status, the second is served.
    Goes(u16),
    /// The first request is answered with this status, and the connection ends.
    Ends(u16),
    /// The first request is answered with one status, what follows with another, and the connection ends.
    Ends2(u16, u16),
}

use Outcome::{Ends, Ends2, Goes};

impl Outcome {
    fn statuses(self) -> Vec<u16> {
        match self {
            Goes(status) => vec![status, 200],
            Ends(status) => vec![status],
            Ends2(first, second) => vec![first, second],
        }
    }
}

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
    ("2.2", "two CR before LF", "GET / HTTP/1.1\r\n", "Host: a\r\r\n\r\n", Ends(400)),
    ("2.2", "CR, CR and LF at the end", "GET / HTTP/1.1\r\n", "Host: a\r\n\r\r\n", Ends(400)),
    ("2.2", "an empty line after a body", POST, "Content-Length: 5\r\n\r\nhello\r\n", Goes(405)),
    ("2.2", "two empty lines after a body", POST, "Content-Length: 0\r\n\r\n\r\n\r\n", Ends2(405, 400)),
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
    ("3", "no target", "GET HTTP/1.1\r\n", "Host: a\r\n\r\n", Ends(400)),
    ("3", "an empty target", "GET  HTTP/1.1\r\n", "Host: a\r\n\r\n", Ends(400)),
    ("3", "a space in the target", "GET /a b HTTP/1.1\r\n", "Host: a\r\n\r\n", Ends(400)),
    ("3", "a form feed for the space", "GET\x0c/ HTTP/1.1\r\n", "Host: a\r\n\r\n", Ends(400)),
    ("3", "a field on the request line", "GET / HTTP/1.1 Host: a\r\n", "\r\n", Ends(400)),
    ("3.1", "a method that is no token", "G@T / HTTP/1.1\r\n", "Host: a\r\n\r\n", Ends(400)),
    ("3.1", "a method in lower case is another", "get / HTTP/1.1\r\n", "Host: a\r\n\r\n", Goes(405)),
    ("3.2", "a target that is none", "GET a HTTP/1.1\r\n", "Host: a\r\n\r\n", Ends(400)),
    ("3.2", "a fragment in the target", "GET /#a HTTP/1.1\r\n", "Host: a\r\n\r\n", Ends(400)),
    ("3.2", "a target that is no ASCII", "GET /\u{e9} HTTP/1.1\r\n", "Host: a\r\n\r\n", Ends(400)),
    ("3.2", "NUL in the target", "GET /\0 HTTP/1.1\r\n", "Host: a\r\n\r\n", Ends(400)),
    ("3.2", "DEL in the target", "GET /\x7f HTTP/1.1\r\n", "Host: a\r\n\r\n", Ends(400)),
    ("3.2", "bare CR in the target", "GET /\ra HTTP/1.1\r\n", "Host: a\r\n\r\n", Ends(400)),
    ("3.2", "a backslash in the target", "GET /\\a HTTP/1.1\r\n", "Host: a\r\n\r\n", Ends(400)),
    ("3.2.1", "two slashes are a path", "GET //a/b HTTP/1.1\r\n", "Host: a\r\n\r\n", Goes(404)),
    ("3.2", "a folded host", "GET / HTTP/1.1\r\n", "Host:\r\n a\r\n\r\n", Ends(400)),
    ("3.2", "a space before the colon of the host", "GET / HTTP/1.1\r\n", "Host : a\r\n\r\n", Ends(400)),
    ("3.2", "two hosts in a list", "GET / HTTP/1.1\r\n", "Host: a, b\r\n\r\n", Ends(400)),
    ("3.2", "a host with a user", "GET / HTTP/1.1\r\n", "Host: u@a\r\n\r\n", Ends(400)),
    ("3.2", "a host with a path", "GET / HTTP/1.1\r\n", "Host: a/b\r\n\r\n", Ends(400)),
    ("3.2", "a host with a scheme", "GET / HTTP/1.1\r\n", "Host: http://a\r\n\r\n", Ends(400)),
    ("3.2", "a host with a port that is none", "GET / HTTP/1.1\r\n", "Host: a:8o\r\n\r\n", Ends(400)),
    ("3.2", "a host that is no ASCII", "GET / HTTP/1.1\r\n", "Host: \u{e9}\r\n\r\n", Ends(400)),
    ("3.2", "a host with half a percent", "GET / HTTP/1.1\r\n", "Host: a%4\r\n\r\n", Ends(400)),
    ("3.2", "two hosts from HTTP/1.0", "GET / HTTP/1.0\r\n", "Host: a\r\nHost: b\r\n\r\n", Ends(400)),
    ("3.2", "no host", "GET / HTTP/1.1\r\n", "\r\n", Ends(400)),
    ("3.2", "two hosts", "GET / HTTP/1.1\r\n", "Host: a\r\nHost: a\r\n\r\n", Ends(400)),
    ("3.2", "two hosts that differ in case", "GET / HTTP/1.1\r\n", "Host: a\r\nhost: b\r\n\r\n", Ends(400)),
    ("3.2", "a host that is none", "GET / HTTP/1.1\r\n", "Host: a b\r\n\r\n", Ends(400)),
    ("3.2", "an empty host", "GET / HTTP/1.1\r\n", "Host:\r\n\r\n", Goes(200)),
    ("3.2.2", "a target with a host of its own", "GET http://b/ HTTP/1.1\r\n", "Host: a\r\n\r\n", Goes(200)),
    ("3.2.2", "a target with a host and none beside", "GET http://b/ HTTP/1.1\r\n", "\r\n", Ends(400)),
    (
        "3.2.2",
        "a target with a host and two",
        "GET http://b/ HTTP/1.1\r\n",
        "Host: b\r\nHost: b\r\n\r\n",
        Ends(400),
    ),
    ("3.2.2", "a target with a bad host", "GET http://b c/ HTTP/1.1\r\n", "Host: a\r\n\r\n", Ends(400)),
    ("3.2.2", "a target with a user", "GET http://u@b/ HTTP/1.1\r\n", "Host: b\r\n\r\n", Ends(400)),
    ("3.2.2", "a target with an empty host", "GET http:///a HTTP/1.1\r\n", "Host: a\r\n\r\n", Ends(400)),
    ("3.2.2", "a target with one slash", "GET http:/a HTTP/1.1\r\n", "Host: a\r\n\r\n", Ends(400)),
    ("3.2.2", "a target with another scheme", "GET file:///a HTTP/1.1\r\n", "Host: a\r\n\r\n", Ends(400)),
    ("3.2.3", "a tunnel by another method", "GET a:1 HTTP/1.1\r\n", "Host: a:1\r\n\r\n", Ends(400)),
    (
        "3.2.3",
        "a tunnel with a body",
        "CONNECT a:1 HTTP/1.1\r\n",
        "Host: a:1\r\nContent-Length: 3\r\n\r\nabc",
        Ends(501),
    ),
    ("3.2.3", "a tunnel", "CONNECT a:1 HTTP/1.1\r\n", "Host: a:1\r\n\r\n", Ends(501)),
    ("3.2.4", "an asterisk with another method", "GET * HTTP/1.1\r\n", "Host: a\r\n\r\n", Ends(400)),
    // 2.3: the version.
    ("2.3", "a later minor version", "GET / HTTP/1.2\r\n", "Host: a\r\n\r\n", Ends(505)),
    ("2.3", "another major version", "GET / HTTP/3.0\r\n", "Host: a\r\n\r\n", Ends(505)),
    ("2.3", "a version in lower case", "GET / http/1.1\r\n", "Host: a\r\n\r\n", Ends(400)),
    ("2.3", "a version of two digits", "GET / HTTP/1.10\r\n", "Host: a\r\n\r\n", Ends(400)),
    ("2.3", "a version of three numbers", "GET / HTTP/1.1.1\r\n", "Host: a\r\n\r\n", Ends(400)),
    ("2.3", "a version with a zero before", "GET / HTTP/01.1\r\n", "Host: a\r\n\r\n", Ends(400)),
    ("2.3", "a version with a comma", "GET / HTTP/1,1\r\n", "Host: a\r\n\r\n", Ends(400)),
    // 5: fields.
    ("5.1", "a space before the colon", POST, "Content-Length : 5\r\n\r\nhello", Ends(400)),
    ("5.1", "a tab before the colon", POST, "Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n", Ends(400)),
    ("5.1", "no colon", POST, "Content-Length 5\r\n\r\nhello", Ends(400)),
    ("5.1", "no name", POST, ": 5\r\n\r\n", Ends(400)),
    ("5.1", "a name that is no token", POST, "Content(Length): 5\r\n\r\n", Ends(400)),
    ("5.1", "NUL in a name", POST, "Content-Length\0: 5\r\n\r\nhello", Ends(400)),
    ("5.5", "NUL in a value", POST, "A: b\0c\r\n\r\n", Ends(400)),
    ("5.1", "a name that is no ASCII", POST, "Content-Length\u{a0}: 5\r\n\r\nhello", Ends(400)),
    ("5.1", "white space in a name", POST, "Content Length: 5\r\n\r\nhello", Ends(400)),
    ("5.1", "a line of white space", POST, "A: b\r\n \r\n\r\n", Ends(400)),
    ("5.5", "NUL in a length", POST, "Content-Length: 5\0\r\n\r\nhello", Ends(400)),
    ("5.5", "NUL in a coding", POST, "Transfer-Encoding: chunked\0\r\n\r\n0\r\n\r\n", Ends(400)),
    ("5.5", "DEL in a value", POST, "A: b\x7fc\r\n\r\n", Ends(400)),
    ("5.5", "a value that is no ASCII", POST, "A: \u{e9}\r\n\r\n", Goes(405)),
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
    ("6.2", "a length with a comma", POST, "Content-Length: 5,\r\n\r\nhello", Ends(400)),
    ("6.2", "a length with a fraction", POST, "Content-Length: 5.0\r\n\r\nhello", Ends(400)),
    ("6.2", "a length with a parameter", POST, "Content-Length: 5;a=b\r\n\r\nhello", Ends(400)),
    ("6.2", "a length in quotation marks", POST, "Content-Length: \"5\"\r\n\r\nhello", Ends(400)),
    ("6.2", "a length with an exponent", POST, "Content-Length: 1e1\r\n\r\nhello", Ends(400)),
    ("6.2", "a length in other digits", POST, "Content-Length: \u{ff15}\r\n\r\nhello", Ends(400)),
    ("6.2", "a length with a vertical tab", POST, "Content-Length: \x0b5\r\n\r\nhello", Ends(400)),
    (
        "6.2",
        "a length of 2 to the 64th and more, in a list",
        POST,
        "Content-Length: 5, 18446744073709551621\r\n\r\nhello",
        Ends(400),
    ),
    (
        "6.3",
        "the same length twice with other zeros",
        POST,
        "Content-Length: 5\r\nContent-Length: 05\r\n\r\nhello",
        Ends(400),
    ),
    (
        "6.3",
        "a length from HTTP/1.0",
        "POST / HTTP/1.0\r\n",
        "Connection: keep-alive\r\nContent-Length: 5\r\n\r\nhello",
        Goes(405),
    ),
    (
        "6.3",
        "a length and a coding that is not known",
        POST,
        "Content-Length: 5\r\nTransfer-Encoding: gzip\r\n\r\nhello",
        Ends(400),
    ),
    (
        "6.3",
        "a length and an empty coding",
        POST,
        "Content-Length: 5\r\nTransfer-Encoding:\r\n\r\nhello",
        Ends(400),
    ),
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
    (
        "6.1",
        "identity and then chunked",
        POST,
        "Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n",
        Ends(501),
    ),
    (
        "6.1",
        "chunked and identity in two fields",
        POST,
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        Ends(400),
    ),
    (
        "6.1",
        "identity and chunked in two fields",
        POST,
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Ends(501),
    ),
    (
        "6.1",
        "chunked and nothing in two fields",
        POST,
        "Transfer-Encoding: chunked\r\nTransfer-Encoding:\r\n\r\n0\r\n\r\n",
        Ends(400),
    ),
    (
        "5.6.1",
        "chunked among empty elements",
        POST,
        "Transfer-Encoding: , chunked,\r\n\r\n0\r\n\r\n",
        Goes(405),
    ),
    (
        "6.1",
        "chunked with white space inside",
        POST,
        "Transfer-Encoding: chun ked\r\n\r\n0\r\n\r\n",
        Ends(501),
    ),
    ("6.1", "chunked after a semicolon", POST, "Transfer-Encoding: ;chunked\r\n\r\n0\r\n\r\n", Ends(501)),
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
    ("7.1", "bare CR at the end", CHUNKED, "5\r\nhello\r\n0\r\n\r", Ends(400)),
    ("7.1", "bare CR after the data", CHUNKED, "5\r\nhello\r0\r\n\r\n", Ends(400)),
    ("7.1", "two CR after the data", CHUNKED, "5\r\nhello\r\r\n0\r\n\r\n", Ends(400)),
    ("7.1", "two CR after the size", CHUNKED, "5\r\r\nhello\r\n0\r\n\r\n", Ends(400)),
    ("7.1", "data shorter than its size", CHUNKED, "6\r\nhello\r\n0\r\n\r\n", Ends(400)),
    ("7.1", "the largest size that there is", CHUNKED, "FFFFFFFFFFFFFFFF\r\nhello", Ends(413)),
    ("7.1", "a size in other digits", CHUNKED, "\u{ff15}\r\nhello\r\n0\r\n\r\n", Ends(400)),
    ("7.1", "a size with a fraction", CHUNKED, "5.0\r\nhello\r\n0\r\n\r\n", Ends(400)),
    ("7.1", "a size with NUL", CHUNKED, "5\0\r\nhello\r\n0\r\n\r\n", Ends(400)),
    ("7.1", "a size with a comma", CHUNKED, "5,a\r\nhello\r\n0\r\n\r\n", Ends(400)),
    ("7.1", "an empty line between chunks", CHUNKED, "5\r\nhello\r\n\r\n0\r\n\r\n", Ends(400)),
    ("7.1.1", "bare CR in an extension", CHUNKED, "5;a\rb\r\nhello\r\n0\r\n\r\n", Ends(400)),
    ("7.1.1", "bare CR in a quoted extension", CHUNKED, "5;a=\"\r\"\r\nhello\r\n0\r\n\r\n", Ends(400)),
    ("7.1.1", "a line end in a quoted extension", CHUNKED, "5;a=\"\r\n\"\r\nhello\r\n0\r\n\r\n", Ends(400)),
    ("7.1.1", "a line end that is quoted", CHUNKED, "5;a=\"\\\r\n\"\r\nhello\r\n0\r\n\r\n", Ends(400)),
    ("7.1.1", "an extension that does not end", CHUNKED, "5;a=\"b\r\nhello\r\n0\r\n\r\n", Ends(400)),
    ("7.1.1", "white space after an extension", CHUNKED, "5;a \r\nhello\r\n0\r\n\r\n", Ends(400)),
    ("7.1.1", "NUL in an extension", CHUNKED, "5;a=\0\r\nhello\r\n0\r\n\r\n", Ends(400)),
    ("7.1.1", "bare LF in the extension of the last chunk", CHUNKED, "0;a\n\r\n\r\n", Ends(400)),
    ("7.1.1", "an extension", CHUNKED, "5;a=b;c;d=\"\\\"e\"\r\nhello\r\n0;f\r\n\r\n", Goes(405)),
    ("7.1.1", "an extension without a name", CHUNKED, "5;\r\nhello\r\n0\r\n\r\n", Ends(400)),
    ("7.1.1", "bare LF in an extension", CHUNKED, "5;a\nb\r\nhello\r\n0\r\n\r\n", Ends(400)),
    ("7.1.1", "bare LF in a quoted extension", CHUNKED, "5;a=\"\n\"\r\nhello\r\n0\r\n\r\n", Ends(400)),
    ("7.1.2", "a trailer", CHUNKED, "0\r\nA: b\r\nC: \r\n\r\n", Goes(405)),
    ("7.1.2", "a length in the trailer", CHUNKED, "0\r\nContent-Length: 5\r\n\r\n", Goes(405)),
    ("7.1.2", "a coding in the trailer", CHUNKED, "0\r\nTransfer-Encoding: chunked\r\n\r\n", Goes(405)),
    ("7.1.2", "a host in the trailer", CHUNKED, "0\r\nHost: b\r\nConnection: close\r\n\r\n", Goes(405)),
    ("7.1.2", "a space before the colon in the trailer", CHUNKED, "0\r\nA : b\r\n\r\n", Ends(400)),
    ("7.1.2", "bare CR in the trailer", CHUNKED, "0\r\nA: b\rC: d\r\n\r\n", Ends(400)),
    ("7.1.2", "NUL in the trailer", CHUNKED, "0\r\nA: \0\r\n\r\n", Ends(400)),
    ("7.1.2", "no name in the trailer", CHUNKED, "0\r\n: b\r\n\r\n", Ends(400)),
    ("7.1.2", "a folded trailer", CHUNKED, "0\r\nA: b\r\n c\r\n\r\n", Ends(400)),
    ("7.1.2", "a trailer that is no field", CHUNKED, "0\r\nGET / HTTP/1.1\r\n\r\n", Ends(400)),
    ("7.1.2", "bare LF in the trailer", CHUNKED, "0\r\nA: b\nC: d\r\n\r\n", Ends(400)),
    // 9: connections.
    ("9.3", "the client wants to close", POST, "Connection: close\r\n\r\n", Ends(405)),
    ("9.3", "the client wants to close, in a list", POST, "Connection: te, CLOSE\r\n\r\n", Ends(405)),
    ("9.3", "the client wants both", POST, "Connection: close, keep-alive\r\n\r\n", Ends(405)),
    (
        "9.8",
        "another protocol that is not taken",
        POST,
        "Connection: upgrade\r\nUpgrade: h2c\r\n\r\n",
        Goes(405),
    ),
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

/// A server, until the sender is dropped.
fn start() -> io::Result<(SocketAddr, oneshot::Sender<()>, JoinHandle<io::Result<Stopped>>)> {
    let listeners = sample::listeners(1)?;
    let address = listeners.first().ok_or(io::ErrorKind::NotFound)?.local_addr()?;
    let (stop, stopping) = oneshot::channel::<()>();
    let engine = Engine::new(sample::sizes(), &sample::settings());
    let handler = Arc::new(Sample::new(Arc::clone(&engine)));
    let server = thread::spawn(move || {
        tare_http::runtime()?.block_on(engine.run(handler, listeners, async {
            let _ = stopping.await;
        }))
    });
    Ok((address, stop, server))
}

#[test]
fn every_case_ends_where_the_standard_says() -> io::Result<()> {
    assert!(CASES.len() >= 180, "{}", CASES.len());
    let (address, stop, server) = start()?;
    let mut wrong = Vec::new();
    for (section, about, start, rest, outcome) in CASES {
        let mut client = Client::connect(address)?;
        client.send(format!("{start}{rest}GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"))?;
        let expected = outcome.statuses();
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
    let (address, stop, server) = start()?;
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
            // Mostly long enough for the server to read it before the next one comes.
            thread::sleep(Duration::from_micros(50));
        }
        let expected = outcome.statuses();
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
