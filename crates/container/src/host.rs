//! Facts about the host on which the figures were measured. Parsing is separate from reading.

use std::fs;

use super::cgroup::Version;

/// ns. USER_HZ is 100 on every architecture that images are built for (include/asm-generic/param.h).
const TICK: u64 = 10_000_000;

/// Of this host, as far as it can be seen; what cannot is `None`.
#[derive(Debug, Clone, PartialEq)]
pub struct HostFacts {
    /// `uname -r`.
    pub kernel: Option<String>,
    /// As the CPU calls itself.
    pub cpu_model: Option<String>,
    /// CPUs that are online.
    pub cpus: usize,
    /// Which version holds the controllers.
    pub cgroup: Version,
    /// Bytes of memory.
    pub memory: Option<u64>,
}

/// CPU time that the hypervisor gave to others since the start of the host, and the current load.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct HostLoad {
    /// CPU time of all CPUs together, used or not, in ticks of 10 ms.
    pub total: u64,
    /// The part that the hypervisor gave to others (proc_stat(5), `steal`).
    pub steal: u64,
    /// The part that was not used.
    pub idle: u64,
    /// Of it what programs and the kernel in their name used; not what interrupts did.
    pub work: u64,
    /// Mean number of runnable tasks in the last minute.
    pub load: Option<f64>,
}

impl HostFacts {
    /// Reads them.
    #[must_use]
    pub fn read() -> Self {
        let text = |path: &str| fs::read_to_string(path).ok();
        let cpuinfo = text("/proc/cpuinfo").unwrap_or_default();
        Self {
            kernel: text("/proc/sys/kernel/osrelease").map(|text| text.trim().to_owned()),
            cpu_model: cpu_model(&cpuinfo),
            cpus: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            cgroup: Version::of(&text("/proc/self/mounts").unwrap_or_default()),
            memory: text("/proc/meminfo").as_deref().and_then(memory),
        }
    }
}

impl HostLoad {
    /// Reads it; none where there is no `/proc`.
    #[must_use]
    pub fn read() -> Option<Self> {
        let load = fs::read_to_string("/proc/loadavg").ok();
        let load = load.and_then(|text| text.split(' ').next()?.parse().ok());
        let found = Self::parse(&fs::read_to_string("/proc/stat").ok()?)?;
        Some(Self { load, ..found })
    }

    /// The first line of `/proc/stat`.
    #[must_use]
    pub fn parse(stat: &str) -> Option<Self> {
        let fields = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
        let fields: Vec<u64> = fields.split_whitespace().map_while(|field| field.parse().ok()).collect();
        // user nice system idle iowait irq softirq steal; guest times are in user already.
        let [user, nice, system, idle, iowait, _, _, steal, ..] = fields.as_slice() else { return None };
        Some(Self {
            total: fields[..8].iter().sum(),
            steal: *steal,
            idle: idle + iowait,
            work: user + nice + system,
            load: None,
        })
    }

    /// The part of the CPU time since an earlier look that the hypervisor gave to others, 0 to 1.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "ticks are far below where floats lose whole numbers")]
    pub fn steal_since(&self, earlier: &Self) -> f64 {
        let total = self.total.saturating_sub(earlier.total);
        let steal = self.steal.saturating_sub(earlier.steal);
        if total == 0 { 0.0 } else { steal as f64 / total as f64 }
    }

    /// The part of the CPU time since an earlier look that others used, where we ourselves used so many
    /// nanoseconds, 0 to 1.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "ticks are far below where floats lose whole numbers")]
    pub fn others_since(&self, earlier: &Self, ours: f64) -> f64 {
        let total = (self.total.saturating_sub(earlier.total) * TICK) as f64;
        let work = (self.work.saturating_sub(earlier.work) * TICK) as f64;
        if total == 0.0 { 0.0 } else { ((work - ours) / total).max(0.0) }
    }
}

/// Bytes of memory that can be used without swapping (`MemAvailable` of proc_meminfo(5)); none where there is no `/proc`.
#[must_use]
pub fn available_memory() -> Option<u64> {
    field(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")
}

fn cpu_model(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name") || line.starts_with("CPU part"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn memory(meminfo: &str) -> Option<u64> {
    field(meminfo, "MemTotal:")
}

/// A field of `/proc/meminfo` in bytes.
fn field(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steal_is_a_part_of_all_cpu_time() {
        let before = HostLoad::parse("cpu  100 0 50 800 10 0 0 40 7 0\ncpu0 1 2 3\n").unwrap();
        assert_eq!(before, HostLoad { total: 1000, steal: 40, idle: 810, work: 150, load: None });
        let after = HostLoad::parse("cpu  150 0 50 820 10 0 0 70 7 0\n").unwrap();
        assert!((after.steal_since(&before) - 0.3).abs() < 1e-9);
        assert!(before.steal_since(&before).abs() < 1e-9);
        // 50 of 100 ticks were work, and 30 of those ours.
        assert!((after.others_since(&before, 0.3e9) - 0.2).abs() < 1e-9);
        assert!(after.others_since(&before, 9e9).abs() < 1e-9);
        for text in ["", "cpu  1 2 3\n", "intr 1 2 3 4 5 6 7 8\n"] {
            assert_eq!(HostLoad::parse(text), None, "{text}");
        }
    }

    #[test]
    fn model_and_memory_are_read() {
        assert_eq!(cpu_model("processor\t: 0\nmodel name\t: A (R) B\n"), Some("A (R) B".to_owned()));
        assert_eq!(memory("MemTotal:       16384 kB\nMemFree: 1 kB\n"), Some(16 << 20));
        assert_eq!((cpu_model(""), memory("MemTotal: x")), (None, None));
    }
}
