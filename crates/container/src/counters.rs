//! The kernel's counters of a container, from cgroup version 1, version 2 and `/proc`. Parsing is separate from reading,
//! and tested on captured text.
//!
//! Sources: Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/{cpuacct,memory,pids}.rst,
//! scheduler/sched-bwc.rst, and proc_pid_status(5).

use std::fs;
use std::io;

use super::cgroup::Cgroup;
use super::error::ContainerError;
use super::kind::RuntimeKind;

/// The resources that a cgroup has used since its creation. Counters that this kernel lacks are `None`, never 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// ns of CLOCK_MONOTONIC between which they were read: before the first file, after the last.
    pub read: (u64, u64),
    /// CPU time, ns.
    pub cpu_usage: Option<u64>,
    /// Of it in user mode, ns. Version 1 counts by ticks, which may add up to more or less than the usage: only
    /// how it is divided over a span can be seen from them.
    pub cpu_user: Option<u64>,
    /// Of it in the kernel, ns.
    pub cpu_system: Option<u64>,
    /// Periods of the quota in which something ran.
    pub periods: Option<u64>,
    /// Of them those in which the quota was used up.
    pub throttled_periods: Option<u64>,
    /// How long it stood still for that, ns, summed over CPUs.
    pub throttled: Option<u64>,
    /// Bytes, page cache included.
    pub memory: Option<u64>,
    /// The most it ever was.
    pub memory_peak: Option<u64>,
    /// Bytes of anonymous memory (not backed by a file).
    pub memory_anon: Option<u64>,
    /// Bytes of files in memory: of tmpfs, `/dev/shm` and shared memory. Only their removal frees them.
    pub memory_shmem: Option<u64>,
    /// Times the limit was reached and nothing could be reclaimed; version 2 only.
    pub oom: Option<u64>,
    /// Processes that were killed for that.
    pub oom_kill: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Times a thread gave its CPU up, in the processes that live now.
    pub voluntary_switches: Option<u64>,
    /// Times it was taken away.
    pub involuntary_switches: Option<u64>,
}

impl Counters {
    /// Reads all files of a cgroup and of the processes in it.
    ///
    /// # Errors
    /// When the cgroup is gone.
    pub fn read(cgroup: &Cgroup) -> io::Result<Self> {
        let before = tare_load::clock::now();
        let text = |controller, v1, v2| cgroup.text(controller, v1, v2);
        let number = |controller, v1, v2| cgroup.number(controller, v1, v2);
        let stat = text("cpu", "cpu.stat", "cpu.stat");
        let cpu = match cgroup {
            Cgroup::V1(_) => Self {
                cpu_usage: number("cpuacct", "cpuacct.usage", ""),
                cpu_user: number("cpuacct", "cpuacct.usage_user", ""),
                cpu_system: number("cpuacct", "cpuacct.usage_sys", ""),
                ..Self::parse_v1_throttling(&stat.unwrap_or_default())
            },
            Cgroup::V2(_) => Self::parse_v2_cpu(&stat.unwrap_or_default()),
        };
        if cpu.cpu_usage.is_none() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the cgroup counts no CPU time"));
        }
        let anon = if matches!(cgroup, Cgroup::V1(_)) { "rss" } else { "anon" };
        let memory = text("memory", "memory.stat", "memory.stat");
        let events = text("memory", "memory.oom_control", "memory.events");
        let mut counters = Self {
            memory: number("memory", "memory.usage_in_bytes", "memory.current"),
            memory_peak: number("memory", "memory.max_usage_in_bytes", "memory.peak"),
            memory_anon: memory.as_deref().and_then(|text| value(text, anon)),
            memory_shmem: memory.as_deref().and_then(|text| value(text, "shmem")),
            oom: events.as_deref().and_then(|text| value(text, "oom")),
            oom_kill: events.as_deref().and_then(|text| value(text, "oom_kill")),
            pids: number("pids", "pids.current", "pids.current"),
            ..cpu
        };
        counters.read_processes(&cgroup.processes()?);
        counters.read = (before, tare_load::clock::now());
        Ok(counters)
    }

    /// The error of a container whose counters cannot be read.
    #[must_use]
    pub fn missing(runtime: RuntimeKind) -> ContainerError {
        let message = format!("the counters of a container of {runtime} cannot be read on this host");
        ContainerError::new(message)
    }

    /// How many processes of a cgroup the kernel has killed for want of memory: the counter `oom_kill` of
    /// `memory.oom_control` (version 1, since Linux 4.13) or `memory.events`.
    #[must_use]
    pub fn oom_kills(cgroup: &Cgroup) -> Option<u64> {
        value(&cgroup.text("memory", "memory.oom_control", "memory.events")?, "oom_kill")
    }

    /// `cpu.stat` of version 2, in µs.
    #[must_use]
    pub fn parse_v2_cpu(text: &str) -> Self {
        let ns = |name: &str| value(text, name).and_then(|microseconds| microseconds.checked_mul(1_000));
        Self {
            cpu_usage: ns("usage_usec"),
            cpu_user: ns("user_usec"),
            cpu_system: ns("system_usec"),
            periods: value(text, "nr_periods"),
            throttled_periods: value(text, "nr_throttled"),
            throttled: ns("throttled_usec"),
            ..Self::default()
        }
    }

    /// `cpu.stat` of version 1, in ns.
    #[must_use]
    pub fn parse_v1_throttling(text: &str) -> Self {
        Self {
            periods: value(text, "nr_periods"),
            throttled_periods: value(text, "nr_throttled"),
            throttled: value(text, "throttled_time"),
            ..Self::default()
        }
    }

    /// Sums the counters of `/proc` over all processes. Threads that have ended are missing.
    fn read_processes(&mut self, processes: &[i32]) {
        for process in processes {
            let threads = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
            for thread in threads {
                let Ok(status) = fs::read_to_string(thread.path().join("status")) else { continue };
                let (voluntary, involuntary) = switches(&status);
                *self.voluntary_switches.get_or_insert(0) += voluntary;
                *self.involuntary_switches.get_or_insert(0) += involuntary;
            }
        }
    }
}

/// Of `/proc/PID/status`: how often a thread gave its CPU up, and how often it was taken away.
fn switches(status: &str) -> (u64, u64) {
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|line| line.trim().parse().ok()).unwrap_or(0)
    };
    (field("voluntary_ctxt_switches"), field("nonvoluntary_ctxt_switches"))
}

/// The value of a key in a file of `key value` lines. Keys that are not known are no error: every kernel
/// has more.
fn value(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        (name == key).then(|| value.trim().parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_2_counts_in_microseconds() {
        // A kernel 6.1.
        let text = "usage_usec 1234567\nuser_usec 234567\nsystem_usec 1000000\ncore_sched.force_idle_usec 0\n\
            nr_periods 20\nnr_throttled 17\nthrottled_usec 940211\nnr_bursts 0\nburst_usec 0\n";
        let expected = Counters {
            cpu_usage: Some(1_234_567_000),
            cpu_user: Some(234_567_000),
            cpu_system: Some(1_000_000_000),
            periods: Some(20),
            throttled_periods: Some(17),
            throttled: Some(940_211_000),
            ..Counters::default()
        };
        assert_eq!(Counters::parse_v2_cpu(text), expected);
        // Without the cpu controller there are only the first three.
        let text = "usage_usec 10\nuser_usec 4\nsystem_usec 6\n";
        let counters = Counters::parse_v2_cpu(text);
        assert_eq!((counters.cpu_usage, counters.periods, counters.throttled), (Some(10_000), None, None));
    }

    #[test]
    fn version_1_counts_in_nanoseconds() {
        // A kernel 6.18.
        let text = "nr_periods 31\nnr_throttled 30\nthrottled_time 1523456789\nnr_bursts 0\nburst_time 0\n";
        let expected = Counters {
            periods: Some(31),
            throttled_periods: Some(30),
            throttled: Some(1_523_456_789),
            ..Counters::default()
        };
        assert_eq!(Counters::parse_v1_throttling(text), expected);
    }

    #[test]
    fn keys_are_whole_words_and_unknown_or_damaged_lines_are_passed_over() {
        let text = "oom_kill_disable 0\nunder_oom 0\noom_kill 2\noom x\n\nlow\n";
        assert_eq!(value(text, "oom_kill"), Some(2));
        assert_eq!((value(text, "oom"), value(text, "low"), value(text, "high")), (None, None, None));
        let folder = tempfile::tempdir().unwrap();
        let cgroup = Cgroup::V2(folder.path().to_path_buf());
        for (text, expected) in [("67108864\n", Some(67_108_864)), ("max\n", None), ("", None)] {
            fs::write(folder.path().join("memory.max"), text).unwrap();
            assert_eq!(cgroup.number("memory", "", "memory.max"), expected, "{text}");
        }
    }

    #[test]
    fn switches_of_a_thread_are_read() {
        let status = "Name:\tvoluntary_ctxt_switches: 9\nState:\tS (sleeping)\nVmRSS:\t    4096 kB\n\
            voluntary_ctxt_switches:\t12\nnonvoluntary_ctxt_switches:\t3\n";
        assert_eq!(switches(status), (12, 3));
        // A zombie has none.
        assert_eq!(switches("Name:\tx\nState:\tZ (zombie)\n"), (0, 0));
    }
}
