//! `cargo xtask bench image`: sizes and times of packaging beside others' tools. `cargo xtask bench server`:
//! the sample server beside its peers. `cargo xtask bench fidelity`: what the scale says beside what is known.
//!
//! Each part measures, and hands over what it found as data; only here is it printed and written.
//! Ratios count, taken within a round; times in themselves are the machine's.

mod contest;
mod daemon;
#[cfg(target_os = "linux")]
pub(crate) mod fidelity;
mod fixture;
mod large;
mod levels;
mod packaging;
mod rebuild;
mod report;
mod scratch;
#[cfg(target_os = "linux")]
pub(crate) mod server;
mod size;
mod stats;
mod usage;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Serialize;

use self::fixture::Built;
use self::report::{Goal, Part};
use self::scratch::Scratch;
use tare_tool::environment::Environment;
use tare_tool::process::{Cmd, find_program};
use tare_tool::ui::Ui;
use xtask_tare::workspace::Workspace;

/// What is to be measured.
#[derive(Debug)]
pub(crate) struct Options {
    /// Rounds of each measurement.
    pub(crate) rounds: u32,
    /// Only the parts whose names contain this.
    pub(crate) only: String,
}

/// The image that is measured.
const SAMPLE: &str = "app";

/// Measures one part with what all parts of a bench have in common.
type Measure<T> = fn(&T) -> anyhow::Result<Part>;

fn parts<'a>() -> [(&'static str, Measure<Bench<'a>>); 5] {
    [
        ("packaging", packaging::measure),
        ("rebuild", rebuild::measure),
        ("size", size::measure),
        ("levels", levels::measure),
        ("large", large::measure),
    ]
}

/// What every part needs.
struct Bench<'a> {
    rounds: u32,
    /// This very program, as it was built.
    exe: PathBuf,
    /// The toolchain's own cargo: a rustup shim in between would be measured too.
    cargo: PathBuf,
    workspace: &'a Workspace,
    env: &'a Environment,
    ui: Ui,
}

/// `target/bench/image.json`, or of another bench
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Results<'a> {
    /// The median of an even number of rounds is the mean of the two in the middle.
    rounds: u32,
    processors: usize,
    /// Processes that ran or waited to, the mean of the minute before (proc_loadavg(5)).
    load_before: Option<String>,
    parts: &'a [Part],
}

/// Measures; false if something that must be reached is not.
pub(crate) fn image(
    options: &Options,
    workspace: &Workspace,
    env: &Environment,
    ui: Ui,
) -> anyhow::Result<bool> {
    let bench = Bench::new(options.rounds, workspace, env, ui)?;
    run("image", &bench, &bench, &choose(&parts(), &options.only)?)
}

/// The parts whose names contain `only`.
fn choose<T>(
    parts: &[(&'static str, Measure<T>)],
    only: &str,
) -> anyhow::Result<Vec<(&'static str, Measure<T>)>> {
    let chosen: Vec<_> = parts.iter().filter(|(name, _)| name.contains(only)).copied().collect();
    if chosen.is_empty() {
        let names: Vec<&str> = parts.iter().map(|(name, _)| *name).collect();
        anyhow::bail!("--only: no part is called `{only}`; there are: {}", names.join(", "));
    }
    Ok(chosen)
}

/// Measures part after part, shows them and writes `target/bench/NAME.json`.
fn run<T>(
    name: &str,
    bench: &Bench<'_>,
    common: &T,
    chosen: &[(&'static str, Measure<T>)],
) -> anyhow::Result<bool> {
    let Bench { ui, workspace, env, .. } = bench;
    let load_before = load();
    // More than a tenth of a processor is somebody else's.
    if let Some(load) = load_before.as_deref().filter(|load| load.parse::<f64>().is_ok_and(|load| load > 0.1))
    {
        ui.warning(&format!(
            "others use this machine (load {load}): times are too long, and some goals need quiet"
        ));
    }
    let mut parts = Vec::new();
    for (part, measure) in chosen {
        ui.status("Measuring", part);
        let part = measure(common).with_context(|| format!("cannot measure {part}"))?;
        ui.result(&part.text())?;
        parts.push(part);
        // After each part, so that an error later on does not lose what was found.
        let results = Results {
            rounds: bench.rounds,
            processors: env.parallelism,
            load_before: load_before.clone(),
            parts: &parts,
        };
        let path = bench.dir().join(format!("{name}.json"));
        fixture::write(&path, &serde_json::to_vec_pretty(&results)?)?;
        ui.status("Written", &workspace.show(&path));
    }
    Ok(parts.iter().flat_map(|part| &part.goals).all(Goal::reached))
}

fn load() -> Option<String> {
    let loads = std::fs::read_to_string("/proc/loadavg").ok()?;
    Some(loads.split(' ').next()?.to_owned())
}

/// The cargo that called us; called directly, that of the workspace's toolchain.
fn toolchain_cargo(workspace: &Workspace, env: &Environment) -> anyhow::Result<PathBuf> {
    if let Some(cargo) = env.get("CARGO") {
        return Ok(PathBuf::from(cargo));
    }
    let sysroot = Cmd::new("rustc").args(["--print", "sysroot"]).current_dir(&workspace.root).read()?;
    let sysroot = String::from_utf8_lossy(&sysroot).trim().to_owned();
    Ok(Path::new(&sysroot).join("bin/cargo"))
}

impl<'a> Bench<'a> {
    fn new(rounds: u32, workspace: &'a Workspace, env: &'a Environment, ui: Ui) -> anyhow::Result<Self> {
        anyhow::ensure!(rounds > 0, "--rounds: at least one");
        let exe = crate::xtask()?;
        let cargo = toolchain_cargo(workspace, env)?;
        Ok(Self { rounds, exe, cargo, workspace, env, ui })
    }

    /// `target/bench`
    fn dir(&self) -> PathBuf {
        self.workspace.target_dir.join("bench")
    }

    fn scratch(&self, part: &str) -> anyhow::Result<Scratch> {
        Scratch::create(self.dir().join(part))
    }

    /// `cargo xtask …` in a workspace, without cargo in between.
    fn tare(&self, root: &Path) -> Cmd {
        // Every workspace has its own target folder.
        let target = ["CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR"].map(OsString::from);
        Cmd::new(&self.exe)
            .without_env(self.env.of_cargo_run())
            .without_env(target.iter().filter(|_| root != self.workspace.root))
            .env("CARGO", &self.cargo)
            .current_dir(root)
    }

    /// Builds the sample as everybody does.
    fn sample(&self) -> anyhow::Result<Built> {
        self.image(SAMPLE)
    }

    /// Builds an image of this workspace.
    fn image(&self, name: &str) -> anyhow::Result<Built> {
        self.ui.status("Building", name);
        let command = self.tare(&self.workspace.root).args(["image", name, "--quiet", "--json"]);
        Built::parse(&command.read()?)
    }

    /// A tool on PATH or where `.ci/tools` installs it.
    fn tool(&self, name: &str) -> Option<PathBuf> {
        let beside = || Some(self.tools()?.join("bin").join(name)).filter(|path| path.is_file());
        find_program(name, self.env.get("PATH")).or_else(beside)
    }

    /// Where `.ci/tools` installs what is not the system's.
    fn tools(&self) -> Option<PathBuf> {
        if let Some(tools) = self.env.get("TARE_TOOLS") {
            return Some(PathBuf::from(tools));
        }
        let cache = match self.env.get("XDG_CACHE_HOME") {
            Some(cache) => PathBuf::from(cache),
            None => Path::new(self.env.get("HOME")?).join(".cache"),
        };
        Some(cache.join("tare-tools"))
    }
}
