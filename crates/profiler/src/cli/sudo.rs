//! `--sudo`: what needs root runs as root, and nothing else.
//!
//! The process of the user builds images and runtime and fetches images out of others' stores. Then it starts this
//! program a second time through sudo, with the same arguments and a [`HandOver`], and waits for it. That process
//! starts no cargo and no xtask, keeps what it unpacks in a folder of root's, and writes reports with the
//! rights of the user.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tare_tool::environment::Environment;
use tare_tool::process::Cmd;
use tare_tool::ui::Ui;
use xtask_tare::workspace::Workspace;

use super::Outcome;
use super::stage::Stopped;

/// Holds the hand-over.
const HANDED_OVER: &str = "TARE_HANDED_OVER";
/// What else of the user's environment root's process is given; sudo keeps little by itself.
const PASSED_ON: [&str; 3] = ["DOCKER_HOST", "GITHUB_STEP_SUMMARY", "NO_COLOR"];
/// Where root's process keeps unpacked images and the like (FHS 3.0, 5.5).
pub(super) const CACHE: &str = "/var/cache/tare";

/// What root's process gets from the user's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HandOver {
    /// The workspace's folder.
    pub(super) workspace: PathBuf,
    /// Its target folder.
    pub(super) target_dir: PathBuf,
    /// The program `tare-keeper`; none where a daemon makes the containers.
    pub(super) keeper: Option<PathBuf>,
    /// The images to measure.
    pub(super) images: Vec<Image>,
    user: User,
}

/// An image that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Image {
    /// Its name in reports and folders.
    pub(super) name: String,
    /// Its layout or archive.
    pub(super) location: String,
    /// Its program with symbols.
    pub(super) twin: Option<PathBuf>,
}

/// Who called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct User {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
}

impl User {
    #[cfg(unix)]
    fn this() -> anyhow::Result<Self> {
        let groups = rustix::process::getgroups().context("cannot read the groups of this user")?;
        Ok(Self {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            groups: groups.into_iter().map(rustix::process::Gid::as_raw).collect(),
        })
    }

    #[cfg(not(unix))]
    fn this() -> anyhow::Result<Self> {
        anyhow::bail!("there is no sudo here")
    }
}

impl HandOver {
    /// What this process's user has built.
    pub(super) fn new(
        workspace: &Workspace,
        keeper: Option<PathBuf>,
        images: Vec<Image>,
    ) -> anyhow::Result<Self> {
        let (root, target_dir) = (workspace.root.clone(), workspace.target_dir.clone());
        Ok(Self { workspace: root, target_dir, keeper, images, user: User::this()? })
    }

    /// What this process was given, if it is root's.
    pub(super) fn received(env: &Environment) -> anyhow::Result<Option<Self>> {
        let Some(text) = env.text(HANDED_OVER) else { return Ok(None) };
        serde_json::from_str(&text).map(Some).context(HANDED_OVER)
    }

    /// As far as a measurement needs it.
    pub(super) fn workspace(&self) -> Workspace {
        Workspace {
            root: self.workspace.clone(),
            target_dir: self.target_dir.clone(),
            packages: Vec::new(),
            metadata: serde_json::Value::Null,
            profiles: Vec::new(),
        }
    }

    /// Starts root's process and waits for its end.
    pub(super) fn measure(&self, env: &Environment, ui: Ui) -> anyhow::Result<Outcome> {
        let program = std::env::current_exe().context("cannot find this program")?;
        let handed_over = format!("{HANDED_OVER}={}", serde_json::to_string(self)?);
        let sudo = || Cmd::new("sudo").args(["--non-interactive", "--"]);
        if let Err(error) = sudo().arg("true").read() {
            let hint =
                "call `sudo --validate` first, which asks for the password, or choose `--runtime docker`";
            return Err(Stopped { reason: error.to_string(), hint: hint.to_owned() }.into());
        }
        let passed_on = PASSED_ON.iter().filter_map(|name| Some(format!("{name}={}", env.text(name)?)));
        let command = sudo().arg("env").arg(handed_over).args(passed_on).arg(program);
        ui.status("Measuring", "as root, through sudo");
        // The signals of a terminal reach both processes; root's ends by itself. Any other signal reaches
        // this one alone, which may not send root's one: that sees the end of its stdin instead.
        let held = Arc::new(Mutex::new(None));
        let at_signal = Arc::clone(&held);
        ctrlc::set_handler(move || drop(lock(&at_signal).take())).context("cannot handle signals")?;
        let command = command.args(std::env::args_os().skip(1));
        let code = command.run_with_stdin_held(|stdin| *lock(&held) = Some(stdin))?;
        Ok(Outcome::Exit(code))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Calls `write` with the rights of the user that the report is for: files become theirs, and lead nowhere where
/// they may not write themselves.
pub(super) fn as_user<T: Send>(
    handed_over: Option<&HandOver>,
    write: impl FnOnce() -> T + Send,
) -> anyhow::Result<T> {
    match handed_over {
        None => Ok(write()),
        Some(HandOver { user, .. }) => with_rights_of(user, write),
    }
}

/// On a thread of its own, because the kernel keeps a thread's rights apart (credentials(7)); the C library's
/// functions would change them for all.
#[cfg(target_os = "linux")]
fn with_rights_of<T: Send>(user: &User, write: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
    use rustix::process::{Gid, Uid};
    use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

    let become_user = || {
        let groups: Vec<Gid> = user.groups.iter().map(|group| Gid::from_raw(*group)).collect();
        let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
        set_thread_groups(&groups)?;
        set_thread_res_gid(gid, gid, gid)?;
        set_thread_res_uid(uid, uid, uid)
    };
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            become_user().with_context(|| format!("cannot write as user {}", user.uid))?;
            Ok(write())
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[cfg(not(target_os = "linux"))]
fn with_rights_of<T: Send>(_: &User, _: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
    anyhow::bail!("there is no sudo here")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handed_over(uid: u32) -> HandOver {
        let image = Image { name: "app".to_owned(), location: "/t/layout".to_owned(), twin: None };
        let user = User { uid, gid: uid, groups: vec![uid] };
        let (workspace, target_dir) = ("/w".into(), "/t".into());
        HandOver { workspace, target_dir, keeper: None, images: vec![image], user }
    }

    #[test]
    fn what_is_handed_over_arrives() {
        let env = |variables: &[(&str, String)]| Environment {
            variables: variables.iter().map(|(name, value)| (name.into(), value.into())).collect(),
            current_dir: PathBuf::new(),
            parallelism: 1,
        };
        let sent = handed_over(1001);
        let text = serde_json::to_string(&sent).unwrap();
        assert_eq!(HandOver::received(&env(&[(HANDED_OVER, text)])).unwrap(), Some(sent));
        assert_eq!(HandOver::received(&env(&[])).unwrap(), None);
        let error = HandOver::received(&env(&[(HANDED_OVER, "{}".to_owned())])).unwrap_err();
        assert_eq!(error.to_string(), HANDED_OVER);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_root_writes_for_a_user_is_theirs_and_written_with_their_rights() {
        use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
        use std::path::Path;

        if !tare_container::runtime::is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let (theirs, roots) = (folder.path().join("theirs"), folder.path().join("roots"));
        for path in [&theirs, &roots] {
            std::fs::create_dir(path).unwrap();
        }
        chown(&theirs, Some(1001), Some(1001)).unwrap();
        let user = handed_over(1001);
        let write =
            |folder: &Path| as_user(Some(&user), || std::fs::write(folder.join("file"), "x")).unwrap();
        write(&theirs).unwrap();
        let data = std::fs::metadata(theirs.join("file")).unwrap();
        assert_eq!((data.uid(), data.gid()), (1001, 1001));
        assert_eq!(write(&roots).unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
        // This thread is root's still, and so is whatever it does for nobody else.
        as_user(None, || std::fs::write(roots.join("file"), "x")).unwrap().unwrap();
        assert_eq!(std::fs::metadata(roots.join("file")).unwrap().uid(), 0);
    }
}
