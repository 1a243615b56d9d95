//! `cargo xtask profile`

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use tare_oci::units::{ByteSize, Nanoseconds};
use tare_tool::environment::Environment;
use tare_tool::exit::FAILED;
use tare_tool::plan::{Plan, PlannedImage, Wanted, WantedImages};
use tare_tool::ui::Ui;

use crate::profile::baseline::Baseline;
use crate::profile::definition::{self, CpuLimit, Overrides, Profile};
use crate::profile::measure::Step;
use crate::profile::metric::Pass;
use crate::profile::profiling::{self, Image, Options};
use crate::profile::render;
use crate::profile::report::{Overall, Report};
use tare_container::target::{Location, Target};
use tare_container::{Runtime, RuntimeKind};

use super::Outcome;
use super::compare::{self, CompareArguments};
use super::progress::Progress;
use super::stage::{self, AtSignal, Session, Way};
use super::sudo;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct ProfileArguments {
    #[command(subcommand)]
    pub(super) verb: Option<ProfileVerb>,
    /// What to measure: an image of the workspace by its name, an OCI layout or archive, a docker archive, or
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
    /// Measure two images in turn and say whether B is worse. Exit code 0: no; 1: yes; 2: not known
    Compare(CompareArguments),
}

/// How containers are run: what every verb has that runs some.
#[derive(Debug, Args)]
pub(super) struct ContainerArguments {
    /// The profile: profiles/NAME.toml of the workspace, a built-in one, or a path
    #[arg(long, short, value_name = "NAME", default_value = "default")]
    pub(super) profile: String,
    /// The container runtime: embedded, runc, crun, youki, docker, podman
    #[arg(long, value_name = "RUNTIME")]
    pub(super) runtime: Option<RuntimeKind>,
    /// Run containers as root, through sudo. Images and tools are built, and reports are written, as yourself
    #[arg(long)]
    pub(super) sudo: bool,
    /// CPUs' worth of time instead of the profile's, such as 0.5
    #[arg(long, value_name = "NUMBER")]
    cpus: Option<CpuLimit>,
    /// Memory instead of the profile's, such as 64MiB
    #[arg(long, value_name = "SIZE")]
    memory: Option<ByteSize>,
    /// Print errors and results only
    #[arg(long, short)]
    pub(super) quiet: bool,
}

/// What `profile` and `profile compare` have in common.
#[derive(Debug, Args)]
pub(super) struct CommonArguments {
    #[command(flatten)]
    pub(super) container: ContainerArguments,
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
}

impl ContainerArguments {
    /// The profile with the limits of the command line.
    pub(super) fn profile(&self, root: &Path) -> anyhow::Result<Profile> {
        let limits = Overrides { cpus: self.cpus, memory: self.memory, ..Overrides::default() };
        Ok(definition::find(root, &self.profile)?.with(&limits)?)
    }
}

impl CommonArguments {
    /// The profile with what the command line says.
    pub(super) fn profile(&self, root: &Path) -> anyhow::Result<Profile> {
        Ok(definition::find(root, &self.container.profile)?.with(&Overrides {
            cpus: self.container.cpus,
            memory: self.container.memory,
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
            None => self.common.container.quiet,
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

/// An image to measure.
pub(super) struct Subject {
    pub(super) image: Image,
    /// What finds it again.
    planned: PlannedImage,
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
    arguments.baseline.as_deref().map(Baseline::read).transpose()?;
    let keeper = profile.runs_image() && stage::check(&arguments.common.container, &profile, env)?;
    let images = match arguments.images.as_slice() {
        [] => WantedImages::Default,
        names => wanted(names)?,
    };
    Ok(Some(Wanted { images, keeper, quiet: arguments.common.container.quiet }))
}

pub(super) fn run(arguments: &ProfileArguments, session: &Session) -> anyhow::Result<Outcome> {
    if let Some(ProfileVerb::Compare(arguments)) = &arguments.verb {
        return compare::run(arguments, session);
    }
    let root = &session.plan.workspace.root;
    if arguments.list(root, session.ui)? {
        return Ok(Outcome::Done);
    }
    let profile = arguments.common.profile(root)?;
    let baseline = arguments.baseline.as_deref().map(Baseline::read).transpose()?;
    if baseline.is_some() && profile.gates.iter().all(|gate| gate.max_regression.is_none()) {
        session.ui.warning(&format!(
            "profile {} has no gate with `max-regression`: nothing is compared with the baseline",
            profile.name
        ));
    }
    let way =
        if profile.runs_image() { Some(stage::choose(&arguments.common.container, session)?) } else { None };
    let subjects = subjects(&arguments.images, session)?;
    let runtime = match way {
        None => None,
        Some(Way::Here(kind)) => Some(stage::open(kind, session, &AtSignal::Leave)?),
        Some(Way::Sudo) => return hand_over(&arguments.common.container, &subjects, session),
    };
    let cache = session.cache();
    let options = Options { runtime: runtime.as_ref(), generator: None, cache, baseline: baseline.as_ref() };
    let mut outcome = Outcome::Done;
    for Subject { image, .. } in &subjects {
        let progress = || Progress::new(session.ui, image.name.clone(), runtime.as_ref().map(Runtime::kind));
        let mut shown = progress();
        let report = profiling::profile(image, &profile, &options, |step| shown.show(&step))?;
        drop(shown);
        publish(arguments, session, image, &report)?;
        if let Some(file) = &arguments.save_baseline {
            session.ui.status("Repeating", "all of it, because a baseline needs two runs that agree");
            let mut shown = progress();
            let watch = |step: Step<'_>| shown.show(&step);
            let baseline = profiling::repeat_for_baseline(&report, image, &profile, &options, watch)?;
            drop(shown);
            let file = session.env.current_dir.join(file);
            sudo::as_user(session.user(), || baseline.write(&file))?
                .with_context(|| format!("cannot write {}", file.display()))?;
            let file = session.plan.workspace.show(&file);
            session.ui.status("Saved", &format!("the baseline {file}"));
        }
        if report.was_never_ready() {
            outcome = Outcome::Exit(FAILED);
        } else if report.overall != Overall::Pass && outcome == Outcome::Done {
            outcome = Outcome::GateFailed;
        }
    }
    Ok(outcome)
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
            let image = PlannedImage {
                name: profiling::folder_name(name),
                location: name.clone(),
                platforms: vec![],
            };
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
    fn of(mut planned: PlannedImage, temporary: &Path) -> anyhow::Result<Self> {
        let mut image = Image::open(&planned.location, temporary)?;
        // It is fetched once, by the process that was asked for it.
        if let Some(file) = image.target.fetched() {
            planned.location = file.to_string_lossy().into_owned();
        }
        let here = format!("linux/{}", image.target.config.image.architecture());
        let built = planned.platforms.iter().find(|it| it.platform == here);
        image.unstripped = built.and_then(|it| it.unstripped_binary.clone());
        image.name.clone_from(&planned.name);
        Ok(Self { image, planned })
    }
}

/// Has root's process do the rest.
pub(super) fn hand_over(
    common: &ContainerArguments,
    subjects: &[Subject],
    session: &Session,
) -> anyhow::Result<Outcome> {
    let plan = Plan {
        workspace: session.plan.workspace.clone(),
        keeper: session.keeper(common.runtime.unwrap_or_default()),
        images: subjects.iter().map(|subject| subject.planned.clone()).collect(),
        user: Some(sudo::this_user()?),
    };
    sudo::measure(&plan, session)
}

/// Whether a name is one of the workspace's images: it names no transport, and is neither a path nor an
/// archive here. (A folder here by that name is often the image's package.)
fn is_own(name: &str) -> bool {
    !name.contains([':', '/', '\\']) && !name.starts_with('.') && !Path::new(name).is_file()
}

/// Prints the report, and writes it where others read it.
fn publish(
    arguments: &ProfileArguments,
    session: &Session,
    image: &Image,
    report: &Report,
) -> anyhow::Result<()> {
    let Session { env, plan, ui, .. } = session;
    let folder = match &arguments.output {
        Some(folder) => env.current_dir.join(folder),
        None => plan.workspace.target_dir.join("profiles").join(&image.name).join(&report.profile.name),
    };
    sudo::as_user(session.user(), || render::write(report, &folder))??;
    if arguments.json {
        ui.result(report.to_json()?.trim_end())?;
    } else {
        ui.result(render::terminal::render(report, super::columns()).trim_end())?;
    }
    ui.status("Reported", &format!("in {}", plan.workspace.show(&folder)));
    // As GitHub's runners ask for it; its absence there must not fail a measurement.
    if let Some(summary) = env.get("GITHUB_STEP_SUMMARY") {
        let append = || {
            let mut file = std::fs::OpenOptions::new().append(true).create(true).open(summary)?;
            std::io::Write::write_all(&mut file, render::markdown::render(report).as_bytes())
        };
        if let Err(error) = sudo::as_user(session.user(), append)? {
            ui.warning(&format!("GITHUB_STEP_SUMMARY: {error}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_workspace_are_no_paths_and_no_references() {
        for (name, own) in [("app", true), ("a/b", false), ("docker-daemon:a", false), (".", false)] {
            assert_eq!(is_own(name), own, "{name}");
        }
    }
}
