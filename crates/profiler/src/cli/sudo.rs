//! `--sudo`: what needs root runs as root, and nothing else.
//!
//! xtask has built images and runtime as the user, and the user's process fetches images out of others' stores. Then
//! it starts this program a second time through sudo, for the same command line, gives it the [`Plan`] with all of
//! that on stdin, and waits for it. That process starts no cargo and no xtask, keeps what it unpacks in a folder of
//! root's, and writes reports with the rights of the user.

use std::io::{BufRead, Read as _, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use tare_tool::plan::{Plan, User};
use tare_tool::process::{Execute as _, Shell, cmd};

use super::Outcome;
use super::stage::{Session, Stopped};

/// What of the user's environment root's process is given; sudo keeps little by itself.
const PASSED_ON: [&str; 4] =
    ["DOCKER_HOST", "GITHUB_STEP_SUMMARY", "NO_COLOR", tare_tool::environment::COMMAND_VARIABLE];
/// What no plan is longer than.
const LIMIT: u64 = 1 << 20;

/// The user of this process.
#[cfg(unix)]
pub(super) fn this_user() -> anyhow::Result<User> {
    let groups = rustix::process::getgroups().context("cannot read the groups of this user")?;
    Ok(User {
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        groups: groups.into_iter().map(rustix::process::Gid::as_raw).collect(),
    })
}

#[cfg(not(unix))]
pub(super) fn this_user() -> anyhow::Result<User> {
    anyhow::bail!("there is no sudo here")
}

/// The plan that root's process was given: the first line of its stdin.
pub(super) fn received(stdin: &mut dyn BufRead) -> anyhow::Result<Plan> {
    let mut line = Vec::new();
    stdin.take(LIMIT).read_until(b'\n', &mut line).context("cannot read the plan on stdin")?;
    serde_json::from_slice(&line).context("stdin holds no plan")
}

/// Has root's process run a plan, and waits for its end.
pub(super) fn measure(plan: &Plan, session: &Session) -> anyhow::Result<Outcome> {
    let Session { env, words, ui, .. } = session;
    let program = std::env::current_exe().context("cannot find this program")?;
    let line = format!("{}\n", serde_json::to_string(plan)?);
    let sh = Shell::new()?;
    if let Err(error) = cmd!(sh, "sudo --non-interactive -- true").capture() {
        let hint = "call `sudo --validate` first, which asks for the password, or choose `--runtime docker`";
        return Err(Stopped { reason: error.to_string(), hint: hint.to_owned() }.into());
    }
    let passed_on = PASSED_ON.iter().filter_map(|name| Some(format!("{name}={}", env.text(name)?)));
    let command =
        cmd!(sh, "sudo --non-interactive -- env {passed_on...} {program} run --plan - -- {words...}");
    ui.status("Measuring", "as root, through sudo");
    // The signals of a terminal reach both processes; root's ends by itself. Any other signal reaches
    // this one alone, which may not send root's one: that sees the end of its stdin instead.
    let held = Arc::new(Mutex::new(None));
    let at_signal = Arc::clone(&held);
    ctrlc::set_handler(move || drop(lock(&at_signal).take())).context("cannot handle signals")?;
    let code = command.exit_code_with_stdin_held(|mut stdin| {
        // A process that does not read it ends with a reason of its own, which says more.
        let _ = stdin.write_all(line.as_bytes());
        *lock(&held) = Some(stdin);
    })?;
    Ok(Outcome::Exit(code))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Calls `write` with the rights of the user that the report is for: files become theirs, and lead nowhere where
/// they may not write themselves.
pub(super) fn as_user<T: Send>(user: Option<&User>, write: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
    match user {
        None => Ok(write()),
        Some(user) => with_rights_of(user, write),
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
    use tare_tool::plan::{Folders, PlannedImage};

    use super::*;

    #[test]
    fn what_is_handed_over_arrives_and_nothing_behind_it_is_taken() {
        let image =
            PlannedImage { name: "app".to_owned(), location: "/t/layout".to_owned(), platforms: vec![] };
        let plan = Plan {
            workspace: Folders { root: "/w".into(), target_dir: "/t".into() },
            keeper: None,
            images: vec![image],
            user: Some(User { uid: 1001, gid: 1001, groups: vec![1001] }),
        };
        let sent = format!("{}\nrest", serde_json::to_string(&plan).unwrap());
        let mut stdin = sent.as_bytes();
        assert_eq!((received(&mut stdin).unwrap(), stdin), (plan, &b"rest"[..]));
        for sent in ["", "{}\n", "no plan"] {
            assert_eq!(received(&mut sent.as_bytes()).unwrap_err().to_string(), "stdin holds no plan");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_root_writes_for_a_user_is_theirs_and_written_with_their_rights() {
        use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
        use std::path::Path;

        if !tare_container::rights::is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let (theirs, roots) = (folder.path().join("theirs"), folder.path().join("roots"));
        for path in [&theirs, &roots] {
            std::fs::create_dir(path).unwrap();
        }
        chown(&theirs, Some(1001), Some(1001)).unwrap();
        let user = User { uid: 1001, gid: 1001, groups: vec![1001] };
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
