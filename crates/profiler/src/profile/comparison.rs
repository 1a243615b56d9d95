//! Compares two images: measures both in turn, as often as the question needs, and says of each metric whether B is worse.

use std::collections::BTreeMap;
use std::path::PathBuf;

use tare_container::{Runtime, Target};
use tare_oci::units::Nanoseconds;

use super::compare::{self, Comparison, Key, Rules, Samples, Side};
use super::cpus::HostCpus;
use super::definition::values::Load;
use super::definition::{Limits, Profile};
use super::measure::{self, Setting, Stage, Step};
use super::measurement::Measurement;
use super::metric::{self, Class, Direction, Pass};
use super::render::terminal::plain;
use super::report::{Event, EventKind};
use super::request::{Image, Options, ProfileError};
use super::size::{self, SizeResult};
use super::stats;
use super::throughput::turns::TurnsError;
use super::validity::GENERATOR_CPU;

/// The metrics that are compared by default: those that users notice and that vary least between runs.
const METRICS: [&str; 4] =
    ["startup.warm.ready", "startup.warm.cpu-to-ready", "throughput.rate", "throughput.cpu-per-request"];

/// The passes that two images are compared by.
const COMPARED: [Pass; 3] = Pass::DEFAULT;

/// What to compare, and how carefully.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// The metrics.
    pub keys: Vec<Key>,
    /// Whether all sizes are compared, and not only those among the metrics.
    pub sizes: bool,
    /// The difference to find, and the chance of a false alarm.
    pub rules: Rules,
    /// Other differences to find, for some of the metrics.
    pub resolutions: BTreeMap<Key, f64>,
    /// Starts in one measurement of one image. There are many measurements, which is better than many starts in each:
    /// the machine changes between them.
    pub starts: u32,
    /// How long a load runs in one measurement.
    pub duration: Nanoseconds,
}

impl Question {
    /// The metrics by their ids, or the usual ones and all sizes where there are none, with the usual care. Only those of
    /// `passes`, if there are any.
    ///
    /// # Errors
    /// When a metric is unknown, is neither better nor worse when it changes, or is of another pass.
    pub fn new(metrics: &[String], passes: &[Pass]) -> Result<Self, MetricError> {
        let (rules, duration) = (Rules::default(), Nanoseconds(1_000_000_000));
        let sizes = metrics.is_empty() && (passes.is_empty() || passes.contains(&Pass::Size));
        Ok(Self {
            keys: keys(metrics, passes)?,
            sizes,
            rules,
            resolutions: BTreeMap::new(),
            starts: 3,
            duration,
        })
    }
}

/// A metric that cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MetricError(String);

/// Why there is no comparison.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// Two images are compared under one set of limits.
    #[error("profile {name} has {limits} sets of limits, and two images are compared under one")]
    Limits {
        /// The profile.
        name: String,
        /// How many it has.
        limits: usize,
    },
    /// An image cannot be read, or a container cannot be had.
    #[error("{0}")]
    Profile(#[from] ProfileError),
    /// A server failed.
    #[error("{0}")]
    Server(#[from] ServerFailure),
}

/// The only limits of a profile under which two images are compared.
///
/// # Errors
/// When it has several.
pub fn limits(profile: &Profile) -> Result<Limits, CompareError> {
    match profile.limits.as_slice() {
        [limits] => Ok(limits.clone()),
        several => Err(CompareError::Limits { name: profile.name.clone(), limits: several.len() }),
    }
}

/// Compares B with A. `watch` is called with every step that is begun.
///
/// # Errors
/// When an image cannot be read, a container cannot be had, or a server fails: [`ServerFailure::is_worse`] says whether
/// that answers the question.
pub fn compare(
    a: &Image,
    b: &Image,
    profile: &Profile,
    question: &Question,
    options: &Options<'_>,
    mut watch: impl FnMut(Step<'_>),
) -> Result<Comparison, CompareError> {
    let limits = limits(profile)?;
    let profile = shortened(profile, question);
    let runtime = options.runtime.ok_or_else(|| ProfileError::NoRuntime(profile.name.clone()))?;
    let (program, host) = (options.generator()?, HostCpus::read());
    let (apart, generator) = (None, vec![]);
    let mut call = Call { profile: &profile, limits, runtime, program, host, apart, generator };
    let sizes = [call.sizes(a)?, call.sizes(b)?];
    let mut exact = exact(&sizes);
    exact.retain(|key, _| question.sizes || question.keys.contains(key));
    let mut pair = 0;
    let resolution = |key: &Key| question.resolutions.get(key).copied().unwrap_or(question.rules.resolution);
    let mut comparison =
        compare::compare_each(&question.keys, &exact, &question.rules, resolution, |sides, keys| {
            pair += 1;
            watch(Step::Comparing { pair, sides, metrics: keys.len() });
            call.pair(sides.map(|side| (side, if side == Side::A { a } else { b })), keys)
        })?;
    if !exact.is_empty() {
        comparison.sizes = size::diff(&sizes[0], &sizes[1]);
    }
    comparison.notes = call.notes(&question.keys);
    Ok(comparison)
}

/// One measurement is short: it is repeated, in turn with the other image's, until enough is known.
fn shortened(profile: &Profile, question: &Question) -> Profile {
    let mut profile = profile.clone();
    profile.startup.runs = question.starts;
    profile.startup.cold_runs = 0;
    profile.startup.runtime_baseline = false;
    profile.throughput.loads = vec![Load::Closed];
    profile.throughput.duration = question.duration;
    profile.instructions.runs = 1;
    profile
}

/// Every metric by name, with every case that the loads of a comparison have.
fn keys(names: &[String], passes: &[Pass]) -> Result<Vec<Key>, MetricError> {
    let asked = |pass: Pass| passes.is_empty() || passes.contains(&pass);
    let usual = METRICS.iter().filter(|id| metric::find(id).is_some_and(|metric| asked(metric.pass)));
    let names: Vec<&str> =
        if names.is_empty() { usual.copied().collect() } else { names.iter().map(String::as_str).collect() };
    let mut keys = Vec::new();
    for name in names {
        let Some(metric) = metric::find(name) else {
            let known: Vec<String> = metric::TABLE.iter().map(|metric| metric.id.to_owned()).collect();
            let near = tare_tool::document::nearest(name, &known);
            let near = near.map(|near| format!(": did you mean `{near}`?")).unwrap_or_default();
            return Err(MetricError(format!("`{name}` is not a metric{near}")));
        };
        if !asked(metric.pass) {
            return Err(MetricError(format!(
                "`{name}` is of the {} pass, which `--pass` leaves out",
                metric.pass.name()
            )));
        }
        if !COMPARED.contains(&metric.pass) {
            return Err(MetricError(format!(
                "`{name}` is of the {} pass, which compares no images",
                metric.pass.name()
            )));
        }
        if metric.direction == Direction::Neither {
            let why = "cannot be compared: neither more nor less of it is better";
            return Err(MetricError(format!("`{name}` {why}")));
        }
        keys.push(match metric.pass {
            // Those of the whole image are compared exactly; others have no values here, which the result says.
            Pass::Throughput => of_load(metric.id),
            _ => Key::new(metric.id),
        });
    }
    // What is fast because it fails is not better.
    if keys.iter().any(|key| key.pass() == Some(Pass::Throughput)) {
        keys.push(of_load(metric::ERRORS));
    }
    Ok(keys)
}

/// What measures the noisy gates of a profile again, each to the difference that it allows: none where it has none.
pub(super) fn of_gates(profile: &Profile) -> Option<Question> {
    let mut resolutions: BTreeMap<Key, f64> = BTreeMap::new();
    for gate in &profile.gates {
        let metric = gate.definition();
        let asked = COMPARED.contains(&metric.pass)
            && metric.class == Class::Noisy
            && profile.passes.contains(&metric.pass);
        // A difference that no machine shows is not looked for.
        let Some(allowed) = gate.max_regression.filter(|allowed| asked && *allowed >= LEAST) else {
            continue;
        };
        let least = resolutions.entry(again(metric.id)).or_insert(allowed);
        *least = least.min(allowed);
    }
    let keys: Vec<Key> = resolutions.keys().cloned().collect();
    let duration = profile.throughput.duration.min(Nanoseconds(1_000_000_000));
    let rules = Rules::default();
    (!keys.is_empty()).then_some(Question { keys, sizes: false, rules, resolutions, starts: 3, duration })
}

/// The least difference that is worth pairs.
const LEAST: f64 = 0.001;

/// What a gate's metric is when it is measured again: loads are closed loops then, whatever case the gate names.
pub(super) fn again(metric: &'static str) -> Key {
    match metric::find(metric).map(|metric| metric.pass) {
        Some(Pass::Throughput) => of_load(metric),
        _ => Key::new(metric),
    }
}

/// A metric of the load of comparisons.
fn of_load(metric: &'static str) -> Key {
    Key { case: Some(Load::Closed.case()), ..Key::new(metric) }
}

/// The figures of both that repeat exactly.
fn exact(sizes: &[SizeResult; 2]) -> BTreeMap<Key, (f64, f64)> {
    let [a, b] = sizes.each_ref().map(|result| -> BTreeMap<Key, f64> {
        let whole = size::measurements(result).into_iter().filter(|it| it.case.is_none());
        whole.map(|it| (Key::new(it.metric), it.value)).collect()
    });
    a.into_iter().filter_map(|(key, value)| Some((key.clone(), (value, *b.get(&key)?)))).collect()
}

struct Call<'a> {
    profile: &'a Profile,
    limits: Limits,
    runtime: &'a Runtime,
    program: PathBuf,
    host: HostCpus,
    /// Why the servers cannot be loaded in turns.
    apart: Option<TurnsError>,
    /// The share of its CPUs that the generator used in each load.
    generator: Vec<f64>,
}

impl Call<'_> {
    fn setting<'a>(&'a self, image: &'a Image, profile: &'a Profile) -> Setting<'a> {
        let unstripped = image.unstripped.as_deref();
        Setting { target: &image.target, unstripped, profile, program: &self.program, host: &self.host }
    }

    fn stage(&self) -> Stage<'_> {
        Stage { runtime: self.runtime, runtime_baseline: None, neighbour: None, roots: &[] }
    }

    fn sizes(&self, image: &Image) -> Result<SizeResult, ProfileError> {
        let Target { source, image: read, .. } = &image.target;
        Ok(size::run(source, read, image.unstripped.as_deref())?)
    }

    /// One measurement of two images, as far as these metrics need it.
    fn pair(&mut self, images: [(Side, &Image); 2], keys: &[Key]) -> Result<[Samples; 2], CompareError> {
        let needed = |pass: Pass| keys.iter().any(|key| key.pass() == Some(pass));
        let mut both = [Samples::new(), Samples::new()];
        for pass in [Pass::Startup, Pass::Instructions].into_iter().filter(|pass| needed(*pass)) {
            for (samples, image) in both.iter_mut().zip(images) {
                samples.extend(self.alone(image, pass)?);
            }
        }
        if needed(Pass::Throughput) {
            let loads = match self.in_turns(images)? {
                Some(loads) => loads,
                None => {
                    let [first, second] = images;
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
    fn in_turns(&mut self, images: [(Side, &Image); 2]) -> Result<Option<[Samples; 2]>, CompareError> {
        if self.apart.is_some() {
            return Ok(None);
        }
        let settings = images.map(|(_, image)| self.setting(image, self.profile));
        match measure::in_turns(settings.each_ref(), &self.stage(), &self.limits) {
            Ok(measurements) => Ok(Some(measurements.map(samples))),
            Err(TurnsError::Failed { side, source }) if source.is_the_servers() => {
                Err(ServerFailure::new(images[side], &measure::event(Pass::Throughput, &source)).into())
            }
            Err(TurnsError::Failed { source, .. }) => Err(ProfileError::from(*source).into()),
            Err(obstacle) => {
                self.apart = Some(obstacle);
                Ok(None)
            }
        }
    }

    /// One pass of one image.
    fn alone(&self, image: (Side, &Image), pass: Pass) -> Result<Samples, CompareError> {
        let profile = Profile { passes: vec![pass], ..self.profile.clone() };
        let run = measure::run(&self.setting(image.1, &profile), &self.stage(), &self.limits, |_| {});
        let run = run.map_err(ProfileError::from)?;
        match run.failure() {
            Some(event) => Err(ServerFailure::new(image, event).into()),
            None => Ok(samples(run.measurements)),
        }
    }

    /// What a reader of the comparison should know.
    fn notes(&self, keys: &[Key]) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(why) = &self.apart {
            notes.push(format!("loaded one after the other and not in turns, which shows less: {why}"));
        }
        let by_generator =
            |key: &Key| key.metric == "throughput.rate" || key.metric.starts_with("throughput.latency");
        let busy = stats::median(&self.generator).filter(|busy| *busy > GENERATOR_CPU);
        if let Some(busy) = busy.filter(|_| keys.iter().any(by_generator)) {
            notes.push(format!(
                "the generator used {:.0} % of its CPU, so that rates and latencies may be its own and hide a difference: CPU time for a request is not",
                busy * 100.0
            ));
        }
        notes
    }
}

/// A server did something wrong.
#[derive(Debug, thiserror::Error)]
#[error("{side:?}, {name}: {}: {message}{output}", kind.name())]
pub struct ServerFailure {
    /// The image.
    pub side: Side,
    /// Its name.
    pub name: String,
    /// What it did.
    pub kind: EventKind,
    message: String,
    /// Its last lines, below the message.
    output: String,
}

impl ServerFailure {
    fn new((side, image): (Side, &Image), event: &Event) -> Self {
        let output = event.output.iter().map(|line| format!("\n  | {}", plain(line))).collect();
        let (name, message) = (image.name.clone(), event.message.clone());
        Self { side, name, kind: event.kind, message, output }
    }

    /// Whether B is worse for it. What never became ready was not compared, and A's failures say nothing of B; but a server
    /// that is killed for its memory is wrong on any side.
    #[must_use]
    pub fn is_worse(&self) -> bool {
        match self.kind {
            EventKind::OutOfMemory => true,
            EventKind::Crash | EventKind::WrongAnswers => self.side == Side::B,
            EventKind::NotReady | EventKind::Stuck => false,
        }
    }
}

/// One number for one measurement: windows next to each other are not independent.
fn samples(measurements: Vec<Measurement>) -> Samples {
    let sample = |it: Measurement| (Key { metric: it.metric, case: it.case }, vec![it.value]);
    measurements.into_iter().map(sample).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_found_or_the_nearest_is_named() {
        let default: Vec<String> = keys(&[], &[]).unwrap().iter().map(ToString::to_string).collect();
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
        let named =
            |name: &str| keys(&[name.to_owned()], &[]).map(|keys| keys.len()).map_err(|it| it.to_string());
        assert_eq!((named("startup.cold.ready"), named("size.layer.compressed")), (Ok(1), Ok(1)));
        let question = |metric: &[&str], passes: &[Pass]| {
            let names: Vec<String> = metric.iter().map(|id| (*id).to_owned()).collect();
            let shown = |question: Question| {
                (question.sizes, question.keys.iter().map(ToString::to_string).collect::<Vec<_>>())
            };
            Question::new(&names, passes).map(shown).map_err(|error| error.to_string())
        };
        let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        assert_eq!(question(&[], &[Pass::Size]), Ok((true, ids(&[]))));
        let starts = ids(&["startup.warm.ready", "startup.warm.cpu-to-ready"]);
        assert_eq!(question(&[], &[Pass::Startup]), Ok((false, starts)));
        assert_eq!(question(&["size.wasted"], &[]), Ok((false, ids(&["size.wasted"]))));
        assert_eq!(
            question(&["throughput.rate"], &[Pass::Startup]),
            Err("`throughput.rate` is of the throughput pass, which `--pass` leaves out".to_owned())
        );
        let error = "`throughput.requests` cannot be compared: neither more nor less of it is better";
        assert_eq!(named("throughput.requests"), Err(error.to_owned()));
        let error = keys(&["throughput.rat".to_owned()], &[]).unwrap_err().to_string();
        assert_eq!(error, "`throughput.rat` is not a metric: did you mean `throughput.rate`?");
    }
}
