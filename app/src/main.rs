//! The program: gathers the configuration, serves until SIGTERM or SIGINT, and turns failures into a line on
//! stderr and an exit code.
//!
//! Exit codes: 0 done; 1 it failed, or the server is not well; 2 it was called wrongly; 78 it is configured
//! wrongly (`EX_CONFIG` of sysexits.h).

use std::env;
use std::error::Error;
use std::fmt::Display;
use std::fs;
use std::future::{Future, poll_fn};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use app::config::{Arguments, Command, FILE, FILE_VARIABLE, KEYS, Layers, UnknownArgument};
use app::log::Level;
use app::{Server, health, limits, listen};

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
    let arguments = Arguments::parse(env::args_os().skip(1)).map_err(|error| Failure::usage(&error))?;
    match arguments.command {
        Command::Help => print(&help()),
        Command::Version => print(concat!("app ", env!("CARGO_PKG_VERSION"), "\n")),
        Command::PrintConfig => print(&layers(&arguments)?.show()),
        Command::Serve => serve(&arguments, layers(&arguments)?),
        Command::Health => {
            let config = layers(&arguments)?.config;
            let address = (loopback(config.address), config.port).into();
            health::check(address, HEALTH_PATIENCE).map_err(|error| Failure::plain(&error))
        }
    }
}

fn help() -> String {
    let mut text = String::from(
        "A small HTTP server that knows the limits of its container.\n\n\
         Usage: app [--health | --print-config | --help | --version] [--config FILE] [--SETTING VALUE]…\n\n  \
         (none)           serve until SIGTERM or SIGINT; SIGHUP reads the configuration again\n  \
         --health         ask the server of this container whether it is well; exit 0 or 1\n  \
         --print-config   show every setting and where it comes from\n  \
         --config FILE    instead of /app/config.toml; also TARE_CONFIG\n  \
         -h, --help\n  -V, --version\n\n\
         Settings, as flags, in the environment, or in the file (NAME = VALUE); flags are strongest:\n",
    );
    for key in KEYS {
        text.push_str(&format!(
            "  --{:<17} {:<22} {}: {}\n",
            key.name, key.variable, key.expected, key.about
        ));
    }
    text
}

/// All layers of the configuration, in their order.
fn layers(arguments: &Arguments) -> Result<Layers, Failure> {
    let variable = |name: &str| env::var_os(name).map(|value| value.to_string_lossy().into_owned());
    let named = arguments.file.clone().or_else(|| env::var_os(FILE_VARIABLE).map(PathBuf::from));
    let path = named.clone().unwrap_or_else(|| PathBuf::from(FILE));
    let mut layers = Layers::new();
    match fs::read_to_string(&path) {
        Ok(text) => layers.file(&path, &text).map_err(|error| Failure::config(&error))?,
        // Only one that is asked for has to be there.
        Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            let message = format!("cannot read {}: {error}", path.display());
            return Err(Failure { message, hint: None, code: 78 });
        }
    }
    layers.environment(variable).map_err(|error| Failure::config(&error))?;
    layers.flags(&arguments.flags).map_err(|error| Failure::config(&error))?;
    Ok(layers)
}

/// Where a server that listens on `address` is reached from inside.
fn loopback(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(address) if address.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => other,
    }
}

fn serve(arguments: &Arguments, layers: Layers) -> Result<(), Failure> {
    app::runtime()
        .map_err(|error| Failure::io("the runtime does not start", &error))?
        .block_on(listen(arguments, layers))
}

async fn listen(arguments: &Arguments, layers: Layers) -> Result<(), Failure> {
    // The handlers come first: as process 1 of a container, a signal without one is ignored.
    let signals = Signals::new().map_err(|error| Failure::io("signals cannot be handled", &error))?;
    let server = Server::new(layers.config.clone(), limits::of_this_process(), listen::open_files());
    let address = SocketAddr::new(layers.config.address, layers.config.port);
    let listeners =
        listen::listeners(address, server.sizing.workers, server.sizing.backlog).map_err(|error| {
            Failure { hint: Some("set PORT to a port that is free"), ..Failure::plain(&error) }
        })?;
    let address = listeners.first().map_or(Ok(address), std::net::TcpListener::local_addr);
    let address = address.map_err(|error| Failure::io("the address is not known", &error))?;
    server.log.line(Level::Info, format_args!("listening on {address}"));
    explain(&server);

    let stop = signals.stop(|| reload(&server, arguments, &layers));
    let stopped = app::serve(&server, listeners, stop).await;
    let stopped = stopped.map_err(|error| Failure::io("a worker does not start", &error))?;
    if stopped.cut_off > 0 {
        let told = format_args!("connections cut off while stopping: {}", stopped.cut_off);
        server.log.line(Level::Warn, told);
    }
    Ok(())
}

/// What whoever runs the server should know about where it runs.
fn explain(server: &Server) {
    let sizing = &server.sizing;
    if let Some(longest) = listen::longest_backlog().filter(|longest| *longest < sizing.backlog) {
        let wanted = sizing.backlog;
        let told = format_args!("the backlog is {longest} and not {wanted}: net.core.somaxconn is that low");
        server.log.line(Level::Warn, told);
    }
    for doubt in &server.limits.doubts {
        server.log.line(Level::Warn, doubt);
    }
    let told = format_args!(
        "{} workers, {} connections, {} bytes of heap, {} of cache",
        sizing.workers, sizing.connections, sizing.budget.heap, sizing.budget.cache
    );
    server.log.line(Level::Debug, told);
}

/// Takes over what has changed, or says why not and goes on as before.
fn reload(server: &Server, arguments: &Arguments, old: &Layers) {
    match layers(arguments) {
        Ok(new) => {
            server.reload(&new.config);
            let rest = old.need_restart(&new);
            if rest.is_empty() {
                server.log.line(Level::Info, "configuration read again");
            } else {
                let rest = rest.join(", ");
                let told = format_args!("configuration read again; these need a restart: {rest}");
                server.log.line(Level::Warn, told);
            }
        }
        Err(failure) => {
            let told = format_args!("configuration left as it is: {}", failure.message);
            server.log.line(Level::Error, told);
        }
    }
}

#[cfg(unix)]
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};

        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Ends with the signal to stop.
    fn stop(mut self, reload: impl Fn()) -> impl Future<Output = ()> {
        use std::task::Poll;

        poll_fn(move |context| {
            while let Poll::Ready(Some(())) = self.hangup.poll_recv(context) {
                reload();
            }
            if self.terminate.poll_recv(context).is_ready() || self.interrupt.poll_recv(context).is_ready() {
                return Poll::Ready(());
            }
            Poll::Pending
        })
    }
}

#[cfg(windows)]
struct Signals(tokio::signal::windows::CtrlC);

#[cfg(windows)]
impl Signals {
    fn new() -> io::Result<Self> {
        tokio::signal::windows::ctrl_c().map(Self)
    }

    /// There is nothing like SIGHUP.
    fn stop(mut self, _reload: impl Fn()) -> impl Future<Output = ()> {
        poll_fn(move |context| self.0.poll_recv(context).map(|_| ()))
    }
}

struct Failure {
    message: String,
    hint: Option<&'static str>,
    code: u8,
}

impl Failure {
    fn usage(error: &dyn Error) -> Self {
        Self { message: error.to_string(), hint: Some(UnknownArgument::HINT), code: 2 }
    }

    fn config(error: &dyn Error) -> Self {
        Self { message: error.to_string(), hint: None, code: 78 }
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
