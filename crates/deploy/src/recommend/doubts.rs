//! Which figures may be used although something speaks against them.

use tare_report::{Doubt, Measurement};

use super::Allowances;
use crate::error::DeployError;
use crate::evidence::Evidence;
use crate::origin::Figure;

/// The figures that were used and are in doubt.
#[derive(Default)]
pub(super) struct Doubts {
    refused: Vec<Figure>,
}

impl Doubts {
    /// The figure of a measurement, noted if it is doubtful.
    pub(super) fn figure(&mut self, measurement: &Measurement) -> Figure {
        self.noted(Figure::of(measurement))
    }

    /// The largest of all warm and cold starts. There are fewer cold ones, and what speaks against them is not asked:
    /// they can only enlarge the number.
    pub(super) fn of_starts(&mut self, evidence: Evidence<'_>, what: &str) -> Result<Figure, DeployError> {
        let warm = self.noted(evidence.largest(&format!("startup.warm.{what}"))?);
        let cold = evidence.largest(&format!("startup.cold.{what}"));
        Ok(cold.ok().filter(|cold| cold.value > warm.value).unwrap_or(warm))
    }

    fn noted(&mut self, figure: Figure) -> Figure {
        let refused = figure.doubts.iter().any(|doubt| !errs_on_the_safe_side(&figure.key, doubt));
        if refused && !self.refused.contains(&figure) {
            self.refused.push(figure.clone());
        }
        figure
    }

    pub(super) fn judge(self, allow: Allowances, notes: &mut Vec<String>) -> Result<(), DeployError> {
        if self.refused.is_empty() {
            return Ok(());
        }
        let figures: Vec<String> = self.refused.iter().map(ToString::to_string).collect();
        let message = format!("figures are in doubt: {}", figures.join(", "));
        if allow.doubtful {
            notes.push(format!("Used although they are in doubt: {}.", figures.join(", ")));
            return Ok(());
        }
        let advice =
            self.refused.iter().flat_map(|it| &it.doubts).map(Doubt::advice).next().unwrap_or_default();
        Err(DeployError::new(
            message,
            format!("{advice}; or add --allow-doubtful, which writes the doubts beside the numbers"),
        ))
    }
}

/// Whether a doubt can only make a number of the manifest larger than needed: time that others took lowers the rate at
/// the knee, and raises CPU time and durations. The slowest of scattered starts is taken anyway.
fn errs_on_the_safe_side(key: &str, doubt: &Doubt) -> bool {
    let metric = key.strip_prefix("largest of ").unwrap_or(key);
    let is_start = metric.starts_with("startup.") && !metric.contains("memory");
    let grows = [
        "throughput.rate",
        "throughput.cpu-per-request",
        "throughput.latency.p99.9",
        "throughput.latency.max",
    ];
    match doubt {
        Doubt::GeneratorBound { .. }
        | Doubt::Steal { .. }
        | Doubt::BusyHost { .. }
        | Doubt::SharedCpus { .. }
        | Doubt::SharedCore { .. }
        | Doubt::ThrottledOutsideLimit { .. } => {
            is_start || grows.iter().any(|it| metric.split('@').next() == Some(it))
        }
        Doubt::Scattered { .. } => is_start,
        _ => false,
    }
}
