//! `cargo xtask bench fidelity`: whether what the scale says is true. The load beside wrk, comparisons of
//! images that are known to differ and of images that are known not to, half a CPU, and what a start costs.

mod compare;
mod quota;
mod starts;
mod wrk;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;

use super::Bench;
use super::fixture::Fixture;
use super::server::Contest;
use tare_tool::environment::Environment;
use tare_tool::process::Cmd;
use tare_tool::ui::Ui;
use xtask_tare::workspace::Workspace;

/// What is to be measured.
#[derive(Debug)]
pub(crate) struct Options {
    /// Rounds of each measurement.
    pub(crate) rounds: u32,
    /// Only the parts whose names contain this.
    pub(crate) only: String,
    /// Comparisons of each kind.
    pub(crate) compares: u32,
    /// How long the server is under load in a round.
    pub(crate) duration: Duration,
}

/// What every part needs.
struct Fidelity<'a> {
    /// The bare epoll loop, for what needs a fast server.
    contest: Contest<'a>,
    compares: u32,
}

fn parts<'a>() -> [(&'static str, super::Measure<Fidelity<'a>>); 5] {
    [
        ("wrk", wrk::measure),
        ("quota", quota::measure),
        ("starts", starts::measure),
        ("regressions", compare::regressions),
        ("same", compare::same),
    ]
}

/// Measures; false if something that must be reached is not.
pub(crate) fn fidelity(
    options: &Options,
    workspace: &Workspace,
    env: &Environment,
    ui: Ui,
) -> anyhow::Result<bool> {
    let chosen = super::choose(&parts(), &options.only)?;
    let bench = Bench::new(options.rounds, workspace, env, ui)?;
    let contest = Contest::new(bench, &["floor"], options.duration, "fidelity")?;
    let fidelity = Fidelity { contest, compares: options.compares };
    super::run("fidelity", &fidelity.contest.bench, &fidelity, &chosen)
}

impl<'a> Fidelity<'a> {
    fn bench(&self) -> &Bench<'a> {
        &self.contest.bench
    }

    /// The program whose work is known, compiled for containers.
    fn program(&self) -> anyhow::Result<PathBuf> {
        let root = &self.bench().workspace.root;
        let program = self.contest.scratch.path().join("program");
        crate::compile(
            &root.join("crates/checks/programs/steps.rs"),
            &program,
            crate::host().target(),
            root,
        )?;
        Ok(program)
    }

    /// An image of it that takes so many steps for a request; its archive.
    fn image(&self, program: &Path, name: &str, steps: u64) -> anyhow::Result<PathBuf> {
        let fixture = Fixture::create(self.contest.scratch.folder("images")?)?;
        let bytes = std::fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
        let definition = format!(
            "[config]\nexposed-ports = [8080]\nenv = {{ STEPS = \"{steps}\" }}\n[[layers]]\nname = \"base\"\n"
        );
        fixture.image(name, &definition, &bytes)?;
        fixture.tare(self.bench()).args(["image", name, "--quiet"]).read()?;
        Ok(fixture.archive(name))
    }

    /// `cargo xtask profile …` in the workspace.
    fn profile(&self) -> Cmd {
        let bench = self.bench();
        bench.tare(&bench.workspace.root).arg("profile")
    }

    /// The report of a profile, which lies nowhere afterwards.
    fn report(&self, profile: Cmd) -> anyhow::Result<Value> {
        let output = self.contest.scratch.folder("report")?;
        let printed = profile.args(["--quiet", "--json", "--output"]).arg(output).read()?;
        Ok(serde_json::from_slice(&printed)?)
    }
}

/// The value of a metric in a report, in whichever case it was measured.
fn figure(report: &Value, metric: &str) -> anyhow::Result<f64> {
    let mut all = report["runs"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|run| run["measurements"].as_array().into_iter().flatten());
    let value = all.find(|it| it["metric"] == metric).and_then(|it| it["value"].as_f64());
    value.with_context(|| format!("the report has no {metric}"))
}
