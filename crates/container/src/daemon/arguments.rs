//! The command line by which a daemon creates a container.

use std::net::{Ipv4Addr, TcpListener};

use super::{LABEL, host_name};
use crate::capability::of_docker;
use crate::confinement::Confinement;
use crate::error::ContainerError;
use crate::leftovers::Owner;
use crate::spec::{ContainerSpec, Network};

/// How a port is published, as `--publish` takes it.
///
/// A daemon of this host chooses the port of the host. Any other may publish on the loopback of a host that is
/// not this one, where the port that it chooses may be one that another server has here. So it gets a port
/// that is free here: without the container no server answers there.
pub(super) fn publication(port: u16, here: bool) -> Result<String, ContainerError> {
    if here {
        return Ok(format!("127.0.0.1::{port}"));
    }
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    let free = free.map_err(|error| ContainerError::new("no port of 127.0.0.1 is free").because(error))?;
    Ok(format!("127.0.0.1:{}:{port}", free.port()))
}

/// The command line of a creation. Pure.
pub(super) fn arguments(
    id: &str,
    image: &str,
    spec: &ContainerSpec,
    confinement: &Confinement,
    has_own_loopback: bool,
    published: &[String],
) -> Vec<String> {
    let mut arguments: Vec<String> = vec!["create".to_owned(), "--name".to_owned(), id.to_owned()];
    let mut add = |words: &[&str]| arguments.extend(words.iter().map(|word| (*word).to_owned()));
    add(&["--label", &format!("{LABEL}={}@{}", Owner::this(), host_name())]);
    if confinement.no_new_privileges {
        add(&["--security-opt", "no-new-privileges"]);
    }
    // Podman's own are fewer than docker's, and stay as they are.
    if confinement.capabilities != of_docker() {
        add(&["--cap-drop", "ALL"]);
        confinement.capabilities.iter().for_each(|it| add(&["--cap-add", it.name()]));
    }
    if let Some(user) = &spec.tightening.user {
        add(&["--user", user]);
    }
    for (name, value) in &confinement.sysctls {
        add(&["--sysctl", &format!("{name}={value}")]);
    }
    match &spec.network {
        Network::Host => add(&["--network", "host"]),
        _ if has_own_loopback => add(&["--network", "none"]),
        _ => published.iter().for_each(|port| add(&["--publish", port])),
    }
    let limits = &spec.limits;
    if let Some(cpu) = limits.cpu {
        add(&["--cpu-period", &cpu.period.to_string(), "--cpu-quota", &cpu.quota.to_string()]);
    }
    if let Some(cpuset) = &limits.cpuset {
        add(&["--cpuset-cpus", &cpuset.to_string()]);
    }
    if let Some(memory) = limits.memory {
        let swap = limits.swap.map_or_else(|| "-1".to_owned(), |swap| (memory + swap).to_string());
        add(&["--memory", &memory.to_string(), "--memory-swap", &swap]);
    }
    if let Some(pids) = limits.pids {
        add(&["--pids-limit", &pids.to_string()]);
    }
    if confinement.read_only {
        add(&["--read-only"]);
    }
    confinement.tmpfs.iter().for_each(|path| add(&["--tmpfs", path]));
    spec.tightening.volumes.iter().for_each(|path| add(&["--volume", path]));
    for mount in &spec.mounts {
        add(&["--volume", &format!("{}:{}:ro", mount.source.display(), mount.target)]);
    }
    for (name, value) in &spec.env {
        add(&["--env", &format!("{name}={value}")]);
    }
    if let Some([program, rest @ ..]) = spec.args.as_deref() {
        add(&["--entrypoint", program, image]);
        let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
        add(&rest);
    } else {
        add(&[image]);
    }
    arguments
}

#[cfg(test)]
mod tests {
    use tare_oci::spec::Configuration;

    use super::*;
    use crate::confinement::Tightening;
    use crate::spec::Mount;

    fn line(tightening: Tightening) -> String {
        line_of(&ContainerSpec { tightening, ..ContainerSpec::default() })
    }

    fn line_of(spec: &ContainerSpec) -> String {
        let config = Configuration::new(serde_json::json!({
            "architecture": "amd64", "os": "linux", "config": {"Volumes": {"/data": {}}},
            "rootfs": {"type": "layers", "diff_ids": []},
        }));
        let confinement = Confinement::of(&config.unwrap(), &spec.tightening).unwrap();
        let all = arguments("x", "i", spec, &confinement, true, &[]);
        all.iter().skip(5).map(String::as_str).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_daemon_gets_its_own_defaults_unless_something_is_tightened() {
        assert_eq!(line(Tightening::default()), "--network none i");
        let mounts = vec![Mount { source: "/usr/lib/x".into(), target: "/.x".to_owned() }];
        let spec = ContainerSpec { mounts, ..ContainerSpec::default() };
        assert_eq!(line_of(&spec), "--network none --volume /usr/lib/x:/.x:ro i");
        let tight = Tightening {
            read_only: Some(true),
            capabilities: Some(["KILL".parse().unwrap()].into()),
            no_new_privileges: Some(true),
            user: Some("7".to_owned()),
            sysctls: [("net.core.somaxconn".to_owned(), "9".to_owned())].into(),
            tmpfs: vec!["/run".to_owned()],
            volumes: vec!["/cache".to_owned()],
        };
        assert_eq!(
            line(tight),
            "--security-opt no-new-privileges --cap-drop ALL --cap-add KILL --user 7 --sysctl net.core.somaxconn=9 \
             --network none --read-only --tmpfs /run --volume /cache i"
        );
    }
}
