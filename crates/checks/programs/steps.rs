//! A server that executes a number of steps for each request, and uses so many nanoseconds of CPU time besides or in all, with
//! so many bytes in memory. The environment sets these. It is compiled alone and uses the standard library only.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\nHello from tare\n";

unsafe extern "C" {
    fn signal(number: i32, handler: extern "C" fn(i32)) -> usize;
    fn _exit(code: i32) -> !;
    fn clock_gettime(clock: i32, time: *mut [i64; 2]) -> i32;
}

/// The CPU time of the calling thread (clock_gettime(2)).
const CLOCK_THREAD_CPUTIME_ID: i32 = 3;

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
    let (steps, cpu) = (number("STEPS").unwrap_or(0), number("CPU_NANOSECONDS").unwrap_or(0));
    let in_all = number("CPU_NANOSECONDS_IN_ALL");
    // Written, so that every page is there.
    let memory = std::hint::black_box(vec![1_u8; number("MEMORY").unwrap_or(0) as usize]);
    let port = number("PORT").unwrap_or(8080) as u16;
    let listener = TcpListener::bind(("0.0.0.0", port)).expect("the port is free");
    for stream in listener.incoming().flatten() {
        std::thread::spawn(move || serve(stream, steps, cpu, in_all));
    }
    drop(memory);
}

fn serve(mut stream: TcpStream, steps: u64, cpu: u64, in_all: Option<u64>) {
    // As every server does: an answer is not to wait for more.
    let _ = stream.set_nodelay(true);
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    // Reading and writing are part of it.
    let mut end = cpu_time();
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        request.extend_from_slice(&buffer[..read]);
        while let Some(head) = request.windows(4).position(|window| window == b"\r\n\r\n") {
            request.drain(..head + 4);
            work(steps);
            use_cpu(cpu);
            if let Some(in_all) = in_all {
                end += in_all;
                while cpu_time() < end {}
            }
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

/// Nanoseconds of CPU time of this thread.
fn cpu_time() -> u64 {
    let mut time = [0; 2];
    // SAFETY: a timespec of this platform is two integers of 64 bits.
    unsafe { clock_gettime(CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time[0] as u64 * 1_000_000_000 + time[1] as u64
}

fn use_cpu(nanoseconds: u64) {
    if nanoseconds > 0 {
        let end = cpu_time() + nanoseconds;
        while cpu_time() < end {}
    }
}
