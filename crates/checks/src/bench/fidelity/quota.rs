//! Half a CPU: a container never gets more, and what is counted is what it got.

use super::Fidelity;
use crate::bench::fixture;
use crate::bench::report::{Bound, Goal, Part, Row, Table};
use crate::bench::stats::{MILLION, Series};

/// Steps for a request: enough to want more than half a CPU.
const STEPS: u64 = 20_000;

pub(super) fn measure(fidelity: &Fidelity<'_>) -> anyhow::Result<Part> {
    let mut part = Part::new("quota");
    let program = fidelity.program()?;
    let image = fidelity.image(&program, "half", STEPS)?;
    let profile = fidelity.contest.scratch.path().join("half.toml");
    let text = "passes = [\"throughput\"]\n[limits]\ncpus = 0.5\nmemory = \"64MiB\"\n[throughput]\nloads = [\"closed\"]\nduration = \"3s\"\n";
    fixture::write(&profile, text.as_bytes())?;
    let mut used = Vec::new();
    let mut throttled = Vec::new();
    for _ in 0..fidelity.bench().rounds {
        let report = fidelity.report(fidelity.profile().arg(&image).arg("--profile").arg(&profile))?;
        let of = |metric: &str| super::figure(&report, metric);
        used.push((of("throughput.cpu-of-limit")? * 0.5 * MILLION as f64) as u64);
        throttled.push((of("throughput.throttled-periods")? * MILLION as f64) as u64);
    }
    let used = Series::ratios(used);
    part.tables.push(Table {
        columns: vec!["limit", "CPUs used", "periods throttled"],
        rows: vec![Row {
            name: "half a CPU".to_owned(),
            cells: vec![used.clone().into(), Series::ratios(throttled).into()],
        }],
    });
    part.goals.push(Goal::new("CPUs used under a limit of 0.5", Bound::AtMost(520_000), used));
    Ok(part)
}
