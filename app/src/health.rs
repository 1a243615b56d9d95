//! The health check a container runs inside itself. An image of one file has no shell and no curl, so the
//! program asks its own server.
//!
//! It needs no runtime: one blocking socket, one request, one status line. To be copied by itself: it needs the
//! standard library alone.

use std::error::Error;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A status line is shorter than this; whatever comes after is not read.
const LONGEST_STATUS_LINE: u64 = 256;

/// Asks the server at `address` for `/health`, waiting at most `patience` for each step.
///
/// # Errors
/// When there is no answer, or one that is not `200`.
pub fn check(address: SocketAddr, patience: Duration) -> Result<(), Unhealthy> {
    let failed = |reason| Unhealthy { address, reason };
    let line = ask(address, patience).map_err(|error| failed(Reason::NoAnswer(error)))?;
    if is_ok(&line) {
        Ok(())
    } else {
        let line = String::from_utf8_lossy(line.trim_ascii_end()).into_owned();
        Err(failed(Reason::Answer(line)))
    }
}

/// The server at an address is not well.
#[derive(Debug)]
pub struct Unhealthy {
    address: SocketAddr,
    reason: Reason,
}

#[derive(Debug)]
enum Reason {
    NoAnswer(io::Error),
    Answer(String),
}

impl fmt::Display for Unhealthy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.address;
        match &self.reason {
            Reason::NoAnswer(_) => write!(f, "no answer from {address}"),
            Reason::Answer(line) => write!(f, "{address} answered {line:?} to /health"),
        }
    }
}

impl Error for Unhealthy {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.reason {
            Reason::NoAnswer(error) => Some(error),
            Reason::Answer(_) => None,
        }
    }
}

fn ask(address: SocketAddr, patience: Duration) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut line = Vec::new();
    BufReader::new(stream.take(LONGEST_STATUS_LINE)).read_until(b'\n', &mut line)?;
    Ok(line)
}

fn is_ok(status_line: &[u8]) -> bool {
    status_line.starts_with(b"HTTP/1.1 200 ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_status_of_200_is_healthy() {
        for (line, expected) in [
            (&b"HTTP/1.1 200 OK\r\n"[..], true),
            (b"HTTP/1.1 200 \r\n", true),
            (b"HTTP/1.1 2000 OK\r\n", false),
            (b"HTTP/1.1 503 Service Unavailable\r\n", false),
            (b"SSH-2.0-OpenSSH_9.2\r\n", false),
            (b"", false),
        ] {
            assert_eq!(is_ok(line), expected, "{}", line.escape_ascii());
        }
    }
}
