//! The program in the tests' containers. It executes its arguments one after another.

use std::io::{Read, Write};

/// Process 1 of a container is not ended by a signal that it has no handler for (pid_namespaces(7)).
fn end_at_sigterm() {
    const SIGTERM: i32 = 15;
    unsafe extern "C" {
        fn signal(number: i32, handler: extern "C" fn(i32)) -> usize;
        fn _exit(code: i32) -> !;
    }
    extern "C" fn end(_: i32) {
        // SAFETY: it may be called in handlers of signals (signal-safety(7)).
        unsafe { _exit(0) }
    }
    // SAFETY: the handler does nothing but end the process.
    unsafe { signal(SIGTERM, end) };
}

/// Takes more memory than there is in a process of its own, which the kernel kills for it.
fn worker(bytes: &str) {
    let mut program = std::process::Command::new("/proc/self/exe");
    println!("{}", program.arg(format!("alloc={bytes}")).status().unwrap());
}

/// The bytes of a worker that is started by the last of so many requests.
static WORKER: std::sync::OnceLock<String> = std::sync::OnceLock::new();
static UNTIL_WORKER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(100);

/// More requests than that at once are refused.
static PLACES: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(u64::MAX);
static UNDER_WAY: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

fn response() -> &'static [u8] {
    use std::sync::atomic::Ordering::SeqCst;
    let places = PLACES.load(SeqCst);
    if UNDER_WAY.fetch_add(1, SeqCst) >= places {
        UNDER_WAY.fetch_sub(1, SeqCst);
        return b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\nno";
    }
    if places < u64::MAX {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    UNDER_WAY.fetch_sub(1, SeqCst);
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
}

static LEFT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(u64::MAX);

fn serve_http(mut stream: std::net::TcpStream) {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(length) = stream.read(&mut buffer) {
        request.extend_from_slice(&buffer[..length]);
        while let Some(end) = request.windows(4).position(|it| it == b"\r\n\r\n") {
            request.drain(..end + 4);
            if LEFT.fetch_sub(1, std::sync::atomic::Ordering::SeqCst) == 0 {
                eprintln!("this was the last");
                std::process::exit(7);
            }
            if let Some(bytes) = WORKER.get()
                && UNTIL_WORKER.fetch_sub(1, std::sync::atomic::Ordering::SeqCst) == 1
            {
                worker(bytes);
            }
            if stream.write_all(response()).is_err() {
                return;
            }
        }
        if length == 0 {
            return;
        }
    }
}

fn main() {
    let mut is_deaf = false;
    for argument in std::env::args().skip(1) {
        let (what, value) = argument.split_once('=').unwrap_or((&argument, ""));
        match what {
            // One line on stdout.
            "say" => println!("{value}"),
            "complain" => eprintln!("{value}"),
            "exit" => std::process::exit(value.parse().unwrap()),
            "abort" => std::process::abort(),
            "env" => println!("{}", std::env::var(value).unwrap_or_default()),
            "read" => match std::fs::read_to_string(value) {
                Ok(text) => println!("{}", text.trim()),
                Err(error) => println!("{:?}", error.kind()),
            },
            "write" => match std::fs::write(value, "x") {
                Ok(()) => println!("written"),
                Err(error) => println!("{:?}", error.kind()),
            },
            "parallelism" => println!("{}", std::thread::available_parallelism().unwrap()),
            // Bytes that are really there.
            "alloc" => {
                let mut all = Vec::new();
                for _ in 0..value.parse::<usize>().unwrap() >> 20 {
                    all.push(std::hint::black_box(vec![1_u8; 1 << 20]));
                }
                println!("{}", all.len());
            }
            "worker" => worker(value),
            "worker-under-load" => WORKER.set(value.to_owned()).unwrap(),
            "places" => PLACES.store(value.parse().unwrap(), std::sync::atomic::Ordering::SeqCst),
            // Threads that never rest.
            "spin" => {
                for _ in 0..value.parse::<usize>().unwrap() {
                    std::thread::spawn(|| {
                        loop {
                            std::hint::black_box(0);
                        }
                    });
                }
            }
            "threads" => {
                let count = value.parse::<usize>().unwrap();
                let made = (0..count).map_while(|_| {
                    std::thread::Builder::new().spawn(|| loop { std::thread::park() }).ok()
                });
                println!("{}", made.count());
            }
            // Sends who it is to everybody who connects.
            "serve" => {
                let listener = std::net::TcpListener::bind(("0.0.0.0", value.parse().unwrap())).unwrap();
                for stream in listener.incoming() {
                    let _ = write!(stream.unwrap(), "served by {}", std::process::id());
                }
            }
            // So many requests, of all connections, are answered by what follows before it crashes.
            "last" => LEFT.store(value.parse().unwrap(), std::sync::atomic::Ordering::SeqCst),
            // No signal ends what follows.
            "deaf" => is_deaf = true,
            // Answers every request of HTTP/1.1 with the same, until SIGTERM ends it.
            "http" => {
                if !is_deaf {
                    end_at_sigterm();
                }
                let listener = std::net::TcpListener::bind(("0.0.0.0", value.parse().unwrap())).unwrap();
                for stream in listener.incoming() {
                    std::thread::spawn(move || serve_http(stream.unwrap()));
                }
            }
            "sleep" => loop {
                std::thread::park();
            },
            other => panic!("what is {other}?"),
        }
        let _ = std::io::stdout().flush();
    }
}
