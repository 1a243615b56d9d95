//! Cgroups of this host, version 1, hybrid and 2: the cgroup of a process, and the limits in force there.
//!
//! A hybrid host has its controllers in version 1 and is treated as such.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tare_keeper::cgroup::{Hierarchy, hierarchies};

use super::error::ContainerError;
use super::limits::{CpuLimit, CpuSet, Limits};

/// The folders of one cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cgroup {
    /// One per controller.
    V1(BTreeMap<String, PathBuf>),
    /// One for all.
    V2(PathBuf),
}

/// The hint where a CPU that was asked for does not exist.
const NAME_OTHERS: &str = "name CPUs that this host has, or leave `cpuset` out of the profile";
/// The hint for a user without the controller `cpuset`: systemd does not delegate it by itself.
const DELEGATE_CPUSET: &str = "add `--sudo`, or have an administrator delegate it (`systemctl edit user@.service`: `[Service]`, `Delegate=cpu cpuset memory pids`); or leave `cpuset` out of the profile, and CPUs are pinned by affinity";
/// The hint for a user without the right to set a limit.
const DELEGATE: &str = "add `--sudo`, or run it in a scope that systemd delegates (`systemd-run --user --scope -p Delegate=yes …`), or with `--runtime docker`; or leave the limit out";

/// The error of a limit that the kernel would not enforce.
pub(crate) fn not_enforceable(limit: &str, reason: &str) -> ContainerError {
    let message = format!("the limit for {limit} cannot be enforced: {reason}");
    ContainerError::new(message).with_hint(DELEGATE)
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

impl Cgroup {
    /// The cgroup of a process.
    ///
    /// # Errors
    /// When the process is gone, or no cgroup file system is mounted.
    pub fn of_process(pid: i32) -> Result<Self, ContainerError> {
        let path = PathBuf::from(format!("/proc/{pid}/cgroup"));
        let (text, mounts) = (read(&path)?, read(Path::new(MOUNTS))?);
        Self::parse(&text, &mounts).ok_or_else(|| ContainerError::on("read", &path)(not_mounted()))
    }

    /// The root cgroup, with the controllers that limit and count.
    pub(crate) fn root() -> Result<Self, ContainerError> {
        let mounts = read(Path::new(MOUNTS))?;
        if Version::of(&mounts) == Version::V2 {
            let unified = hierarchies(&mounts).into_iter().find(|it| it.unified);
            return Ok(Self::V2(unified.map(|it| it.mount).unwrap_or_default()));
        }
        let mut folders = BTreeMap::new();
        for Hierarchy { mount, controllers, .. } in hierarchies(&mounts) {
            let used =
                |name: &String| ["cpu", "cpuacct", "cpuset", "memory", "pids"].contains(&name.as_str());
            folders.extend(controllers.into_iter().filter(used).map(|name| (name, mount.clone())));
        }
        match folders.is_empty() {
            true => Err(ContainerError::on("read", Path::new(MOUNTS))(not_mounted())),
            false => Ok(Self::V1(folders)),
        }
    }

    /// The cgroup at a path below this one.
    pub(crate) fn join(&self, below: impl AsRef<Path>) -> Self {
        let below = below.as_ref();
        match self {
            Self::V1(folders) => {
                Self::V1(folders.iter().map(|(name, folder)| (name.clone(), folder.join(below))).collect())
            }
            Self::V2(folder) => Self::V2(folder.join(below)),
        }
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

    /// Its folders, each with its controller; with version 2 one, with none.
    pub(crate) fn folders(&self) -> Vec<(&str, &Path)> {
        match self {
            Self::V1(folders) => folders.iter().map(|(name, folder)| (name.as_str(), &**folder)).collect(),
            Self::V2(folder) => vec![("", folder)],
        }
    }

    /// The folder of a controller that counts.
    fn main_folder(&self) -> Option<&Path> {
        ["memory", "cpuacct", "cpu", "pids"].iter().find_map(|it| self.folder(it))
    }

    /// The text of a controller's file, by its names in version 1 and 2; none if it cannot be read.
    pub(crate) fn text(&self, controller: &str, v1: &str, v2: &str) -> Option<String> {
        let name = if matches!(self, Self::V1(_)) { v1 } else { v2 };
        let text = fs::read_to_string(self.folder(controller)?.join(name)).ok()?;
        Some(text.trim().to_owned())
    }

    /// The number in such a file; none if it holds something else, such as `max`.
    pub(crate) fn number(&self, controller: &str, v1: &str, v2: &str) -> Option<u64> {
        self.text(controller, v1, v2)?.parse().ok()
    }

    /// Ids of the processes in it, as numbered on the host.
    ///
    /// # Errors
    /// When it is gone.
    pub fn processes(&self) -> io::Result<Vec<i32>> {
        let folder = self.main_folder().ok_or_else(not_mounted)?;
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
    pub(crate) fn limit_swap(&self, limits: &Limits) -> Result<(), ContainerError> {
        match (self, limits.swap) {
            (Self::V2(folder), Some(swap)) => write(&folder.join("memory.swap.max"), &swap.to_string()),
            _ => Ok(()),
        }
    }

    /// Whether its name, or that of a group above it, holds this text.
    pub(crate) fn is_named(&self, text: &str) -> bool {
        self.main_folder().is_some_and(|folder| folder.to_string_lossy().contains(text))
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
        let bytes = |v1, v2| self.number("memory", v1, v2).filter(|it| *it < V1_UNLIMITED);
        let memory = bytes("memory.limit_in_bytes", "memory.max");
        let swap = bytes("memory.memsw.limit_in_bytes", "memory.swap.max");
        let (cpu, swap) = match self {
            Self::V1(_) => {
                let time = |name| self.number("cpu", name, "");
                let cpu = time("cpu.cfs_quota_us").zip(time("cpu.cfs_period_us"));
                // Version 1 limits memory and swap together.
                (cpu, swap.zip(memory).and_then(|(both, memory)| both.checked_sub(memory)))
            }
            Self::V2(_) => (self.text("cpu", "", "cpu.max").as_deref().and_then(parse_cpu_max), swap),
        };
        Limits {
            cpu: cpu.map(|(quota, period)| CpuLimit { quota, period }),
            cpuset: self.text("cpuset", "cpuset.cpus", "cpuset.cpus").and_then(|text| text.parse().ok()),
            memory,
            swap,
            pids: self.number("pids", "pids.max", "pids.max"),
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
    pub fn verify(&self, wanted: &Limits) -> Result<(), ContainerError> {
        compare(KERNEL, wanted, &self.limits())
    }
}

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

/// Compares the limits that `judge` says are in force with those asked for.
pub(crate) fn compare(judge: &str, wanted: &Limits, found: &Limits) -> Result<(), ContainerError> {
    for ((limit, wanted), (_, found)) in shown(wanted).into_iter().zip(shown(found)) {
        let Some(wanted) = wanted.filter(|wanted| found.as_ref() != Some(wanted)) else { continue };
        let found = found.as_deref().unwrap_or("none");
        let error = ContainerError::new(format_args!(
            "the limit for {limit} is not in force: {wanted} was asked for, and {judge} has {found}"
        ));
        return Err(error.with_hint(match judge {
            KERNEL => "a group further up may be narrower: look at its cgroup files".to_owned(),
            _ => format!(
                "what `{judge}` could not set it left out: its warnings are in `{judge} info`; or leave the limit out"
            ),
        }));
    }
    Ok(())
}

/// Every limit as text, in the precision that the kernel has.
fn shown(limits: &Limits) -> [(&'static str, Option<String>); 5] {
    // The kernel counts in pages (mm/page_counter.c).
    let bytes = |bytes: Option<u64>| bytes.map(|bytes| format!("{} bytes", bytes / PAGE * PAGE));
    [
        ("CPU time", limits.cpu.map(|cpu| format!("{}/{} µs", cpu.quota, cpu.period))),
        ("CPUs", limits.cpuset.as_ref().map(ToString::to_string)),
        ("memory", bytes(limits.memory)),
        ("swap", bytes(limits.swap)),
        ("processes", limits.pids.map(|pids| pids.to_string())),
    ]
}

/// The `judge` of limits that are read from the kernel's files.
pub(crate) const KERNEL: &str = "the kernel";

/// The smallest page; larger ones round the same way and are compared after that.
const PAGE: u64 = 4096;

/// "No limit" in version 1 is the largest multiple of the page size in a signed 64-bit number; no real limit
/// is near it.
const V1_UNLIMITED: u64 = 1 << 62;

const MOUNTS: &str = "/proc/self/mounts";

fn not_mounted() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "no cgroup file system is mounted")
}

/// The text of a kernel file.
pub(crate) fn read(path: &Path) -> Result<String, ContainerError> {
    fs::read_to_string(path).map_err(ContainerError::on("read", path))
}

/// Writes to a kernel file.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), ContainerError> {
    fs::write(path, text).map_err(ContainerError::on("write", path))
}

/// `cpu.max`: `QUOTA PERIOD`, where QUOTA may be `max`.
fn parse_cpu_max(text: &str) -> Option<(u64, u64)> {
    let (quota, period) = text.split_once(' ')?;
    Some((quota.parse().ok()?, period.parse().ok()?))
}

/// Checks, before anything is made, that the kernel can enforce the limits below a cgroup: that there is a
/// controller for each, and in version 2 that it may be handed down.
///
/// # Errors
/// With the first that cannot be.
pub fn check_enforceable(parent: &Cgroup, limits: &Limits) -> Result<(), ContainerError> {
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
                let have = read(&folder.join("cgroup.controllers"))?;
                let has = have.split_whitespace().any(|it| it == controller);
                (!has).then(|| {
                    format!("the controller `{controller}` is not delegated to {}", folder.display())
                })
            }
        };
        if let Some(reason) = reason {
            let hint = if controller == "cpuset" { DELEGATE_CPUSET } else { DELEGATE };
            return Err(not_enforceable(limit, &reason).with_hint(hint));
        }
    }
    if let (Some(cpuset), Some(folder)) = (&limits.cpuset, parent.folder("cpuset")) {
        check_cpus_exist(cpuset, folder)?;
    }
    Ok(())
}

fn check_cpus_exist(wanted: &CpuSet, folder: &Path) -> Result<(), ContainerError> {
    let names = ["cpuset.cpus.effective", "cpuset.effective_cpus"];
    let text = names.iter().find_map(|name| fs::read_to_string(folder.join(name)).ok());
    let Some(have) = text.and_then(|text| text.parse::<CpuSet>().ok()) else { return Ok(()) };
    if wanted.without(&have).is_empty() {
        return Ok(());
    }
    let reason = format!("of the CPUs {wanted} this host has only {have}");
    Err(not_enforceable("CPUs", &reason).with_hint(NAME_OTHERS))
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
