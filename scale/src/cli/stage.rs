//! What containers are run with: the runtime, its folders, and what must be removed when a signal comes.

use std::path::PathBuf;

use anyhow::Context as _;
use xtask_tare::environment::Environment;
use xtask_tare::process::Cmd;
use xtask_tare::ui::Ui;
use xtask_tare::workspace::Workspace;

use crate::container::leftovers::{self, Cleanup};
use crate::container::runtime::{Options, Runtime, RuntimeKind, is_root};

use super::xtask::Xtask;

/// As a shell reports a program that SIGINT ended.
const INTERRUPTED: i32 = 130;

/// Where what was unpacked is kept.
pub(super) fn cache(workspace: &Workspace) -> PathBuf {
    workspace.output_dir().join(".cache")
}

/// Where images out of others' stores lie as long as they are used.
pub(super) fn temporary(workspace: &Workspace) -> anyhow::Result<PathBuf> {
    let folder = cache(workspace).join("temporary");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder)
}

/// Opens the runtime, the embedded one if none is named, and removes what killed runs left.
pub(super) fn open(
    kind: Option<RuntimeKind>,
    env: &Environment,
    workspace: &Workspace,
    xtask: &Xtask,
    ui: Ui,
) -> anyhow::Result<Runtime> {
    let kind =
        kind.unwrap_or(if cfg!(target_os = "linux") { RuntimeKind::Embedded } else { RuntimeKind::Docker });
    // It also watches over what the command line of other runtimes made.
    let keeper = match (kind.is_daemon(), env.get("TARE_RUNTIME")) {
        (true, _) => None,
        (false, Some(path)) => Some(PathBuf::from(path)),
        (false, None) => Some(xtask.runtime()?),
    };
    let cleanup = Cleanup::default();
    let at_signal = cleanup.clone();
    ctrlc::set_handler(move || {
        at_signal.run();
        #[expect(clippy::exit, reason = "this is the command line, and what must not stay is removed")]
        std::process::exit(INTERRUPTED);
    })
    .context("cannot handle signals")?;
    let runtime_dir = env.get("XDG_RUNTIME_DIR").map(PathBuf::from);
    #[cfg(unix)]
    let user = rustix::process::geteuid().as_raw();
    #[cfg(not(unix))]
    let user = 0;
    let options = Options {
        cache: cache(workspace).join("roots"),
        state: leftovers::state_folder(is_root(), runtime_dir.as_deref(), &std::env::temp_dir(), user),
        keeper,
        path: env.get("PATH").cloned(),
        cleanup,
    };
    let runtime = Runtime::open(kind, &options)?;
    for left in runtime.swept() {
        ui.warning(&format!("removed what a killed run had left: {left}"));
    }
    Ok(runtime)
}

/// What a runtime says of its version: of its own program, in a line.
pub(super) fn version(kind: RuntimeKind, env: &Environment) -> String {
    let unknown = || "unknown".to_owned();
    if kind == RuntimeKind::Embedded {
        return env!("CARGO_PKG_VERSION").to_owned();
    }
    let Some(program) = xtask_tare::process::find_program(kind.name(), env.get("PATH")) else {
        return unknown();
    };
    let output = Cmd::new(program).arg("--version").read().unwrap_or_default();
    let text = String::from_utf8_lossy(&output).into_owned();
    text.lines().next().map_or_else(unknown, |line| line.trim().to_owned())
}
