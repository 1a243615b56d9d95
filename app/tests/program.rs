//! The program as a container starts it: its environment, arguments, signals and exit codes.

#![cfg(unix)]

mod support;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::thread;

use support::{Answer, Client};

const APP: &str = env!("CARGO_BIN_EXE_app");

/// Exit code, stdout, stderr.
type Ended = (Option<i32>, String, String);

fn call(port: &str, arguments: &[&str]) -> io::Result<Ended> {
    let output = Command::new(APP).args(arguments).env("PORT", port).output()?;
    Ok(ended(&output))
}

fn ended(output: &Output) -> Ended {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let code = output.status.code();
    (code, text(&output.stdout), text(&output.stderr))
}

/// A started server, killed when a test fails before it has stopped.
struct Program {
    child: Child,
    stderr: BufReader<ChildStderr>,
    address: SocketAddr,
}

impl Program {
    fn start(command: &mut Command) -> io::Result<Self> {
        let mut child = command
            .env("PORT", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let stderr = child.stderr.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let mut program =
            Self { child, stderr: BufReader::new(stderr), address: (Ipv4Addr::LOCALHOST, 0).into() };
        let mut line = String::new();
        program.stderr.read_line(&mut line)?;
        let port = line
            .strip_prefix("listening on 0.0.0.0:")
            .and_then(|port| port.trim_end().parse().ok())
            .ok_or_else(|| io::Error::other(format!("it said {line:?}")))?;
        program.address.set_port(port);
        Ok(program)
    }

    fn client(&self) -> io::Result<Client> {
        Client::connect(self.address)
    }

    fn port(&self) -> String {
        self.address.port().to_string()
    }

    fn signal(&self, name: &str) -> io::Result<()> {
        let kill = format!("kill -{name} {}", self.child.id());
        let status = Command::new("sh").args(["-c", &kill]).status()?;
        if status.success() { Ok(()) } else { Err(io::Error::other(kill)) }
    }

    /// The exit code, and what it said after it had started.
    fn wait(mut self) -> io::Result<(Option<i32>, String)> {
        let code = self.child.wait()?.code();
        let mut said = String::new();
        self.stderr.read_to_string(&mut said)?;
        Ok((code, said))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn version_and_help_go_to_stdout() -> io::Result<()> {
    let version = concat!("app ", env!("CARGO_PKG_VERSION"), "\n");
    let expected = (Some(0), version.to_owned(), String::new());
    assert_eq!(call("60000", &["--version"])?, expected);

    let (code, stdout, stderr) = call("60000", &["--help"])?;
    assert_eq!((code, stderr), (Some(0), String::new()));
    for named in ["--health", "--help", "--version", "PORT", "60000"] {
        assert!(stdout.contains(named), "{named} is missing:\n{stdout}");
    }
    Ok(())
}

#[test]
fn unknown_argument_is_an_error_with_a_hint() -> io::Result<()> {
    let stderr = "error: unexpected argument: \"--prot\"\nhint: run it with --help to see what it takes\n";
    let expected = (Some(2), String::new(), stderr.to_owned());
    assert_eq!(call("0", &["--prot"])?, expected);
    assert_eq!(call("0", &["--health", "--prot"])?, expected);
    Ok(())
}

#[test]
fn bad_port_is_an_error_with_a_hint() -> io::Result<()> {
    let stderr = "error: PORT is not a port number: \"abc\"\n\
                  hint: set PORT to a number from 0 to 65535, or leave it unset for 60000\n";
    let expected = (Some(2), String::new(), stderr.to_owned());
    assert_eq!(call("abc", &[])?, expected);
    assert_eq!(call("abc", &["--health"])?, expected);
    Ok(())
}

#[test]
fn port_in_use_is_an_error_with_a_hint() -> io::Result<()> {
    let taken = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let address = taken.local_addr()?;
    let reason = TcpListener::bind(address).map(|_| ());
    let reason = reason.err().ok_or(io::ErrorKind::InvalidData)?;
    let stderr =
        format!("error: cannot listen on {address}: {reason}\nhint: set PORT to a port that is free\n");
    let expected = (Some(1), String::new(), stderr);
    assert_eq!(call(&address.port().to_string(), &[])?, expected);
    Ok(())
}

#[test]
fn health_is_0_when_the_server_is_well() -> io::Result<()> {
    let program = Program::start(&mut Command::new(APP))?;
    let expected = (Some(0), String::new(), String::new());
    assert_eq!(call(&program.port(), &["--health"])?, expected);
    Ok(())
}

#[test]
fn health_is_1_when_the_answer_is_not_200() -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let server = thread::spawn(move || -> io::Result<String> {
        let (mut stream, _) = listener.accept()?;
        let mut request = String::new();
        let mut lines = BufReader::new(stream.try_clone()?);
        while !request.ends_with("\r\n\r\n") {
            lines.read_line(&mut request)?;
        }
        stream.write_all(b"HTTP/1.1 500 Internal Server Error\r\n\r\n")?;
        Ok(request)
    });
    let stderr = format!("error: {address} answered \"HTTP/1.1 500 Internal Server Error\" to /health\n");
    let expected = (Some(1), String::new(), stderr);
    assert_eq!(call(&address.port().to_string(), &["--health"])?, expected);
    let panicked = |_| io::Error::other("the server panicked");
    assert_eq!(
        server.join().map_err(panicked)??,
        "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    );
    Ok(())
}

#[test]
fn health_is_1_when_nothing_listens() -> io::Result<()> {
    // Port 0 is never listened on.
    let (code, stdout, stderr) = call("0", &["--health"])?;
    assert_eq!((code, stdout), (Some(1), String::new()));
    assert!(
        stderr.starts_with("error: no answer from 127.0.0.1:0: ") && stderr.lines().count() == 1,
        "{stderr}"
    );
    Ok(())
}

#[test]
fn term_and_int_finish_what_is_in_flight_and_exit_with_0() -> io::Result<()> {
    for signal in ["TERM", "INT"] {
        let program = Program::start(&mut Command::new(APP))?;
        let mut client = program.client()?;
        let hello = Answer::text("200 OK", "Hello from tare\n");
        assert_eq!(client.ask("GET", "/")?, hello, "SIG{signal}");

        program.signal(signal)?;
        // From now on the server may be told at any moment: the answers stay complete, and one of them is
        // the last.
        let last = hello.clone().with("connection", "close");
        loop {
            let answer = client.ask("GET", "/")?;
            if answer != hello {
                assert_eq!(answer, last, "SIG{signal}");
                break;
            }
        }
        assert_eq!(client.rest()?, "", "SIG{signal}");
        assert_eq!(program.wait()?, (Some(0), String::new()), "SIG{signal}");
    }
    Ok(())
}

#[test]
fn server_out_of_file_descriptors_serves_again_when_it_has_some() -> io::Result<()> {
    let limited = "ulimit -n 24; exec \"$0\"";
    let program = Program::start(Command::new("sh").args(["-c", limited, APP]))?;
    // The kernel lets all of them connect; the server can take only some.
    let mut clients = (0..48).map(|_| program.client()).collect::<io::Result<Vec<_>>>()?;
    for client in &mut clients {
        client.send("GET /health HTTP/1.1\r\nHost: test\r\n\r\n")?;
    }
    for mut client in clients {
        assert_eq!(client.answer(true)?, Answer::text("200 OK", "ok\n"));
    }
    Ok(())
}
