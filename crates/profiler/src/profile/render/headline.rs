//! The figures that a reader wants first, out of all figures of a report.

use crate::profile::gate::Outcome;
use crate::profile::measurement::{Doubt, Measurement};
use crate::profile::metric::{self, Pass};
use crate::profile::report::{Report, Run};

/// The share of the capacity at which latency is shown, in percent.
const LATENCY_AT: u32 = 70;
/// Files that are shown.
const PARTS: usize = 3;

/// The figures.
#[derive(Debug, Default)]
pub(super) struct Headline<'a> {
    /// Bytes that are transferred.
    pub(super) compressed: Option<&'a Measurement>,
    /// The largest files, with their sizes.
    pub(super) parts: Vec<String>,
    /// Time until the first correct answer.
    pub(super) ready: Option<&'a Measurement>,
    /// The closed loop, or the first load.
    pub(super) capacity: Option<Case<'a>>,
    /// The load whose latency counts.
    pub(super) latency: Option<Case<'a>>,
    /// The highest peak of all loads.
    pub(super) peak: Option<&'a Measurement>,
    /// Instructions for a request, where they were counted.
    pub(super) instructions: Option<&'a Measurement>,
    /// Requests that failed, if any did.
    pub(super) errors: Option<String>,
}

/// One load.
#[derive(Debug)]
pub(super) struct Case<'a> {
    /// `closed`, `open-70`
    pub(super) name: &'a str,
    /// CPU per request.
    pub(super) cost: Option<&'a Measurement>,
    pub(super) rate: Option<&'a Measurement>,
    pub(super) p99: Option<&'a Measurement>,
}

impl<'a> Case<'a> {
    fn of(name: &'a str, run: &'a Run) -> Self {
        let find = |metric: &str| {
            run.measurements.iter().find(|it| it.metric == metric && it.case.as_deref() == Some(name))
        };
        Self {
            name,
            cost: find("throughput.cpu-per-request"),
            rate: find("throughput.rate"),
            p99: find("throughput.latency.p99"),
        }
    }

    /// `at 70 %`, `at 1000/s`, `in the closed loop`
    pub(super) fn label(&self) -> String {
        match self.name.strip_prefix("open-") {
            Some(share) if share.bytes().all(|b| b.is_ascii_digit()) => format!("at {share} %"),
            Some(rate) => format!("at {rate}"),
            None => "in the closed loop".to_owned(),
        }
    }
}

/// Of the first set of limits, with the size.
pub(super) fn of(report: &Report) -> Headline<'_> {
    let size = report.runs.iter().find(|run| run.limits.is_none());
    let mut head = report.runs.iter().find(|run| run.limits.is_some()).map(of_run).unwrap_or_default();
    head.compressed =
        size.and_then(|run| run.measurements.iter().find(|it| it.metric == "size.image.compressed"));
    head.parts = size.map(parts).unwrap_or_default();
    head
}

/// Of one set of limits.
pub(super) fn of_run(run: &Run) -> Headline<'_> {
    let mut cases: Vec<&str> = Vec::new();
    for case in run.measurements.iter().filter(|it| it.definition().pass == Pass::Throughput) {
        cases.extend(case.case.as_deref().filter(|name| !cases.contains(name)));
    }
    let capacity = cases.iter().find(|name| **name == "closed").or(cases.first());
    let away = |name: &&&str| {
        let share: u32 = name.strip_prefix("open-").and_then(|share| share.parse().ok()).unwrap_or(u32::MAX);
        share.abs_diff(LATENCY_AT)
    };
    let latency = cases.iter().filter(|name| **name != "closed").min_by_key(away).or(capacity);
    let of = |metric: &str| run.measurements.iter().filter(move |it| it.metric == metric).collect::<Vec<_>>();
    let (errors, requests) = (of(metric::ERRORS), of("throughput.requests"));
    let sum = |of: &[&Measurement]| of.iter().map(|it| it.value).sum::<f64>();
    let failed = sum(&errors);
    Headline {
        ready: of("startup.warm.ready").first().copied(),
        capacity: capacity.map(|name| Case::of(name, run)),
        latency: latency.map(|name| Case::of(name, run)),
        peak: of("throughput.memory.peak").into_iter().max_by(|a, b| a.value.total_cmp(&b.value)),
        instructions: of("instructions.per-request").first().copied(),
        errors: (failed > 0.0).then(|| format!("{failed:.0} beside {:.0} right answers", sum(&requests))),
        ..Headline::default()
    }
}

/// The largest files, from the size pass's own list.
fn parts(run: &Run) -> Vec<String> {
    let files = run.sections.iter().flat_map(|section| &section.tables).find(|table| table.title == "Files");
    let files = files.map(|table| table.rows.as_slice()).unwrap_or_default();
    let part = |row: &Vec<String>| Some(format!("{} {}", row.last()?, row.first()?));
    files.iter().take(PARTS).filter_map(part).collect()
}

/// From the doubt that explains most to the one that explains least.
const ORDER: [&str; 20] = [
    "wrong-answers",
    "errors",
    "out-of-memory",
    "unsent",
    "littles-law",
    "fewer-connections",
    "shared-cpus",
    "generator-bound",
    "throttled-outside-limit",
    "steal",
    "busy-host",
    "shared-core",
    "unmeasured",
    "no-steady-state",
    "near-memory-limit",
    "too-few-samples",
    "scattered",
    "capacity",
    "not-cold",
    "unresolved",
];

/// The place of a doubt in that order.
pub(super) fn order(doubt: &Doubt) -> usize {
    ORDER.iter().position(|kind| *kind == doubt.kind()).unwrap_or(ORDER.len())
}

/// The doubt that matters most: of a gate that it decided, else of the figures on the screen. With its case, and the kinds
/// of all others.
pub(super) fn doubt(report: &Report) -> Option<(String, &Doubt, Vec<&'static str>)> {
    let decided = |it: &Measurement| {
        report
            .verdicts
            .iter()
            .any(|verdict| verdict.outcome == Outcome::Unreliable && verdict.gate == it.key())
    };
    let is_shown = |it: &Measurement| {
        [
            "startup.warm.ready",
            "throughput.rate",
            "throughput.cpu-per-request",
            "throughput.latency.p99",
            "throughput.memory.peak",
        ]
        .contains(&it.metric)
    };
    let all = report.runs.iter().flat_map(|run| &run.measurements);
    let all = all.flat_map(|it| it.doubts.iter().map(move |doubt| (it, doubt)));
    let rank = |(it, doubt): &(&Measurement, &Doubt)| (!decided(it), !is_shown(it), order(doubt));
    let (first, most) = all.clone().min_by_key(rank)?;
    let mut others: Vec<&'static str> =
        all.map(|(_, doubt)| doubt.kind()).filter(|kind| *kind != most.kind()).collect();
    others.sort_unstable();
    others.dedup();
    let case = first.case.as_deref().map(|case| format!("{case}: ")).unwrap_or_default();
    Some((case, most, others))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_doubt_has_its_place() {
        let text = include_str!("../../../../report/src/doubt.rs");
        let (_, kinds) = text.split_once("fn kind_and_advice").unwrap();
        for kind in ORDER {
            assert!(kinds.contains(&format!("\"{kind}\"")), "{kind}");
        }
        let arms = kinds.split("impl fmt::Display").next().unwrap().matches("Self::").count();
        assert_eq!(arms, ORDER.len());
    }
}
