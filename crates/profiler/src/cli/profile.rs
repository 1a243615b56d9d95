//! `cargo xtask profile`

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use tare_tool::environment::Environment;
use tare_tool::exit::FAILED;
use tare_tool::plan::{Wanted, WantedImages};
use tare_tool::ui::Ui;

use crate::profile::baseline::Baseline;
use crate::profile::definition;
use crate::profile::measure::Step;
use crate::profile::profiling::{self, Image, Options};
use crate::profile::render;
use crate::profile::report::{Overall, Report};
use tare_container::Runtime;

use super::Outcome;
use super::arguments::CommonArguments;
use super::compare::{self, CompareArguments};
use super::images::{Subject, hand_over, subjects, wanted};
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
