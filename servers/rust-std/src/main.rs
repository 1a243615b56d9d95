//! HTTP over the standard library's sockets, as the Rust book does it, with a thread for each connection. Request
//! bodies are not read: a request with one is the last of its connection.

use std::error::Error;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, SystemTime};

use signal_hook::consts::SIGTERM;
use signal_hook::iterator::Signals;

const DEFAULT_PORT: u16 = 60000;
/// A request head that is longer is cut off, and its connection with it.
const MAX_HEAD: u64 = 8 * 1024;
/// A connection needs little of it; the default is 2 MiB.
const STACK: usize = 64 * 1024;
/// After a connection could not be accepted.
const PAUSE: Duration = Duration::from_millis(10);

fn main() -> Result<(), Box<dyn Error>> {
    let port = std::env::var("PORT").map_or(Ok(DEFAULT_PORT), |port| port.parse())?;
    let mut signals = Signals::new([SIGTERM])?;
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?;
    thread::spawn(move || accept(&listener));
    signals.forever().next();
    Ok(())
}

fn accept(listener: &TcpListener) {
    for stream in listener.incoming() {
        let spawned = stream.and_then(|stream| {
            // An error of a connection is the client's.
            thread::Builder::new().stack_size(STACK).spawn(move || serve(&stream).unwrap_or_default())
        });
        // There is no file descriptor or thread left, for example.
        if spawned.is_err() {
            thread::sleep(PAUSE);
        }
    }
}

fn serve(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    let (mut line, mut output) = (Vec::new(), Vec::with_capacity(1024));
    let mut date = Date::default();
    loop {
        let mut head = reader.by_ref().take(MAX_HEAD);
        line.clear();
        head.read_until(b'\n', &mut line)?;
        let Some((answer, mut open)) = route(&line) else { return Ok(()) };
        loop {
            line.clear();
            head.read_until(b'\n', &mut line)?;
            match line.as_slice() {
                b"\r\n" | b"\n" => break,
                field if field.ends_with(b"\n") => open &= !ends_connection(field),
                _ => return Ok(()),
            }
        }
        date.refresh();
        for part in [answer.head, &date.text, "\r\n\r\n", answer.body] {
            output.extend_from_slice(part.as_bytes());
        }
        // Answers to requests that came together go out together.
        if !open || reader.buffer().is_empty() {
            let mut stream = stream;
            stream.write_all(&output)?;
            output.clear();
        }
        if !open {
            return Ok(());
        }
    }
}

/// A prepared answer; the date goes between head and body.
struct Answer {
    head: &'static str,
    body: &'static str,
}

const HELLO: Answer = Answer {
    head: "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 16\r\nDate: ",
    body: "Hello from tare\n",
};
const JSON: Answer = Answer {
    head: "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 30\r\nDate: ",
    body: "{\"message\":\"Hello from tare\"}\n",
};
const HEALTH: Answer = Answer {
    head: "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 3\r\nDate: ",
    body: "ok\n",
};
const READY: Answer = Answer {
    head: "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 6\r\nDate: ",
    body: "ready\n",
};
const NOT_FOUND: Answer = Answer {
    head: "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 10\r\nDate: ",
    body: "not found\n",
};

/// The answer to a request line, and whether its version keeps the connection; none for anything else.
fn route(line: &[u8]) -> Option<(Answer, bool)> {
    let line = std::str::from_utf8(line).ok()?.trim_end();
    let (request, version) = line.rsplit_once(' ')?;
    let answer = match request {
        "GET /" => HELLO,
        "GET /json" => JSON,
        "GET /health" => HEALTH,
        "GET /ready" => READY,
        _ => NOT_FOUND,
    };
    match version {
        "HTTP/1.1" => Some((answer, true)),
        "HTTP/1.0" => Some((answer, false)),
        _ => None,
    }
}

/// Whether a field asks for the end of the connection or announces a body.
fn ends_connection(field: &[u8]) -> bool {
    let Some(colon) = field.iter().position(|byte| *byte == b':') else { return true };
    let (name, value) = (&field[..colon], field[colon + 1..].trim_ascii());
    let is = |wanted: &str| name.eq_ignore_ascii_case(wanted.as_bytes());
    is("connection") && value.eq_ignore_ascii_case(b"close")
        || is("content-length") && value != b"0"
        || is("transfer-encoding")
}

/// The value of the Date field, formatted once a second.
#[derive(Default)]
struct Date {
    second: u64,
    text: String,
}

impl Date {
    fn refresh(&mut self) {
        let now = SystemTime::now();
        let second = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if self.text.is_empty() || second != self.second {
            *self = Self { second, text: httpdate::fmt_http_date(now) };
        }
    }
}
