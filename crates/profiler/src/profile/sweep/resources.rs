//! Limits with a margin, as configurations write them.

use serde::Serialize;

/// No smaller memory limit is recommended: runc needs about 7 MB to start a container, and docker refuses less than 6 MB.
const MEMORY_LEAST: u64 = 16;

/// What is to be configured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Resources {
    /// What was added to the smallest limits, as a part of them.
    pub margin: f64,
    /// Thousandths of a CPU that hold: `requests.cpu`.
    pub cpu_request: u64,
    /// The same with the margin: `limits.cpu`.
    pub cpu_limit: u64,
    /// MiB with the margin: `requests.memory` and `limits.memory`.
    pub memory: u64,
}

impl Resources {
    /// From the smallest limits that hold: CPUs and bytes.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "limits of containers are small"
    )]
    pub fn new(cpus: f64, memory: u64, margin: f64) -> Self {
        // Rounded up to what is configured: 10 millicores, and 1 MiB. A float may lie just above the number it stands for.
        let hundredths = |cpus: f64| (cpus * 100.0 - 1e-6).ceil() as u64 * 10;
        let mebibytes = (memory as f64 * (1.0 + margin) / (1024.0 * 1024.0) - 1e-6).ceil() as u64;
        Self {
            margin,
            cpu_request: hundredths(cpus),
            cpu_limit: hundredths(cpus * (1.0 + margin)),
            memory: mebibytes.max(MEMORY_LEAST),
        }
    }

    /// What the numbers are, in a sentence.
    #[must_use]
    pub fn about(&self) -> String {
        format!(
            "The smallest limits that held and {:.0} %; memory is at least {MEMORY_LEAST} MiB, because runc needs about 7 MB to start a container and docker refuses less than 6 MB. The CPU request is the smallest limit itself.",
            self.margin * 100.0
        )
    }

    /// Of a container in a pod.
    #[must_use]
    pub fn kubernetes(&self) -> String {
        let Self { cpu_request, cpu_limit, memory, .. } = self;
        format!(
            "resources:\n  requests:\n    cpu: {cpu_request}m\n    memory: {memory}Mi\n  limits:\n    cpu: {cpu_limit}m\n    memory: {memory}Mi\n"
        )
    }

    /// Options of `docker run`.
    #[must_use]
    pub fn docker(&self) -> String {
        let Self { memory, .. } = self;
        format!("docker run --cpus {} --memory {memory}m --memory-swap {memory}m IMAGE\n", self.cpus())
    }

    /// Of a service in compose.yaml.
    #[must_use]
    pub fn compose(&self) -> String {
        format!(
            "deploy:\n  resources:\n    limits:\n      cpus: \"{}\"\n      memory: {}M\n",
            self.cpus(),
            self.memory
        )
    }

    /// The CPU limit in CPUs.
    fn cpus(&self) -> f64 {
        self.cpu_limit as f64 / 1e3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_up_after_the_margin() {
        let of = |cpus, mebibytes: u64, margin| {
            let it = Resources::new(cpus, mebibytes << 20, margin);
            (it.cpu_request, it.cpu_limit, it.memory)
        };
        assert_eq!(of(0.21, 40, 0.2), (210, 260, 48));
        assert_eq!(of(0.21, 41, 0.2), (210, 260, 50));
        assert_eq!(of(0.1, 2, 0.0), (100, 100, 16));
    }

    #[test]
    fn each_system_has_its_own_spelling() {
        let it = Resources::new(0.21, 40 << 20, 0.2);
        assert_eq!(
            it.kubernetes(),
            "resources:\n  requests:\n    cpu: 210m\n    memory: 48Mi\n  limits:\n    cpu: 260m\n    memory: 48Mi\n"
        );
        assert_eq!(it.docker(), "docker run --cpus 0.26 --memory 48m --memory-swap 48m IMAGE\n");
        assert_eq!(
            it.compose(),
            "deploy:\n  resources:\n    limits:\n      cpus: \"0.26\"\n      memory: 48M\n"
        );
    }
}
