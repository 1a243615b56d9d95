//! What a profile is: `profiles/NAME.toml`, read, completed with defaults and checked.
//!
//! Everything that can be wrong with a profile in itself is found here and reported with file, line and
//! column. Whether the host can honour its limits is found where the container is made.

mod check;
mod container;
mod gates;
mod parse;
mod passes;
mod shipped;
pub mod table;
pub mod values;

use std::collections::BTreeMap;

use serde::Deserialize;
use tare_container::Tightening;
use tare_oci::units::{ByteSize, Nanoseconds};

pub use self::check::Problem;
pub use self::gates::Gate;
pub use self::parse::parse;
pub(crate) use self::passes::settings;
pub use self::passes::{DensityOptions, EdgeOptions, IsolationOptions};
pub use self::shipped::{SourceError, find, find_with, names};
use self::table::TableDefinition;
use self::values::{Check, Load, Network, Protocol};
use super::cpus::{self, HostCpus};
use super::metric::Pass;

pub use tare_report::limits::{CpuLimit, CpuSet, DEFAULT_PERIOD, Limits};
pub use tare_tool::document::DefinitionError;

/// An image's circumstances and what is to be measured in them.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Profile {
    /// The file's name without its ending.
    #[serde(skip)]
    pub name: String,
    /// One line that says what it is for.
    pub description: Option<String>,
    /// The images that are measured where the command line names none; empty for those that are built by default.
    pub images: Vec<String>,
    /// The image among them that the others are compared with in a written page.
    pub subject: Option<String>,
    /// How often all images are measured, in turn.
    pub rounds: u32,
    /// Whether limits that leave the load generator no CPU are joined by the largest that do.
    pub leave_room: bool,
    /// What the container is held to; several are run in turn. Never empty.
    #[serde(deserialize_with = "parse::limits")]
    pub limits: Vec<Limits>,
    /// When the server is ready.
    pub ready: Ready,
    /// Variables beside the image's own, which they replace.
    #[serde(deserialize_with = "parse::env")]
    pub env: Vec<(String, String)>,
    /// Arguments in place of the image's own.
    pub args: Option<Vec<String>>,
    /// How the container is confined, beside what docker and the image's labels say.
    #[serde(deserialize_with = "container::tightening")]
    pub container: Tightening,
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
    /// Options of the density pass.
    pub density: DensityOptions,
    /// Options of the isolation pass.
    pub isolation: IsolationOptions,
    /// Options of the edge pass.
    pub edge: EdgeOptions,
    /// Options of the instructions pass.
    pub instructions: InstructionsOptions,
    /// In the order of the metric table.
    #[serde(deserialize_with = "parse::no_gates")]
    pub gates: Vec<Gate>,
    /// Tables over all images.
    pub table: Vec<TableDefinition>,
}

/// When the server is ready: this request has this status.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Ready {
    /// RFC 9110, section 9.
    pub method: String,
    /// What is asked for.
    pub path: String,
    /// Beside those that the protocol needs, by name; `host` takes the place of the address.
    pub headers: BTreeMap<String, String>,
    /// What is sent; empty for none.
    pub body: String,
    /// A text that the answer's body must contain.
    pub contains: Option<String>,
    /// Where; one of the image's exposed ports if none is named.
    pub port: Option<u16>,
    /// What is answered.
    pub status: u16,
    /// How long is waited for it.
    #[serde(deserialize_with = "parse::text")]
    pub timeout: Nanoseconds,
}

/// Options of the size pass.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct SizeOptions {
    /// How many of the largest files, crates and functions are reported.
    pub rows: u32,
}

/// Options of the start-up pass.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct StartupOptions {
    /// Starts with the page cache warm.
    pub runs: u32,
    /// Starts with the image's pages dropped from the cache; 0 for none.
    pub cold_runs: u32,
    /// Whether a program that only exits is started on the same path for comparison.
    pub runtime_baseline: bool,
}

/// Options of the throughput pass.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ThroughputOptions {
    /// In the order they are run; shares come after the closed loop that they are shares of.
    #[serde(deserialize_with = "parse::loads")]
    pub loads: Vec<Load>,
    /// Connections held open.
    pub connections: u32,
    /// How long each load runs.
    #[serde(deserialize_with = "parse::text")]
    pub duration: Nanoseconds,
    /// After which a request counts as an error.
    #[serde(deserialize_with = "parse::text")]
    pub timeout: Nanoseconds,
    /// Requests under way on one connection.
    pub pipeline: u32,
    /// Whether a connection takes more than one request.
    pub keep_alive: bool,
    /// What of an answer must be as before the load.
    pub check: Check,
    /// What is spoken.
    pub protocol: Protocol,
    /// What is asked for, in turn by weight; never empty.
    pub requests: Vec<Request>,
}

/// Options of the instructions pass.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct InstructionsOptions {
    /// Requests of one start of the server; another start has twice as many.
    pub requests: u32,
    /// How often both are done.
    pub runs: u32,
}

/// One kind of request.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Request {
    /// RFC 9110, section 9.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Beside those that the protocol needs, by name.
    pub headers: BTreeMap<String, String>,
    /// Empty for none.
    pub body: String,
    /// How often it is sent, relative to the others.
    pub weight: u32,
    /// The status of a right answer.
    pub status: u16,
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            name: String::new(),
            description: None,
            images: vec![],
            subject: None,
            rounds: 1,
            leave_room: false,
            limits: vec![Limits::default()],
            ready: Ready::default(),
            env: vec![],
            args: None,
            container: Tightening::default(),
            network: Network::Loopback,
            passes: Pass::DEFAULT.to_vec(),
            size: SizeOptions::default(),
            startup: StartupOptions::default(),
            throughput: ThroughputOptions::default(),
            density: DensityOptions::default(),
            isolation: IsolationOptions::default(),
            edge: EdgeOptions::default(),
            instructions: InstructionsOptions::default(),
            gates: vec![],
            table: vec![],
        }
    }
}

impl Default for Ready {
    fn default() -> Self {
        Self {
            method: "GET".to_owned(),
            path: "/".to_owned(),
            headers: BTreeMap::new(),
            body: String::new(),
            contains: None,
            port: None,
            status: 200,
            timeout: Nanoseconds(10_000_000_000),
        }
    }
}

impl Default for SizeOptions {
    fn default() -> Self {
        Self { rows: 20 }
    }
}

impl Default for StartupOptions {
    fn default() -> Self {
        Self { runs: 20, cold_runs: 10, runtime_baseline: true }
    }
}

impl Default for ThroughputOptions {
    fn default() -> Self {
        Self {
            loads: vec![Load::Closed, Load::Share(50), Load::Share(70), Load::Share(90)],
            connections: 64,
            duration: Nanoseconds(10_000_000_000),
            timeout: Nanoseconds(5_000_000_000),
            pipeline: 1,
            keep_alive: true,
            check: Check::Body,
            protocol: Protocol::Http1,
            requests: vec![Request::default()],
        }
    }
}

impl Default for InstructionsOptions {
    fn default() -> Self {
        Self { requests: 5_000, runs: 3 }
    }
}

impl Default for Request {
    fn default() -> Self {
        Self {
            method: "GET".to_owned(),
            path: "/".to_owned(),
            headers: BTreeMap::new(),
            body: String::new(),
            weight: 1,
            status: 200,
        }
    }
}

/// What a command line says in place of the profile.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overrides {
    /// `--cpus`
    pub cpus: Option<CpuLimit>,
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
    /// `--rounds`
    pub rounds: Option<u32>,
}

impl Profile {
    /// Whether it has a pass that runs the image.
    #[must_use]
    pub fn runs_image(&self) -> bool {
        self.passes.iter().any(|pass| *pass != Pass::Size)
    }

    /// This profile, if it asks for it, with limits that leave the generator a CPU of its own before each of its limits that
    /// do not: the largest whole number of CPUs that does. On a host with one CPU there is no such number.
    #[must_use]
    pub fn with_room(mut self, host: &HostCpus) -> Self {
        if !self.leave_room {
            return self;
        }
        let mut all: Vec<Limits> = Vec::new();
        for limits in &self.limits {
            if limits.cpuset.is_none() && !cpus::leaves_room(host, limits) {
                let fewer = (1..host.count()).rev().filter_map(|count| {
                    #[expect(clippy::cast_precision_loss, reason = "no host has 2^53 CPUs")]
                    let cpu = CpuLimit::cpus(count as f64).ok();
                    Some(Limits { cpu: Some(cpu?), ..limits.clone() })
                });
                all.extend(fewer.filter(|fewer| cpus::leaves_room(host, fewer)).take(1));
            }
            all.push(limits.clone());
        }
        self.limits = distinct(all);
        self
    }

    /// This profile with what the command line says.
    ///
    /// # Errors
    /// When a value could not stand in a profile either.
    pub fn with(mut self, overrides: &Overrides) -> Result<Self, Problem> {
        for limits in &mut self.limits {
            limits.cpu = overrides.cpus.or(limits.cpu);
            if let Some(memory) = overrides.memory {
                limits.memory = Some(memory.0);
                limits.swap = limits.swap.or(Some(0));
            }
        }
        // What differed only in what is now the same need not be run twice.
        self.limits = distinct(self.limits);
        if !overrides.passes.is_empty() {
            self.passes = parse::in_order(&overrides.passes);
        }
        self.rounds = overrides.rounds.unwrap_or(self.rounds);
        let (startup, throughput) = (&mut self.startup, &mut self.throughput);
        startup.runs = overrides.runs.unwrap_or(startup.runs);
        throughput.duration = overrides.duration.unwrap_or(throughput.duration);
        self.isolation.duration = overrides.duration.unwrap_or(self.isolation.duration);
        throughput.connections = overrides.connections.unwrap_or(throughput.connections);
        if let Some(rate) = overrides.rate {
            throughput.loads = vec![Load::Rate(rate)];
        }
        self.check()?;
        Ok(self)
    }
}

/// The same without those that stand there before.
fn distinct(all: Vec<Limits>) -> Vec<Limits> {
    let mut distinct: Vec<Limits> = Vec::new();
    for limits in all {
        if !distinct.contains(&limits) {
            distinct.push(limits);
        }
    }
    distinct
}

#[cfg(test)]
mod tests;
