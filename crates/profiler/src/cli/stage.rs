//! What containers are run with: the runtime, its folders, and what must be removed when a signal comes.

use std::path::PathBuf;

use anyhow::Context as _;
use tare_tool::environment::Environment;
use tare_tool::exit::INTERRUPTED;
use tare_tool::private;
use tare_tool::process::Cmd;
use tare_tool::ui::Ui;
use xtask_tare::workspace::Workspace;

use tare_container::choice::{self, Choice, Facts};
use tare_container::leftovers::{self, Cleanup};
#[cfg(target_os = "linux")]
use tare_container::rights;
use tare_container::runtime::{Options, Runtime, RuntimeKind, is_root};

use super::xtask::Xtask;

/// Set for a run that was started again to get rights, so that it is not started a third time.
const RESTARTED: &str = "TARE_RESTARTED";

/// Where what was unpacked is kept.
pub(super) fn cache(workspace: &Workspace) -> PathBuf {
    workspace.output_dir().join(".cache")
}

/// Where images out of others' stores lie as long as they are used.
pub(super) fn temporary(workspace: &Workspace) -> anyhow::Result<PathBuf> {
    let folder = cache(workspace).join("temporary");
    private::own_folder(&folder)?;
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
    let runtime_dir = env.get("XDG_RUNTIME_DIR").map(PathBuf::from);
    #[cfg(unix)]
    let user = rustix::process::geteuid().as_raw();
    #[cfg(not(unix))]
    let user = 0;
    let facts = Facts::gather(env.get("PATH"), runtime_dir.as_deref());
    let kind = match choice::decide(kind, &facts) {
        Choice::Use(kind) => kind,
        Choice::UseAndSay(kind, say) => {
            ui.status("Using", &format!("{kind}: {say}"));
            kind
        }
        Choice::Restart { through, say } if env.get(RESTARTED).is_none() => {
            ui.status("Restarting", say);
            return Err(restart(through));
        }
        Choice::Restart { through, .. } => {
            let reason = format!("containers cannot be made here, not even through `{}`", through.join(" "));
            let hint = "run it as root, or choose `--runtime docker`".to_owned();
            return Err(Stopped { reason, hint }.into());
        }
        Choice::Stop { reason, hint } => return Err(Stopped { reason, hint }.into()),
    };
    // It also watches over what the command line of other runtimes made.
    let keeper = match (kind.is_daemon(), env.get("TARE_KEEPER")) {
        (true, _) => None,
        (false, Some(path)) => Some(PathBuf::from(path)),
        (false, None) => Some(xtask.runtime()?),
    };
    #[cfg(target_os = "linux")]
    if !kind.is_daemon() {
        // Before any thread is started; after what was built for us and fetched from others' stores, which
        // know us by another user.
        rights::enter_namespace()?;
    }
    let cleanup = Cleanup::default();
    let at_signal = cleanup.clone();
    ctrlc::set_handler(move || {
        at_signal.run();
        leftovers::leave();
        #[expect(clippy::exit, reason = "this is the command line, and what must not stay is removed")]
        std::process::exit(INTERRUPTED.into());
    })
    .context("cannot handle signals")?;
    let options = Options {
        cache: cache(workspace).join("roots"),
        state: leftovers::state_folder(is_root(), runtime_dir.as_deref(), &std::env::temp_dir(), user),
        keeper,
        path: env.get("PATH").cloned(),
        cleanup,
    };
    let runtime = Runtime::open(kind, &options)?;
    for left in runtime.swept() {
        ui.warning(&left.to_string());
    }
    Ok(runtime)
}

/// Why no runtime can be used here.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub(super) struct Stopped {
    reason: String,
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
