//! The library's server over a loopback listener: its answers, and how it stops.

#[path = "../../crates/http/tests/support/mod.rs"]
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

fn patient() -> Config {
    Config {
        workers: Some(1),
        header_timeout: NEVER,
        idle_timeout: NEVER,
        linger: NEVER,
        stop_deadline: NEVER,
        ..Config::default()
    }
}

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
    app::runtime()?.block_on(app::run(vec![listener], config, shutdown))
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
    let server = Server::start(patient())?;
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
    let server = Server::start(patient())?;
    let mut client = server.client()?;
    let expected = Answer::text("404 Not Found", "not found\n");
    for (method, target) in
        [("GET", "/missing"), ("GET", "//"), ("GET", "/health/"), ("GET", "/Health"), ("DELETE", "/missing")]
    {
        assert_eq!(client.ask(method, target)?, expected, "{method} {target}");
    }
    Ok(())
}

#[test]
fn other_methods_are_refused_and_the_allowed_ones_named() -> io::Result<()> {
    let server = Server::start(patient())?;
    let mut client = server.client()?;
    let expected = Answer::text("405 Method Not Allowed", "method not allowed\n").with("allow", "GET, HEAD");
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"] {
        for target in ["/", "/json", "/health", "/ready", "/limits", "/metrics", "/bytes/1", "/spin/1"] {
            assert_eq!(client.ask(method, target)?, expected, "{method} {target}");
        }
    }
    Ok(())
}

#[test]
fn options_of_the_server_are_its_methods() -> io::Result<()> {
    let server = Server::start(patient())?;
    let expected = Answer::text("200 OK", "").with("allow", "GET, HEAD, OPTIONS, POST");
    assert_eq!(server.client()?.ask("OPTIONS", "*")?, expected);
    Ok(())
}

#[test]
fn request_must_name_one_host_unless_it_is_http_1_0() -> io::Result<()> {
    let server = Server::start(patient())?;
    let refused = Answer::text("400 Bad Request", "bad request\n").with("connection", "close");
    for (head, expected) in [
        ("GET / HTTP/1.1\r\n\r\n", refused.clone()),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", refused),
        ("GET / HTTP/1.0\r\n\r\n", Answer::text("200 OK", "Hello from tare\n").with("connection", "close")),
    ] {
        let mut client = server.client()?;
        client.send(head)?;
        assert_eq!(client.answer(true)?, expected, "{head:?}");
    }
    Ok(())
}

#[test]
fn refusal_of_a_head_request_has_no_body() -> io::Result<()> {
    let server = Server::start(patient())?;
    let mut client = server.client()?;
    client.send("HEAD / HTTP/1.1\r\n\r\n")?;
    let answer = client.rest()?;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.ends_with("\r\n\r\n"), "{answer}");
    Ok(())
}

#[test]
fn two_requests_share_a_connection_even_when_sent_at_once() -> io::Result<()> {
    let server = Server::start(patient())?;
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
fn head_that_does_not_come_is_answered_408_if_it_was_begun() -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let silent = Client::connect(listener.local_addr()?)?;
    let mut slow = Client::connect(listener.local_addr()?)?;
    // Before the server starts, or it could close the connection under the writer.
    slow.send("GET / HTTP/1.1\r\nHo")?;
    let config = Config { header_timeout: Duration::from_millis(1), ..patient() };
    let _server = Server::start_on(listener, config)?;
    assert_eq!(silent.rest()?, "");
    let answer = slow.answer(true)?;
    assert_eq!(answer, Answer::empty("408 Request Timeout").with("connection", "close"));
    assert_eq!(slow.rest()?, "");
    Ok(())
}

#[test]
fn server_without_connections_stops_at_once() -> io::Result<()> {
    let server = Server::start(patient())?;
    assert_eq!(server.stop().wait()?, Stopped { cut_off: 0 });
    Ok(())
}

#[test]
fn ready_turns_503_on_a_kept_alive_connection_and_then_the_server_ends() -> io::Result<()> {
    let server = Server::start(patient())?;
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
    let server = Server::start(patient())?;
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

    assert_eq!(run(listener, patient(), ready(()))?, Stopped { cut_off: 0 });
    assert_eq!(client.answer(true)?, Answer::text("200 OK", "Hello from tare\n").with("connection", "close"));
    Ok(())
}

#[test]
fn idle_connections_are_closed_after_the_linger() -> io::Result<()> {
    let server = Server::start(Config { linger: Duration::ZERO, ..patient() })?;
    let (unused, mut kept_alive) = (server.client()?, server.client()?);
    kept_alive.ask("GET", "/")?;

    assert_eq!(server.stop().wait()?, Stopped { cut_off: 0 });
    assert_eq!(unused.rest()?, "");
    assert_eq!(kept_alive.rest()?, "");
    Ok(())
}

#[test]
fn connection_that_has_not_finished_at_the_deadline_is_cut_off_and_counted() -> io::Result<()> {
    let server = Server::start(Config { stop_deadline: Duration::from_millis(1), ..patient() })?;
    let mut client = server.client()?;
    client.ask("GET", "/")?;

    assert_eq!(server.stop().wait()?, Stopped { cut_off: 1 });
    assert_eq!(client.rest()?, "");
    Ok(())
}

#[test]
fn bytes_are_as_many_as_asked_for() -> io::Result<()> {
    let server = Server::start(patient())?;
    let mut client = server.client()?;
    for count in [0, 1, 63, 64, 16_384, 65_537, 1_000_000] {
        let answer = client.ask("GET", &format!("/bytes/{count}"))?;
        assert_eq!(answer.status, "HTTP/1.1 200 OK");
        assert_eq!(answer.body.len(), count, "{count}");
        let lines = answer.body.lines().all(|line| line.bytes().all(|byte| byte == b'.'));
        assert!(lines, "{count}");
        let head = client.ask("HEAD", &format!("/bytes/{count}"))?;
        assert_eq!(head.fields["content-length"], count.to_string());
    }
    assert_eq!(client.ask("GET", "/bytes/1073741825")?.status, "HTTP/1.1 404 Not Found");
    Ok(())
}

#[test]
fn echo_sends_back_what_comes_with_its_length_or_in_chunks() -> io::Result<()> {
    let server = Server::start(patient())?;
    let mut client = server.client()?;
    for size in [0, 1, 100, 16_384, 100_000, 1 << 20] {
        let body = "0123456789abcdef".repeat(size / 16 + 1)[..size].to_owned();
        let mut sender = client.sender()?;
        let request = format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n{body}");
        let sending = thread::spawn(move || sender.send(&request));
        let answer = client.answer(true)?;
        assert_eq!(
            (answer.fields["content-length"].as_str(), answer.body),
            (size.to_string().as_str(), body)
        );
        sending.join().map_err(|_| io::Error::other("the sender panicked"))??;
    }
    let chunks = "5\r\nhello\r\n1;a=b\r\n \r\n5\r\nthere\r\n0\r\nTrailer: x\r\n\r\n";
    let head = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.send(format!("{head}{chunks}"))?;
    let answer = client.answer(true)?;
    assert_eq!(
        (answer.fields["transfer-encoding"].as_str(), answer.body.as_str()),
        ("chunked", "hello there")
    );
    // Whatever was sent with it, the next request begins where it should.
    assert_eq!(client.ask("GET", "/health")?, Answer::text("200 OK", "ok\n"));
    let post_only = Answer::text("405 Method Not Allowed", "method not allowed\n").with("allow", "POST");
    assert_eq!(client.ask("GET", "/echo")?, post_only);
    Ok(())
}

#[test]
fn echo_comes_back_before_all_of_it_has_been_sent() -> io::Result<()> {
    let server = Server::start(patient())?;
    let mut client = server.client()?;
    client.send("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")?;
    assert!(client.until("3\r\nabc\r\n")?.starts_with("HTTP/1.1 200 OK\r\n"));
    client.send("2\r\nde\r\n0\r\n\r\n")?;
    assert_eq!(client.until("0\r\n\r\n")?, "2\r\nde\r\n0\r\n\r\n");
    Ok(())
}

#[test]
fn client_that_waits_to_be_told_to_send_is_told() -> io::Result<()> {
    let server = Server::start(patient())?;
    let mut client = server.client()?;
    client.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")?;
    assert_eq!(client.until("\r\n\r\n")?, "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("hi")?;
    assert_eq!(client.answer(true)?.body, "hi");
    // Where nobody wants the body, the answer is the final one, and the last.
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")?;
    let answer = client.answer(true)?;
    assert_eq!(
        (answer.status.as_str(), answer.fields["connection"].as_str()),
        ("HTTP/1.1 405 Method Not Allowed", "close")
    );
    Ok(())
}

#[test]
fn body_that_is_too_long_is_answered_413_and_the_answer_arrives() -> io::Result<()> {
    let server = Server::start(Config { body_limit: 1000, ..patient() })?;
    let expected = Answer::empty("413 Content Too Large").with("connection", "close");
    let long = "x".repeat(100_000);
    for request in [
        format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n{long}"),
        format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n{long}"),
        format!(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n186a0\r\n{long}\r\n0\r\n\r\n"
        ),
    ] {
        let mut client = server.client()?;
        client.send(&request)?;
        assert_eq!(client.answer(true)?, expected, "{:?}", &request[..60]);
        assert_eq!(client.rest()?, "");
    }
    Ok(())
}

#[test]
fn head_that_is_too_long_is_answered_414_or_431() -> io::Result<()> {
    let server = Server::start(patient())?;
    let long = "x".repeat(20_000);
    for (request, status) in [
        (format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"), "414 URI Too Long"),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nA: {long}\r\n\r\n"), "431 Request Header Fields Too Large"),
    ] {
        let mut client = server.client()?;
        client.send(&request)?;
        assert_eq!(client.answer(true)?, Answer::empty(status).with("connection", "close"));
        assert_eq!(client.rest()?, "");
    }
    Ok(())
}

#[test]
fn one_connection_too_many_is_answered_503_and_the_next_one_served() -> io::Result<()> {
    let server = Server::start(Config { max_connections: Some(2), ..patient() })?;
    let (mut first, mut second) = (server.client()?, server.client()?);
    assert_eq!([first.ask("GET", "/health")?.body, second.ask("GET", "/health")?.body], ["ok\n", "ok\n"]);
    let answer = server.client()?.rest()?;
    assert!(
        answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n") && answer.contains("Retry-After: 1\r\n"),
        "{answer}"
    );
    drop(first);
    // The server hears of it when it comes to it.
    loop {
        let mut third = server.client()?;
        if third.ask("GET", "/health").is_ok_and(|answer| answer.status == "HTTP/1.1 200 OK") {
            return Ok(());
        }
    }
}

#[test]
fn memory_over_the_budget_is_refused() -> io::Result<()> {
    let server = Server::start(Config { memory: Some(64 << 20), ..patient() })?;
    let mut client = server.client()?;
    let expected = Answer::text("200 OK", "10000000 bytes touched\n");
    assert_eq!(client.ask("GET", "/alloc/10000000")?, expected);
    // What was touched before has been given back.
    for _ in 0..10 {
        assert_eq!(client.ask("GET", "/alloc/10000000")?, expected);
    }
    for bytes in [60_000_000, u64::MAX] {
        let answer = client.ask("GET", &format!("/alloc/{bytes}"))?;
        assert_eq!(answer, Answer::text("503 Service Unavailable", "over the memory budget\n"));
    }
    assert_eq!(client.ask("GET", "/alloc/10000000")?, expected);
    Ok(())
}

#[test]
fn limits_and_metrics_tell_of_the_server() -> io::Result<()> {
    let server = Server::start(Config { max_connections: Some(77), ..patient() })?;
    let mut client = server.client()?;
    let limits = client.ask("GET", "/limits")?;
    assert_eq!(limits.fields["content-type"], "application/json");
    assert!(
        limits.body.contains("\"workers\":1,") && limits.body.contains("\"connections\":77,"),
        "{}",
        limits.body
    );
    client.ask("GET", "/missing")?;
    let metrics = client.ask("GET", "/metrics")?.body;
    for line in
        ["app_requests_total{status=\"404\"} 1", "app_connections 1", "app_connections_max 77", "app_ready 1"]
    {
        assert!(metrics.lines().any(|it| it == line), "{line}\n{metrics}");
    }
    Ok(())
}

#[test]
fn workers_serve_side_by_side_and_all_stop() -> io::Result<()> {
    let listeners =
        app::listen::listeners((Ipv4Addr::LOCALHOST, 0).into(), 3, 128).map_err(io::Error::other)?;
    let address = listeners[0].local_addr()?;
    let (stop, stopping) = oneshot::channel::<()>();
    let config = Config { workers: Some(3), ..patient() };
    let server = thread::spawn(move || {
        app::runtime()?.block_on(app::run(listeners, config, async {
            let _ = stopping.await;
        }))
    });
    let mut clients = (0..32).map(|_| Client::connect(address)).collect::<io::Result<Vec<_>>>()?;
    for client in &mut clients {
        assert_eq!(client.ask("GET", "/")?, Answer::text("200 OK", "Hello from tare\n"));
    }
    let _ = stop.send(());
    for client in &mut clients {
        while !client.ask("GET", "/")?.fields.contains_key("connection") {}
    }
    drop(clients);
    assert_eq!(server.join().map_err(|_| io::Error::other("the server panicked"))??, Stopped { cut_off: 0 });
    Ok(())
}

#[test]
fn pipelined_requests_are_all_answered_and_only_the_last_answer_asks_to_close() -> io::Result<()> {
    let server = Server::start(patient())?;
    let (mut client, mut witness) = (server.client()?, server.client()?);
    client.ask("GET", "/")?;
    witness.ask("GET", "/")?;
    let stopping = server.stop();
    wait_until_draining(&mut witness)?;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(50))?;
    for number in 1..=50 {
        let closes = client.answer(true)?.fields.contains_key("connection");
        assert_eq!(closes, number == 50, "{number}");
    }
    assert_eq!(client.rest()?, "");
    drop(witness);
    assert_eq!(stopping.wait()?, Stopped { cut_off: 0 });
    Ok(())
}
