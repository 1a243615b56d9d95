//! Comparisons whose right outcome is known: `profile compare` has to find five percent more CPU for a
//! request, and nothing where there is nothing.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use serde_json::Value;

use super::Fidelity;
use crate::bench::fixture;
use crate::bench::report::{Bound, Goal, Part, Row, Table};
use crate::bench::server::requests;
use crate::bench::server::subject::Place;
use crate::bench::server::{SERVER_CPU, Server, series};
use crate::bench::stats::Series;

/// What is compared.
const METRIC: &str = "throughput.cpu-per-request";
/// Steps for a request of the image that is compared with: most of what a request costs.
const STEPS: u64 = 40_000;
/// Injected, in percent of the CPU time for a request.
const PERCENT: u64 = 5;
/// Right outcomes of 20, and wrong ones.
const OF: u64 = 20;
const FOUND: u64 = 19;
const ALARMS: u64 = 1;

pub(super) fn regressions(fidelity: &Fidelity<'_>) -> anyhow::Result<Part> {
    let mut part = Part::new("regressions");
    let program = fidelity.program()?;
    let more = STEPS + injected(fidelity, &program, &mut part)?;
    let outcomes = compares(fidelity, &program, more)?;
    let found = outcomes.worse;
    part.tables.push(outcomes.table("five percent more CPU for a request"));
    let goal = Bound::AtLeast(u64::from(fidelity.compares) * FOUND / OF);
    part.goals.push(Goal::new("regressions found", goal, Series::counts(vec![found])));
    Ok(part)
}

pub(super) fn same(fidelity: &Fidelity<'_>) -> anyhow::Result<Part> {
    let mut part = Part::new("same");
    let program = fidelity.program()?;
    let outcomes = compares(fidelity, &program, STEPS)?;
    let alarms = outcomes.worse + outcomes.better;
    part.tables.push(outcomes.table("an image and itself under another name"));
    let goal = Bound::AtMost(u64::from(fidelity.compares) * ALARMS / OF);
    part.goals.push(Goal::new("false alarms", goal, Series::counts(vec![alarms])));
    Ok(part)
}

/// How many steps are five percent of what a request costs, measured without containers: what no steps, the
/// usual ones and half as many again cost.
fn injected(fidelity: &Fidelity<'_>, program: &Path, part: &mut Part) -> anyhow::Result<u64> {
    let contest = &fidelity.contest;
    let server = Server { name: "program".to_owned(), binary: program.to_path_buf() };
    let mut rounds = Vec::new();
    for _ in 0..fidelity.bench().rounds {
        let cost = |steps: u64| {
            let steps = steps.to_string();
            let place = Place { cpus: SERVER_CPU, env: &[("STEPS", &steps)], ..Place::default() };
            let sample = requests::sample(contest, &mut contest.generator(), &server, &place, |load| load);
            sample.map(|sample| sample.cpu)
        };
        rounds.push((cost(STEPS)?, cost(STEPS + STEPS / 2)?));
    }
    let base = series(Series::short_times, &rounds, |(base, _)| *base);
    let more = series(Series::short_times, &rounds, |(_, more)| *more);
    let for_half = more.median().saturating_sub(base.median()).max(1);
    let steps = base.median() * PERCENT * STEPS / 2 / 100 / for_half;
    part.note(format!(
        "a request costs {base} with {STEPS} steps and {more} with half as many again; {PERCENT} % are {steps} steps"
    ));
    Ok(steps)
}

#[derive(Default)]
struct Outcomes {
    worse: u64,
    better: u64,
    same: u64,
    /// It could not be told.
    open: u64,
    /// Nanoseconds of each comparison.
    times: Vec<u64>,
    /// The differences that were found, in millionths of A.
    changes: Vec<u64>,
}

impl Outcomes {
    fn table(self, name: &str) -> Table {
        let count = |value: u64| Series::counts(vec![value]).into();
        Table {
            columns: vec!["B is", "worse", "better", "the same", "cannot tell", "B / A", "time of one"],
            rows: vec![Row {
                name: name.to_owned(),
                cells: vec![
                    count(self.worse),
                    count(self.better),
                    count(self.same),
                    count(self.open),
                    Some(self.changes).filter(|it| !it.is_empty()).map(Series::ratios).into(),
                    Series::times_of(self.times).into(),
                ],
            }],
        }
    }
}

fn compares(fidelity: &Fidelity<'_>, program: &Path, steps: u64) -> anyhow::Result<Outcomes> {
    let images: [PathBuf; 2] = [fidelity.image(program, "a", STEPS)?, fidelity.image(program, "b", steps)?];
    let profile = fidelity.contest.scratch.path().join("compare.toml");
    let text =
        "passes = [\"throughput\"]\n[limits]\ncpus = 1\nmemory = \"64MiB\"\n[throughput]\nconnections = 16\n";
    fixture::write(&profile, text.as_bytes())?;
    let mut outcomes = Outcomes::default();
    for number in 1..=fidelity.compares {
        let ui = fidelity.bench().ui;
        ui.status("Comparing", &format!("{number} of {}", fidelity.compares));
        let started = Instant::now();
        let command = fidelity.profile().arg("compare").args(&images).arg("--profile").arg(&profile);
        // The exit code says the same as the finding.
        let (_, said) = command.args(["--metric", METRIC, "--json", "--quiet"]).read_whatever()?;
        outcomes.times.push(started.elapsed().as_nanos() as u64);
        let comparison: Value = serde_json::from_slice(&said).context("`profile compare` printed no JSON")?;
        let mut rows = comparison["rows"].as_array().into_iter().flatten();
        let row = rows.find(|row| row["metric"] == METRIC).with_context(|| format!("it has no {METRIC}"))?;
        match row["finding"].as_str() {
            Some("worse") => outcomes.worse += 1,
            Some("better") => outcomes.better += 1,
            Some("same") => outcomes.same += 1,
            _ => outcomes.open += 1,
        }
        if let Some(change) = row["change"].as_f64() {
            outcomes.changes.push(((1.0 + change) * 1e6) as u64);
        }
    }
    Ok(outcomes)
}
