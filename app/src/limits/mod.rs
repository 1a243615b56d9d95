//! What the container lets the process have: CPU time, CPUs, memory, processes.
//!
//! [`groups`] finds the folders, [`values`] reads the files; both are pure. [`read`] joins them over a file
//! system that starts at any folder, so that it is tested on captured trees. Nothing is decided here.
//!
//! To be copied by itself: it needs thiserror and, for the CPUs on Linux, rustix with the feature `thread`. Its
//! tests read `tests/captured`.

pub mod groups;
pub mod values;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use groups::Version;
use values::{Malformed, Quota};

/// What limits a process. Where several groups lie inside one another, each value is the tightest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Limits {
    /// CPU time, as far as it is limited.
    pub quota: Option<Quota>,
    /// The CPUs it may run on, by number; empty when that is not known.
    pub cpus: Vec<u32>,
    /// Bytes of memory, as far as they are limited, and never more than the machine has.
    pub memory: Option<u64>,
    /// Processes and threads, as far as they are limited.
    pub pids: Option<u64>,
    /// The memory of the machine in bytes, when it is known.
    pub machine_memory: Option<u64>,
    /// The groups whose counters tell how the process fares.
    pub groups: Groups,
    /// What could not be understood, a line each. The limits do without it.
    pub doubts: Vec<String>,
}

/// The process's own groups.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Groups {
    /// The one of the controller `cpu`.
    pub cpu: Option<Group>,
    /// The one of the controller `memory`.
    pub memory: Option<Group>,
}

/// A folder of a hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The hierarchy's generation, which decides the names of the files.
    pub version: Version,
    /// Where it is.
    pub folder: PathBuf,
}

impl Limits {
    /// The thousandths of a CPU that the process can use: what the quota grants, on the CPUs it may run on.
    #[must_use]
    pub fn cpu_millis(&self) -> u64 {
        // Without any knowledge there is at least the one that this runs on.
        let cpus = self.cpus.len().max(1) as u64 * 1000;
        self.quota.map_or(cpus, |quota| quota.millis().min(cpus))
    }
}

/// The limits of the calling process, with what the machine has where a container says nothing.
#[must_use]
pub fn of_this_process() -> Limits {
    let mut limits = read(Path::new("/"));
    let allowed = allowed_cpus();
    if limits.cpus.is_empty() {
        limits.cpus = allowed;
    } else if !allowed.is_empty() {
        // taskset and numactl narrow further what a cpuset allows.
        limits.cpus.retain(|cpu| allowed.contains(cpu));
    }
    limits
}

/// The limits that the files below `root` speak of. A file that is not there limits nothing.
#[must_use]
pub fn read(root: &Path) -> Limits {
    let mut reader = Reader { root, doubts: Vec::new() };
    let memberships = groups::memberships(&reader.text(Path::new("/proc/self/cgroup")).unwrap_or_default());
    let mounts = groups::mounts(&reader.text(Path::new("/proc/self/mountinfo")).unwrap_or_default());
    let folders = |controller| groups::folders(controller, &memberships, &mounts);
    let (cpu, cpuset, memory, pids) = (folders("cpu"), folders("cpuset"), folders("memory"), folders("pids"));

    let machine_memory = reader.text(Path::new("/proc/meminfo"));
    let machine_memory = machine_memory.and_then(|text| values::memory_of_machine(&text));
    let limit = memory.as_ref().and_then(|(version, folders)| reader.memory(*version, folders));
    let group = |found: Option<(Version, Vec<PathBuf>)>, reader: &Reader<'_>| {
        let (version, folders) = found?;
        // A process in a group that it cannot see has the nearest one that it can.
        let folder = folders.into_iter().find(|folder| reader.path(folder).is_dir())?;
        Some(Group { version, folder })
    };
    Limits {
        quota: cpu.as_ref().and_then(|(version, folders)| reader.quota(*version, folders)),
        cpus: cpuset.map(|(version, folders)| reader.cpus(version, &folders)).unwrap_or_default(),
        // A limit above what the machine has is none.
        memory: limit.filter(|limit| machine_memory.is_none_or(|machine| *limit < machine)),
        pids: pids.and_then(|(_, folders)| reader.tightest(&folders, "pids.max", values::max_or_number)),
        machine_memory,
        groups: Groups { cpu: group(cpu, &reader), memory: group(memory, &reader) },
        doubts: reader.doubts,
    }
}

struct Reader<'a> {
    root: &'a Path,
    doubts: Vec<String>,
}

impl Reader<'_> {
    fn path(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn text(&mut self, path: &Path) -> Option<String> {
        // The kernel writes such a file anew for every read, so one is to be enough.
        let mut text = String::with_capacity(8 << 10);
        match fs::File::open(self.path(path)).and_then(|mut file| file.read_to_string(&mut text)) {
            Ok(_) => Some(text),
            // No such controller, kernel or system.
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                self.doubts.push(format!("cannot read {}: {error}", path.display()));
                None
            }
        }
    }

    /// A value of a file, and a doubt when it holds something else.
    fn understood<T>(&mut self, path: &Path, value: Result<Option<T>, Malformed>) -> Option<T> {
        value.unwrap_or_else(|error| {
            self.doubts.push(format!("{}: {error}", path.display()));
            None
        })
    }

    fn tightest(
        &mut self,
        folders: &[PathBuf],
        file: &str,
        parse: fn(&str) -> Result<Option<u64>, Malformed>,
    ) -> Option<u64> {
        let value = |folder: &PathBuf| {
            let path = folder.join(file);
            let text = self.text(&path)?;
            self.understood(&path, parse(&text))
        };
        folders.iter().filter_map(value).min()
    }

    fn quota(&mut self, version: Version, folders: &[PathBuf]) -> Option<Quota> {
        let value = |folder: &PathBuf| match version {
            Version::V2 => {
                let path = folder.join("cpu.max");
                let text = self.text(&path)?;
                self.understood(&path, values::cpu_max(&text))
            }
            Version::V1 => {
                let path = folder.join("cpu.cfs_quota_us");
                let quota = self.text(&path)?;
                let period = self.text(&folder.join("cpu.cfs_period_us"))?;
                self.understood(&path, values::cfs(&quota, &period))
            }
        };
        folders.iter().filter_map(value).reduce(Quota::tighter)
    }

    fn memory(&mut self, version: Version, folders: &[PathBuf]) -> Option<u64> {
        match version {
            Version::V2 => self.tightest(folders, "memory.max", values::max_or_number),
            Version::V1 => {
                let limit = self.tightest(folders, "memory.limit_in_bytes", values::limit_in_bytes);
                // What groups above the mount point allow, which a container does not see otherwise.
                let stat = folders.first().and_then(|folder| self.text(&folder.join("memory.stat")));
                let above = stat.and_then(|text| values::keyed(&text, "hierarchical_memory_limit"));
                let above = above.and_then(|bytes| values::limit_in_bytes(&bytes.to_string()).ok()?);
                limit.into_iter().chain(above).min()
            }
        }
    }

    fn cpus(&mut self, version: Version, folders: &[PathBuf]) -> Vec<u32> {
        let file = match version {
            Version::V1 => "cpuset.effective_cpus",
            Version::V2 => "cpuset.cpus.effective",
        };
        // What is effective in a group takes those above into account. The nearest that has it is enough.
        for folder in folders {
            let path = folder.join(file);
            if let Some(text) = self.text(&path) {
                return self.understood(&path, values::cpu_list(&text).map(Some)).unwrap_or_default();
            }
        }
        Vec::new()
    }
}

/// The CPUs that the scheduler lets this thread run on.
#[cfg(target_os = "linux")]
fn allowed_cpus() -> Vec<u32> {
    use rustix::thread::{CpuSet, sched_getaffinity};

    let set = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
    let cpus = (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu));
    cpus.filter_map(|cpu| u32::try_from(cpu).ok()).collect()
}

/// Elsewhere only their number is known.
#[cfg(not(target_os = "linux"))]
fn allowed_cpus() -> Vec<u32> {
    let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (0..u32::try_from(count).unwrap_or(1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree of files as they were read on a machine; in `tests/captured/README.md` is where.
    fn captured(name: &str) -> Limits {
        read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captured").join(name))
    }

    #[test]
    fn nothing_that_can_be_read_limits_nothing() {
        assert_eq!(read(Path::new("/nonexistent")), Limits::default());
        assert_eq!(Limits::default().cpu_millis(), 1000);
    }

    #[test]
    fn captured_trees_have_the_limits_their_containers_were_started_with() {
        let half = Some(Quota { quota: 50_000, period: 100_000 });
        let mib = |mib: u64| Some(mib << 20);
        for (name, quota, cpus, memory, pids) in [
            ("v1-hybrid-host", None, vec![0, 1], None, None),
            ("v1-hybrid-nested", half, vec![1], mib(64), Some(50)),
            // The quota is set above the namespace, and of v1 only memory tells what holds from there.
            ("v1-namespace", None, vec![1], mib(64), Some(50)),
            ("v2-host", None, vec![0, 1], None, None),
            ("v2-nested", half, vec![1], mib(64), Some(50)),
            // Of v2 nothing but the CPUs is told from above a namespace.
            ("v2-namespace-above", None, vec![1], None, Some(50)),
            ("v2-namespace", half, vec![1], mib(64), Some(50)),
            // The mount begins above the namespace, and where in it the process stands is hidden.
            ("v2-namespace-old-mount", None, vec![0, 1], None, None),
        ] {
            let limits = captured(name);
            assert_eq!(
                (limits.quota, limits.cpus, limits.memory, limits.pids, limits.doubts),
                (quota, cpus, memory, pids, vec![]),
                "{name}"
            );
        }
    }

    #[test]
    fn cpus_are_what_the_quota_grants_on_those_there_are() {
        let quota = |quota| Some(Quota { quota, period: 100_000 });
        for (quota, cpus, expected) in [
            (None, vec![0, 1], 2000),
            (quota(50_000), vec![0, 1], 500),
            (quota(400_000), vec![0, 1], 2000),
            (quota(400_000), vec![], 1000),
        ] {
            let limits = Limits { quota, cpus, ..Limits::default() };
            assert_eq!(limits.cpu_millis(), expected, "{limits:?}");
        }
    }
}
