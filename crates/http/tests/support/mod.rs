//! A client that shows an answer as one value, so that a test can compare all of it.

#![expect(dead_code, reason = "each test program uses some of it")]

#[cfg(unix)]
pub(crate) mod program;

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Only keeps a broken server from holding the tests up for ever.
const PATIENCE: Duration = Duration::from_secs(60);

/// One connection.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> io::Result<Self> {
        Self::over(TcpStream::connect(address)?)
    }

    pub(crate) fn over(stream: TcpStream) -> io::Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes.as_ref())
    }

    /// Sends a request without a body and reads the answer.
    pub(crate) fn ask(&mut self, method: &str, target: &str) -> io::Result<Answer> {
        self.send(format!("{method} {target} HTTP/1.1\r\nHost: test\r\n\r\n"))?;
        self.answer(method != "HEAD")
    }

    /// Reads one answer; one to HEAD has no body, whatever its length says.
    pub(crate) fn answer(&mut self, has_body: bool) -> io::Result<Answer> {
        let status = self.line()?;
        let mut fields = BTreeMap::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(": ").ok_or(io::ErrorKind::InvalidData)?;
            fields.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        // The one field that differs from run to run; that it is there is part of the answer.
        if let Some(date) = fields.get_mut("date") {
            "some day".clone_into(date);
        }
        let mut body = String::new();
        if has_body && fields.get("transfer-encoding").is_some_and(|it| it == "chunked") {
            loop {
                let size = self.line()?;
                let size = u64::from_str_radix(&size, 16).map_err(|_| io::ErrorKind::InvalidData)?;
                self.stream.by_ref().take(size).read_to_string(&mut body)?;
                self.line()?;
                if size == 0 {
                    break;
                }
            }
        } else if has_body {
            let length = fields.get("content-length").and_then(|it| it.parse().ok());
            let length = length.ok_or(io::ErrorKind::InvalidData)?;
            self.stream.by_ref().take(length).read_to_string(&mut body)?;
        }
        Ok(Answer { status, fields, body })
    }

    /// A figure of `/metrics`.
    pub(crate) fn metric(&mut self, name: &str) -> io::Result<u64> {
        let page = self.ask("GET", "/metrics")?.body;
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        value.ok_or_else(|| io::Error::other(format!("no {name} in\n{page}")))
    }

    /// Sends each piece as it is written.
    pub(crate) fn no_delay(&self) -> io::Result<()> {
        self.stream.get_ref().set_nodelay(true)
    }

    /// The same connection, to send on another thread.
    pub(crate) fn sender(&self) -> io::Result<Self> {
        Ok(Self { stream: BufReader::new(self.stream.get_ref().try_clone()?) })
    }

    /// What comes up to and with `end`.
    pub(crate) fn until(&mut self, end: &str) -> io::Result<String> {
        let mut text = Vec::new();
        while !text.ends_with(end.as_bytes()) {
            let mut byte = [0];
            self.stream.read_exact(&mut byte)?;
            text.extend_from_slice(&byte);
        }
        String::from_utf8(text).map_err(io::Error::other)
    }

    /// Everything until the server closes the connection.
    pub(crate) fn rest(mut self) -> io::Result<String> {
        let mut rest = String::new();
        self.stream.read_to_string(&mut rest)?;
        Ok(rest)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let line = line.strip_suffix("\r\n");
        Ok(line.ok_or(io::ErrorKind::UnexpectedEof)?.to_owned())
    }
}

/// A whole answer; the names of its fields in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: String,
    pub(crate) fields: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Answer {
    /// The answer this server gives when nothing else is said: plain text of known length.
    pub(crate) fn text(status: &str, body: &str) -> Self {
        let answer =
            Self { status: format!("HTTP/1.1 {status}"), fields: BTreeMap::new(), body: body.to_owned() };
        answer
            .with("content-length", &body.len().to_string())
            .with("content-type", "text/plain; charset=utf-8")
            .with("date", "some day")
    }

    /// An answer that has nothing to say but its status.
    pub(crate) fn empty(status: &str) -> Self {
        Self::text(status, "")
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.fields.insert(name.to_owned(), value.to_owned());
        self
    }
}
