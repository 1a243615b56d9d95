//! The library's server over a loopback listener: its answers, and how it stops.

mod support;

use std::future::{Future, ready};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use app::{Config, Stopped};
use support::{Answer, Client};
use tokio::sync::oneshot;

/// So long that no test gets there: what ends, ends because it is finished.
const NEVER: Duration = Duration::from_secs(3600);

const PATIENT: Config = Config { header_read_timeout: NEVER, linger: NEVER, stop_deadline: NEVER };

struct Server {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<io::Result<Stopped>>,
}

impl Server {
    fn start(config: Config) -> io::Result<Self> {
        Self::start_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?, config)
    }

    fn start_on(listener: TcpListener, config: Config) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let (stop, stopping) = oneshot::channel();
        let shutdown = async {
            let _ = stopping.await;
        };
        Ok(Self { address, stop, thread: thread::spawn(move || run(listener, config, shutdown)) })
    }

    fn client(&self) -> io::Result<Client> {
        Client::connect(self.address)
    }

    /// Tells the server to stop. It goes on until its connections have ended.
    fn stop(self) -> Stopping {
        let _ = self.stop.send(());
        Stopping { thread: self.thread }
    }
}

struct Stopping {
    thread: JoinHandle<io::Result<Stopped>>,
}

impl Stopping {
    fn wait(self) -> io::Result<Stopped> {
        let panicked = |_| io::Error::other("the server panicked");
        self.thread.join().map_err(panicked)?
    }
}

fn run(listener: TcpListener, config: Config, shutdown: impl Future<Output = ()>) -> io::Result<Stopped> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        Ok(app::run(listener, config, shutdown).await)
    })
}

/// Asks for `/ready` on one connection until the server says that it is stopping.
fn wait_until_draining(client: &mut Client) -> io::Result<Answer> {
    loop {
        let answer = client.ask("GET", "/ready")?;
        if answer != Answer::text("200 OK", "ready\n") {
            return Ok(answer);
        }
    }
}

#[test]
fn each_route_answers_get_and_head() -> io::Result<()> {
    let server = Server::start(PATIENT)?;
    let mut client = server.client()?;
    for (target, body) in [
        ("/", "Hello from tare\n"),
        ("/?name=value", "Hello from tare\n"),
        ("/health", "ok\n"),
        ("/ready", "ready\n"),
    ] {
        let expected = Answer::text("200 OK", body);
        assert_eq!(client.ask("GET", target)?, expected, "GET {target}");
        let expected = Answer { body: String::new(), ..expected };
        assert_eq!(client.ask("HEAD", target)?, expected, "HEAD {target}");
    }
    Ok(())
}

#[test]
fn unknown_path_is_not_found_whatever_the_method() -> io::Result<()> {
    let server = Server::start(PATIENT)?;
    let mut client = server.client()?;
    let expected = Answer::text("404 Not Found", "not found\n");
    for (method, target) in [
        ("GET", "/missing"),
        ("GET", "//"),
        ("GET", "/health/"),
        ("GET", "/Health"),
        ("DELETE", "/missing"),
        ("OPTIONS", "*"),
    ] {
        assert_eq!(client.ask(method, target)?, expected, "{method} {target}");
    }
    Ok(())
}

#[test]
fn other_methods_are_refused_and_the_allowed_ones_named() -> io::Result<()> {
    let server = Server::start(PATIENT)?;
    let mut client = server.client()?;
    let expected = Answer::text("405 Method Not Allowed", "method not allowed\n").with("allow", "GET, HEAD");
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"] {
        for target in ["/", "/health", "/ready"] {
            assert_eq!(client.ask(method, target)?, expected, "{method} {target}");
        }
    }
    Ok(())
}

#[test]
fn request_must_name_one_host_unless_it_is_http_1_0() -> io::Result<()> {
    let server = Server::start(PATIENT)?;
    let refused = Answer::text("400 Bad Request", "bad request\n");
    for (head, expected) in [
        ("GET / HTTP/1.1\r\n\r\n", refused.clone()),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", refused),
        (
            "GET / HTTP/1.0\r\n\r\n",
            Answer { status: "HTTP/1.0 200 OK".to_owned(), ..Answer::text("200 OK", "Hello from tare\n") },
        ),
    ] {
        let mut client = server.client()?;
        client.send(head)?;
        assert_eq!(client.answer(true)?, expected, "{head:?}");
    }
    Ok(())
}

#[test]
fn two_requests_share_a_connection_even_when_sent_at_once() -> io::Result<()> {
    let server = Server::start(PATIENT)?;
    let mut client = server.client()?;
    let hello = Answer::text("200 OK", "Hello from tare\n");
    let health = Answer::text("200 OK", "ok\n");
    assert_eq!(client.ask("GET", "/")?, hello);
    assert_eq!(client.ask("GET", "/health")?, health);

    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /health HTTP/1.1\r\nHost: a\r\n\r\n")?;
    assert_eq!([client.answer(true)?, client.answer(true)?], [hello, health]);
    Ok(())
}

#[test]
fn head_that_does_not_come_closes_the_connection() -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let silent = Client::connect(listener.local_addr()?)?;
    let mut slow = Client::connect(listener.local_addr()?)?;
    // Before the server starts, or it could close the connection under the writer.
    slow.send("GET / HTTP/1.1\r\nHo")?;
    let config = Config { header_read_timeout: Duration::from_millis(1), ..PATIENT };
    let _server = Server::start_on(listener, config)?;
    assert_eq!([silent.rest()?, slow.rest()?], ["", ""]);
    Ok(())
}

#[test]
fn server_without_connections_stops_at_once() -> io::Result<()> {
    let server = Server::start(PATIENT)?;
    assert_eq!(server.stop().wait()?, Stopped { cut_off: 0 });
    Ok(())
}

#[test]
fn ready_turns_503_on_a_kept_alive_connection_and_then_the_server_ends() -> io::Result<()> {
    let server = Server::start(PATIENT)?;
    let address = server.address;
    let mut client = server.client()?;
    assert_eq!(client.ask("GET", "/ready")?, Answer::text("200 OK", "ready\n"));

    let stopping = server.stop();
    assert_eq!(
        wait_until_draining(&mut client)?,
        Answer::text("503 Service Unavailable", "draining\n").with("connection", "close")
    );
    assert_eq!(client.rest()?, "");
    assert_eq!(stopping.wait()?, Stopped { cut_off: 0 });
    let refused = TcpStream::connect(address).map_err(|error| error.kind());
    assert_eq!(refused.err(), Some(io::ErrorKind::ConnectionRefused));
    Ok(())
}

#[test]
fn request_in_flight_when_the_stop_begins_is_answered() -> io::Result<()> {
    let server = Server::start(PATIENT)?;
    let (mut first, mut second) = (server.client()?, server.client()?);
    // One in the middle of its first request, one of its second.
    let hello = Answer::text("200 OK", "Hello from tare\n");
    assert_eq!(second.ask("GET", "/")?, hello);
    first.send("GET / HTTP/1.1\r\nHo")?;
    second.send("GET / HTTP/1.1\r\nHo")?;

    let mut witness = server.client()?;
    witness.ask("GET", "/")?;
    let stopping = server.stop();
    wait_until_draining(&mut witness)?;
    for mut client in [first, second] {
        client.send("st: test\r\n\r\n")?;
        let last = hello.clone().with("connection", "close");
        assert_eq!(client.answer(true)?, last);
        assert_eq!(client.rest()?, "");
    }
    assert_eq!(stopping.wait()?, Stopped { cut_off: 0 });
    Ok(())
}

#[test]
fn connection_nobody_has_accepted_when_the_stop_begins_is_answered() -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut client = Client::connect(listener.local_addr()?)?;
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")?;

    assert_eq!(run(listener, PATIENT, ready(()))?, Stopped { cut_off: 0 });
    assert_eq!(client.answer(true)?, Answer::text("200 OK", "Hello from tare\n").with("connection", "close"));
    Ok(())
}

#[test]
fn idle_connections_are_closed_after_the_linger() -> io::Result<()> {
    let server = Server::start(Config { linger: Duration::ZERO, ..PATIENT })?;
    let (unused, mut kept_alive) = (server.client()?, server.client()?);
    kept_alive.ask("GET", "/")?;

    assert_eq!(server.stop().wait()?, Stopped { cut_off: 0 });
    assert_eq!(unused.rest()?, "");
    assert_eq!(kept_alive.rest()?, "");
    Ok(())
}

#[test]
fn connection_that_has_not_finished_at_the_deadline_is_cut_off_and_counted() -> io::Result<()> {
    let server = Server::start(Config { stop_deadline: Duration::from_millis(1), ..PATIENT })?;
    let mut client = server.client()?;
    client.ask("GET", "/")?;

    assert_eq!(server.stop().wait()?, Stopped { cut_off: 1 });
    assert_eq!(client.rest()?, "");
    Ok(())
}
