//! A container before it is made: what of the image is overridden, and the runtime bundle that both give.

use std::collections::BTreeMap;
#[cfg(target_os = "linux")]
use std::path::{Path, PathBuf};

#[cfg(target_os = "linux")]
use serde_json::{Value, json};
use tare_oci::spec::Config;

use super::limits::{CpuSet, Limits};
#[cfg(target_os = "linux")]
use super::user::User;

/// How a container is to be run.
#[derive(Debug, Clone, Default)]
pub struct ContainerSpec {
    /// Instead of the image's entrypoint and command.
    pub args: Option<Vec<String>>,
    /// Beside the image's environment, or instead of what it has of the same name.
    pub env: Vec<(String, String)>,
    /// What it may use.
    pub limits: Limits,
    /// CPUs that its threads are kept to by affinity, where groups have no cpuset.
    pub affinity: Option<CpuSet>,
    /// How it is reached.
    pub network: Network,
    /// TCP ports that its server is asked on. A daemon publishes them where its containers' networks cannot be
    /// entered; nothing else of a container is published, whatever its image exposes.
    pub ports: Vec<u16>,
}

/// How a container is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Network {
    /// A network namespace of its own with loopback alone, which whoever sends requests joins.
    #[default]
    Loopback,
    /// The same with a pair of virtual interfaces to the host.
    Veth,
    /// The same on a bridge that several containers share.
    #[cfg(target_os = "linux")]
    Bridge(std::sync::Arc<super::network::Bridge>),
    /// The host's.
    Host,
}

/// What runc's and docker's defaults have in common, and a server may need: to bind ports below 1024, to
/// kill, to write an audit log (runc spec).
#[cfg(target_os = "linux")]
const CAPABILITIES: [&str; 3] = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];

/// As docker and podman have it when an image sets none.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What of `/proc` shows or changes the host (docker's and runc's defaults).
#[cfg(target_os = "linux")]
const MASKED: [&str; 8] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/scsi",
    "/proc/timer_list",
    "/sys/firmware",
];
#[cfg(target_os = "linux")]
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

impl ContainerSpec {
    /// The command line: entrypoint and command of the image, or what stands instead.
    #[must_use]
    pub fn command(&self, config: &Config) -> Vec<String> {
        match &self.args {
            Some(args) => args.clone(),
            None => config.config.entrypoint.iter().chain(&config.config.cmd).cloned().collect(),
        }
    }

    /// The environment as `NAME=VALUE`, with a PATH whatever the image says.
    #[must_use]
    pub fn environment(&self, config: &Config, home: &str) -> Vec<String> {
        let mut variables: BTreeMap<&str, &str> = [("PATH", PATH), ("HOME", home)].into();
        variables.extend(config.config.env.iter().filter_map(|it| it.split_once('=')));
        variables.extend(self.env.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        variables.iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    /// Places in the root that something is mounted on, which a read-only root must have.
    #[must_use]
    pub fn mount_points(&self, config: &Config) -> Vec<String> {
        let fixed = ["/dev", "/proc", "/sys", "/tmp"].into_iter().map(str::to_owned);
        fixed.chain(self.memory_mounts(config)).collect()
    }

    fn memory_mounts(&self, config: &Config) -> Vec<String> {
        let volumes = config.config.volumes.keys();
        let mut mounts: Vec<String> = volumes
            .map(|path| format!("/{}", path.trim_matches('/')))
            .filter(|path| path.len() > 1 && path != "/tmp")
            .collect();
        mounts.sort_unstable();
        mounts.dedup();
        mounts
    }

    /// The bundle's `config.json` (runtime-spec 1.0).
    #[cfg(target_os = "linux")]
    #[must_use]
    pub(crate) fn bundle(&self, config: &Config, place: &Place<'_>) -> Value {
        let user = place.user;
        let work_dir = match config.config.working_dir.as_str() {
            "" => "/",
            dir => dir,
        };
        let mut namespaces = vec![json!({"type": "pid"}), json!({"type": "ipc"}), json!({"type": "uts"})];
        namespaces.extend([json!({"type": "mount"}), json!({"type": "cgroup"})]);
        if place.runtime_makes_network {
            namespaces.push(json!({"type": "network"}));
        }
        let linux = json!({
            "cgroupsPath": place.cgroup,
            "namespaces": namespaces,
            "resources": self.resources(),
            "maskedPaths": MASKED,
            "readonlyPaths": READ_ONLY,
        });
        let nofile = json!([{"type": "RLIMIT_NOFILE", "hard": place.nofile, "soft": place.nofile}]);
        json!({
            "ociVersion": "1.0.2",
            "hostname": place.id,
            "root": {"path": place.rootfs, "readonly": true},
            "process": {
                "terminal": false,
                "user": {"uid": user.uid, "gid": user.gid, "additionalGids": user.groups},
                "args": self.command(config),
                "env": self.environment(config, &user.home),
                "cwd": work_dir,
                "capabilities": {
                    "bounding": CAPABILITIES,
                    "effective": CAPABILITIES,
                    "permitted": CAPABILITIES,
                },
                "rlimits": nofile,
                "noNewPrivileges": true,
            },
            "mounts": self.mounts(config, place),
            "linux": linux,
        })
    }

    #[cfg(target_os = "linux")]
    fn resources(&self) -> Value {
        let mut resources = json!({});
        let limits = &self.limits;
        if let Some(cpu) = limits.cpu {
            resources["cpu"] = json!({"quota": cpu.quota, "period": cpu.period});
        }
        if let Some(cpuset) = &limits.cpuset {
            resources["cpu"]["cpus"] = json!(cpuset.to_string());
        }
        if let Some(memory) = limits.memory {
            resources["memory"] = json!({"limit": memory});
            if let Some(swap) = limits.swap {
                // Memory and swap together, whatever the version (runtime-spec config-linux.md, "Memory").
                resources["memory"]["swap"] = json!(memory.saturating_add(swap));
            }
        }
        if let Some(pids) = limits.pids {
            resources["pids"] = json!({"limit": pids});
        }
        resources
    }

    #[cfg(target_os = "linux")]
    fn mounts(&self, config: &Config, place: &Place<'_>) -> Vec<Value> {
        let mount = |kind: &str, destination: &str, options: &[&str]| json!({"type": kind, "source": kind, "destination": destination, "options": options});
        let mut pts = vec!["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
        if !place.single_user {
            // Group tty; where only one user is mapped there is none.
            pts.push("gid=5");
        }
        let mut mounts = vec![
            mount("proc", "/proc", &["nosuid", "noexec", "nodev"]),
            mount("tmpfs", "/dev", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("devpts", "/dev/pts", &pts),
            mount("tmpfs", "/dev/shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        ];
        if self.network == Network::Host && place.single_user {
            // A new sysfs belongs to whoever owns the network.
            mounts.push(json!({"type": "bind", "source": "/sys", "destination": "/sys",
                "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]}));
        } else {
            mounts.push(mount("sysfs", "/sys", &["nosuid", "noexec", "nodev", "ro"]));
        }
        // Programs read their CPU quota there, and size their thread pools by it.
        let options = ["nosuid", "noexec", "nodev", "relatime", "ro"];
        if place.cgroup_folders.is_empty() {
            mounts.push(mount("cgroup", "/sys/fs/cgroup", &options));
        } else {
            // To mount the hierarchies of version 1 anew, as runtimes do, takes longer than all the rest of a
            // start; what the container sees in these is the same.
            mounts.push(mount(
                "tmpfs",
                "/sys/fs/cgroup",
                &["nosuid", "noexec", "nodev", "mode=755", "size=4k"],
            ));
            for (controller, folder) in &place.cgroup_folders {
                let bind: Vec<&str> = ["bind"].into_iter().chain(options).collect();
                mounts.push(json!({"type": "bind", "source": folder, "options": bind,
                    "destination": format!("/sys/fs/cgroup/{controller}")}));
            }
        }
        mounts.push(mount("tmpfs", "/tmp", &["nosuid", "nodev", "mode=1777"]));
        for path in self.memory_mounts(config) {
            let owner = [format!("uid={}", place.user.uid), format!("gid={}", place.user.gid)];
            let mut options = vec!["nosuid", "nodev", "mode=755"];
            options.extend(owner.iter().map(String::as_str));
            mounts.push(mount("tmpfs", &path, &options));
        }
        mounts
    }
}

/// What a bundle needs to know of the host.
#[cfg(target_os = "linux")]
#[derive(Debug)]
pub(crate) struct Place<'a> {
    pub(crate) id: &'a str,
    pub(crate) rootfs: &'a Path,
    pub(crate) cgroup: &'a Path,
    /// Of cgroup version 1: each controller with its folder.
    pub(crate) cgroup_folders: Vec<(String, PathBuf)>,
    pub(crate) user: &'a User,
    /// Files and connections that it may have open.
    pub(crate) nofile: u64,
    /// Whether the runtime makes the network namespace; else the container has its parent's.
    pub(crate) runtime_makes_network: bool,
    /// Whether only one user exists inside, for want of the right to map more.
    pub(crate) single_user: bool,
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;
    use crate::limits::{CpuLimit, CpuSet};

    fn config() -> Config {
        serde_json::from_value(json!({
            "architecture": "amd64", "os": "linux",
            "config": {
                "Entrypoint": ["/app"], "Cmd": ["--port", "80"], "Env": ["A=1", "PATH=/bin"],
                "Volumes": {"/data/": {}, "/tmp": {}}, "WorkingDir": "/srv",
            },
            "rootfs": {"type": "layers", "diff_ids": []},
        }))
        .unwrap()
    }

    fn bundle(spec: &ContainerSpec) -> Value {
        let user = User { uid: 7, gid: 8, groups: vec![9], home: "/h".to_owned() };
        let place = Place {
            id: "x",
            rootfs: Path::new("/r"),
            cgroup: Path::new("/tare/x"),
            cgroup_folders: Vec::new(),
            user: &user,
            nofile: 1024,
            runtime_makes_network: false,
            single_user: false,
        };
        spec.bundle(&config(), &place)
    }

    #[test]
    fn command_and_environment_are_the_images_unless_overridden() {
        let spec = ContainerSpec::default();
        assert_eq!(spec.command(&config()), ["/app", "--port", "80"]);
        assert_eq!(spec.environment(&config(), "/h"), ["A=1", "HOME=/h", "PATH=/bin"]);
        let spec = ContainerSpec {
            args: Some(vec!["/other".to_owned()]),
            env: vec![("A".to_owned(), "2".to_owned())],
            ..spec
        };
        assert_eq!(spec.command(&config()), ["/other"]);
        assert_eq!(spec.environment(&config(), "/h")[0], "A=2");
    }

    #[test]
    fn limits_stand_in_the_bundle_and_what_is_not_limited_does_not() {
        let limits = Limits {
            cpu: Some(CpuLimit { quota: 50_000, period: 100_000 }),
            cpuset: CpuSet::new([0, 1]),
            memory: Some(1 << 20),
            swap: Some(1024),
            pids: Some(9),
        };
        let limited = bundle(&ContainerSpec { limits, ..ContainerSpec::default() });
        assert_eq!(
            limited["linux"]["resources"],
            json!({
                "cpu": {"quota": 50_000, "period": 100_000, "cpus": "0-1"},
                "memory": {"limit": 1 << 20, "swap": (1 << 20) + 1024},
                "pids": {"limit": 9},
            })
        );
        assert_eq!(bundle(&ContainerSpec::default())["linux"]["resources"], json!({}));
    }

    #[test]
    fn the_root_is_read_only_and_volumes_are_memory_of_the_user() {
        let bundle = bundle(&ContainerSpec::default());
        assert_eq!(bundle["root"], json!({"path": "/r", "readonly": true}));
        let mounts = bundle["mounts"].as_array().unwrap();
        let of = |path: &str| mounts.iter().filter(|it| it["destination"] == path).collect::<Vec<_>>();
        assert_eq!(of("/tmp").len(), 1);
        assert_eq!(of("/data")[0]["options"], json!(["nosuid", "nodev", "mode=755", "uid=7", "gid=8"]));
        assert_eq!(bundle["process"]["cwd"], "/srv");
        assert_eq!(bundle["process"]["noNewPrivileges"], true);
    }
}
