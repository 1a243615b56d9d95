//! The rule by which the density pass ends.

use std::fmt;

use tare_oci::units::{ByteSize, Nanoseconds};

use super::State;
use crate::profile::definition::DensityOptions;

/// What all copies together may use.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Budget {
    /// The most copies.
    pub most: u32,
    /// Bytes of memory.
    pub memory: u64,
    /// The profile's bytes of memory, where this host has not twice as many to spare.
    pub wanted_memory: Option<u64>,
    /// CPUs at rest.
    pub idle_cpus: f64,
    /// Nanoseconds until a copy is ready.
    pub start: u64,
}

/// Why there are no more copies.
#[derive(Debug, Clone, PartialEq)]
pub enum Stop {
    /// As many as the profile allows.
    Most,
    /// The proportional set size of all was above the budget.
    ProcessMemory(u64),
    /// The memory of all cgroups was above the budget.
    CgroupMemory(u64),
    /// They used more CPU time at rest than the budget has.
    IdleCpus(f64),
    /// The last took longer to become ready.
    Start(u64),
    /// It could not be started, or a copy ended.
    Failed {
        /// Its number, from 1.
        copy: usize,
        /// How.
        why: String,
    },
}

impl Budget {
    /// The profile's, where half of the `available` memory of the host suffices for it: the other half is for what the
    /// copies do when they are asked, and for everything else.
    #[must_use]
    pub fn of(options: &DensityOptions, available: Option<u64>) -> Self {
        let half = available.map_or(u64::MAX, |bytes| bytes / 2);
        let memory = options.memory.0.min(half);
        Self {
            most: options.most,
            memory,
            wanted_memory: (memory < options.memory.0).then_some(options.memory.0),
            idle_cpus: options.idle_cpus,
            start: options.start.0,
        }
    }

    /// Why the copy after which the last of these states was read is the last one; none if there may be another.
    #[must_use]
    pub fn stop(&self, states: &[State]) -> Option<Stop> {
        let last = states.last()?;
        if last.proportional > self.memory {
            Some(Stop::ProcessMemory(last.proportional))
        } else if last.cgroup > self.memory {
            Some(Stop::CgroupMemory(last.cgroup))
        } else if last.idle_cpus > self.idle_cpus {
            Some(Stop::IdleCpus(last.idle_cpus))
        } else if last.ready > self.start {
            Some(Stop::Start(last.ready))
        } else {
            (states.len() as u64 >= u64::from(self.most)).then_some(Stop::Most)
        }
    }
}

impl Stop {
    /// How many copies fit, where so many were started and became ready.
    #[must_use]
    pub fn fit(&self, ready: usize) -> usize {
        match self {
            // The one that failed is not among them.
            Self::Most | Self::Failed { .. } => ready,
            _ => ready.saturating_sub(1),
        }
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Most => f.write_str("the profile allows no more copies"),
            Self::ProcessMemory(bytes) => {
                write!(f, "with another copy the proportional set size was {}", ByteSize(*bytes))
            }
            Self::CgroupMemory(bytes) => {
                write!(f, "with another copy the cgroups' memory was {}", ByteSize(*bytes))
            }
            Self::IdleCpus(cpus) => write!(f, "with another copy {cpus:.2} CPUs were used at rest"),
            Self::Start(time) => write!(f, "another copy was ready after {}", Nanoseconds(*time)),
            Self::Failed { copy, why } => write!(f, "copy {copy} failed: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn budget() -> Budget {
        Budget { most: 3, memory: 10 * MIB, wanted_memory: None, idle_cpus: 0.5, start: 1_000 }
    }

    #[test]
    fn the_first_thing_that_is_used_up_ends_the_pass() {
        let fits =
            State { ready: 1_000, proportional: 10 * MIB, cgroup: 10 * MIB, idle_cpus: 0.5, shared: 0 };
        for (states, stop, fit) in [
            (vec![], None, 0),
            (vec![fits], None, 0),
            (vec![fits; 3], Some(Stop::Most), 3),
            (
                vec![fits, State { proportional: 11 * MIB, cgroup: 11 * MIB, ..fits }],
                Some(Stop::ProcessMemory(11 * MIB)),
                1,
            ),
            (vec![fits, State { cgroup: 11 * MIB, ..fits }], Some(Stop::CgroupMemory(11 * MIB)), 1),
            (vec![fits, State { idle_cpus: 0.51, ..fits }], Some(Stop::IdleCpus(0.51)), 1),
            (vec![fits, fits, State { ready: 1_001, ..fits }], Some(Stop::Start(1_001)), 2),
            // Not even one.
            (vec![State { ready: 1_001, ..fits }], Some(Stop::Start(1_001)), 0),
        ] {
            let found = budget().stop(&states);
            assert_eq!(found, stop, "{states:?}");
            assert_eq!(found.map_or(0, |stop| stop.fit(states.len())), fit, "{states:?}");
        }
        assert_eq!(Stop::Failed { copy: 3, why: "no".to_owned() }.fit(2), 2);
    }

    #[test]
    fn the_budget_leaves_the_host_half_of_what_it_has() {
        let options = DensityOptions { memory: ByteSize(10 * MIB), ..DensityOptions::default() };
        let of = |available| {
            let budget = Budget::of(&options, available);
            (budget.memory, budget.wanted_memory)
        };
        assert_eq!(of(None), (10 * MIB, None));
        assert_eq!(of(Some(20 * MIB)), (10 * MIB, None));
        assert_eq!(of(Some(8 * MIB)), (4 * MIB, Some(10 * MIB)));
    }
}
