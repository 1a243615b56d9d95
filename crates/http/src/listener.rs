//! A listening socket of a worker: when it begins to listen, and how it stops without resetting anybody.

use std::io;
use std::net::TcpListener;

#[cfg(target_os = "linux")]
use socket2::SockRef;

/// Lets clients of a worker connect. A socket that listens already, as one that was opened elsewhere may, keeps
/// its backlog.
#[cfg(target_os = "linux")]
pub(crate) fn begin(socket: &TcpListener, backlog: u32) -> io::Result<()> {
    let socket = SockRef::from(socket);
    if socket.is_listener()? { Ok(()) } else { socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX)) }
}

/// Elsewhere all workers share the one that listens.
#[cfg(not(target_os = "linux"))]
pub(crate) fn begin(_socket: &TcpListener, _backlog: u32) -> io::Result<()> {
    Ok(())
}

/// Lets no new handshake begin, and those under way end: to be called before the last look at who waits, so
/// that closing the listener resets nobody.
#[cfg(target_os = "linux")]
pub(crate) fn refuse_new(listener: &impl std::os::fd::AsFd) {
    use socket2::SockFilter;

    // Classic BPF on what a listener receives, which begins with the TCP header: the flags are its byte 13.
    // A segment with SYN and without ACK (0x02 of 0x12) is dropped, anything else is kept whole. The codes
    // are those of `linux/bpf_common.h`.
    const LOAD_BYTE: u16 = 0x30;
    const AND: u16 = 0x54;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let program = [
        SockFilter::new(LOAD_BYTE, 0, 0, 13),
        SockFilter::new(AND, 0, 0, 0x12),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, 0x02),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ];
    // Without it a client whose handshake ends at the very moment of closing is reset, and tries again.
    let _ = SockRef::from(listener).attach_filter(&program);
}

/// Elsewhere who comes while connections are drained is served too.
#[cfg(not(target_os = "linux"))]
pub(crate) fn refuse_new<T>(_listener: &T) {}

/// Whether a handshake with this port has begun and not ended: the client has been answered, or may have been,
/// and would be reset if nobody listened. It takes a look at every connection of the network namespace.
#[cfg(target_os = "linux")]
pub(crate) fn is_handshake_under_way(port: u16) -> bool {
    // Clients of IPv4 are in the first, also those of a listener of both.
    ["/proc/net/tcp", "/proc/net/tcp6"].iter().any(|path| {
        // A host without them, or without IPv6, cannot tell.
        std::fs::File::open(path).is_ok_and(|mut table| has_handshake(&mut table, port))
    })
}

/// Elsewhere the system does not tell.
#[cfg(not(target_os = "linux"))]
pub(crate) fn is_handshake_under_way(_port: u16) -> bool {
    false
}

/// In the table of proc_net_tcp.rst (kernel documentation): the second field of a line is the local address and,
/// after a colon, port in hexadecimal digits, the fourth the state, which is 3 for `TCP_SYN_RECV`.
#[cfg(target_os = "linux")]
fn has_handshake(table: &mut dyn io::Read, port: u16) -> bool {
    let mut buffer = [0; 4096];
    let (mut field, mut inside, mut value, mut local) = (0, false, 0, 0);
    while let Ok(count @ 1..) = table.read(&mut buffer) {
        for &byte in buffer.iter().take(count) {
            match byte {
                b'\n' => (field, inside) = (0, false),
                b' ' if inside && field == 4 && local == u32::from(port) && value == 3 => return true,
                b' ' => {
                    if inside && field == 2 {
                        local = value;
                    }
                    inside = false;
                }
                _ => {
                    if !inside {
                        (inside, value) = (true, 0);
                        field += 1;
                    }
                    // The port follows a colon, which is no digit: counting begins anew.
                    value = char::from(byte).to_digit(16).map_or(0, |digit| value << 4 | digit);
                }
            }
        }
    }
    false
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::{Ipv4Addr, TcpStream};
    use std::time::Duration;

    use super::*;

    #[test]
    fn listener_that_refuses_new_ones_still_has_those_that_wait() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let waiting = TcpStream::connect(address).unwrap();
        refuse_new(&listener);
        let late = TcpStream::connect_timeout(&address, Duration::from_millis(50));
        assert_eq!(late.err().map(|error| error.kind()), Some(io::ErrorKind::TimedOut));
        let (_, peer) = listener.accept().unwrap();
        assert_eq!(peer, waiting.local_addr().unwrap());
    }

    #[test]
    fn a_handshake_is_a_line_of_the_port_in_the_state_after_syn() {
        let head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n";
        for (line, expected) in [
            ("   0: 0100007F:EA60 0100007F:B4F6 03 00000000:00000000 01:00000061 00000000     0\n", true),
            (
                "  12: 00000000000000000000000001000000:EA60 00000000000000000000000001000000:C350 03 0:0\n",
                true,
            ),
            // Another port, a port of the other side, and a connection.
            ("   0: 0100007F:EA61 0100007F:EA60 03 00000000:00000000 01:00000061 00000000     0\n", false),
            ("   0: 0100007F:EA60 0100007F:B4F6 01 00000000:00000000 03:00000003 00000000     0\n", false),
            ("   0: \n", false),
            ("", false),
        ] {
            let table = format!("{head}{line}");
            assert_eq!(has_handshake(&mut table.as_bytes(), 60000), expected, "{line}");
        }
    }
}
