//! What a profile is: `profiles/NAME.toml`, read, checked and completed with defaults.
//!
//! Everything that can be wrong with a profile in itself is found here and reported with file, line and
//! column. Whether the host can honour its limits is found where the container is made.

mod raw;
mod shipped;
pub mod values;

use std::ops::Range;
use std::path::Path;

use serde::{Deserialize, Serialize};
use xtask_tare::document::{Places, Spanned};
use xtask_tare::units::{ByteSize, Nanoseconds};

use self::raw::{
    RawGate, RawGateNode, RawLimits, RawProfile, RawReady, RawRequest, RawStartup, RawThroughput,
};
pub use self::shipped::{Source, SourceError, find, names};
use self::values::{CpuSet, Cpus, Load, Network, Protocol};
use super::gate::Gate;
use super::metric::{self, Direction, Metric, Pass, Unit};

pub use xtask_tare::document::DefinitionError;

/// The kernel's own default for a quota's period (`default_cfs_period`, kernel/sched/fair.c).
pub const DEFAULT_PERIOD: u64 = 100_000_000;
/// The shortest quota and period that the kernel takes (`min_cfs_quota_period`, kernel/sched/core.c).
const SHORTEST_QUOTA: u64 = 1_000_000;
/// The longest period that the kernel takes (`max_cfs_quota_period`, kernel/sched/core.c).
const LONGEST_PERIOD: u64 = 1_000_000_000;
/// The least memory in which any container was seen to start (crun's README, with `--memory 512k`).
const LEAST_MEMORY: u64 = 512 << 10;

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

/// What a container is held to; what is not there is not limited.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// CPU time in a period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuQuota>,
    /// The CPUs it may run on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpuset: Option<CpuSet>,
    /// Bytes of memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Bytes of swap beside the memory; 0 where only the memory is limited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap: Option<u64>,
    /// Processes and threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
}

/// CPU time in nanoseconds that all threads together may use in every period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CpuQuota {
    /// Nanoseconds of CPU time.
    pub quota: u64,
    /// Nanoseconds of the clock.
    pub period: u64,
}

impl CpuQuota {
    /// The quota that makes so many CPUs, in the kernel's default period.
    #[must_use]
    pub fn of(cpus: Cpus) -> Self {
        Self { quota: u64::from(cpus.thousandths()) * (DEFAULT_PERIOD / 1000), period: DEFAULT_PERIOD }
    }

    /// As a number of CPUs.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "both are far below 2^53")]
    pub fn cpus(self) -> f64 {
        self.quota as f64 / self.period as f64
    }
}

/// One line for a person: `0.25 CPU, 32MiB memory`.
impl std::fmt::Display for Limits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut parts = Vec::new();
        if let Some(cpu) = self.cpu {
            let plural = if cpu.cpus() > 1.0 { "CPUs" } else { "CPU" };
            parts.push(format!("{} {plural}", cpu.cpus()));
            if cpu.period != DEFAULT_PERIOD {
                parts.push(format!("period {}", Nanoseconds(cpu.period)));
            }
        }
        if let Some(cpuset) = &self.cpuset {
            parts.push(format!("cpuset {cpuset}"));
        }
        if let Some(memory) = self.memory {
            parts.push(format!("{} memory", ByteSize(memory).exact()));
        }
        if let Some(swap) = self.swap.filter(|swap| *swap > 0) {
            parts.push(format!("{} swap", ByteSize(swap).exact()));
        }
        if let Some(pids) = self.pids {
            parts.push(format!("{pids} pids"));
        }
        if parts.is_empty() { f.write_str("no limits") } else { f.write_str(&parts.join(", ")) }
    }
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
        let quota = checked("--cpus", overrides.cpus.map(CpuQuota::of), |quota| problem_with_quota(*quota))?;
        let memory = checked("--memory", overrides.memory, |memory| problem_with_memory(*memory))?;
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
            self.passes = in_order(&overrides.passes);
        }
        let runs = checked("--runs", overrides.runs, |runs| problem_with_runs(*runs))?;
        self.startup.runs = runs.unwrap_or(self.startup.runs);
        let duration = checked("--duration", overrides.duration, |it| problem_with_duration(*it))?;
        self.throughput.duration = duration.unwrap_or(self.throughput.duration);
        let connections =
            checked("--connections", overrides.connections, |number| problem_with_connections(*number))?;
        self.throughput.connections = connections.unwrap_or(self.throughput.connections);
        if let Some(rate) = checked("--rate", overrides.rate, |rate| {
            (*rate == 0).then(|| "a rate of 0 sends nothing".to_owned())
        })? {
            self.throughput.loads = vec![Load::Rate(rate)];
        }
        Ok(self)
    }
}

/// Each pass once, in the order they run.
fn in_order(passes: &[Pass]) -> Vec<Pass> {
    Pass::ALL.into_iter().filter(|pass| passes.contains(pass)).collect()
}

/// Reads the text of the profile called `name`, which lies in `file`.
///
/// # Errors
/// When it is not TOML, has unknown keys, or values that cannot be.
pub fn parse(name: &str, file: &Path, text: &str) -> Result<Profile, DefinitionError> {
    let maker = Maker(Places::new(file, text));
    let raw: RawProfile = maker.0.read()?;
    let mut limits = raw.limits.0.into_iter().map(|it| maker.limits(it)).collect::<Result<Vec<_>, _>>()?;
    if limits.is_empty() {
        limits.push(Limits::default());
    }
    let passes = match raw.passes {
        None => Pass::ALL.to_vec(),
        Some(list) if list.get_ref().is_empty() => {
            return Err(maker.0.error(list.span(), "a profile without passes measures nothing"));
        }
        Some(list) => in_order(&list.into_inner().iter().map(|pass| pass.0).collect::<Vec<_>>()),
    };
    let gates = raw.gates.into_gates().into_iter().map(|it| maker.gate(it)).collect::<Result<_, _>>()?;
    Ok(Profile {
        name: name.to_owned(),
        description: raw.description,
        limits,
        ready: maker.ready(&raw.ready)?,
        env: raw.env.0,
        args: raw.args,
        network: raw.network.map_or(Network::Loopback, |network| network.0),
        passes,
        size: SizeOptions { rows: raw.size.rows.unwrap_or(20) },
        startup: maker.startup(&raw.startup)?,
        throughput: maker.throughput(raw.throughput)?,
        gates,
    })
}

fn problem_with_quota(quota: CpuQuota) -> Option<String> {
    if !(SHORTEST_QUOTA..=LONGEST_PERIOD).contains(&quota.period) {
        return Some(format!("a period of {} is not between 1ms and 1s", Nanoseconds(quota.period)));
    }
    (quota.quota < SHORTEST_QUOTA).then(|| {
        format!(
            "a quota of {} in {} is below 1ms, the least that the kernel takes",
            Nanoseconds(quota.quota),
            Nanoseconds(quota.period)
        )
    })
}

fn problem_with_memory(memory: ByteSize) -> Option<String> {
    (memory.0 < LEAST_MEMORY).then(|| format!("no container starts in {} of memory", memory.exact()))
}

fn problem_with_runs(runs: u32) -> Option<String> {
    (!(1..=10_000).contains(&runs)).then(|| format!("{runs} runs are not between 1 and 10000"))
}

fn problem_with_connections(connections: u32) -> Option<String> {
    // One address has 64 K ports.
    (!(1..=60_000).contains(&connections))
        .then(|| format!("{connections} connections are not between 1 and 60000"))
}

fn problem_with_duration(duration: Nanoseconds) -> Option<String> {
    (!(100_000_000..=3_600_000_000_000).contains(&duration.0))
        .then(|| format!("{duration} is not between 100ms and 1h"))
}

/// A value that is there, or what is wrong with it.
type Made<T> = Result<T, DefinitionError>;

/// Makes profiles of raw ones, which needs their places for what is wrong with them.
struct Maker<'a>(Places<'a>);

impl Maker<'_> {
    /// A value, unless there is a problem with it.
    fn checked<T: Clone>(&self, value: &Spanned<T>, problem: impl Fn(&T) -> Option<String>) -> Made<T> {
        match problem(value.get_ref()) {
            Some(problem) => Err(self.0.error(value.span(), problem)),
            None => Ok(value.get_ref().clone()),
        }
    }

    fn limits(&self, raw: RawLimits) -> Made<Limits> {
        let cpu = match (&raw.cpus, &raw.quota, &raw.period) {
            (None, None, None) => None,
            (Some(cpus), None, None) => {
                let quota = Cpus::new(*cpus.get_ref()).map(CpuQuota::of).ok_or_else(|| {
                    let mut error =
                        self.0.error(cpus.span(), format!("`{}` is not a number of CPUs", cpus.get_ref()));
                    error.hint = Some("leave `cpus` out for no limit".to_owned());
                    error
                })?;
                match problem_with_quota(quota) {
                    Some(problem) => return Err(self.0.error(cpus.span(), problem)),
                    None => Some(quota),
                }
            }
            (None, Some(quota), period) => {
                let span = quota.span();
                let period = period.as_ref().map_or(DEFAULT_PERIOD, |period| period.get_ref().0.0);
                let quota = CpuQuota { quota: quota.get_ref().0.0, period };
                match problem_with_quota(quota) {
                    Some(problem) => return Err(self.0.error(span, problem)),
                    None => Some(quota),
                }
            }
            (Some(cpus), _, _) => {
                return Err(self.0.error(cpus.span(), "`cpus` and `quota` with `period` say the same"));
            }
            (None, None, Some(period)) => {
                return Err(self.0.error(period.span(), "`period` needs `quota`"));
            }
        };
        let memory = match &raw.memory {
            None => None,
            Some(memory) => Some(self.checked(memory, |it| problem_with_memory(it.0))?.0.0),
        };
        let swap = match &raw.swap {
            Some(swap) if memory.is_none() => {
                return Err(self.0.error(swap.span(), "`swap` needs `memory`"));
            }
            Some(swap) => Some(swap.get_ref().0.0),
            None => memory.map(|_| 0),
        };
        let pids = match &raw.pids {
            None => None,
            Some(pids) => Some(self.checked(pids, |pids| {
                (*pids == 0).then(|| "a container without processes runs nothing".to_owned())
            })?),
        };
        Ok(Limits { cpu, cpuset: raw.cpuset.map(|it| it.0), memory, swap, pids })
    }

    fn status(&self, raw: Option<&Spanned<u16>>) -> Made<u16> {
        raw.map_or(Ok(200), |status| {
            self.checked(status, |status| {
                (!(100..=599).contains(status)).then(|| format!("{status} is no HTTP status"))
            })
        })
    }

    fn path(&self, raw: Option<&Spanned<String>>) -> Made<String> {
        raw.map_or(Ok("/".to_owned()), |path| {
            self.checked(path, |path| {
                let sendable = path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic());
                (!sendable)
                    .then(|| format!("`{path}` is not a path: begin with `/` and escape what is not ASCII"))
            })
        })
    }

    fn ready(&self, raw: &RawReady) -> Made<Ready> {
        let timeout = raw.timeout.as_ref().map_or(Ok(Nanoseconds(10_000_000_000)), |timeout| {
            self.checked(timeout, |timeout| problem_with_duration(timeout.0)).map(|timeout| timeout.0)
        });
        let port = match &raw.port {
            None => None,
            Some(port) => {
                Some(self.checked(port, |port| (*port == 0).then(|| "0 is not a port".to_owned()))?)
            }
        };
        Ok(Ready {
            path: self.path(raw.path.as_ref())?,
            port,
            status: self.status(raw.status.as_ref())?,
            timeout: timeout?,
        })
    }

    fn startup(&self, raw: &RawStartup) -> Made<StartupOptions> {
        let runs = raw.runs.as_ref().map_or(Ok(20), |runs| self.checked(runs, |it| problem_with_runs(*it)));
        Ok(StartupOptions {
            runs: runs?,
            cold_runs: raw.cold_runs.unwrap_or(10),
            floor: raw.floor.unwrap_or(true),
        })
    }

    fn throughput(&self, raw: RawThroughput) -> Made<ThroughputOptions> {
        let loads = match raw.loads {
            None => vec![Load::Closed, Load::Share(50), Load::Share(70), Load::Share(90)],
            Some(list) => {
                let span = list.span();
                let loads: Vec<Load> = list.into_inner().into_iter().map(|load| load.0).collect();
                match problem_with_loads(&loads) {
                    Some(problem) => return Err(self.0.error(span, problem)),
                    None => loads,
                }
            }
        };
        let duration = |raw: &Option<Spanned<xtask_tare::document::Parsed<Nanoseconds>>>, usual| {
            raw.as_ref().map_or(Ok(Nanoseconds(usual)), |value| {
                self.checked(value, |value| problem_with_duration(value.0)).map(|value| value.0)
            })
        };
        let protocol = raw.protocol.map_or(Protocol::Http1, |protocol| protocol.0);
        let pipeline = raw.pipeline.as_ref().map_or(Ok(1), |pipeline| {
            self.checked(pipeline, |depth| {
                (!(1..=1024).contains(depth))
                    .then(|| format!("a pipeline of {depth} is not between 1 and 1024"))
            })
        })?;
        if let Some(keep_alive) = raw.keep_alive.as_ref().filter(|keep_alive| !*keep_alive.get_ref()) {
            if pipeline > 1 {
                return Err(self.0.error(keep_alive.span(), "a pipeline needs `keep-alive`"));
            }
            if protocol == Protocol::H2 {
                return Err(self.0.error(keep_alive.span(), "h2 has no connections without `keep-alive`"));
            }
        }
        let requests = match raw.requests {
            None => vec![Request::default()],
            Some(list) => list.into_iter().map(|it| self.request(it)).collect::<Result<Vec<_>, _>>()?,
        };
        let requests = if requests.is_empty() { vec![Request::default()] } else { requests };
        Ok(ThroughputOptions {
            loads,
            connections: raw.connections.as_ref().map_or(Ok(64), |connections| {
                self.checked(connections, |connections| problem_with_connections(*connections))
            })?,
            duration: duration(&raw.duration, 10_000_000_000)?,
            timeout: duration(&raw.timeout, 5_000_000_000)?,
            pipeline,
            keep_alive: raw.keep_alive.is_none_or(Spanned::into_inner),
            protocol,
            requests,
        })
    }

    fn request(&self, raw: RawRequest) -> Made<Request> {
        let token = |text: &str| {
            // RFC 9110, section 5.6.2.
            !text.is_empty()
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
        };
        let method = raw.method.as_ref().map_or(Ok("GET".to_owned()), |method| {
            self.checked(method, |method| (!token(method)).then(|| format!("`{method}` is not a method")))
        });
        let mut headers = Vec::new();
        // By place in the file: a map has them by name.
        let mut written: Vec<_> = raw.headers.into_iter().collect();
        written.sort_by_key(|(name, _)| name.span().start);
        for (name, value) in written {
            let name =
                self.checked(&name, |name| (!token(name)).then(|| format!("`{name}` is not a header")))?;
            let value = self.checked(&value, |value| {
                value
                    .contains(|c: char| c.is_control() && c != '\t')
                    .then(|| format!("the value of `{name}` has a control character"))
            })?;
            headers.push((name, value));
        }
        let weight = raw.weight.as_ref().map_or(Ok(1), |weight| {
            self.checked(weight, |weight| {
                (!(1..=10_000).contains(weight))
                    .then(|| format!("a weight of {weight} is not between 1 and 10000"))
            })
        });
        Ok(Request {
            method: method?,
            path: self.path(raw.path.as_ref())?,
            headers,
            body: raw.body.unwrap_or_default().into_bytes(),
            weight: weight?,
            status: self.status(raw.status.as_ref())?,
        })
    }

    fn gate(&self, raw: RawGate) -> Made<Gate> {
        let (id, case) = match raw.id.split_once('@') {
            None => (raw.id.as_str(), None),
            Some((id, case)) => (id, Some(case.to_owned())),
        };
        let Some(metric) = metric::find(id) else {
            // `size.efficiency = 3` is a key `efficiency` under `size`.
            let bare =
                raw.keys.iter().find(|(key, _)| metric::find(&format!("{id}.{}", key.get_ref())).is_some());
            if let Some((key, _)) = bare {
                return Err(self.not_a_table(key.span(), &format!("{id}.{}", key.get_ref())));
            }
            let known: Vec<String> = metric::TABLE.iter().map(|metric| metric.id.to_owned()).collect();
            let mut error = self.0.error(raw.span, format!("unknown metric `{id}`"));
            let nearest = xtask_tare::document::nearest(id, &known);
            let list = "`cargo xtask profile --list-metrics` lists them";
            error.hint = Some(nearest.map_or(list.to_owned(), |it| format!("did you mean `{it}`? {list}")));
            return Err(error);
        };
        if case.is_some() && metric.cases.is_none() {
            return Err(self.0.error(raw.span, format!("`{id}` has no cases")));
        }
        let mut gate = Gate {
            metric: metric.id,
            case,
            max: None,
            min: None,
            max_regression: None,
            allow_unreliable: false,
        };
        for (key, node) in raw.keys {
            match (key.get_ref().as_str(), node.get_ref()) {
                ("max", node_value) => gate.max = Some(self.bound(&node, node_value, metric)?),
                ("min", node_value) => gate.min = Some(self.bound(&node, node_value, metric)?),
                ("max-regression", _) if metric.direction == Direction::Neither => {
                    return Err(self.0.error(
                        key.span(),
                        format!("`{id}` is neither better nor worse when it changes: use `max` and `min`"),
                    ));
                }
                ("max-regression", node_value) => {
                    gate.max_regression = Some(self.regression(&node, node_value)?);
                }
                ("allow-unreliable", RawGateNode::Bool(allow)) => gate.allow_unreliable = *allow,
                ("allow-unreliable", _) => {
                    return Err(self.0.error(node.span(), "`allow-unreliable` is true or false"));
                }
                ("", _) => return Err(self.not_a_table(raw.span, id)),
                (unknown, _) => {
                    let known = ["max", "min", "max-regression", "allow-unreliable"].map(str::to_owned);
                    return Err(self.0.unknown(key.span(), "key", unknown, &known));
                }
            }
        }
        if gate.max.is_none() && gate.min.is_none() && gate.max_regression.is_none() {
            return Err(self.0.error(raw.span, format!("the gate of `{}` has no bound", gate.key())));
        }
        if let (Some(min), Some(max)) = (gate.min, gate.max)
            && min > max
        {
            return Err(self
                .0
                .error(raw.span, format!("nothing passes the gate of `{}`: min is above max", gate.key())));
        }
        Ok(gate)
    }

    fn not_a_table(&self, span: Range<usize>, id: &str) -> DefinitionError {
        let example = format!("write `\"{id}\" = {{ max = … }}`, with `max`, `min` or `max-regression`");
        self.0.error(span, format!("a gate is a table: {example}"))
    }

    fn bound(&self, place: &Spanned<RawGateNode>, node: &RawGateNode, metric: &Metric) -> Made<f64> {
        let value = match node {
            RawGateNode::Number(number)
                if matches!(metric.unit, Unit::Count | Unit::PerSecond | Unit::Share) =>
            {
                Ok(*number)
            }
            // Nothing is nothing in every unit.
            RawGateNode::Number(number) if *number == 0.0 => Ok(0.0),
            RawGateNode::Text(text) => bound(text, metric.unit),
            _ => Err(expected(metric.unit)),
        };
        let value = value.and_then(|value| {
            if value.is_finite() && value >= 0.0 { Ok(value) } else { Err(expected(metric.unit)) }
        });
        value
            .map_err(|problem| self.0.error(place.span(), format!("a bound of `{}` is {problem}", metric.id)))
    }

    fn regression(&self, place: &Spanned<RawGateNode>, node: &RawGateNode) -> Made<f64> {
        let share = match node {
            RawGateNode::Text(text) => percent(text),
            RawGateNode::Number(number) if *number == 0.0 => Some(0.0),
            _ => None,
        };
        share.ok_or_else(|| self.0.error(place.span(), "`max-regression` is a share such as \"5%\""))
    }
}

fn problem_with_loads(loads: &[Load]) -> Option<String> {
    if loads.is_empty() {
        return Some("a throughput pass without loads measures nothing".to_owned());
    }
    for (at, load) in loads.iter().enumerate() {
        if loads[..at].contains(load) {
            return Some(format!("`{load}` stands twice"));
        }
        if matches!(load, Load::Share(_)) && !loads[..at].contains(&Load::Closed) {
            return Some(format!("`{load}` is a share of what `closed` finds: put `closed` before it"));
        }
    }
    None
}

/// What a bound in this unit looks like.
fn expected(unit: Unit) -> String {
    match unit {
        Unit::Bytes => "a size with a unit, such as \"5MB\"",
        Unit::Nanoseconds => "a duration with a unit, such as \"20ms\"",
        Unit::PerSecond => "a rate, such as 10000",
        Unit::Share => "a share, such as \"5%\" or 0.05",
        Unit::Count => "a number, such as 3",
    }
    .to_owned()
}

/// A bound's text in the unit of its metric.
fn bound(text: &str, unit: Unit) -> Result<f64, String> {
    let value = match unit {
        #[expect(clippy::cast_precision_loss, reason = "a bound beyond 2^53 bytes is none")]
        Unit::Bytes => text.parse::<ByteSize>().ok().map(|size| size.0 as f64),
        Unit::Nanoseconds => nanoseconds(text),
        Unit::PerSecond => text.strip_suffix("/s").and_then(|number| number.trim_end().parse().ok()),
        Unit::Share => percent(text),
        Unit::Count => text.parse().ok(),
    };
    value.ok_or_else(|| expected(unit))
}

/// A duration as elsewhere, or with decimals and one unit (`2.5ms`), as figures are shown.
fn nanoseconds(text: &str) -> Option<f64> {
    if let Ok(whole) = text.parse::<Nanoseconds>() {
        #[expect(clippy::cast_precision_loss, reason = "a bound beyond 2^53 nanoseconds is none")]
        return Some(whole.0 as f64);
    }
    let letters = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let number: f64 = text[..letters].parse().ok()?;
    let factor = match text[letters..].trim_start() {
        "ns" => 1.0,
        "us" | "µs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        _ => return None,
    };
    Some(number * factor)
}

/// `5%` as 0.05.
fn percent(text: &str) -> Option<f64> {
    let number: f64 = text.strip_suffix('%')?.trim_end().parse().ok()?;
    (number.is_finite() && number >= 0.0).then_some(number / 100.0)
}

#[cfg(test)]
mod tests;
