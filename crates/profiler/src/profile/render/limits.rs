//! A sweep or a capacity as JSON, Markdown and a page.

use std::fmt::Write as _;

use serde::Serialize;

use super::markdown::{escaped, render_table};
use super::units;
use crate::profile::capacity::Capacity;
use crate::profile::metric::Unit;
use crate::profile::report::Table;
use crate::profile::sweep::found::{Smallest, Sweep};
use crate::profile::trial::Trial;

/// As it is written to a file.
///
/// # Errors
/// Never for results, whose keys are text.
pub fn json(result: &impl Serialize) -> serde_json::Result<String> {
    Ok(serde_json::to_string_pretty(result)? + "\n")
}

fn time(nanoseconds: f64) -> String {
    units::shown(nanoseconds, Unit::Nanoseconds)
}

/// Whole MiB where it is that, as limits are written.
pub(super) fn memory(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "no limit".to_owned(), |bytes| tare_oci::units::ByteSize(bytes).exact())
}

/// What the server was to do.
pub(super) fn goal(sweep: &Sweep) -> String {
    format!("{:.0} requests/s, 99 % answered within {}", sweep.goal.rate, time(sweep.goal.p99))
}

/// The result in a sentence.
#[must_use]
pub fn conclusion(sweep: &Sweep) -> String {
    match (&sweep.smallest, sweep.failure()) {
        (Some(smallest), _) => format!(
            "{} CPU and {} are the smallest limits for {}",
            smallest.cpus,
            memory(Some(smallest.memory)),
            goal(sweep)
        ),
        (None, failure) => failure.unwrap_or_else(|| "nothing was tried".to_owned()),
    }
}

/// How the limits were proved.
pub(super) fn proof(smallest: &Smallest) -> String {
    let Smallest { starts, slowest_start, proof, raised, .. } = smallest;
    let p99 = proof.p99.map(time).unwrap_or_default();
    let raised = match raised {
        0 => String::new(),
        1 => ", after one of them was raised once".to_owned(),
        times => format!(", after one of them was raised {times} times"),
    };
    format!(
        "Proved by {starts} starts, the slowest ready after {}, and a longer load with a p99 of {p99}{raised}.",
        time(*slowest_start)
    )
}

/// The knee in a sentence.
pub(super) fn knee(smallest: &Smallest) -> Option<String> {
    let knee = smallest.knee?;
    Some(format!(
        "Knee: {knee} CPU. From there on the p99 is at most twice that of the largest limit; below, it rises."
    ))
}

/// The columns of [`row`].
pub(super) const COLUMNS: [&str; 8] =
    ["limits", "for", "rate", "answered", "p99", "CPU per request", "peak memory", "result"];

/// A trial as cells.
pub(super) fn row(purpose: &str, trial: &Trial) -> Vec<String> {
    let shown = |value: Option<f64>, unit| value.map_or_else(|| "-".to_owned(), |it| units::shown(it, unit));
    let result = match (trial.failed, &trial.message) {
        (None, _) => "holds".to_owned(),
        (Some(reason), Some(message)) => format!("{}: {message}", reason.name()),
        (Some(reason), None) => reason.name().to_owned(),
    };
    vec![
        format!("{} CPU, {}", trial.cpus, memory(trial.memory)),
        purpose.to_owned(),
        units::shown(trial.rate, Unit::PerSecond),
        shown(trial.answered, Unit::PerSecond),
        shown(trial.p99, Unit::Nanoseconds),
        shown(trial.cpu_per_request, Unit::Nanoseconds),
        shown(trial.memory_peak.map(|bytes| bytes as f64), Unit::Bytes),
        result,
    ]
}

fn trials(text: &mut String, rows: Vec<Vec<String>>) {
    let columns = COLUMNS.iter().map(|it| (*it).to_owned()).collect();
    let numeric = vec![2, 3, 4, 5, 6];
    text.push_str("\n<details><summary>All trials</summary>\n");
    render_table(text, &Table { title: String::new(), columns, numeric, rows });
    text.push_str("</details>\n");
}

/// A sweep for a pull request.
#[must_use]
pub fn markdown(sweep: &Sweep) -> String {
    let name = sweep.target.names.first().unwrap_or(&sweep.target.digest);
    let mut text = format!("## {}: smallest limits\n\n{}.\n", escaped(name), escaped(&conclusion(sweep)));
    if let Some(smallest) = &sweep.smallest {
        let _ = writeln!(text, "\n{}", proof(smallest));
        if let Some(knee) = knee(smallest) {
            let _ = writeln!(text, "{knee}");
        }
    }
    for note in &sweep.notes {
        let _ = writeln!(text, "\n{}", escaped(note));
    }
    if let Some(resources) = &sweep.resources {
        let _ = writeln!(text, "\n{}", resources.about());
        let _ = write!(text, "\n```yaml\n{}```\n", resources.kubernetes());
        let _ = write!(text, "\n```console\n{}```\n", resources.docker());
        let _ = write!(text, "\n```yaml\n{}```\n", resources.compose());
    }
    trials(&mut text, sweep.trials.iter().map(|made| row(made.purpose.name(), &made.trial)).collect());
    text
}

/// A sweep on a terminal.
#[must_use]
pub fn terminal(sweep: &Sweep) -> String {
    let mut text = format!("{}\n", conclusion(sweep));
    if let Some(smallest) = &sweep.smallest {
        let _ = writeln!(text, "{}", proof(smallest));
        if let Some(knee) = knee(smallest) {
            let _ = writeln!(text, "{knee}");
        }
    }
    if let Some(resources) = &sweep.resources {
        let _ = writeln!(text, "\n{}\n", resources.about());
        let _ = write!(
            text,
            "# Kubernetes\n{}# docker\n{}# compose\n{}",
            resources.kubernetes(),
            resources.docker(),
            resources.compose()
        );
    }
    text
}

/// The result of a capacity in a sentence.
#[must_use]
pub fn capacity_conclusion(capacity: &Capacity) -> String {
    let within = format!("99 % answered within {}", time(capacity.p99));
    let Some(rate) = capacity.rate else {
        return format!("no rate has {within} under {}", capacity.limits);
    };
    let interval = capacity.interval.map_or_else(String::new, |(low, high)| {
        format!(" (95 % interval {} to {})", units::shown(low, Unit::Count), units::shown(high, Unit::Count))
    });
    let rate = units::shown(rate.round(), Unit::PerSecond);
    format!("{rate}{interval} is the highest rate with {within} under {}", capacity.limits)
}

/// The rounds in a sentence.
#[must_use]
pub fn rounds(capacity: &Capacity) -> String {
    let rounds: Vec<String> =
        capacity.rounds.iter().map(|rate| units::shown(rate.round(), Unit::Count)).collect();
    format!(
        "The median of {} rounds with a server of their own each: {}. A closed loop reached {}.",
        rounds.len(),
        rounds.join(", "),
        units::shown(capacity.closed.round(), Unit::PerSecond)
    )
}

/// A capacity for a pull request.
#[must_use]
pub fn capacity_markdown(capacity: &Capacity) -> String {
    let name = capacity.target.names.first().unwrap_or(&capacity.target.digest);
    let mut text =
        format!("## {}: capacity\n\n{}.\n", escaped(name), escaped(&capacity_conclusion(capacity)));
    let _ = writeln!(text, "\n{}", rounds(capacity));
    for note in &capacity.notes {
        let _ = writeln!(text, "\n{}", escaped(note));
    }
    trials(&mut text, capacity.trials.iter().map(|trial| row("capacity", trial)).collect());
    text
}

#[cfg(test)]
#[path = "limits_tests.rs"]
mod tests;
