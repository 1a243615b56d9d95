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

/// The folder whose files are answered, out of a cache that never forgets: each file first as a miss, then as a hit, and
/// as stale while the folder is away. To a client that takes gzip only half of a file is sent, as if it were one.
static FILES: std::sync::OnceLock<String> = std::sync::OnceLock::new();
static CACHE: std::sync::Mutex<std::collections::BTreeMap<String, Vec<u8>>> =
    std::sync::Mutex::new(std::collections::BTreeMap::new());

fn file(folder: &str, head: &str) -> Vec<u8> {
    let path = head.split(' ').nth(1).unwrap();
    let Some(name) = path.strip_prefix("/files/") else { return response().to_vec() };
    let mut cache = CACHE.lock().unwrap();
    let state = match (cache.contains_key(name), std::path::Path::new(folder).is_dir()) {
        (true, true) => "hit",
        (true, false) => "hit; ttl=-1",
        (false, _) => "fwd=miss",
    };
    if state == "fwd=miss" {
        let Ok(content) = std::fs::read(format!("{folder}/{name}")) else {
            return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec();
        };
        cache.insert(name.to_owned(), content);
    }
    let (content, coding) = (&cache[name], head.contains("gzip"));
    let body = if coding { &content[..content.len() / 2] } else { content };
    let coding = if coding { "Content-Encoding: gzip\r\n" } else { "" };
    let length = body.len();
    let head = format!("HTTP/1.1 200 OK\r\n{coding}Cache-Status: x; {state}\r\nContent-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

static LEFT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(u64::MAX);

fn serve_http(mut stream: std::net::TcpStream) {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(length) = stream.read(&mut buffer) {
        request.extend_from_slice(&buffer[..length]);
        while let Some(end) = request.windows(4).position(|it| it == b"\r\n\r\n") {
            let head: Vec<u8> = request.drain(..end + 4).collect();
            if LEFT.fetch_sub(1, std::sync::atomic::Ordering::SeqCst) == 0 {
                eprintln!("this was the last");
                std::process::exit(7);
            }
            if let Some(bytes) = WORKER.get()
                && UNTIL_WORKER.fetch_sub(1, std::sync::atomic::Ordering::SeqCst) == 1
            {
                worker(bytes);
            }
            let answer = match FILES.get() {
                Some(folder) => file(folder, &String::from_utf8_lossy(&head)),
                None => response().to_vec(),
            };
            if stream.write_all(&answer).is_err() {
                return;
            }
        }
        if length == 0 {
            return;
        }
    }
}

unsafe extern "C" {
    fn syscall(number: i64, ...) -> i64;
    fn setgroups(count: usize, groups: *const u32) -> i32;
    fn setgid(group: u32) -> i32;
    fn setuid(user: u32) -> i32;
}

/// 0, or the error of the last call.
fn outcome(result: i64) -> i32 {
    if result >= 0 { 0 } else { std::io::Error::last_os_error().raw_os_error().unwrap() }
}

/// How a call ended, for people.
fn show<T>(result: std::io::Result<T>) {
    match result {
        Ok(_) => println!("done"),
        Err(error) => println!("{:?}", error.kind()),
    }
}

/// A system call of this architecture by its name, with an argument that does no harm.
fn call(name: &str) -> i32 {
    let numbers: [(&str, i64, i64, i64); 6] = [
        // On x86-64 and arm64.
        ("mount", 165, 40, 0),
        ("keyctl", 250, 219, 0),
        ("new-user-namespace", 272, 97, 0x1000_0000),
        ("bpf", 321, 280, 0),
        ("clone3", 435, 435, 0),
        ("umask", 95, 166, 0o22),
    ];
    let (_, x86, arm, argument) = numbers.into_iter().find(|it| it.0 == name).unwrap();
    let number = if cfg!(target_arch = "x86_64") { x86 } else { arm };
    // SAFETY: none of them writes to the memory of this process with such arguments.
    outcome(unsafe { syscall(number, argument, 0_i64, 0_i64, 0_i64, 0_i64) })
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
            "call" => println!("{value} {}", call(value)),
            // As a server does that drops root's rights.
            "become" => {
                let id = value.parse().unwrap();
                // SAFETY: the list of groups is empty, and the others take numbers.
                let results = unsafe { [setgroups(0, std::ptr::null()), setgid(id), setuid(id)] };
                println!("{:?}", results.map(|result| outcome(result.into())));
            }
            "chown" => show(std::os::unix::fs::chown(value, Some(1), Some(1))),
            // A file of 64 MiB.
            "fill" => {
                let mut file = std::fs::File::create(value).unwrap();
                let written = (0..64).filter(|_| file.write_all(&vec![1; 1 << 20]).is_ok()).count();
                println!("{written}");
            }
            "make" => show(std::fs::create_dir(value)),
            "open" => show(std::fs::File::options().read(true).write(true).open(value)),
            "bind" => show(std::net::TcpListener::bind(value)),
            "owner" => {
                use std::os::unix::fs::MetadataExt as _;
                let data = std::fs::metadata(value).unwrap();
                println!("{}:{} {:o}", data.uid(), data.gid(), data.mode() & 0o7777);
            }
            "resolve" => {
                use std::net::ToSocketAddrs as _;
                let own = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
                let name = if value.is_empty() { own.trim() } else { value };
                let addresses = (name, 80).to_socket_addrs().map(|all| all.map(|it| it.ip().to_string()));
                println!("{}", addresses.map_or_else(|error| format!("{error}"), |all| all.collect::<Vec<_>>().join(" ")));
            }
            "parallelism" => println!("{}", std::thread::available_parallelism().unwrap()),
            // Bytes that are really there.
            "alloc" => {
                let mut all = Vec::new();
                for _ in 0..value.parse::<usize>().unwrap() >> 20 {
                    all.push(std::hint::black_box(vec![1_u8; 1 << 20]));
                }
                println!("{}", all.len());
            }
            // The same, kept until the end.
            "hold" => std::mem::forget(std::hint::black_box(vec![1_u8; value.parse().unwrap()])),
            "worker" => worker(value),
            "worker-under-load" => WORKER.set(value.to_owned()).unwrap(),
            "files" => FILES.set(value.to_owned()).unwrap(),
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
