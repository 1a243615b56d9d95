//! Gates: bounds on figures, and the verdict on each.
//!
//! A figure that is doubted does not pass, unless its gate allows it or the doubts can only make it look worse than it
//! is; one that is missing fails. What was not
//! judged is a verdict too, with the reason, so that nothing passes by being left out.

pub use tare_report::verdict::{Outcome, Overall, Verdict};

use super::baseline::Baseline;
use super::definition::{Gate, Limits};
use super::measurement::Measurement;
use super::metric::{Class, Direction, Pass};
use super::render::units::shown;
use super::stats;
use tare_report::Bias;

/// Below this a difference from the baseline is no accident (1 in 100, as Firecracker's comparisons have it).
const SIGNIFICANT: f64 = 0.01;

/// What the gates are held against.
#[derive(Debug, Clone, Copy)]
pub struct Figures<'a> {
    /// The passes that ran.
    pub passes: &'a [Pass],
    /// The limits of this run; none for what does not run the image.
    pub limits: Option<&'a Limits>,
    /// What was measured.
    pub measurements: &'a [Measurement],
    /// What it is compared with, if anything is.
    pub baseline: Option<&'a Baseline>,
    /// What measuring the baseline's image and this one in turns came to.
    pub again: &'a [Again],
    /// Why instructions were not counted, if they were to be.
    pub uncounted: Option<&'a str>,
}

/// A regression gate's metric, measured again with the baseline's image in turns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Again {
    /// The metric.
    pub metric: &'static str,
    /// Whether the image is worse.
    pub outcome: Outcome,
    /// By how much, in one line.
    pub reason: String,
}

/// Judges the gates on the metrics of `passes`, in their order: one verdict for every figure that a gate is
/// about, and one for a gate without a figure.
#[must_use]
pub fn judge(gates: &[Gate], figures: &Figures<'_>) -> Vec<Verdict> {
    gates.iter().flat_map(|gate| judge_one(gate, figures)).collect()
}

fn judge_one(gate: &Gate, figures: &Figures<'_>) -> Vec<Verdict> {
    let verdict = |gate: String, outcome, value, reason| {
        vec![Verdict { gate, limits: figures.limits.cloned(), outcome, value, reason }]
    };
    let pass = gate.definition().pass;
    if !figures.passes.contains(&pass) {
        let reason = format!("the {} pass was not asked for", pass.name());
        return verdict(gate.key(), Outcome::Skipped, None, reason);
    }
    let about: Vec<&Measurement> = figures.measurements.iter().filter(|it| gate.is_about(it)).collect();
    if let (true, Pass::Instructions, Some(why)) = (about.is_empty(), pass, figures.uncounted) {
        return verdict(gate.key(), Outcome::Skipped, None, why.to_owned());
    }
    if about.is_empty() {
        return verdict(gate.key(), Outcome::Fail, None, "it was not measured".to_owned());
    }
    about
        .into_iter()
        .flat_map(|measurement| {
            let (outcome, reason) = judge_figure(gate, measurement, figures);
            verdict(measurement.key(), outcome, Some(measurement.value).filter(|it| it.is_finite()), reason)
        })
        .collect()
}

fn judge_figure(gate: &Gate, measurement: &Measurement, figures: &Figures<'_>) -> (Outcome, String) {
    let unit = gate.definition().unit;
    let value = measurement.value;
    let figure = shown(value, unit);
    if !value.is_finite() {
        return (Outcome::Fail, "it is not a number".to_owned());
    }
    let mut findings = Vec::new();
    if let Some(max) = gate.max {
        let (outcome, relation) =
            if value > max { (Outcome::Fail, "over") } else { (Outcome::Pass, "within") };
        findings.push((outcome, format!("{figure} is {relation} the maximum of {}", shown(max, unit))));
    }
    if let Some(min) = gate.min {
        let (outcome, relation) =
            if value < min { (Outcome::Fail, "under") } else { (Outcome::Pass, "not under") };
        findings.push((outcome, format!("{figure} is {relation} the minimum of {}", shown(min, unit))));
    }
    let again = figures.again.iter().find(|it| gate.max_regression.is_some() && it.metric == gate.metric);
    if let Some(allowed) = gate.max_regression.filter(|_| again.is_none()) {
        findings.push(match figures.baseline {
            None => (Outcome::Skipped, "there is no baseline to compare with".to_owned()),
            Some(baseline) => match baseline.find(figures.limits, measurement) {
                // It was made where there is no valgrind.
                None if gate.definition().class == Class::Counted => {
                    (Outcome::Skipped, "the baseline has no such figure: save it again".to_owned())
                }
                None => (Outcome::Fail, "the baseline has no such figure: save it again".to_owned()),
                Some(before) => regression(before, measurement, allowed),
            },
        });
    }
    let of_figure = judge_findings(gate, measurement, figures, &findings, again.is_none());
    // What was measured in turns has its own certainty: no doubt about this run's figure concerns it.
    match again {
        None => of_figure,
        Some(again) if findings.is_empty() => (again.outcome, again.reason.clone()),
        Some(again) => {
            let rank = |outcome| {
                [Outcome::Fail, Outcome::Unreliable, Outcome::Pass].iter().position(|it| *it == outcome)
            };
            let (worse, better) = ((again.outcome, again.reason.clone()), of_figure);
            match rank(worse.0).cmp(&rank(better.0)) {
                std::cmp::Ordering::Less => worse,
                std::cmp::Ordering::Greater => better,
                std::cmp::Ordering::Equal => (worse.0, format!("{}; {}", better.1, worse.1)),
            }
        }
    }
}

/// What the bounds found, with the doubts about the figure. The baseline's doubts count where it was compared with.
fn judge_findings(
    gate: &Gate,
    measurement: &Measurement,
    figures: &Figures<'_>,
    findings: &[(Outcome, String)],
    with_baseline: bool,
) -> (Outcome, String) {
    let has = |outcome| findings.iter().any(|(found, _)| *found == outcome);
    let worst = [Outcome::Fail, Outcome::Unreliable, Outcome::Pass]
        .into_iter()
        .find(|it| has(*it))
        .unwrap_or(Outcome::Skipped);
    // What decided, or all of it when nothing went wrong.
    let decisive = findings.iter().filter(|(found, _)| *found == worst || worst == Outcome::Pass);
    let reason = decisive.map(|(_, text)| text.as_str()).collect::<Vec<_>>().join("; ");
    // The baseline counts where it decided.
    let before = figures.baseline.filter(|_| with_baseline && gate.max_regression.is_some());
    let before = before.and_then(|baseline| baseline.find(figures.limits, measurement));
    let turned = before.and_then(Measurement::bias).map(Bias::turned);
    let bias = measurement.bias().into_iter().chain(turned).reduce(Bias::and);
    let Some(bias) = bias.filter(|_| worst != Outcome::Skipped) else { return (worst, reason) };
    let of_baseline =
        before.iter().flat_map(|it| &it.doubts).map(|doubt| format!("of the baseline: {doubt}"));
    let doubts: Vec<String> = measurement.doubts.iter().map(ToString::to_string).chain(of_baseline).collect();
    let doubts = doubts.join("; ");
    if gate.allow_unreliable {
        (worst, format!("{reason} (doubtful, which the gate allows: {doubts})"))
    } else if bias == Bias::Understates && worst == Outcome::Pass {
        (worst, format!("{reason} (it can only be better than that: {doubts})"))
    } else {
        (Outcome::Unreliable, format!("{reason}, but {doubts}"))
    }
}

/// By which part of `before` the figure is worse; negative if it is better. None if it became worse than
/// nothing, which is no part of it.
fn worsening(before: f64, now: f64, direction: Direction) -> Option<f64> {
    let worse = match direction {
        Direction::Lower => now - before,
        Direction::Higher => before - now,
        Direction::Neither => 0.0,
    };
    if worse == 0.0 {
        Some(0.0)
    } else if before == 0.0 {
        (worse < 0.0).then_some(-1.0)
    } else {
        Some(worse / before.abs())
    }
}

/// By which part of the figure its samples differ.
#[must_use]
pub fn spread(measurement: &Measurement) -> f64 {
    let samples = measurement.samples.iter().copied();
    let ends = samples.clone().reduce(f64::min).zip(samples.reduce(f64::max));
    ends.map_or(0.0, |(least, most)| (most - least) / measurement.value.abs().max(f64::MIN_POSITIVE))
}

fn regression(before: &Measurement, now: &Measurement, allowed: f64) -> (Outcome, String) {
    let metric = now.definition();
    let now_shown = shown(now.value, metric.unit);
    let was = shown(before.value, metric.unit);
    // A gate finds nothing finer than the figures repeat.
    let spread = if metric.class == Class::Counted { spread(before) + spread(now) } else { 0.0 };
    let resolution = if spread > allowed { " (what the runs of both differ by)" } else { "" };
    let allowed = allowed.max(spread);
    let limit = format!("{:.1} %{resolution}", allowed * 100.0);
    let Some(worse) = worsening(before.value, now.value, metric.direction) else {
        return (Outcome::Fail, format!("{now_shown}, where the baseline has {was}"));
    };
    let change = format!("{:.1} %", worse.abs() * 100.0);
    if worse <= 0.0 {
        return (Outcome::Pass, format!("{now_shown} is no worse than the baseline's {was}"));
    }
    if worse <= allowed {
        return (
            Outcome::Pass,
            format!("{now_shown} is {change} worse than the baseline's {was}, within {limit}"),
        );
    }
    // Two medians always differ; whether these do by accident can be asked where both have samples.
    let chance = match metric.class {
        Class::Exact | Class::Counted => None,
        Class::Noisy => stats::permutation_test(&before.samples, &now.samples, 0),
    };
    match chance {
        Some(p) if p >= SIGNIFICANT => (
            Outcome::Unreliable,
            format!(
                "{now_shown} is {change} worse than the baseline's {was}, over {limit}, but that may be noise (p = {p:.2}): measure more"
            ),
        ),
        _ => {
            (Outcome::Fail, format!("{now_shown} is {change} worse than the baseline's {was}, over {limit}"))
        }
    }
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
