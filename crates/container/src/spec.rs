//! The description of a container to be created: its limits, and what it overrides of the image.

use std::collections::BTreeMap;
use std::sync::Arc;

use tare_oci::spec::Configuration;

use super::confinement::Tightening;
use super::limits::{CpuSet, Limits};
use super::network::Bridge;

/// How a container is to be run.
#[derive(Debug, Clone, Default)]
pub struct ContainerSpec {
    /// Instead of the image's entrypoint and command.
    pub args: Option<Vec<String>>,
    /// Variables that are added to the image's environment, or replace those of the same name.
    pub env: Vec<(String, String)>,
    /// The limits of the container.
    pub limits: Limits,
    /// CPUs that its threads are kept to by affinity, where groups have no cpuset.
    pub affinity: Option<CpuSet>,
    /// How it is confined, beside what docker and the image say.
    pub tightening: Tightening,
    /// How it is reached.
    pub network: Network,
    /// TCP ports that its server is asked on. A daemon publishes them where its containers' networks cannot be
    /// entered; nothing else of a container is published, whatever its image exposes.
    pub ports: Vec<u16>,
}

/// How a container is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Network {
    /// A network namespace of its own with loopback alone, which the load generator joins.
    #[default]
    Loopback,
    /// The same with a pair of virtual interfaces to the host.
    Veth,
    /// The same on a bridge that several containers share.
    Bridge(Arc<Bridge>),
    /// The host's.
    Host,
}

/// As docker and podman have it when an image sets none.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl ContainerSpec {
    /// The command line: entrypoint and command of the image, or their replacement.
    #[must_use]
    pub fn command(&self, config: &Configuration) -> Vec<String> {
        match &self.args {
            Some(args) => args.clone(),
            None => {
                let Configuration { execution, .. } = config;
                [execution.entrypoint(), execution.cmd()].into_iter().flatten().flatten().cloned().collect()
            }
        }
    }

    /// The environment as `NAME=VALUE`. There is always a PATH.
    #[must_use]
    pub fn environment(&self, config: &Configuration, home: &str) -> Vec<String> {
        let mut variables: BTreeMap<&str, &str> = [("PATH", PATH), ("HOME", home)].into();
        variables.extend(config.execution.env().iter().flatten().filter_map(|it| it.split_once('=')));
        variables.extend(self.env.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        variables.iter().map(|(name, value)| format!("{name}={value}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_and_environment_are_the_images_unless_overridden() {
        let config = Configuration::new(serde_json::json!({
            "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []},
            "config": {"Entrypoint": ["/app"], "Cmd": ["--port", "80"], "Env": ["A=1", "PATH=/bin"]},
        }))
        .unwrap();
        let spec = ContainerSpec::default();
        assert_eq!(spec.command(&config), ["/app", "--port", "80"]);
        assert_eq!(spec.environment(&config, "/h"), ["A=1", "HOME=/h", "PATH=/bin"]);
        let spec = ContainerSpec {
            args: Some(vec!["/other".to_owned()]),
            env: vec![("A".to_owned(), "2".to_owned())],
            ..spec
        };
        assert_eq!(spec.command(&config), ["/other"]);
        assert_eq!(spec.environment(&config, "/h")[0], "A=2");
    }
}
