//! The project's own load generator, `tare-profiler generate`, in a process of its own: one line of JSON is
//! one message. This crate cannot depend on that one, so the messages are read here as far as needed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::{Value, json};

use super::CONNECTIONS;
use tare_tool::process::{Cmd, Conversation};

/// What every server answers to `/`.
pub(in crate::bench) const BODY: &str = "Hello from tare\n";

/// Long enough for every buffer to have its size and every branch to be learnt.
const WARM_UP: Duration = Duration::from_millis(300);
/// A request without an answer is given up.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A generator. Dropped, it is ended.
#[derive(Debug)]
pub(in crate::bench) struct Generator {
    conversation: Conversation,
}

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

    fn plan(&self) -> Value {
        let nanoseconds = |duration: Duration| duration.as_nanos() as u64;
        let pace = match self.rate {
            None => json!("closed"),
            Some(rate) => json!({ "open": { "rate": rate } }),
        };
        json!({
            "address": self.address.to_string(),
            "requests": [{
                "weight": 1, "method": "GET", "path": "/", "headers": [], "body": "",
                "expect": { "status": 200, "length": BODY.len(), "body": BODY },
            }],
            "protocol": "http1",
            "pace": pace,
            "connections": CONNECTIONS,
            "threads": self.threads,
            "depth": self.depth,
            "keep_alive": true,
            "warm_up": nanoseconds(WARM_UP),
            "duration": nanoseconds(self.duration),
            // One for all: what happens in between is not asked for, and telling it costs time.
            "window": nanoseconds(self.duration),
            "timeout": nanoseconds(TIMEOUT),
            "seed": 1,
            "sample_every": 64,
        })
    }
}

/// What it found, as far as it is used here.
#[derive(Debug, Deserialize)]
pub(in crate::bench) struct Outcome {
    measured: Span,
    /// Requests of the measured span that were answered as they must be.
    pub(in crate::bench) completed: u64,
    unsent: u64,
    errors: BTreeMap<String, Failures>,
    latency: Distribution,
    cpu: Option<Cpu>,
    threads: u64,
}

#[derive(Debug, Deserialize)]
struct Span {
    from: u64,
    to: u64,
}

#[derive(Debug, Deserialize)]
struct Failures {
    count: u64,
    first: String,
}

/// In microseconds.
#[derive(Debug, Deserialize)]
struct Cpu {
    user: u64,
    system: u64,
}

/// Durations in nanoseconds and how many had each, shortest first.
#[derive(Debug, Deserialize)]
struct Distribution {
    counts: Vec<(u64, u64)>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Say {
    Ready,
    Phase(Phase),
    Outcome(Box<Outcome>),
    Failed { message: String },
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Phase {
    Connected {},
    Measuring {},
    Progress {},
    Measured {},
}

/// Where the measured span begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::bench) enum Mark {
    Begin,
    End,
}

impl Generator {
    /// Starts it on CPUs of its own.
    pub(in crate::bench) fn start(tare_profiler: &Path, cpus: &[usize]) -> anyhow::Result<Self> {
        let cpus: Vec<String> = cpus.iter().map(ToString::to_string).collect();
        let command = Cmd::new(tare_profiler).args(["generate", "--cpus", &cpus.join(",")]);
        let mut generator = Self { conversation: command.converse()? };
        match generator.hear()? {
            Say::Ready => Ok(generator),
            other => anyhow::bail!("the generator says {other:?} before it was asked"),
        }
    }

    /// Sends requests, and says when the measured span begins and ends. An answer that is not as it must be
    /// is an error.
    pub(in crate::bench) fn run(
        &mut self,
        load: Load,
        mut mark: impl FnMut(Mark) -> anyhow::Result<()>,
    ) -> anyhow::Result<Outcome> {
        self.conversation.tell(&json!({ "run": load.plan() }).to_string())?;
        let mut marked = Ok(());
        let outcome = loop {
            let next = match self.hear()? {
                Say::Phase(Phase::Measuring {}) => Mark::Begin,
                Say::Phase(Phase::Measured {}) => Mark::End,
                Say::Phase(Phase::Connected {} | Phase::Progress {}) => continue,
                Say::Outcome(outcome) => break outcome,
                other => anyhow::bail!("the generator says {other:?} in the middle of a run"),
            };
            // What it says afterwards has to be heard nevertheless, or it would be taken for the next run's.
            if marked.is_ok() {
                marked = mark(next);
            }
        };
        marked?;
        outcome.check()?;
        Ok(*outcome)
    }

    fn hear(&mut self) -> anyhow::Result<Say> {
        let line = self.conversation.listen()?;
        match serde_json::from_str(&line) {
            Ok(Say::Failed { message }) => anyhow::bail!("{message}"),
            said => said.with_context(|| format!("the generator says something else: {line:.200}")),
        }
    }
}

impl Outcome {
    fn check(&self) -> anyhow::Result<()> {
        if let Some((kind, Failures { count, first })) = self.errors.iter().next() {
            anyhow::bail!("{count} requests failed ({kind}), the first: {first}");
        }
        anyhow::ensure!(self.completed > 0, "no request was answered");
        Ok(())
    }

    /// Of the measured span.
    pub(in crate::bench) fn nanoseconds(&self) -> u64 {
        self.measured.to.saturating_sub(self.measured.from).max(1)
    }

    pub(in crate::bench) fn requests_per_second(&self) -> u64 {
        (u128::from(self.completed) * 1_000_000_000 / u128::from(self.nanoseconds())) as u64
    }

    /// Requests of an open loop that found no free connection: the latency of these is not known.
    pub(in crate::bench) fn unsent(&self) -> u64 {
        self.unsent
    }

    /// Nanoseconds of CPU that the generator used, of those that its threads had.
    pub(in crate::bench) fn generator_use(&self) -> (u64, u64) {
        let used = self.cpu.as_ref().map_or(0, |cpu| (cpu.user + cpu.system) * 1000);
        (used, self.nanoseconds() * self.threads)
    }

    /// The nearest-rank 99th percentile of the latency, from the planned start: the shortest that at least
    /// 99 of 100 do not exceed.
    pub(in crate::bench) fn p99(&self) -> u64 {
        let all: u64 = self.latency.counts.iter().map(|(_, count)| count).sum();
        let rank = (all * 99).div_ceil(100);
        let mut seen = 0;
        let reached = self.latency.counts.iter().find(|(_, count)| {
            seen += count;
            seen >= rank
        });
        reached.map_or(0, |(duration, _)| *duration)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTCOME: &str = r#"{"outcome":{"began":5,"measured":{"from":1000,"to":2000001000},"ended":9,
        "planned":9,"sent":9,"completed":200,"unsent":0,"errors":{},"windows":[9],"window":1,
        "latency":{"min":1,"max":9,"sum":3,"counts":[[10,98],[20,1],[30,1]]},
        "service":{"min":1,"max":9,"sum":3,"counts":[]},"in_flight":1,"bytes_in":1,"bytes_out":1,
        "bodies_compared":1,"connections":{"asked":1},"cpu":{"user":100000,"system":300000},"threads":1}}"#;

    fn heard(text: &str) -> Say {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn an_outcome_is_read_as_the_generator_writes_it() {
        let Say::Outcome(outcome) = heard(OUTCOME) else { panic!("it is an outcome") };
        assert_eq!((outcome.completed, outcome.requests_per_second(), outcome.p99()), (200, 100, 20));
        assert_eq!(outcome.generator_use(), (400_000_000, 2_000_000_000));
        outcome.check().unwrap();
    }

    #[test]
    fn requests_that_failed_are_an_error() {
        let text = OUTCOME.replace("\"errors\":{}", r#""errors":{"bad-body":{"count":3,"first":"x"}}"#);
        let Say::Outcome(outcome) = heard(&text) else { panic!("it is an outcome") };
        assert_eq!(outcome.check().unwrap_err().to_string(), "3 requests failed (bad-body), the first: x");
    }

    #[test]
    fn what_is_said_in_between_is_understood() {
        assert!(matches!(heard("\"ready\""), Say::Ready));
        assert!(matches!(heard(r#"{"phase":{"measuring":{"at":7}}}"#), Say::Phase(Phase::Measuring {})));
        assert!(matches!(heard(r#"{"phase":{"measured":{"at":7}}}"#), Say::Phase(Phase::Measured {})));
        assert!(matches!(heard(r#"{"failed":{"message":"m","kind":null}}"#), Say::Failed { .. }));
    }
}
