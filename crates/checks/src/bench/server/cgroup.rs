//! A control group of the bench's own, in version 1 and 2. It is removed when dropped.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tare_container::Counters;
use tare_container::cgroup as container;

/// The controllers that are used here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Controller {
    Cpu,
    Memory,
}

impl Controller {
    fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
        }
    }
}

/// Where a controller is, and with which files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    /// A hierarchy for each controller (cgroup-v1/cgroups.rst).
    One,
    /// One hierarchy (cgroup-v2.rst).
    Two,
}

/// A control group with one limit.
#[derive(Debug)]
pub(in crate::bench) struct Cgroup {
    dir: PathBuf,
    version: Version,
}

/// How much of the CPU time was withheld.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Throttling {
    pub(super) periods: u64,
    pub(super) throttled: u64,
}

impl Throttling {
    pub(super) fn since(self, earlier: Self) -> Self {
        Self { periods: self.periods - earlier.periods, throttled: self.throttled - earlier.throttled }
    }
}

/// The period of a quota, the kernel's own default in microseconds.
const PERIOD: u64 = 100_000;

impl Cgroup {
    /// Of a CPU, in thousandths.
    pub(super) fn with_cpu(thousandths: u64) -> anyhow::Result<Self> {
        let group = Self::create(Controller::Cpu)?;
        let quota = PERIOD * thousandths / 1000;
        match group.version {
            Version::One => {
                group.write("cpu.cfs_period_us", &PERIOD.to_string())?;
                group.write("cpu.cfs_quota_us", &quota.to_string())?;
            }
            Version::Two => group.write("cpu.max", &format!("{quota} {PERIOD}"))?,
        }
        Ok(group)
    }

    /// Bytes, without swap.
    pub(super) fn with_memory(bytes: u64) -> anyhow::Result<Self> {
        let group = Self::create(Controller::Memory)?;
        // Where swap is not accounted there is no file for it.
        let swap = match group.version {
            Version::One => {
                group.write("memory.limit_in_bytes", &bytes.to_string())?;
                ("memory.memsw.limit_in_bytes", bytes)
            }
            Version::Two => {
                group.write("memory.max", &bytes.to_string())?;
                ("memory.swap.max", 0)
            }
        };
        if group.dir.join(swap.0).exists() {
            group.write(swap.0, &swap.1.to_string())?;
        }
        Ok(group)
    }

    fn create(controller: Controller) -> anyhow::Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts").context("cannot read /proc/self/mounts")?;
        let (root, version) = mounted(&mounts, controller)
            .with_context(|| format!("no hierarchy has the controller {}", controller.name()))?;
        if version == Version::Two {
            // It fails where it is switched on already and processes are in the root; then so does what follows.
            let _ = fs::write(root.join("cgroup.subtree_control"), format!("+{}", controller.name()));
        }
        let dir = root.join(format!("tare-bench-{}-{}", controller.name(), std::process::id()));
        fs::create_dir(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        Ok(Self { dir, version })
    }

    /// The file that a process is written to.
    pub(super) fn procs(&self) -> PathBuf {
        self.dir.join("cgroup.procs")
    }

    fn write(&self, file: &str, value: &str) -> anyhow::Result<()> {
        let path = self.dir.join(file);
        fs::write(&path, value).with_context(|| format!("cannot write {value} to {}", path.display()))
    }

    fn read(&self, file: &str) -> anyhow::Result<String> {
        let path = self.dir.join(file);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// So far.
    pub(super) fn throttling(&self) -> anyhow::Result<Throttling> {
        let stat = self.read("cpu.stat")?;
        let counted = match self.version {
            Version::One => Counters::parse_v1_throttling(&stat),
            Version::Two => Counters::parse_v2_cpu(&stat),
        };
        let counted = counted.periods.zip(counted.throttled_periods);
        let (periods, throttled) = counted.context("cpu.stat counts no throttled periods")?;
        Ok(Throttling { periods, throttled })
    }

    /// Processes that were ended for want of memory.
    pub(super) fn killed(&self) -> anyhow::Result<u64> {
        let group = match self.version {
            Version::One => container::Cgroup::V1([("memory".to_owned(), self.dir.clone())].into()),
            Version::Two => container::Cgroup::V2(self.dir.clone()),
        };
        Counters::oom_kills(&group).with_context(|| format!("{} counts no oom_kill", self.dir.display()))
    }

    /// The most bytes at once, with what the kernel keeps for it.
    pub(super) fn peak(&self) -> anyhow::Result<u64> {
        let file = match self.version {
            Version::One => "memory.max_usage_in_bytes",
            Version::Two => "memory.peak",
        };
        let text = self.read(file)?;
        text.trim().parse().with_context(|| format!("{file} holds no number but {text:?}"))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // It is busy until the kernel has cleared away the last process.
        let deadline = Instant::now() + Duration::from_secs(2);
        while let Err(error) = fs::remove_dir(&self.dir) {
            if error.kind() == io::ErrorKind::NotFound || Instant::now() > deadline {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Where a controller's hierarchy is; `mounts` is `/proc/self/mounts` (proc_pid_mounts(5)). In a hybrid setup
/// a controller is in version 1, and the one hierarchy of version 2 is without it.
fn mounted(mounts: &str, controller: Controller) -> Option<(PathBuf, Version)> {
    let mut second = None;
    for line in mounts.lines() {
        let mut fields = line.split(' ').skip(1);
        let (place, kind, options) = (fields.next()?, fields.next()?, fields.next()?);
        match kind {
            "cgroup" if options.split(',').any(|option| option == controller.name()) => {
                return Some((place.into(), Version::One));
            }
            "cgroup2" => second = second.or(Some((Path::new(place).to_path_buf(), Version::Two))),
            _ => {}
        }
    }
    second
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_controller_is_found_in_both_versions_and_mixed() {
        let hybrid = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n\
            cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n\
            cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,relatime,cpu,cpuacct 0 0\n\
            cgroup /sys/fs/cgroup/cpuset cgroup rw,relatime,cpuset 0 0\n";
        let second = "cgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate 0 0\n";
        let cpu = |mounts| mounted(mounts, Controller::Cpu);
        assert_eq!(cpu(hybrid), Some(("/sys/fs/cgroup/cpu,cpuacct".into(), Version::One)));
        assert_eq!(cpu(second), Some(("/sys/fs/cgroup".into(), Version::Two)));
        assert_eq!(cpu("tmpfs /tmp tmpfs rw 0 0\n"), None);
    }
}
