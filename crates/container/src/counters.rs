//! What the kernel counted of a container, from cgroup version 1, 2 and `/proc`. Parsing is apart from
//! reading, and tested on captured text.
//!
//! Sources: Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/{cpuacct,memory,pids}.rst,
//! scheduler/sched-bwc.rst, and proc_pid_status(5).

use std::fs;
use std::io;
use std::path::Path;

use super::cgroup::Cgroup;

/// What a cgroup used since it was made. What the kernel at hand does not count is `None`, never 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// ns of CLOCK_MONOTONIC between which they were read: before the first file, after the last.
    pub read: (u64, u64),
    /// CPU time, ns.
    pub cpu_usage: Option<u64>,
    /// Of it in user mode, ns. Version 1 counts by ticks, which may add up to more or less than the usage: only
    /// how it is divided over a span can be told from them.
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
    /// Bytes that no file stands behind.
    pub memory_anon: Option<u64>,
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
        let mut counters = match cgroup {
            Cgroup::V1(_) => Self::read_v1(cgroup)?,
            Cgroup::V2(folder) => Self::read_v2(folder)?,
        };
        counters.read_processes(&cgroup.processes()?);
        counters.read = (before, tare_load::clock::now());
        Ok(counters)
    }

    /// How many processes of a cgroup the kernel has killed for want of memory: the counter `oom_kill` of
    /// `memory.oom_control` (version 1, since Linux 4.13) or `memory.events`.
    #[must_use]
    pub fn oom_kills(cgroup: &Cgroup) -> Option<u64> {
        let name = match cgroup {
            Cgroup::V1(_) => "memory.oom_control",
            Cgroup::V2(_) => "memory.events",
        };
        value(&fs::read_to_string(cgroup.folder("memory")?.join(name)).ok()?, "oom_kill")
    }

    fn read_v2(folder: &Path) -> io::Result<Self> {
        let cpu = fs::read_to_string(folder.join("cpu.stat"))?;
        let text = |name: &str| fs::read_to_string(folder.join(name)).ok();
        let events = text("memory.events");
        Ok(Self {
            memory: text("memory.current").as_deref().and_then(number),
            memory_peak: text("memory.peak").as_deref().and_then(number),
            memory_anon: text("memory.stat").and_then(|text| value(&text, "anon")),
            oom: events.as_deref().and_then(|text| value(text, "oom")),
            oom_kill: events.as_deref().and_then(|text| value(text, "oom_kill")),
            pids: text("pids.current").as_deref().and_then(number),
            ..Self::parse_v2_cpu(&cpu)
        })
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

    fn read_v1(cgroup: &Cgroup) -> io::Result<Self> {
        let text =
            |controller: &str, name: &str| fs::read_to_string(cgroup.folder(controller)?.join(name)).ok();
        let count = |controller: &str, name: &str| text(controller, name).as_deref().and_then(number);
        let throttling = text("cpu", "cpu.stat").unwrap_or_default();
        let Some(cpu_usage) = count("cpuacct", "cpuacct.usage") else {
            return Err(io::Error::new(io::ErrorKind::NotFound, "no cpuacct.usage"));
        };
        let ticks = text("cpuacct", "cpuacct.stat").unwrap_or_default();
        let of_ticks = |name: &str| value(&ticks, name).and_then(|ticks| ticks.checked_mul(TICK));
        Ok(Self {
            cpu_usage: Some(cpu_usage),
            cpu_user: count("cpuacct", "cpuacct.usage_user").or_else(|| of_ticks("user")),
            cpu_system: count("cpuacct", "cpuacct.usage_sys").or_else(|| of_ticks("system")),
            memory: count("memory", "memory.usage_in_bytes"),
            memory_peak: count("memory", "memory.max_usage_in_bytes"),
            memory_anon: text("memory", "memory.stat").and_then(|text| value(&text, "rss")),
            oom_kill: Self::oom_kills(cgroup),
            pids: count("pids", "pids.current"),
            ..Self::parse_v1_throttling(&throttling)
        })
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

    /// Sums over processes what only `/proc` knows; of threads that ended it knows nothing.
    fn read_processes(&mut self, processes: &[i32]) {
        let mut found = Process::default();
        let mut any = false;
        for process in processes {
            let threads = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
            for thread in threads {
                let Ok(status) = fs::read_to_string(thread.path().join("status")) else { continue };
                let status = Process::parse(&status);
                found.voluntary += status.voluntary;
                found.involuntary += status.involuntary;
                any = true;
            }
        }
        if any {
            self.voluntary_switches = Some(found.voluntary);
            self.involuntary_switches = Some(found.involuntary);
        }
    }
}

/// USER_HZ is 100 on every architecture that images are built for (include/asm-generic/param.h).
pub(crate) const TICK: u64 = 10_000_000;

/// Of `/proc/PID/status`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Process {
    voluntary: u64,
    involuntary: u64,
}

impl Process {
    fn parse(status: &str) -> Self {
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        Self {
            voluntary: field("voluntary_ctxt_switches").unwrap_or(0),
            involuntary: field("nonvoluntary_ctxt_switches").unwrap_or(0),
        }
    }
}

/// The value of a key in a file of `key value` lines. Keys that are not known are no error: every kernel
/// has more.
pub(crate) fn value(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        (name == key).then(|| value.trim().parse().ok()).flatten()
    })
}

/// A file of one number; `max` is none.
pub(crate) fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
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
        assert_eq!((number("67108864\n"), number("max\n"), number("")), (Some(67_108_864), None, None));
    }

    #[test]
    fn switches_and_memory_of_a_process_are_read() {
        let status = "Name:\tvoluntary_ctxt_switches: 9\nState:\tS (sleeping)\nVmRSS:\t    4096 kB\n\
            voluntary_ctxt_switches:\t12\nnonvoluntary_ctxt_switches:\t3\n";
        assert_eq!(Process::parse(status), Process { voluntary: 12, involuntary: 3 });
        // A kernel thread or a zombie has no memory.
        assert_eq!(Process::parse("Name:\tx\nState:\tZ (zombie)\n"), Process::default());
    }
}
