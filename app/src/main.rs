//! The program: reads the environment and the command line, serves until SIGTERM or SIGINT, and turns
//! failures into a line on stderr and an exit code.
//!
//! Exit codes: 0 done; 1 it failed, or the server is not well; 2 it was called wrongly.

use std::env;
use std::error::Error;
use std::fmt::Display;
use std::future::{Future, poll_fn};
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use app::config::{self, Command, InvalidPort, UnknownArgument};
use app::{Config, health};
use tokio::net::TcpListener;

const HELP: &str = "\
A small HTTP server.

Usage: app [--health | --help | --version]

  (none)       serve on 0.0.0.0:$PORT until SIGTERM or SIGINT
  --health     ask the server on 127.0.0.1:$PORT whether it is well; exit 0 or 1
  -h, --help
  -V, --version

Environment:
  PORT         the port, 60000 when it is not set
";

/// Half of what Docker gives a health check when it is not told otherwise is plenty on loopback; the
/// failure should be this program's own line and not a kill.
const HEALTH_PATIENCE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    match execute() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            say(format_args!("error: {}", failure.message));
            if let Some(hint) = failure.hint {
                say(format_args!("hint: {hint}"));
            }
            ExitCode::from(failure.code)
        }
    }
}

fn execute() -> Result<(), Failure> {
    let command = Command::parse(env::args_os().skip(1))
        .map_err(|error| Failure::usage(&error, UnknownArgument::HINT))?;
    match command {
        Command::Help => print(HELP),
        Command::Version => print(concat!("app ", env!("CARGO_PKG_VERSION"), "\n")),
        Command::Serve => serve(port()?),
        Command::Health => health::check((Ipv4Addr::LOCALHOST, port()?).into(), HEALTH_PATIENCE)
            .map_err(|error| Failure::plain(&error)),
    }
}

fn port() -> Result<u16, Failure> {
    config::port(env::var_os("PORT").as_deref()).map_err(|error| Failure::usage(&error, InvalidPort::HINT))
}

fn serve(port: u16) -> Result<(), Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::io("the runtime does not start", &error))?
        .block_on(listen((Ipv4Addr::UNSPECIFIED, port).into()))
}

async fn listen(address: SocketAddr) -> Result<(), Failure> {
    // The handlers come first: as process 1 of a container, a signal without one is ignored.
    let shutdown = stop_signal().map_err(|error| Failure::io("signals cannot be handled", &error))?;
    let cannot_listen = |error: io::Error| Failure {
        hint: Some("set PORT to a port that is free"),
        ..Failure::io(&format!("cannot listen on {address}"), &error)
    };
    let listener = TcpListener::bind(address).await.map_err(cannot_listen)?;
    let address = listener.local_addr().map_err(cannot_listen)?;
    say(format_args!("listening on {address}"));

    let stopped = app::run(listener, Config::default(), shutdown).await;
    if stopped.cut_off > 0 {
        say(format_args!("connections cut off while stopping: {}", stopped.cut_off));
    }
    Ok(())
}

#[cfg(unix)]
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    use std::task::Poll;

    use tokio::signal::unix::{SignalKind, signal};

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(poll_fn(move |context| {
        if terminate.poll_recv(context).is_ready() || interrupt.poll_recv(context).is_ready() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }))
}

#[cfg(windows)]
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let mut interrupt = tokio::signal::windows::ctrl_c()?;
    Ok(poll_fn(move |context| interrupt.poll_recv(context).map(|_| ())))
}

struct Failure {
    message: String,
    hint: Option<&'static str>,
    code: u8,
}

impl Failure {
    fn usage(error: &dyn Error, hint: &'static str) -> Self {
        Self { message: error.to_string(), hint: Some(hint), code: 2 }
    }

    fn plain(error: &dyn Error) -> Self {
        let message = match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        Self { message, hint: None, code: 1 }
    }

    fn io(what: &str, error: &io::Error) -> Self {
        Self { message: format!("{what}: {error}"), hint: None, code: 1 }
    }
}

fn print(text: &str) -> Result<(), Failure> {
    io::stdout()
        .write_all(text.as_bytes())
        .map_err(|error| Failure::io("stdout cannot be written to", &error))
}

/// A line on stderr. `eprintln!` would abort the server when nobody reads its log any more.
fn say(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}
