//! What a profile is: `profiles/NAME.toml`, read, checked and completed with defaults.
//!
//! Everything that can be wrong with a profile in itself is found here and reported with file, line and
//! column. Whether the host can honour its limits is found where the container is made.

mod bound;
mod parse;
mod problem;
mod raw;
mod shipped;
pub mod values;

use tare_oci::units::{ByteSize, Nanoseconds};

pub use self::parse::parse;
pub use self::shipped::{SourceError, find, names};
use self::values::{Cpus, Load, Network, Protocol};
use super::gate::Gate;
use super::metric::Pass;

pub use tare_report::limits::{CpuLimit, CpuSet, DEFAULT_PERIOD, Limits};
pub use tare_tool::document::DefinitionError;

/// An image's circumstances and what is to be measured in them.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// The file's name without its ending.
    pub name: String,
    /// One line that says what it is for.
    pub description: Option<String>,
    /// What the container is held to; several are run in turn. Never empty.
    pub limits: Vec<Limits>,
    /// When the server is ready.
    pub ready: Ready,
    /// Variables beside the image's own, which they replace.
    pub env: Vec<(String, String)>,
    /// Arguments in place of the image's own.
    pub args: Option<Vec<String>>,
    /// How generator and server reach each other.
    pub network: Network,
    /// What is measured, in the order of [`Pass::ALL`]; never empty.
    pub passes: Vec<Pass>,
    /// Options of the size pass.
    pub size: SizeOptions,
    /// Options of the start-up pass.
    pub startup: StartupOptions,
    /// Options of the throughput pass.
    pub throughput: ThroughputOptions,
    /// In the order of the file.
    pub gates: Vec<Gate>,
}

/// When the server is ready: this request has this status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// What is asked for, by GET.
    pub path: String,
    /// Where; the image's exposed port if none is named.
    pub port: Option<u16>,
    /// What is answered.
    pub status: u16,
    /// How long is waited for it.
    pub timeout: Nanoseconds,
}

/// Options of the size pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SizeOptions {
    /// How many of the largest files, crates and functions are reported.
    pub rows: u32,
}

/// Options of the start-up pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartupOptions {
    /// Starts with the page cache warm.
    pub runs: u32,
    /// Starts with the image's pages dropped from the cache; 0 for none.
    pub cold_runs: u32,
    /// Whether a program that only exits is started on the same path for comparison.
    pub floor: bool,
}

/// Options of the throughput pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThroughputOptions {
    /// In the order they are run; shares come after the closed loop that they are shares of.
    pub loads: Vec<Load>,
    /// Connections held open.
    pub connections: u32,
    /// How long each load runs.
    pub duration: Nanoseconds,
    /// After which a request counts as an error.
    pub timeout: Nanoseconds,
    /// Requests under way on one connection.
    pub pipeline: u32,
    /// Whether a connection takes more than one request.
    pub keep_alive: bool,
    /// What is spoken.
    pub protocol: Protocol,
    /// What is asked for, in turn by weight; never empty.
    pub requests: Vec<Request>,
}

/// One kind of request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// RFC 9110, section 9.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Beside those that the protocol needs.
    pub headers: Vec<(String, String)>,
    /// Empty for none.
    pub body: Vec<u8>,
    /// How often it is sent, relative to the others.
    pub weight: u32,
    /// The status of a right answer.
    pub status: u16,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            method: "GET".to_owned(),
            path: "/".to_owned(),
            headers: vec![],
            body: vec![],
            weight: 1,
            status: 200,
        }
    }
}

/// What a command line says in place of the profile.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overrides {
    /// `--cpus`
    pub cpus: Option<Cpus>,
    /// `--memory`
    pub memory: Option<ByteSize>,
    /// `--pass`, which may be there several times; empty for the profile's own.
    pub passes: Vec<Pass>,
    /// `--runs`
    pub runs: Option<u32>,
    /// `--duration`
    pub duration: Option<Nanoseconds>,
    /// `--connections`
    pub connections: Option<u32>,
    /// `--rate`, in requests per second: the only load then.
    pub rate: Option<u32>,
}

/// A value of the command line that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{flag}: {problem}")]
pub struct OverrideError {
    /// The flag.
    pub flag: &'static str,
    /// What is wrong.
    pub problem: String,
}

impl Profile {
    /// Whether it has a pass that runs the image.
    #[must_use]
    pub fn runs_image(&self) -> bool {
        self.passes.iter().any(|pass| *pass != Pass::Size)
    }

    /// This profile with what the command line says.
    ///
    /// # Errors
    /// When a flag's value could not stand in a profile either.
    pub fn with(mut self, overrides: &Overrides) -> Result<Self, OverrideError> {
        fn checked<T>(
            flag: &'static str,
            value: Option<T>,
            problem: impl Fn(&T) -> Option<String>,
        ) -> Result<Option<T>, OverrideError> {
            match value.as_ref().and_then(problem) {
                Some(problem) => Err(OverrideError { flag, problem }),
                None => Ok(value),
            }
        }
        let quota =
            checked("--cpus", overrides.cpus.map(CpuLimit::from), |quota| problem::with_quota(*quota))?;
        let memory = checked("--memory", overrides.memory, |memory| problem::with_memory(*memory))?;
        for limits in &mut self.limits {
            limits.cpu = quota.or(limits.cpu);
            if let Some(memory) = memory {
                limits.memory = Some(memory.0);
                limits.swap = limits.swap.or(Some(0));
            }
        }
        // What differed only in what is now the same need not be run twice.
        let mut limits: Vec<Limits> = Vec::new();
        for next in self.limits {
            if !limits.contains(&next) {
                limits.push(next);
            }
        }
        self.limits = limits;
        if !overrides.passes.is_empty() {
            self.passes = parse::in_order(&overrides.passes);
        }
        let runs = checked("--runs", overrides.runs, |runs| problem::with_runs(*runs))?;
        self.startup.runs = runs.unwrap_or(self.startup.runs);
        let duration = checked("--duration", overrides.duration, |it| problem::with_duration(*it))?;
        self.throughput.duration = duration.unwrap_or(self.throughput.duration);
        let connections =
            checked("--connections", overrides.connections, |number| problem::with_connections(*number))?;
        self.throughput.connections = connections.unwrap_or(self.throughput.connections);
        if let Some(rate) = checked("--rate", overrides.rate, |rate| {
            (*rate == 0).then(|| "a rate of 0 sends nothing".to_owned())
        })? {
            self.throughput.loads = vec![Load::Rate(rate)];
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests;
