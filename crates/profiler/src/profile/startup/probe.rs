//! Asks a server that is just starting until it answers, and notes when it did what for the first time.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use tare_load::clock;
use tare_load::response::Parser;

/// Between two attempts. Each costs the prober's core some 20 µs, and how late a point may be noted.
const PAUSE: Duration = Duration::from_micros(50);
/// Attempts come from these ports in turn: outside of those that the kernel hands out (32768 to 60999, ip(7),
/// `ip_local_port_range`). One of those could be the very port that is asked: a connection with itself, which
/// looks like a listener and keeps the server from its port.
const SOURCES: std::ops::RangeInclusive<u16> = 61_000..=65_535;
/// A longer response is no answer to a readiness check.
const RESPONSE_LIMIT: usize = 1 << 20;

/// What counts as ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// Where the server will listen.
    pub address: SocketAddr,
    /// What it is asked for.
    pub path: String,
    /// The status of a correct answer.
    pub status: u16,
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
    #[error("nothing listens on {address} after {seconds:.1} s")]
    NotListening {
        /// Where.
        address: SocketAddr,
        /// How long was waited.
        seconds: f64,
    },
    /// It listens, and gives no or another answer.
    #[error("no answer {status} to GET {path} from {address} after {seconds:.1} s: {last}")]
    NotReady {
        /// Where.
        address: SocketAddr,
        /// For what.
        path: String,
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

/// Asks until there is a correct answer, `ended` says that there will be none, or time is up.
///
/// # Errors
/// When there is no correct answer.
pub fn probe(readiness: &Readiness, ended: impl Fn() -> bool) -> Result<Observed, ProbeError> {
    let Readiness { address, path, status, timeout } = readiness;
    let begun = clock::now();
    let deadline = begun.saturating_add(u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX));
    let mut points = Points::default();
    let mut last = "the connection was closed".to_owned();
    loop {
        match attempt(readiness, deadline, &mut points) {
            Ok(answer) if answer == *status => {
                let ready = clock::now();
                let listening = points.listening.unwrap_or(ready);
                return Ok(Observed { listening, first_byte: points.first_byte.unwrap_or(ready), ready });
            }
            Ok(answer) => last = format!("it answers {answer}"),
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
                None => ProbeError::NotListening { address: *address, seconds },
                Some(_) => ProbeError::NotReady {
                    address: *address,
                    path: path.clone(),
                    status: *status,
                    last,
                    seconds,
                },
            });
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

/// One connection, one request: the status of the whole response.
fn attempt(readiness: &Readiness, deadline: u64, points: &mut Points) -> io::Result<u16> {
    let left = || Duration::from_nanos(deadline.saturating_sub(clock::now()).max(1_000_000));
    let source = source(points.attempts, readiness.address.port());
    points.attempts = points.attempts.wrapping_add(1);
    let mut stream = connect(&readiness.address, source, left())?;
    points.listening.get_or_insert_with(clock::now);
    stream.set_nodelay(true)?;
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: tare\r\nConnection: close\r\n\r\n",
        readiness.path, readiness.address
    );
    stream.write_all(request.as_bytes())?;
    let mut parser = Parser::new();
    // What the parser has not used up yet: part of a head or of a chunk's line.
    let mut rest = Vec::with_capacity(4096);
    let mut received = 0;
    let mut chunk = [0; 4096];
    loop {
        stream.set_read_timeout(Some(left()))?;
        let length = stream.read(&mut chunk)?;
        if length == 0 {
            let whole = parser.end().map(|answer| answer.status);
            return whole.ok_or_else(|| io::ErrorKind::UnexpectedEof.into());
        }
        points.first_byte.get_or_insert_with(clock::now);
        rest.extend_from_slice(&chunk[..length]);
        received += length;
        let (used, answer) = parser.read(&rest, false, |_| {}).map_err(|error| {
            let text = format!("it answers something else than HTTP/1.1: {error}");
            io::Error::new(io::ErrorKind::InvalidData, text)
        })?;
        if let Some(answer) = answer {
            return Ok(answer.status);
        }
        rest.drain(..used);
        if received > RESPONSE_LIMIT {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it answers more than 1 MiB"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn readiness(address: SocketAddr) -> Readiness {
        Readiness { address, path: "/ready".to_owned(), status: 200, timeout: Duration::from_secs(20) }
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
        let observed = probe(&readiness(address), || false).unwrap();
        assert!(observed.listening <= observed.first_byte && observed.first_byte < observed.ready);
        let requests = server.join().unwrap();
        assert_eq!(requests.len(), 3);
        assert!(
            requests.iter().all(|request| request.starts_with("GET /ready HTTP/1.1\r\nHost: 127.0.0.1:"))
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
        assert_eq!(attempt(&readiness(address), deadline, &mut Points::default()).unwrap(), 200);
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
            let error = attempt(&readiness(address), u64::MAX, &mut points).unwrap_err();
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
        assert!(prober.join().unwrap().unwrap().listening > before);
        server.join().unwrap();
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
