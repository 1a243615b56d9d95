//! `cargo xtask profile compare A B`

use std::collections::BTreeMap;

use anyhow::bail;
use clap::Args;
use xtask_tare::environment::Environment;
use xtask_tare::ui::Ui;
use xtask_tare::units::Nanoseconds;
use xtask_tare::workspace::Workspace;

use crate::container::Runtime;
use crate::profile::compare::{self, Comparison, Key, Rules, Samples, Side};
use crate::profile::cpus;
use crate::profile::definition::Profile;
use crate::profile::definition::values::Load;
use crate::profile::measure::{self, Setting, Stage};
use crate::profile::metric::{self, Pass};
use crate::profile::render::terminal::plain;
use crate::profile::report::Run;

use super::Outcome;
use super::profile::{CommonArguments, Subject, subjects};
use super::stage;
use super::xtask::Xtask;

/// What is compared unless `--metric` says otherwise: what repeats best of what users notice.
const METRICS: [&str; 4] =
    ["startup.warm.ready", "startup.warm.cpu-to-ready", "throughput.rate", "throughput.cpu-per-request"];
/// Starts in one measuring of one image. There are many measurings, which is better than many starts in each:
/// the machine changes between them.
const STARTS: u32 = 3;
/// Of one load in one measuring, unless `--duration` says otherwise.
const DURATION: Nanoseconds = Nanoseconds(1_000_000_000);

#[derive(Debug, Args)]
pub(super) struct CompareArguments {
    /// The image that is compared with
    a: String,
    /// The image that is judged
    b: String,
    /// Only these metrics (`--list-metrics`); the sizes are always compared
    #[arg(long, value_name = "METRIC", value_delimiter = ',')]
    metric: Vec<String>,
    /// The difference that is to be found, in percent of A
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0, value_parser = resolution)]
    resolution: f64,
    /// Print the comparison as JSON
    #[arg(long, conflicts_with = "markdown")]
    json: bool,
    /// Print the comparison as Markdown
    #[arg(long)]
    markdown: bool,
    #[command(flatten)]
    common: CommonArguments,
}

impl CompareArguments {
    pub(super) fn quiet(&self) -> bool {
        self.common.quiet
    }
}

/// A percentage that can be found at all.
fn resolution(text: &str) -> Result<f64, String> {
    let percent: f64 = text.trim_end_matches('%').parse().map_err(|_| "not a number".to_owned())?;
    if (0.1..=100.0).contains(&percent) { Ok(percent) } else { Err("not from 0.1 to 100".to_owned()) }
}

pub(super) fn run(
    arguments: &CompareArguments,
    env: &Environment,
    xtask: &Xtask,
    ui: Ui,
) -> anyhow::Result<Outcome> {
    let workspace = Workspace::locate(env)?;
    let keys = keys(&arguments.metric)?;
    let mut profile = arguments.common.profile(&workspace)?;
    if profile.limits.len() > 1 {
        bail!(
            "profile {} has {} sets of limits, and two images are compared under one",
            profile.name,
            profile.limits.len()
        );
    }
    shorten(&mut profile, &arguments.common);
    let mut both = subjects(&[arguments.a.clone(), arguments.b.clone()], &workspace, xtask)?.into_iter();
    let (Some(a), Some(b)) = (both.next(), both.next()) else { bail!("two images are needed") };
    let runtime = stage::open(arguments.common.runtime, env, &workspace, xtask, ui)?;
    let program = std::env::current_exe()?;
    let allowed = cpus::allowed();
    let call = Call { profile: &profile, runtime: &runtime, program: &program, allowed: &allowed };

    ui.status("Weighing", &format!("{} and {}", a.name, b.name));
    let exact = exact(&call.weighed(&a)?, &call.weighed(&b)?);
    let rules = Rules { resolution: arguments.resolution / 100.0, ..Rules::default() };
    let progress = super::progress::Progress::start(ui);
    let mut measurings = 0_u32;
    let comparison = compare::compare(&keys, &exact, &rules, |side, keys| {
        measurings += 1;
        let (name, subject) = match side {
            Side::A => ("A", &a),
            Side::B => ("B", &b),
        };
        progress.tell(&("Comparing", format!("measuring {measurings}: {name}, {} metrics open", keys.len())));
        call.samples(subject, keys)
    })?;
    drop(progress);
    ui.result(&match (arguments.json, arguments.markdown) {
        (true, _) => compare::json(&comparison)?,
        (_, true) => compare::markdown(&comparison),
        _ => compare::terminal(&comparison),
    })?;
    outcome(&comparison)
}

fn outcome(comparison: &Comparison) -> anyhow::Result<Outcome> {
    match comparison.outcome() {
        compare::Outcome::NotWorse => Ok(Outcome::Done),
        compare::Outcome::Worse => Ok(Outcome::GateFailed),
        compare::Outcome::CannotTell => bail!("{}", comparison.conclusion()),
    }
}

/// Every metric by name, with every case that the loads of a comparison have.
fn keys(names: &[String]) -> anyhow::Result<Vec<Key>> {
    let names: Vec<&str> =
        if names.is_empty() { METRICS.to_vec() } else { names.iter().map(String::as_str).collect() };
    let mut keys = Vec::new();
    for name in names {
        let Some(metric) = metric::find(name) else {
            let known: Vec<String> = metric::TABLE.iter().map(|metric| metric.id.to_owned()).collect();
            let near = xtask_tare::document::nearest(name, &known);
            let near = near.map(|near| format!(": did you mean `{near}`?")).unwrap_or_default();
            bail!("`{name}` is not a metric{near}");
        };
        keys.push(match metric.pass {
            Pass::Size => continue,
            Pass::Startup => Key::new(metric.id),
            Pass::Throughput => Key { case: Some(Load::Closed.case()), ..Key::new(metric.id) },
        });
    }
    Ok(keys)
}

/// One measuring is short: it is repeated, in turn with the other image's, until enough is known.
fn shorten(profile: &mut Profile, common: &CommonArguments) {
    profile.startup.runs = common.runs.unwrap_or(STARTS);
    profile.startup.cold_runs = 0;
    profile.startup.floor = false;
    profile.throughput.loads = vec![Load::Closed];
    profile.throughput.duration = common.duration.unwrap_or(DURATION);
}

/// The figures of both that repeat exactly.
fn exact(a: &Run, b: &Run) -> BTreeMap<Key, (f64, f64)> {
    let whole = |run: &Run| -> BTreeMap<Key, f64> {
        let whole = run.measurements.iter().filter(|it| it.case.is_none());
        whole.map(|it| (Key::new(it.metric), it.value)).collect()
    };
    let b = whole(b);
    whole(a).into_iter().filter_map(|(key, value)| Some((key.clone(), (value, *b.get(&key)?)))).collect()
}

struct Call<'a> {
    profile: &'a Profile,
    runtime: &'a Runtime,
    program: &'a std::path::Path,
    allowed: &'a [usize],
}

impl Call<'_> {
    fn setting<'a>(&'a self, subject: &'a Subject, profile: &'a Profile) -> Setting<'a> {
        let Subject { target, twin, .. } = subject;
        Setting { target, twin: twin.as_deref(), profile, program: self.program, allowed: self.allowed }
    }

    fn weighed(&self, subject: &Subject) -> anyhow::Result<Run> {
        Ok(measure::weigh(&self.setting(subject, self.profile))?)
    }

    /// One measuring of one image, as far as these metrics need it.
    fn samples(&self, subject: &Subject, keys: &[Key]) -> anyhow::Result<Samples> {
        let needed = |pass: &Pass| {
            keys.iter().any(|key| metric::find(key.metric).is_some_and(|metric| metric.pass == *pass))
        };
        let passes: Vec<Pass> = Pass::ALL.into_iter().filter(needed).collect();
        let profile = Profile { passes, ..self.profile.clone() };
        let stage = Stage { runtime: self.runtime, floor: None, roots: &[] };
        let limits = profile.limits.first().cloned().unwrap_or_default();
        let run = measure::run(&self.setting(subject, &profile), &stage, &limits, |_| {})?;
        if let Some(event) = run.events.first() {
            let output: String = event.output.iter().map(|line| format!("\n  | {}", plain(line))).collect();
            bail!("{}: {}: {}{output}", subject.name, event.kind.name(), event.message);
        }
        let mut samples = Samples::new();
        for measurement in run.measurements {
            let key = Key { metric: measurement.metric, case: measurement.case };
            // One number for one measuring: windows next to each other are not independent.
            samples.insert(key, vec![measurement.value]);
        }
        Ok(samples)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_found_or_the_nearest_is_named() {
        let default: Vec<String> = keys(&[]).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(
            default,
            [
                "startup.warm.ready",
                "startup.warm.cpu-to-ready",
                "throughput.rate@closed",
                "throughput.cpu-per-request@closed"
            ]
        );
        let error = keys(&["throughput.rat".to_owned()]).unwrap_err().to_string();
        assert_eq!(error, "`throughput.rat` is not a metric: did you mean `throughput.rate`?");
    }

    #[test]
    fn a_resolution_is_a_percentage() {
        assert_eq!((resolution("5"), resolution("2.5%")), (Ok(5.0), Ok(2.5)));
        assert!(resolution("0").is_err() && resolution("x").is_err() && resolution("NaN").is_err());
    }
}
