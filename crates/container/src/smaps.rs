//! The memory that processes map, with shared pages divided among the processes that share them.
//!
//! Source: `/proc/PID/smaps_rollup` (Documentation/ABI/testing/procfs-smaps_rollup, since Linux 4.14).

use std::fs;

/// The memory of some processes, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProcessMemory {
    /// Resident set size: pages in memory, each counted in full for every process that maps it.
    pub resident: u64,
    /// Proportional set size: a page that n processes map counts as one n-th.
    pub proportional: u64,
    /// The part of the resident set that other processes map as well.
    pub shared: u64,
}

impl ProcessMemory {
    /// Sums the memory of these processes, as numbered on this host. A process that has ended meanwhile has none; the sum
    /// is none where no process can be read.
    #[must_use]
    pub fn of(processes: &[i32]) -> Option<Self> {
        let read =
            |process: &i32| Self::parse(&fs::read_to_string(format!("/proc/{process}/smaps_rollup")).ok()?);
        processes.iter().filter_map(read).reduce(|sum, next| Self {
            resident: sum.resident + next.resident,
            proportional: sum.proportional + next.proportional,
            shared: sum.shared + next.shared,
        })
    }

    /// The text of a process's file; none if a field is missing.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.trim().strip_suffix("kB")?.trim_end().parse::<u64>().ok()?.checked_mul(1024)
        };
        Some(Self {
            resident: field("Rss")?,
            proportional: field("Pss")?,
            shared: field("Shared_Clean")?.checked_add(field("Shared_Dirty")?)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_in_kib_and_prefixes_of_other_names_are_none() {
        // A kernel 6.1.
        let text = "55d0c6a52000-7ffd8c9f6000 ---p 00000000 00:00 0                          [rollup]\n\
            Rss:                1760 kB\nPss:                 404 kB\nPss_Dirty:           108 kB\n\
            Pss_Anon:            104 kB\nShared_Clean:       1580 kB\nShared_Dirty:          4 kB\n\
            Private_Clean:        68 kB\nPrivate_Dirty:       108 kB\nLocked:                0 kB\n";
        let expected = ProcessMemory { resident: 1760 << 10, proportional: 404 << 10, shared: 1584 << 10 };
        assert_eq!(ProcessMemory::parse(text), Some(expected));
        for damaged in ["", "Rss: 1 kB\nPss: x kB\n", "Rss: 1 kB\nPss: 1 kB\nShared_Clean: 1\n"] {
            assert_eq!(ProcessMemory::parse(damaged), None, "{damaged}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_memory_of_processes_is_summed_and_those_that_are_gone_are_passed_over() {
        let own = std::process::id().cast_signed();
        let once = ProcessMemory::of(&[own]).unwrap();
        let twice = ProcessMemory::of(&[own, -1, own]).unwrap();
        assert!(once.proportional > 0 && once.proportional <= once.resident && once.shared <= once.resident);
        assert!(twice.resident > once.resident, "{once:?} {twice:?}");
        assert_eq!(ProcessMemory::of(&[-1]), None);
    }
}
