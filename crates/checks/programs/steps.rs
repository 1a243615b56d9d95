//! A server that executes a number of steps for each request. The environment sets the number. It is compiled alone and
//! uses the standard library only.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\nHello from tare\n";

unsafe extern "C" {
    fn signal(number: i32, handler: extern "C" fn(i32)) -> usize;
    fn _exit(code: i32) -> !;
}

/// signal(7)
const SIGTERM: i32 = 15;

/// The first process of a container is ended by no signal that it does not handle (pid_namespaces(7)).
extern "C" fn end(_: i32) {
    // SAFETY: it may be called in a handler (signal-safety(7)).
    unsafe { _exit(0) }
}

fn main() {
    // SAFETY: the handler does what handlers may.
    unsafe { signal(SIGTERM, end) };
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
