//! The command line: the only part that knows clap and exit codes.
//!
//! 0: written. 1: `--check` found other numbers. 2: it could not be done.
//!
//! xtask calls `deploy` in the two steps of [`tare_tool::plan`]: `plan` names the images to be built, and `run` does the
//! work. Called directly, without a plan, the workspace is the current folder and the image is a path.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use tare_oci::input::{self, Refusal};
use tare_oci::reader::ReadError;
use tare_oci::reference::is_version;
use tare_report::Report;
use tare_report::report::ReportError;
use tare_tool::environment::{self, Environment};
use tare_tool::exit::{self, Outcome};
use tare_tool::plan::{self, Plan, Step, Wanted, WantedImages};
use tare_tool::private;
use tare_tool::ui::Ui;

use crate::error::DeployError;
use crate::evidence::{self, Evidence};
use crate::image::LocalImage;
use crate::manifest::Application;
use crate::recommend::{Allowances, recommend};
use crate::settings::Settings;
use crate::{Kind, resolve};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write manifests with requests, limits and probes computed from what was measured
    Deploy(DeployArguments),
}

#[derive(Debug, Args)]
struct DeployArguments {
    /// An image of the workspace by its name, or an OCI layout or archive
    #[arg(value_name = "IMAGE", required_unless_present = "resolve")]
    image: Option<String>,
    /// kubernetes, istio, knative or compose
    #[arg(long = "for", value_name = "KIND", default_value = "kubernetes")]
    kind: Kind,
    /// Requests in a second to the whole service; without it a pod is sized for 70 % of its best load
    #[arg(long, value_name = "NUMBER")]
    rate: Option<f64>,
    /// As many pods always, without an autoscaler
    #[arg(long, value_name = "NUMBER")]
    replicas: Option<u32>,
    /// Where the cluster pulls the image from, without a tag
    #[arg(long, value_name = "HOST/PATH")]
    repository: Option<String>,
    /// The report, and further ones that prove the memory limit; by default those in target/profiles/IMAGE
    #[arg(long, value_name = "FILE")]
    report: Vec<PathBuf>,
    /// Which run of a report with several limits
    #[arg(long, value_name = "NUMBER")]
    run: Option<usize>,
    /// Use figures that are in doubt, and write the doubts beside the numbers
    #[arg(long)]
    allow_doubtful: bool,
    /// Write a memory limit under which no starts were measured
    #[arg(long)]
    allow_unproved: bool,
    /// Write FOLDER/KIND.yaml instead of to stdout
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
    /// Write nothing: say whether FOLDER/KIND.yaml is what would be written
    #[arg(long, requires = "output")]
    check: bool,
    /// Print this file of YAML with every `tare://IMAGE` replaced by its reference with a digest
    #[arg(long, value_name = "FILE", conflicts_with_all = ["image", "output", "report"])]
    resolve: Option<PathBuf>,
    /// Say only what went wrong
    #[arg(long, short)]
    quiet: bool,
}

/// Runs with the arguments and environment of the process.
#[must_use]
pub fn main() -> ExitCode {
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    let (step, own) = Step::of(&words);
    let name = environment::command();
    let all = std::iter::once(OsString::from(name)).chain(own.iter().cloned());
    let matches = Arguments::command().name(name).bin_name(name).get_matches_from(all);
    let Command::Deploy(arguments) =
        Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit()).command;
    let ui = Ui::new(arguments.quiet, no_colour);
    let result = match &step {
        Step::Plan { plan, workspace } => make_plan(&arguments, workspace, plan),
        Step::Run { plan } => plan::read(plan).and_then(|plan| run(&arguments, &plan, ui)),
        Step::Alone => Environment::read()
            .map_err(Into::into)
            .and_then(|env| run(&arguments, &Plan::alone(&env.current_dir), ui)),
    };
    exit::code(result, ui, hint)
}

/// What to do about an error.
fn hint(cause: &(dyn std::error::Error + 'static)) -> Option<String> {
    if let Some(error) = cause.downcast_ref::<DeployError>() {
        return Some(error.hint().to_owned());
    }
    if cause.downcast_ref::<ReportError>().is_some() {
        return Some(format!(
            "profile the image with this version: `{} profile NAME`",
            environment::command()
        ));
    }
    if let Some(hint) = cause.downcast_ref::<ReadError>().and_then(ReadError::hint) {
        return Some(hint.to_owned());
    }
    let refusal = cause.downcast_ref::<std::io::Error>().and_then(Refusal::of);
    refusal.map(|it| it.hint().to_owned()).or_else(|| exit::hint(cause))
}

/// The first step.
fn make_plan(arguments: &DeployArguments, root: &Path, file: &Path) -> anyhow::Result<Outcome> {
    let env = Environment::read()?;
    if let Some(version) = arguments.repository.as_deref().filter(|it| is_version(it.trim_start_matches(':')))
    {
        let message = format!("--repository {version} is a version and names no repository");
        return Err(DeployError::new(
            message,
            "the manifest names the image by its digest: leave the tag out",
        )
        .into());
    }
    let names: Vec<String> = match (&arguments.resolve, &arguments.image) {
        (Some(file), _) => resolve::names(&read(&env.current_dir.join(file))?).into_iter().collect(),
        (None, Some(image)) if is_own(image) => {
            // What is wrong with the settings is said before anything is built.
            settings(root, image)?;
            vec![image.clone()]
        }
        _ => vec![],
    };
    let images = if names.is_empty() { WantedImages::None } else { WantedImages::Named(names) };
    plan::write(
        file,
        &Wanted { images, pulled: vec![], baseline: None, keeper: false, quiet: arguments.quiet },
    )?;
    Ok(Outcome::Done)
}

/// The second step.
fn run(arguments: &DeployArguments, plan: &Plan, ui: Ui) -> anyhow::Result<Outcome> {
    let env = Environment::read()?;
    if let Some(file) = &arguments.resolve {
        return resolved(&env.current_dir.join(file), arguments.repository.as_deref(), plan, ui);
    }
    let name = arguments.image.as_deref().unwrap_or_default();
    let local = local_image(name, plan, &env)?;
    let root = &plan.workspace.root;
    let mut settings = if is_own(name) { settings(root, name)? } else { Settings::default() };
    settings.rate = arguments.rate.or(settings.rate);
    settings.replicas = arguments.replicas.or(settings.replicas);
    settings.repository = arguments.repository.clone().or(settings.repository);
    let (report, others) = reports(arguments, name, plan, &env, ui)?;
    let short = Path::new(name).file_stem().map_or(name.into(), |stem| stem.to_string_lossy());
    let repository = settings.repository.as_deref().unwrap_or(&short);
    let image = local.facts(&report.target.digest, repository, settings.port)?;
    if settings.repository.is_none() {
        ui.warning(&format!("{repository} names no registry: state one with --repository or under [deploy]"));
    }
    let evidence = Evidence::new(&report, arguments.run, &others)?;
    let allow = Allowances { doubtful: arguments.allow_doubtful, unproved: arguments.allow_unproved };
    let numbers = recommend(evidence, &settings, arguments.kind, !image.volumes.is_empty(), allow)?;
    for note in &numbers.notes {
        ui.warning(note);
    }
    let application = Application::new(&short, &image, &numbers, evidence, &settings)?;
    let text = application.write(arguments.kind, &header(evidence, &numbers.notes, arguments.kind))?;
    let Some(folder) = &arguments.output else {
        ui.result(text.trim_end())?;
        return Ok(Outcome::Done);
    };
    let file = env.current_dir.join(folder).join(format!("{}.yaml", arguments.kind.name()));
    if arguments.check {
        return check(&file, &text, ui);
    }
    let written = std::fs::create_dir_all(env.current_dir.join(folder))
        .and_then(|()| private::replace_file(&file, text.as_bytes()));
    written.with_context(|| format!("cannot write {}", file.display()))?;
    ui.result(&plan.workspace.show(&file))?;
    Ok(Outcome::Done)
}

/// What stands at the top of a manifest.
fn header(evidence: Evidence<'_>, notes: &[String], kind: Kind) -> Vec<String> {
    let Report { tool, taken, target, host, profile, .. } = evidence.report;
    let mut lines = vec![
        format!(
            "Written by `cargo xtask deploy --for {}`, of tare {}.",
            kind.name(),
            env!("CARGO_PKG_VERSION")
        ),
        format!(
            "Measured {taken} by tare {tool}, profile {}: {} on {}.",
            profile.name, target.digest, target.platform
        ),
        format!(
            "Under {}, on {} with {} CPUs, Linux {}.",
            evidence.limits(),
            host.cpu,
            host.cpus,
            host.kernel
        ),
    ];
    lines.extend(notes.iter().map(|note| format!("Note: {note}")));
    lines
}

/// Whether a file is what would be written.
fn check(file: &Path, text: &str, ui: Ui) -> anyhow::Result<Outcome> {
    let written = read(file)?;
    if written == text {
        ui.status("Checked", &format!("{} has the numbers of this profile", file.display()));
        return Ok(Outcome::Done);
    }
    let mut lines = written.lines().zip(text.lines()).enumerate();
    let place = lines
        .find(|(_, (old, new))| old != new)
        .map_or("its length differs".to_owned(), |(at, (old, new))| {
            format!("line {} is `{}` and would be `{}`", at + 1, old.trim(), new.trim())
        });
    ui.error(
        &format!("{} is older than this image's profile: {place}", file.display()),
        Some("write it again: the same command without --check"),
    );
    Ok(Outcome::GateFailed)
}

/// Prints a file with its images replaced.
fn resolved(file: &Path, repository: Option<&str>, plan: &Plan, ui: Ui) -> anyhow::Result<Outcome> {
    let text = read(file)?;
    let mut references = std::collections::BTreeMap::new();
    for name in resolve::names(&text) {
        let Some(image) = plan.images.iter().find(|image| image.name == name) else {
            let message = format!("{}: tare://{name} is no image of this workspace", file.display());
            return Err(DeployError::new(
                message,
                format!("`{} list` has their names", environment::command()),
            )
            .into());
        };
        let stated = settings(&plan.workspace.root, &name)?.repository;
        let repository = match repository {
            Some(prefix) => format!("{}/{name}", prefix.trim_end_matches('/')),
            None => stated.unwrap_or_else(|| name.clone()),
        };
        let digest = LocalImage::read(Path::new(&image.location))?.digest;
        references.insert(name, format!("{}@{digest}", crate::image::pinned(&repository)?));
    }
    ui.result(resolve::replace(&text, |name| references.get(name).cloned()).trim_end_matches('\n'))?;
    Ok(Outcome::Done)
}

/// Whether a name is one of the workspace's images, and no path.
fn is_own(name: &str) -> bool {
    !name.contains([':', '/', '\\']) && !name.starts_with('.') && !Path::new(name).is_file()
}

fn local_image(name: &str, plan: &Plan, env: &Environment) -> anyhow::Result<LocalImage> {
    let planned = plan.images.iter().find(|image| image.name == name);
    let path = match planned {
        Some(image) => PathBuf::from(&image.location),
        None if is_own(name) => plan.workspace.target_dir.join("images").join(name).join("layout"),
        None => env.current_dir.join(name),
    };
    LocalImage::read(&path)
}

fn settings(root: &Path, name: &str) -> anyhow::Result<Settings> {
    let path = root.join("images").join(name).join("image.toml");
    if !path.exists() {
        return Ok(Settings::default());
    }
    let text =
        input::read_definition(root, &path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Settings::parse(&path, &text)?)
}

/// The report that figures are taken from, and those that only prove limits.
fn reports(
    arguments: &DeployArguments,
    name: &str,
    plan: &Plan,
    env: &Environment,
    ui: Ui,
) -> anyhow::Result<(Report, Vec<Report>)> {
    let mut found = Vec::new();
    if arguments.report.is_empty() {
        let folder = plan.workspace.target_dir.join("profiles").join(name);
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let file = entry.path().join("report.json");
            if !file.is_file() {
                continue;
            }
            match read_report(&file) {
                Ok(report) => found.push((file, report)),
                Err(error) => ui.warning(&format!("left out: {}", exit::chain(&error))),
            }
        }
    }
    for file in &arguments.report {
        let file = env.current_dir.join(file);
        found.push((file.clone(), read_report(&file)?));
    }
    // Times in RFC 3339 of one zone are ordered as texts.
    let newest = (0..found.len())
        .filter(|at| evidence::is_complete(&found[*at].1))
        .max_by(|a, b| found[*a].1.taken.cmp(&found[*b].1.taken));
    let Some(newest) = newest else {
        let message = format!("no report measures {name} under load");
        let command = environment::command();
        let hint = format!(
            "run in this order: `{command} profile {name}`; this command, which names the call that tests the memory \
             limit; that call; this command again. Or name reports with --report FILE"
        );
        return Err(DeployError::new(message, hint).into());
    };
    let (file, report) = found.swap_remove(newest);
    let age = age(&report.taken).map_or(String::new(), |age| format!(", {age} ago"));
    ui.status("Reading", &format!("{}, taken {}{age}", plan.workspace.show(&file), report.taken));
    Ok((report, found.into_iter().map(|(_, report)| report).collect()))
}

fn read_report(file: &Path) -> anyhow::Result<Report> {
    Report::parse(&read(file)?).with_context(|| file.display().to_string())
}

fn read(file: &Path) -> anyhow::Result<String> {
    input::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

/// How long ago a report was taken, in its largest unit.
fn age(taken: &str) -> Option<String> {
    let then = seconds(taken)?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?.as_secs();
    let age = now.checked_sub(then)?;
    let units = [("days", 86_400), ("hours", 3_600), ("minutes", 60), ("seconds", 1)];
    units
        .iter()
        .find(|(_, length)| age >= 2 * length)
        .map(|(unit, length)| format!("{} {unit}", age / length))
}

/// Seconds since 1970 of `2026-11-30T12:00:00Z`. The days are Howard Hinnant's `days_from_civil`.
fn seconds(time: &str) -> Option<u64> {
    let number = |range: std::ops::Range<usize>| time.get(range)?.parse::<u64>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (year, shifted) = if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (153 * shifted + 2) / 5 + day;
    Some(
        days.checked_sub(719_469)? * 86_400
            + number(11..13)? * 3_600
            + number(14..16)? * 60
            + number(17..19)?,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn times_are_read() {
        assert_eq!(seconds("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(seconds("2000-02-29T00:00:01Z"), Some(951_782_401));
        assert_eq!(seconds("2026-11-24T12:34:56Z"), Some(1_795_523_696));
        for text in ["", "yesterday", "2026-11-24", "2026-00-00"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
