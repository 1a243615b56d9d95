//! Cgroups of this host, version 1, hybrid and 2: where a process is in them, what limits are in force
//! there, and a group of one's own for the process that sends the requests.
//!
//! A hybrid host has its controllers in version 1 and is treated as such.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tare_keeper::cgroup::{Hierarchy, hierarchies};

use super::limits::{CpuLimit, CpuSet, Limits};

/// The folders of one cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cgroup {
    /// One per controller.
    V1(BTreeMap<String, PathBuf>),
    /// One for all.
    V2(PathBuf),
}

/// For who names CPUs that are not there.
const NAME_OTHERS: &str = "name CPUs that this host has, or leave `cpuset` out of the profile";
/// For who may not choose CPUs: systemd delegates the controller to nobody by itself.
const DELEGATE_CPUSET: &str = "add `--sudo`, or have an administrator delegate it (`systemctl edit user@.service`: `[Service]`, `Delegate=cpu cpuset memory pids`); or leave `cpuset` out of the profile, and CPUs are pinned by affinity";
/// For who may not set a limit.
pub(super) const DELEGATE: &str = "add `--sudo`, or run it in a scope that systemd delegates (`systemd-run --user --scope -p Delegate=yes …`), or with `--runtime docker`; or leave the limit out";

/// Why a limit is not, or would not be, in force.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// The controller is not there.
    #[error("the limit for {limit} cannot be enforced: {reason}")]
    NotEnforceable {
        /// Which.
        limit: &'static str,
        /// Why.
        reason: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// The kernel has something else than what was asked for.
    #[error("the limit for {limit} is not in force: {wanted} was asked for, and {judge} has {found}")]
    NotInForce {
        /// `the kernel`, or the daemon that was asked in its stead.
        judge: &'static str,
        /// Which.
        limit: &'static str,
        /// As asked for.
        wanted: String,
        /// As read back.
        found: String,
    },
    /// A file cannot be read or written.
    #[error("cannot {operation} {path}", path = path.display())]
    File {
        /// `read`, `write`, `create`, `remove`.
        operation: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl CgroupError {
    pub(crate) fn on(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::File { operation, path, source }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotEnforceable { hint, .. } => Some((*hint).to_owned()),
            Self::NotInForce { judge, .. } if *judge != KERNEL => Some(format!(
                "what `{judge}` could not set it left out: its warnings are in `{judge} info`; or leave the limit out"
            )),
            Self::NotInForce { .. } => {
                Some("a group further up may be narrower: look at its cgroup files".to_owned())
            }
            Self::File { .. } => None,
        }
    }
}

/// Which version holds the controllers, by what is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// Version 1 alone.
    V1,
    /// Version 1, with version 2 beside it that has no controllers.
    Hybrid,
    /// Version 2.
    V2,
    /// None is mounted.
    None,
}

impl Version {
    /// By the text of `/proc/self/mounts`.
    #[must_use]
    pub fn of(mounts: &str) -> Self {
        let found = hierarchies(mounts);
        let unified = found.iter().any(|it| it.unified);
        // `name=systemd` and the like count nothing.
        let controllers = found.iter().any(|it| it.controllers.iter().any(|name| !name.starts_with("name=")));
        match (controllers, unified) {
            (true, false) => Self::V1,
            (true, true) => Self::Hybrid,
            (false, true) => Self::V2,
            (false, false) => Self::None,
        }
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::V1 => "v1",
            Self::Hybrid => "hybrid",
            Self::V2 => "v2",
            Self::None => "none",
        })
    }
}

/// The folders that a group has or will have with version 1, each with the controller that it is of: those that
/// a program reads its limits from. None with version 2.
#[cfg(target_os = "linux")]
pub(crate) fn folders_of_version_1(group: &Path) -> Result<Vec<(String, PathBuf)>, CgroupError> {
    let path = Path::new("/proc/self/mounts");
    let mounts = fs::read_to_string(path).map_err(CgroupError::on("read", path))?;
    let below = group.strip_prefix("/").unwrap_or(group);
    let mut folders = Vec::new();
    for hierarchy in hierarchies(&mounts) {
        let read = |name: &&String| ["cpu", "cpuacct", "cpuset", "memory", "pids"].contains(&name.as_str());
        let named = hierarchy.controllers.iter().filter(read);
        folders.extend(named.map(|name| (name.clone(), hierarchy.mount.join(below))));
    }
    Ok(folders)
}

impl Cgroup {
    /// The cgroup of a process.
    ///
    /// # Errors
    /// When the process is gone, or no cgroup file system is mounted.
    pub fn of_process(pid: i32) -> Result<Self, CgroupError> {
        let read =
            |path: String| fs::read_to_string(&path).map_err(CgroupError::on("read", Path::new(&path)));
        let mounts = read("/proc/self/mounts".to_owned())?;
        let path = format!("/proc/{pid}/cgroup");
        let found = Self::parse(&read(path.clone())?, &mounts);
        found.ok_or_else(|| CgroupError::File {
            operation: "read",
            path: path.into(),
            source: io::Error::new(io::ErrorKind::NotFound, "no cgroup file system is mounted"),
        })
    }

    /// The same from the texts of `/proc/PID/cgroup` (cgroups(7)) and `/proc/self/mounts`.
    #[must_use]
    pub fn parse(of_process: &str, mounts: &str) -> Option<Self> {
        let mounted = hierarchies(mounts);
        let lines: Vec<(Vec<&str>, &str)> = of_process
            .lines()
            .filter_map(|line| {
                let mut fields = line.splitn(3, ':').skip(1);
                Some((fields.next()?.split(',').collect(), fields.next()?))
            })
            .collect();
        let folder =
            |hierarchy: &Hierarchy, path: &str| hierarchy.mount.join(path.strip_prefix('/').unwrap_or(path));
        if Version::of(mounts) == Version::V2 {
            let hierarchy = mounted.iter().find(|it| it.unified)?;
            let (_, path) = lines.iter().find(|(names, _)| names == &[""])?;
            return Some(Self::V2(folder(hierarchy, path)));
        }
        let mut folders = BTreeMap::new();
        for (names, path) in lines {
            for name in names {
                let of_name = mounted.iter().find(|it| it.controllers.iter().any(|have| have == name));
                if let Some(hierarchy) = of_name {
                    folders.insert(name.to_owned(), folder(hierarchy, path));
                }
            }
        }
        (!folders.is_empty()).then_some(Self::V1(folders))
    }

    /// The folder that a controller's files are in.
    #[must_use]
    pub fn folder(&self, controller: &str) -> Option<&Path> {
        match self {
            Self::V1(folders) => folders.get(controller).map(PathBuf::as_path),
            Self::V2(folder) => Some(folder),
        }
    }

    /// Ids of the processes in it, as numbered on the host.
    ///
    /// # Errors
    /// When it is gone.
    pub fn processes(&self) -> io::Result<Vec<i32>> {
        let folder = ["memory", "cpuacct", "cpu", "pids"].iter().find_map(|it| self.folder(it));
        let folder = folder.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no cgroup"))?;
        let text = fs::read_to_string(folder.join("cgroup.procs"))?;
        Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// Asks the kernel to count the peak of memory from now on, where it can (version 1).
    #[cfg(target_os = "linux")]
    pub(crate) fn reset_peak(&self) {
        if let Self::V1(_) = self
            && let Some(folder) = self.folder("memory")
        {
            // A peak that counts from the creation is larger, and no less true.
            let _ = fs::write(folder.join("memory.max_usage_in_bytes"), "0");
        }
    }

    /// Writes the limit for swap (version 2), which libcontainer takes for none where it is 0.
    #[cfg(target_os = "linux")]
    pub(crate) fn limit_swap(&self, limits: &Limits) -> Result<(), CgroupError> {
        match (self, limits.swap) {
            (Self::V2(folder), Some(swap)) => {
                let file = folder.join("memory.swap.max");
                fs::write(&file, swap.to_string()).map_err(CgroupError::on("write", &file))
            }
            _ => Ok(()),
        }
    }

    /// Whether its name, or that of a group above it, holds this text.
    pub(crate) fn is_named(&self, text: &str) -> bool {
        let folder = ["memory", "cpuacct", "cpu", "pids"].iter().find_map(|it| self.folder(it));
        folder.is_some_and(|folder| folder.to_string_lossy().contains(text))
    }

    /// The topmost group on the way here whose name holds this text (version 2): the one that a daemon made
    /// for a container, in which some runtimes put its processes into another (crun, `container`).
    pub(crate) fn named(self, text: &str) -> Self {
        let Self::V2(folder) = &self else { return self };
        let named = |folder: &&Path| folder.file_name().is_some_and(|it| it.to_string_lossy().contains(text));
        let top = folder.ancestors().filter(named).last().map(Path::to_path_buf);
        top.map_or(self, Self::V2)
    }

    /// The limits in force, read from the kernel's files.
    #[must_use]
    pub fn limits(&self) -> Limits {
        let text = |controller: &str, name: &str| {
            let text = fs::read_to_string(self.folder(controller)?.join(name)).ok()?;
            Some(text.trim().to_owned())
        };
        let count = |controller: &str, name: &str| text(controller, name)?.parse::<u64>().ok();
        match self {
            Self::V2(_) => Limits {
                cpu: text("cpu", "cpu.max").as_deref().and_then(parse_cpu_max),
                cpuset: text("cpuset", "cpuset.cpus").and_then(|text| text.parse().ok()),
                memory: count("memory", "memory.max"),
                swap: count("memory", "memory.swap.max"),
                pids: count("pids", "pids.max"),
            },
            Self::V1(_) => {
                let (quota, period) = (count("cpu", "cpu.cfs_quota_us"), count("cpu", "cpu.cfs_period_us"));
                let memory = count("memory", "memory.limit_in_bytes").filter(|it| *it < V1_UNLIMITED);
                let both = count("memory", "memory.memsw.limit_in_bytes").filter(|it| *it < V1_UNLIMITED);
                Limits {
                    cpu: quota.zip(period).map(|(quota, period)| CpuLimit { quota, period }),
                    cpuset: text("cpuset", "cpuset.cpus").and_then(|text| text.parse().ok()),
                    memory,
                    swap: both.zip(memory).and_then(|(both, memory)| both.checked_sub(memory)),
                    pids: count("pids", "pids.max"),
                }
            }
        }
    }

    /// The narrowest of the limits of this group and of those above it up to `top`, which a runtime may have
    /// written to either (version 2): crun under systemd does to the one that the processes are in.
    pub(crate) fn limits_below(&self, top: &Self) -> Limits {
        let (Self::V2(folder), Self::V2(top)) = (self, top) else { return self.limits() };
        let within = folder.ancestors().take_while(|folder| folder.starts_with(top));
        let limits = within.map(|folder| Self::V2(folder.to_path_buf()).limits());
        limits.reduce(narrower).unwrap_or_default()
    }

    /// Compares the limits in force with those asked for.
    ///
    /// # Errors
    /// With the first that differs.
    pub fn verify(&self, wanted: &Limits) -> Result<(), CgroupError> {
        compare(KERNEL, wanted, &self.limits())
    }
}

/// Compares the limits that `judge` says are in force with those asked for.
/// What is left where both are in force; of two sets of CPUs the first, which the other may only contain.
fn narrower(one: Limits, other: Limits) -> Limits {
    let least = |one: Option<u64>, other: Option<u64>| one.into_iter().chain(other).min();
    let cpu = |one: CpuLimit, other: CpuLimit| {
        let is_less = u128::from(other.quota) * u128::from(one.period)
            < u128::from(one.quota) * u128::from(other.period);
        if is_less { other } else { one }
    };
    Limits {
        cpu: one.cpu.into_iter().chain(other.cpu).reduce(cpu),
        cpuset: one.cpuset.or(other.cpuset),
        memory: least(one.memory, other.memory),
        swap: least(one.swap, other.swap),
        pids: least(one.pids, other.pids),
    }
}

pub(crate) fn compare(judge: &'static str, wanted: &Limits, found: &Limits) -> Result<(), CgroupError> {
    let cpu = |cpu: &CpuLimit| format!("{}/{} µs", cpu.quota, cpu.period);
    same(judge, "CPU time", wanted.cpu.as_ref(), found.cpu.as_ref(), cpu)?;
    same(judge, "CPUs", wanted.cpuset.as_ref(), found.cpuset.as_ref(), ToString::to_string)?;
    let bytes = |bytes: &u64| format!("{bytes} bytes");
    // The kernel counts in pages (mm/page_counter.c).
    let pages = |bytes: Option<u64>| bytes.map(|bytes| bytes / PAGE * PAGE);
    same(judge, "memory", pages(wanted.memory).as_ref(), pages(found.memory).as_ref(), bytes)?;
    same(judge, "swap", pages(wanted.swap).as_ref(), pages(found.swap).as_ref(), bytes)?;
    same(judge, "processes", wanted.pids.as_ref(), found.pids.as_ref(), ToString::to_string)
}

/// Who says what is in force, unless a daemon does.
pub(crate) const KERNEL: &str = "the kernel";

/// The smallest page; larger ones round the same way and are compared after that.
const PAGE: u64 = 4096;

/// "No limit" in version 1 is the largest multiple of the page size in a signed 64-bit number; nothing real
/// is near it.
const V1_UNLIMITED: u64 = 1 << 62;

fn same<T: PartialEq>(
    judge: &'static str,
    limit: &'static str,
    wanted: Option<&T>,
    found: Option<&T>,
    show: impl Fn(&T) -> String,
) -> Result<(), CgroupError> {
    match wanted {
        Some(wanted) if found != Some(wanted) => Err(CgroupError::NotInForce {
            judge,
            limit,
            wanted: show(wanted),
            found: found.map_or_else(|| "none".to_owned(), show),
        }),
        _ => Ok(()),
    }
}

/// `cpu.max`: `QUOTA PERIOD`, where QUOTA may be `max`.
fn parse_cpu_max(text: &str) -> Option<CpuLimit> {
    let (quota, period) = text.split_once(' ')?;
    Some(CpuLimit { quota: quota.parse().ok()?, period: period.parse().ok()? })
}

/// Checks, before anything is made, that the kernel can enforce the limits below a cgroup: that there is a
/// controller for each, and in version 2 that it may be handed down.
///
/// # Errors
/// With the first that cannot be.
pub fn check_enforceable(parent: &Cgroup, limits: &Limits) -> Result<(), CgroupError> {
    let needs: [(&'static str, bool, &str, &str); 5] = [
        ("CPU time", limits.cpu.is_some(), "cpu", "cpu.cfs_quota_us"),
        ("CPUs", limits.cpuset.is_some(), "cpuset", "cpuset.cpus"),
        ("memory", limits.memory.is_some(), "memory", "memory.limit_in_bytes"),
        ("swap", limits.swap.is_some(), "memory", "memory.memsw.limit_in_bytes"),
        ("processes", limits.pids.is_some(), "pids", "cgroup.procs"),
    ];
    for (limit, wanted, controller, v1_file) in needs {
        if !wanted {
            continue;
        }
        let reason = match parent {
            Cgroup::V1(_) => match parent.folder(controller) {
                None => Some(format!("the controller `{controller}` is not mounted")),
                Some(folder) if !folder.join(v1_file).exists() => {
                    Some(format!("this kernel has no {v1_file} in {}", folder.display()))
                }
                Some(_) => None,
            },
            Cgroup::V2(folder) => {
                let path = folder.join("cgroup.controllers");
                let have = fs::read_to_string(&path).map_err(CgroupError::on("read", &path))?;
                let has = have.split_whitespace().any(|it| it == controller);
                (!has).then(|| {
                    format!("the controller `{controller}` is not delegated to {}", folder.display())
                })
            }
        };
        if let Some(reason) = reason {
            let hint = if controller == "cpuset" { DELEGATE_CPUSET } else { DELEGATE };
            return Err(CgroupError::NotEnforceable { limit, reason, hint });
        }
    }
    if let (Some(cpuset), Some(folder)) = (&limits.cpuset, parent.folder("cpuset")) {
        check_cpus_exist(cpuset, folder)?;
    }
    Ok(())
}

fn check_cpus_exist(wanted: &CpuSet, folder: &Path) -> Result<(), CgroupError> {
    let names = ["cpuset.cpus.effective", "cpuset.effective_cpus"];
    let text = names.iter().find_map(|name| fs::read_to_string(folder.join(name)).ok());
    let Some(have) = text.and_then(|text| text.parse::<CpuSet>().ok()) else { return Ok(()) };
    let missing = wanted.without(&have);
    if missing.is_empty() {
        return Ok(());
    }
    let reason = format!("of the CPUs {wanted} this host has only {have}");
    Err(CgroupError::NotEnforceable { limit: "CPUs", reason, hint: NAME_OTHERS })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,relatime,cpu,cpuacct 0 0\n\
        cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0\n\
        cgroup /sys/fs/cgroup/systemd cgroup rw,relatime,xattr,name=systemd 0 0\n\
        cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0\n";
    const UNIFIED: &str = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid,nodev,noexec,relatime,nsdelegate 0 0\n";

    #[test]
    fn the_version_is_told_by_what_is_mounted() {
        let v1 = HYBRID.lines().take(3).collect::<Vec<_>>().join("\n");
        let named = HYBRID.lines().skip(2).collect::<Vec<_>>().join("\n");
        for (mounts, version) in [
            (HYBRID, Version::Hybrid),
            (UNIFIED, Version::V2),
            (v1.as_str(), Version::V1),
            // systemd keeps a hierarchy without controllers for itself.
            (named.as_str(), Version::V2),
            ("", Version::None),
        ] {
            assert_eq!(Version::of(mounts), version, "{mounts}");
        }
    }

    #[test]
    fn folders_of_a_process_are_found_in_all_setups() {
        let text = "5:name=systemd:/s\n4:memory:/tare/a\n3:cpu,cpuacct:/tare/b:c\n0::/u\n";
        let expected = [
            ("cpu", "/sys/fs/cgroup/cpu,cpuacct/tare/b:c"),
            ("cpuacct", "/sys/fs/cgroup/cpu,cpuacct/tare/b:c"),
            ("memory", "/sys/fs/cgroup/memory/tare/a"),
            ("name=systemd", "/sys/fs/cgroup/systemd/s"),
        ];
        let expected = expected.map(|(name, folder)| (name.to_owned(), PathBuf::from(folder)));
        assert_eq!(Cgroup::parse(text, HYBRID), Some(Cgroup::V1(expected.into())));
        let scope = "0::/user.slice/user-1000.slice/run-1.scope\n";
        let folder = "/sys/fs/cgroup/user.slice/user-1000.slice/run-1.scope";
        assert_eq!(Cgroup::parse(scope, UNIFIED), Some(Cgroup::V2(folder.into())));
        assert_eq!(Cgroup::parse(scope, ""), None);
    }

    #[test]
    fn the_group_of_a_daemons_container_is_the_topmost_of_its_name() {
        for (folder, group) in [
            ("/sys/fs/cgroup/docker/ab12", "/sys/fs/cgroup/docker/ab12"),
            ("/c/machine.slice/libpod-ab12.scope/container", "/c/machine.slice/libpod-ab12.scope"),
            ("/c/libpod_parent/libpod-ab12/libpod-ab12-x", "/c/libpod_parent/libpod-ab12"),
            ("/c/elsewhere", "/c/elsewhere"),
        ] {
            assert_eq!(Cgroup::V2(folder.into()).named("ab12"), Cgroup::V2(group.into()));
        }
    }

    #[test]
    fn limits_hold_wherever_on_the_way_they_were_written() {
        let host = tempfile::tempdir().unwrap();
        let scope = host.path().join("libpod-ab12.scope");
        let leaf = scope.join("container");
        fs::create_dir_all(&leaf).unwrap();
        for (file, text) in [
            (host.path().join("memory.max"), "4096\n"),
            (scope.join("memory.max"), "max\n"),
            (scope.join("cpu.max"), "50000 100000\n"),
            (scope.join("pids.max"), "64\n"),
            (leaf.join("memory.max"), "67108864\n"),
            (leaf.join("cpu.max"), "max 100000\n"),
            (leaf.join("pids.max"), "128\n"),
        ] {
            fs::write(file, text).unwrap();
        }
        let leaf = Cgroup::V2(leaf);
        let top = leaf.clone().named("ab12");
        let expected = Limits {
            cpu: Some(CpuLimit { quota: 50_000, period: 100_000 }),
            memory: Some(64 << 20),
            pids: Some(64),
            ..Limits::default()
        };
        assert_eq!(leaf.limits_below(&top), expected);
        assert_eq!(leaf.limits_below(&leaf).cpu, None);
    }

    #[test]
    fn limits_are_read_back_and_compared() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("cpu.max", "50000 100000\n"),
            ("cpuset.cpus", "0\n"),
            ("memory.max", "67108864\n"),
            ("memory.swap.max", "max\n"),
            ("pids.max", "64\n"),
        ] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let cgroup = Cgroup::V2(folder.path().to_path_buf());
        let good = Limits {
            cpu: Some(CpuLimit { quota: 50_000, period: 100_000 }),
            cpuset: CpuSet::new([0]),
            memory: Some((64 << 20) + 100),
            swap: None,
            pids: Some(64),
        };
        assert!(cgroup.verify(&good).is_ok());
        let wrong = |limits: Limits| cgroup.verify(&limits).unwrap_err().to_string();
        assert_eq!(
            wrong(Limits { swap: Some(0), ..good.clone() }),
            "the limit for swap is not in force: 0 bytes was asked for, and the kernel has none"
        );
        assert_eq!(
            wrong(Limits { cpu: Some(CpuLimit { quota: 25_000, period: 100_000 }), ..good }),
            "the limit for CPU time is not in force: 25000/100000 µs was asked for, and the kernel has 50000/100000 µs"
        );
        fs::write(folder.path().join("cpu.max"), "max 100000\n").unwrap();
        assert_eq!(cgroup.limits().cpu, None);
    }

    #[test]
    fn a_controller_that_is_not_handed_down_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("cgroup.controllers"), "cpu memory pids\n").unwrap();
        let parent = Cgroup::V2(folder.path().to_path_buf());
        let memory = Limits { memory: Some(1 << 20), ..Limits::default() };
        assert!(check_enforceable(&parent, &memory).is_ok());
        let cpuset = Limits { cpuset: CpuSet::new([0]), ..Limits::default() };
        let error = check_enforceable(&parent, &cpuset).unwrap_err().to_string();
        assert!(
            error.starts_with(
                "the limit for CPUs cannot be enforced: the controller `cpuset` is not delegated"
            ),
            "{error}"
        );
        let v1 = Cgroup::V1(BTreeMap::new());
        assert_eq!(
            check_enforceable(&v1, &memory).unwrap_err().to_string(),
            "the limit for memory cannot be enforced: the controller `memory` is not mounted"
        );
    }
}
