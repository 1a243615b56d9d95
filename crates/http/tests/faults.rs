//! Clients that are slow, greedy, broken or many, over real sockets.

#![cfg(unix)]

mod sample;
mod support;

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use sample::{LARGE, Sample, sizes};
use support::{Answer, Client};
use tare_http::{Engine, Settings, Sizes, Stopped};
use tokio::sync::oneshot;

const NEVER: Duration = Duration::from_secs(3600);
/// Long enough for a server that is alive to be seen waiting, short enough for the tests.
const SOON: Duration = Duration::from_millis(200);

struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<io::Result<Stopped>>>,
}

impl Server {
    fn start(settings: &Settings) -> io::Result<Self> {
        Self::with(sizes(), settings)
    }

    fn with(sizes: Sizes, settings: &Settings) -> io::Result<Self> {
        let listeners = sample::listeners(sizes.workers)?;
        let address = listeners.first().map(TcpListener::local_addr).ok_or(io::ErrorKind::NotFound)??;
        let (stop, stopping) = oneshot::channel::<()>();
        let engine = Engine::new(sizes, settings);
        let handler = Arc::new(Sample::new(Arc::clone(&engine)));
        let thread = thread::spawn(move || {
            tare_http::runtime()?.block_on(engine.run(handler, listeners, async {
                let _ = stopping.await;
            }))
        });
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    fn client(&self) -> io::Result<Client> {
        Client::connect(self.address)
    }

    /// It still serves everybody else.
    fn is_well(&self) -> io::Result<()> {
        assert_eq!(self.client()?.ask("GET", "/health")?, Answer::text("200 OK", "ok\n"));
        Ok(())
    }

    fn metric(&self, name: &str) -> io::Result<u64> {
        self.client()?.metric(name)
    }

    fn stop(mut self) -> io::Result<Stopped> {
        drop(self.stop.take());
        let thread = self.thread.take().ok_or(io::ErrorKind::NotFound)?;
        thread.join().map_err(|_| io::Error::other("the server panicked"))?
    }
}

fn patient() -> Settings {
    Settings {
        header_timeout: NEVER,
        body_timeout: NEVER,
        write_timeout: NEVER,
        idle_timeout: NEVER,
        linger: Duration::ZERO,
        ..sample::settings()
    }
}

#[test]
fn head_that_comes_byte_by_byte_is_cut_off_however_steadily() -> io::Result<()> {
    let server = Server::start(&Settings { header_timeout: SOON, ..patient() })?;
    let mut client = server.client()?;
    // The clock is the server's: it is sent to until it has had enough.
    while client.send("a").is_ok() {
        thread::sleep(Duration::from_millis(5));
    }
    let answer = client.rest();
    // The answer is there unless the last bytes had it thrown away.
    assert!(answer.as_ref().map_or(true, |it| it.starts_with("HTTP/1.1 408 ")), "{answer:?}");
    server.is_well()
}

#[test]
fn body_that_does_not_come_is_answered_408() -> io::Result<()> {
    let server = Server::start(&Settings { body_timeout: SOON, ..patient() })?;
    let mut client = server.client()?;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe")?;
    assert_eq!(client.answer(true)?, Answer::empty("408 Request Timeout").with("connection", "close"));
    server.is_well()
}

#[test]
fn idle_connection_is_closed_without_a_word() -> io::Result<()> {
    let server = Server::start(&Settings { idle_timeout: SOON, ..patient() })?;
    let mut client = server.client()?;
    client.ask("GET", "/")?;
    assert_eq!(client.rest()?, "");
    server.is_well()
}

#[test]
fn client_that_does_not_read_is_cut_off() -> io::Result<()> {
    let server = Server::start(&Settings { write_timeout: SOON, ..patient() })?;
    let mut client = server.client()?;
    client.send("GET /bytes/1073741824 HTTP/1.1\r\nHost: a\r\n\r\n")?;
    while server.metric("connections")? > 1 {
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

#[test]
fn client_that_pipelines_and_never_reads_is_not_read_from_for_ever() -> io::Result<()> {
    let server = Server::start(&patient())?;
    let mut stream = TcpStream::connect(server.address)?;
    stream.set_write_timeout(Some(SOON))?;
    let requests = b"GET /bytes/1000 HTTP/1.1\r\nHost: a\r\n\r\n".repeat(100);
    let mut sent = 0;
    // It ends when the buffers of both kernels are full: the server has stopped reading.
    while let Ok(count) = stream.write(&requests) {
        sent += count;
        assert!(sent < 256 << 20, "the server reads without end");
    }
    let received = server.metric("received_bytes_total")?;
    thread::sleep(SOON);
    let later = server.metric("received_bytes_total")?;
    // The looks at the metrics are requests too.
    assert!(later - received < 1000, "{received} and then {later}");
    server.is_well()
}

#[test]
fn half_closed_connection_gets_its_answers_and_ends() -> io::Result<()> {
    let server = Server::start(&patient())?;
    let mut stream = TcpStream::connect(server.address)?;
    stream.write_all(&b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n".repeat(3))?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    assert_eq!(text.matches("HTTP/1.1 200 OK\r\n").count(), 3, "{text}");
    Ok(())
}

#[test]
fn prepared_answer_that_is_longer_than_a_buffer_is_sent_whole() -> io::Result<()> {
    let server = Server::start(&patient())?;
    let mut client = server.client()?;
    client.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n".repeat(3))?;
    for _ in 0..3 {
        assert_eq!(client.answer(true)?, Answer::text("200 OK", LARGE));
    }
    assert_eq!(client.ask("HEAD", "/large")?.fields["content-length"], LARGE.len().to_string());
    server.is_well()
}

#[test]
fn garbage_is_answered_400_and_half_a_request_with_silence() -> io::Result<()> {
    let server = Server::start(&patient())?;
    let mut state = 1_u32;
    for round in 0..200 {
        let noise: Vec<u8> = (0..round * 7 + 1)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        let mut stream = TcpStream::connect(server.address)?;
        stream.write_all(&noise)?;
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut answer = Vec::new();
        // The server may have closed before all of it had come.
        let _ = stream.read_to_end(&mut answer);
        let refused = answer.starts_with(b"HTTP/1.1 400 ") || answer.starts_with(b"HTTP/1.1 414 ");
        assert!(answer.is_empty() || refused, "{}", answer.escape_ascii());
    }
    server.is_well()
}

#[test]
fn slow_clients_share_what_memory_there_is_and_are_told_when_it_ends() -> io::Result<()> {
    // These would take 4 MB.
    let server = Server::with(Sizes { memory: 3_355_440, connections: 2000, ..sizes() }, &patient())?;
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\nA: {}", "a".repeat(8000));
    let mut clients = Vec::new();
    let mut told = 0;
    for _ in 0..500 {
        let mut client = server.client()?;
        client.send(&head)?;
        clients.push(client);
    }
    while told == 0 {
        let page = server.client()?.ask("GET", "/metrics");
        // The page itself needs buffers, and may be refused for the same reason.
        told = match page {
            Ok(page) if page.status.contains(" 200 ") => page
                .body
                .lines()
                .find_map(|line| line.strip_prefix("requests_total{status=\"503\"} ")?.parse().ok())
                .unwrap_or(0_u64),
            _ => 1,
        };
    }
    drop(clients);
    // And what they held is there again.
    loop {
        if server.is_well_again() {
            return Ok(());
        }
    }
}

impl Server {
    fn is_well_again(&self) -> bool {
        let answer = self.client().and_then(|mut client| client.ask("GET", "/health"));
        answer.is_ok_and(|answer| answer == Answer::text("200 OK", "ok\n"))
    }
}

#[test]
fn stop_under_load_loses_not_one_accepted_request() -> io::Result<()> {
    for round in 0..3 {
        let settings = Settings { linger: NEVER, stop_deadline: NEVER, ..patient() };
        let server = Server::with(Sizes { workers: 2, ..sizes() }, &settings)?;
        let address = server.address;
        let (stopping, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let clients: Vec<_> = (0..8)
            .map(|_| {
                let (stopping, answered) = (Arc::clone(&stopping), Arc::clone(&answered));
                thread::spawn(move || -> io::Result<()> {
                    // New connections all the while, and several requests on each.
                    while let Ok(mut client) = connect(address, &stopping) {
                        for _ in 0..10 {
                            let answer = client.ask("GET", "/")?;
                            assert_eq!(answer.body, "hello\n");
                            answered.fetch_add(1, Ordering::Relaxed);
                            if answer.fields.contains_key("connection") {
                                break;
                            }
                        }
                    }
                    Ok(())
                })
            })
            .collect();
        while answered.load(Ordering::Relaxed) < 1000 {
            thread::yield_now();
        }
        stopping.store(true, Ordering::Relaxed);
        let stopped = server.stop()?;
        for client in clients {
            let lost = client.join().map_err(|_| io::Error::other("a client panicked"))?;
            assert!(lost.is_ok(), "round {round}: {lost:?}");
        }
        assert_eq!(stopped, Stopped { cut_off: 0 });
    }
    Ok(())
}

#[cfg(target_os = "linux")]
#[test]
fn a_handshake_that_is_under_way_when_the_server_stops_is_served() -> io::Result<()> {
    use socket2::{Domain, SockFilter, Socket, Type};

    const DROP_ALL: SockFilter = SockFilter::new(0x06, 0, 0, 0);

    let mut server = Server::start(&Settings { linger: NEVER, stop_deadline: NEVER, ..patient() })?;
    let address = server.address;
    // What the server answers is lost until it stops; a second later it answers again.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.attach_filter(&[DROP_ALL])?;
    let connecting = socket.try_clone()?;
    let connected = thread::spawn(move || connecting.connect(&address.into()));
    // As the kernel's documentation has it (proc_net_tcp.rst): this port, somebody's, and TCP_SYN_RECV.
    let (port, state) = (format!(":{:04X} ", address.port()), " 03 ");
    while !std::fs::read_to_string("/proc/net/tcp")?
        .lines()
        .any(|line| line.find(&port).is_some_and(|at| at < 20 && line.contains(state)))
    {
        thread::yield_now();
    }
    drop(server.stop.take());
    while TcpStream::connect_timeout(&address, Duration::from_millis(50)).is_ok() {}
    socket.detach_filter()?;
    connected.join().map_err(|_| io::Error::other("the client panicked"))??;
    let answer = Client::over(socket.into())?.ask("GET", "/")?;
    assert_eq!((answer.status.as_str(), answer.body.as_str()), ("HTTP/1.1 200 OK", "hello\n"));
    assert_eq!(server.stop()?, Stopped { cut_off: 0 });
    Ok(())
}

/// A connection, while the server takes any. Once it stops, handshakes are no longer answered.
fn connect(address: SocketAddr, stopping: &AtomicBool) -> io::Result<Client> {
    loop {
        match TcpStream::connect_timeout(&address, Duration::from_secs(5)) {
            Ok(stream) => return Client::over(stream),
            // Its port is still in use by a connection that was closed a moment ago.
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => thread::yield_now(),
            Err(error) if stopping.load(Ordering::Relaxed) => return Err(error),
            Err(error) => panic!("a server that serves refuses: {error}"),
        }
    }
}
