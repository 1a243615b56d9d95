//! The cgroups that tare creates: the parent of all container groups, and the group of the load generator.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tare_keeper::cgroup::hierarchies;

use super::cgroup::{Cgroup, check_enforceable, not_enforceable, read, write};
use super::cleanup;
use super::error::ContainerError;
use super::limits::{CpuSet, Limits};

/// Root's groups, followed by the process that made them.
const GROUP_PREFIX: &str = "tare-";

/// The group that a process of root makes its own in. An id means something only among processes that are
/// numbered alike: others may see the same groups, and must not take them for a dead process's.
#[must_use]
pub fn group_of(pid: u32) -> PathBuf {
    PathBuf::from(format!("/{GROUP_PREFIX}{}-{pid}", numbering()))
}

/// The pid namespace of this process, as the kernel numbers it (pid_namespaces(7)).
pub(crate) fn numbering() -> u64 {
    number(&fs::read_link("/proc/self/ns/pid").unwrap_or_default())
}

/// The host's own pid namespace (include/linux/proc_ns.h, PROC_PID_INIT_INO).
pub(crate) const INITIAL: u64 = 0xeffffffc;

/// Whether another pid namespace may have processes. From the host's own all are seen, and from any other one none but
/// those below it.
pub(crate) fn may_live(namespace: u64) -> bool {
    let is_of = |process: fs::DirEntry| match fs::read_link(process.path().join("ns/pid")) {
        Ok(link) => number(&link) == namespace,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => !has_one_id(&process),
        // It is no process, or has ended.
        Err(_) => false,
    };
    numbering() != INITIAL || fs::read_dir("/proc").is_ok_and(|mut all| all.any(|it| it.is_ok_and(is_of)))
}

/// Whether a process of a pid namespace is dead: by its id among those that are numbered as this one, else when none is
/// left in its namespace.
pub(crate) fn is_gone(namespace: u64, pid: u32, is_dead: impl Fn(u32) -> bool) -> bool {
    if namespace == numbering() { is_dead(pid) } else { !may_live(namespace) }
}

/// Whether a program of this host, such as a daemon, gives processes the ids that they have here: it runs in the pid
/// namespace of this process. The host's own has all processes, and if none is that program, the name is not known.
pub(crate) fn numbers_alike(program: &str) -> bool {
    let is_it = |process: &fs::DirEntry| {
        fs::read_to_string(process.path().join("comm")).is_ok_and(|text| text.trim() == program)
    };
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten().filter(is_it);
    let is_ours: Vec<bool> = processes.map(|process| has_one_id(&process)).collect();
    if is_ours.is_empty() { numbering() == INITIAL } else { is_ours.contains(&true) }
}

/// Whether a process is of the pid namespace of this one, and of none below it (proc_pid_status(5), NSpid).
fn has_one_id(process: &fs::DirEntry) -> bool {
    let status = fs::read_to_string(process.path().join("status")).unwrap_or_default();
    let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    ids.is_some_and(|ids| ids.split_whitespace().count() == 1)
}

/// The number of a namespace, from a link such as `pid:[4026531836]`.
fn number(link: &Path) -> u64 {
    link.to_string_lossy().trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap_or(0)
}

/// The pid namespace and process that made a group.
fn group_owner(name: &str) -> Option<(u64, u32)> {
    let (namespace, pid) = name.strip_prefix(GROUP_PREFIX)?.split_once('-')?;
    Some((namespace.parse().ok()?, pid.parse().ok()?))
}

/// Removes the groups of dead processes with everything in them, and returns their names. `is_dead` is called with the pid
/// namespace of the process that made one, and its id there.
pub(crate) fn sweep(is_dead: impl Fn(u64, u32) -> bool) -> Vec<String> {
    let mut names = std::collections::BTreeSet::new();
    for folder in tare_keeper::cgroup::folders(Path::new("/")) {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        names.extend(entries.map(|entry| entry.file_name().to_string_lossy().into_owned()));
    }
    names.retain(|name| {
        group_owner(name).is_some_and(|(namespace, pid)| is_dead(namespace, pid))
            && tare_keeper::cgroup::remove(&Path::new("/").join(name)).is_ok()
    });
    names.into_iter().collect()
}

/// The group that containers and our own groups are made in.
#[derive(Debug, Clone)]
pub struct Parent {
    /// From the root of every hierarchy, as `cgroupsPath` of a bundle begins (runtime-spec config-linux.md).
    pub path: PathBuf,
    /// What limits below it need: the nearest group above that exists.
    pub existing: Cgroup,
    /// The group itself.
    pub(crate) group: Cgroup,
}

impl Parent {
    /// Root gets a group of this process's own, `/tare-NAMESPACE-PID`; any other user the group that was delegated
    /// to this process, from which the process itself then moves into a leaf, because version 2 allows processes
    /// in leaves alone.
    ///
    /// # Errors
    /// When none is writable; the text says why.
    pub fn find(root: bool) -> Result<Self, ContainerError> {
        if root {
            let (path, existing) = (group_of(std::process::id()), Cgroup::root()?);
            let group = existing.join(relative(&path));
            return Ok(Self { path, existing, group });
        }
        match Cgroup::of_process(std::process::id().cast_signed())? {
            Cgroup::V2(folder) => Self::delegated(&folder),
            Cgroup::V1(_) => {
                Err(not_enforceable("anything", "only root may make groups of cgroup version 1"))
            }
        }
    }

    fn delegated(own: &Path) -> Result<Self, ContainerError> {
        const LEAF: &str = "tare-tool";
        // A second runtime in the same process finds it in its leaf already.
        let folder = if own.ends_with(LEAF) { own.parent().unwrap_or(own) } else { own };
        if folder == own {
            move_into(&own.join(LEAF), own).map_err(|error| {
                let reason = format!("the group of this process is not delegated to you: {error}");
                not_enforceable("anything", &reason)
            })?;
        }
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let mount = hierarchies(&mounts).into_iter().find(|it| it.unified).map(|it| it.mount);
        let below = mount.as_deref().and_then(|mount| folder.strip_prefix(mount).ok());
        let group = Cgroup::V2(folder.to_path_buf());
        Ok(Self { path: Path::new("/").join(below.unwrap_or(Path::new(""))), existing: group.clone(), group })
    }

    /// Hands controllers down from the root to a group in it (version 2, `cgroup.subtree_control`).
    ///
    /// # Errors
    /// When a group on the way cannot be made or does not hand down what it has.
    pub(crate) fn prepare(&self) -> Result<(), ContainerError> {
        let (Cgroup::V2(existing), Cgroup::V2(group)) = (&self.existing, &self.group) else { return Ok(()) };
        fs::create_dir_all(group).map_err(ContainerError::on("create", group))?;
        let folders = if group == existing { vec![group] } else { vec![existing, group] };
        for folder in folders {
            let have = read(&folder.join("cgroup.controllers"))?;
            for controller in have.split_whitespace().filter(|it| CONTROLLERS.contains(it)) {
                write(&folder.join("cgroup.subtree_control"), &format!("+{controller}"))?;
            }
        }
        Ok(())
    }
}

/// A path without the slash at its beginning.
fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

/// Makes a leaf, and moves the processes of a group into it.
fn move_into(leaf: &Path, group: &Path) -> io::Result<()> {
    let named =
        |path: PathBuf| move |error: io::Error| io::Error::other(format!("{}: {error}", path.display()));
    fs::create_dir_all(leaf).map_err(named(leaf.to_path_buf()))?;
    let (from, to) = (group.join("cgroup.procs"), leaf.join("cgroup.procs"));
    let processes = fs::read_to_string(&from).map_err(named(from))?;
    processes.lines().try_for_each(|process| fs::write(&to, process)).map_err(named(to))
}

/// The group of this process, removed with the last of its users.
#[derive(Debug)]
pub(crate) struct Kept {
    /// None where another program made it.
    made: Option<PathBuf>,
}

static CURRENT: Mutex<Weak<Kept>> = Mutex::new(Weak::new());

impl Kept {
    /// The one of this process.
    pub(crate) fn hold(root: bool) -> Arc<Self> {
        let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = current.upgrade() {
            return kept;
        }
        let kept = Arc::new(Self { made: root.then(|| group_of(std::process::id())) });
        *current = Arc::downgrade(&kept);
        kept
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
        // Another user may have taken it meanwhile.
        if current.upgrade().is_some() {
            return;
        }
        for folder in self.made.iter().flat_map(|path| tare_keeper::cgroup::folders(path)) {
            // A later clean-up removes groups that are not empty yet.
            let _ = fs::remove_dir(folder);
        }
    }
}

/// Everything that a container or a generator is counted and limited by.
const CONTROLLERS: [&str; 4] = ["cpu", "cpuset", "memory", "pids"];

/// A cgroup of one's own, for the process that sends the requests: its CPU time is counted by the kernel
/// too, and it can be kept to CPUs. Dropped, its processes go back to where the caller came from, and it is
/// removed.
#[derive(Debug)]
pub struct Group {
    cgroup: Cgroup,
    path: PathBuf,
    origin: Cgroup,
}

impl Group {
    /// Makes a group in the parent, for these CPUs or for all. (Where `cpuset` is not delegated the
    /// caller pins threads instead, and gives none here.)
    ///
    /// # Errors
    /// When it cannot be made, or the CPUs cannot be set.
    pub fn create(parent: &Parent, name: &str, cpuset: Option<&CpuSet>) -> Result<Self, ContainerError> {
        let limits = Limits { cpuset: cpuset.cloned(), ..Limits::default() };
        check_enforceable(&parent.existing, &limits)?;
        let _making = cleanup::making();
        parent.prepare()?;
        let origin = Cgroup::of_process(std::process::id().cast_signed())?;
        // One process may have several of a name at once, and the first that goes must not take another's.
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("group-{}-{number}-{name}", std::process::id());
        let (path, cgroup) = (parent.path.join(&name), parent.group.join(&name));
        // If this function returns early, dropping the value removes the groups.
        let group = Self { cgroup, path, origin };
        for (_, folder) in group.cgroup.folders() {
            fs::create_dir_all(folder).map_err(ContainerError::on("create", folder))?;
        }
        if let Cgroup::V1(folders) = &group.cgroup
            && let Some(folder) = folders.get("cpuset")
        {
            inherit_cpuset(folder)?;
        }
        if let (Some(cpuset), Some(folder)) = (cpuset, group.cgroup.folder("cpuset")) {
            write(&folder.join("cpuset.cpus"), &cpuset.to_string())?;
        }
        group.cgroup.verify(&limits)?;
        Ok(group)
    }

    /// Moves a process with all its threads into it.
    ///
    /// # Errors
    /// When the process is gone or may not be moved.
    pub fn add(&self, process: u32) -> Result<(), ContainerError> {
        self.procs().iter().try_for_each(|file| write(file, &process.to_string()))
    }

    /// The files that a process enters it by (`cgroup.procs`).
    #[must_use]
    pub fn procs(&self) -> Vec<PathBuf> {
        self.cgroup.folders().iter().map(|(_, folder)| folder.join("cgroup.procs")).collect()
    }

    /// Its folders, to read counters from.
    #[must_use]
    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// From the root of every hierarchy.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let processes = self.cgroup.processes().unwrap_or_default();
        for (controller, folder) in self.cgroup.folders() {
            let Some(home) = self.origin.folder(controller) else { continue };
            for process in &processes {
                // A process that ended needs no home; what stays keeps the folder, which a later sweep removes.
                let _ = fs::write(home.join("cgroup.procs"), process.to_string());
            }
            let _ = fs::remove_dir(folder);
        }
    }
}

/// A new cpuset of version 1 is empty and takes no process until it has CPUs and memory nodes (cpusets.rst,
/// 1.4). Another thread may be filling a group above this one: between its two files, too.
fn inherit_cpuset(folder: &Path) -> Result<(), ContainerError> {
    const FILES: [&str; 2] = ["cpuset.cpus", "cpuset.mems"];
    let is_empty = |file: PathBuf| fs::read_to_string(file).is_ok_and(|text| text.trim().is_empty());
    let lacks_some = |folder: &&Path| FILES.iter().any(|name| is_empty(folder.join(name)));
    let mut missing: Vec<&Path> = folder.ancestors().take_while(lacks_some).collect();
    missing.reverse();
    for folder in missing {
        let Some(parent) = folder.parent() else { continue };
        for name in FILES.iter().filter(|name| is_empty(folder.join(name))) {
            write(&folder.join(name), read(&parent.join(name))?.trim())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_of_a_cpuset_is_filled_from_the_group_above() {
        let root = tempfile::tempdir().unwrap();
        let leaf = root.path().join("group/leaf");
        fs::create_dir_all(&leaf).unwrap();
        let fill = |folder: &Path, cpus: &str, mems: &str| {
            for (name, text) in [("cpuset.cpus", cpus), ("cpuset.mems", mems)] {
                fs::write(folder.join(name), format!("{text}\n")).unwrap();
            }
        };
        fill(root.path(), "0-3", "0-1");
        // As another thread leaves it between its two writes.
        fill(&root.path().join("group"), "0-1", "");
        fill(&leaf, "", "");
        inherit_cpuset(&leaf).unwrap();
        let found = |folder: PathBuf| {
            ["cpuset.cpus", "cpuset.mems"].map(|name| fs::read_to_string(folder.join(name)).unwrap())
        };
        assert_eq!(found(root.path().join("group")), ["0-1\n", "0-1"]);
        assert_eq!(found(leaf), ["0-1", "0-1"]);
    }

    #[test]
    fn groups_name_their_owner_where_processes_are_numbered_alike() {
        for (name, owner) in [
            ("tare-4026531836-17", Some((INITIAL, 17))),
            ("tare-4026532999-17", Some((4_026_532_999, 17))),
            ("tare-17", None),
            ("tare-outside-17-x", None),
            ("docker", None),
        ] {
            assert_eq!(group_owner(name), owner, "{name}");
        }
        let own = group_of(17).to_string_lossy().trim_start_matches('/').to_owned();
        assert_eq!(group_owner(&own), Some((numbering(), 17)));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_namespace_is_dead_where_all_are_seen_and_it_is_not_among_them() {
        assert!(may_live(numbering()));
        // No namespace has so small a number.
        if crate::rights::is_root() {
            assert_eq!(may_live(1), numbering() != INITIAL);
        }
    }
}
