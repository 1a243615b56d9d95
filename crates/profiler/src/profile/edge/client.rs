//! A client that asks for one file after another and reads what a cache says of its answers (RFC 9211).

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use tare_load::response::Parser;
use tare_load::{Request, clock, request_bytes};

/// An answer that has not come by then is an error.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The state of an answer's content in the server's cache, by its header `Cache-Status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheState {
    /// Out of the cache.
    Hit,
    /// Out of the cache, and no longer fresh.
    Stale,
    /// The server had to ask its source.
    Miss,
}

impl CacheState {
    /// The first cache of the header's list: `NAME; hit; ttl=-3` or `NAME; fwd=miss`.
    #[must_use]
    pub fn parse(header: &str) -> Option<Self> {
        let mut parameters = header.split(',').next()?.split(';').skip(1).map(str::trim);
        let all: Vec<&str> = parameters.by_ref().collect();
        if all.iter().any(|it| it.starts_with("fwd")) {
            return Some(Self::Miss);
        }
        let stale = all.iter().any(|it| it.starts_with("ttl=-"));
        all.contains(&"hit").then_some(if stale { Self::Stale } else { Self::Hit })
    }
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its body, as it was transferred.
    pub body: Vec<u8>,
    /// Whether the body is encoded (`Content-Encoding`).
    pub encoded: bool,
    /// What the cache says.
    pub cache: Option<CacheState>,
    /// Nanoseconds from the sending to the last byte.
    pub nanoseconds: u64,
}

/// One connection, which is opened anew after an error.
#[derive(Debug)]
pub struct Client {
    address: SocketAddr,
    stream: Option<TcpStream>,
}

impl Client {
    /// To the server at this address, in the network namespace of the calling thread.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Self { address, stream: None }
    }

    /// Asks for a path with these headers.
    ///
    /// # Errors
    /// When there is no connection, or no whole answer in time.
    pub fn get(&mut self, path: &str, headers: &[(&str, &str)]) -> io::Result<Answer> {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let request = Request { headers, ..Request::get(path) };
        let stream = match self.stream.take() {
            Some(stream) => stream,
            None => connect(self.address)?,
        };
        let (answer, stream) = ask(stream, &request_bytes(&self.address.to_string(), &request, true))?;
        self.stream = stream;
        Ok(answer)
    }
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

/// The answer, and the connection if it stays open.
fn ask(mut stream: TcpStream, request: &[u8]) -> io::Result<(Answer, Option<TcpStream>)> {
    let begun = clock::now();
    stream.write_all(request)?;
    let (mut parser, mut head, mut rest, mut body) = (Parser::new(), Vec::new(), Vec::new(), Vec::new());
    let mut chunk = vec![0; 64 << 10];
    let malformed =
        |error| io::Error::new(io::ErrorKind::InvalidData, format!("it is not HTTP/1.1: {error}"));
    let done = loop {
        let length = stream.read(&mut chunk)?;
        if length == 0 {
            break parser.end().ok_or(io::ErrorKind::UnexpectedEof)?;
        }
        if !head.windows(4).any(|it| it == b"\r\n\r\n") {
            head.extend_from_slice(&chunk[..length]);
        }
        rest.extend_from_slice(&chunk[..length]);
        let (used, answer) =
            parser.read(&rest, false, |piece| body.extend_from_slice(piece)).map_err(malformed)?;
        rest.drain(..used);
        if let Some(answer) = answer {
            break answer;
        }
    };
    let nanoseconds = clock::now().saturating_sub(begun);
    let field = |name| header(&head, name);
    let answer = Answer {
        status: done.status,
        body,
        encoded: field("content-encoding").is_some_and(|coding| coding != "identity"),
        cache: field("cache-status").as_deref().and_then(CacheState::parse),
        nanoseconds,
    };
    Ok((answer, done.keep_alive.then_some(stream)))
}

/// The value of a header in the bytes of a head and what follows it.
fn header(head: &[u8], wanted: &str) -> Option<String> {
    let end = head.windows(4).position(|it| it == b"\r\n\r\n").unwrap_or(head.len());
    let text = String::from_utf8_lossy(&head[..end]);
    text.lines().skip(1).find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case(wanted).then(|| value.trim().to_owned())
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_state_of_a_cache_is_read_as_the_standard_has_it() {
        for (header, state) in [
            ("app; hit", Some(CacheState::Hit)),
            ("app; hit; ttl=30", Some(CacheState::Hit)),
            ("app; hit; ttl=-0", Some(CacheState::Stale)),
            ("app;hit;ttl=-7", Some(CacheState::Stale)),
            ("app; fwd=miss; stored", Some(CacheState::Miss)),
            ("near; hit, far; fwd=stale", Some(CacheState::Hit)),
            ("app; fwd=stale; fwd-status=304", Some(CacheState::Miss)),
            ("app", None),
            ("", None),
        ] {
            assert_eq!(CacheState::parse(header), state, "{header}");
        }
    }

    #[test]
    fn answers_come_over_one_connection_as_long_as_it_stays() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let mut requests = Vec::new();
            for answers in [
                &[
                    "HTTP/1.1 200 OK\r\nCache-Status: a; hit\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nab",
                    "HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
                ][..],
                &["HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nc"],
            ] {
                let (mut stream, _) = listener.accept().unwrap();
                for answer in answers {
                    let mut request = [0; 1024];
                    let length = stream.read(&mut request).unwrap();
                    requests.push(String::from_utf8_lossy(&request[..length]).into_owned());
                    stream.write_all(answer.as_bytes()).unwrap();
                }
            }
            requests
        });
        let mut client = Client::new(address);
        let mut get = |path| {
            let answer = client.get(path, &[("accept-encoding", "gzip")]).unwrap();
            assert!(answer.nanoseconds > 0);
            (answer.status, answer.body, answer.encoded, answer.cache)
        };
        assert_eq!(get("/a"), (200, b"ab".to_vec(), true, Some(CacheState::Hit)));
        assert_eq!(get("/b"), (404, vec![], false, None));
        assert_eq!(get("/c"), (200, b"c".to_vec(), false, None));
        let requests = server.join().unwrap();
        assert!(
            requests[0].starts_with("GET /a HTTP/1.1\r\n")
                && requests[0].contains("accept-encoding: gzip\r\n")
        );
        assert_eq!(requests.len(), 3);
        assert!(client.get("/d", &[]).is_err());
    }
}
