//! `cargo xtask run`: one container in the foreground.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use clap::Args;
use tare_container::{Container, ContainerSpec, Exit, Target};
use tare_tool::environment::Environment;
use tare_tool::exit::INTERRUPTED;
use tare_tool::plan::Wanted;

use super::Outcome;
use super::arguments::ContainerArguments;
use super::images;
use super::stage::{self, AtSignal, Session, Stopping, Way};
use crate::forward::forward;
use crate::profile::definition::Profile;
use crate::profile::subject;

/// How often the signal of a user is looked for.
const PAUSE: Duration = Duration::from_millis(50);
/// The container is said to run when its server listens, at the latest after this time.
const SETTLED: Duration = Duration::from_millis(500);
/// A server that does not listen by then may be expected on the wrong port.
const LISTENING: Duration = Duration::from_secs(3);
/// How long the client of a daemon may take to print the last of a container that has ended.
const LAST_OUTPUT: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub(super) struct StartArguments {
    /// The image: of the workspace by its name, an OCI layout or archive, a docker archive, `docker-daemon:REF` or
    /// `containers-storage:REF`
    #[arg(value_name = "IMAGE")]
    image: String,
    #[command(flatten)]
    common: ContainerArguments,
    /// Publish a port of the container on 127.0.0.1: PORT, or HOST:PORT for another one here. Default: every TCP port
    /// that the image exposes
    #[arg(long, value_name = "[HOST:]PORT")]
    publish: Vec<Published>,
    /// Arguments for the image's entrypoint, instead of its own
    #[arg(last = true, value_name = "ARGUMENT")]
    arguments: Vec<String>,
}

/// A port of this host for one of the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Published {
    host: u16,
    container: u16,
}

impl FromStr for Published {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |text: &str, least: u16| text.parse().ok().filter(|port| *port >= least);
        let parse = || {
            let (host, container) = match text.split_once(':') {
                Some((host, container)) => (number(host, 0)?, container),
                None => (number(text, 1)?, text),
            };
            Some(Self { host, container: number(container, 1)? })
        };
        let expected = "expected PORT or HOST:PORT, such as 8080 or 80:8080, with numbers up to 65535; HOST may be 0 for a \
            free port";
        parse().ok_or_else(|| expected.to_owned())
    }
}

/// A port of this host that another program has.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on 127.0.0.1:{}", port.host)]
pub(super) struct InUse {
    port: Published,
    source: std::io::Error,
}

impl InUse {
    /// What to do about it.
    pub(super) fn hint(&self) -> String {
        format!("choose another port of this host: `--publish 0:{}` takes a free one", self.port.container)
    }
}

impl StartArguments {
    pub(super) fn quiet(&self) -> bool {
        self.common.quiet
    }

    fn names(&self) -> &[String] {
        std::slice::from_ref(&self.image)
    }
}

/// What `run` needs before a container can be started.
pub(super) fn plan(arguments: &StartArguments, root: &Path, env: &Environment) -> anyhow::Result<Wanted> {
    let profile = arguments.common.profile(root)?;
    let keeper = stage::check(&arguments.common, &profile, env)?;
    let (images, pulled) = images::wanted(arguments.names())?;
    Ok(Wanted { images, pulled, baseline: None, keeper, quiet: arguments.common.quiet })
}

/// Starts a container, publishes its ports, shows its output, and stops it at a signal or when its program ends.
pub(super) fn run(arguments: &StartArguments, session: &Session) -> anyhow::Result<Outcome> {
    let profile = arguments.common.profile(&session.plan.workspace.root)?;
    let way = stage::choose(&arguments.common, session)?;
    let stopping = Arc::<Stopping>::default();
    let at_signal = AtSignal::Stop(Arc::clone(&stopping));
    let watch = stage::watch(Some(way), session, &at_signal)?;
    let subjects = images::subjects(arguments.names(), session)?;
    let Way::Here(kind) = way else { return images::hand_over(&arguments.common, &subjects, session) };
    let Some(subject) = subjects.first() else { anyhow::bail!("no image is named") };
    let (image, target) = (&subject.image, &subject.image.target);

    let ports = match arguments.publish.as_slice() {
        [] => target.exposed_ports().map(|port| Published { host: port, container: port }).collect(),
        ports => ports.to_vec(),
    };
    let listeners = ports.iter().map(|port| listen(*port)).collect::<Result<Vec<_>, _>>()?;
    let runtime = stage::open(kind, session, watch, &at_signal)?;
    let spec = spec(arguments, &profile, target, &ports)?;
    runtime.prepare(target)?;
    let container = runtime.create(target, &spec)?;
    let follow = || container.follow_output(Box::new(std::io::stdout()));
    // A keeper keeps only the end of what nobody follows; a daemon keeps all of it, and has none before the start.
    let early = if kind.is_daemon() { None } else { follow()? };
    container.start()?;
    stopping.is_running.store(true, Ordering::Relaxed);
    let output = if kind.is_daemon() { follow()? } else { early };
    let mut addresses = Vec::new();
    for (port, listener) in ports.iter().zip(listeners) {
        addresses.push(format!("http://{}", listener.local_addr()?));
        let forwarded = container.endpoint(port.container).map_err(anyhow::Error::from);
        let forwarded = forwarded.and_then(|endpoint| Ok(forward(listener, endpoint)?));
        // The network of a program that has ended cannot be joined; how it ended is said below.
        if forwarded.is_err() && container.wait(PAUSE)?.is_none() {
            forwarded?;
        }
    }
    let on = if addresses.is_empty() { String::new() } else { format!(" on {}", addresses.join(", ")) };
    let limits = spec.limits.to_string();
    let running = format!("{}{on}, limited to {limits}; Ctrl-C stops it", image.name);
    let wanted: BTreeSet<u16> = ports.iter().map(|port| port.container).collect();

    let exit = attend(&container, &stopping.is_asked, &wanted, |news| match news {
        News::Running => session.ui.status("Running", &running),
        News::NotListening(warning) => session.ui.warning(&warning),
    })?;
    if exit.is_none() {
        session.ui.status("Stopping", &image.name);
        subject::stop(&container)?;
    }
    let advice =
        exit.filter(|exit| code(*exit) != 0).and_then(|_| container.advice(&container.output_tail()));
    finish(container, output)?;
    let Some(exit) = exit else { return Ok(Outcome::Exit(INTERRUPTED)) };
    session.ui.status("Ended", &format!("{}: {}", image.name, how(exit)));
    if let Some(advice) = advice {
        session.ui.block(&format!("hint: {advice}"));
    }
    Ok(Outcome::Exit(code(exit)))
}

/// What happens to a running container.
enum News {
    Running,
    /// The warning that no server listens on a published port.
    NotListening(String),
}

/// Waits for the end of a container; none if the user asks for it.
fn attend(
    container: &Container,
    asked: &AtomicBool,
    wanted: &BTreeSet<u16>,
    mut say: impl FnMut(News),
) -> anyhow::Result<Option<Exit>> {
    let begun = Instant::now();
    let (mut is_announced, mut is_watched) = (false, !wanted.is_empty());
    loop {
        if asked.load(Ordering::Relaxed) {
            return Ok(None);
        }
        if let Some(exit) = container.wait(PAUSE)? {
            return Ok(Some(exit));
        }
        if is_announced && !is_watched {
            continue;
        }
        let found = container.listening();
        let is_complete = found.as_ref().is_some_and(|found| wanted.is_subset(found));
        if !is_announced && (is_watched && is_complete || begun.elapsed() >= SETTLED) {
            is_announced = true;
            say(News::Running);
        }
        if is_complete {
            is_watched = false;
        } else if begun.elapsed() >= LISTENING {
            is_watched = false;
            found.into_iter().for_each(|found| say(News::NotListening(not_listening(wanted, &found))));
        }
    }
}

/// The ports on which nothing listens, and how those are published on which something does.
fn not_listening(wanted: &BTreeSet<u16>, found: &BTreeSet<u16>) -> String {
    let list =
        |ports: &mut dyn Iterator<Item = &u16>| ports.map(u16::to_string).collect::<Vec<_>>().join(", ");
    let missing: Vec<u16> = wanted.difference(found).copied().collect();
    let (s, text) = (if missing.len() == 1 { "" } else { "s" }, list(&mut missing.iter()));
    let nothing = format!("nothing in the container listens on the published port{s} {text}");
    let mut others = found.difference(wanted).peekable();
    match (others.peek(), missing.first()) {
        (Some(other), Some(port)) => {
            let publish = format!("`--publish {port}:{other}`");
            format!("{nothing}, but on {}: {publish} publishes that", list(&mut others))
        }
        _ => format!("{nothing} yet"),
    }
}

fn listen(port: Published) -> Result<TcpListener, InUse> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port.host)).map_err(|source| InUse { port, source })
}

/// The first limits of the profile; its arguments and environment.
fn spec(
    arguments: &StartArguments,
    profile: &Profile,
    target: &Target,
    ports: &[Published],
) -> anyhow::Result<ContainerSpec> {
    let own = (!arguments.arguments.is_empty()).then_some(&arguments.arguments);
    let args = own.or(profile.args.as_ref());
    let limits = profile.limits.first().cloned().unwrap_or_default();
    Ok(ContainerSpec {
        args: args.map(|args| subject::with_args(target, args)),
        env: profile.env.clone(),
        limits: subject::possible(&limits)?,
        tightening: profile.container.clone(),
        ports: ports.iter().map(|port| port.container).collect(),
        ..ContainerSpec::default()
    })
}

/// Removes the container, and shows all of its output.
fn finish(container: Container, output: Option<JoinHandle<()>>) -> anyhow::Result<()> {
    // The client of a daemon reads what the daemon keeps, which goes with the container. A keeper's output ends with
    // the keeper.
    let last = Instant::now() + LAST_OUTPUT;
    while container.runtime().is_daemon()
        && output.as_ref().is_some_and(|output| !output.is_finished())
        && Instant::now() < last
    {
        std::thread::sleep(PAUSE / 10);
    }
    container.remove()?;
    if let Some(output) = output {
        let _ = output.join();
    }
    std::io::stdout().flush()?;
    Ok(())
}

/// An end, after the name of what ended.
fn how(exit: Exit) -> String {
    match exit {
        Exit { code: Some(code), signal: None, oom_killed: false } => format!("exit code {code}"),
        Exit { code: None, signal: Some(signal), oom_killed: false } => format!("signal {signal}"),
        exit => exit.to_string(),
    }
}

/// The exit code of the program, or 128 and the signal that ended it, as shells have it.
fn code(exit: Exit) -> u8 {
    let code = exit.code.or(exit.signal.map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_those_of_the_container_or_a_pair() {
        let published = |host, container| Ok(Published { host, container });
        assert_eq!("8080".parse::<Published>(), published(8080, 8080));
        assert_eq!("80:8080".parse::<Published>(), published(80, 8080));
        assert_eq!("0:8080".parse::<Published>(), published(0, 8080));
        for text in ["", ":", "80:", ":80", "65536", "abc", "1:2:3", "0", "80:0", "-1", "127.0.0.1:80:80"] {
            let error = text.parse::<Published>().unwrap_err();
            assert!(
                error.starts_with("expected PORT or HOST:PORT, such as 8080 or 80:8080, "),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn a_port_on_which_nothing_listens_is_named_with_those_that_are_open() {
        let warning = |wanted: &[u16], found: &[u16]| {
            not_listening(&wanted.iter().copied().collect(), &found.iter().copied().collect())
        };
        let nothing = "nothing in the container listens on the published port";
        assert_eq!(warning(&[80], &[]), format!("{nothing} 80 yet"));
        assert_eq!(
            warning(&[80], &[8080, 9090]),
            format!("{nothing} 80, but on 8080, 9090: `--publish 80:8080` publishes that")
        );
        assert_eq!(warning(&[80, 81, 82], &[82]), format!("{nothing}s 80, 81 yet"));
    }

    #[test]
    fn an_exit_is_shown_as_shells_do() {
        let exit = |code, signal| Exit { code, signal, oom_killed: false };
        let ends = [exit(Some(0), None), exit(Some(3), None), exit(None, Some(9))];
        assert_eq!(ends.map(code), [0, 3, 137]);
        assert_eq!(ends.map(how), ["exit code 0", "exit code 3", "signal 9"]);
    }
}
