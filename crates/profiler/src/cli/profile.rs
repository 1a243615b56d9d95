//! `cargo xtask profile`

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use tare_oci::blob::Staging;
use tare_oci::input;
use tare_oci::platform::Platform;
use tare_oci::units::{ByteSize, Epoch, Nanoseconds};
use tare_tool::environment::Environment;
use tare_tool::plan::{Plan, PlannedImage, Wanted, WantedImages};
use tare_tool::private;
use tare_tool::ui::Ui;

use crate::profile::baseline::Baseline;
use crate::profile::definition::values::Cpus;
use crate::profile::definition::{self, Overrides, Profile};
use crate::profile::gate::Overall;
use crate::profile::measure::{self, Setting, Stage, Step};
use crate::profile::metric::Pass;
use crate::profile::report::{self, Report, RuntimeFacts, SCHEMA};
use crate::profile::startup::floor;
use crate::profile::{cpus, render};
use tare_container::host::HostFacts;
use tare_container::runtime::{Runtime, RuntimeKind};
use tare_container::spec::ContainerSpec;
use tare_container::target::{Location, Target};

use super::Outcome;
use super::compare::{self, CompareArguments};
use super::stage::{self, Session, Way};
use super::sudo;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct ProfileArguments {
    #[command(subcommand)]
    pub(super) verb: Option<ProfileVerb>,
    /// What to weigh: an image of the workspace by its name, an OCI layout or archive, a docker archive, or
    /// `docker-daemon:REF`, `containers-storage:REF`. Without any: the images that `cargo xtask image` builds
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,
    #[command(flatten)]
    common: CommonArguments,
    /// Compare with these figures, and judge `max-regression` gates by them
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Measure twice, and if both runs agree write their figures to this file
    #[arg(long, value_name = "FILE", conflicts_with = "baseline")]
    save_baseline: Option<PathBuf>,
    /// Write the reports here instead of target/profiles/IMAGE/PROFILE
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    /// Print the table of all metrics, by which gates name them
    #[arg(long, exclusive = true)]
    list_metrics: bool,
    /// Print the profiles there are
    #[arg(long, exclusive = true)]
    list_profiles: bool,
}

#[derive(Debug, clap::Subcommand)]
pub(super) enum ProfileVerb {
    /// Measure two images in turn and say whether B is worse. Exit code 0: no; 1: yes; 2: cannot be told
    Compare(CompareArguments),
}

/// What `profile` and `profile compare` have in common.
#[derive(Debug, Args)]
pub(super) struct CommonArguments {
    /// The profile: profiles/NAME.toml of the workspace, one that tare brings along, or a path
    #[arg(long, short, value_name = "NAME", default_value = "default")]
    pub(super) profile: String,
    /// What runs containers: embedded, runc, crun, youki, docker, podman
    #[arg(long, value_name = "RUNTIME")]
    pub(super) runtime: Option<RuntimeKind>,
    /// Measure as root, through sudo. Images and tools are built, and reports are written, as yourself
    #[arg(long)]
    pub(super) sudo: bool,
    /// CPUs' worth of time instead of the profile's, such as 0.5
    #[arg(long, value_name = "NUMBER")]
    cpus: Option<Cpus>,
    /// Memory instead of the profile's, such as 64MiB
    #[arg(long, value_name = "SIZE")]
    memory: Option<ByteSize>,
    /// Only these passes: size, startup, throughput
    #[arg(long, value_name = "PASS", value_delimiter = ',')]
    pass: Vec<Pass>,
    /// Warm starts instead of the profile's
    #[arg(long, value_name = "NUMBER")]
    pub(super) runs: Option<u32>,
    /// Duration of each load instead of the profile's, such as 5s
    #[arg(long, value_name = "TIME")]
    pub(super) duration: Option<Nanoseconds>,
    /// Connections instead of the profile's
    #[arg(long, value_name = "NUMBER")]
    connections: Option<u32>,
    /// Requests per second, in place of the profile's loads
    #[arg(long, value_name = "NUMBER")]
    rate: Option<u32>,
    /// Say only what went wrong
    #[arg(long, short)]
    pub(super) quiet: bool,
}

impl CommonArguments {
    /// The profile with what the command line says.
    pub(super) fn profile(&self, root: &Path) -> anyhow::Result<Profile> {
        let (profile, _) = definition::find(root, &self.profile)?;
        Ok(profile.with(&Overrides {
            cpus: self.cpus,
            memory: self.memory,
            passes: self.pass.clone(),
            runs: self.runs,
            duration: self.duration,
            connections: self.connections,
            rate: self.rate,
        })?)
    }
}

impl ProfileArguments {
    pub(super) fn quiet(&self) -> bool {
        match &self.verb {
            Some(ProfileVerb::Compare(arguments)) => arguments.quiet(),
            None => self.common.quiet,
        }
    }

    /// Prints what is only to be listed. False if nothing is.
    fn list(&self, root: &Path, ui: Ui) -> std::io::Result<bool> {
        if self.list_metrics {
            ui.result(render::metrics::markdown().trim_end())?;
        }
        if self.list_profiles {
            ui.result(&definition::names(&root.join("profiles")).join("\n"))?;
        }
        Ok(self.list_metrics || self.list_profiles)
    }
}

/// What one call has to do with.
struct Call<'a> {
    arguments: &'a ProfileArguments,
    session: &'a Session,
}

/// An image to weigh.
pub(super) struct Subject {
    pub(super) target: Target,
    /// Its name in reports and folders.
    pub(super) name: String,
    /// Its program with symbols.
    pub(super) twin: Option<PathBuf>,
    /// What finds it again.
    image: PlannedImage,
}

/// An image of the workspace that is not in the plan.
#[derive(Debug, thiserror::Error)]
#[error("{what} cannot be had without the xtask of a workspace")]
pub(super) struct NotBuilt {
    what: String,
}

impl NotBuilt {
    /// What to do about it.
    pub(super) fn hint(&self) -> String {
        "call it as `cargo xtask profile`, or name a path: an OCI layout or an archive".to_owned()
    }
}

/// What `profile` or `profile compare` needs before it can run: none where it has said everything already.
pub(super) fn plan(
    arguments: &ProfileArguments,
    root: &Path,
    env: &Environment,
    ui: Ui,
) -> anyhow::Result<Option<Wanted>> {
    if let Some(ProfileVerb::Compare(arguments)) = &arguments.verb {
        return compare::plan(arguments, root, env).map(Some);
    }
    if arguments.list(root, ui)? {
        return Ok(None);
    }
    let profile = arguments.common.profile(root)?;
    arguments.baseline.as_deref().map(read_baseline).transpose()?;
    let keeper = makes_containers(&profile) && stage::check(&arguments.common, &profile, env)?;
    let images = match arguments.images.as_slice() {
        [] => WantedImages::Default,
        names => wanted(names)?,
    };
    Ok(Some(Wanted { images, keeper, quiet: arguments.common.quiet }))
}

pub(super) fn run(arguments: &ProfileArguments, session: &Session) -> anyhow::Result<Outcome> {
    if let Some(ProfileVerb::Compare(arguments)) = &arguments.verb {
        return compare::run(arguments, session);
    }
    let root = &session.plan.workspace.root;
    if arguments.list(root, session.ui)? {
        return Ok(Outcome::Done);
    }
    let call = Call { arguments, session };
    let profile = arguments.common.profile(root)?;
    let baseline = arguments.baseline.as_deref().map(read_baseline).transpose()?;
    if baseline.is_some() && profile.gates.iter().all(|gate| gate.max_regression.is_none()) {
        session.ui.warning(&format!(
            "profile {} has no gate with `max-regression`: nothing is compared with the baseline",
            profile.name
        ));
    }
    let way =
        if makes_containers(&profile) { Some(stage::choose(&arguments.common, session)?) } else { None };
    let subjects = subjects(&arguments.images, session)?;
    let runtime = match way {
        None => None,
        Some(Way::Here(kind)) => Some(stage::open(kind, session)?),
        Some(Way::Sudo) => return hand_over(&arguments.common, &subjects, session),
    };
    let mut outcome = Outcome::Done;
    for subject in &subjects {
        let report = call.report(subject, &profile, runtime.as_ref(), baseline.as_ref())?;
        call.publish(subject, &report)?;
        if let Some(file) = &arguments.save_baseline {
            call.save_baseline(file, subject, &profile, runtime.as_ref(), &report)?;
        }
        if report.was_never_ready() {
            outcome = Outcome::NeverReady;
        } else if report.overall != Overall::Pass && outcome == Outcome::Done {
            outcome = Outcome::GateFailed;
        }
    }
    Ok(outcome)
}

/// Whether the profile has a pass that runs the image.
fn makes_containers(profile: &Profile) -> bool {
    profile.passes.iter().any(|pass| *pass != Pass::Size)
}

/// The workspace's images among those that are named. The others must be there already.
pub(super) fn wanted(names: &[String]) -> anyhow::Result<WantedImages> {
    let (own, others): (Vec<&String>, Vec<&String>) = names.iter().partition(|name| is_own(name));
    for name in others {
        // What lies in a store is looked for when it is fetched.
        if let Location::Path { .. } = name.parse()? {
            Target::resolve(name, None, Path::new(""))?;
        }
    }
    Ok(match own.as_slice() {
        [] => WantedImages::None,
        own => WantedImages::Named(own.iter().copied().cloned().collect()),
    })
}

/// The images that are meant: as they were built where they are the workspace's own, and all of the plan's in root's
/// process.
pub(super) fn subjects(names: &[String], session: &Session) -> anyhow::Result<Vec<Subject>> {
    let temporary = stage::temporary(&session.cache())?;
    let planned = &session.plan.images;
    if session.user().is_some() || names.is_empty() {
        if planned.is_empty() {
            return Err(NotBuilt { what: "the workspace's images".to_owned() }.into());
        }
        return planned.iter().map(|image| Subject::of(image.clone(), &temporary)).collect();
    }
    let subject = |name: &String| {
        if !is_own(name) {
            let image = PlannedImage { name: folder_name(name), location: name.clone(), platforms: vec![] };
            return Subject::of(image, &temporary);
        }
        match planned.iter().find(|image| image.name == *name) {
            Some(image) => Subject::of(image.clone(), &temporary),
            None => Err(NotBuilt { what: format!("image {name}") }.into()),
        }
    };
    names.iter().map(subject).collect()
}

impl Subject {
    fn of(mut image: PlannedImage, temporary: &Path) -> anyhow::Result<Self> {
        let target = Target::resolve(&image.location, None, temporary)?;
        // It is fetched once, by whoever was asked for it.
        if let Some(file) = target.fetched() {
            image.location = file.to_string_lossy().into_owned();
        }
        let here = format!("linux/{}", target.config.architecture);
        let twin = image.platforms.iter().find(|it| it.platform == here);
        let twin = twin.and_then(|it| it.unstripped_binary.clone());
        Ok(Self { target, name: image.name.clone(), twin, image })
    }
}

/// Has root's process do the rest.
pub(super) fn hand_over(
    common: &CommonArguments,
    subjects: &[Subject],
    session: &Session,
) -> anyhow::Result<Outcome> {
    let plan = Plan {
        workspace: session.plan.workspace.clone(),
        keeper: session.keeper(common.runtime.unwrap_or_default()),
        images: subjects.iter().map(|subject| subject.image.clone()).collect(),
        user: Some(sudo::this_user()?),
    };
    sudo::measure(&plan, session)
}

/// Whether a name is one of the workspace's images: it names no transport, and is neither a path nor an
/// archive here. (A folder here by that name is often the image's package.)
fn is_own(name: &str) -> bool {
    !name.contains([':', '/', '\\']) && !name.starts_with('.') && !Path::new(name).is_file()
}

/// A name for a folder: the last part of a path or reference, of letters that every file system takes.
fn folder_name(name: &str) -> String {
    let last = name.trim_end_matches('/').rsplit('/').find(|part| !part.is_empty() && *part != "layout");
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let name: String = last.unwrap_or("image").chars().map(plain).collect();
    if name.starts_with('.') { format!("image{name}") } else { name }
}

fn read_baseline(path: &Path) -> anyhow::Result<Baseline> {
    let text = input::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Baseline::parse(&text).with_context(|| path.display().to_string())
}

impl Call<'_> {
    fn report(
        &self,
        subject: &Subject,
        profile: &Profile,
        runtime: Option<&Runtime>,
        baseline: Option<&Baseline>,
    ) -> anyhow::Result<Report> {
        let mut report = new_report(subject, profile, runtime, &self.session.env)?;
        if let Some(baseline) = baseline {
            baseline.check(&report, &profile.gates)?;
        }
        report.runs = measured(subject, profile, runtime, &self.session.cache(), self.session.ui)?;
        report::judge(&mut report, profile, baseline);
        Ok(report)
    }

    /// Prints the report, and writes it where others read it.
    fn publish(&self, subject: &Subject, report: &Report) -> anyhow::Result<()> {
        let Session { env, plan, ui, .. } = self.session;
        let folder = match &self.arguments.output {
            Some(folder) => env.current_dir.join(folder),
            None => {
                let reports = plan.workspace.target_dir.join("profiles");
                reports.join(&subject.name).join(&report.profile.name)
            }
        };
        let json = report.to_json()?;
        let markdown = render::markdown::render(report);
        let write = || -> Result<(), tare_oci::blob::FileError> {
            let staging = Staging::create(folder.join(".staging"))?;
            staging.write(&folder.join("report.json"), json.as_bytes())?;
            staging.write(&folder.join("report.md"), markdown.as_bytes())?;
            staging.write(&folder.join("junit.xml"), render::junit::render(report).as_bytes())
        };
        sudo::as_user(self.session.user(), write)??;
        let text = render::terminal::render(report, super::columns());
        ui.result(if self.arguments.json { json.trim_end() } else { text.trim_end() })?;
        ui.status("Reported", &format!("in {}", plan.workspace.show(&folder)));
        // As GitHub's runners ask for it; its absence there must not fail a measurement.
        if let Some(summary) = env.get("GITHUB_STEP_SUMMARY") {
            let append = || {
                let mut options = std::fs::OpenOptions::new();
                let mut file = options.append(true).create(true).open(summary)?;
                std::io::Write::write_all(&mut file, markdown.as_bytes())
            };
            if let Err(error) = sudo::as_user(self.session.user(), append)? {
                ui.warning(&format!("GITHUB_STEP_SUMMARY: {error}"));
            }
        }
        Ok(())
    }

    fn save_baseline(
        &self,
        file: &Path,
        subject: &Subject,
        profile: &Profile,
        runtime: Option<&Runtime>,
        first: &Report,
    ) -> anyhow::Result<()> {
        let Session { env, plan, ui, .. } = self.session;
        ui.status("Repeating", "all of it, because a baseline needs two runs that agree");
        let second = self.report(subject, profile, runtime, None)?;
        let baseline = Baseline::of(first, &second, &profile.gates)?;
        let file = env.current_dir.join(file);
        let json = baseline.to_json()?;
        sudo::as_user(self.session.user(), || private::replace_file(&file, json.as_bytes()))?
            .with_context(|| format!("cannot write {}", file.display()))?;
        ui.status("Saved", &format!("the baseline {}", plan.workspace.show(&file)));
        Ok(())
    }
}

/// A report before anything was measured.
pub(super) fn new_report(
    subject: &Subject,
    profile: &Profile,
    runtime: Option<&Runtime>,
    env: &Environment,
) -> anyhow::Result<Report> {
    let target = &subject.target;
    let mut names = vec![subject.name.clone()];
    names.extend(target.image.names.iter().filter(|name| **name != subject.name).cloned());
    let facts = HostFacts::read();
    Ok(Report {
        schema: SCHEMA,
        tool: env!("CARGO_PKG_VERSION").to_owned(),
        taken: now()?.to_string(),
        target: report::Target {
            names,
            digest: target.digest.unwrap_or(target.image_id).to_string(),
            image_id: target.image_id.to_string(),
            platform: format!("{}/{}", target.config.os, target.config.architecture),
        },
        host: report::Host {
            cpu: facts.cpu_model.unwrap_or_else(|| "unknown".to_owned()),
            cpus: u32::try_from(cpus::allowed().len())?,
            memory: facts.memory.unwrap_or(0),
            kernel: facts.kernel.unwrap_or_else(|| std::env::consts::OS.to_owned()),
            architecture: std::env::consts::ARCH.to_owned(),
            cgroup: facts.cgroup.to_string(),
        },
        runtime: runtime.map(|runtime| RuntimeFacts {
            name: runtime.kind().name().to_owned(),
            version: stage::version(runtime.kind(), env),
            rootless: !tare_container::runtime::is_root(),
        }),
        profile: report::profile_facts(profile),
        runs: vec![],
        verdicts: vec![],
        overall: Overall::Pass,
    })
}

/// Runs all passes of the profile.
fn measured(
    subject: &Subject,
    profile: &Profile,
    runtime: Option<&Runtime>,
    cache: &Path,
    ui: Ui,
) -> anyhow::Result<Vec<report::Run>> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let allowed = cpus::allowed();
    let Subject { target, twin, name, .. } = subject;
    let setting = Setting { target, twin: twin.as_deref(), profile, program: &program, allowed: &allowed };
    let mut runs = Vec::new();
    if profile.passes.contains(&Pass::Size) {
        ui.status("Weighing", name);
        runs.push(measure::weigh(&setting)?);
    }
    let Some(runtime) = runtime else { return Ok(runs) };
    let ground = Grounds::prepare(subject, profile, runtime, cache)?;
    let stage = Stage { runtime, floor: ground.floor.as_ref(), roots: &ground.roots };
    for limits in &profile.limits {
        ui.status("Running", &format!("{name} with {limits} ({})", runtime.kind()));
        let progress = super::progress::Progress::start(ui);
        runs.push(measure::run(&setting, &stage, limits, |step| progress.tell(&said(&step)))?);
    }
    Ok(runs)
}

/// A step in words.
fn said(step: &Step) -> (&'static str, String) {
    match step {
        Step::Started { done, of, ready } => {
            ("Starting", format!("{done}/{of}: ready after {:.1} ms", *ready as f64 / 1e6))
        }
        Step::Loaded { load, rate } => ("Loaded", format!("{}: {rate:.0} requests/s", load.case())),
    }
}

/// The floor's image, and where the unpacked images are.
struct Grounds {
    floor: Option<Target>,
    roots: Vec<PathBuf>,
}

impl Grounds {
    fn prepare(
        subject: &Subject,
        profile: &Profile,
        runtime: &Runtime,
        cache: &Path,
    ) -> anyhow::Result<Self> {
        let spec = ContainerSpec::default();
        let mut roots: Vec<PathBuf> = runtime.prepare(&subject.target, &spec)?.into_iter().collect();
        if !profile.passes.contains(&Pass::Startup) || !profile.startup.floor {
            return Ok(Self { floor: None, roots });
        }
        let platform = format!("linux/{}", tare_container::target::host_architecture());
        let Ok(platform) = platform.parse::<Platform>() else { return Ok(Self { floor: None, roots }) };
        let layout = floor::write(cache, platform)?;
        let floor = Target::resolve(&layout.to_string_lossy(), None, &stage::temporary(cache)?)?;
        roots.extend(runtime.prepare(&floor, &spec)?);
        Ok(Self { floor: Some(floor), roots })
    }
}

/// Now, for the report.
fn now() -> anyhow::Result<Epoch> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    Ok(Epoch::from_seconds(now.as_secs())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_named_after_the_last_part() {
        for (name, folder) in [
            ("target/images/app/layout", "app"),
            ("./image.tar", "image.tar"),
            ("docker-daemon:example/server:1.2", "server-1.2"),
            ("oci:/", "oci-"),
            ("..", "image.."),
            ("/", "image"),
        ] {
            assert_eq!(folder_name(name), folder, "{name}");
        }
    }

    #[test]
    fn names_of_the_workspace_are_no_paths_and_no_references() {
        for (name, own) in [("app", true), ("a/b", false), ("docker-daemon:a", false), (".", false)] {
            assert_eq!(is_own(name), own, "{name}");
        }
    }
}
