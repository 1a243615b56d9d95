//! The numbers that follow from load: the knee, pods, CPU, concurrency, time limits.

use tare_report::Measurement;
use tare_report::metric::Unit;

use super::doubts::Doubts;
use super::{COUNT_MOST, Concurrency, MEMORY_LIMIT_MARGIN, Millicores, Scaling, Traffic, count};
use crate::Kind;
use crate::error::DeployError;
use crate::evidence::Evidence;
use crate::origin::{Figure, Sourced, quantity};
use crate::settings::Settings;

/// By how much a metric may exceed its target before the autoscaler acts
/// (kube-controller-manager, `--horizontal-pod-autoscaler-tolerance`).
const TOLERANCE: f64 = 0.1;
/// p99.9 to the time limit of one attempt.
const TIMEOUT_MARGIN: f64 = 10.0;
/// Milliseconds of one attempt at least: the measured latency has no network in it.
const TIMEOUT_LEAST: u32 = 1_000;
/// Requests under way at the knee to the connections that a proxy may open: these come in bursts.
const POOL_MARGIN: f64 = 2.0;
/// The largest `containerConcurrency` that Knative takes (config-defaults, `container-concurrency-max-limit`).
const CONCURRENCY_MOST: u32 = 1_000;

/// The load at which the server does most for the time that a request takes: the greatest rate / mean latency
/// (L. Kleinrock, "Power and Deterministic Rules of Thumb", ICC 1979; R. Jain, "The Art of Computer Systems
/// Performance Analysis", 3.3).
pub(super) struct Knee<'a> {
    pub(super) case: String,
    pub(super) rate: &'a Measurement,
    /// Whether no load above it was measured without errors.
    is_highest: bool,
}

impl<'a> Knee<'a> {
    pub(super) fn find(evidence: Evidence<'a>) -> Result<Self, DeployError> {
        let mut sound = Vec::new();
        for rate in evidence.all("throughput.rate")? {
            let Some(case) = rate.case.as_deref().filter(|case| *case != "closed") else { continue };
            let failed = |metric| Ok(evidence.find(metric, Some(case))?.value > 0.0);
            if rate.value <= 0.0 || failed("throughput.errors")? || failed("throughput.unsent")? {
                continue;
            }
            let latency = evidence.find("throughput.latency.mean", Some(case))?.value.max(1.0);
            sound.push((rate, case, rate.value / latency));
        }
        let Some((rate, case, _)) = sound.iter().max_by(|a, b| a.2.total_cmp(&b.2)) else {
            return Err(DeployError::new(
                "the report has no load at a fixed rate that was answered without errors",
                "profile with `loads = [\"closed\", \"50%\", \"70%\", \"90%\"]` under [throughput]",
            ));
        };
        let is_highest = sound.iter().all(|(other, ..)| other.value <= rate.value);
        Ok(Self { case: (*case).to_owned(), rate, is_highest })
    }
}

/// What the numbers about load are computed from.
pub(super) struct Plan<'a> {
    pub(super) knee: &'a Knee<'a>,
    pub(super) rate: &'a Figure,
    pub(super) cost: &'a Figure,
    pub(super) headroom: f64,
}

/// How many pods there are, and what each is planned for.
pub(super) struct Pods {
    pub(super) scaling: Scaling,
    /// Requests per second of one pod.
    rate: f64,
    /// Where that comes from.
    why: String,
}

impl Plan<'_> {
    /// Requests per second that one pod is planned for at most.
    fn capacity(&self) -> f64 {
        self.rate.value * self.headroom
    }

    pub(super) fn pods(
        &self,
        settings: &Settings,
        kind: Kind,
        has_volumes: bool,
    ) -> Result<Pods, DeployError> {
        if let Some(rate) = settings.rate.filter(|rate| !(*rate > 0.0 && *rate <= COUNT_MOST)) {
            return Err(DeployError::new(
                format!("--rate {rate} is no number of requests per second"),
                "write a number above 0, such as --rate 2000",
            ));
        }
        if settings.replicas == Some(0) || settings.min_replicas == Some(0) {
            return Err(DeployError::new("0 replicas run nothing", "state at least one, or leave it out"));
        }
        let scaling = match settings.replicas {
            Some(_) => Scaling::Fixed(Sourced::stated_or(settings.replicas, "--replicas or [deploy]", 1, "")),
            None if kind == Kind::Compose => Scaling::Fixed(Sourced::stated_or(None, "", 1, "one host")),
            None if has_volumes => Scaling::Fixed(Sourced::stated_or(
                None,
                "",
                1,
                "each pod has its own volume, and nothing says that the server shares data",
            )),
            None => self.auto(settings)?,
        };
        let pods = scaling.least();
        let (rate, why) = match settings.rate {
            Some(rate) => {
                let why = format!("{} ÷ {pods}", quantity(rate, Unit::PerSecond));
                (rate / f64::from(pods), why)
            }
            None => (self.capacity(), format!("{} of the knee", quantity(self.headroom, Unit::Share))),
        };
        if rate > self.rate.value {
            let needed = (settings.rate.unwrap_or(rate) / self.capacity()).ceil();
            return Err(DeployError::new(
                format!(
                    "each of {pods} pods would get {}, and its best load is {}",
                    quantity(rate, Unit::PerSecond),
                    quantity(self.rate.value, Unit::PerSecond)
                ),
                format!("{needed} pods have room for it: --replicas {needed}"),
            ));
        }
        Ok(Pods { scaling, rate, why })
    }

    fn auto(&self, settings: &Settings) -> Result<Scaling, DeployError> {
        let min = match (settings.min_replicas, settings.rate) {
            (None, Some(rate)) => Sourced::measured(
                count((rate / self.capacity()).ceil(), "replicas")?.max(2),
                format!(
                    "{} ÷ {} of the knee, at least 2",
                    quantity(rate, Unit::PerSecond),
                    quantity(self.headroom, Unit::Share)
                ),
                vec![self.rate.clone()],
            ),
            (stated, _) => {
                Sourced::stated_or(stated, "min-replicas in [deploy]", 2, "the article's; no rate is stated")
            }
        };
        let max = Sourced::stated_or(
            settings.max_replicas,
            "max-replicas in [deploy]",
            min.value.saturating_mul(2).clamp(20, COUNT_MOST as u32),
            "the article's 20, or twice the least",
        );
        if max.value < min.value {
            return Err(DeployError::new(
                format!("at least {} and at most {} pods", min.value, max.value),
                "raise max-replicas under [deploy]",
            ));
        }
        // The target, and the tolerance above it, must lie below the least that the knee can be.
        let least = self.knee.rate.interval.map_or(self.rate.value, |(low, _)| low);
        if self.capacity() * (1.0 + TOLERANCE) > least {
            return Err(DeployError::new(
                format!(
                    "the autoscaler's tolerance of 10 % reaches above the best load: {} of {}, which may be as low as {}",
                    quantity(self.headroom, Unit::Share),
                    quantity(self.rate.value, Unit::PerSecond),
                    quantity(least, Unit::PerSecond)
                ),
                "lower `headroom` under [deploy], profile longer for a narrower interval, or fix --replicas",
            ));
        }
        let cpu = self.cost.value * self.capacity() / 1e6;
        let target = Millicores(count(cpu.floor(), "CPU target")?.max(1));
        let knee = self.cost.value * self.rate.value / 1e6;
        if f64::from(target.0) * (1.0 + TOLERANCE) > knee {
            return Err(DeployError::new(
                format!(
                    "the CPU use at the best load is {knee:.2}m, too little for a target of the autoscaler"
                ),
                "state a fixed number of pods with --replicas",
            ));
        }
        let rule =
            format!("CPU per request × {} of the rate at the knee", quantity(self.headroom, Unit::Share));
        let target = Sourced::measured(target, rule, vec![self.cost.clone(), self.rate.clone()]);
        Ok(Scaling::Auto { min, max, target })
    }

    pub(super) fn cpu_request(&self, pods: &Pods) -> Result<Sourced<Millicores>, DeployError> {
        let value = count((self.cost.value * pods.rate / 1e6).ceil(), "CPU request")?.max(1);
        let rule = format!("CPU per request × {} a pod ({})", quantity(pods.rate, Unit::PerSecond), pods.why);
        Ok(Sourced::measured(Millicores(value), rule, vec![self.cost.clone()]))
    }

    /// Requests under way at the knee: L = λ · W (J. D. C. Little, 1961).
    fn in_flight(&self, latency: &Figure) -> f64 {
        self.rate.value * latency.value / 1e9
    }

    pub(super) fn concurrency(
        &self,
        evidence: Evidence<'_>,
        doubts: &mut Doubts,
    ) -> Result<Concurrency, DeployError> {
        let latency = doubts.figure(evidence.find("throughput.latency.mean", Some(&self.knee.case))?);
        let in_flight = self.in_flight(&latency);
        let limit = count(in_flight.ceil(), "concurrency")?.clamp(1, CONCURRENCY_MOST);
        let target = count((in_flight * self.headroom).floor(), "concurrency")?.clamp(1, limit);
        let figures = vec![self.rate.clone(), latency];
        let share = quantity(self.headroom, Unit::Share);
        let rule = "rate × mean latency at the knee (Little's law)";
        Ok(Concurrency {
            target: Sourced::measured(target, format!("{share} of {rule}"), figures.clone()),
            limit: Sourced::measured(limit, rule, figures),
        })
    }

    pub(super) fn traffic(
        &self,
        evidence: Evidence<'_>,
        pods: u32,
        doubts: &mut Doubts,
    ) -> Result<Traffic, DeployError> {
        let at_knee = |metric| evidence.find(metric, Some(&self.knee.case));
        let slow = doubts.figure(at_knee("throughput.latency.p99.9")?);
        let milliseconds =
            count((slow.value / 1e6 * TIMEOUT_MARGIN).ceil(), "time limit")?.max(TIMEOUT_LEAST);
        let rule =
            format!("{TIMEOUT_MARGIN} × p99.9 at the knee, at least {TIMEOUT_LEAST} ms for the network");
        let attempt_timeout = Sourced::measured(milliseconds, rule.clone(), vec![slow.clone()]);
        let retries = Sourced::stated_or(None, "", 3, "the article's");
        let timeout = Sourced::measured(
            milliseconds.saturating_mul(1 + retries.value),
            format!("{} attempts of {rule}", 1 + retries.value),
            vec![slow],
        );
        let latency = doubts.figure(at_knee("throughput.latency.mean")?);
        let open = doubts.figure(at_knee("throughput.connections-open")?);
        let of_pod = (self.in_flight(&latency) * POOL_MARGIN).max(open.value).ceil().max(1.0);
        let pool = Sourced::measured(
            count(of_pod * f64::from(pods), "connection pool")?,
            format!(
                "{pods} pods × the connections measured at the knee, or {POOL_MARGIN} × rate × mean latency"
            ),
            vec![open, self.rate.clone(), latency],
        );
        Ok(Traffic { attempt_timeout, timeout, retries, pool })
    }

    pub(super) fn notes(&self, evidence: Evidence<'_>) -> Vec<String> {
        let mut notes = Vec::new();
        if self.knee.is_highest {
            notes.push(format!(
                "No load above {} was answered without errors: the best load is there or higher.",
                self.knee.case
            ));
        }
        let cases = evidence.run.measurements.iter().filter_map(|it| it.case.as_deref());
        let mut percents = cases.filter_map(|case| case.strip_prefix("open-")?.parse::<f64>().ok());
        if !percents.any(|percent| percent > 100.0) {
            notes.push(format!(
                "No load above capacity was measured: only the factor {MEMORY_LIMIT_MARGIN} covers memory at overload."
            ));
        }
        let differs = |key, own| evidence.setting(key).is_some_and(|value| value != own);
        if differs("env", "") || differs("args", "the image's") {
            notes.push(
                "The profile ran the image with variables or arguments of its own, which are not in here."
                    .to_owned(),
            );
        }
        notes
    }
}
