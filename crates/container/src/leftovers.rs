//! Records of running containers, and the removal of containers whose owner process was killed.
//!
//! Every container has a folder that names its owner. A process is identified by its id and its start time, because ids
//! are reused. Opening a runtime first removes everything that dead owners left behind: container, cgroup, interfaces and
//! folder.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use tare_tool::private;
use tare_tool::process::{Execute as _, Shell, cmd};

use super::cleanup::{self, Cleanup};
use super::kind::RuntimeKind;
use super::{group, network, rights};

/// A process that owns containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Its id.
    pub pid: u32,
    /// When it was started, in ticks since the host was (proc_pid_stat(5), `starttime`); 0 where that
    /// cannot be known.
    pub started: u64,
    /// The pid namespace that numbers it (pid_namespaces(7)); 0 where there are none. Runs in two containers may share a
    /// daemon, a network and a folder of records, and cannot see whether the other lives.
    #[serde(default)]
    pub namespace: u64,
}

impl Owner {
    /// This process.
    #[must_use]
    pub fn this() -> Self {
        let pid = std::process::id();
        Self { pid, started: started(pid).unwrap_or(0), namespace: group::numbering() }
    }

    /// Whether it still runs, as far as can be seen: a process of another pid namespace counts as running as long as
    /// that namespace may have processes.
    #[must_use]
    pub fn lives(self) -> bool {
        if self.namespace != 0 && self.namespace != group::numbering() {
            return group::may_live(self.namespace);
        }
        match self.started {
            0 => exists(self.pid),
            at => started(self.pid) == Some(at),
        }
    }
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.pid, self.started, self.namespace)
    }
}

impl std::str::FromStr for Owner {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split(':');
        let mut next = |default| parts.next().unwrap_or(default);
        Ok(Self { pid: next("").parse()?, started: next("0").parse()?, namespace: next("0").parse()? })
    }
}

/// Where a process's start is not known: whether there is one of that id at all. On Windows every process counts
/// as alive, so that nothing of a living one is removed.
fn exists(pid: u32) -> bool {
    #[cfg(unix)]
    {
        use rustix::process::{Pid, test_kill_process};
        let found = i32::try_from(pid).ok().and_then(Pid::from_raw).map(test_kill_process);
        matches!(found, Some(Ok(()) | Err(rustix::io::Errno::PERM)))
    }
    #[cfg(not(unix))]
    {
        let _ = pid;
        true
    }
}

fn started(pid: u32) -> Option<u64> {
    parse_started(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Field 22; the second holds the program's name, which may hold anything.
fn parse_started(stat: &str) -> Option<u64> {
    stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()
}

/// The record of one container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) owner: Owner,
    /// From the root of every hierarchy; none of containers that a daemon runs.
    pub(crate) cgroup: Option<PathBuf>,
    /// The runtime that made it and can remove it. Not the path of its program: a later run runs only the
    /// program that it finds itself.
    pub(crate) runtime: RuntimeKind,
}

const RECORD: &str = "owner.json";
/// All names of containers begin so, followed by the process that made them and a number.
const CONTAINER_PREFIX: &str = "tare-";
/// Where OCI runtimes keep their own state, in a container's folder.
pub(crate) const RUNTIME_STATE: &str = "runtime";

/// A container's folder. Dropped, it is removed.
#[derive(Debug)]
pub(crate) struct Folder {
    pub(crate) id: String,
    pub(crate) path: PathBuf,
}

impl Folder {
    /// Makes one with an id that no other container has.
    pub(crate) fn create(state: &Path, record: &Record) -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let id = format!("{CONTAINER_PREFIX}{}-{}", std::process::id(), of_namespace(number));
            let path = state.join(&id);
            match fs::create_dir(&path) {
                Ok(()) => {
                    let folder = Self { id, path };
                    let cgroup = record.cgroup.as_ref().map(|parent| parent.join(&folder.id));
                    let record = Record { cgroup, ..record.clone() };
                    private::replace_file(&folder.path.join(RECORD), &serde_json::to_vec(&record)?)?;
                    fs::create_dir(folder.path.join(RUNTIME_STATE))?;
                    return Ok(folder);
                }
                // Of a dead process that had our id.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// A number for a name that others in the same daemon, of another pid namespace, do not give.
fn of_namespace(number: u64) -> String {
    match group::numbering() {
        0 | group::INITIAL => number.to_string(),
        namespace => format!("{namespace}{number:04}"),
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A later sweep tries again.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Where records are kept: `/run/tare` of root, else in the user's runtime folder (XDG Base Directory), else
/// in the folder for temporary files.
#[must_use]
pub fn state_folder(root: bool, runtime_dir: Option<&Path>, temporary: &Path, user: u32) -> PathBuf {
    match (root, runtime_dir) {
        (true, _) => PathBuf::from("/run/tare"),
        (false, Some(folder)) => folder.join("tare"),
        (false, None) => temporary.join(format!("tare-{user}")),
    }
}

/// A container that a dead owner left behind, and whether it was removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leftover {
    /// It is gone now.
    Removed(String),
    /// It is still there.
    Kept {
        /// What.
        what: String,
        /// Why it could not be removed.
        why: String,
    },
}

impl std::fmt::Display for Leftover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Removed(what) => write!(f, "removed what a killed run had left: {what}"),
            Self::Kept { what, why } => write!(f, "a killed run left {what}, which stays: {why}"),
        }
    }
}

/// Removes what dead owners left, and says what that was. `find` finds the program of a runtime; no other is
/// run, whatever a record says.
#[must_use]
pub fn sweep(state: &Path, find: &dyn Fn(RuntimeKind) -> Option<PathBuf>) -> Vec<Leftover> {
    let mut left = Vec::new();
    for entry in fs::read_dir(state).into_iter().flatten().flatten() {
        let (path, id) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if !is_container(&id) || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        // Its owner may not have written it yet.
        let Ok(text) = fs::read(path.join(RECORD)) else { continue };
        let removed = match serde_json::from_slice::<Record>(&text) {
            Ok(record) if record.owner.lives() => continue,
            Ok(record) => remove_left(&id, &path, &record, find),
            Err(error) => Err(format!("{} is no record: {error}", path.join(RECORD).display())),
        };
        let what = format!("container {id}");
        left.push(match removed {
            Ok(()) => Leftover::Removed(what),
            Err(why) => Leftover::Kept { what, why },
        });
    }
    let is_dead = |pid| started(pid).is_none();
    let removed = |what: &str, name: String| Leftover::Removed(format!("{what} {name}"));
    let is_gone = |namespace, pid| group::is_gone(namespace, pid, is_dead);
    left.extend(network::sweep(is_gone).into_iter().map(|name| removed("interface", name)));
    left.extend(group::sweep(is_gone).into_iter().map(|name| removed("cgroup", name)));
    left
}

/// Whether [`Folder::create`] gives such names.
fn is_container(id: &str) -> bool {
    let numbers = id.strip_prefix(CONTAINER_PREFIX).and_then(|numbers| numbers.split_once('-'));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    numbers.is_some_and(|(pid, number)| is_number(pid) && is_number(number))
}

/// Whether a cgroup on record is the one that a container gets: called like it, below groups with plain names.
fn is_cgroup_of(id: &str, cgroup: &Path) -> bool {
    let mut components = cgroup.components();
    components.next() == Some(Component::RootDir)
        && components.all(|component| matches!(component, Component::Normal(_)))
        && cgroup.file_name().is_some_and(|name| name == id)
}

fn remove_left(
    id: &str,
    path: &Path,
    record: &Record,
    find: &dyn Fn(RuntimeKind) -> Option<PathBuf>,
) -> Result<(), String> {
    if let Some(cgroup) = record.cgroup.as_deref().filter(|cgroup| !is_cgroup_of(id, cgroup)) {
        return Err(format!("{} is not the cgroup of a container of this name", cgroup.display()));
    }
    let kind = record.runtime;
    let needs_program = kind != RuntimeKind::Embedded;
    let program = find(kind).filter(|_| needs_program);
    if let Some(program) = &program {
        let sh = Shell::new().map_err(|error| error.to_string())?;
        let state = path.join(RUNTIME_STATE);
        let command = match kind.is_daemon() {
            true => cmd!(sh, "{program} rm --force --volumes {id}"),
            false => cmd!(sh, "{program} --root {state} delete --force {id}"),
        };
        // The container may have ended already; its remains are removed below.
        let _ = command.capture();
    }
    if let Some(cgroup) = &record.cgroup {
        tare_keeper::cgroup::remove(cgroup).map_err(|error| error.to_string())?;
    }
    if needs_program && program.is_none() {
        return Err(format!("{kind}, which made it, is not on PATH"));
    }
    fs::remove_dir_all(path).map_err(|error| format!("cannot remove {}: {error}", path.display()))
}

/// Removes everything that must not outlive this process, and then calls `end`, which ends it. What is being
/// made is waited for, and nothing is made any more: it would stay.
pub fn leave(cleanup: &Cleanup, end: impl FnOnce()) {
    let _closed = cleanup::close();
    cleanup.run();
    cleanup::remove_transient();
    // A bridge of several containers.
    network::sweep(|namespace, pid| namespace == group::numbering() && pid == std::process::id());
    if rights::is_root() {
        // What stays the next run removes.
        let _ = tare_keeper::cgroup::remove(&group::group_of(std::process::id()));
    }
    end();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_known_by_its_start_too() {
        let owner = Owner::this();
        assert!(owner.lives());
        assert!(!Owner { started: owner.started + 1, ..owner }.lives());
        // As where the start cannot be known.
        assert!(Owner { started: 0, ..owner }.lives());
        let gone = Owner { pid: i32::MAX.cast_unsigned(), started: 0, ..owner };
        assert_eq!(gone.lives(), cfg!(not(unix)));
        assert_eq!("7:8".parse(), Ok(Owner { pid: 7, started: 8, namespace: 0 }));
        assert_eq!(owner.to_string().parse(), Ok(owner));
        let stat = "17 (a) b) S 1 17 17 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 987654 1 2 3";
        assert_eq!(parse_started(stat), Some(987_654));
    }

    const DEAD: Owner = Owner { pid: u32::MAX, started: 1, namespace: 0 };

    fn record(owner: Owner, runtime: RuntimeKind) -> Record {
        Record { owner, cgroup: None, runtime }
    }

    /// The list without containers that others on this host left behind.
    fn swept(state: &Path, find: &dyn Fn(RuntimeKind) -> Option<PathBuf>) -> Vec<Leftover> {
        let of_containers = |left: &Leftover| matches!(left, Leftover::Removed(what) | Leftover::Kept { what, .. } if what.starts_with("container "));
        sweep(state, find).into_iter().filter(of_containers).collect()
    }

    #[test]
    fn what_a_dead_owner_left_is_removed_and_a_living_ones_is_not() {
        let state = tempfile::tempdir().unwrap();
        let ours = Folder::create(state.path(), &record(Owner::this(), RuntimeKind::Embedded)).unwrap();
        let dead = Folder::create(state.path(), &record(DEAD, RuntimeKind::Embedded)).unwrap();
        assert_eq!(swept(state.path(), &|_| None), [Leftover::Removed(format!("container {}", dead.id))]);
        assert!(ours.path.exists() && !dead.path.exists());
    }

    /// A program that records its arguments.
    #[cfg(unix)]
    fn program(folder: &Path) -> (PathBuf, PathBuf) {
        use std::os::unix::fs::PermissionsExt as _;
        let (program, called) = (folder.join("program"), folder.join("called"));
        fs::write(&program, format!("#!/bin/sh\necho \"$@\" >>'{}'\n", called.display())).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        (program, called)
    }

    #[test]
    #[cfg(unix)]
    fn a_program_on_record_is_never_run() {
        let folder = tempfile::tempdir().unwrap();
        let (program, called) = program(folder.path());
        let state = folder.path().join("state");
        // As the first version kept it, and as it is kept now.
        for (at, more) in ["", ",\"runtime\":\"docker\"", ",\"runtime\":\"embedded\""].iter().enumerate() {
            let container = state.join(format!("tare-1-{at}"));
            fs::create_dir_all(&container).unwrap();
            let record = format!(
                r#"{{"owner":{{"pid":2147483647,"started":0}},"cgroup":null,"program":"{}","daemon":false{more}}}"#,
                program.display()
            );
            fs::write(container.join(RECORD), record).unwrap();
        }
        let mut left = swept(&state, &|_| None);
        left.sort_by_key(ToString::to_string);
        let kept = |what: &str, why: String| Leftover::Kept { what: what.to_owned(), why };
        let no_record = format!(
            "{} is no record: missing field `runtime`",
            state.join("tare-1-0").join(RECORD).display()
        );
        assert!(
            matches!(&left[0], Leftover::Kept { what, why } if what == "container tare-1-0" && why.starts_with(&no_record)),
            "{left:?}"
        );
        assert_eq!(
            left[1..],
            [
                kept("container tare-1-1", "docker, which made it, is not on PATH".to_owned()),
                Leftover::Removed("container tare-1-2".to_owned()),
            ]
        );
        assert!(!called.exists());
    }

    #[test]
    #[cfg(unix)]
    fn a_container_is_removed_by_the_program_that_this_run_found() {
        let folder = tempfile::tempdir().unwrap();
        let (program, called) = program(folder.path());
        let state = folder.path().join("state");
        fs::create_dir(&state).unwrap();
        for kind in [RuntimeKind::Runc, RuntimeKind::Podman] {
            let dead = Folder::create(&state, &record(DEAD, kind)).unwrap();
            let (what, path) = (format!("container {}", dead.id), dead.path.clone());
            let why = format!("{kind}, which made it, is not on PATH");
            assert_eq!(swept(&state, &|_| None), [Leftover::Kept { what: what.clone(), why }]);
            assert!(path.exists() && !called.exists());
            let found = swept(&state, &|asked| (asked == kind).then(|| program.clone()));
            assert_eq!(found, [Leftover::Removed(what)]);
            let expected = match kind {
                RuntimeKind::Podman => format!("rm --force --volumes {}\n", dead.id),
                _ => format!("--root {}/runtime delete --force {}\n", path.display(), dead.id),
            };
            assert_eq!(fs::read_to_string(&called).unwrap(), expected);
            assert!(!path.exists());
            fs::remove_file(&called).unwrap();
        }
    }

    #[test]
    fn only_the_cgroup_of_a_container_of_ours_is_removed() {
        for (cgroup, ours) in [
            ("/tare-4026531836-7/tare-7-0", true),
            ("/user.slice/user-7.slice/run-1.scope/tare-7-0", true),
            ("/tare-7-0", true),
            ("/", false),
            ("", false),
            ("tare-7-0", false),
            ("/system.slice", false),
            ("/tare-7-1", false),
            ("/tare-7-0/..", false),
            ("/x/../tare-7-0", false),
            ("/../sys/tare-7-0", false),
        ] {
            assert_eq!(is_cgroup_of("tare-7-0", Path::new(cgroup)), ours, "{cgroup}");
            let state = tempfile::tempdir().unwrap();
            let container = state.path().join("tare-7-0");
            fs::create_dir(&container).unwrap();
            // A group that is not there is as good as removed.
            let cgroup = if ours { PathBuf::from("/no-such-group/tare-7-0") } else { PathBuf::from(cgroup) };
            let record = Record { cgroup: Some(cgroup), ..record(DEAD, RuntimeKind::Embedded) };
            fs::write(container.join(RECORD), serde_json::to_vec(&record).unwrap()).unwrap();
            let removed = matches!(swept(state.path(), &|_| None).as_slice(), [Leftover::Removed(_)]);
            assert_eq!((removed, container.exists()), (ours, !ours));
        }
    }

    #[test]
    fn names_of_containers_are_recognised() {
        for (name, is) in [
            ("tare-7-0", true),
            ("tare-4294967295-12", true),
            ("tare-7", false),
            ("tare--0", false),
            ("tare-7-", false),
            ("tare-7-0-1", false),
            ("tare-x-0", false),
            ("x", false),
            ("..", false),
        ] {
            assert_eq!(is_container(name), is, "{name}");
        }
    }

    #[test]
    fn records_lie_where_they_do_not_survive_a_restart_of_the_host() {
        let folder = |root, dir: Option<&str>| state_folder(root, dir.map(Path::new), Path::new("/tmp"), 7);
        assert_eq!(folder(true, Some("/run/user/7")), Path::new("/run/tare"));
        assert_eq!(folder(false, Some("/run/user/7")), Path::new("/run/user/7/tare"));
        assert_eq!(folder(false, None), Path::new("/tmp/tare-7"));
    }
}
