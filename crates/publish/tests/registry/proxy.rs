//! `HTTPS_PROXY` and `NO_PROXY`, which are read from the environment of the program.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::thread;

/// A proxy on loopback that refuses every connection, and the request lines that it got.
struct Proxy {
    port: u16,
    requests: thread::JoinHandle<Vec<String>>,
}

impl Proxy {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = thread::spawn(move || {
            let mut requests = Vec::new();
            for stream in listener.incoming() {
                let Some(line) = refuse(stream.unwrap()) else { break };
                requests.push(line);
            }
            requests
        });
        Self { port, requests }
    }

    /// Ends it.
    fn requests(self) -> Vec<String> {
        // A connection without a request.
        drop(TcpStream::connect(("127.0.0.1", self.port)).unwrap());
        self.requests.join().unwrap()
    }
}

/// Reads a request, and gives back its first line.
fn refuse(mut stream: TcpStream) -> Option<String> {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let first = lines.next()?.unwrap();
    for line in lines {
        if line.unwrap().is_empty() {
            break;
        }
    }
    stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
    Some(first)
}

/// The request lines at the proxy, and what the program says.
fn pull(reference: &str, variables: &[(&str, &str)]) -> (Vec<String>, String) {
    let proxy = Proxy::start();
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tare-publish"));
    for name in ["ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    command.args(["pull", reference, "--output"]).arg(folder.path().join("layout"));
    for (name, value) in variables {
        command.env(name, value.replace("PROXY", &format!("127.0.0.1:{}", proxy.port)));
    }
    let output = command.env("HOME", folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    (proxy.requests(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn registries_are_reached_through_the_proxy() {
    for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"] {
        let (requests, says) = pull("registry.invalid/team/app:1", &[(name, "http://PROXY")]);
        assert!(!requests.is_empty(), "{name}: {says}");
        let connects = |line: &String| line == "CONNECT registry.invalid:443 HTTP/1.1";
        assert!(requests.iter().all(connects), "{name}: {requests:?} {says}");
    }
}

#[test]
fn hosts_of_no_proxy_and_loopback_are_reached_directly() {
    let through = ("HTTPS_PROXY", "http://PROXY");
    for (reference, hosts) in [
        ("registry.invalid/team/app:1", "registry.invalid"),
        ("registry.invalid/team/app:1", "other,.invalid"),
        ("registry.invalid/team/app:1", "*"),
        ("127.0.0.1:9/team/app:1", ""),
        ("localhost:9/team/app:1", ""),
    ] {
        let (requests, says) = pull(reference, &[through, ("NO_PROXY", hosts)]);
        assert_eq!(requests, Vec::<String>::new(), "{reference} {hosts}: {says}");
    }
}
