//! Listening sockets: one for each worker on the same port, with the options that their connections inherit.
//!
//! To be copied by itself: it needs socket2 with the feature `all`, thiserror and, for the limit of open files on
//! Unix, rustix with the feature `process`.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use std::time::Duration;
use thiserror::Error;

/// The article's keep-alive: after a minute of silence a probe every ten seconds, six times. A peer that has
/// vanished is gone after two minutes.
const KEEP_ALIVE: (Duration, Duration, u32) = (Duration::from_secs(60), Duration::from_secs(10), 6);

/// No listener could be had.
#[derive(Debug, Error)]
#[error("cannot listen on {address}")]
pub struct ListenError {
    address: SocketAddr,
    source: io::Error,
}

/// Opens `count` sockets on one address: the first listens, the others do when their worker runs.
/// The kernel spreads connections over those that listen by a hash of their addresses, so one that
/// nobody accepts from yet would keep its share of the first clients waiting. Where the kernel does not
/// spread, there is one socket, which the workers share.
///
/// # Errors
/// When the address is taken, or not this machine's.
pub fn listeners(address: SocketAddr, count: usize, backlog: u32) -> Result<Vec<TcpListener>, ListenError> {
    let failed = |address| move |source| ListenError { address, source };
    let spreads = cfg!(target_os = "linux") && count > 1;
    if spreads && address.port() > 0 {
        // Sockets that share a port share it with another server of the same user, too, and nobody would
        // notice. One that does not is refused.
        bound(address, false).map_err(failed(address))?;
    }
    let first = socket(address, spreads).map_err(failed(address))?;
    listen(&first, backlog).map_err(failed(address))?;
    // The others need the port that the kernel chose.
    let address = first.local_addr().map_err(failed(address))?;
    let mut all = vec![first];
    if spreads {
        for _ in 1..count {
            all.push(socket(address, true).map_err(failed(address))?);
        }
    }
    Ok(all)
}

fn bound(address: SocketAddr, spreads: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    #[cfg(unix)]
    {
        // A server that is started again does not wait for the connections of the one before.
        socket.set_reuse_address(true)?;
        if spreads {
            socket.set_reuse_port(true)?;
        }
    }
    #[cfg(not(unix))]
    let _ = spreads;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn socket(address: SocketAddr, spreads: bool) -> io::Result<TcpListener> {
    let socket = bound(address, spreads)?;
    // Linux hands these down to accepted connections (tcp(7)), which saves two calls for each.
    socket.set_tcp_nodelay(true)?;
    let (idle, interval, probes) = KEEP_ALIVE;
    let keep_alive = TcpKeepalive::new().with_time(idle).with_interval(interval);
    #[cfg(not(windows))]
    let keep_alive = keep_alive.with_retries(probes);
    #[cfg(windows)]
    let _ = probes;
    socket.set_tcp_keepalive(&keep_alive)?;
    Ok(socket.into())
}

fn listen(socket: &TcpListener, backlog: u32) -> io::Result<()> {
    SockRef::from(socket).listen(i32::try_from(backlog).unwrap_or(i32::MAX))
}

/// How many connections really may wait: the kernel cuts every backlog to this (listen(2)).
#[must_use]
pub fn longest_backlog() -> Option<u32> {
    parse_number(&std::fs::read_to_string("/proc/sys/net/core/somaxconn").ok()?)
}

fn parse_number(text: &str) -> Option<u32> {
    text.trim_ascii().parse().ok()
}

/// Raises the number of files that may be open as far as this process may, and tells it. Many systems set it
/// low for programs that use select(2), and this one does not.
#[cfg(unix)]
#[must_use]
pub fn open_files() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let _ = setrlimit(Resource::Nofile, raised);
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Elsewhere sockets are not counted as files.
#[cfg(not(unix))]
#[must_use]
pub fn open_files() -> u64 {
    u64::MAX
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpStream};

    use super::*;

    #[test]
    fn workers_have_listeners_of_their_own_on_one_port() {
        let all = listeners((Ipv4Addr::LOCALHOST, 0).into(), 3, 16).unwrap();
        let mut addresses: Vec<_> = all.iter().map(|it| it.local_addr().unwrap()).collect();
        addresses.dedup();
        assert_eq!(addresses.len(), 1);
        assert_eq!(all.len(), if cfg!(target_os = "linux") { 3 } else { 1 });
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn connections_inherit_keep_alive_and_no_delay() {
        let all = listeners((Ipv4Addr::LOCALHOST, 0).into(), 1, 16).unwrap();
        let _client = TcpStream::connect(all[0].local_addr().unwrap()).unwrap();
        let (stream, _) = all[0].accept().unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        let found = (
            socket.tcp_keepalive_time().unwrap(),
            socket.tcp_keepalive_interval().unwrap(),
            socket.tcp_keepalive_retries().unwrap(),
        );
        assert_eq!(found, KEEP_ALIVE);
    }

    #[test]
    fn address_in_use_is_an_error_that_names_it() {
        let taken = listeners((Ipv4Addr::LOCALHOST, 0).into(), 1, 16).unwrap();
        let address = taken[0].local_addr().unwrap();
        for count in [1, 2] {
            let error = listeners(address, count, 16).unwrap_err();
            assert_eq!(error.to_string(), format!("cannot listen on {address}"));
        }
        // Nor is a port shared with another server whose sockets share theirs.
        let taken = listeners((Ipv4Addr::LOCALHOST, 0).into(), 2, 16).unwrap();
        let address = taken[0].local_addr().unwrap();
        assert!(listeners(address, 2, 16).is_err());
    }

    #[test]
    fn number_of_a_file_is_without_its_newline() {
        assert_eq!([parse_number("4096\n"), parse_number("")], [Some(4096), None]);
    }
}
