//! Computes the bundle's `config.json` from an image's configuration and a spec, without side effects.

use std::path::Path;

use serde_json::{Value, json};
use tare_oci::spec::Configuration;

use super::cgroup::Cgroup;
use super::limits::Limits;
use super::spec::{ContainerSpec, Network};
use super::user::User;

/// What runc's and docker's defaults have in common, and a server may need: to bind ports below 1024, to
/// kill, to write an audit log (runc spec).
const CAPABILITIES: [&str; 3] = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];

/// What of `/proc` shows or changes the host (docker's and runc's defaults).
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
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The facts about the host that a bundle depends on.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    pub(crate) id: &'a str,
    pub(crate) rootfs: &'a Path,
    pub(crate) cgroup: &'a Path,
    /// Where its cgroup is on the host.
    pub(crate) cgroup_folders: Cgroup,
    pub(crate) user: &'a User,
    /// Files and connections that it may have open.
    pub(crate) nofile: u64,
    /// Whether the runtime makes the network namespace; else the container has its parent's.
    pub(crate) runtime_makes_network: bool,
    /// Whether only one user exists inside, for want of the right to map more.
    pub(crate) single_user: bool,
}

/// The bundle's `config.json` (runtime-spec 1.0).
pub(crate) fn document(spec: &ContainerSpec, config: &Configuration, place: &Place<'_>) -> Value {
    let user = place.user;
    let work_dir = config.execution.working_dir().as_deref().filter(|dir| !dir.is_empty()).unwrap_or("/");
    let network = place.runtime_makes_network.then_some("network");
    let namespaces = ["pid", "ipc", "uts", "mount", "cgroup"].into_iter().chain(network);
    let namespaces: Vec<Value> = namespaces.map(|kind| json!({"type": kind})).collect();
    let linux = json!({
        "cgroupsPath": place.cgroup,
        "namespaces": namespaces,
        "resources": resources(&spec.limits),
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
            "args": spec.command(config),
            "env": spec.environment(config, &user.home),
            "cwd": work_dir,
            "capabilities": {
                "bounding": CAPABILITIES,
                "effective": CAPABILITIES,
                "permitted": CAPABILITIES,
            },
            "rlimits": nofile,
            "noNewPrivileges": true,
        },
        "mounts": mounts(spec, config, place),
        "linux": linux,
    })
}

fn resources(limits: &Limits) -> Value {
    let mut resources = json!({});
    if let Some(cpu) = limits.cpu {
        resources["cpu"] = json!({"quota": cpu.quota, "period": cpu.period});
    }
    if let Some(cpuset) = &limits.cpuset {
        resources["cpu"]["cpus"] = json!(cpuset.to_string());
    }
    if let Some(memory) = limits.memory {
        resources["memory"] = json!({"limit": memory});
        if let Some(swap) = limits.swap {
            // Memory and swap together, in both cgroup versions (runtime-spec config-linux.md, "Memory").
            resources["memory"]["swap"] = json!(memory.saturating_add(swap));
        }
    }
    if let Some(pids) = limits.pids {
        resources["pids"] = json!({"limit": pids});
    }
    resources
}

fn mounts(spec: &ContainerSpec, config: &Configuration, place: &Place<'_>) -> Vec<Value> {
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
    if spec.network == Network::Host && place.single_user {
        // A new sysfs belongs to the owner of the network.
        mounts.push(json!({"type": "bind", "source": "/sys", "destination": "/sys",
            "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]}));
    } else {
        mounts.push(mount("sysfs", "/sys", &["nosuid", "noexec", "nodev", "ro"]));
    }
    // Programs read their CPU quota there, and size their thread pools by it.
    let options = ["nosuid", "noexec", "nodev", "relatime", "ro"];
    if let Cgroup::V1(folders) = &place.cgroup_folders {
        // To mount the hierarchies of version 1 anew, as runtimes do, takes longer than all the rest of a
        // start; what the container sees in these is the same.
        mounts.push(mount("tmpfs", "/sys/fs/cgroup", &["nosuid", "noexec", "nodev", "mode=755", "size=4k"]));
        for (controller, folder) in folders {
            let bind: Vec<&str> = ["bind"].into_iter().chain(options).collect();
            mounts.push(json!({"type": "bind", "source": folder, "options": bind,
                "destination": format!("/sys/fs/cgroup/{controller}")}));
        }
    } else {
        mounts.push(mount("cgroup", "/sys/fs/cgroup", &options));
    }
    mounts.push(mount("tmpfs", "/tmp", &["nosuid", "nodev", "mode=1777"]));
    for path in spec.memory_mounts(config) {
        let owner = [format!("uid={}", place.user.uid), format!("gid={}", place.user.gid)];
        let mut options = vec!["nosuid", "nodev", "mode=755"];
        options.extend(owner.iter().map(String::as_str));
        mounts.push(mount("tmpfs", &path, &options));
    }
    mounts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{CpuLimit, CpuSet};

    fn bundle(spec: &ContainerSpec) -> Value {
        let config = Configuration::new(json!({
            "architecture": "amd64", "os": "linux",
            "config": {
                "Entrypoint": ["/app"], "Cmd": ["--port", "80"], "Env": ["A=1", "PATH=/bin"],
                "Volumes": {"/data/": {}, "/tmp": {}}, "WorkingDir": "/srv",
            },
            "rootfs": {"type": "layers", "diff_ids": []},
        }));
        let user = User { uid: 7, gid: 8, groups: vec![9], home: "/h".to_owned() };
        let place = Place {
            id: "x",
            rootfs: Path::new("/r"),
            cgroup: Path::new("/tare/x"),
            cgroup_folders: Cgroup::V2("/cg".into()),
            user: &user,
            nofile: 1024,
            runtime_makes_network: false,
            single_user: false,
        };
        document(spec, &config.unwrap(), &place)
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
