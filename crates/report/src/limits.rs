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

/// Why a limit cannot be one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LimitError {
    /// The kernel refuses such a quota or period (kernel/sched/core.c, `tg_set_cfs_bandwidth`).
    Cpu(CpuLimit),
    /// Not a number of CPUs.
    Cpus(String),
    /// Not a list of CPUs.
    CpuSet(String),
    /// No program starts in so little.
    Memory(u64),
    /// Swap is counted beyond the memory, so there must be a limit for that.
    SwapAlone,
    /// Nothing can run without a process.
    Pids,
}

// By hand, because this package needs serde alone.
impl fmt::Display for LimitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu(CpuLimit { quota, period }) => write!(
                f,
                "{quota} µs of CPU time per {period} µs: the kernel takes a quota from {QUOTA_LEAST} µs up and a period from {QUOTA_LEAST} to {PERIOD_MOST} µs"
            ),
            Self::Cpus(text) => write!(f, "`{text}` is not a number of CPUs above 0, such as `2` or `0.25`"),
            Self::CpuSet(text) => write!(f, "`{text}` is not a list of CPUs, such as `0`, `0-3` or `0,2-3`"),
            Self::Memory(bytes) => {
                write!(
                    f,
                    "{bytes} bytes of memory are too little for any container: the least is {MEMORY_LEAST}"
                )
            }
            Self::SwapAlone => f.write_str("a limit for swap needs one for memory"),
            Self::Pids => f.write_str("0 processes are too few for any container"),
        }
    }
}

impl std::error::Error for LimitError {}

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
            return Err(LimitError::Cpus(cpus.to_string()));
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
        match quota >= QUOTA_LEAST && (QUOTA_LEAST..=PERIOD_MOST).contains(&period) {
            true => Ok(self),
            false => Err(LimitError::Cpu(self)),
        }
    }
}

impl FromStr for CpuLimit {
    type Err = LimitError;

    /// A number of CPUs.
    fn from_str(text: &str) -> Result<Self, LimitError> {
        let cpus: f64 = text.parse().map_err(|_| LimitError::Cpus(text.to_owned()))?;
        Self::cpus(cpus)
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
        let error = || LimitError::CpuSet(text.to_owned());
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
        match (self.memory, self.swap) {
            (Some(memory), _) if memory < MEMORY_LEAST => return Err(LimitError::Memory(memory)),
            (None, Some(_)) => return Err(LimitError::SwapAlone),
            _ => {}
        }
        match self.pids {
            Some(0) => Err(LimitError::Pids),
            _ => Ok(self),
        }
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
            assert!(matches!(text.parse::<CpuLimit>(), Err(LimitError::Cpus(_))), "{text}");
        }
        assert_eq!(
            "0.005".parse::<CpuLimit>(),
            Err(LimitError::Cpu(CpuLimit { quota: 500, period: 100_000 }))
        );
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
            assert_eq!(text.parse::<CpuSet>(), Err(LimitError::CpuSet(text.to_owned())), "{text}");
        }
        assert_eq!(CpuSet::new([]), None);
    }

    #[test]
    fn impossible_limits_are_refused() {
        let good = Limits { memory: Some(32 << 20), swap: Some(0), pids: Some(1), ..Limits::default() };
        assert_eq!(good.clone().checked(), Ok(good.clone()));
        assert_eq!(Limits { memory: Some(1024), ..good.clone() }.checked(), Err(LimitError::Memory(1024)));
        assert_eq!(Limits { memory: None, ..good.clone() }.checked(), Err(LimitError::SwapAlone));
        assert_eq!(Limits { pids: Some(0), ..good.clone() }.checked(), Err(LimitError::Pids));
        let cpu = CpuLimit { quota: 10_000, period: 2_000_000 };
        assert_eq!(Limits { cpu: Some(cpu), ..good }.checked(), Err(LimitError::Cpu(cpu)));
    }
}
