//! Asks a server that is just starting until it answers, and notes when it did what for the first time.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use tare_load::response::Parser;
use tare_load::{Request, clock, request_bytes};

/// Between two attempts. Each costs the prober's core some 20 µs, and how late a point may be noted.
const PAUSE: Duration = Duration::from_micros(50);
/// Attempts come from these ports in turn: outside of those that the kernel hands out (32768 to 60999, ip(7),
/// `ip_local_port_range`). One of those could be the very port that is asked: a connection with itself, which
/// looks like a listener and keeps the server from its port.
const SOURCES: std::ops::RangeInclusive<u16> = 61_000..=65_535;
/// A longer response is no answer to a readiness check.
const RESPONSE_LIMIT: usize = 1 << 20;

/// What counts as ready.
#[derive(Debug, Clone, PartialEq)]
pub struct Readiness {
    /// Where the server will listen.
    pub address: SocketAddr,
    /// Where else it may listen: both are tried in turn until one accepts a connection.
    pub other: Option<SocketAddr>,
    /// What it is asked for.
    pub request: Request,
    /// The status of a correct answer.
    pub status: u16,
    /// What its body must contain.
    pub contains: Option<String>,
    /// From the first attempt on.
    pub timeout: Duration,
}

/// When the server did what for the first time, in nanoseconds of [`clock::now`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observed {
    /// A connection was accepted by the kernel for it, which is when it listens.
    pub listening: u64,
    /// The first byte of any response.
    pub first_byte: u64,
    /// The last byte of the first response with the right status.
    pub ready: u64,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// It never listened.
    #[error("nothing listens on {} after {seconds:.1} s", either(address, other.as_ref()))]
    NotListening {
        /// Where.
        address: SocketAddr,
        /// Where else was tried.
        other: Option<SocketAddr>,
        /// How long was waited.
        seconds: f64,
    },
    /// It listens, and gives no or another answer.
    #[error("no answer {status} to {request} from {address} after {seconds:.1} s: {last}")]
    NotReady {
        /// Where.
        address: SocketAddr,
        /// Method and path.
        request: String,
        /// Which was expected.
        status: u16,
        /// What came last.
        last: String,
        /// How long was waited.
        seconds: f64,
    },
    /// The server ended first.
    #[error("the server ended before it answered")]
    Ended,
}

fn either(address: &SocketAddr, other: Option<&SocketAddr>) -> String {
    other.map_or_else(|| address.to_string(), |other| format!("{address} and {other}"))
}

/// Asks until there is a correct answer, `ended` says that there will be none, or time is up. Says when and from where it
/// came.
///
/// # Errors
/// When there is no correct answer.
pub fn probe(readiness: &Readiness, ended: impl Fn() -> bool) -> Result<(Observed, SocketAddr), ProbeError> {
    let Readiness { address, other, request, status, contains, timeout } = readiness;
    let begun = clock::now();
    let deadline = begun.saturating_add(u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX));
    let mut points = Points::default();
    let mut last = "the connection was closed".to_owned();
    let mut asked = *address;
    loop {
        match attempt(readiness, asked, deadline, &mut points) {
            Ok((answer, true)) if answer == *status => {
                let ready = clock::now();
                let listening = points.listening.unwrap_or(ready);
                let first_byte = points.first_byte.unwrap_or(ready);
                return Ok((Observed { listening, first_byte, ready }, asked));
            }
            Ok((answer, _)) if answer == *status => {
                last = format!("the body does not contain {:?}", contains.as_deref().unwrap_or_default());
            }
            Ok((answer, _)) => last = format!("it answers {answer}"),
            Err(error) if points.listening.is_some() => last = error.to_string(),
            Err(_) => {}
        }
        if ended() {
            return Err(ProbeError::Ended);
        }
        let now = clock::now();
        if now >= deadline {
            let seconds = Duration::from_nanos(now - begun).as_secs_f64();
            return Err(match points.listening {
                None => ProbeError::NotListening { address: *address, other: *other, seconds },
                Some(_) => ProbeError::NotReady {
                    address: asked,
                    request: format!("{} {}", request.method, request.path),
                    status: *status,
                    last,
                    seconds,
                },
            });
        }
        // Nothing accepts connections yet: the other address, at once.
        if let (None, Some(other)) = (points.listening, other) {
            asked = if asked == *address { *other } else { *address };
            if asked == *other {
                continue;
            }
        }
        thread::sleep(PAUSE);
    }
}

#[derive(Debug, Default)]
struct Points {
    listening: Option<u64>,
    first_byte: Option<u64>,
    /// How many connections were tried.
    attempts: u32,
}

/// Where an attempt comes from.
fn source(attempt: u32, target: u16) -> u16 {
    let (first, last) = (*SOURCES.start(), *SOURCES.end());
    let skips = SOURCES.contains(&target);
    let count = u32::from(last - first) + u32::from(!skips);
    let port = first + u16::try_from(attempt % count).unwrap_or(0);
    if skips && port >= target { port + 1 } else { port }
}

/// A connection from a port of our own choice.
#[cfg(target_os = "linux")]
fn connect(address: &SocketAddr, source: u16, timeout: Duration) -> io::Result<TcpStream> {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

    let (family, any): (_, IpAddr) = match address {
        SocketAddr::V4(_) => (AddressFamily::INET, Ipv4Addr::UNSPECIFIED.into()),
        SocketAddr::V6(_) => (AddressFamily::INET6, Ipv6Addr::UNSPECIFIED.into()),
    };
    let socket = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // A port whose last connection the kernel still remembers.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    // It holds for connecting too (socket(7)).
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(timeout))?;
    rustix::net::bind(&socket, &SocketAddr::new(any, source))?;
    rustix::net::connect(&socket, address)?;
    Ok(TcpStream::from(socket))
}

#[cfg(not(target_os = "linux"))]
fn connect(address: &SocketAddr, _source: u16, timeout: Duration) -> io::Result<TcpStream> {
    TcpStream::connect_timeout(address, timeout)
}

/// One connection, one request: the status of the whole response, and whether its body contains what it must.
fn attempt(
    readiness: &Readiness,
    address: SocketAddr,
    deadline: u64,
    points: &mut Points,
) -> io::Result<(u16, bool)> {
    let left = || Duration::from_nanos(deadline.saturating_sub(clock::now()).max(1_000_000));
    let source = source(points.attempts, address.port());
    points.attempts = points.attempts.wrapping_add(1);
    let mut stream = connect(&address, source, left())?;
    points.listening.get_or_insert_with(clock::now);
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(left()))?;
    // An answer that is there already counts, also where the server does not read the request to its end.
    let written = stream.write_all(&request_bytes(&address.to_string(), &readiness.request, false));
    let mut parser = Parser::new();
    // What the parser has not used up yet: part of a head or of a chunk's line.
    let mut rest = Vec::with_capacity(4096);
    let mut body = Vec::new();
    let mut received = 0;
    let mut chunk = [0; 4096];
    let contains = |body: &[u8]| {
        readiness.contains.as_ref().is_none_or(|text| text.is_empty() || contains(body, text.as_bytes()))
    };
    loop {
        stream.set_read_timeout(Some(left()))?;
        let length = stream.read(&mut chunk).map_err(|error| written.as_ref().err().map_or(error, copied))?;
        if length == 0 {
            let whole = parser.end().map(|answer| (answer.status, contains(&body)));
            return whole.ok_or_else(|| io::ErrorKind::UnexpectedEof.into());
        }
        points.first_byte.get_or_insert_with(clock::now);
        rest.extend_from_slice(&chunk[..length]);
        received += length;
        let keep = |piece: &[u8]| body.extend_from_slice(piece);
        let (used, answer) = parser.read(&rest, readiness.request.is_head(), keep).map_err(|error| {
            let text = format!("it answers something else than HTTP/1.1: {error}");
            io::Error::new(io::ErrorKind::InvalidData, text)
        })?;
        if let Some(answer) = answer {
            return Ok((answer.status, contains(&body)));
        }
        rest.drain(..used);
        if received > RESPONSE_LIMIT {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it answers more than 1 MiB"));
        }
    }
}

fn contains(body: &[u8], text: &[u8]) -> bool {
    body.windows(text.len()).any(|window| window == text)
}

/// The same error, which has no clone.
fn copied(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), error.to_string())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn readiness(address: SocketAddr) -> Readiness {
        let request = Request::get("/ready");
        let timeout = Duration::from_secs(20);
        Readiness { address, other: None, request, status: 200, contains: None, timeout }
    }

    /// Answers one connection after the other with these bytes.
    fn answers(listener: TcpListener, answers: &'static [&'static str]) -> thread::JoinHandle<Vec<String>> {
        thread::spawn(move || {
            let mut requests = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 1024];
                let length = stream.read(&mut request).unwrap();
                requests.push(String::from_utf8_lossy(&request[..length]).into_owned());
                stream.write_all(answer.as_bytes()).unwrap();
            }
            requests
        })
    }

    #[test]
    fn points_follow_each_other_and_only_the_right_status_is_ready() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = answers(
            listener,
            &[
                "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nwait",
                "",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            ],
        );
        let (observed, _) = probe(&readiness(address), || false).unwrap();
        assert!(observed.listening <= observed.first_byte && observed.first_byte < observed.ready);
        let requests = server.join().unwrap();
        assert_eq!(requests.len(), 3);
        assert!(
            requests.iter().all(|request| request.starts_with("GET /ready HTTP/1.1\r\nhost: 127.0.0.1:"))
        );
    }

    #[test]
    fn a_chunked_answer_is_whole_at_its_last_chunk_and_not_when_the_server_closes() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            assert!(stream.read(&mut request).unwrap() > 0);
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
                .unwrap();
            // The prober closes first: the server keeps the connection although it was asked not to.
            stream.read(&mut request).unwrap()
        });
        let deadline = clock::now() + 20_000_000_000;
        assert_eq!(
            attempt(&readiness(address), address, deadline, &mut Points::default()).unwrap(),
            (200, true)
        );
        assert_eq!(server.join().unwrap(), 0);
    }

    #[test]
    fn no_attempt_comes_from_the_port_that_is_asked() {
        let sources: std::collections::BTreeSet<u16> = (0..10_000).map(|it| source(it, 61_000)).collect();
        assert_eq!((sources.first(), sources.last(), sources.len()), (Some(&61_001), Some(&65_535), 4_535));
        let sources: std::collections::BTreeSet<u16> = (0..10_000).map(|it| source(it, 80)).collect();
        assert_eq!((sources.first(), sources.last(), sources.len()), (Some(&61_000), Some(&65_535), 4_536));
        // The kernel hands out even ports to connections, and came upon this one after some thousands.
        let free = (59_000..60_000).rev().step_by(2).map(|port| port & !1);
        let free = free.map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let address = free.into_iter().find(|address| TcpListener::bind(address).is_ok()).unwrap();
        let mut points = Points::default();
        for _ in 0..40_000 {
            let error = attempt(&readiness(address), address, u64::MAX, &mut points).unwrap_err();
            assert_ne!(error.kind(), io::ErrorKind::InvalidData, "{error}");
        }
        assert_eq!(points.listening, None);
    }

    #[test]
    fn a_server_that_comes_late_is_waited_for() {
        // A port that was free a moment ago.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let prober = thread::spawn(move || probe(&readiness(address), || false));
        thread::sleep(Duration::from_millis(30));
        let before = clock::now();
        let server =
            answers(TcpListener::bind(address).unwrap(), &["HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]);
        assert!(prober.join().unwrap().unwrap().0.listening > before);
        server.join().unwrap();
    }

    #[test]
    fn what_the_profile_asks_for_is_sent_and_looked_for() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = answers(
            listener,
            &[
                "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nstarting",
                "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.0 200 OK\r\nConnection: close\r\nContent-Length: 8\r\n\r\nI am up!",
            ],
        );
        let mut request = Request::get("/ready");
        request.method = "POST".to_owned();
        request.headers = vec![("Host".to_owned(), "shop.example".to_owned())];
        request.body = tare_load::Blob(b"ping".to_vec());
        let asked = Readiness { request, contains: Some("up".to_owned()), ..readiness(address) };
        probe(&asked, || false).unwrap();
        for request in server.join().unwrap() {
            assert_eq!(
                request,
                "POST /ready HTTP/1.1\r\nHost: shop.example\r\ncontent-length: 4\r\nconnection: close\r\n\r\nping"
            );
        }
    }

    #[test]
    fn a_server_that_listens_on_the_other_address_only_is_ready() {
        let Ok(listener) = TcpListener::bind("[::1]:0") else { return };
        let other = listener.local_addr().unwrap();
        // Of this port nothing listens on 127.0.0.1, unless another program has it.
        let address = SocketAddr::from(([127, 0, 0, 1], other.port()));
        if TcpListener::bind(address).is_err() {
            return;
        }
        let server = answers(listener, &["HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]);
        let either = Readiness { other: Some(other), ..readiness(address) };
        assert_eq!(probe(&either, || false).unwrap().1, other);
        server.join().unwrap();
        let short = Readiness { timeout: Duration::from_millis(20), ..either };
        let error = probe(&short, || false).unwrap_err().to_string();
        assert!(error.starts_with(&format!("nothing listens on {address} and {other} after ")), "{error}");
    }

    #[test]
    fn one_that_ended_is_not_waited_for() {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let ended = AtomicBool::new(false);
        let result = probe(&readiness(address), || ended.swap(true, Ordering::Relaxed));
        assert!(matches!(result, Err(ProbeError::Ended)), "{result:?}");
    }

    #[test]
    fn why_there_is_no_answer_is_said() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            listener.set_nonblocking(true).unwrap();
            for _ in 0..2000 {
                if let Ok((mut stream, _)) = listener.accept() {
                    let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n");
                }
                thread::sleep(Duration::from_micros(100));
            }
        });
        let short = Readiness { timeout: Duration::from_millis(50), ..readiness(address) };
        let error = probe(&short, || false).unwrap_err().to_string();
        assert!(error.starts_with(&format!("no answer 200 to GET /ready from {address} after ")), "{error}");
        server.join().unwrap();
        let error = probe(&short, || false).unwrap_err().to_string();
        assert!(error.starts_with(&format!("nothing listens on {address} after ")), "{error}");
    }
}
