//! How a connection ends so that its last answer arrives.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::race::race;

/// What a connection hears for which there is no room, before anything is read from it.
pub(crate) const OVERLOADED: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 1\r\nConnection: close\r\n\r\n";

/// "The server could wait for the client to close": RFC 9112, 9.6. So long and for so many bytes, or data
/// that is still on its way makes the kernel reset the connection, and the last answer is lost with it.
const SEE_OFF: (Duration, usize) = (Duration::from_secs(1), 256 << 10);

/// Closes the sending side, and reads what still comes for a while.
pub(crate) async fn see_off(stream: &TcpStream) {
    let (time, mut bytes) = SEE_OFF;
    if socket2::SockRef::from(stream).shutdown(std::net::Shutdown::Write).is_err() {
        return;
    }
    let drain = async {
        let mut scrap = [0; 512];
        while stream.readable().await.is_ok() {
            match stream.try_read(&mut scrap) {
                Ok(0) => return,
                Ok(count) if count < bytes => bytes -= count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                _ => return,
            }
        }
    };
    race(drain, tokio::time::sleep(time)).await;
}
