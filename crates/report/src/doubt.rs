//! Why a figure may not be believed: the kinds of doubt, with their numbers and what to do about each.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::units;

/// Why a figure may not be believed, with the numbers that say so.
///
/// Serialised with a stable `kind`; shares are parts of 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Doubt {
    /// The load generator had no CPU left, so that the server may be faster than this.
    GeneratorBound {
        /// Share of its own CPUs that the generator used.
        cpu: f64,
        /// The share above which this doubt is raised.
        limit: f64,
    },
    /// Rate × time differs from the connections in use: something was counted wrongly (J. D. C. Little, 1961).
    LittlesLaw {
        /// L: requests under way on average, as counted.
        in_flight: f64,
        /// λ·W: requests per second × mean seconds per request.
        expected: f64,
    },
    /// Requests failed.
    Errors {
        /// How many.
        failed: u64,
        /// Of how many that were sent.
        sent: u64,
    },
    /// Answers had a wrong status, length or body.
    WrongAnswers {
        /// How many.
        wrong: u64,
        /// Of how many that were looked at.
        checked: u64,
    },
    /// The generator could not send what was planned.
    Unsent {
        /// Requests not sent.
        unsent: u64,
        /// Requests planned.
        planned: u64,
    },
    /// Fewer connections were open than asked for.
    FewerConnections {
        /// Asked for.
        asked: u64,
        /// Really open.
        open: u64,
    },
    /// The kernel held the server back though the profile sets no CPU quota, or by more than it sets.
    ThrottledOutsideLimit {
        /// Throttled periods.
        throttled: u64,
        /// All periods.
        periods: u64,
        /// Share of the CPU asked for that was used meanwhile.
        used_of_limit: f64,
    },
    /// The hypervisor gave the time to others.
    Steal {
        /// Share of all CPU time.
        share: f64,
        /// The share above which this doubt is raised.
        limit: f64,
    },
    /// Others than server and generator used the CPUs of this host.
    BusyHost {
        /// Share of all CPU time.
        share: f64,
        /// The share above which this doubt is raised.
        limit: f64,
    },
    /// Server and generator ran on the same CPUs.
    SharedCpus {
        /// The CPUs, as a cpuset writes them.
        cpus: String,
    },
    /// Server and generator ran on threads of the same physical core.
    SharedCore {
        /// The generator's CPUs on the server's cores, as a cpuset writes them.
        cpus: String,
    },
    /// A reading that would show another doubt could not be had.
    Unmeasured {
        /// Which.
        what: Reading,
    },
    /// The load is a share of a capacity that is in doubt itself.
    Capacity {
        /// The kind of the doubt about the capacity.
        cause: String,
        /// Whether the capacity can only be higher than that.
        low: bool,
    },
    /// The image's files lie in memory, so that no start is cold.
    NotCold {
        /// The type of the file system.
        file_system: String,
    },
    /// There are too few samples for this statistic.
    TooFewSamples {
        /// Taken.
        samples: u64,
        /// Needed.
        needed: u64,
    },
    /// The samples lie too far apart for one number to stand for them.
    Scattered {
        /// Standard deviation / mean.
        variation: f64,
        /// The variation above which this doubt is raised.
        limit: f64,
    },
    /// The figure is a difference, and what it is a difference of varies by more than that.
    Unresolved {
        /// The least that the samples leave possible, in nanoseconds.
        lowest: f64,
        /// The most.
        highest: f64,
    },
    /// Speed kept changing until the end of the run.
    NoSteadyState {
        /// Windows looked at.
        windows: u64,
        /// Coefficient of variation of the second half of them.
        variation: f64,
    },
    /// Memory was nearly used up, so that the kernel may have been reclaiming pages all the time.
    NearMemoryLimit {
        /// Highest use in bytes.
        peak: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The kernel killed a process of the container.
    OutOfMemory {
        /// How many times.
        kills: u64,
        /// The memory limit in bytes, if one was set.
        limit: Option<u64>,
    },
}

/// A reading of the host or the kernel, without which a doubt can be neither raised nor ruled out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reading {
    /// The CPU time of the load generator: it may have been the bottleneck.
    GeneratorCpu,
    /// The CPU time of the host by use (/proc/stat): a hypervisor or others may have taken some.
    HostCpu,
    /// The server's throttled periods.
    Throttling,
    /// The server's peak memory under a limit.
    Memory,
}

impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::GeneratorCpu => "the generator's CPU time",
            Self::HostCpu => "the host's CPU time by use",
            Self::Throttling => "the server's throttled periods",
            Self::Memory => "the server's peak memory",
        })
    }
}

/// A share in percent.
fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn plural(number: u64, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

impl Doubt {
    /// The stable name of its kind, as the JSON report has it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.kind_and_advice().0
    }

    /// What to do about it.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        self.kind_and_advice().1
    }

    fn kind_and_advice(&self) -> (&'static str, &'static str) {
        match self {
            Self::GeneratorBound { .. } => (
                "generator-bound",
                "give the generator more CPUs, or the server fewer: the server may be faster than this figure",
            ),
            Self::LittlesLaw { .. } => {
                ("littles-law", "do not use rate and latency of this run together; run it again alone")
            }
            Self::Errors { .. } => ("errors", "see the errors by kind and the server's output in the report"),
            Self::WrongAnswers { .. } => {
                ("wrong-answers", "check the requests of the profile and the server under load")
            }
            Self::Unsent { .. } => {
                ("unsent", "lower the rate, or give the generator more CPUs or `connections`")
            }
            Self::FewerConnections { .. } => (
                "fewer-connections",
                "ask for fewer `connections`, or raise the server's backlog and the limit on open files",
            ),
            Self::ThrottledOutsideLimit { .. } => (
                "throttled-outside-limit",
                "an outer cgroup has a CPU quota: raise it, or ask for less CPU than it leaves",
            ),
            Self::Steal { .. } => ("steal", "run it on a quieter or dedicated machine"),
            Self::BusyHost { .. } => ("busy-host", "stop what else runs on this machine"),
            Self::SharedCpus { .. } => {
                ("shared-cpus", "use a machine with a second CPU, or set `cpuset` in the profile")
            }
            Self::SharedCore { .. } => {
                ("shared-core", "use a machine with another physical core, or set `cpuset` in the profile")
            }
            Self::Unmeasured { .. } => {
                ("unmeasured", "use the embedded runtime on Linux, where it can be read")
            }
            Self::Capacity { .. } => {
                ("capacity", "remove the doubt about `closed`, or name rates such as `1000/s` in `loads`")
            }
            Self::NotCold { .. } => {
                ("not-cold", "put the target folder on a disk, or set `cold-runs = 0` in the profile")
            }
            Self::TooFewSamples { .. } => ("too-few-samples", "raise `runs` or `duration`"),
            Self::Scattered { .. } => ("scattered", "stop what else runs on this machine, or raise `runs`"),
            Self::Unresolved { .. } => {
                ("unresolved", "raise `runs`, or use a machine that starts containers more evenly")
            }
            Self::NoSteadyState { .. } => {
                ("no-steady-state", "raise `duration`, and see whether the server leaks or still warms up")
            }
            Self::NearMemoryLimit { .. } => ("near-memory-limit", "raise `memory` and compare"),
            Self::OutOfMemory { .. } => {
                ("out-of-memory", "raise `memory`, or find out what the server needs it for")
            }
        }
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GeneratorBound { cpu, limit } => {
                write!(f, "the generator used {} of its CPU (over {})", percent(*cpu), percent(*limit))
            }
            Self::LittlesLaw { in_flight, expected } => {
                write!(f, "{in_flight:.1} requests were under way, but rate × time gives {expected:.1}")
            }
            Self::Errors { failed, sent } => write!(f, "{failed} of {} failed", plural(*sent, "request")),
            Self::WrongAnswers { wrong, checked } => {
                write!(f, "{wrong} of {} were wrong", plural(*checked, "checked answer"))
            }
            Self::Unsent { unsent, planned } => {
                write!(f, "{unsent} of {} could not be sent", plural(*planned, "planned request"))
            }
            Self::FewerConnections { asked, open } => {
                write!(f, "{open} of {} were open", plural(*asked, "connection"))
            }
            Self::ThrottledOutsideLimit { throttled, periods, used_of_limit } => write!(
                f,
                "throttled in {throttled} of {} though only {} of the CPU asked for was used",
                plural(*periods, "period"),
                percent(*used_of_limit)
            ),
            Self::Steal { share, limit } => write!(
                f,
                "the hypervisor took {} of the CPU time (over {})",
                percent(*share),
                percent(*limit)
            ),
            Self::BusyHost { share, limit } => write!(
                f,
                "others on this host used {} of its CPU time (over {})",
                percent(*share),
                percent(*limit)
            ),
            Self::SharedCpus { cpus } => write!(f, "server and generator shared CPU {cpus}"),
            Self::SharedCore { cpus } => {
                write!(f, "the generator's CPU {cpus} is a thread of a core that the server runs on")
            }
            Self::Unmeasured { what } => write!(f, "{what} could not be read"),
            Self::Capacity { cause, .. } => {
                write!(f, "it is a share of the closed loop's rate, which is in doubt: {cause}")
            }
            Self::NotCold { file_system } => {
                write!(f, "the unpacked image lies on {file_system}, which is memory: no start is cold")
            }
            Self::TooFewSamples { samples, needed } => {
                write!(f, "{}, where {needed} are needed", plural(*samples, "sample"))
            }
            Self::Scattered { variation, limit } => {
                write!(f, "samples vary by {} of their mean (over {})", percent(*variation), percent(*limit))
            }
            Self::Unresolved { lowest, highest } => write!(
                f,
                "the difference may be anything from {:.1} to {:.1} ms",
                lowest / 1e6,
                highest / 1e6
            ),
            Self::NoSteadyState { windows, variation } => write!(
                f,
                "no steady state in {}: the later ones still vary by {}",
                plural(*windows, "window"),
                percent(*variation)
            ),
            Self::NearMemoryLimit { peak, limit } => {
                write!(f, "memory reached {} of {}", units::bytes(*peak), units::bytes(*limit))
            }
            Self::OutOfMemory { kills, limit: Some(limit) } => {
                write!(
                    f,
                    "killed {} for exceeding {} of memory",
                    plural(*kills, "time"),
                    units::bytes(*limit)
                )
            }
            Self::OutOfMemory { kills, limit: None } => {
                write!(f, "killed {} because the machine had no memory left", plural(*kills, "time"))
            }
        }
    }
}

/// One of every kind, for tests.
#[cfg(test)]
pub(crate) mod samples {
    use super::*;

    pub(crate) fn every_doubt() -> Vec<Doubt> {
        vec![
            Doubt::GeneratorBound { cpu: 0.91, limit: 0.85 },
            Doubt::LittlesLaw { in_flight: 64.0, expected: 80.0 },
            Doubt::Errors { failed: 3, sent: 1000 },
            Doubt::WrongAnswers { wrong: 1, checked: 10 },
            Doubt::Unsent { unsent: 5, planned: 100 },
            Doubt::FewerConnections { asked: 1000, open: 100 },
            Doubt::ThrottledOutsideLimit { throttled: 3, periods: 10, used_of_limit: 0.5 },
            Doubt::Steal { share: 0.031, limit: 0.02 },
            Doubt::BusyHost { share: 0.25, limit: 0.1 },
            Doubt::SharedCpus { cpus: "0".into() },
            Doubt::SharedCore { cpus: "1".into() },
            Doubt::Unmeasured { what: Reading::GeneratorCpu },
            Doubt::Unmeasured { what: Reading::HostCpu },
            Doubt::Unmeasured { what: Reading::Throttling },
            Doubt::Unmeasured { what: Reading::Memory },
            Doubt::Capacity { cause: "generator-bound".into(), low: true },
            Doubt::Capacity { cause: "no-steady-state".into(), low: false },
            Doubt::NotCold { file_system: "tmpfs".into() },
            Doubt::TooFewSamples { samples: 1, needed: 10 },
            Doubt::Scattered { variation: 0.25, limit: 0.1 },
            Doubt::Unresolved { lowest: -12.5e6, highest: 3.0e5 },
            Doubt::NoSteadyState { windows: 20, variation: 0.071 },
            Doubt::NearMemoryLimit { peak: 31_000_000, limit: 32_000_000 },
            Doubt::OutOfMemory { kills: 1, limit: Some(32_000_000) },
            Doubt::OutOfMemory { kills: 2, limit: None },
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::samples::every_doubt;
    use super::*;

    #[test]
    fn a_doubt_says_its_numbers() {
        let texts: Vec<String> = every_doubt().iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "the generator used 91.0 % of its CPU (over 85.0 %)",
                "64.0 requests were under way, but rate × time gives 80.0",
                "3 of 1000 requests failed",
                "1 of 10 checked answers were wrong",
                "5 of 100 planned requests could not be sent",
                "100 of 1000 connections were open",
                "throttled in 3 of 10 periods though only 50.0 % of the CPU asked for was used",
                "the hypervisor took 3.1 % of the CPU time (over 2.0 %)",
                "others on this host used 25.0 % of its CPU time (over 10.0 %)",
                "server and generator shared CPU 0",
                "the generator's CPU 1 is a thread of a core that the server runs on",
                "the generator's CPU time could not be read",
                "the host's CPU time by use could not be read",
                "the server's throttled periods could not be read",
                "the server's peak memory could not be read",
                "it is a share of the closed loop's rate, which is in doubt: generator-bound",
                "it is a share of the closed loop's rate, which is in doubt: no-steady-state",
                "the unpacked image lies on tmpfs, which is memory: no start is cold",
                "1 sample, where 10 are needed",
                "samples vary by 25.0 % of their mean (over 10.0 %)",
                "the difference may be anything from -12.5 to 0.3 ms",
                "no steady state in 20 windows: the later ones still vary by 7.1 %",
                "memory reached 31.00 MB of 32.00 MB",
                "killed 1 time for exceeding 32.00 MB of memory",
                "killed 2 times because the machine had no memory left",
            ]
        );
    }

    #[test]
    fn the_serialised_kind_is_the_one_that_is_shown() {
        for doubt in every_doubt() {
            let value = serde_json::to_value(&doubt).unwrap();
            assert_eq!(value["kind"], doubt.kind());
            assert_eq!(serde_json::from_value::<Doubt>(value).unwrap(), doubt);
            assert!(!doubt.advice().is_empty());
        }
    }
}
