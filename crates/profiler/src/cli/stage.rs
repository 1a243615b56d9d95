//! What containers are run with: the runtime, its folders, and what must be removed when a signal comes.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use tare_tool::environment::Environment;
use tare_tool::exit::INTERRUPTED;
use tare_tool::plan::{Plan, User};
use tare_tool::private;
use tare_tool::process::{Execute as _, Shell, cmd};
use tare_tool::ui::Ui;

use crate::profile::abilities;
use crate::profile::definition::Profile;
use crate::profile::subject;
use tare_container::choice::{self, Asked, Choice, Facts};
use tare_container::leftovers;
use tare_container::rights::is_root;
use tare_container::{Cleanup, Options, Runtime, RuntimeKind};

use super::arguments::ContainerArguments;

/// Set for a run that was started again to get rights, so that it is not started a third time.
const RESTARTED: &str = "TARE_RESTARTED";

/// Where root's process keeps unpacked images and the like (FHS 3.0, 5.5).
const ROOTS_CACHE: &str = "/var/cache/tare";

/// What a call has besides its own arguments.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) env: Environment,
    /// What was built, and where the workspace is.
    pub(super) plan: Plan,
    /// The command line without its step.
    pub(super) words: Vec<OsString>,
    pub(super) ui: Ui,
}

impl Session {
    /// In root's process: whose results these are.
    pub(super) fn user(&self) -> Option<&User> {
        self.plan.user.as_ref()
    }

    /// Where what was unpacked is kept.
    pub(super) fn cache(&self) -> PathBuf {
        match self.user() {
            // What root unpacks is root's, and has no place among the user's files.
            Some(_) => PathBuf::from(ROOTS_CACHE),
            None => self.plan.workspace.target_dir.join("images/.cache"),
        }
    }

    /// The program that watches over containers, also over what the command line of other runtimes made.
    pub(super) fn keeper(&self, kind: RuntimeKind) -> Option<PathBuf> {
        match self.env.get("TARE_KEEPER") {
            _ if kind.is_daemon() => None,
            Some(path) if self.user().is_none() => Some(self.env.current_dir.join(path)),
            _ => self.plan.keeper.clone(),
        }
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

/// Whether containers as the profile wants them can be made here, as far as that can be known before anything is
/// built. Says whether that takes `tare-keeper`.
pub(super) fn check(
    common: &ContainerArguments,
    profile: &Profile,
    env: &Environment,
) -> anyhow::Result<bool> {
    let kind = match decide(common, env, false)? {
        Choice::Use(kind) | Choice::UseAndSay(kind, _) => kind,
        _ => common.runtime.unwrap_or_default(),
    };
    if !common.sudo {
        // Root has other programs on its PATH.
        kind.find(env.get("PATH"))?;
    }
    if let Some(unable) = abilities::refusal(profile, kind, common.sudo || is_root()) {
        return Err(unable.into());
    }
    for limits in &profile.limits {
        subject::possible(limits)?;
    }
    Ok(!kind.is_daemon() && env.get("TARE_KEEPER").is_none())
}

/// Decides. Starts this program again where systemd has to give it a group first.
pub(super) fn choose(common: &ContainerArguments, session: &Session) -> anyhow::Result<Way> {
    let Session { env, ui, .. } = session;
    match decide(common, env, session.user().is_some())? {
        Choice::Use(kind) => Ok(Way::Here(kind)),
        Choice::UseAndSay(kind, say) => {
            ui.status("Using", &format!("{kind}: {say}"));
            Ok(Way::Here(kind))
        }
        Choice::Restart { through, say } => {
            ui.status("Restarting", say);
            Err(restart(through))
        }
        Choice::Sudo => Ok(Way::Sudo),
        Choice::Stop { reason, hint } => Err(Stopped { reason, hint }.into()),
    }
}

/// What to do. That nothing can be done is an error, also where that shows by a second attempt.
fn decide(common: &ContainerArguments, env: &Environment, handed_over: bool) -> anyhow::Result<Choice> {
    let facts = Facts::gather(env.get("PATH"), runtime_dir(env).as_deref());
    let stopped = |reason: String, hint: String| Err(Stopped { reason, hint }.into());
    let unable = |through: &str| {
        let reason = format!("containers cannot be made here, not even through `{through}`");
        stopped(reason, "run it as root, or choose `--runtime docker`".to_owned())
    };
    match choice::decide(Asked { runtime: common.runtime, sudo: common.sudo }, &facts) {
        Choice::Restart { through, .. } if env.get(RESTARTED).is_some() => unable(&through.join(" ")),
        Choice::Sudo if handed_over => unable("sudo"),
        Choice::Stop { reason, hint } => stopped(reason, hint),
        choice => Ok(choice),
    }
}

fn runtime_dir(env: &Environment) -> Option<PathBuf> {
    env.get("XDG_RUNTIME_DIR").map(PathBuf::from)
}

/// What the first signal of a user does. The second one always removes everything and ends the process.
#[derive(Debug, Clone)]
pub(super) enum AtSignal {
    /// The same as the second.
    Leave,
    /// It is noted once a container runs, which is then stopped in order.
    Stop(Arc<Stopping>),
    /// The same as the second, and writes what was measured before.
    Report(LastWords),
}

/// What is done when everything else is removed.
#[derive(Clone)]
pub(super) struct LastWords(pub(super) Arc<dyn Fn() + Send + Sync>);

impl std::fmt::Debug for LastWords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LastWords")
    }
}

/// Whether a container runs, and is to be stopped.
#[derive(Debug, Default)]
pub(super) struct Stopping {
    pub(super) is_running: AtomicBool,
    pub(super) is_asked: AtomicBool,
}

impl AtSignal {
    /// Whether this was the first, and has been noted.
    fn note(&self) -> bool {
        matches!(self, Self::Stop(it)
            if it.is_running.load(Ordering::Relaxed) && !it.is_asked.swap(true, Ordering::Relaxed))
    }
}

/// Handles signals from now on, so that an image that is fetched from another tool's store does not stay. Not where a
/// user namespace has to be entered first, which a process with a second thread cannot do.
pub(super) fn watch(way: Option<Way>, session: &Session, at_signal: &AtSignal) -> anyhow::Result<Watch> {
    let is_possible = match way {
        Some(Way::Sudo) => false,
        Some(Way::Here(kind)) => kind.is_daemon() || is_root(),
        None => true,
    };
    is_possible.then(|| handle_signals(session, at_signal)).transpose().map(Watch)
}

/// What is removed at a signal, where signals are handled already.
pub(super) struct Watch(Option<Cleanup>);

/// Opens a runtime, and removes what killed runs left.
pub(super) fn open(
    kind: RuntimeKind,
    session: &Session,
    watch: Watch,
    at_signal: &AtSignal,
) -> anyhow::Result<Runtime> {
    #[cfg(unix)]
    let user = rustix::process::geteuid().as_raw();
    #[cfg(not(unix))]
    let user = 0;
    let env = &session.env;
    let state = leftovers::state_folder(is_root(), runtime_dir(env).as_deref(), &std::env::temp_dir(), user);
    let keeper = session.keeper(kind);
    #[cfg(target_os = "linux")]
    if !kind.is_daemon() {
        // Before any thread is started; after what was built for us and fetched from others' stores, which
        // know us by another user.
        tare_container::rights::enter_namespace()?;
    }
    let cleanup = match watch {
        Watch(Some(cleanup)) => cleanup,
        Watch(None) => handle_signals(session, at_signal)?,
    };
    let path = env.get("PATH").cloned();
    let options = Options { cache: session.cache().join("roots"), state, keeper, path, cleanup };
    let runtime = Runtime::open(kind, &options)?;
    for left in runtime.swept() {
        session.ui.warning(&left.to_string());
    }
    Ok(runtime)
}

fn handle_signals(session: &Session, at_signal: &AtSignal) -> anyhow::Result<Cleanup> {
    let cleanup = Cleanup::default();
    let (of_signal, first, ui) = (cleanup.clone(), at_signal.clone(), session.ui);
    let handler = move || {
        if !first.note() {
            interrupted(&of_signal, &first, ui);
        }
    };
    ctrlc::set_handler(handler).context("cannot handle signals")?;
    if session.user().is_some() {
        // Nobody waits for the result any more when it ends. A terminal's signal reaches this process as well.
        let (of_end, first) = (cleanup.clone(), at_signal.clone());
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
            if !first.note() && !matches!(first, AtSignal::Stop(_)) {
                interrupted(&of_end, &first, ui);
            }
        });
    }
    Ok(cleanup)
}

/// Removes what must not stay, and ends.
fn interrupted(cleanup: &Cleanup, at_signal: &AtSignal, ui: Ui) {
    #[expect(clippy::exit, reason = "this is the command line, and what must not stay is removed")]
    leftovers::leave(cleanup, || {
        if let AtSignal::Report(words) = at_signal {
            (words.0)();
        }
        ui.interrupted();
        std::process::exit(INTERRUPTED.into());
    });
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
    let sh = match Shell::new() {
        Ok(sh) => sh,
        Err(error) => return error.into(),
    };
    let (first, rest) = through.split_first().unwrap_or((&"env", &[]));
    let arguments = std::env::args_os().skip(1);
    match cmd!(sh, "{first} {rest...} env {RESTARTED}=1 {program} {arguments...}").replace() {
        Ok(code) => anyhow::anyhow!("`{first}` ended with exit code {code}"),
        Err(error) => error.into(),
    }
}
