//! Options of the passes that a profile has only if it names them.

use serde::Deserialize;
use tare_oci::units::{ByteSize, Nanoseconds};

use super::Profile;
use super::parse;
use super::values::Load;

/// Options of the density pass: the budget that all copies together use up.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct DensityOptions {
    /// The most copies that are started.
    pub most: u32,
    /// Memory of all copies, by their proportional set size and by their cgroups.
    #[serde(deserialize_with = "parse::text")]
    pub memory: ByteSize,
    /// CPUs that all copies use while nobody asks them anything.
    pub idle_cpus: f64,
    /// The longest time from the begin of create until a copy is ready.
    #[serde(deserialize_with = "parse::text")]
    pub start: Nanoseconds,
}

impl Default for DensityOptions {
    fn default() -> Self {
        Self { most: 50, memory: ByteSize(1 << 30), idle_cpus: 0.5, start: Nanoseconds(5_000_000_000) }
    }
}

/// Options of the isolation pass.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct IsolationOptions {
    /// The load: a rate, or a share of what a closed loop reaches without the neighbour.
    #[serde(deserialize_with = "parse::text")]
    pub load: Load,
    /// Rounds, each with a load alone and one beside the neighbour.
    pub rounds: u32,
    /// How long each of the two loads runs.
    #[serde(deserialize_with = "parse::text")]
    pub duration: Nanoseconds,
}

impl Default for IsolationOptions {
    fn default() -> Self {
        // Half of the CPU time would be all that fair shares leave the server.
        Self { load: Load::Share(30), rounds: 6, duration: Nanoseconds(1_000_000_000) }
    }
}

/// The settings that figures of the profile's passes depend on.
pub(crate) fn settings(profile: &Profile) -> Vec<(&'static str, String)> {
    use crate::profile::metric::Pass;

    let mut settings = Vec::new();
    if profile.passes.contains(&Pass::Density) {
        let DensityOptions { most, memory, idle_cpus, start } = &profile.density;
        let text = format!("at most {most} in {memory}, {idle_cpus} CPUs at rest, ready within {start}");
        settings.push(("density", text));
    }
    if profile.passes.contains(&Pass::Isolation) {
        let IsolationOptions { load, rounds, duration } = &profile.isolation;
        settings.push(("isolation", format!("{load}, {rounds} rounds of twice {duration}")));
    }
    settings
}
