//! What a container may use: values and their spellings, in profiles, cgroups and reports.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::units;

/// What a container may use; what is `None` is not limited.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// CPU time per period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuLimit>,
    /// The CPUs that it may run on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpuset: Option<CpuSet>,
    /// Bytes of memory (`memory.max`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Bytes of swap beyond the memory (`memory.swap.max`); only together with `memory`. 0: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap: Option<u64>,
    /// Processes and threads (`pids.max`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<u64>,
}

/// One line for a person: `0.25 CPU, 32MiB memory`.
impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if let Some(cpu) = self.cpu {
            let plural = if cpu.as_cpus() > 1.0 { "CPUs" } else { "CPU" };
            parts.push(format!("{} {plural}", cpu.as_cpus()));
            if cpu.period != DEFAULT_PERIOD {
                parts.push(format!("period {}", units::milliseconds(cpu.period)));
            }
        }
        if let Some(cpuset) = &self.cpuset {
            parts.push(format!("cpuset {cpuset}"));
        }
        if let Some(memory) = self.memory {
            parts.push(format!("{} memory", units::exact(memory)));
        }
        if let Some(swap) = self.swap.filter(|swap| *swap > 0) {
            parts.push(format!("{} swap", units::exact(swap)));
        }
        if let Some(pids) = self.pids {
            parts.push(format!("{pids} pids"));
        }
        if parts.is_empty() { f.write_str("no limits") } else { f.write_str(&parts.join(", ")) }
    }
}

/// CPU time in every period, in µs, of all CPUs together (`cpu.max`). Serialised in nanoseconds, as every time
/// of a report is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "CpuNanoseconds", into = "CpuNanoseconds")]
pub struct CpuLimit {
    /// µs of CPU time in every period.
    pub quota: u64,
    /// µs.
    pub period: u64,
}

/// A limit that cannot be one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitError {
    /// Which of [`Limits`].
    pub field: &'static str,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for LimitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for LimitError {}

fn refused<T>(field: &'static str, message: impl Into<String>) -> Result<T, LimitError> {
    Err(LimitError { field, message: message.into() })
}

fn no_cpus(text: impl fmt::Display) -> LimitError {
    let message = format!("`{text}` is not a number of CPUs above 0, such as `2` or `0.25`");
    LimitError { field: "cpu", message }
}

/// The shortest quota and period that the kernel takes, in µs (`min_cfs_quota_period`, kernel/sched/core.c).
pub const QUOTA_LEAST: u64 = 1_000;
/// The longest period that the kernel takes, in µs (`max_cfs_quota_period`, kernel/sched/core.c).
pub const PERIOD_MOST: u64 = 1_000_000;

/// What the kernel and the runtime need to bring a program up at all; below it processes are killed before
/// they begin.
pub const MEMORY_LEAST: u64 = 512 << 10;

/// The kernel's own default, in µs (Documentation/scheduler/sched-bwc.rst).
pub const DEFAULT_PERIOD: u64 = 100_000;

impl CpuLimit {
    /// So many CPUs' worth of time, in periods of 100 ms as docker and Kubernetes have them.
    ///
    /// # Errors
    /// When the number is not above 0, or so small that the kernel has no such quota.
    pub fn cpus(cpus: f64) -> Result<Self, LimitError> {
        // More than any host has, and far from where floats lose whole numbers.
        if !(cpus > 0.0 && cpus <= 1e6) {
            return Err(no_cpus(cpus));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked to be positive and small"
        )]
        let quota = (cpus * 100_000.0).round() as u64;
        Self { quota, period: DEFAULT_PERIOD }.checked()
    }

    /// How many CPUs it keeps busy.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "far below where floats lose whole numbers")]
    pub fn as_cpus(self) -> f64 {
        self.quota as f64 / self.period as f64
    }

    /// The same, if the kernel takes it.
    ///
    /// # Errors
    /// When it does not.
    pub fn checked(self) -> Result<Self, LimitError> {
        let Self { quota, period } = self;
        if quota >= QUOTA_LEAST && (QUOTA_LEAST..=PERIOD_MOST).contains(&period) {
            return Ok(self);
        }
        // kernel/sched/core.c, `tg_set_cfs_bandwidth`
        let takes = "the kernel takes a quota from 1 ms up and a period from 1 ms to 1 s";
        refused("cpu", format!("{quota} µs of CPU time in {period} µs: {takes}"))
    }
}

impl FromStr for CpuLimit {
    type Err = LimitError;

    /// A number of CPUs.
    fn from_str(text: &str) -> Result<Self, LimitError> {
        Self::cpus(text.parse().map_err(|_| no_cpus(text))?)
    }
}

impl fmt::Display for CpuLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_cpus().fmt(f)
    }
}

/// A list of CPUs in the kernel's spelling: `0-2,4` (cpuset(7), "List format"). Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuSet(BTreeSet<usize>);

/// Of more no kernel is built (`NR_CPUS`).
const CPUS_MOST: usize = 8192;

impl CpuSet {
    /// These CPUs; none if there are none.
    #[must_use]
    pub fn new(cpus: impl IntoIterator<Item = usize>) -> Option<Self> {
        let cpus: BTreeSet<usize> = cpus.into_iter().collect();
        (!cpus.is_empty()).then_some(Self(cpus))
    }

    /// From the lowest up.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().copied()
    }

    /// Those that are not among others.
    #[must_use]
    pub fn without(&self, others: &Self) -> Vec<usize> {
        self.0.difference(&others.0).copied().collect()
    }
}

impl FromStr for CpuSet {
    type Err = LimitError;

    fn from_str(text: &str) -> Result<Self, LimitError> {
        let message = || format!("`{text}` is not a list of CPUs, such as `0`, `0-3` or `0,2-3`");
        let error = || LimitError { field: "cpuset", message: message() };
        let number = |text: &str| match text.parse::<usize>() {
            Ok(cpu) if cpu < CPUS_MOST && text.bytes().all(|b| b.is_ascii_digit()) => Ok(cpu),
            _ => Err(error()),
        };
        let mut cpus = BTreeSet::new();
        for part in text.trim().split(',') {
            let (first, last) = match part.split_once('-') {
                Some((first, last)) => (number(first)?, number(last)?),
                None => (number(part)?, number(part)?),
            };
            if first > last {
                return Err(error());
            }
            cpus.extend(first..=last);
        }
        Ok(Self(cpus))
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cpus = self.0.iter().copied().peekable();
        let mut separator = "";
        while let Some(first) = cpus.next() {
            let mut last = first;
            while let Some(next) = cpus.next_if_eq(&(last + 1)) {
                last = next;
            }
            match last - first {
                0 => write!(f, "{separator}{first}")?,
                _ => write!(f, "{separator}{first}-{last}")?,
            }
            separator = ",";
        }
        Ok(())
    }
}

impl Limits {
    /// The same, if a container can live with them.
    ///
    /// # Errors
    /// When one is impossible, whatever the host.
    pub fn checked(self) -> Result<Self, LimitError> {
        if let Some(cpu) = self.cpu {
            cpu.checked()?;
        }
        let (memory, least) = (self.memory.unwrap_or(MEMORY_LEAST), units::exact(MEMORY_LEAST));
        if memory < MEMORY_LEAST {
            let memory = units::exact(memory);
            return refused(
                "memory",
                format!("no container starts in {memory} of memory: the least is {least}"),
            );
        }
        if self.memory.is_none() && self.swap.is_some() {
            // It is counted beyond the memory.
            return refused("swap", "a limit for swap needs one for memory");
        }
        if self.pids == Some(0) {
            return refused("pids", "a container without processes runs nothing");
        }
        Ok(self)
    }
}

/// A [`CpuLimit`] as reports have it, in nanoseconds.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CpuNanoseconds {
    quota: u64,
    period: u64,
}

impl From<CpuNanoseconds> for CpuLimit {
    fn from(CpuNanoseconds { quota, period }: CpuNanoseconds) -> Self {
        Self { quota: quota / 1_000, period: period / 1_000 }
    }
}

impl From<CpuLimit> for CpuNanoseconds {
    fn from(CpuLimit { quota, period }: CpuLimit) -> Self {
        Self { quota: quota.saturating_mul(1_000), period: period.saturating_mul(1_000) }
    }
}

impl Serialize for CpuSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CpuSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_become_quotas_of_100_ms() {
        for (text, quota) in [("1", 100_000), ("0.25", 25_000), ("2.5", 250_000), ("0.01", 1_000)] {
            assert_eq!(text.parse(), Ok(CpuLimit { quota, period: 100_000 }), "{text}");
        }
        assert_eq!("0.25".parse::<CpuLimit>().map(|it| it.to_string()), Ok("0.25".to_owned()));
        for text in ["", "0", "-1", "NaN", "inf", "one", "1e300"] {
            assert!(
                text.parse::<CpuLimit>().unwrap_err().message.contains("is not a number of CPUs"),
                "{text}"
            );
        }
        let message = "500 µs of CPU time in 100000 µs: the kernel takes a quota from 1 ms up and a period from 1 ms to 1 s";
        assert_eq!("0.005".parse::<CpuLimit>(), refused("cpu", message));
    }

    #[test]
    fn lists_of_cpus_round_trip_in_the_kernels_spelling() {
        for (text, shown) in
            [("0", "0"), ("0-2,4", "0-2,4"), ("4,0,1,2", "0-2,4"), ("0,1\n", "0-1"), ("7-7", "7")]
        {
            let set: CpuSet = text.parse().unwrap();
            assert_eq!(set.to_string(), shown);
            assert_eq!(shown.parse(), Ok(set));
        }
        for text in ["", "a", "1-", "-1", "2-1", "0,,1", "+1", "9999999", "0 1"] {
            assert_eq!(text.parse::<CpuSet>().map_err(|error| error.field), Err("cpuset"), "{text}");
        }
        assert_eq!(CpuSet::new([]), None);
    }

    #[test]
    fn impossible_limits_are_refused() {
        let good = Limits { memory: Some(32 << 20), swap: Some(0), pids: Some(1), ..Limits::default() };
        assert_eq!(good.clone().checked(), Ok(good.clone()));
        let message = |limits: Limits| limits.checked().unwrap_err().message;
        assert_eq!(
            message(Limits { memory: Some(1024), ..good.clone() }),
            "no container starts in 1KiB of memory: the least is 512KiB"
        );
        let alone = Limits { memory: None, ..good.clone() };
        assert_eq!(message(alone), "a limit for swap needs one for memory");
        let empty = Limits { pids: Some(0), ..good.clone() };
        assert_eq!(message(empty), "a container without processes runs nothing");
        let cpu = CpuLimit { quota: 10_000, period: 2_000_000 };
        assert_eq!(Limits { cpu: Some(cpu), ..good }.checked().unwrap_err().field, "cpu");
    }
}
