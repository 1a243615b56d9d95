//! `cargo xtask report`: pages from reports that were written before, and what changed between them.

mod history;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use tare_oci::blob::Staging;
use tare_oci::input;
use tare_tool::exit::Hinted;
use tare_tool::plan::Wanted;

use super::Outcome;
use super::images::{subjects, wanted};
use super::stage::Session;
use crate::profile::definition::{self, Profile};
use crate::profile::difference::Difference;
use crate::profile::metric::Pass;
use crate::profile::profiling;
use crate::profile::render::{difference, page};
use crate::profile::report::Report;
use crate::profile::request::Options;

/// What every profile folder has.
const FILE: &str = "report.json";

#[derive(Debug, Args)]
pub(super) struct ReportArguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a page from one report.json, or from several beside each other
    Render(RenderArguments),
    /// Say what changed between two reports or images, as Markdown for a pull request
    Diff(DiffArguments),
    /// Say which figures changed at which commit, from a folder of reports
    History(history::HistoryArguments),
}

#[derive(Debug, Args)]
struct RenderArguments {
    /// A report.json, or a folder with one
    #[arg(value_name = "REPORT", required = true)]
    reports: Vec<PathBuf>,
    /// Write the page here
    #[arg(long, value_name = "FILE", default_value = "report.html")]
    output: PathBuf,
}

#[derive(Debug, Args)]
struct DiffArguments {
    /// A report.json or a folder with one, or an image, of which the size is compared
    old: String,
    /// The same, for what is new
    new: String,
    /// Write a page with all changes here, too
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// The file of a report, where the name is one's.
fn report_file(name: &str) -> Option<PathBuf> {
    let path = Path::new(name);
    if path.is_dir() && path.join(FILE).is_file() {
        return Some(path.join(FILE));
    }
    (path.extension().is_some_and(|extension| extension == "json")).then(|| path.to_path_buf())
}

/// The images that a difference is of.
pub(super) fn plan(arguments: &ReportArguments) -> anyhow::Result<Wanted> {
    let names = match &arguments.verb {
        Verb::Render(_) | Verb::History(_) => vec![],
        Verb::Diff(DiffArguments { old, new, .. }) => vec![old.clone(), new.clone()],
    };
    let (reports, images): (Vec<String>, Vec<String>) =
        names.into_iter().partition(|name| report_file(name).is_some());
    for file in reports.iter().filter_map(|name| report_file(name)) {
        read(&file)?;
    }
    let (images, pulled) = wanted(&images)?;
    Ok(Wanted { images, pulled, baseline: None, keeper: false, quiet: false })
}

pub(super) fn run(arguments: &ReportArguments, session: &Session) -> anyhow::Result<Outcome> {
    match &arguments.verb {
        Verb::Render(arguments) => render(arguments, session),
        Verb::Diff(arguments) => diff(arguments, session),
        Verb::History(arguments) => history::run(arguments, session),
    }
}

fn render(arguments: &RenderArguments, session: &Session) -> anyhow::Result<Outcome> {
    let files = arguments.reports.iter().map(|path| {
        let name = path.to_string_lossy();
        report_file(&name).unwrap_or_else(|| path.clone())
    });
    let reports = files.map(|file| read(&file)).collect::<anyhow::Result<Vec<_>>>()?;
    write(&arguments.output, &page::render(&reports)?)?;
    session.ui.status("Wrote", &arguments.output.display().to_string());
    Ok(Outcome::Done)
}

fn diff(arguments: &DiffArguments, session: &Session) -> anyhow::Result<Outcome> {
    let reports = [&arguments.old, &arguments.new].map(|name| match report_file(name) {
        Some(file) => read(&file),
        None => sizes(name, session),
    });
    let [old, new] = reports;
    let (old, new) = (old?, new?);
    let found = Difference::between(&old, &new);
    if let Some(file) = &arguments.html {
        write(file, &page::difference([&old, &new], &found)?)?;
        session.ui.status("Wrote", &file.display().to_string());
    }
    session.ui.result(difference::markdown(&found).trim_end())?;
    Ok(Outcome::Done)
}

/// A report of an image's size alone.
fn sizes(name: &str, session: &Session) -> anyhow::Result<Report> {
    let subject = subjects(&[name.to_owned()], session)?.into_iter().next().context("no image")?;
    let profile = definition::find(&session.plan.workspace.root, "default")?;
    let profile = Profile { passes: vec![Pass::Size], gates: vec![], ..profile };
    Ok(profiling::profile(&subject.image, &profile, &Options::default(), |_| {})?)
}

fn read(file: &Path) -> anyhow::Result<Report> {
    let text = input::read_to_string(file).map_err(|error| {
        let hint = format!(
            "`{} profile IMAGE` writes target/profiles/IMAGE/PROFILE/report.json",
            tare_tool::environment::command()
        );
        Hinted::new(format!("cannot read {}", file.display()), hint).because(error)
    })?;
    Report::parse(&text).with_context(|| file.display().to_string())
}

/// Written whole or not at all.
fn write(file: &Path, page: &str) -> anyhow::Result<()> {
    let folder = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let staging = Staging::create(folder.join(".report.staging"))?;
    Ok(staging.write(file, page.as_bytes())?)
}
