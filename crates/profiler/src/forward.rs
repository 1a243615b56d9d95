//! Passes connections to a port of this host's loopback on to a container.
//!
//! A container has a network namespace of its own with loopback alone, and its server may listen on 127.0.0.1 there. So
//! the connection to it is made by a thread in that namespace, and the bytes are copied, as docker-proxy does.

use std::io;
use std::net::{Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;

use tare_container::life::Endpoint;
use tare_load::{LoadError, host};

/// Passes connections on for as long as this process lives.
///
/// # Errors
/// When the container's network namespace cannot be joined.
pub(crate) fn forward(listener: TcpListener, endpoint: Endpoint) -> Result<(), LoadError> {
    let Endpoint { address, network_namespace } = endpoint;
    let (report, joined) = mpsc::channel();
    thread::spawn(move || {
        // The listener stays in the namespace in which it was made; threads that are started here begin in this one.
        let result = network_namespace.as_deref().map_or(Ok(()), host::join_network_namespace);
        let failed = result.is_err();
        let _ = report.send(result);
        if !failed {
            for client in listener.incoming().flatten() {
                // The client sees the connection end.
                thread::spawn(move || connect(client, address).ok());
            }
        }
    });
    joined.recv().unwrap_or(Ok(()))
}

fn connect(mut client: TcpStream, address: SocketAddr) -> io::Result<()> {
    // In a network of its own it may listen on either loopback address.
    let other = SocketAddr::from((Ipv6Addr::LOCALHOST, address.port()));
    let mut server =
        TcpStream::connect(address).or_else(|error| TcpStream::connect(other).map_err(|_| error))?;
    let (mut to_client, mut from_server) = (client.try_clone()?, server.try_clone()?);
    let answers = thread::spawn(move || {
        let _ = io::copy(&mut from_server, &mut to_client);
        let _ = to_client.shutdown(Shutdown::Write);
    });
    let sent = io::copy(&mut client, &mut server);
    let _ = server.shutdown(Shutdown::Write);
    let _ = answers.join();
    sent.map(drop)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::Ipv4Addr;

    use super::*;

    fn listen() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    #[test]
    fn requests_and_answers_pass_and_the_end_of_each_side_too() {
        let (server, address) = listen();
        let serving = thread::spawn(move || {
            for _ in 0..2 {
                let (mut stream, _) = server.accept().unwrap();
                let mut request = String::new();
                stream.read_to_string(&mut request).unwrap();
                stream.write_all(request.to_uppercase().as_bytes()).unwrap();
            }
        });
        let (listener, here) = listen();
        forward(listener, Endpoint { address, network_namespace: None }).unwrap();
        for text in ["hello", "again"] {
            let mut stream = TcpStream::connect(here).unwrap();
            stream.write_all(text.as_bytes()).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert_eq!(answer, text.to_uppercase());
        }
        serving.join().unwrap();
    }

    #[test]
    fn where_nothing_listens_the_connection_ends() {
        let (server, address) = listen();
        drop(server);
        let (listener, here) = listen();
        forward(listener, Endpoint { address, network_namespace: None }).unwrap();
        let mut answer = Vec::new();
        // A reset is an end too.
        let _ = TcpStream::connect(here).unwrap().read_to_end(&mut answer);
        assert_eq!(answer, b"");
    }

    #[test]
    fn a_namespace_that_is_not_there_is_an_error() {
        let (listener, address) = listen();
        let gone = Endpoint { address, network_namespace: Some("/proc/0/ns/net".into()) };
        let error = forward(listener, gone).unwrap_err();
        assert!(error.to_string().starts_with("cannot join the network namespace"), "{error}");
    }
}
