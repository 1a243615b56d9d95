//! A server whose work for a request is a number of steps that its environment names. Compiled by itself: it
//! knows nothing but the standard library.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\nHello from tare\n";

fn main() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let steps = number("STEPS").unwrap_or(0);
    let port = number("PORT").unwrap_or(8080) as u16;
    let listener = TcpListener::bind(("0.0.0.0", port)).expect("the port is free");
    for stream in listener.incoming().flatten() {
        std::thread::spawn(move || serve(stream, steps));
    }
}

fn serve(mut stream: TcpStream, steps: u64) {
    // As every server does: an answer is not to wait for more.
    let _ = stream.set_nodelay(true);
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        request.extend_from_slice(&buffer[..read]);
        while let Some(end) = request.windows(4).position(|window| window == b"\r\n\r\n") {
            request.drain(..end + 4);
            work(steps);
            if stream.write_all(ANSWER).is_err() {
                return;
            }
        }
    }
}

/// Each step waits for the one before it.
fn work(steps: u64) {
    let mut state = 1_u64;
    for _ in 0..steps {
        state = std::hint::black_box(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    }
}
