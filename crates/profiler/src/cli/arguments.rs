//! The arguments that several commands share.

use std::path::Path;

use clap::Args;
use tare_container::RuntimeKind;
use tare_oci::units::{ByteSize, Nanoseconds};

use crate::profile::definition::{self, CpuLimit, Overrides, Profile};
use crate::profile::metric::Pass;

/// How containers are run: what every verb has that runs some.
#[derive(Debug, Args)]
pub(super) struct ContainerArguments {
    /// The profile: profiles/NAME.toml of the workspace, a built-in one, or a path
    #[arg(long, short, value_name = "NAME", default_value = "default")]
    pub(super) profile: String,
    /// The container runtime: embedded, runc, crun, youki, docker, podman
    #[arg(long, value_name = "RUNTIME")]
    pub(super) runtime: Option<RuntimeKind>,
    /// Run containers as root, through sudo. Images and tools are built, and reports are written, as yourself
    #[arg(long)]
    pub(super) sudo: bool,
    /// CPUs' worth of time instead of the profile's, such as 0.5
    #[arg(long, value_name = "NUMBER")]
    cpus: Option<CpuLimit>,
    /// Memory instead of the profile's, such as 64MiB
    #[arg(long, value_name = "SIZE")]
    memory: Option<ByteSize>,
    /// Print errors and results only
    #[arg(long, short)]
    pub(super) quiet: bool,
}

/// What `profile` and `profile compare` have in common.
#[derive(Debug, Args)]
pub(super) struct CommonArguments {
    #[command(flatten)]
    pub(super) container: ContainerArguments,
    /// Only these passes: size, startup, throughput, density, isolation, network, edge
    #[arg(long, value_name = "PASS", value_delimiter = ',')]
    pass: Vec<Pass>,
    /// Warm starts instead of the profile's
    #[arg(long, value_name = "NUMBER")]
    pub(super) runs: Option<u32>,
    /// Duration of each load instead of the profile's, such as 5s
    #[arg(long, value_name = "TIME")]
    pub(super) duration: Option<Nanoseconds>,
    /// Connections instead of the profile's
    #[arg(long, value_name = "NUMBER")]
    connections: Option<u32>,
    /// Requests per second, in place of the profile's loads
    #[arg(long, value_name = "NUMBER")]
    rate: Option<u32>,
}

impl ContainerArguments {
    /// What `--cpus` says.
    pub(super) fn cpus(&self) -> Option<CpuLimit> {
        self.cpus
    }

    /// What `--memory` says, in bytes.
    pub(super) fn memory(&self) -> Option<u64> {
        self.memory.map(|ByteSize(bytes)| bytes)
    }

    /// The profile with the limits of the command line.
    pub(super) fn profile(&self, root: &Path) -> anyhow::Result<Profile> {
        let limits = Overrides { cpus: self.cpus, memory: self.memory, ..Overrides::default() };
        Ok(definition::find(root, &self.profile)?.with(&limits)?)
    }
}

impl CommonArguments {
    /// The profile with what the command line says.
    pub(super) fn profile(&self, root: &Path) -> anyhow::Result<Profile> {
        self.of(definition::find(root, &self.container.profile)?)
    }

    /// The same, with the number of CPUs that `cpus = "auto"` stands for.
    pub(super) fn profile_with(&self, root: &Path, auto: f64) -> anyhow::Result<Profile> {
        self.of(definition::find_with(root, &self.container.profile, auto)?)
    }

    /// What `--pass` says.
    pub(super) fn passes(&self) -> &[Pass] {
        &self.pass
    }

    /// Whether there is a `--rate`.
    pub(super) fn has_rate(&self) -> bool {
        self.rate.is_some()
    }

    fn of(&self, profile: Profile) -> anyhow::Result<Profile> {
        Ok(profile.with(&Overrides {
            cpus: self.container.cpus,
            memory: self.container.memory,
            passes: self.pass.clone(),
            runs: self.runs,
            duration: self.duration,
            connections: self.connections,
            rate: self.rate,
            rounds: None,
        })?)
    }
}
