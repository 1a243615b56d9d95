//! Groups of our own: where containers get theirs, and that of the process that sends requests.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tare_keeper::cgroup::hierarchies;

use super::cgroup::{Cgroup, CgroupError, DELEGATE, check_enforceable};
use super::limits::{CpuSet, Limits};

/// The group that containers and our own groups are made in.
#[derive(Debug, Clone)]
pub struct Parent {
    /// From the root of every hierarchy, as `cgroupsPath` of a bundle begins (runtime-spec config-linux.md).
    pub path: PathBuf,
    /// What limits below it need: the nearest group above that exists.
    pub existing: Cgroup,
}

impl Parent {
    /// Root gets a group of this process's own, `/tare-PID`; anybody else the group that was delegated to this process, from which the process
    /// itself then moves into a leaf, because version 2 allows processes in leaves alone.
    ///
    /// # Errors
    /// When none is writable; the text says why.
    pub fn find(root: bool) -> Result<Self, CgroupError> {
        let own = Cgroup::of_process(std::process::id().cast_signed())?;
        if root {
            let path = super::leftovers::group_of(std::process::id());
            return Ok(Self { path, existing: Self::roots()? });
        }
        let Cgroup::V2(folder) = &own else {
            return Err(CgroupError::NotEnforceable {
                limit: "anything",
                reason: "only root may make groups of cgroup version 1".to_owned(),
                hint: DELEGATE,
            });
        };
        Self::delegated(folder)
    }

    fn roots() -> Result<Cgroup, CgroupError> {
        let path = Path::new("/proc/self/mounts");
        let mounts = fs::read_to_string(path).map_err(CgroupError::on("read", path))?;
        let mut of_root: String =
            hierarchies(&mounts).iter().map(|it| format!("1:{}:/\n", it.controllers.join(","))).collect();
        if !of_root.contains("1::/") {
            of_root.push_str("0::/\n");
        }
        Cgroup::parse(&of_root, &mounts).ok_or_else(|| CgroupError::File {
            operation: "read",
            path: path.to_path_buf(),
            source: io::Error::new(io::ErrorKind::NotFound, "no cgroup file system is mounted"),
        })
    }

    fn delegated(own: &Path) -> Result<Self, CgroupError> {
        const LEAF: &str = "tare-tool";
        // A second runtime in the same process finds it in its leaf already.
        let folder = if own.ends_with(LEAF) { own.parent().unwrap_or(own) } else { own };
        let refused = |path: &Path, error: &io::Error| CgroupError::NotEnforceable {
            limit: "anything",
            reason: format!("the group of this process is not delegated to you: {}: {error}", path.display()),
            hint: DELEGATE,
        };
        if folder == own {
            let leaf = own.join(LEAF);
            match fs::create_dir(&leaf) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(refused(&leaf, &error));
                }
                _ => {}
            }
            let path = own.join("cgroup.procs");
            let processes = fs::read_to_string(&path).map_err(|error| refused(&path, &error))?;
            let path = leaf.join("cgroup.procs");
            for process in processes.lines() {
                fs::write(&path, process).map_err(|error| refused(&path, &error))?;
            }
        }
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let mount = hierarchies(&mounts).into_iter().find(|it| it.unified).map(|it| it.mount);
        let below = mount.as_deref().and_then(|mount| folder.strip_prefix(mount).ok());
        Ok(Self {
            path: Path::new("/").join(below.unwrap_or(Path::new(""))),
            existing: Cgroup::V2(folder.to_path_buf()),
        })
    }

    /// Hands controllers down from the root to a group in it (version 2, `cgroup.subtree_control`).
    ///
    /// # Errors
    /// When a group on the way cannot be made or does not hand down what it has.
    pub fn prepare(&self, controllers: &[&str]) -> Result<(), CgroupError> {
        let Cgroup::V2(existing) = &self.existing else { return Ok(()) };
        let mut folders = vec![existing.clone()];
        // Below the existing one: that of root.
        if !existing.ends_with(self.path.strip_prefix("/").unwrap_or(&self.path)) {
            let folder = existing.join(self.path.strip_prefix("/").unwrap_or(&self.path));
            match fs::create_dir(&folder) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(CgroupError::on("create", &folder)(error));
                }
                _ => folders.push(folder),
            }
        }
        for folder in folders {
            let path = folder.join("cgroup.controllers");
            let have = fs::read_to_string(&path).map_err(CgroupError::on("read", &path))?;
            let path = folder.join("cgroup.subtree_control");
            for controller in controllers.iter().filter(|it| have.split_whitespace().any(|name| name == **it))
            {
                fs::write(&path, format!("+{controller}")).map_err(CgroupError::on("write", &path))?;
            }
        }
        Ok(())
    }
}

/// The group of this process, removed with the last of its users.
#[derive(Debug)]
pub(crate) struct Kept {
    /// None where somebody else made it.
    made: Option<PathBuf>,
}

static CURRENT: Mutex<Weak<Kept>> = Mutex::new(Weak::new());

impl Kept {
    /// The one of this process; `parent` must be prepared under it.
    pub(crate) fn hold(parent: &Parent, root: bool) -> Arc<Self> {
        let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = current.upgrade() {
            return kept;
        }
        let kept = Arc::new(Self { made: root.then(|| parent.path.clone()) });
        *current = Arc::downgrade(&kept);
        kept
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
        // Somebody may have come in between.
        if current.upgrade().is_some() {
            return;
        }
        for folder in self.made.iter().flat_map(|path| tare_keeper::cgroup::folders(path)) {
            // What is not empty a later sweep removes.
            let _ = fs::remove_dir(folder);
        }
    }
}

/// All that a container or a generator is counted and limited by.
pub(crate) const CONTROLLERS: [&str; 4] = ["cpu", "cpuset", "memory", "pids"];

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
    pub fn create(parent: &Parent, name: &str, cpuset: Option<&CpuSet>) -> Result<Self, CgroupError> {
        let limits = Limits { cpuset: cpuset.cloned(), ..Limits::default() };
        check_enforceable(&parent.existing, &limits)?;
        let _making = super::leftovers::making();
        parent.prepare(&CONTROLLERS)?;
        let origin = Cgroup::of_process(std::process::id().cast_signed())?;
        // One process may have several of a name at once, and the first that goes must not take another's.
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = parent.path.join(format!("group-{}-{number}-{name}", std::process::id()));
        let below = path.strip_prefix("/").unwrap_or(&path);
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let cgroup = match &parent.existing {
            Cgroup::V2(_) => {
                let mount = hierarchies(&mounts).into_iter().find(|it| it.unified).map(|it| it.mount);
                Cgroup::V2(mount.unwrap_or_default().join(below))
            }
            Cgroup::V1(roots) => Cgroup::V1(
                roots
                    .iter()
                    .filter(|(name, _)| {
                        ["cpu", "cpuacct", "cpuset", "memory", "pids"].contains(&name.as_str())
                    })
                    .map(|(name, root)| (name.clone(), root.join(below)))
                    .collect(),
            ),
        };
        // Dropped on the way, what was made is removed.
        let group = Self { cgroup, path, origin };
        for folder in group.folders() {
            fs::create_dir_all(&folder).map_err(CgroupError::on("create", &folder))?;
        }
        if let Cgroup::V1(folders) = &group.cgroup
            && let Some(folder) = folders.get("cpuset")
        {
            inherit_cpuset(folder)?;
        }
        if let (Some(cpuset), Some(folder)) = (cpuset, group.cgroup.folder("cpuset")) {
            let file = folder.join("cpuset.cpus");
            fs::write(&file, cpuset.to_string()).map_err(CgroupError::on("write", &file))?;
        }
        group.cgroup.verify(&limits)?;
        Ok(group)
    }

    fn folders(&self) -> Vec<PathBuf> {
        match &self.cgroup {
            Cgroup::V1(folders) => folders.values().cloned().collect(),
            Cgroup::V2(folder) => vec![folder.clone()],
        }
    }

    /// Moves a process with all its threads into it.
    ///
    /// # Errors
    /// When the process is gone or may not be moved.
    pub fn add(&self, process: u32) -> Result<(), CgroupError> {
        for folder in self.folders() {
            let file = folder.join("cgroup.procs");
            fs::write(&file, process.to_string()).map_err(CgroupError::on("write", &file))?;
        }
        Ok(())
    }

    /// The files that a process enters it by (`cgroup.procs`).
    #[must_use]
    pub fn procs(&self) -> Vec<PathBuf> {
        self.folders().into_iter().map(|folder| folder.join("cgroup.procs")).collect()
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
        let homes: Vec<(PathBuf, PathBuf)> = match (&self.cgroup, &self.origin) {
            (Cgroup::V1(own), Cgroup::V1(origin)) => own
                .iter()
                .filter_map(|(name, folder)| Some((folder.clone(), origin.get(name)?.clone())))
                .collect(),
            (Cgroup::V2(own), Cgroup::V2(origin)) => vec![(own.clone(), origin.clone())],
            _ => Vec::new(),
        };
        for (own, home) in homes {
            for process in &processes {
                // A process that ended needs no home; what stays keeps the folder, which a later sweep removes.
                let _ = fs::write(home.join("cgroup.procs"), process.to_string());
            }
            let _ = fs::remove_dir(own);
        }
    }
}

/// A new cpuset of version 1 is empty and takes no process until it has CPUs and memory nodes (cpusets.rst,
/// 1.4).
fn inherit_cpuset(folder: &Path) -> Result<(), CgroupError> {
    let mut missing: Vec<&Path> = folder
        .ancestors()
        .take_while(|it| fs::read_to_string(it.join("cpuset.cpus")).is_ok_and(|text| text.trim().is_empty()))
        .collect();
    missing.reverse();
    for folder in missing {
        for name in ["cpuset.cpus", "cpuset.mems"] {
            let Some(parent) = folder.parent() else { continue };
            let from = parent.join(name);
            let text = fs::read_to_string(&from).map_err(CgroupError::on("read", &from))?;
            let file = folder.join(name);
            fs::write(&file, text.trim()).map_err(CgroupError::on("write", &file))?;
        }
    }
    Ok(())
}
