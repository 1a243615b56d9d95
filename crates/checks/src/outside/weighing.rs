//! `cargo xtask profile` as the checks call it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::Value;

use super::context::Context;
use super::expect::{at, json};
use tare_tool::plan::{self, Folders, Plan};
use tare_tool::process::Cmd;
use tare_tool::toolkit::Part;

/// The scale and the runtime that it needs, which are built outside of the namespaces, and a folder for what it
/// writes.
pub(super) struct Scale {
    program: PathBuf,
    /// What it is run with.
    plan: PathBuf,
    pub(super) folder: PathBuf,
}

impl Scale {
    pub(super) fn new(context: &Context<'_>, name: &str) -> anyhow::Result<Self> {
        let part = |part| context.workspace.toolkit().build(part, context.env, context.ui);
        let (program, keeper) = (part(Part::Profiler)?, Some(part(Part::Keeper)?));
        let (root, target_dir) = (context.workspace.root.clone(), context.workspace.target_dir.clone());
        let folder = context.new_folder(name)?;
        let file = folder.join("plan.json");
        let workspace = Folders { root, target_dir };
        plan::write(&file, &Plan { workspace, keeper, images: vec![], user: None })?;
        Ok(Self { program, plan: file, folder })
    }

    /// A profile of this text, to be named by its path.
    pub(super) fn write_profile(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.folder.join(format!("{name}.toml"));
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// The report of `cargo xtask profile TARGET`, as what is around it lets it run.
    pub(super) fn profile(
        &self,
        context: &Context<'_>,
        around: Cmd,
        target: &str,
        rest: &[&str],
    ) -> anyhow::Result<Value> {
        let (code, report) = self.verdict(context, around, target, rest)?;
        anyhow::ensure!(
            code == Some(0),
            "{target} {}: exit code {code:?}, events {:?}, verdicts {}",
            rest.join(" "),
            events(&report),
            at(&report, "/verdicts")
        );
        Ok(report)
    }

    /// The same with its exit code, whatever that is.
    pub(super) fn verdict(
        &self,
        context: &Context<'_>,
        around: Cmd,
        target: &str,
        rest: &[&str],
    ) -> anyhow::Result<(Option<i32>, Value)> {
        let (code, output) = around
            .arg(&self.program)
            .args(["run", "--plan"])
            .arg(&self.plan)
            .args(["--", "profile", target, "--json", "--quiet", "--output"])
            .arg(&self.folder)
            .args(rest)
            .current_dir(&context.workspace.root)
            .without_env(["GITHUB_STEP_SUMMARY", "TARE_KEEPER"])
            .read_whatever()?;
        let report = json("`profile --json`", &output)
            .with_context(|| format!("{target} {}: exit code {code:?}", rest.join(" ")))?;
        Ok((code, report))
    }
}

/// A command around which there is nothing.
pub(super) fn bare() -> Cmd {
    Cmd::new(bare_program())
}

/// The program that [`bare`] begins with, for what wraps one.
pub(super) fn bare_program() -> &'static Path {
    Path::new("env")
}

/// The figures of a report by metric and case.
pub(super) fn figures(report: &Value) -> BTreeMap<String, f64> {
    let measurements = runs(report).flat_map(|run| at(run, "/measurements").as_array().into_iter().flatten());
    let key = |it: &Value| {
        let case = it["case"].as_str().map(|case| format!("@{case}")).unwrap_or_default();
        Some((format!("{}{case}", it["metric"].as_str()?), it["value"].as_f64()?))
    };
    measurements.filter_map(key).collect()
}

/// What went wrong, each as its kind, its message and the server's last output.
pub(super) fn events(report: &Value) -> Vec<(String, String, String)> {
    let events = runs(report).flat_map(|run| at(run, "/events").as_array().into_iter().flatten());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let lines =
        |value: &Value| value.as_array().into_iter().flatten().map(text).collect::<Vec<_>>().join("\n");
    events.map(|it| (text(&it["kind"]), text(&it["message"]), lines(&it["output"]))).collect()
}

fn runs(report: &Value) -> impl Iterator<Item = &Value> {
    at(report, "/runs").as_array().into_iter().flatten()
}
