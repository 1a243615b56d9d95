//! The project's own load generator in a process of its own, and the load that the benches send with it.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tare_load::{Blob, Outcome, Pace, Phase, Plan};
use tare_profiler::generator::{self, Place};

use super::CONNECTIONS;

/// What every server answers to `/`.
pub(in crate::bench) const BODY: &str = "Hello from tare\n";

/// Long enough for every buffer to have its size and every branch to be learnt.
const WARM_UP: Duration = Duration::from_millis(300);
/// A request without an answer is given up.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A generator. Dropped, it is ended.
#[derive(Debug)]
pub(in crate::bench) struct Generator(generator::Generator);

/// What is asked of it: GET of `/` over 64 connections that stay.
#[derive(Debug, Clone, Copy)]
pub(in crate::bench) struct Load {
    pub(in crate::bench) address: SocketAddr,
    pub(in crate::bench) duration: Duration,
    /// Requests under way on one connection.
    pub(in crate::bench) depth: u32,
    pub(in crate::bench) threads: u32,
    /// Requests per second; none: as many as are answered.
    pub(in crate::bench) rate: Option<f64>,
}

impl Load {
    /// As many as are answered, one at a time on each connection, from one thread.
    pub(in crate::bench) fn new(address: SocketAddr, duration: Duration) -> Self {
        Self { address, duration, depth: 1, threads: 1, rate: None }
    }

    fn plan(&self) -> Plan {
        let nanoseconds = |duration: Duration| duration.as_nanos() as u64;
        let mut plan = Plan {
            pace: self.rate.map_or(Pace::Closed, |rate| Pace::Open { rate }),
            connections: CONNECTIONS,
            threads: self.threads,
            depth: self.depth,
            warm_up: nanoseconds(WARM_UP),
            duration: nanoseconds(self.duration),
            // One for all: what happens in between is not asked for, and telling it costs time.
            window: nanoseconds(self.duration),
            timeout: nanoseconds(TIMEOUT),
            ..Plan::new(self.address.to_string(), "/")
        };
        for request in &mut plan.requests {
            request.expect.status = Some(200);
            request.expect.length = Some(BODY.len() as u64);
            request.expect.body = Some(Blob(BODY.into()));
        }
        plan
    }
}

impl Generator {
    /// Starts it on CPUs of its own.
    pub(in crate::bench) fn start(tare_profiler: &Path, cpus: &[usize]) -> anyhow::Result<Self> {
        let place = Place { cpus: cpus.to_vec(), ..Place::default() };
        Ok(Self(generator::Generator::start(tare_profiler, &place)?))
    }

    /// Sends requests, and calls `mark` when the measured span begins and when it ends. An answer that is not as
    /// it must be is an error.
    pub(in crate::bench) fn run(
        &mut self,
        load: Load,
        mut mark: impl FnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<Sent> {
        let mut marked = Ok(());
        let outcome = self.0.run(&load.plan(), |phase| {
            if marked.is_ok() && matches!(phase, Phase::Measuring { .. } | Phase::Measured { .. }) {
                marked = mark();
            }
        })?;
        marked?;
        Sent::of(outcome)
    }
}

/// What was sent in the measured span, and answered as it must be.
#[derive(Debug)]
pub(in crate::bench) struct Sent(Outcome);

impl Sent {
    fn of(outcome: Outcome) -> anyhow::Result<Self> {
        if let Some((kind, failures)) = outcome.errors.0.iter().next() {
            anyhow::bail!("{} requests failed ({kind}), the first: {}", failures.count, failures.first);
        }
        anyhow::ensure!(outcome.completed > 0, "no request was answered");
        Ok(Self(outcome))
    }

    pub(in crate::bench) fn completed(&self) -> u64 {
        self.0.completed
    }

    /// Of the measured span.
    pub(in crate::bench) fn nanoseconds(&self) -> u64 {
        self.0.measured.nanoseconds().max(1)
    }

    pub(in crate::bench) fn requests_per_second(&self) -> u64 {
        (u128::from(self.completed()) * 1_000_000_000 / u128::from(self.nanoseconds())) as u64
    }

    /// Requests of an open loop that found no free connection: the latency of these is not known.
    pub(in crate::bench) fn unsent(&self) -> u64 {
        self.0.unsent
    }

    /// Nanoseconds of CPU that the generator used, of those that its threads had.
    pub(in crate::bench) fn generator_use(&self) -> (u64, u64) {
        let used = self.0.cpu.map_or(0, |cpu| (cpu.user + cpu.system) * 1000);
        (used, self.nanoseconds() * u64::from(self.0.threads))
    }

    /// The nearest-rank 99th percentile of the latency, from the planned start.
    pub(in crate::bench) fn p99(&self) -> u64 {
        self.0.latency.percentile(99.0)
    }
}
