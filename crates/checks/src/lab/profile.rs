//! `cargo xtask profile` as checks and benchmarks call it: in a process of its own, which always removes its containers.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context as _;

use super::context::{Context, write};
use tare_profiler::profile::report::{Event, Report};
use tare_tool::plan::{self, Folders, Plan};
use tare_tool::process::Execute as _;
use tare_tool::process::xshell::Cmd;
use tare_tool::toolkit::Part;

/// The profiler and the runtime that it needs, and a folder for what it writes.
pub(crate) struct Profiler {
    pub(crate) program: PathBuf,
    plan: PathBuf,
    folder: PathBuf,
}

impl Profiler {
    /// Builds the missing programs, outside of all namespaces.
    pub(crate) fn new(context: &Context<'_>, name: &str) -> anyhow::Result<Self> {
        let part = |part| context.workspace.toolkit(context.env).build(part, context.env, context.ui);
        let (program, keeper) = (part(Part::Profiler)?, Some(part(Part::Keeper)?));
        let (root, target_dir) = (context.workspace.root.clone(), context.workspace.target_dir.clone());
        let folder = context.new_folder(name)?;
        let plan = folder.join("plan.json");
        let workspace = Folders { root, target_dir };
        plan::write(&plan, &Plan { workspace, keeper, images: vec![], user: None })?;
        Ok(Self { program, plan, folder })
    }

    /// Writes a profile, and gives back its path, which names it.
    pub(crate) fn write_profile(&self, name: &str, text: &str) -> anyhow::Result<String> {
        let path = self.folder.join(format!("{name}.toml"));
        write(&path, text.as_bytes())?;
        Ok(path.display().to_string())
    }

    /// The exit code and output of `cargo xtask profile ARGUMENTS --json`, as the last words of a command such as `env`.
    pub(crate) fn run(&self, prefix: Cmd<'_>, arguments: &[&str]) -> anyhow::Result<(Option<i32>, Vec<u8>)> {
        let command = prefix.arg(&self.program).args(["run", "--plan"]).arg(&self.plan);
        let command = command.args(["--", "profile"]).args(arguments).args(["--json", "--quiet"]);
        let command = command.without_env(["GITHUB_STEP_SUMMARY", "TARE_KEEPER"]);
        Ok(command.capture_with_code()?)
    }

    /// The report on an image, with the exit code.
    pub(crate) fn verdict(
        &self,
        prefix: Cmd<'_>,
        target: &str,
        rest: &[&str],
    ) -> anyhow::Result<(Option<i32>, Report)> {
        let folder = self.folder.display().to_string();
        let (code, output) = self.run(prefix, &[&[target, "--output", &folder], rest].concat())?;
        let what = || format!("{target} {}: exit code {code:?}", rest.join(" "));
        Ok((code, Report::parse(&String::from_utf8_lossy(&output)).with_context(what)?))
    }

    /// The report on an image with which nothing is wrong.
    pub(crate) fn report(&self, prefix: Cmd<'_>, target: &str, rest: &[&str]) -> anyhow::Result<Report> {
        let (code, report) = self.verdict(prefix, target, rest)?;
        let rest = rest.join(" ");
        let (events, verdicts) = (events(&report), &report.verdicts);
        anyhow::ensure!(
            code == Some(0),
            "{target} {rest}: {code:?}, events {events:?}, verdicts {verdicts:?}"
        );
        Ok(report)
    }
}

/// The figures of a report by metric and case.
pub(crate) fn figures(report: &Report) -> BTreeMap<String, f64> {
    let measurements = report.runs.iter().flat_map(|run| &run.measurements);
    measurements.map(|measurement| (measurement.key(), measurement.value)).collect()
}

/// The value of a metric, whichever the case.
pub(crate) fn figure(report: &Report, metric: &str) -> anyhow::Result<f64> {
    let mut measurements = report.runs.iter().flat_map(|run| &run.measurements);
    let found = measurements.find(|measurement| measurement.metric == metric);
    Ok(found.with_context(|| format!("the report has no {metric}"))?.value)
}

/// What went wrong.
pub(crate) fn events(report: &Report) -> Vec<&Event> {
    report.runs.iter().flat_map(|run| &run.events).collect()
}
