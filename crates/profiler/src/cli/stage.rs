//! What containers are run with: the runtime, its folders, and what must be removed when a signal comes.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tare_tool::environment::Environment;
use tare_tool::exit::INTERRUPTED;
use tare_tool::private;
use tare_tool::process::Cmd;
use tare_tool::ui::Ui;
use xtask_tare::workspace::{Workspace, WorkspaceError};

use tare_container::choice::{self, Asked, Choice, Facts};
use tare_container::leftovers::{self, Cleanup};
#[cfg(target_os = "linux")]
use tare_container::rights;
use tare_container::runtime::{Options, Runtime, RuntimeKind, is_root};

use super::profile::CommonArguments;
use super::sudo::{self, HandOver};
use super::xtask::{Xtask, XtaskError};

/// Set for a run that was started again to get rights, so that it is not started a third time.
const RESTARTED: &str = "TARE_RESTARTED";

/// The workspace, which root's process is told.
pub(super) fn workspace(
    env: &Environment,
    handed_over: Option<&HandOver>,
) -> Result<Workspace, WorkspaceError> {
    match handed_over {
        Some(handed_over) => Ok(handed_over.workspace()),
        None => Workspace::find(env),
    }
}

/// Where what was unpacked is kept.
pub(super) fn cache(workspace: &Workspace, handed_over: Option<&HandOver>) -> PathBuf {
    match handed_over {
        // What root unpacks is root's, and has no place among the user's files.
        Some(_) => PathBuf::from(sudo::CACHE),
        None => workspace.output_dir().join(".cache"),
    }
}

/// Where images out of others' stores lie as long as they are used.
pub(super) fn temporary(cache: &Path) -> anyhow::Result<PathBuf> {
    let folder = cache.join("temporary");
    private::own_folder(&folder)?;
    Ok(folder)
}

/// What makes containers, and as whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// This process.
    Here(RuntimeKind),
    /// A process of root's.
    Sudo,
}

/// Decides before anything is built. Starts this program again where systemd has to give it a group first.
pub(super) fn choose(
    common: &CommonArguments,
    env: &Environment,
    handed_over: Option<&HandOver>,
    ui: Ui,
) -> anyhow::Result<Way> {
    let facts = Facts::gather(env.get("PATH"), runtime_dir(env).as_deref());
    let unable = |through: &str| {
        let reason = format!("containers cannot be made here, not even through `{through}`");
        let hint = "run it as root, or choose `--runtime docker`".to_owned();
        anyhow::Error::from(Stopped { reason, hint })
    };
    match choice::decide(Asked { runtime: common.runtime, sudo: common.sudo }, &facts) {
        Choice::Use(kind) => Ok(Way::Here(kind)),
        Choice::UseAndSay(kind, say) => {
            ui.status("Using", &format!("{kind}: {say}"));
            Ok(Way::Here(kind))
        }
        Choice::Restart { through, say } if env.get(RESTARTED).is_none() => {
            ui.status("Restarting", say);
            Err(restart(through))
        }
        Choice::Restart { through, .. } => Err(unable(&through.join(" "))),
        Choice::Sudo if handed_over.is_none() => Ok(Way::Sudo),
        Choice::Sudo => Err(unable("sudo")),
        Choice::Stop { reason, hint } => Err(Stopped { reason, hint }.into()),
    }
}

fn runtime_dir(env: &Environment) -> Option<PathBuf> {
    env.get("XDG_RUNTIME_DIR").map(PathBuf::from)
}

/// The program that watches over containers, also over what the command line of other runtimes made.
pub(super) fn keeper(
    kind: RuntimeKind,
    env: &Environment,
    xtask: &Xtask,
) -> Result<Option<PathBuf>, XtaskError> {
    match (kind.is_daemon(), env.get("TARE_KEEPER")) {
        (true, _) => Ok(None),
        (false, Some(path)) => Ok(Some(env.current_dir.join(path))),
        (false, None) => xtask.runtime().map(Some),
    }
}

/// Opens a runtime, and removes what killed runs left.
pub(super) fn open(
    kind: RuntimeKind,
    env: &Environment,
    cache: &Path,
    xtask: &Xtask,
    handed_over: Option<&HandOver>,
    ui: Ui,
) -> anyhow::Result<Runtime> {
    #[cfg(unix)]
    let user = rustix::process::geteuid().as_raw();
    #[cfg(not(unix))]
    let user = 0;
    let state = leftovers::state_folder(is_root(), runtime_dir(env).as_deref(), &std::env::temp_dir(), user);
    let keeper = match handed_over {
        Some(handed_over) => handed_over.keeper.clone(),
        None => keeper(kind, env, xtask)?,
    };
    #[cfg(target_os = "linux")]
    if !kind.is_daemon() {
        // Before any thread is started; after what was built for us and fetched from others' stores, which
        // know us by another user.
        rights::enter_namespace()?;
    }
    let cleanup = Cleanup::default();
    let at_signal = cleanup.clone();
    ctrlc::set_handler(move || interrupted(&at_signal)).context("cannot handle signals")?;
    if handed_over.is_some() {
        // Nobody waits for the figures any more when it ends.
        let at_end = cleanup.clone();
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
            interrupted(&at_end);
        });
    }
    let path = env.get("PATH").cloned();
    let options = Options { cache: cache.join("roots"), state, keeper, path, cleanup };
    let runtime = Runtime::open(kind, &options)?;
    for left in runtime.swept() {
        ui.warning(&left.to_string());
    }
    Ok(runtime)
}

/// Removes what must not stay, and ends.
fn interrupted(cleanup: &Cleanup) {
    #[expect(clippy::exit, reason = "this is the command line, and what must not stay is removed")]
    leftovers::leave(cleanup, || std::process::exit(INTERRUPTED.into()));
}

/// Why no runtime can be used here.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub(super) struct Stopped {
    pub(super) reason: String,
    /// What to do about it.
    pub(super) hint: String,
}

/// Becomes the same command behind another one. Comes back only when that cannot be.
fn restart(through: &[&str]) -> anyhow::Error {
    let Ok(program) = std::env::current_exe() else { return anyhow::anyhow!("cannot find this program") };
    let (first, rest) = through.split_first().unwrap_or((&"env", &[]));
    let command = Cmd::new(first).args(rest).arg("env").arg(format!("{RESTARTED}=1")).arg(program);
    match command.args(std::env::args_os().skip(1)).replace() {
        Ok(code) => anyhow::anyhow!("`{first}` ended with exit code {code}"),
        Err(error) => error.into(),
    }
}

/// What a runtime says of its version: of its own program, in a line.
pub(super) fn version(kind: RuntimeKind, env: &Environment) -> String {
    let unknown = || "unknown".to_owned();
    if kind == RuntimeKind::Embedded {
        return env!("CARGO_PKG_VERSION").to_owned();
    }
    let Some(program) = tare_tool::process::find_program(kind.name(), env.get("PATH")) else {
        return unknown();
    };
    let output = Cmd::new(program).arg("--version").read().unwrap_or_default();
    let text = String::from_utf8_lossy(&output).into_owned();
    text.lines().next().map_or_else(unknown, |line| line.trim().to_owned())
}
