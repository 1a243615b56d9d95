//! Computes every number of a manifest from the figures of a report.
//!
//! Pure: the same figures and settings give the same numbers. docs/deploy.md has the formulas with their sources.

mod doubts;
mod load;

use std::fmt;

use tare_oci::units::ByteSize;

use self::doubts::Doubts;
use self::load::{Knee, Plan};
use crate::Kind;
use crate::error::DeployError;
use crate::evidence::{Evidence, PROVING_STARTS};
use crate::origin::{Figure, Origin, Sourced};
use crate::settings::Settings;
use crate::yaml::Value;

/// The part of the rate at the knee that a pod is planned for: the article's CPU target of 70 %.
const HEADROOM: f64 = 0.7;
/// Steady state to request: what is used all the time, and a fifth for what differs from the measured load.
const MEMORY_REQUEST_MARGIN: f64 = 1.2;
/// Largest peak to limit. Peers add 15 % to maxima of days; these are maxima of seconds.
const MEMORY_LIMIT_MARGIN: f64 = 1.5;
/// runc needs about 7 MB to start a container, docker refuses less than 6 MB.
const MEMORY_FLOOR: ByteSize = ByteSize(16 << 20);
/// Slowest start to the time that the start-up probe leaves: a busy node starts slower.
const STARTUP_MARGIN: f64 = 10.0;
/// Seconds that the start-up probe leaves at least.
const STARTUP_LEAST: u32 = 10;
/// The longest preStop, an hour; Kubernetes wants it below the grace period.
const PRE_STOP_MOST: u32 = 3_600;
/// Measured drain to the time that is left for it.
const DRAIN_MARGIN: f64 = 2.0;
/// Seconds that are left for draining at least: clients behind a network are slower than the load generator.
const DRAIN_LEAST: u32 = 5;
/// Larger counts are a mistake in the input.
const COUNT_MOST: f64 = 1e9;

/// The numbers of a manifest, each with its origin.
#[derive(Debug, Clone, PartialEq)]
pub struct Recommendation {
    /// `requests.cpu`
    pub cpu_request: Sourced<Millicores>,
    /// `limits.cpu`; none where the profile set none.
    pub cpu_limit: Option<Sourced<Millicores>>,
    /// `requests.memory`
    pub memory_request: Sourced<Mebibytes>,
    /// `limits.memory`
    pub memory_limit: Sourced<Mebibytes>,
    /// `startupProbe.failureThreshold`, at one attempt a second.
    pub startup_failures: Sourced<u32>,
    /// Seconds from the removal of a pod from its Service to SIGTERM.
    pub pre_stop: Sourced<u32>,
    /// Seconds from SIGTERM to SIGKILL.
    pub drain: Sourced<u32>,
    /// `terminationGracePeriodSeconds`: both together.
    pub grace: Sourced<u32>,
    /// How many pods.
    pub scaling: Scaling,
    /// Only for [`Kind::Knative`].
    pub concurrency: Option<Concurrency>,
    /// Only for [`Kind::Istio`].
    pub traffic: Option<Traffic>,
    /// What a reader of the numbers should know, a sentence each.
    pub notes: Vec<String>,
}

/// How many pods.
#[derive(Debug, Clone, PartialEq)]
pub enum Scaling {
    /// Always as many.
    Fixed(Sourced<u32>),
    /// As the CPU use of the pods asks for.
    Auto {
        /// The least.
        min: Sourced<u32>,
        /// The most.
        max: Sourced<u32>,
        /// Average CPU use of a pod.
        target: Sourced<Millicores>,
    },
}

impl Scaling {
    /// The largest number of pods.
    #[must_use]
    pub fn most(&self) -> u32 {
        match self {
            Self::Fixed(replicas) => replicas.value,
            Self::Auto { max, .. } => max.value,
        }
    }

    /// The least number of pods.
    #[must_use]
    pub fn least(&self) -> u32 {
        match self {
            Self::Fixed(replicas) => replicas.value,
            Self::Auto { min, .. } => min.value,
        }
    }
}

/// Requests under way in one pod.
#[derive(Debug, Clone, PartialEq)]
pub struct Concurrency {
    /// At which further pods are started.
    pub target: Sourced<u32>,
    /// That a pod is given at most.
    pub limit: Sourced<u32>,
}

/// What a proxy in front of the pods is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Traffic {
    /// Milliseconds of one attempt.
    pub attempt_timeout: Sourced<u32>,
    /// Milliseconds of a request with all its attempts.
    pub timeout: Sourced<u32>,
    /// Attempts after the first.
    pub retries: Sourced<u32>,
    /// Connections and requests under way to all pods together.
    pub pool: Sourced<u32>,
}

/// CPU time in thousandths of a CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millicores(pub u32);

/// Memory in MiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mebibytes(pub u32);

/// What is written although it is not certain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Allowances {
    /// Figures with doubts that could make a number too small.
    pub doubtful: bool,
    /// A memory limit under which no starts were measured.
    pub unproved: bool,
}

/// Computes the numbers.
///
/// # Errors
/// When a figure is missing, impossible or doubtful, a memory limit is not proved, or the settings contradict the
/// figures.
pub fn recommend(
    evidence: Evidence<'_>,
    settings: &Settings,
    kind: Kind,
    has_volumes: bool,
    allow: Allowances,
) -> Result<Recommendation, DeployError> {
    let headroom = settings.headroom.unwrap_or(HEADROOM);
    if !(headroom > 0.0 && headroom < 1.0) {
        return Err(DeployError::new(
            format!("headroom is {headroom}"),
            "it is the part of the best load that pods are planned for: write a number between 0 and 1, such as 0.7",
        ));
    }
    if let Some(seconds) = settings.pre_stop.filter(|seconds| *seconds > PRE_STOP_MOST) {
        return Err(DeployError::new(
            format!("pre-stop is {seconds} seconds"),
            format!("write at most {PRE_STOP_MOST}: every update waits as long for every pod"),
        ));
    }
    let mut doubts = Doubts::default();
    let knee = Knee::find(evidence)?;
    let cost = doubts.figure(evidence.find("throughput.cpu-per-request", Some(&knee.case))?);
    let rate = doubts.figure(knee.rate);
    let plan = Plan { knee: &knee, rate: &rate, cost: &cost, headroom };
    let pods = plan.pods(settings, kind, has_volumes)?;
    let cpu_request = plan.cpu_request(&pods)?;
    let cpu_limit = match evidence.limits().cpu {
        None => None,
        Some(limit) => Some(Sourced::measured(
            Millicores(count(limit.as_cpus() * 1e3, "CPU limit")?),
            "the limit of the profile, under which the knee was found",
            vec![],
        )),
    };
    if let Some(limit) = cpu_limit.as_ref().filter(|limit| limit.value < cpu_request.value) {
        return Err(DeployError::new(
            format!("a pod would need {} CPU and the profile's limit is {}", cpu_request.value, limit.value),
            "state more pods with --replicas, or profile under a higher limit with --cpus",
        ));
    }
    let (memory_request, memory_limit) = memory(evidence, settings, &mut doubts)?;
    let start = doubts.of_starts(evidence, "ready")?;
    let startup_failures = Sourced::measured(
        count((start.value / 1e9 * STARTUP_MARGIN).ceil(), "start-up")?.max(STARTUP_LEAST),
        format!("attempts, one a second: {STARTUP_MARGIN} × the slowest start, at least {STARTUP_LEAST}"),
        vec![start],
    );
    let pre_stop = Sourced::stated_or(
        settings.pre_stop,
        "pre-stop in [deploy]",
        5,
        "seconds until every proxy has taken the pod out of its list; not measured",
    );
    let drain = drain(evidence, &mut doubts)?;
    let grace = Sourced {
        value: pre_stop.value + drain.value,
        origin: match &drain.origin {
            Origin::Measured { rule, figures } => Origin::Measured {
                rule: format!("{} s of preStop and {rule}", pre_stop.value),
                figures: figures.clone(),
            },
            other => other.clone(),
        },
    };
    let most = pods.scaling.most();
    let concurrency = match kind {
        Kind::Knative => Some(plan.concurrency(evidence, &mut doubts)?),
        _ => None,
    };
    let traffic = match kind {
        Kind::Istio => Some(plan.traffic(evidence, most, &mut doubts)?),
        _ => None,
    };
    let mut notes = plan.notes(evidence);
    prove(evidence, memory_limit.value, allow, &mut notes)?;
    doubts.judge(allow, &mut notes)?;
    Ok(Recommendation {
        cpu_request,
        cpu_limit,
        memory_request,
        memory_limit: proved(memory_limit, evidence),
        startup_failures,
        pre_stop,
        drain,
        grace,
        scaling: pods.scaling,
        concurrency,
        traffic,
        notes,
    })
}

fn memory(
    evidence: Evidence<'_>,
    settings: &Settings,
    doubts: &mut Doubts,
) -> Result<(Sourced<Mebibytes>, Sourced<Mebibytes>), DeployError> {
    let largest = |figures: Vec<Figure>| figures.into_iter().max_by(|a, b| a.value.total_cmp(&b.value));
    let at_ready = doubts.of_starts(evidence, "memory-at-ready")?;
    let mut steady = vec![at_ready.clone()];
    let open = evidence.all("throughput.memory.current")?.into_iter();
    steady.extend(open.filter(|it| it.case.as_deref() != Some("closed")).map(|it| doubts.figure(it)));
    let mut peaks = vec![at_ready.clone()];
    peaks.extend(evidence.all("throughput.memory.peak")?.into_iter().map(|it| doubts.figure(it)));
    let steady = largest(steady).unwrap_or(at_ready.clone());
    let peak = largest(peaks).unwrap_or(at_ready);
    let mebibytes = |bytes: f64| count((bytes / 1_048_576.0).ceil(), "memory");
    let floor = settings.memory_floor.unwrap_or(MEMORY_FLOOR);
    let limit = mebibytes(peak.value * MEMORY_LIMIT_MARGIN)?.max(mebibytes(floor.0 as f64)?).max(1);
    let request = mebibytes(steady.value * MEMORY_REQUEST_MARGIN)?.clamp(1, limit);
    let rule = format!("steady state × {MEMORY_REQUEST_MARGIN}");
    let request = Sourced::measured(Mebibytes(request), rule, vec![steady]);
    let rule = format!(
        "largest of start-up and peaks under load × {MEMORY_LIMIT_MARGIN}, at least {}",
        floor.exact()
    );
    Ok((request, Sourced::measured(Mebibytes(limit), rule, vec![peak])))
}

fn drain(evidence: Evidence<'_>, doubts: &mut Doubts) -> Result<Sourced<u32>, DeployError> {
    let stop = doubts.of_starts(evidence, "stop")?;
    let all = evidence.all("throughput.latency.max")?;
    let slowest = all.into_iter().max_by(|a, b| a.value.total_cmp(&b.value));
    let mut figures = vec![stop];
    figures.extend(slowest.map(|it| doubts.figure(it)));
    let nanoseconds: f64 = figures.iter().map(|it| it.value).sum();
    Ok(Sourced::measured(
        count((nanoseconds / 1e9 * DRAIN_MARGIN).ceil(), "drain")?.max(DRAIN_LEAST),
        format!("{DRAIN_MARGIN} × (slowest stop + slowest request), at least {DRAIN_LEAST} s"),
        figures,
    ))
}

/// The starts that prove a memory limit.
fn prove(
    evidence: Evidence<'_>,
    limit: Mebibytes,
    allow: Allowances,
    notes: &mut Vec<String>,
) -> Result<(), DeployError> {
    if evidence.proof(limit.bytes()).is_some() {
        return Ok(());
    }
    let exact = ByteSize(limit.bytes()).exact();
    let message = format!("the memory limit of {exact} was not tested by {PROVING_STARTS} starts");
    if allow.unproved {
        notes.push(format!("{}{}.", message[..1].to_uppercase(), &message[1..]));
        return Ok(());
    }
    let name = evidence.report.target.names.first().map_or("NAME", String::as_str);
    let command = tare_tool::environment::command();
    Err(DeployError::new(
        message,
        format!(
            "run `{command} profile {name} --pass startup --runs {PROVING_STARTS} --memory {exact} --output \
             target/profiles/{name}/memory-{exact}` and then this again, or add --allow-unproved"
        ),
    ))
}

/// The limit with its proof in the comment.
fn proved(limit: Sourced<Mebibytes>, evidence: Evidence<'_>) -> Sourced<Mebibytes> {
    let proof = evidence.proof(limit.value.bytes());
    let Sourced { value, origin } = limit;
    let origin = match origin {
        Origin::Measured { rule, figures } => {
            let proof = proof.map_or("not proved by starts".to_owned(), |it| {
                format!("proved by {} starts under {}", it.starts, ByteSize(it.memory).exact())
            });
            Origin::Measured { rule: format!("{rule}, {proof}"), figures }
        }
        other => other,
    };
    Sourced { value, origin }
}

/// A number as a count.
fn count(value: f64, what: &str) -> Result<u32, DeployError> {
    if (0.0..=COUNT_MOST).contains(&value) {
        return Ok(value as u32);
    }
    Err(DeployError::new(
        format!("the figures of the report give a {what} of {value:.0}"),
        "the report is damaged, or of another image: profile again",
    ))
}

impl Mebibytes {
    /// In bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        u64::from(self.0) << 20
    }
}

impl fmt::Display for Millicores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}m", self.0)
    }
}

/// As Kubernetes writes quantities: whole CPUs without a suffix.
impl From<Millicores> for Value {
    fn from(Millicores(thousandths): Millicores) -> Self {
        match thousandths % 1_000 {
            0 => (thousandths / 1_000).into(),
            _ => format!("{thousandths}m").into(),
        }
    }
}

impl From<Mebibytes> for Value {
    fn from(Mebibytes(mebibytes): Mebibytes) -> Self {
        format!("{mebibytes}Mi").into()
    }
}
