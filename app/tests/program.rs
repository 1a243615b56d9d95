//! The program as a container starts it: its environment, arguments, signals and exit codes.

#![cfg(unix)]

#[path = "../../crates/http/tests/support/mod.rs"]
mod support;

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use support::program::{Program, Scratch};
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

#[test]
fn version_and_help_go_to_stdout() -> io::Result<()> {
    let version = concat!("app ", env!("CARGO_PKG_VERSION"), "\n");
    let expected = (Some(0), version.to_owned(), String::new());
    assert_eq!(call("60000", &["--version"])?, expected);

    let (code, stdout, stderr) = call("60000", &["--help"])?;
    assert_eq!((code, stderr), (Some(0), String::new()));
    for named in ["--health", "--help", "--version", "--print-config", "PORT", "RUST_LOG"] {
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
fn wrong_configuration_is_one_line_and_78() -> io::Result<()> {
    let stderr = "error: environment: PORT = \"abc\" is not a number from 0 to 65535\n";
    let expected = (Some(78), String::new(), stderr.to_owned());
    for arguments in [&[][..], &["--health"], &["--print-config"]] {
        assert_eq!(call("abc", arguments)?, expected, "{arguments:?}");
    }
    let file = Scratch::new("wrong.toml", "\nidle-timeout = 5\n")?;
    let path = file.path().display().to_string();
    let stderr =
        format!("error: {path}:2: idle-timeout = \"5\" is not a duration such as 500ms, 30s or 5m\n");
    let argument = format!("--config={path}");
    assert_eq!(call("0", &[&argument])?, (Some(78), String::new(), stderr));
    let stderr = "error: cannot read /nonexistent: No such file or directory (os error 2)\n";
    assert_eq!(call("0", &["--config", "/nonexistent"])?, (Some(78), String::new(), stderr.to_owned()));
    Ok(())
}

#[test]
fn print_config_shows_every_layer() -> io::Result<()> {
    let file = Scratch::new("layers.toml", "port = 1\nlinger = \"2s\"\nbacklog = 3\n")?;
    let path = file.path().display().to_string();
    let (code, stdout, stderr) = call("4", &["--config", &path, "--backlog=5", "--print-config"])?;
    assert_eq!((code, stderr), (Some(0), String::new()));
    let lines: Vec<Vec<&str>> = stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    let from_file = format!("{path}:2");
    for expected in [
        ["port", "=", "4", "#", "PORT"],
        ["linger", "=", "\"2s\"", "#", &from_file],
        ["backlog", "=", "5", "#", "--backlog"],
    ] {
        assert!(lines.iter().any(|line| *line == expected), "{expected:?}\n{stdout}");
    }
    Ok(())
}

#[test]
fn hangup_takes_over_what_can_be_changed_and_keeps_the_rest() -> io::Result<()> {
    let file = Scratch::new("reload.toml", "body-limit = 10\n")?;
    let mut program = Program::start(Command::new(APP).arg("--config").arg(file.path()))?;
    let ask = |program: &Program| -> io::Result<String> {
        let mut client = program.client()?;
        client.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\n01234567890123456789")?;
        Ok(client.answer(true)?.status)
    };
    assert_eq!(ask(&program)?, "HTTP/1.1 413 Content Too Large");
    for (text, said, status) in [
        ("body-limit = 20\n", "configuration read again\n", "HTTP/1.1 200 OK"),
        (
            "body-limit = \"a\"\n",
            "error: configuration left as it is: FILE:1: body-limit = \"a\" is not a number of bytes such as 4096, 64KiB or 16MiB\n",
            "HTTP/1.1 200 OK",
        ),
        (
            "body-limit = 5\nmemory = \"9MiB\"\n",
            "warning: configuration read again; these need a restart: memory\n",
            "HTTP/1.1 413 Content Too Large",
        ),
    ] {
        std::fs::write(file.path(), text)?;
        program.signal("HUP")?;
        let mut line = String::new();
        program.stderr.read_line(&mut line)?;
        assert_eq!(line, said.replace("FILE", &file.path().display().to_string()));
        assert_eq!(ask(&program)?, status, "{text:?}");
    }
    Ok(())
}

#[test]
fn backlog_that_the_kernel_cuts_is_warned_of() -> io::Result<()> {
    let longest = std::fs::read_to_string("/proc/sys/net/core/somaxconn")?;
    let longest = longest.trim();
    let mut program = Program::start(Command::new(APP).args(["--backlog", "65535"]))?;
    if longest.parse().is_ok_and(|longest: u32| longest < 65_535) {
        let mut line = String::new();
        program.stderr.read_line(&mut line)?;
        let expected =
            format!("warning: the backlog is {longest} and not 65535: net.core.somaxconn is that low\n");
        assert_eq!(line, expected);
    }
    Ok(())
}

#[test]
fn log_in_json_is_an_object_a_line_and_off_is_silence() -> io::Result<()> {
    let mut child = Command::new(APP)
        .args(["--port=0", "--backlog=128", "--log-format=json"])
        .stderr(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    let stderr = child.stderr.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let result = BufReader::new(stderr).read_line(&mut line);
    child.kill()?;
    child.wait()?;
    result?;
    let (start, end) = ("{\"time\":\"20", ",\"level\":\"info\",\"message\":\"listening on 0.0.0.0:");
    assert!(line.starts_with(start) && line.contains(end) && line.ends_with("\"}\n"), "{line}");
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
    // More connections than files, or those that are too many would be answered 503.
    let mut command = Command::new("sh");
    command.args(["-c", limited, APP]).env("TARE_MAX_CONNECTIONS", "1000").env("TARE_WORKERS", "1");
    let program = Program::start(command.env("RUST_LOG", "info"))?;
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

#[test]
fn hundred_thousand_connections_that_open_and_drop_leave_nothing_behind() -> io::Result<()> {
    let program = Program::start(Command::new(APP).args(["--workers", "1", "--backlog", "1024"]))?;
    let mut witness = program.client()?;
    witness.ask("GET", "/health")?;
    let (files, mut memory) = (program.open_files()?, 0);
    for number in 0..100_000 {
        let stream = TcpStream::connect(program.address)?;
        match number % 4 {
            // Half a request.
            0 => (&stream).write_all(b"GET / HTTP/1.1\r\nHost")?,
            // A whole one, the answer to which nobody waits for.
            1 => (&stream).write_all(b"GET /bytes/100000 HTTP/1.1\r\nHost: a\r\n\r\n")?,
            _ => {}
        }
        // All but some with a reset rather than an end, so that the ports are free again at once.
        if number % 100 > 0 {
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        }
        drop(stream);
        // The first thousands show what it needs; it is to need no more after all of them.
        if number == 10_000 {
            all_but_one_ended(&mut witness)?;
            memory = program.resident()?;
        }
    }
    all_but_one_ended(&mut witness)?;
    assert!(witness.metric("app_connections_accepted_total")? > 50_000);
    // Some may have waited to be accepted until now. It is tried so often that it is an answer.
    let found = (0..10_000).map(|_| {
        thread::sleep(Duration::from_millis(1));
        program.open_files()
    });
    assert!(
        found.map_while(Result::ok).any(|found| found == files),
        "{} and not {files}",
        program.open_files()?
    );
    let grown = program.resident()?.saturating_sub(memory);
    // Eleven bytes for each of the ninety thousand would be as much.
    assert!(grown < 1 << 20, "{grown} bytes more than {memory}");
    program.is_well()
}

fn all_but_one_ended(witness: &mut Client) -> io::Result<()> {
    while witness.metric("app_connections")? > 1 {
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

#[test]
fn server_that_cannot_accept_waits_instead_of_trying_all_the_time() -> io::Result<()> {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 24; exec \"$0\" --workers 1 --max-connections 1000", APP]);
    let program = Program::start(&mut command)?;
    let mut witness = program.client()?;
    witness.ask("GET", "/health")?;
    let clients = (0..48).map(|_| program.client()).collect::<io::Result<Vec<_>>>()?;
    let mut errors = |at_least: u64| -> io::Result<u64> {
        loop {
            let found = witness.metric("app_accept_errors_total")?;
            if found >= at_least {
                return Ok(found);
            }
            thread::sleep(Duration::from_millis(20));
        }
    };
    let first = errors(3)?;
    let (burnt, start) = (program.cpu_time()?, Instant::now());
    let pauses = errors(first + 20)? - first;
    let (burnt, passed) = (program.cpu_time()? - burnt, start.elapsed());
    // Trying all the time takes all of the CPU that there is.
    assert!(burnt < passed / 10, "{burnt:?} of CPU in {passed:?}, in {pauses} pauses");
    // When there are descriptors again, who waited is served.
    drop(clients);
    program.is_well()
}
