//! What a container is held to: values and their spellings.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::units;

/// The kernel's own default for a quota's period (`default_cfs_period`, kernel/sched/fair.c).
pub const DEFAULT_PERIOD: u64 = 100_000_000;

/// What a container is held to; what is not there is not limited.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// CPU time in a period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuQuota>,
    /// The CPUs it may run on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpuset: Option<CpuSet>,
    /// Bytes of memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Bytes of swap beside the memory; 0 where only the memory is limited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap: Option<u64>,
    /// Processes and threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
}

/// CPU time in nanoseconds that all threads together may use in every period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CpuQuota {
    /// Nanoseconds of CPU time.
    pub quota: u64,
    /// Nanoseconds of the clock.
    pub period: u64,
}

impl CpuQuota {
    /// As a number of CPUs.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "both are far below 2^53")]
    pub fn cpus(self) -> f64 {
        self.quota as f64 / self.period as f64
    }
}

/// One line for a person: `0.25 CPU, 32MiB memory`.
impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if let Some(cpu) = self.cpu {
            let plural = if cpu.cpus() > 1.0 { "CPUs" } else { "CPU" };
            parts.push(format!("{} {plural}", cpu.cpus()));
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

/// The text is no list of CPUs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidCpuSet(String);

impl fmt::Display for InvalidCpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not a list of CPUs, such as `0`, `0-3` or `0,2-3`", self.0)
    }
}

impl std::error::Error for InvalidCpuSet {}

/// CPUs by their numbers, as `cpuset.cpus` lists them (cpuset(7), list format). Never empty.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CpuSet(BTreeSet<u32>);

/// No kernel has more (`NR_CPUS` of x86_64 ends at 8192): what is beyond is a slip, and would fill memory.
const MOST_CPUS: u32 = 8192;

impl CpuSet {
    /// The CPUs, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().copied()
    }

    /// Those that `host` does not have.
    #[must_use]
    pub fn missing_from(&self, host: &[u32]) -> Vec<u32> {
        self.iter().filter(|cpu| !host.contains(cpu)).collect()
    }
}

impl FromStr for CpuSet {
    type Err = InvalidCpuSet;

    fn from_str(text: &str) -> Result<Self, InvalidCpuSet> {
        let error = || InvalidCpuSet(text.to_owned());
        let number = |text: &str| -> Result<u32, InvalidCpuSet> {
            // `parse` alone would take a leading plus sign.
            if !text.bytes().all(|b| b.is_ascii_digit()) {
                return Err(error());
            }
            text.parse().ok().filter(|cpu| *cpu < MOST_CPUS).ok_or_else(error)
        };
        let mut cpus = BTreeSet::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first)?, number(last)?);
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
        let mut rest = self.iter().peekable();
        let mut separator = "";
        while let Some(first) = rest.next() {
            let mut last = first;
            while let Some(next) = rest.next_if_eq(&(last + 1)) {
                last = next;
            }
            if first == last {
                write!(f, "{separator}{first}")?;
            } else {
                write!(f, "{separator}{first}-{last}")?;
            }
            separator = ",";
        }
        Ok(())
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
    fn cpusets_have_one_spelling() {
        for (text, spelled) in
            [("0", "0"), ("0-3", "0-3"), ("3,0-1,2,7", "0-3,7"), ("5,5", "5"), ("0,2", "0,2")]
        {
            let parsed: CpuSet = text.parse().unwrap();
            assert_eq!(parsed.to_string(), spelled);
            assert_eq!(spelled.parse(), Ok(parsed));
        }
        for text in ["", "a", "1-", "-1", "3-1", "0,,1", "+1", " 1", "8192", "0-4000000000"] {
            assert_eq!(text.parse::<CpuSet>(), Err(InvalidCpuSet(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn cpus_that_a_host_lacks_are_known() {
        let asked: CpuSet = "0-3".parse().unwrap();
        assert_eq!(asked.missing_from(&[0, 1]), [2, 3]);
    }
}
