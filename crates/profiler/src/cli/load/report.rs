//! The figures of one run, for people and as JSON, and why they may be wrong.

use serde::Serialize;
use tare_oci::units::ByteSize;
use tare_tool::ui;

use crate::profile::throughput::{doubts, rows};
use crate::profile::validity::{self, MachineFacts};
use tare_load::{Distribution, Outcome, Pace, Plan, Protocol};

const PERCENTILES: [f64; 6] = [50.0, 75.0, 90.0, 99.0, 99.9, 99.99];

pub(super) fn text(plan: &Plan, outcome: &Outcome) -> String {
    let steady = &rows::steady(outcome);
    let cut = (steady.measured.from - outcome.measured.from) as f64 / 1e9;
    let seconds = outcome.measured.nanoseconds() as f64 / 1e9;
    let protocol = match plan.protocol {
        Protocol::Http1 => "HTTP/1.1",
        Protocol::Http2 => "HTTP/2",
    };
    let pace = match plan.pace {
        Pace::Closed => "closed loop".to_owned(),
        Pace::Open { rate } => format!("open loop at {rate}/s"),
    };
    let mut lines = vec![
        format!("{pace} over {protocol} to {}, {seconds:.1} s measured", plan.address),
        String::new(),
        format!(
            "  {:.1} requests/s, {} in and {} out per second",
            steady.requests_per_second(),
            per_second(outcome.bytes_in, seconds),
            per_second(outcome.bytes_out, seconds)
        ),
        format!(
            "  {} sent, {} completed, {} failed, {} unsent",
            outcome.sent,
            outcome.completed,
            outcome.errors.total(),
            outcome.unsent
        ),
        format!(
            "  {} of {} connections open at the start, {} at the end, {} opened again, {:.1} requests under way on average",
            outcome.connections.at_start,
            plan.connections,
            outcome.connections.at_end,
            outcome.connections.reconnects,
            outcome.mean_in_flight()
        ),
    ];
    if let (Some(cpu), Some(used)) = (outcome.cpu, outcome.generator_use()) {
        let per_request = |micros: u64| micros as f64 / outcome.completed.max(1) as f64;
        lines.push(format!(
            "  generator: {:.0} % of its CPU, {:.2} µs per request (user {:.2}, kernel {:.2})",
            used * 100.0,
            per_request(cpu.user + cpu.system),
            per_request(cpu.user),
            per_request(cpu.system)
        ));
    }
    if cut > 0.0 {
        lines.push(format!("  the first {cut:.1} s were warm-up still; rate and times are of the rest"));
    }
    lines.push(String::new());
    if steady.latency.count() == 0 {
        lines.push("  no request was answered as expected".to_owned());
    } else {
        let row = |name: String, of: &dyn Fn(&Distribution) -> u64| {
            vec![name, time(of(&steady.latency)), time(of(&steady.service))]
        };
        let mut rows =
            vec![row("min".to_owned(), &Distribution::min), row("mean".to_owned(), &|it| it.mean() as u64)];
        rows.extend(PERCENTILES.map(|percent| row(format!("p{percent}"), &|it| it.percentile(percent))));
        rows.push(row("max".to_owned(), &Distribution::max));
        lines.push(ui::table(&["", "latency", "service time"], &rows, &[1, 2]));
    }
    if !outcome.errors.0.is_empty() {
        let rows: Vec<Vec<String>> = outcome
            .errors
            .0
            .iter()
            .map(|(kind, failures)| {
                vec![kind.to_string(), failures.count.to_string(), failures.first.clone()]
            })
            .collect();
        lines.push(String::new());
        lines.push(ui::table(&["error", "times", "first"], &rows, &[1]));
    }
    lines.join("\n")
}

/// Why the figures may be wrong, with what to do: the doubts that `profile` has too, and what only the client saw. `steal` is
/// the share of the CPU time that a hypervisor took, where that could be read.
pub(super) fn warnings(plan: &Plan, outcome: &Outcome, steal: Option<f64>) -> Vec<String> {
    let mut doubts = doubts::of_outcome(outcome, matches!(plan.pace, Pace::Open { .. }));
    doubts.extend(doubts::of_speed(outcome));
    doubts.extend(validity::machine(&MachineFacts { steal, ..MachineFacts::default() }));
    let mut warnings: Vec<String> =
        doubts.iter().map(|doubt| format!("{}: {doubt}; {}", doubt.kind(), doubt.advice())).collect();
    if outcome.connections.closed_by_server > 0 {
        warnings.push(format!(
            "the server closed {} connections that could have stayed open: after an answer, or because they were idle; opening them \
             again is part of no error",
            outcome.connections.closed_by_server
        ));
    }
    if outcome.connections.kept_by_server > 0 {
        warnings.push(format!(
            "the server ignored `connection: close` {} times",
            outcome.connections.kept_by_server
        ));
    }
    warnings
}

#[derive(Serialize)]
struct Document<'a> {
    plan: &'a Plan,
    summary: Summary,
    outcome: &'a Outcome,
}

#[derive(Serialize)]
struct Summary {
    requests_per_second: f64,
    mean_in_flight: f64,
    generator_use: Option<f64>,
    latency: Times,
    service: Times,
    warnings: Vec<String>,
}

/// Nanoseconds.
#[derive(Serialize)]
struct Times {
    min: u64,
    mean: f64,
    max: u64,
    percentiles: Vec<(f64, u64)>,
}

impl Times {
    fn of(distribution: &Distribution) -> Self {
        Self {
            min: distribution.min(),
            mean: distribution.mean(),
            max: distribution.max(),
            percentiles: PERCENTILES.map(|percent| (percent, distribution.percentile(percent))).to_vec(),
        }
    }
}

pub(super) fn json(plan: &Plan, outcome: &Outcome, warnings: &[String]) -> serde_json::Result<String> {
    let steady = rows::steady(outcome);
    let summary = Summary {
        requests_per_second: steady.requests_per_second(),
        mean_in_flight: outcome.mean_in_flight(),
        generator_use: outcome.generator_use(),
        latency: Times::of(&steady.latency),
        service: Times::of(&steady.service),
        warnings: warnings.to_vec(),
    };
    serde_json::to_string(&Document { plan, summary, outcome })
}

fn per_second(bytes: u64, seconds: f64) -> ByteSize {
    ByteSize((bytes as f64 / seconds) as u64)
}

fn time(nanoseconds: u64) -> String {
    match nanoseconds {
        n if n < 1_000_000 => format!("{:.1} µs", n as f64 / 1e3),
        n if n < 1_000_000_000 => format!("{:.2} ms", n as f64 / 1e6),
        n => format!("{:.2} s", n as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::throughput::rows::tests::outcome;

    #[test]
    fn where_nothing_was_answered_there_is_no_table_and_one_count_of_errors() {
        let plan = Plan::new("127.0.0.1:80", "/");
        let refused = text(&plan, &outcome(0, 96));
        assert!(refused.contains("96 sent, 0 completed, 96 failed, 0 unsent"), "{refused}");
        assert!(refused.contains("  no request was answered as expected\n"), "{refused}");
        assert!(!refused.contains("p99") && refused.contains("wrong status"), "{refused}");
        assert!(text(&plan, &outcome(96, 0)).contains("p99"));
    }
}
