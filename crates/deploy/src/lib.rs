//! Manifests from measured figures: reads a report of `cargo xtask profile` and the image's digest, computes requests,
//! limits, probes and autoscaling targets, and writes each number with its origin beside it.
//!
//! [`recommend`] is the computation, a pure function; [`manifest`] turns its result into YAML. `kubectl` applies what is
//! written: there is no client of Kubernetes in here. `cli` finds reports and images, prints and picks the exit code.

mod cli;
mod error;
pub mod evidence;
pub mod image;
pub mod manifest;
pub mod origin;
pub mod recommend;
pub mod resolve;
pub mod settings;
pub mod yaml;

use std::str::FromStr;

pub use cli::main;
pub use error::DeployError;

/// What manifests are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Deployment or StatefulSet, Service, HorizontalPodAutoscaler, PodDisruptionBudget, NetworkPolicy.
    Kubernetes,
    /// The same, with a VirtualService and a DestinationRule.
    Istio,
    /// A Knative Service.
    Knative,
    /// A file of docker compose.
    Compose,
}

impl Kind {
    /// In the order of the help.
    pub const ALL: [Self; 4] = [Self::Kubernetes, Self::Istio, Self::Knative, Self::Compose];

    /// Its name in flags and file names.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kubernetes => "kubernetes",
            Self::Istio => "istio",
            Self::Knative => "knative",
            Self::Compose => "compose",
        }
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(Self::name).join(", ");
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == text)
            .ok_or_else(|| format!("`{text}` is none of {}", names()))
    }
}
