//! What a container may use. Pure: values and their spellings.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// What a container may use; what is `None` is not limited.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// CPU time per period.
    pub cpu: Option<CpuLimit>,
    /// The CPUs that it may run on.
    pub cpuset: Option<CpuSet>,
    /// Bytes of memory (`memory.max`).
    pub memory: Option<u64>,
    /// Bytes of swap beyond the memory (`memory.swap.max`); only together with `memory`. 0: none.
    pub swap: Option<u64>,
    /// Processes and threads (`pids.max`).
    pub pids: Option<u64>,
}

impl Limits {
    /// What is left where both are in force; of two sets of CPUs the first, which the other may only contain.
    pub(crate) fn narrower(self, other: Self) -> Self {
        let least = |one: Option<u64>, other: Option<u64>| one.into_iter().chain(other).min();
        Self {
            cpu: self.cpu.into_iter().chain(other.cpu).reduce(CpuLimit::narrower),
            cpuset: self.cpuset.or(other.cpuset),
            memory: least(self.memory, other.memory),
            swap: least(self.swap, other.swap),
            pids: least(self.pids, other.pids),
        }
    }
}

impl CpuLimit {
    fn narrower(self, other: Self) -> Self {
        let is_less = u128::from(other.quota) * u128::from(self.period)
            < u128::from(self.quota) * u128::from(other.period);
        if is_less { other } else { self }
    }
}

/// CPU time in every period, in µs, of all CPUs together (`cpu.max`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuLimit {
    /// µs of CPU time in every period.
    pub quota: u64,
    /// µs.
    pub period: u64,
}

/// Why a limit cannot be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// The kernel refuses such a quota or period (kernel/sched/core.c, `tg_set_cfs_bandwidth`).
    #[error(
        "{quota} µs of CPU time per {period} µs: the kernel takes a quota from 1000 µs up and a period from 1000 to 1000000 µs"
    )]
    Cpu {
        /// µs.
        quota: u64,
        /// µs.
        period: u64,
    },
    /// Not a number of CPUs.
    #[error("`{0}` is not a number of CPUs above 0, such as 2 or 0.25")]
    Cpus(String),
    /// Not a list of CPUs.
    #[error("`{0}` is not a list of CPUs, such as 0-2,4")]
    CpuSet(String),
    /// No program starts in so little.
    #[error("{0} bytes of memory are too little for any container: the least is {MEMORY_LEAST}")]
    Memory(u64),
    /// Swap is counted beyond the memory, so there must be a limit for that.
    #[error("a limit for swap needs one for memory")]
    SwapAlone,
    /// Nothing can run without a process.
    #[error("0 processes are too few for any container")]
    Pids,
}

/// What the kernel and the runtime need to bring a program up at all; below it processes are killed before
/// they begin.
pub const MEMORY_LEAST: u64 = 512 << 10;

/// The kernel's own default (Documentation/scheduler/sched-bwc.rst).
const DEFAULT_PERIOD: u64 = 100_000;

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
        match quota >= 1_000 && (1_000..=1_000_000).contains(&period) {
            true => Ok(self),
            false => Err(LimitError::Cpu { quota, period }),
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
        assert_eq!("0.005".parse::<CpuLimit>(), Err(LimitError::Cpu { quota: 500, period: 100_000 }));
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
        let cpu = Some(CpuLimit { quota: 10_000, period: 2_000_000 });
        let error = LimitError::Cpu { quota: 10_000, period: 2_000_000 };
        assert_eq!(Limits { cpu, ..good }.checked(), Err(error));
    }
}
