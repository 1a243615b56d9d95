//! Servers that do exactly what a test says, on a port of their own. A thread for each connection.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use tare_load::{Plan, Request};

/// Answers on one connection until it returns.
pub(crate) fn serve(connection: impl Fn(Requests) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let connection = Arc::new(connection);
    // It ends with the process.
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let (socket, connection) = (socket.unwrap(), Arc::clone(&connection));
            socket.set_nodelay(true).unwrap();
            std::thread::spawn(move || connection(Requests { socket, bytes: Vec::new() }));
        }
    });
    address
}

/// The requests of one connection.
pub(crate) struct Requests {
    socket: TcpStream,
    bytes: Vec<u8>,
}

impl Requests {
    /// The next request's head; none when the connection has ended.
    pub(crate) fn head(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                return Some(String::from_utf8(self.bytes.drain(..at + 4).collect()).unwrap());
            }
            self.receive()?;
        }
    }

    /// Reads what is there and drops it. False when the connection has ended.
    pub(crate) fn drop_some(&mut self) -> bool {
        self.bytes.clear();
        self.receive().is_some()
    }

    /// The next request's head, and its body by `content-length`; none when the connection has ended.
    pub(crate) fn next(&mut self) -> Option<(String, Vec<u8>)> {
        let head = self.head()?;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length = length.map_or(0, |length| length.parse().unwrap());
        while self.bytes.len() < length {
            self.receive()?;
        }
        Some((head, self.bytes.drain(..length).collect()))
    }

    fn receive(&mut self) -> Option<()> {
        let mut buffer = [0; 4096];
        let length = self.socket.read(&mut buffer).ok().filter(|length| *length > 0)?;
        self.bytes.extend_from_slice(&buffer[..length]);
        Some(())
    }

    pub(crate) fn answer(&mut self, bytes: impl AsRef<[u8]>) {
        // The other side may have given up.
        let _ = self.socket.write_all(bytes.as_ref());
    }
}

pub(crate) const HELLO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nHello";

/// Answers every request with these bytes.
pub(crate) fn always(bytes: &'static str) -> SocketAddr {
    serve(move |mut requests| {
        while requests.next().is_some() {
            requests.answer(bytes);
        }
    })
}

/// A short closed loop that expects [`HELLO`].
pub(crate) fn plan(address: SocketAddr) -> Plan {
    let mut plan = Plan::new(address.to_string(), "/");
    plan.connections = 4;
    plan.duration = 300_000_000;
    plan.window = 50_000_000;
    plan.requests = vec![hello("/")];
    plan
}

pub(crate) fn hello(path: &str) -> Request {
    let mut request = Request::get(path);
    request.expect.body = Some(tare_load::Blob(b"Hello".to_vec()));
    request
}

/// Calls `connected` with every connection, on one thread with a tokio runtime.
pub(crate) fn serve_async<F: Future<Output = ()> + Send + 'static>(
    connected: impl Fn(tokio::net::TcpStream) -> F + Send + 'static,
) -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                tokio::spawn(connected(socket));
            }
        });
    });
    address
}
