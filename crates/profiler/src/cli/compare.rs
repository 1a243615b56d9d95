//! `cargo xtask profile compare A B`

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::bail;
use clap::Args;
use tare_oci::units::Nanoseconds;
use tare_tool::environment::Environment;
use tare_tool::plan::Wanted;
use tare_tool::ui::Ui;

use crate::profile::compare::{self, Comparison, Key, Rules, Samples, Side};
use crate::profile::cpus;
use crate::profile::definition::values::Load;
use crate::profile::definition::{Limits, Profile};
use crate::profile::measure::{self, Setting, Stage};
use crate::profile::measurement::Measurement;
use crate::profile::metric::{self, Direction, Pass};
use crate::profile::render::terminal::plain;
use crate::profile::report::{Event, EventKind, Run};
use crate::profile::stats;
use crate::profile::throughput::turns::TurnsError;
use crate::profile::validity::GENERATOR_CPU;
use tare_container::Runtime;

use super::Outcome;
use super::profile::{CommonArguments, Subject, hand_over, subjects, wanted};
use super::stage::{self, Session, Way};

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

    fn images(&self) -> [String; 2] {
        [self.a.clone(), self.b.clone()]
    }

    /// The profile, with short measurements.
    fn profile(&self, root: &Path) -> anyhow::Result<Profile> {
        let mut profile = self.common.profile(root)?;
        if profile.limits.len() > 1 {
            bail!(
                "profile {} has {} sets of limits, and two images are compared under one",
                profile.name,
                profile.limits.len()
            );
        }
        shorten(&mut profile, &self.common);
        Ok(profile)
    }
}

/// A percentage that can be found at all.
fn resolution(text: &str) -> Result<f64, String> {
    let percent: f64 = text.trim_end_matches('%').parse().map_err(|_| "not a number".to_owned())?;
    if (0.1..=100.0).contains(&percent) { Ok(percent) } else { Err("not from 0.1 to 100".to_owned()) }
}

/// What a comparison needs before it can run.
pub(super) fn plan(arguments: &CompareArguments, root: &Path, env: &Environment) -> anyhow::Result<Wanted> {
    keys(&arguments.metric)?;
    let profile = arguments.profile(root)?;
    let keeper = stage::check(&arguments.common, &profile, env)?;
    Ok(Wanted { images: wanted(&arguments.images())?, keeper, quiet: arguments.common.quiet })
}

pub(super) fn run(arguments: &CompareArguments, session: &Session) -> anyhow::Result<Outcome> {
    let ui = session.ui;
    let keys = keys(&arguments.metric)?;
    let profile = arguments.profile(&session.plan.workspace.root)?;
    let way = stage::choose(&arguments.common, session)?;
    let both = subjects(&arguments.images(), session)?;
    let kind = match way {
        Way::Here(kind) => kind,
        Way::Sudo => return hand_over(&arguments.common, &both, session),
    };
    let mut both = both.into_iter();
    let (Some(a), Some(b)) = (both.next(), both.next()) else { bail!("two images are needed") };
    let runtime = stage::open(kind, session)?;
    let program = std::env::current_exe()?;
    let allowed = cpus::allowed();
    let mut call = Call {
        profile: &profile,
        runtime: &runtime,
        program: &program,
        allowed: &allowed,
        apart: None,
        generator: vec![],
    };

    ui.status("Weighing", &format!("{} and {}", a.name, b.name));
    let exact = exact(&call.weighed(&a)?, &call.weighed(&b)?);
    let rules = Rules { resolution: arguments.resolution / 100.0, ..Rules::default() };
    let progress = super::progress::Progress::start(ui);
    let mut pairs = 0_u32;
    let result = compare::compare(&keys, &exact, &rules, |sides, keys| {
        pairs += 1;
        let [first, second] = sides;
        let open = keys.len();
        progress.tell(&("Comparing", format!("pair {pairs}: {first:?} and {second:?}, {open} metrics open")));
        call.pair(sides.map(|side| (side, if side == Side::A { &a } else { &b })), keys)
    });
    drop(progress);
    let comparison = match result {
        Ok(comparison) => comparison,
        Err(error) => return of_failure(error, ui),
    };
    if let Some(why) = &call.apart {
        ui.warning(&format!("loaded one after the other and not in turns, which shows less: {why}"));
    }
    if let Some(busy) = call.generator_bound(&keys) {
        ui.warning(&format!(
            "the generator used {:.0} % of its CPU, so that rates and latencies may be its own and hide a difference: CPU time for a request is not",
            busy * 100.0
        ));
    }
    ui.result(&match (arguments.json, arguments.markdown) {
        (true, _) => compare::json(&comparison)?,
        (_, true) => compare::markdown(&comparison),
        _ => compare::terminal(&comparison),
    })?;
    outcome(&comparison)
}

/// What a server did wrong ends the comparison: B is worse for it, and so is whatever the kernel has to kill.
fn of_failure(error: anyhow::Error, ui: Ui) -> anyhow::Result<Outcome> {
    match error.downcast_ref::<ServerFailure>() {
        Some(failure) if failure.is_worse() => {
            ui.error(&failure.to_string(), None);
            Ok(Outcome::GateFailed)
        }
        _ => Err(error),
    }
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
            let near = tare_tool::document::nearest(name, &known);
            let near = near.map(|near| format!(": did you mean `{near}`?")).unwrap_or_default();
            bail!("`{name}` is not a metric{near}");
        };
        if metric.direction == Direction::Neither {
            bail!("`{name}` cannot be compared: neither more nor less of it is better");
        }
        keys.push(match metric.pass {
            // Those of the whole image are compared exactly; others have no values here, which is said.
            Pass::Size | Pass::Startup => Key::new(metric.id),
            Pass::Throughput => of_load(metric.id),
        });
    }
    // What is fast because it fails is not better.
    if keys.iter().any(|key| metric::find(key.metric).is_some_and(|it| it.pass == Pass::Throughput)) {
        keys.push(of_load(metric::ERRORS));
    }
    Ok(keys)
}

/// A metric of the load of comparisons.
fn of_load(metric: &'static str) -> Key {
    Key { case: Some(Load::Closed.case()), ..Key::new(metric) }
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
    program: &'a Path,
    allowed: &'a [usize],
    /// Why the servers cannot be loaded in turns.
    apart: Option<TurnsError>,
    /// The share of its CPUs that the generator used in each load.
    generator: Vec<f64>,
}

impl Call<'_> {
    fn setting<'a>(&'a self, subject: &'a Subject, profile: &'a Profile) -> Setting<'a> {
        let Subject { target, twin, .. } = subject;
        Setting { target, twin: twin.as_deref(), profile, program: self.program, allowed: self.allowed }
    }

    fn weighed(&self, subject: &Subject) -> anyhow::Result<Run> {
        Ok(measure::weigh(&self.setting(subject, self.profile))?)
    }

    /// One measuring of two images, as far as these metrics need it.
    fn pair(&mut self, subjects: [(Side, &Subject); 2], keys: &[Key]) -> anyhow::Result<[Samples; 2]> {
        let needed = |pass: Pass| {
            keys.iter().any(|key| metric::find(key.metric).is_some_and(|metric| metric.pass == pass))
        };
        let mut both = [Samples::new(), Samples::new()];
        if needed(Pass::Startup) {
            for (samples, subject) in both.iter_mut().zip(subjects) {
                samples.extend(self.alone(subject, Pass::Startup)?);
            }
        }
        if needed(Pass::Throughput) {
            let loads = match self.in_turns(subjects)? {
                Some(loads) => loads,
                None => {
                    let [first, second] = subjects;
                    [self.alone(first, Pass::Throughput)?, self.alone(second, Pass::Throughput)?]
                }
            };
            let share = of_load("throughput.generator-cpu");
            for (samples, load) in both.iter_mut().zip(loads) {
                self.generator.extend(load.get(&share).into_iter().flatten());
                samples.extend(load);
            }
        }
        Ok(both)
    }

    /// The load of both in turns. None where that cannot be, then and from then on.
    fn in_turns(&mut self, subjects: [(Side, &Subject); 2]) -> anyhow::Result<Option<[Samples; 2]>> {
        if self.apart.is_some() {
            return Ok(None);
        }
        let stage = Stage { runtime: self.runtime, floor: None, roots: &[] };
        let settings = subjects.map(|(_, subject)| self.setting(subject, self.profile));
        match measure::in_turns(settings.each_ref(), &stage, &self.limits()) {
            Ok(measurements) => Ok(Some(measurements.map(samples))),
            Err(TurnsError::Failed { side, source }) if source.is_the_servers() => {
                let (side, subject) = subjects[side];
                Err(ServerFailure::new(side, subject, &measure::event(Pass::Throughput, &source)).into())
            }
            Err(TurnsError::Failed { source, .. }) => Err((*source).into()),
            Err(obstacle) => {
                self.apart = Some(obstacle);
                Ok(None)
            }
        }
    }

    /// One pass of one image.
    fn alone(&self, (side, subject): (Side, &Subject), pass: Pass) -> anyhow::Result<Samples> {
        let profile = Profile { passes: vec![pass], ..self.profile.clone() };
        let stage = Stage { runtime: self.runtime, floor: None, roots: &[] };
        let run = measure::run(&self.setting(subject, &profile), &stage, &self.limits(), |_| {})?;
        match run.events.first() {
            Some(event) => Err(ServerFailure::new(side, subject, event).into()),
            None => Ok(samples(run.measurements)),
        }
    }

    /// How busy the generator was, if that was too much for one of these metrics.
    fn generator_bound(&self, keys: &[Key]) -> Option<f64> {
        let by_it =
            |key: &Key| key.metric == "throughput.rate" || key.metric.starts_with("throughput.latency");
        let busy = stats::median(&self.generator)?;
        (busy > GENERATOR_CPU && keys.iter().any(by_it)).then_some(busy)
    }

    fn limits(&self) -> Limits {
        self.profile.limits.first().cloned().unwrap_or_default()
    }
}

/// A server did something wrong.
#[derive(Debug, thiserror::Error)]
#[error("{side:?}, {name}: {}: {message}{output}", kind.name())]
struct ServerFailure {
    side: Side,
    name: String,
    kind: EventKind,
    message: String,
    /// Its last lines, below the message.
    output: String,
}

impl ServerFailure {
    fn new(side: Side, subject: &Subject, event: &Event) -> Self {
        let output = event.output.iter().map(|line| format!("\n  | {}", plain(line))).collect();
        let (name, message) = (subject.name.clone(), event.message.clone());
        Self { side, name, kind: event.kind, message, output }
    }

    /// Whether it is an answer to the comparison. What never became ready was not compared, and A's failures
    /// say nothing of B; but a server that is killed for its memory is wrong on any side.
    fn is_worse(&self) -> bool {
        match self.kind {
            EventKind::OutOfMemory => true,
            EventKind::Crash | EventKind::WrongAnswers => self.side == Side::B,
            EventKind::NotReady | EventKind::Stuck => false,
        }
    }
}

/// One number for one measuring: windows next to each other are not independent.
fn samples(measurements: Vec<Measurement>) -> Samples {
    let sample = |it: Measurement| (Key { metric: it.metric, case: it.case }, vec![it.value]);
    measurements.into_iter().map(sample).collect()
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
                "throughput.cpu-per-request@closed",
                "throughput.errors@closed"
            ]
        );
        let named = |name: &str| keys(&[name.to_owned()]).map(|keys| keys.len()).map_err(|it| it.to_string());
        assert_eq!((named("startup.cold.ready"), named("size.layer.compressed")), (Ok(1), Ok(1)));
        let error = "`throughput.requests` cannot be compared: neither more nor less of it is better";
        assert_eq!(named("throughput.requests"), Err(error.to_owned()));
        let error = keys(&["throughput.rat".to_owned()]).unwrap_err().to_string();
        assert_eq!(error, "`throughput.rat` is not a metric: did you mean `throughput.rate`?");
    }

    #[test]
    fn a_resolution_is_a_percentage() {
        assert_eq!((resolution("5"), resolution("2.5%")), (Ok(5.0), Ok(2.5)));
        assert!(resolution("0").is_err() && resolution("x").is_err() && resolution("NaN").is_err());
    }
}
