//! A server for the tests: a route for everything that the engine does.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tare_http::{
    Block, Body, Engine, Handler, OCTETS, Phase, Plan, Prepared, Request, Response, Settings, Sizes,
};

/// What a server is run with when a test asks for nothing else.
pub(crate) fn sizes() -> Sizes {
    Sizes {
        workers: 1,
        pinned: Vec::new(),
        stack_size: 256 << 10,
        connections: 10_000,
        memory: 256 << 20,
        backlog: 1024,
    }
}

pub(crate) fn settings() -> Settings {
    Settings {
        header_timeout: Duration::from_secs(30),
        body_timeout: Duration::from_secs(30),
        write_timeout: Duration::from_secs(30),
        idle_timeout: Duration::from_secs(300),
        linger: Duration::from_secs(1),
        stop_deadline: Duration::from_secs(9),
        head_limit: 8 << 10,
        body_limit: 1 << 20,
    }
}

/// Listeners on one port of loopback, one for each worker where the kernel spreads connections over them.
pub(crate) fn listeners(workers: usize) -> io::Result<Vec<TcpListener>> {
    let count = if cfg!(target_os = "linux") { workers } else { 1 };
    let mut address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut all = Vec::new();
    for number in 0..count {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        #[cfg(target_os = "linux")]
        socket.set_reuse_port(count > 1)?;
        socket.set_tcp_nodelay(true)?;
        socket.bind(&address.into())?;
        if number == 0 {
            // The others listen when their worker runs.
            socket.listen(1024)?;
        }
        let listener = TcpListener::from(socket);
        address = listener.local_addr()?;
        all.push(listener);
    }
    Ok(all)
}

/// Bytes of `/shared`.
const SHARED: usize = 3_600_000;

static BLOCK: Block = [b'.'; 4 << 10];

/// The body of `/large`: longer than a buffer of the engine.
pub(crate) const LARGE: &str = match std::str::from_utf8(&[b'l'; 20_000]) {
    Ok(text) => text,
    Err(_) => "",
};

/// The handler.
pub(crate) struct Sample {
    engine: Arc<Engine>,
    hello: Prepared,
    healthy: Prepared,
    ready: Prepared,
    not_ready: Prepared,
    options: Prepared,
    not_found: Prepared,
    not_allowed: Prepared,
    large: Prepared,
    shared: Arc<[u8]>,
}

impl Sample {
    pub(crate) fn new(engine: Arc<Engine>) -> Self {
        let text = |status, body| Prepared::new(Response::text(status, body));
        Self {
            engine,
            hello: text(200, "hello\n"),
            healthy: text(200, "ok\n"),
            ready: text(200, "ready\n"),
            not_ready: text(503, "not ready\n"),
            options: Prepared::new(Response::text(200, "").with("Allow", "GET, HEAD, OPTIONS, POST")),
            not_found: text(404, "not found\n"),
            not_allowed: Prepared::new(
                Response::text(405, "method not allowed\n").with("Allow", "GET, HEAD"),
            ),
            large: text(200, LARGE),
            shared: vec![b'x'; SHARED].into(),
        }
    }

    /// What is counted, a name and a number in each line.
    fn metrics(&self) -> String {
        let totals = self.engine.totals();
        let mut page = format!(
            "connections {}\nreceived_bytes_total {}\nsent_bytes_total {}\n",
            self.engine.connections(),
            totals.received,
            totals.sent
        );
        for (status, count) in totals.answers {
            page.push_str(&format!("requests_total{{status=\"{status}\"}} {count}\n"));
        }
        page
    }
}

/// Answers `/shared`.
pub(crate) struct Shared;

impl Handler for Sample {
    type Task = Shared;

    fn plan(&self, request: &Request<'_>) -> Plan<'_, Shared> {
        match (request.method, request.path) {
            ("POST", "/echo") => Plan::Echo,
            (_, "*") => Plan::Prepared(&self.options),
            ("GET" | "HEAD", path) => match path {
                "/" => Plan::Prepared(&self.hello),
                "/health" => Plan::Prepared(&self.healthy),
                "/ready" if self.engine.phase() == Phase::Serving => Plan::Prepared(&self.ready),
                "/ready" => Plan::Prepared(&self.not_ready),
                "/metrics" => {
                    let body = Body::Owned(self.metrics().into_bytes());
                    Plan::Respond(Box::new(Response { body, ..Response::text(200, "") }))
                }
                "/large" => Plan::Prepared(&self.large),
                "/shared" => Plan::Task(Shared),
                _ => match path.strip_prefix("/bytes/").and_then(|count| count.parse().ok()) {
                    Some(count) => Plan::Repeat(&BLOCK, count),
                    None => Plan::Prepared(&self.not_found),
                },
            },
            _ => Plan::Prepared(&self.not_allowed),
        }
    }

    async fn perform(&self, _task: Shared) -> Response {
        let body = Body::Shared(Arc::clone(&self.shared));
        Response { content_type: OCTETS, body, ..Response::text(200, "") }
    }
}
