//! `cargo xtask run`: one container in the foreground.

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

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
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (host, container) = text.split_once(':').unwrap_or((text, text));
        Ok(Self { host: host.parse()?, container: container.parse()? })
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
    Ok(Wanted { images, pulled, keeper, quiet: arguments.common.quiet })
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
    container.start()?;
    stopping.is_running.store(true, Ordering::Relaxed);
    let output = container.follow_output(Box::new(std::io::stdout()))?;
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
    session.ui.status("Running", &format!("{}{on}, limited to {limits}; Ctrl-C stops it", image.name));

    let exit = loop {
        if stopping.is_asked.load(Ordering::Relaxed) {
            session.ui.status("Stopping", &image.name);
            subject::stop(&container)?;
            break None;
        }
        if let Some(exit) = container.wait(PAUSE)? {
            break Some(exit);
        }
    };
    finish(container, output)?;
    Ok(match exit {
        None => Outcome::Exit(INTERRUPTED),
        Some(exit) => {
            session.ui.status("Ended", &exit.to_string());
            Outcome::Exit(code(exit))
        }
    })
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

/// Removes the container when all of its output has been shown.
fn finish(container: Container, output: Option<std::thread::JoinHandle<()>>) -> anyhow::Result<()> {
    // It waits for what is still in the pipe.
    let _ = container.output_tail();
    container.remove()?;
    if let Some(output) = output {
        let _ = output.join();
    }
    std::io::stdout().flush()?;
    Ok(())
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
        for text in ["", ":", "80:", "65536", "a", "1:2:3"] {
            assert!(text.parse::<Published>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_exit_is_shown_as_shells_do() {
        let exit = |code, signal| Exit { code, signal, oom_killed: false };
        assert_eq!([exit(Some(0), None), exit(Some(3), None), exit(None, Some(9))].map(code), [0, 3, 137]);
    }
}
