//! `cargo xtask profile`

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use tare_tool::environment::Environment;
use tare_tool::exit::{FAILED, Hinted};
use tare_tool::plan::{Wanted, WantedImages};
use tare_tool::private;
use tare_tool::ui::Ui;

use crate::profile::baseline::Baseline;
use crate::profile::cpus::HostCpus;
use crate::profile::definition::{self, Overrides, Profile};
use crate::profile::kept::keep;
use crate::profile::measure::Step;
use crate::profile::port::Port;
use crate::profile::profiling;
use crate::profile::render;
use crate::profile::render::screen::Call;
use crate::profile::report::{Overall, Report};
use crate::profile::request::{Image, Options, folder_name};
use tare_container::Runtime;

use super::Outcome;
use super::arguments::CommonArguments;
use super::compare::{self, CompareArguments};
use super::images::{Subject, hand_over, subjects, subjects_of_profile, wanted};
use super::limits::{CapacityArguments, SweepArguments};
use super::matrix::MatrixArguments;
use super::progress::{Left, Progress};
use super::published;
use super::stage::{self, AtSignal, LastWords, Session, Way};
use super::unfinished::Unfinished;
use super::{sudo, tables};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct ProfileArguments {
    #[command(subcommand)]
    pub(super) verb: Option<ProfileVerb>,
    /// What to measure: an image of the workspace by its name, an OCI layout or archive, a docker archive, or
    /// `docker-daemon:REF`, `containers-storage:REF`. Without any: the images that `image` builds
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,
    #[command(flatten)]
    common: CommonArguments,
    /// Judge `max-regression` gates by the figures in this file. By a folder, or a published image to which a report of
    /// the profile is attached: noisy ones by measuring that image and this one in turns
    #[arg(long, value_name = "FILE|FOLDER|REFERENCE")]
    baseline: Option<PathBuf>,
    /// Measure twice, and if both runs agree write their figures to this file. To a folder (`DIR/`, and with several
    /// images): IMAGE.json and the image itself, of one run
    #[arg(long, value_name = "FILE", conflicts_with = "baseline")]
    save_baseline: Option<PathBuf>,
    /// Write the reports here instead of target/profiles/IMAGE/PROFILE; with several images to FOLDER/IMAGE
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    /// Print every figure, not the first screen alone
    #[arg(long, conflicts_with = "json")]
    full: bool,
    /// How often all images are measured, in turn, instead of the profile's rounds
    #[arg(long, value_name = "NUMBER")]
    rounds: Option<u32>,
    /// Write the profile's tables to this file, in Markdown
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
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
    /// Search the smallest CPU and memory limits under which a rate is answered in time
    Sweep(SweepArguments),
    /// Search the highest rate that is answered in time under the profile's limits
    Capacity(CapacityArguments),
    /// Measure variants in turn, and name those that no other is better than
    Matrix(MatrixArguments),
}

impl ProfileArguments {
    pub(super) fn quiet(&self) -> bool {
        match &self.verb {
            Some(ProfileVerb::Compare(arguments)) => arguments.quiet(),
            Some(ProfileVerb::Sweep(arguments)) => arguments.quiet(),
            Some(ProfileVerb::Capacity(arguments)) => arguments.quiet(),
            Some(ProfileVerb::Matrix(arguments)) => arguments.quiet(),
            None => self.common.container.quiet,
        }
    }

    /// The profile, as this host runs it.
    fn profile(&self, root: &Path) -> anyhow::Result<Profile> {
        let profile = self.common.profile(root)?.with_room(&HostCpus::read());
        let rounds = Overrides { rounds: self.rounds, ..Overrides::default() };
        let profile = profile.with(&rounds)?;
        if profile.rounds > 1 && (self.baseline.is_some() || self.save_baseline.is_some()) {
            let message = format!("profile {} measures in {} rounds", profile.name, profile.rounds);
            let hint = "add `--rounds 1`: gates measure the image and its baseline in turns by themselves";
            return Err(Hinted::new(format!("{message}, which baselines have nothing of"), hint).into());
        }
        if self.write.is_some() && profile.table.is_empty() {
            let message = format!("profile {} has no [[table]] for --write", profile.name);
            let hint = "docs/profile-toml.md says how a profile defines tables";
            return Err(Hinted::new(message, hint).into());
        }
        Ok(profile)
    }

    /// The images of the command line, else of the profile: which are the workspace's own, and which to pull.
    fn wanted(&self, profile: &Profile) -> anyhow::Result<(WantedImages, Vec<String>)> {
        match self.images.as_slice() {
            [] if profile.images.is_empty() => Ok((WantedImages::Default, vec![])),
            [] => Ok((WantedImages::Available(profile.images.clone()), vec![])),
            names => wanted(names),
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
    match &arguments.verb {
        None => {}
        Some(ProfileVerb::Compare(arguments)) => return compare::plan(arguments, root, env).map(Some),
        Some(ProfileVerb::Sweep(arguments)) => return arguments.plan(root, env).map(Some),
        Some(ProfileVerb::Capacity(arguments)) => return arguments.plan(root, env).map(Some),
        Some(ProfileVerb::Matrix(arguments)) => return arguments.plan(root, env).map(Some),
    }
    if arguments.list(root, ui)? {
        return Ok(None);
    }
    let profile = arguments.profile(root)?;
    // How many images there are is known later where none is named.
    if let [image] = arguments.images.as_slice()
        && let Some(path) = &arguments.baseline
        && published::reference(Some(path)).is_none()
    {
        Baseline::read(&place(path, &folder_name(image), false))?;
    }
    let keeper = profile.runs_image() && stage::check(&arguments.common.container, &profile, env)?;
    let (images, pulled) = arguments.wanted(&profile)?;
    if profile.limits.len() > 1 && profile.leave_room && profile.runs_image() {
        tables::say_room(&profile, ui);
    }
    let baseline = published::reference(arguments.baseline.as_deref()).map(str::to_owned);
    Ok(Some(Wanted { images, pulled, baseline, keeper, quiet: arguments.common.container.quiet }))
}

pub(super) fn run(arguments: &ProfileArguments, session: &Session) -> anyhow::Result<Outcome> {
    match &arguments.verb {
        None => {}
        Some(ProfileVerb::Compare(arguments)) => return compare::run(arguments, session),
        Some(ProfileVerb::Sweep(arguments)) => return arguments.run(session),
        Some(ProfileVerb::Capacity(arguments)) => return arguments.run(session),
        Some(ProfileVerb::Matrix(arguments)) => return arguments.run(session),
    }
    let root = &session.plan.workspace.root;
    if arguments.list(root, session.ui)? {
        return Ok(Outcome::Done);
    }
    let profile = arguments.profile(root)?;
    if arguments.baseline.is_some() && profile.gates.iter().all(|gate| gate.max_regression.is_none()) {
        session.ui.warning(&format!(
            "profile {} has no gate with `max-regression`: nothing is compared with the baseline",
            profile.name
        ));
    }
    let way =
        if profile.runs_image() { Some(stage::choose(&arguments.common.container, session)?) } else { None };
    let unfinished = Arc::new(Unfinished::default());
    let at_signal = AtSignal::Report(write_at_signal(&unfinished, session));
    let watch = stage::watch(way, session, &at_signal)?;
    let (subjects, left_out) = match arguments.images.as_slice() {
        [] if !profile.images.is_empty() => subjects_of_profile(&profile.images, session)?,
        names => (subjects(names, session)?, vec![]),
    };
    let names = distinct(subjects.iter().map(|subject| subject.image.name.as_str()));
    let several = subjects.len() > 1;
    // All of them before the first minute of measuring.
    let baselines = names.iter().map(|name| -> anyhow::Result<_> {
        let Some(path) = arguments.baseline.as_deref() else { return Ok(None) };
        if let Some(reference) = published::reference(Some(path)) {
            anyhow::ensure!(
                !several,
                "--baseline {reference} is one image, and {} are measured",
                names.len()
            );
            return published::baseline(reference, &profile, session).map(Some);
        }
        let file = session.env.current_dir.join(place(path, name, several));
        let baseline = Baseline::read(&file)?;
        let before = before(Some((file.as_path(), &baseline)).filter(|_| profile.runs_image()), session)?;
        Ok(Some((baseline, before)))
    });
    let baselines = baselines.collect::<anyhow::Result<Vec<_>>>()?;
    let runtime = match way {
        None => None,
        Some(Way::Here(kind)) => Some(stage::open(kind, session, watch, &at_signal)?),
        Some(Way::Sudo) => return hand_over(&arguments.common.container, &subjects, session),
    };
    let mut reports = Vec::new();
    if profile.rounds > 1 {
        let images: Vec<&Image> = subjects.iter().map(|subject| &subject.image).collect();
        let folders: Vec<PathBuf> =
            names.iter().map(|name| folder(arguments, session, &profile, name, several)).collect();
        reports = in_rounds(&images, &folders, &profile, runtime.as_ref(), session, &unfinished)?;
        unfinished.finish();
        for ((image, name), report) in images.iter().zip(&names).zip(&reports) {
            publish(arguments, session, &profile, (image, name, several), report, None)?;
        }
    }
    // One round is published image by image.
    let one_round = if profile.rounds > 1 { &[][..] } else { &subjects };
    for ((Subject { image, .. }, name), baseline) in one_round.iter().zip(&names).zip(&baselines) {
        let kind = runtime.as_ref().map(Runtime::kind);
        let progress = || Progress::new(session.ui, image.name.clone(), kind, Some(Left::of(&profile, 0)));
        let (baseline, before) = match baseline {
            Some((baseline, before)) => (Some(baseline), before.as_ref()),
            None => (None, None),
        };
        let cache = session.cache();
        let options = Options { runtime: runtime.as_ref(), generator: None, cache, baseline, before };
        let note = Port::of(&image.target, profile.ready.port).note().filter(|_| profile.runs_image());
        note.iter().for_each(|note| session.ui.status("Asking", note));
        let mut shown = progress();
        let folder = folder(arguments, session, &profile, name, several);
        unfinished.begin(&folder, || profiling::new_report(image, &profile, runtime.as_ref()));
        let report = profiling::profile(image, &profile, &options, |step| {
            if let Step::Passed(run) = step {
                unfinished.passed(&folder, run);
            }
            shown.show(&step);
        })?;
        unfinished.finish();
        drop(shown);
        let saving = arguments.save_baseline.as_deref().map(|path| place(path, name, several));
        let keeps = several || arguments.save_baseline.as_deref().is_some_and(is_folder);
        let saved = saving.as_deref().map(|file| {
            if keeps {
                // Noisy gates measure the kept image again: nothing of this run is compared with but what is exact.
                let exact: Vec<_> = profile.gates.iter().filter(|gate| gate.is_exact()).cloned().collect();
                let baseline = Baseline::of(&report, &report, &exact)?;
                return save(&baseline, file, Some(image), session);
            }
            session.ui.status("Repeating", "all of it, because a baseline needs two runs that agree");
            let mut shown = progress();
            let watch = |step: Step<'_>| shown.show(&step);
            let baseline = profiling::repeat_for_baseline(&report, image, &profile, &options, watch)?;
            drop(shown);
            save(&baseline, file, None, session)
        });
        let saved_to = saving.as_deref().filter(|_| matches!(saved, Some(Ok(()))));
        publish(arguments, session, &profile, (image, name, several), &report, saved_to)?;
        saved.transpose()?;
        reports.push(report);
    }
    if !profile.table.is_empty() && (several || arguments.write.is_some()) {
        let titled: Vec<(&Image, &Report)> =
            subjects.iter().map(|subject| &subject.image).zip(&reports).collect();
        let written = arguments.write.as_deref();
        let print = !arguments.json;
        tables::publish(&profile, &titled, &left_out, &arguments.common, (written, print), session)?;
    }
    Ok(reports.iter().fold(Outcome::Done, |outcome, report| match outcome {
        _ if report.was_never_ready() => Outcome::Exit(FAILED),
        Outcome::Done if report.overall != Overall::Pass => Outcome::GateFailed,
        outcome => outcome,
    }))
}

/// Measures all images in rounds.
fn in_rounds(
    images: &[&Image],
    folders: &[PathBuf],
    profile: &Profile,
    runtime: Option<&Runtime>,
    session: &Session,
    unfinished: &Unfinished,
) -> anyhow::Result<Vec<Report>> {
    let options = Options { runtime, cache: session.cache(), ..Options::default() };
    let mut shown: Option<((String, u32), Progress)> = None;
    let mut later = (profile.rounds as usize * images.len()).saturating_sub(1);
    let watch = |image: &Image, round: u32, step: Step<'_>| {
        let now = (image.name.clone(), round);
        let place = images.iter().position(|it| std::ptr::eq(*it, image)).and_then(|at| folders.get(at));
        if shown.as_ref().is_none_or(|(before, _)| *before != now) {
            let title = format!("{} (round {round} of {})", image.name, profile.rounds);
            // The line of the one before goes first.
            shown = None;
            let left = Left::of(profile, later);
            later = later.saturating_sub(1);
            shown = Some((now, Progress::new(session.ui, title, runtime.map(Runtime::kind), Some(left))));
            place.iter().for_each(|folder| {
                unfinished.begin(folder, || profiling::new_report(image, profile, runtime));
            });
        }
        if let (Step::Passed(run), Some(folder)) = (&step, place) {
            unfinished.passed(folder, run);
        }
        if let Some((_, progress)) = &mut shown {
            progress.show(&step);
        }
    };
    Ok(profiling::in_rounds(images, profile, &options, watch)?)
}

/// Writes the reports of images that are being measured, without a verdict.
fn write_at_signal(unfinished: &Arc<Unfinished>, session: &Session) -> LastWords {
    let (unfinished, user, ui) = (Arc::clone(unfinished), session.user().cloned(), session.ui);
    LastWords(Arc::new(move || {
        for (report, folder) in unfinished.reports() {
            let written = sudo::as_user(user.as_ref(), || render::write(&report, &folder));
            match written.and_then(|written| Ok(written?)) {
                Ok(()) => {
                    ui.relay("");
                    ui.status("Wrote", &format!("what was measured until then to {}", folder.display()));
                }
                Err(error) => ui.warning(&format!("{error:#}")),
            }
        }
    }))
}

/// Where the reports of an image are written.
fn folder(
    arguments: &ProfileArguments,
    session: &Session,
    profile: &Profile,
    name: &str,
    several: bool,
) -> PathBuf {
    match &arguments.output {
        Some(folder) if several => session.env.current_dir.join(folder).join(name),
        Some(folder) => session.env.current_dir.join(folder),
        None => session.plan.workspace.target_dir.join("profiles").join(name).join(&profile.name),
    }
}

/// Names that differ: a second `app` is `app-2`.
fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut distinct: Vec<String> = Vec::new();
    for name in names {
        let numbered = |number: u32| if number == 1 { name.to_owned() } else { format!("{name}-{number}") };
        distinct.extend((1..).map(numbered).find(|name| !distinct.contains(name)));
    }
    distinct
}

/// Where the baseline of an image is: the file itself, or the image's own in the folder where the path is one, or ends as
/// one, or there are several images.
fn place(path: &Path, image: &str, several: bool) -> PathBuf {
    if several || is_folder(path) { path.join(format!("{image}.json")) } else { path.to_path_buf() }
}

fn is_folder(path: &Path) -> bool {
    path.is_dir() || path.as_os_str().to_string_lossy().ends_with('/')
}

/// The image that is kept beside a baseline in a folder.
fn kept(baseline: &Path) -> PathBuf {
    baseline.with_extension("image")
}

/// Opens the image of a baseline, where it is kept and is the one that was measured.
fn before(baseline: Option<(&Path, &Baseline)>, session: &Session) -> anyhow::Result<Option<Image>> {
    let Some((path, baseline)) =
        baseline.map(|(path, it)| (kept(path), it)).filter(|(path, _)| path.exists())
    else {
        return Ok(None);
    };
    let mut image = Image::open(&path.to_string_lossy(), &stage::temporary(&session.cache())?)?;
    let digest = image.target.digest.unwrap_or(image.target.image_id).to_string();
    anyhow::ensure!(
        digest == baseline.image,
        "{} is {digest}, and the baseline beside it is of {}",
        path.display(),
        baseline.image
    );
    image.name = "the baseline".to_owned();
    Ok(Some(image))
}

/// Writes a baseline, and the image beside it where it is to be kept.
fn save(baseline: &Baseline, file: &Path, image: Option<&Image>, session: &Session) -> anyhow::Result<()> {
    let file = session.env.current_dir.join(file);
    let write = || -> anyhow::Result<()> {
        let wrote = || format!("cannot write {}", file.display());
        let both = || -> anyhow::Result<()> {
            if let Some(image) = image {
                keep(&image.target, &kept(&file))?;
            }
            baseline.write(&file).with_context(wrote)
        };
        private::in_turn(file.parent().unwrap_or(&session.env.current_dir), both).with_context(wrote)?
    };
    sudo::as_user(session.user(), write)??;
    session.ui.status("Saved", &format!("the baseline {}", session.plan.workspace.show(&file)));
    Ok(())
}

/// The command that measures the same again, without a baseline and ways of printing.
fn again(words: &[OsString], image: &str) -> String {
    let mut command = vec![tare_tool::environment::command().to_owned()];
    let mut words = words.iter().map(|word| word.to_string_lossy());
    while let Some(word) = words.next() {
        match word.as_ref() {
            "--baseline" | "--save-baseline" => drop(words.next()),
            "--full" | "--json" | "--quiet" | "-q" => {}
            word if word.starts_with("--baseline=") || word.starts_with("--save-baseline=") => {}
            word => command.push(quoted(word)),
        }
    }
    if !command.iter().any(|word| *word == quoted(image)) {
        // All images of the workspace were asked for.
        command.push(quoted(image));
    }
    command.join(" ")
}

/// As a shell reads it.
pub(super) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// Prints the report, and writes it where others read it.
fn publish(
    arguments: &ProfileArguments,
    session: &Session,
    profile: &Profile,
    (image, name, several): (&Image, &str, bool),
    report: &Report,
    saved_to: Option<&Path>,
) -> anyhow::Result<()> {
    let Session { env, plan, ui, .. } = session;
    let folder = folder(arguments, session, profile, name, several);
    sudo::as_user(session.user(), || render::write(report, &folder))??;
    if arguments.json {
        ui.result(report.to_json()?.trim_end())?;
        ui.status("Reported", &format!("in {}", plan.workspace.show(&folder)));
    } else if several && !profile.table.is_empty() && !arguments.full {
        // The tables take the place of the screens.
        ui.status("Reported", &format!("{} in {}", image.name, plan.workspace.show(&folder)));
    } else {
        if arguments.full {
            ui.result(render::terminal::render(report, super::columns()).trim_end())?;
            ui.result("")?;
        }
        let named = arguments.images.iter().find(|named| folder_name(named) == image.name);
        let named = named.map_or(image.name.as_str(), String::as_str);
        let (command, folder) = (again(&session.words, named), plan.workspace.show(&folder));
        let baseline = saved_to.map(|file| file.to_string_lossy());
        let (baseline, image) = (baseline.as_deref(), quoted(named));
        let call = Call { command: &command, image: &image, folder: &folder, baseline };
        ui.result(render::screen::render(report, &call).trim_end())?;
    }
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
    fn the_command_is_the_one_that_was_called_without_its_baseline() {
        let of = |words: &[&str], image| again(&words.iter().map(OsString::from).collect::<Vec<_>>(), image);
        assert_eq!(
            of(&["profile", "app", "--profile", "ci", "--save-baseline", "a.json", "--full"], "app"),
            "cargo xtask profile app --profile ci"
        );
        assert_eq!(of(&["profile", "--baseline=a.json", "-q"], "app"), "cargo xtask profile app");
        assert_eq!(
            of(&["profile", "a b/it's.tar"], "a b/it's.tar"),
            "cargo xtask profile 'a b/it'\\''s.tar'"
        );
    }

    #[test]
    fn several_images_have_a_file_and_a_folder_each() {
        assert_eq!(distinct(["app", "b", "app", "app"].into_iter()), ["app", "b", "app-2", "app-3"]);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("main.json");
        assert_eq!(place(&file, "app", false), file);
        assert_eq!(place(&file, "app", true), file.join("app.json"));
        assert_eq!(place(folder.path(), "app", false), folder.path().join("app.json"));
        assert_eq!(place(Path::new("gone/"), "app", false), Path::new("gone/app.json"));
    }
}
