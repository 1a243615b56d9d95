//! What the passes measure: one image, run one way, under one set of limits.

use std::net::Ipv6Addr;
use std::time::Duration;

use tare_oci::units::ByteSize;

use crate::generator::ChildError;
use tare_container::life::Endpoint;
use tare_container::limits::{CpuLimit, CpuSet, LimitError, Limits};
use tare_container::spec::{ContainerSpec, Network};
use tare_container::target::Target;
use tare_container::{Container, Exit};
use tare_container::{ContainerError, Runtime};
use tare_load::LoadError;

use super::cpus::{HostCpus, Placement};
use super::definition::{self, Profile, values};
use super::port::Port;
use super::startup::probe::{ProbeError, Readiness};

/// Asks a server to stop (signal(7)); the same number on every architecture.
const SIGTERM: i32 = 15;
/// How long a server may take for that before it is killed, as with `docker stop`.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// Files in memory are worth a word from this part of the memory limit on: a twentieth.
const FILES_SHARE: u64 = 20;

/// Why a pass has no figures.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// The server ended by itself.
    #[error("the server ended: {exit}{}", advice.as_ref().map(|it| format!(": {it}")).unwrap_or_default())]
    Ended {
        /// How.
        exit: Exit,
        /// What it failed on and what helps, if its last words say so.
        advice: Option<String>,
        /// What it printed last.
        output: String,
    },
    /// It runs, and does not answer as it should.
    #[error("{source}{}", note.as_ref().map(|note| format!("; {note}")).unwrap_or_default())]
    NotReady {
        /// How.
        source: Box<ProbeError>,
        /// What to know of it: the ports that were not asked, or what the profile may ask for.
        note: Option<String>,
        /// What it printed last.
        output: String,
    },
    /// The kernel killed processes of the server for want of memory, and not its first one.
    #[error("{}", killed(*kills, *limit, *files, then.as_deref()))]
    OutOfMemory {
        /// How many.
        kills: u64,
        /// Bytes of memory that the server may use, if that is limited.
        limit: Option<u64>,
        /// Bytes of files in its memory.
        files: u64,
        /// What it did not do after that.
        then: Option<String>,
        /// What it printed last.
        output: String,
    },
    /// It does not answer as it should before or after the load, or the load cannot be run.
    #[error("{source}")]
    Load {
        /// Why.
        source: ChildError,
        /// What the server printed last.
        output: String,
    },
    /// What measures the server cannot get to where it must be.
    #[error("{0}")]
    Place(#[from] LoadError),
    /// The container cannot be had.
    #[error("{0}")]
    Runtime(#[from] ContainerError),
    /// More CPU time is allowed than there is, so that nothing would be limited.
    #[error("the profile allows {wanted} CPUs, and this host has {has}")]
    Cpus {
        /// As the profile has it.
        wanted: f64,
        /// As this process may use them.
        has: usize,
    },
    /// The image of the runtime baseline.
    #[error("the image of the runtime baseline cannot be written")]
    RuntimeBaseline(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The neighbour of the isolation pass.
    #[error("the neighbour of the isolation pass {0}")]
    Neighbour(String),
    /// The files of the edge pass.
    #[error("the files of the edge pass cannot be in {folder} of the container: {why}")]
    Source {
        /// The folder of the profile.
        folder: String,
        /// Why not.
        why: String,
    },
    /// The profile's limits.
    #[error("{0}")]
    Limit(#[from] LimitError),
}

impl PassError {
    /// Whether it says something about the server, and not about the tool or the host.
    #[must_use]
    pub fn is_the_servers(&self) -> bool {
        match self {
            Self::Ended { .. } | Self::NotReady { .. } | Self::OutOfMemory { .. } => true,
            Self::Load { source, .. } => matches!(source, ChildError::Failed { kind: Some(_), .. }),
            _ => false,
        }
    }

    /// What the server printed last, if that says why.
    #[must_use]
    pub fn output(&self) -> Option<&str> {
        match self {
            Self::Ended { output, .. }
            | Self::NotReady { output, .. }
            | Self::OutOfMemory { output, .. }
            | Self::Load { output, .. } => Some(output),
            _ => None,
        }
    }
}

/// One image, run one way, under one set of limits.
#[derive(Debug, Clone)]
pub struct Subject<'a> {
    /// What runs it.
    pub runtime: &'a Runtime,
    /// What is run.
    pub target: &'a Target,
    /// How.
    pub spec: ContainerSpec,
    /// When it is ready.
    pub ready: &'a definition::Ready,
    /// Where it and what measures it run.
    pub placement: Placement,
}

impl<'a> Subject<'a> {
    /// Puts a profile and one of its sets of limits to an image.
    ///
    /// # Errors
    /// When the limits cannot be.
    pub fn new(
        runtime: &'a Runtime,
        target: &'a Target,
        profile: &'a Profile,
        limits: &Limits,
        placement: Placement,
    ) -> Result<Self, PassError> {
        let mut wanted = possible(limits)?;
        let mut affinity = None;
        if wanted.cpuset.is_none() {
            let server = CpuSet::new(placement.server.iter().copied());
            // Not asked for by the profile, so that its lack is no reason to stop.
            if server.as_ref().is_none_or(|cpus| runtime.has_cpuset(cpus)) {
                wanted.cpuset = server;
            } else {
                affinity = server;
            }
        }
        let network = match profile.network {
            values::Network::Loopback => Network::Loopback,
            values::Network::Veth => Network::Veth,
        };
        let spec = ContainerSpec {
            args: profile.args.as_ref().map(|args| with_args(target, args)),
            env: profile.env.clone(),
            limits: wanted,
            affinity,
            tightening: profile.container.clone(),
            network,
            ports: vec![Port::of(target, profile.ready.port).number],
            mounts: vec![],
        };
        Ok(Self { runtime, target, spec, ready: &profile.ready, placement })
    }

    /// Where its server listens.
    #[must_use]
    pub fn port(&self) -> Port {
        Port::of(self.target, self.ready.port)
    }

    /// How many CPUs' time it may use.
    #[must_use]
    pub fn cpus(&self) -> f64 {
        let placed = self.placement.server.len() as f64;
        self.spec.limits.cpu.map_or(placed, |limit| limit.as_cpus().min(placed))
    }

    /// Creates a container of it, which waits for its start.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn create(&self) -> Result<Container, PassError> {
        Ok(self.runtime.create(self.target, &self.spec)?)
    }

    /// What its server is asked until it is ready. In a network of its own it may listen on either loopback address.
    #[must_use]
    pub fn readiness(&self, endpoint: &Endpoint) -> Readiness {
        let definition::Ready { method, path, headers, body, contains, status, timeout, port: _ } =
            self.ready;
        let own = endpoint.network_namespace.is_some();
        Readiness {
            address: endpoint.address,
            other: own.then(|| (Ipv6Addr::LOCALHOST, endpoint.address.port()).into()),
            request: tare_load::Request {
                method: method.clone(),
                headers: headers.clone().into_iter().collect(),
                body: tare_load::Blob(body.clone().into_bytes()),
                ..tare_load::Request::get(path)
            },
            status: *status,
            contains: contains.clone(),
            timeout: Duration::from_nanos(timeout.0),
        }
    }
}

/// The image's entrypoint with other arguments.
pub(crate) fn with_args(target: &Target, args: &[String]) -> Vec<String> {
    ContainerSpec::entrypoint(&target.config).iter().chain(args).cloned().collect()
}

/// A profile's limits, as far as this host can have them.
///
/// # Errors
/// When the kernel takes no such limits, or they allow more CPUs than there are.
pub fn possible(limits: &Limits) -> Result<Limits, PassError> {
    let limits = limits.clone().checked()?;
    let has = HostCpus::read().count();
    match limits.cpu.map(CpuLimit::as_cpus).filter(|wanted| *wanted > has as f64) {
        Some(wanted) => Err(PassError::Cpus { wanted, has }),
        None => Ok(limits),
    }
}

/// Asks a server to stop, and says in how many nanoseconds it did: none if it has to be killed.
///
/// # Errors
/// When the runtime cannot send the signal.
pub fn stop(container: &Container) -> Result<Option<u64>, PassError> {
    let asked = tare_load::clock::now();
    container.signal(SIGTERM)?;
    let exit = container.wait(STOP_PATIENCE)?;
    let ended = container.clock().exited.filter(|_| exit.is_some());
    Ok(ended.map(|at| at.saturating_sub(asked)))
}

/// Why a server does not answer: it has ended, or it has not.
///
/// # Errors
/// When the runtime does not say.
pub fn why_not_ready(container: &Container, port: &Port, source: ProbeError) -> Result<PassError, PassError> {
    let note =
        match &source {
            ProbeError::NotReady { .. } => Some(port.note().unwrap_or(
                "`[ready]` of the profile takes path, status, method, headers and body".to_owned(),
            )),
            _ => port.note(),
        };
    Ok(match ended(container)? {
        Some(error) => error,
        None => out_of_memory(container, Some(source.to_string())).unwrap_or_else(|| PassError::NotReady {
            source: source.into(),
            note,
            output: container.output_tail(),
        }),
    })
}

/// The error of a server that has ended.
#[must_use]
pub fn how_it_ended(container: &Container, exit: Exit) -> PassError {
    let output = container.output_tail();
    let files =
        exit.oom_killed.then(|| of_files(container.files_in_memory(), container.memory_limit())).flatten();
    PassError::Ended { exit, advice: files.or_else(|| container.advice(&output)), output }
}

/// That processes of a server were killed for want of memory, if any were, and what it did not do then.
#[must_use]
pub fn out_of_memory(container: &Container, then: Option<String>) -> Option<PassError> {
    let (kills, limit) = (container.oom_kills(), container.memory_limit());
    let files = container.files_in_memory();
    (kills > 0).then(|| PassError::OutOfMemory { kills, limit, files, then, output: container.output_tail() })
}

/// How much of a memory limit was files, unless it was next to nothing.
fn of_files(files: u64, limit: Option<u64>) -> Option<String> {
    let some = limit.is_some_and(|limit| files > limit / FILES_SHARE);
    some.then(|| format!("{} of it were files in tmpfs", ByteSize(files)))
}

fn killed(kills: u64, limit: Option<u64>, files: u64, then: Option<&str>) -> String {
    let processes = if kills == 1 { "process" } else { "processes" };
    let why = match limit {
        Some(bytes) => {
            let files = of_files(files, limit).map(|files| format!(" ({files})")).unwrap_or_default();
            format!("for exceeding {} of memory{files}", ByteSize(bytes))
        }
        None => "because the machine had no memory left".to_owned(),
    };
    let then = then.map(|then| format!("; then: {then}")).unwrap_or_default();
    format!("the kernel killed {kills} {processes} of the server {why}, and its first process went on{then}")
}

/// The end of a server, if it has ended.
///
/// # Errors
/// When the runtime does not say.
pub fn ended(container: &Container) -> Result<Option<PassError>, PassError> {
    // Wait for the exit first: the server's last output arrives before it.
    let exit = container.wait(Duration::from_millis(100))?;
    Ok(exit.map(|exit| how_it_ended(container, exit)))
}
