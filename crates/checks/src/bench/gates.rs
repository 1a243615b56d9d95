//! Checks the gates of `cargo xtask profile --baseline FOLDER/` as CI uses them, in short passes: an unchanged image must
//! pass, and images that take more CPU time for a request must fail by name.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::Bench;
use super::fidelity::{COST, Lab, STEPS};
use super::report::{Part, Series};
use tare_profiler::profile::gate::Outcome;
use tare_profiler::profile::metric::Unit;
use tare_profiler::profile::report::{Overall, Report};
use tare_tool::process::cmd;

/// Gates as those of the profile `ci`, without start-up and with short loads.
const PROFILE: &str = r#"
passes = ["size", "throughput", "instructions"]

[limits]
cpus = 1
memory = "64MiB"

[throughput]
loads = ["closed"]
duration = "500ms"
connections = 16

[instructions]
requests = 500
runs = 2

[gates]
"throughput.errors" = { max = 0 }
"size.image.compressed" = { max-regression = "1%" }
"throughput.cpu-per-request" = { max-regression = "5%" }
"throughput.memory.peak" = { max-regression = "10%" }
"instructions.per-request" = { max-regression = "3%" }
"#;
/// The metric that is exact where valgrind is installed.
const INSTRUCTIONS: &str = "instructions.per-request";
/// By how much more CPU time for a request the images differ from the baseline's: not, by as much as a gate is to find, and
/// by as much as docs/ci-gates.md takes for its example.
const MORE: [f64; 3] = [0.0, 0.05, 0.08];

/// What all runs of one image came to.
#[derive(Debug, Default)]
struct Count {
    runs: u32,
    /// Runs in which some gate failed, in which none failed and one was in doubt, and the rest.
    failed: u32,
    doubtful: u32,
    passed: u32,
    /// Runs in which the gate on CPU time failed, and in which the one on instructions did.
    cpu: u32,
    instructions: u32,
    seconds: Vec<f64>,
}

impl Count {
    fn add(&mut self, report: &Report, seconds: f64) {
        let failed = |metric: &str| {
            let mut verdicts = report.verdicts.iter().filter(|it| it.gate.starts_with(metric));
            verdicts.any(|verdict| verdict.outcome == Outcome::Fail)
        };
        self.runs += 1;
        match report.overall {
            Overall::Fail => self.failed += 1,
            Overall::Unreliable | Overall::Interrupted => self.doubtful += 1,
            Overall::Pass => self.passed += 1,
        }
        self.cpu += u32::from(failed(COST));
        self.instructions += u32::from(failed(INSTRUCTIONS));
        self.seconds.push(seconds);
    }
}

/// Every other round has a baseline of its own that was saved while other programs used every CPU.
pub(super) fn measure(bench: &Bench<'_>) -> anyhow::Result<Part> {
    let lab = Lab::new(&bench.context, "gates")?;
    let sh = &lab.context.sh;
    let profile = lab.profiler.write_profile("gates", PROFILE)?;
    let images = images(&lab, bench.options.rounds.min(5))?;
    let folder = lab.context.new_folder("gates-baselines")?;
    let mut counts: Vec<Count> = MORE.iter().map(|_| Count::default()).collect();
    for round in 0..bench.options.rounds {
        let baseline = format!("{}/{round}/", folder.display());
        let save = || {
            lab.profiler.report(
                cmd!(sh, "env"),
                &images[0],
                &["--profile", &profile, "--save-baseline", &baseline],
            )
        };
        if round % 2 == 0 { save() } else { under_load(save) }?;
        for ((image, count), more) in images.iter().zip(&mut counts).zip(MORE) {
            // The name of the baseline in the folder is the image's.
            let file = std::fs::read_dir(&baseline)?.flatten().map(|entry| entry.path());
            let file = file.into_iter().find(|path| path.extension().is_some_and(|it| it == "json"));
            let file = file.map(|path| path.display().to_string()).unwrap_or_default();
            let began = Instant::now();
            let arguments = ["--profile", &profile, "--baseline", &file];
            let (_, report) = lab.profiler.verdict(cmd!(sh, "env"), image, &arguments)?;
            count.add(&report, began.elapsed().as_secs_f64());
            let said = report.verdicts.iter().filter(|it| it.outcome != Outcome::Pass);
            let said: Vec<String> = said.map(|it| format!("{}: {}", it.gate, it.reason)).collect();
            let text = format!(
                "round {}, {:.0} % more: {:?} {}",
                round + 1,
                more * 100.0,
                report.overall,
                said.join("; ")
            );
            lab.context.ui.status("Judged", &text);
        }
    }
    Ok(part(&counts))
}

/// The images, from the one without more to the one with most. What a step costs is measured first.
fn images(lab: &Lab<'_>, rounds: u32) -> anyhow::Result<Vec<String>> {
    let (_, a_step) = lab.cost_of_steps(rounds)?;
    let image = |more: f64| lab.image("steps", STEPS + more * a_step);
    MORE.into_iter().map(image).collect()
}

/// Does something while threads use every CPU.
fn under_load<T>(work: impl FnOnce() -> T) -> T {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let result = work();
        stop.store(true, Ordering::Relaxed);
        result
    })
}

fn part(counts: &[Count]) -> Part {
    let columns =
        ["CPU per request", "runs", "failed", "in doubt", "passed", "by CPU", "by instructions", "seconds"];
    let mut part = Part::new(columns);
    for (count, more) in counts.iter().zip(MORE) {
        let Count { runs, failed, doubtful, passed, cpu, instructions, seconds } = count;
        let numbers = [runs, failed, doubtful, passed, cpu, instructions];
        let cells = numbers.map(|number| Series::new(Unit::Count, [f64::from(*number)])).into_iter();
        let time = Series::new(Unit::Count, seconds.iter().map(|seconds| seconds.round()));
        part.row(format!("+{:.0} %", more * 100.0), cells.chain([time]));
    }
    part.notes.push("every other baseline was saved while other programs used every CPU".to_owned());
    let mut goal = |what: &str, count: u32, of: u32, least: bool, limit: f64| {
        let (low, high) = interval(count, of);
        let share = Series::new(Unit::Share, [f64::from(count) / f64::from(of.max(1))]);
        part.notes.push(format!(
            "{what}: {count} of {of}, 95 % interval {:.1} % to {:.1} % (exact binomial)",
            low * 100.0,
            high * 100.0
        ));
        if least { part.at_least(what, share, limit) } else { part.at_most(what, share, limit) }
    };
    if let [same, five, eight] = counts {
        goal("false alarms", same.failed, same.runs, false, 0.05);
        goal("5 % more found", five.failed, five.runs, true, 0.95);
        goal("8 % more found and CPU per request named", eight.cpu, eight.runs, true, 0.9);
    }
    part
}

/// The exact 95 % interval of a share (Clopper and Pearson, 1934): the shares at which so many or more, and so many or
/// fewer, have a probability of 2.5 %.
fn interval(count: u32, of: u32) -> (f64, f64) {
    // The probability of at most `most` of `of`.
    let at_most = |most: u32, share: f64| -> f64 {
        let mut term = (1.0 - share).powi(of.cast_signed());
        let mut sum = term;
        for k in 1..=most {
            term *= f64::from(of - k + 1) / f64::from(k) * share / (1.0 - share);
            sum += term;
        }
        sum
    };
    let share_where = |is_below: &dyn Fn(f64) -> bool| {
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..60 {
            let middle = f64::midpoint(low, high);
            if is_below(middle) { low = middle } else { high = middle }
        }
        low
    };
    let low = if count == 0 { 0.0 } else { share_where(&|share| 1.0 - at_most(count - 1, share) < 0.025) };
    let high = if count >= of { 1.0 } else { share_where(&|share| at_most(count, share) > 0.025) };
    (low, high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_of_shares_are_exact() {
        // As R's `binom.test` has them.
        for (count, of, low, high) in [
            (0, 20, 0.0, 0.1684),
            (1, 20, 0.0013, 0.2487),
            (10, 20, 0.2720, 0.7280),
            (20, 20, 0.8316, 1.0),
            (0, 60, 0.0, 0.0596),
        ] {
            let (found_low, found_high) = interval(count, of);
            let rounded = |share: f64| (share * 1e4).round() / 1e4;
            assert_eq!((rounded(found_low), rounded(found_high)), (low, high), "{count} of {of}");
        }
    }
}
