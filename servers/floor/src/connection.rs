//! One connection: bytes in, bytes out. It knows nothing of epoll.

use std::os::fd::OwnedFd;

use rustix::io::Errno;

use crate::answer::Answers;

/// More fields than any client of a benchmark sends; a request with more is refused.
const MAX_FIELDS: usize = 32;
/// A head that is longer than this is refused.
const MAX_HEAD: usize = 8 * 1024;

/// What is to be done with the connection next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    Read,
    /// The client does not read: nothing more is read before it does.
    Write,
    Close,
}

#[derive(Debug)]
pub(crate) struct Connection {
    socket: OwnedFd,
    /// The beginning of a request whose end has not come. Empty as a rule.
    head: Vec<u8>,
    /// What the client has not taken yet. Empty as a rule.
    unsent: Vec<u8>,
    /// Nothing follows the answers that are under way.
    last: bool,
}

impl Connection {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self { socket, head: Vec::new(), unsent: Vec::new(), last: false }
    }

    pub(crate) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Reads what is there and answers it. The buffers are lent by the thread, so that an idle connection
    /// has none.
    pub(crate) fn read(&mut self, buffer: &mut [u8], out: &mut Vec<u8>, answers: &Answers) -> Next {
        let read = match rustix::io::read(&self.socket, &mut *buffer) {
            Ok(0) => return Next::Close,
            Ok(read) => read,
            Err(Errno::AGAIN | Errno::INTR) => return Next::Read,
            Err(_) => return Next::Close,
        };
        out.clear();
        if self.head.is_empty() {
            let used = self.answer_all(&buffer[..read], out, answers);
            self.head.extend_from_slice(&buffer[used..read]);
        } else {
            let mut head = std::mem::take(&mut self.head);
            head.extend_from_slice(&buffer[..read]);
            let used = self.answer_all(&head, out, answers);
            head.drain(..used);
            self.head = head;
        }
        if self.head.len() > MAX_HEAD && !self.last {
            out.extend_from_slice(answers.bad_request());
            self.last = true;
        }
        self.send(out)
    }

    /// Sends what is left.
    pub(crate) fn write(&mut self) -> Next {
        let unsent = std::mem::take(&mut self.unsent);
        self.send(&unsent)
    }

    fn send(&mut self, mut bytes: &[u8]) -> Next {
        while !bytes.is_empty() {
            match rustix::io::write(&self.socket, bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.unsent = bytes.to_vec();
                    return Next::Write;
                }
                Err(_) => return Next::Close,
            }
        }
        if self.last { Next::Close } else { Next::Read }
    }

    /// Answers every whole request, and says how many bytes they were.
    fn answer_all(&mut self, bytes: &[u8], out: &mut Vec<u8>, answers: &Answers) -> usize {
        let mut used = 0;
        while used < bytes.len() && !self.last {
            let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
            let mut request = httparse::Request::new(&mut fields);
            match request.parse(&bytes[used..]) {
                Ok(httparse::Status::Complete(length)) => used += length,
                Ok(httparse::Status::Partial) => break,
                Err(_) => {
                    out.extend_from_slice(answers.bad_request());
                    self.last = true;
                    break;
                }
            }
            let Wishes { close, has_body } = wishes(&request);
            if has_body {
                out.extend_from_slice(answers.bad_request());
                self.last = true;
                break;
            }
            out.extend_from_slice(
                answers.to(request.method.unwrap_or_default(), request.path.unwrap_or_default()),
            );
            self.last = close;
        }
        // What follows the last request is not looked at.
        if self.last { bytes.len() } else { used }
    }
}

/// What the fields of a request ask for, as far as it is understood here.
struct Wishes {
    close: bool,
    has_body: bool,
}

fn wishes(request: &httparse::Request<'_, '_>) -> Wishes {
    // HTTP/1.0 closes unless asked otherwise (RFC 9112, 9.3); it is not asked.
    let mut wishes = Wishes { close: request.version == Some(0), has_body: false };
    for field in &*request.headers {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        // The length tells most of them apart.
        match field.name.len() {
            10 if is("connection") => wishes.close |= field.value.eq_ignore_ascii_case(b"close"),
            14 if is("content-length") => wishes.has_body |= field.value != b"0",
            17 if is("transfer-encoding") => wishes.has_body = true,
            _ => {}
        }
    }
    wishes
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn answered(parts: &[&str]) -> (String, Next) {
        use std::io::{Read as _, Write as _};
        let (mut client, server) = UnixStream::pair().unwrap();
        server.set_nonblocking(true).unwrap();
        let mut connection = Connection::new(server.into());
        let (mut buffer, mut out) = ([0; 4096], Vec::new());
        let mut next = Next::Read;
        for part in parts {
            client.write_all(part.as_bytes()).unwrap();
            next = connection.read(&mut buffer, &mut out, &Answers::at(784_111_777));
        }
        drop(connection);
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        (text, next)
    }

    const HELLO: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 16\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\nHello from tare\n";

    #[test]
    fn a_request_is_answered_whole_in_pieces_or_in_a_row() {
        let get = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        assert_eq!(answered(&[get]), (HELLO.to_owned(), Next::Read));
        assert_eq!(answered(&["GET / HT", "TP/1.1\r\nhost: a\r", "\n\r\n"]), (HELLO.to_owned(), Next::Read));
        let twice_and_a_half = format!("{get}{get}GET /");
        assert_eq!(answered(&[&twice_and_a_half]), (HELLO.repeat(2), Next::Read));
        assert_eq!(answered(&[&twice_and_a_half, " HTTP/1.1\r\n\r\n"]), (HELLO.repeat(3), Next::Read));
    }

    #[test]
    fn a_connection_is_closed_when_asked_and_after_what_cannot_be_answered() {
        let close = "GET / HTTP/1.1\r\nConnection: close\r\n\r\nGET / HTTP/1.1\r\n\r\n";
        assert_eq!(answered(&[close]), (HELLO.to_owned(), Next::Close));
        assert_eq!(answered(&["GET / HTTP/1.0\r\n\r\n"]), (HELLO.to_owned(), Next::Close));
        for (request, status) in [
            ("\0\r\n\r\n", "400 Bad Request"),
            ("POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc", "400 Bad Request"),
            ("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", "400 Bad Request"),
        ] {
            let (text, next) = answered(&[request]);
            assert!(text.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{request:?}: {text:?}");
            assert_eq!(next, Next::Close, "{request:?}");
        }
    }

    #[test]
    fn what_is_not_there_is_said_and_the_connection_stays() {
        for (request, status) in [
            ("GET /health HTTP/1.1\r\n\r\n", "200 OK"),
            ("GET /other HTTP/1.1\r\n\r\n", "404 Not Found"),
            ("PUT / HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
        ] {
            let (text, next) = answered(&[request]);
            assert!(text.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{request:?}: {text:?}");
            assert_eq!(next, Next::Read, "{request:?}");
        }
    }

    #[test]
    fn a_head_without_end_is_refused() {
        let endless = format!("GET /{}", "a".repeat(3000));
        let more = "a".repeat(3000);
        let (text, next) = answered(&[&endless, &more, &more]);
        assert!(text.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{text:?}");
        assert_eq!(next, Next::Close);
    }

    #[test]
    fn what_the_client_does_not_take_is_kept() {
        use std::io::{Read as _, Write as _};
        let (mut client, server) = UnixStream::pair().unwrap();
        server.set_nonblocking(true).unwrap();
        let mut connection = Connection::new(server.into());
        let (mut buffer, mut out) = ([0; 4096], Vec::new());
        let mut asked = 0;
        let batch = "GET / HTTP/1.1\r\n\r\n".repeat(100);
        loop {
            client.write_all(batch.as_bytes()).unwrap();
            asked += 100;
            if connection.read(&mut buffer, &mut out, &Answers::at(784_111_777)) == Next::Write {
                break;
            }
        }
        client.set_nonblocking(true).unwrap();
        let mut text = String::new();
        loop {
            // Both ends would block when there is nothing for them.
            let _ = client.read_to_string(&mut text);
            if connection.write() == Next::Read {
                break;
            }
        }
        drop(connection);
        let _ = client.read_to_string(&mut text);
        assert_eq!(text, HELLO.repeat(asked));
    }
}
