//! What the kernel writes into the files of a cgroup, as values. Pure: text goes in.
//!
//! The formats are those of `Documentation/admin-guide/cgroup-v2.rst` and `cgroup-v1/` of the kernel.

use thiserror::Error;

/// A file does not hold what the kernel is documented to write there.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text:?} is not {expected}")]
pub struct Malformed {
    text: String,
    expected: &'static str,
}

fn malformed(text: &str, expected: &'static str) -> Malformed {
    // A file of this kind is one short line; of anything else the start is enough.
    Malformed { text: text.chars().take(80).collect(), expected }
}

/// CPU time granted in each period, both in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// How much of it may be used.
    pub quota: u64,
    /// How long the period is; never 0.
    pub period: u64,
}

impl Quota {
    /// How many thousandths of a CPU that is, rounded up.
    #[must_use]
    pub fn millis(self) -> u64 {
        let millis = (u128::from(self.quota) * 1000).div_ceil(u128::from(self.period));
        u64::try_from(millis).unwrap_or(u64::MAX)
    }

    /// The one that grants less.
    #[must_use]
    pub fn tighter(self, other: Self) -> Self {
        let own = u128::from(self.quota) * u128::from(other.period);
        if u128::from(other.quota) * u128::from(self.period) < own { other } else { self }
    }
}

/// `cpu.max` of cgroup v2: `$MAX $PERIOD`, where `$MAX` may be `max`.
///
/// # Errors
/// When the text is something else.
pub fn cpu_max(text: &str) -> Result<Option<Quota>, Malformed> {
    let error = || malformed(text, "`max` or a quota, and a period");
    let mut words = text.split_ascii_whitespace();
    let quota = words.next().ok_or_else(error)?;
    // "If only one number is written, $MAX is updated", but two are always read.
    let period = words.next().ok_or_else(error)?;
    if words.next().is_some() {
        return Err(error());
    }
    let period = number(period).filter(|period| *period > 0).ok_or_else(error)?;
    if quota == "max" {
        return Ok(None);
    }
    let quota = number(quota).ok_or_else(error)?;
    Ok(Some(Quota { quota, period }))
}

/// `cpu.cfs_quota_us` and `cpu.cfs_period_us` of cgroup v1; a quota of -1 is none.
///
/// # Errors
/// When either text is something else.
pub fn cfs(quota: &str, period: &str) -> Result<Option<Quota>, Malformed> {
    let quota = quota.trim_ascii();
    let period = period.trim_ascii();
    let period = number(period).filter(|it| *it > 0).ok_or_else(|| malformed(period, "a period"))?;
    if quota == "-1" {
        return Ok(None);
    }
    let quota = number(quota).ok_or_else(|| malformed(quota, "-1 or a quota"))?;
    Ok(Some(Quota { quota, period }))
}

/// `memory.max`, `pids.max` and others: `max`, which is none, or a number.
///
/// # Errors
/// When the text is something else.
pub fn max_or_number(text: &str) -> Result<Option<u64>, Malformed> {
    match text.trim_ascii() {
        "max" => Ok(None),
        other => number(other).map(Some).ok_or_else(|| malformed(other, "`max` or a number")),
    }
}

/// `memory.limit_in_bytes` of cgroup v1. No limit is written as the largest number of whole pages
/// (`PAGE_COUNTER_MAX` in `mm/page_counter.c`), whatever the size of a page.
///
/// # Errors
/// When the text is something else.
pub fn limit_in_bytes(text: &str) -> Result<Option<u64>, Malformed> {
    const NONE: u64 = (i64::MAX as u64) & !0xFFFF;
    let bytes = number(text.trim_ascii()).ok_or_else(|| malformed(text, "a number of bytes"))?;
    Ok((bytes < NONE).then_some(bytes))
}

/// One value of a file of `name value` lines, such as `memory.stat` and `cpu.stat`. Names come and go with
/// the kernel, so an unknown one is no error and a missing one is none.
#[must_use]
pub fn keyed(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| number(line.strip_prefix(name)?.strip_prefix(' ')?))
}

/// More CPUs than the kernel can be built for (`NR_CPUS`), so that no file makes a list that fills memory.
const MOST_CPUS: u32 = 8192;

/// A list of CPUs, as `cpuset.cpus.effective` has it: `0-3,7`. It comes out in order and without doubles.
///
/// # Errors
/// When the text is something else. An empty list is a list.
pub fn cpu_list(text: &str) -> Result<Vec<u32>, Malformed> {
    let error = || malformed(text, "a list of CPUs");
    let cpu = |text: &str| {
        let number = number(text).and_then(|it| u32::try_from(it).ok());
        number.filter(|cpu| *cpu < MOST_CPUS).ok_or_else(error)
    };
    // However often a file repeats a range, this stays as long as a machine is wide.
    let mut named = vec![false; MOST_CPUS as usize];
    for range in text.trim_ascii().split(',').filter(|_| !text.trim_ascii().is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (cpu(first)?, cpu(last)?);
        named
            .get_mut(first as usize..=last as usize)
            .filter(|range| !range.is_empty())
            .ok_or_else(error)?
            .fill(true);
    }
    Ok((0..).zip(named).filter_map(|(cpu, named)| named.then_some(cpu)).collect())
}

/// `MemTotal` of `/proc/meminfo` in bytes.
#[must_use]
pub fn memory_of_machine(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    number(line.trim_ascii().strip_suffix(" kB")?.trim_ascii())?.checked_mul(1024)
}

/// Digits and nothing else: `parse` alone would take a sign.
fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_max_is_a_quota_of_a_period_or_none() {
        for (text, expected) in [
            ("max 100000\n", Some(None)),
            ("50000 100000\n", Some(Some(Quota { quota: 50_000, period: 100_000 }))),
            ("200000 100000", Some(Some(Quota { quota: 200_000, period: 100_000 }))),
            ("1000 1000000", Some(Some(Quota { quota: 1_000, period: 1_000_000 }))),
            ("max", None),
            ("", None),
            ("50000 0", None),
            ("-1 100000", None),
            ("50000 100000 1", None),
            ("0x10 100000", None),
        ] {
            assert_eq!(cpu_max(text).ok(), expected, "{text:?}");
        }
    }

    #[test]
    fn cfs_quota_of_minus_one_is_none() {
        for (quota, period, expected) in [
            ("-1\n", "100000\n", Some(None)),
            ("25000\n", "50000\n", Some(Some(Quota { quota: 25_000, period: 50_000 }))),
            ("-2", "100000", None),
            ("25000", "0", None),
            ("", "", None),
        ] {
            assert_eq!(cfs(quota, period).ok(), expected, "{quota:?} of {period:?}");
        }
    }

    #[test]
    fn tighter_quota_is_that_of_less_cpu_whatever_the_periods() {
        let half = Quota { quota: 50_000, period: 100_000 };
        let third = Quota { quota: 10_000, period: 30_000 };
        assert_eq!((half.tighter(third), third.tighter(half)), (third, third));
        assert_eq!((half.millis(), third.millis()), (500, 334));
    }

    #[test]
    fn max_is_no_limit() {
        for (text, expected) in [
            ("max\n", Some(None)),
            ("67108864\n", Some(Some(67_108_864))),
            ("0", Some(Some(0))),
            ("18446744073709551616", None),
            ("+1", None),
            ("Max", None),
            ("", None),
        ] {
            assert_eq!(max_or_number(text).ok(), expected, "{text:?}");
        }
    }

    #[test]
    fn largest_number_of_whole_pages_is_no_limit() {
        for (text, expected) in [
            ("9223372036854771712\n", Some(None)),  // pages of 4 KiB
            ("9223372036854710272\n", Some(None)),  // pages of 64 KiB
            ("18446744073709551615\n", Some(None)), // kernels before 3.19
            ("536870912\n", Some(Some(536_870_912))),
            ("-1", None),
        ] {
            assert_eq!(limit_in_bytes(text).ok(), expected, "{text:?}");
        }
    }

    #[test]
    fn list_of_cpus_is_ordered_and_without_doubles() {
        for (text, expected) in [
            ("0-3,7\n", Some(vec![0, 1, 2, 3, 7])),
            ("5", Some(vec![5])),
            ("2-3,0-2", Some(vec![0, 1, 2, 3])),
            ("\n", Some(vec![])),
            ("", Some(vec![])),
            ("3-1", None),
            ("0-", None),
            ("0,,1", None),
            ("0-4294967295", None),
            ("all", None),
        ] {
            assert_eq!(cpu_list(text).ok(), expected, "{text:?}");
        }
    }

    #[test]
    fn value_is_found_by_its_whole_name() {
        let stat = "usage_usec 4000\nnr_periods 12\nnr_throttled 3\nthrottled_usec 900\nnew_name x\n";
        assert_eq!(keyed(stat, "nr_throttled"), Some(3));
        assert_eq!([keyed(stat, "nr"), keyed(stat, "new_name"), keyed(stat, "absent")], [None; 3]);
    }

    #[test]
    fn memory_of_the_machine_is_in_bytes() {
        let text = "MemTotal:        8053064 kB\nMemFree:         5123456 kB\n";
        assert_eq!(memory_of_machine(text), Some(8_246_337_536));
        assert_eq!(memory_of_machine("MemFree: 1 kB\n"), None);
    }
}
