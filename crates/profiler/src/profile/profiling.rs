//! Profiles an image: runs every pass of a profile and puts the figures, their circumstances and the verdict into one
//! report.

use std::path::{Path, PathBuf};

use tare_container::host::HostFacts;
use tare_container::rights::is_root;
use tare_container::target::{Target, host_architecture};
use tare_container::{Confinement, Runtime};
use tare_oci::platform::Platform;
use tare_oci::units::Epoch;

use super::abilities;
use super::baseline::Baseline;
use super::compare::{Finding, Row};
use super::comparison;
use super::cpus::{self, HostCpus};
use super::definition::{CpuLimit, Gate, Profile};
use super::gate::{Again, Outcome};
use super::isolation::neighbour;
use super::measure::{self, Setting, Stage, Step};
use super::metric::Pass;
use super::render::units;
use super::report::{self, EventKind, Overall, Report, RuntimeFacts, SCHEMA};
use super::request::{Image, Options, ProfileError};
use super::several;
use super::startup::runtime_baseline;
use super::subject::PassError;

/// Runs every pass of the profile on the image, under each of its limits, and judges the profile's gates. `watch` is called
/// with every step that is begun or done.
///
/// A server that fails does not fail this function: it is an event of the report, whose verdict it decides.
///
/// # Errors
/// When the image cannot be read, the host or the runtime does not do what it is asked to, or the baseline does not fit.
pub fn profile(
    image: &Image,
    profile: &Profile,
    options: &Options<'_>,
    mut watch: impl FnMut(Step<'_>),
) -> Result<Report, ProfileError> {
    let mut report = new_report(image, profile, options.runtime);
    if let Some(baseline) = options.baseline {
        let gates: &[Gate] = if options.before.is_some() { &[] } else { &profile.gates };
        baseline.check(&report, gates)?;
    }
    report.runs = measured(image, profile, options, &mut watch)?;
    let failed = report.runs.iter().any(|run| run.failure().is_some());
    let again = match options.before.filter(|_| options.baseline.is_some() && !failed) {
        Some(before) => in_turns(before, image, profile, options, watch)?,
        None => Vec::new(),
    };
    report::judge_again(&mut report, profile, options.baseline, &again);
    Ok(report)
}

/// Runs every pass of the profile on all images in as many rounds as the profile asks for, and merges the rounds of each image
/// into one report, in the order of the images. `watch` is called with the image, the number of the round from 1, and every
/// step. An image that did not become ready in one round is not started in the next.
///
/// Gates that compare with a baseline are not judged: they measure both images in turn themselves.
///
/// # Errors
/// As [`profile`].
pub fn in_rounds(
    images: &[&Image],
    profile: &Profile,
    options: &Options<'_>,
    mut watch: impl FnMut(&Image, u32, Step<'_>),
) -> Result<Vec<Report>, ProfileError> {
    let mut reports: Vec<Report> =
        images.iter().map(|image| new_report(image, profile, options.runtime)).collect();
    let mut measured: Vec<Vec<Vec<report::Run>>> = vec![Vec::new(); images.len()];
    for round in 0..profile.rounds {
        for at in several::order(round, images.len()) {
            let (image, before) = (images[at], &mut measured[at]);
            let gone = |run: &report::Run| run.events.iter().any(|event| event.kind == EventKind::NotReady);
            if before.iter().flatten().any(gone) {
                continue;
            }
            // A size is the same in every round.
            let passes = profile.passes.iter().copied().filter(|pass| round == 0 || *pass != Pass::Size);
            let of_round = Profile { passes: passes.collect(), ..profile.clone() };
            if !of_round.passes.is_empty() {
                before.push(self::measured(image, &of_round, options, |step| watch(image, round + 1, step))?);
            }
        }
    }
    for (report, rounds) in reports.iter_mut().zip(measured) {
        report.runs = several::merge(rounds);
        report::judge(report, profile, None);
    }
    Ok(reports)
}

/// Measures the metrics of the noisy regression gates again, of the baseline's image and of this one in turns.
///
/// What is compared is each image under the profile's limits but its quota, which would interrupt the turns: the server has
/// as many whole CPUs.
fn in_turns(
    before: &Image,
    image: &Image,
    profile: &Profile,
    options: &Options<'_>,
    watch: impl FnMut(Step<'_>),
) -> Result<Vec<Again>, ProfileError> {
    let (Some(question), [limits]) = (comparison::of_gates(profile), profile.limits.as_slice()) else {
        return Ok(Vec::new());
    };
    let mut profile = profile.clone();
    let whole =
        limits.cpu.map(|cpu| CpuLimit::cpus(cpu.as_cpus().ceil())).transpose().map_err(PassError::from)?;
    profile.limits[0].cpu = whole;
    let options = Options { baseline: None, before: None, ..options.clone() };
    let comparison = comparison::compare(before, image, &profile, &question, &options, watch);
    let comparison = comparison.map_err(|error| ProfileError::Turns(error.into()))?;
    let again = profile.gates.iter().filter_map(|gate| {
        let key = comparison::again(gate.metric);
        let row = comparison.rows.iter().find(|row| row.key == key)?;
        let allowed = question.resolutions.get(&key)?;
        Some(Again { metric: gate.metric, outcome: outcome(row.finding)?, reason: reason(row, *allowed) })
    });
    Ok(again.collect())
}

/// None where the stored figures have to do.
fn outcome(finding: Finding) -> Option<Outcome> {
    match finding {
        Finding::Better | Finding::Same => Some(Outcome::Pass),
        Finding::Worse => Some(Outcome::Fail),
        Finding::Undecided | Finding::TooNoisy => Some(Outcome::Unreliable),
        Finding::NotMeasured => None,
    }
}

fn reason(row: &Row, allowed: f64) -> String {
    let shown = |value: Option<f64>| value.map(|value| units::shown(value, row.key.definition().unit));
    let allowed = format!("{:.1} %", allowed * 100.0);
    if row.finding == Finding::TooNoisy {
        return format!("in turns with the baseline's image: this machine is too noisy to find {allowed}");
    }
    let figures = match (shown(row.b), shown(row.a)) {
        (Some(now), Some(before)) => format!("{now} beside the baseline's {before}"),
        _ => "no figures".to_owned(),
    };
    let change = row.change.map(|change| format!(", {:+.1} %", change * 100.0)).unwrap_or_default();
    let finding = match row.finding {
        Finding::Worse => format!("worse, and the gate allows {allowed}"),
        Finding::Undecided => format!("{allowed} could be neither found nor ruled out"),
        _ => format!("not worse by {allowed}"),
    };
    format!("{figures}{change} in {} pairs: {finding}", row.pairs)
}

/// Measures a second time what `first` is the report of, and makes a baseline of the second run if both agree.
///
/// # Errors
/// As [`profile`], and when the runs differ by more than [`AGREEMENT`](super::baseline::AGREEMENT).
pub fn repeat_for_baseline(
    first: &Report,
    image: &Image,
    profile: &Profile,
    options: &Options<'_>,
    watch: impl FnMut(Step<'_>),
) -> Result<Baseline, ProfileError> {
    let second = self::profile(image, profile, &Options { baseline: None, ..options.clone() }, watch)?;
    Ok(Baseline::of(first, &second, &profile.gates)?)
}

/// The settings of a profile, and how the image's containers are confined by it.
fn facts_of(profile: &Profile, target: &Target) -> report::ProfileFacts {
    let mut facts = report::profile_facts(profile);
    // A label that cannot be is an error of the first container.
    if let Ok(confinement) = Confinement::of(&target.config, &profile.container) {
        let container = match confinement.differences.is_empty() {
            true => "as docker".to_owned(),
            false => confinement.differences.join("; "),
        };
        facts.settings.insert("container".to_owned(), container);
        facts.settings.insert("read-only".to_owned(), confinement.read_only.to_string());
    }
    facts
}

/// A report before anything was measured.
#[must_use]
pub fn new_report(image: &Image, profile: &Profile, runtime: Option<&Runtime>) -> Report {
    let Image { target, name, .. } = image;
    let mut names = vec![name.clone()];
    names.extend(target.image.names.iter().filter(|other| *other != name).cloned());
    let facts = HostFacts::read();
    Report {
        schema: SCHEMA,
        tool: env!("CARGO_PKG_VERSION").to_owned(),
        taken: now().to_string(),
        target: report::Target {
            names,
            digest: target.digest.unwrap_or(target.image_id).to_string(),
            image_id: target.image_id.to_string(),
            platform: format!("{}/{}", target.config.image.os(), target.config.image.architecture()),
            created: target.config.image.created().clone(),
        },
        host: report::Host {
            cpu: facts.cpu_model.unwrap_or_else(|| "unknown".to_owned()),
            cpus: u32::try_from(HostCpus::read().count()).unwrap_or(u32::MAX),
            memory: facts.memory.unwrap_or(0),
            kernel: facts.kernel.unwrap_or_else(|| std::env::consts::OS.to_owned()),
            architecture: std::env::consts::ARCH.to_owned(),
            cgroup: facts.cgroup.to_string(),
        },
        runtime: runtime.map(|runtime| RuntimeFacts {
            name: runtime.kind().name().to_owned(),
            version: runtime.version(),
            rootless: !is_root(),
        }),
        profile: facts_of(profile, target),
        runs: vec![],
        verdicts: vec![],
        overall: Overall::Pass,
    }
}

/// Runs all passes of the profile.
fn measured(
    image: &Image,
    profile: &Profile,
    options: &Options<'_>,
    mut watch: impl FnMut(Step<'_>),
) -> Result<Vec<report::Run>, ProfileError> {
    let (program, host) = (options.generator()?, HostCpus::read());
    let Image { target, unstripped, .. } = image;
    let setting =
        Setting { target, unstripped: unstripped.as_deref(), profile, program: &program, host: &host };
    let mut runs = Vec::new();
    if profile.passes.contains(&Pass::Size) {
        watch(Step::Reading);
        runs.push(measure::sizes(&setting)?);
        runs.iter().for_each(|run| watch(Step::Passed(run)));
    }
    if !profile.runs_image() {
        return Ok(runs);
    }
    let runtime = options.runtime.ok_or_else(|| ProfileError::NoRuntime(profile.name.clone()))?;
    if let Some(unable) = abilities::refusal(profile, runtime.kind(), is_root()) {
        return Err(unable.into());
    }
    let prepare = |target| runtime.prepare(target).map_err(PassError::from);
    let mut roots: Vec<PathBuf> = prepare(target)?.into_iter().collect();
    let baseline = baseline_image(profile, &options.cache)?;
    if let Some(baseline) = &baseline {
        roots.extend(prepare(baseline)?);
    }
    let neighbour = neighbour_image(profile, options, &program)?;
    if let Some(neighbour) = &neighbour {
        prepare(neighbour)?;
    }
    let stage =
        Stage { runtime, runtime_baseline: baseline.as_ref(), neighbour: neighbour.as_ref(), roots: &roots };
    let crowded = only_load(profile, &host);
    for limits in &profile.limits {
        let setting = match &crowded {
            Some(only_load) if !cpus::leaves_room(&host, limits) => Setting { profile: only_load, ..setting },
            _ => setting,
        };
        if setting.profile.runs_image() {
            watch(Step::Running(limits));
            runs.push(measure::run(&setting, &stage, limits, &mut watch)?);
        }
    }
    Ok(runs)
}

/// What is measured under limits that leave the generator no room, where the profile has others for everything else: the
/// load alone.
fn only_load(profile: &Profile, host: &HostCpus) -> Option<Profile> {
    let joined = profile.leave_room && profile.limits.iter().any(|limits| cpus::leaves_room(host, limits));
    let passes = || profile.passes.iter().copied().filter(|pass| *pass == Pass::Throughput).collect();
    joined.then(|| Profile { passes: passes(), ..profile.clone() })
}

/// The image of the runtime baseline, where the profile starts it and there is one for this processor.
fn baseline_image(profile: &Profile, cache: &Path) -> Result<Option<Target>, ProfileError> {
    let platform = format!("linux/{}", host_architecture()).parse::<Platform>();
    let Some(platform) =
        platform.ok().filter(|_| profile.passes.contains(&Pass::Startup) && profile.startup.runtime_baseline)
    else {
        return Ok(None);
    };
    let layout = runtime_baseline::write(cache, platform).map_err(PassError::RuntimeBaseline)?;
    // A layout is read where it lies.
    Ok(Some(Target::resolve(&layout.to_string_lossy(), None, Path::new(""))?))
}

/// The image of the neighbour, where the profile has one.
fn neighbour_image(
    profile: &Profile,
    options: &Options<'_>,
    program: &Path,
) -> Result<Option<Target>, PassError> {
    let needed = profile.passes.contains(&Pass::Isolation);
    needed.then(|| neighbour::image(&options.cache, program)).transpose()
}

/// Now, for the report.
fn now() -> Epoch {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Epoch::from_seconds(now.as_secs()).unwrap_or(Epoch::ZERO)
}
