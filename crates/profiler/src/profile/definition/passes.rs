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

/// Options of the edge pass.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct EdgeOptions {
    /// What the names of the files stand behind in requests.
    pub path: String,
    /// A folder of the container, in memory; the files are in its folder `source`.
    pub folder: String,
    /// Variables that let the server serve them, beside the profile's own, which replace these.
    #[serde(deserialize_with = "parse::env")]
    pub env: Vec<(String, String)>,
    /// After which time the server takes a file for stale, by these variables.
    #[serde(deserialize_with = "parse::text")]
    pub stale_after: Nanoseconds,
    /// Requests while the source of the files is there, and again while it is away.
    pub requests: u32,
}

/// As the sample server has it.
impl Default for EdgeOptions {
    fn default() -> Self {
        let env = [("TARE_FILES", "/edge/source"), ("TARE_CACHE_FRESH", "2s")];
        Self {
            path: "/files/".to_owned(),
            folder: "/edge".to_owned(),
            env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
            stale_after: Nanoseconds(2_000_000_000),
            requests: 2000,
        }
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
    if profile.passes.contains(&Pass::Edge) {
        let EdgeOptions { path, folder, env, stale_after, requests } = &profile.edge;
        let env: Vec<String> = env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let env = env.join(" ");
        settings
            .push(("edge", format!("{requests} of {path} from {folder}, stale after {stale_after}, {env}")));
    }
    settings
}
