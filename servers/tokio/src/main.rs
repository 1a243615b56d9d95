//! HTTP over tokio's sockets, in the manner of its `tinyhttp` example: one task for each connection, httparse for
//! the heads, prepared answers. Request bodies are not read: a request with one is the last of its connection.

use std::error::Error;
use std::io;
use std::net::Ipv4Addr;
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};

const DEFAULT_PORT: u16 = 60000;
/// A request head that is longer is refused.
const MAX_HEAD: usize = 8 * 1024;
const MAX_FIELDS: usize = 64;
/// After a connection could not be accepted.
const PAUSE: Duration = Duration::from_millis(10);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let port = std::env::var("PORT").map_or(Ok(DEFAULT_PORT), |port| port.parse())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await?;
    tokio::select! {
        _ = terminate.recv() => {}
        () = accept(&listener) => {}
    }
    Ok(())
}

async fn accept(listener: &TcpListener) {
    loop {
        match listener.accept().await {
            // An error of a connection is the client's.
            Ok((stream, _)) => drop(tokio::spawn(serve(stream))),
            // There is no file descriptor left, for example.
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut input = Vec::with_capacity(MAX_HEAD);
    let mut output = Vec::with_capacity(1024);
    let mut date = Date::default();
    while stream.read_buf(&mut input).await? > 0 {
        date.refresh();
        let open = answer_all(&mut input, &mut output, &date.text);
        stream.write_all(&output).await?;
        output.clear();
        if !open {
            break;
        }
    }
    Ok(())
}

/// Answers every complete request of the input and removes it. False if the connection is to be closed.
fn answer_all(input: &mut Vec<u8>, output: &mut Vec<u8>, date: &str) -> bool {
    let mut used = 0;
    let mut open = true;
    while open && used < input.len() {
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut request = httparse::Request::new(&mut fields);
        let answer = match request.parse(&input[used..]) {
            Ok(httparse::Status::Complete(length)) => {
                used += length;
                open = request.version == Some(1) && !request.headers.iter().any(ends_connection);
                route(request.method.unwrap_or_default(), request.path.unwrap_or_default())
            }
            Ok(httparse::Status::Partial) if input.len() - used < MAX_HEAD => break,
            Ok(httparse::Status::Partial) | Err(_) => {
                open = false;
                BAD_REQUEST
            }
        };
        for part in [answer.head, date, "\r\n\r\n", answer.body] {
            output.extend_from_slice(part.as_bytes());
        }
    }
    input.drain(..used);
    open
}

/// Whether a field asks for the end of the connection or announces a body.
fn ends_connection(field: &httparse::Header<'_>) -> bool {
    let is = |name: &str| field.name.eq_ignore_ascii_case(name);
    is("connection") && field.value.eq_ignore_ascii_case(b"close")
        || is("content-length") && field.value != b"0"
        || is("transfer-encoding")
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
const BAD_REQUEST: Answer =
    Answer { head: "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\nDate: ", body: "" };

fn route(method: &str, path: &str) -> Answer {
    match (method, path) {
        ("GET", "/") => HELLO,
        ("GET", "/json") => JSON,
        ("GET", "/health") => HEALTH,
        ("GET", "/ready") => READY,
        _ => NOT_FOUND,
    }
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
