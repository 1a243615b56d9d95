//! Computes the bundle's `config.json` from an image's configuration and a spec, without side effects.
//!
//! The defaults are docker's: capabilities, mounts, devices, masked and read-only paths, kernel parameters, the filter
//! of system calls. What differs is said where it stands.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};
use tare_oci::spec::Configuration;

use super::capability::{Capabilities, Capability};
use super::cgroup::Cgroup;
use super::confinement::Confinement;
use super::limits::Limits;
use super::seccomp;
use super::spec::{ContainerSpec, Network};
use super::user::User;

/// Files of `/proc` and `/sys` that show or change the host, as docker masks them.
const MASKED: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The facts about the host that a bundle depends on.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    pub(crate) id: &'a str,
    pub(crate) rootfs: &'a Path,
    /// The folder of the writable layer.
    pub(crate) layer: &'a Path,
    pub(crate) cgroup: &'a Path,
    /// Where its cgroup is on the host.
    pub(crate) cgroup_folders: Cgroup,
    pub(crate) user: &'a User,
    /// Files and connections that it may have open.
    pub(crate) nofile: u64,
    /// Processes that its user may have, on the whole host.
    pub(crate) nproc: u64,
    /// Whether the runtime makes the network namespace; else the container has its parent's.
    pub(crate) runtime_makes_network: bool,
    /// Whether only one user exists inside, for want of the right to map more.
    pub(crate) single_user: bool,
    /// Whether the keeper installs the filter of system calls and drops capabilities, with libcontainer.
    pub(crate) keeper_finishes: bool,
    /// Whether the runtime was built with a filter of system calls.
    pub(crate) filters: bool,
}

/// The capabilities of a container: docker's without MKNOD. Docker keeps devices away by the device controller, which
/// libcontainer has for cgroup version 1 alone; without the capability there are no devices beside the usual ones.
pub(crate) fn capabilities(confinement: &Confinement) -> Capabilities {
    confinement.capabilities.iter().copied().filter(|it| *it != Capability::MKNOD).collect()
}

/// The kernel parameters of a container's own network, as docker has them: any user may bind any port, and send
/// `ping`. In a user namespace they would be another's; its one user is root.
pub(crate) fn network_parameters(
    spec: &ContainerSpec,
    confinement: &Confinement,
    single_user: bool,
) -> BTreeMap<String, String> {
    let mut parameters = BTreeMap::new();
    if spec.network != Network::Host && !single_user {
        parameters.insert("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned());
        parameters.insert("net.ipv4.ping_group_range".to_owned(), "0 2147483647".to_owned());
    }
    let own = confinement.sysctls.iter().filter(|(name, _)| is_of_network(name));
    parameters.extend(own.map(|(name, value)| (name.clone(), value.clone())));
    parameters
}

fn is_of_network(name: &str) -> bool {
    name.starts_with("net.") || name.starts_with("net/")
}

/// The bundle's `config.json` (runtime-spec 1.0).
pub(crate) fn document(
    spec: &ContainerSpec,
    confinement: &Confinement,
    config: &Configuration,
    place: &Place<'_>,
) -> Value {
    let user = place.user;
    let work_dir = ContainerSpec::work_dir(config);
    let network = place.runtime_makes_network.then_some("network");
    let namespaces = ["pid", "ipc", "uts", "mount", "cgroup"].into_iter().chain(network);
    let namespaces: Vec<Value> = namespaces.map(|kind| json!({"type": kind})).collect();
    let mut parameters: BTreeMap<String, String> =
        confinement.sysctls.clone().into_iter().filter(|(name, _)| !is_of_network(name)).collect();
    if place.runtime_makes_network {
        parameters.extend(network_parameters(spec, confinement, place.single_user));
    }
    let mut linux = json!({
        "cgroupsPath": place.cgroup,
        "namespaces": namespaces,
        "resources": resources(&spec.limits),
        "maskedPaths": MASKED,
        "readonlyPaths": READ_ONLY,
        "sysctl": parameters,
    });
    let mut capabilities = capabilities(confinement);
    if place.keeper_finishes {
        capabilities.extend([Capability::SYS_ADMIN, Capability::SETPCAP]);
    } else if place.filters
        && let Some(filter) = seccomp::document(&capabilities)
    {
        linux["seccomp"] = filter;
    }
    let capabilities: Vec<String> = capabilities.iter().map(|it| format!("CAP_{it}")).collect();
    let limits = [
        json!({"type": "RLIMIT_NOFILE", "hard": place.nofile, "soft": place.nofile}),
        // The cgroup limits a container's processes; this counts all of a user's on the host.
        json!({"type": "RLIMIT_NPROC", "hard": place.nproc, "soft": place.nproc}),
    ];
    json!({
        "ociVersion": "1.0.2",
        "hostname": place.id,
        "root": {"path": place.rootfs, "readonly": confinement.read_only},
        "process": {
            "terminal": false,
            "user": {"uid": user.uid, "gid": user.gid, "additionalGids": user.groups},
            "args": spec.command(config),
            "env": spec.environment(config, place.id, &user.home),
            "cwd": work_dir,
            "capabilities": {
                "bounding": capabilities,
                "effective": capabilities,
                "permitted": capabilities,
            },
            "rlimits": limits,
            "noNewPrivileges": confinement.no_new_privileges,
        },
        "mounts": mounts(spec, confinement, place),
        "linux": linux,
    })
}

/// Folders that the root must have, beside those in memory.
pub(crate) fn folders(
    spec: &ContainerSpec,
    confinement: &Confinement,
    config: &Configuration,
) -> Vec<String> {
    let fixed = ["/dev", "/proc", "/sys"].into_iter().map(str::to_owned);
    let mounts = spec.mounts.iter().map(|mount| mount.target.clone());
    fixed.chain([ContainerSpec::work_dir(config)]).chain(confinement.volumes.clone()).chain(mounts).collect()
}

/// The volumes that are mounted: in a writable root they are folders like all others.
pub(crate) fn mounted_volumes(confinement: &Confinement) -> &[String] {
    if confinement.read_only { &confinement.volumes } else { &[] }
}

/// The files that a container has whatever the image has: `/etc/hostname`, `/etc/hosts`, `/etc/resolv.conf`. A
/// container without a network of the host has no name server.
pub(crate) fn files(id: &str, resolver: Option<&str>) -> Vec<(String, String)> {
    let hosts = format!(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n\
         ff00::0\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n127.0.0.1\t{id}\n"
    );
    // Without a name server the C libraries ask this host, in vain and by default for many seconds.
    let resolver = resolver.unwrap_or("options timeout:1 attempts:1\n");
    [("etc/hostname", format!("{id}\n")), ("etc/hosts", hosts), ("etc/resolv.conf", resolver.to_owned())]
        .map(|(path, content)| (path.to_owned(), content))
        .to_vec()
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

fn mounts(spec: &ContainerSpec, confinement: &Confinement, place: &Place<'_>) -> Vec<Value> {
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
        mount("mqueue", "/dev/mqueue", &["nosuid", "noexec", "nodev"]),
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
    // The outer ones first, so that none hides another.
    let volumes = mounted_volumes(confinement).iter().enumerate();
    let mut own: Vec<(&String, Value)> = volumes
        .map(|(number, path)| {
            let source = place.layer.join("volumes").join(number.to_string());
            let mount =
                json!({"type": "bind", "source": source, "destination": path, "options": ["bind", "rw"]});
            (path, mount)
        })
        .collect();
    // As `docker run --tmpfs` mounts them.
    let memory = ["nosuid", "nodev", "noexec", "mode=1777"];
    own.extend(confinement.tmpfs.iter().map(|path| (path, mount("tmpfs", path, &memory))));
    own.extend(spec.mounts.iter().map(|it| {
        let mount = json!({"type": "bind", "source": it.source, "destination": it.target,
            "options": ["bind", "ro", "nosuid", "nodev"]});
        (&it.target, mount)
    }));
    own.sort_by_key(|(path, _)| *path);
    mounts.extend(own.into_iter().map(|(_, mount)| mount));
    mounts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::confinement::Tightening;
    use crate::limits::{CpuLimit, CpuSet};

    fn bundle(spec: &ContainerSpec, change: impl Fn(&mut Place<'_>)) -> Value {
        let config = Configuration::new(json!({
            "architecture": "amd64", "os": "linux",
            "config": {
                "Entrypoint": ["/app"], "Cmd": ["--port", "80"], "Env": ["A=1", "PATH=/bin"],
                "Volumes": {"/data/": {}, "/data/sub": {}}, "WorkingDir": "/srv",
            },
            "rootfs": {"type": "layers", "diff_ids": []},
        }))
        .unwrap();
        let user = User { uid: 7, gid: 8, groups: vec![9], home: "/h".to_owned() };
        let mut place = Place {
            id: "x",
            rootfs: Path::new("/r"),
            layer: Path::new("/l"),
            cgroup: Path::new("/tare/x"),
            cgroup_folders: Cgroup::V2("/cg".into()),
            user: &user,
            nofile: 1024,
            nproc: 99,
            runtime_makes_network: true,
            single_user: false,
            keeper_finishes: false,
            filters: true,
        };
        change(&mut place);
        document(spec, &Confinement::of(&config, &spec.tightening).unwrap(), &config, &place)
    }

    fn plain(spec: &ContainerSpec) -> Value {
        bundle(spec, |_| {})
    }

    fn at<'a>(bundle: &'a Value, path: &str) -> Vec<&'a Value> {
        bundle["mounts"].as_array().unwrap().iter().filter(|it| it["destination"] == path).collect()
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
        let limited = plain(&ContainerSpec { limits, ..ContainerSpec::default() });
        assert_eq!(
            limited["linux"]["resources"],
            json!({
                "cpu": {"quota": 50_000, "period": 100_000, "cpus": "0-1"},
                "memory": {"limit": 1 << 20, "swap": (1 << 20) + 1024},
                "pids": {"limit": 9},
            })
        );
        assert_eq!(plain(&ContainerSpec::default())["linux"]["resources"], json!({}));
    }

    #[test]
    fn a_container_is_as_docker_makes_it() {
        let bundle = plain(&ContainerSpec::default());
        assert_eq!(bundle["root"], json!({"path": "/r", "readonly": false}));
        assert_eq!(bundle["process"]["noNewPrivileges"], false);
        assert_eq!(bundle["process"]["cwd"], "/srv");
        let capabilities = bundle["process"]["capabilities"]["bounding"].as_array().unwrap();
        assert_eq!(capabilities.len(), 13);
        assert!(!capabilities.contains(&json!("CAP_MKNOD")));
        assert_eq!(
            bundle["linux"]["sysctl"],
            json!({"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"})
        );
        // A volume is a folder of the layer, and memory is where docker has it.
        assert!(at(&bundle, "/data").is_empty() && at(&bundle, "/tmp").is_empty());
        assert_eq!(at(&bundle, "/dev/mqueue").len(), 1);
        assert_eq!(bundle["linux"]["seccomp"]["defaultAction"], "SCMP_ACT_ALLOW");
    }

    #[test]
    fn a_tightened_container_has_what_the_profile_says() {
        let tightening = Tightening {
            read_only: Some(true),
            capabilities: Some(Capabilities::new()),
            no_new_privileges: Some(true),
            sysctls: [("net.core.somaxconn", "9"), ("kernel.msgmax", "1")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            tmpfs: vec!["/data/sub/x".to_owned()],
            ..Tightening::default()
        };
        let spec = ContainerSpec { tightening, ..ContainerSpec::default() };
        let bundle = plain(&spec);
        assert_eq!(bundle["root"]["readonly"], true);
        assert_eq!(bundle["process"]["capabilities"]["bounding"], json!([]));
        assert_eq!(bundle["process"]["noNewPrivileges"], true);
        assert_eq!(bundle["linux"]["sysctl"]["net.core.somaxconn"], "9");
        assert_eq!(bundle["linux"]["sysctl"]["kernel.msgmax"], "1");
        assert_eq!(at(&bundle, "/data")[0]["source"], "/l/volumes/0");
        let own = bundle["mounts"].as_array().unwrap().iter().map(|it| it["destination"].as_str().unwrap());
        let own: Vec<&str> = own.filter(|path| path.starts_with("/data")).collect();
        assert_eq!(own, ["/data", "/data/sub", "/data/sub/x"]);
    }

    #[test]
    fn what_the_keeper_finishes_is_left_to_it() {
        let spec = ContainerSpec::default();
        let bundle = bundle(&spec, |place| {
            place.keeper_finishes = true;
            place.runtime_makes_network = false;
        });
        assert_eq!(bundle["linux"]["seccomp"], Value::Null);
        assert_eq!(bundle["linux"]["sysctl"], json!({}));
        let capabilities = bundle["process"]["capabilities"]["effective"].as_array().unwrap();
        assert!(
            capabilities.contains(&json!("CAP_SYS_ADMIN")) && capabilities.contains(&json!("CAP_SETPCAP"))
        );
    }

    #[test]
    fn names_of_this_host_and_of_the_container_resolve() {
        let files = files("tare-7-0", None);
        assert_eq!(files[0], ("etc/hostname".to_owned(), "tare-7-0\n".to_owned()));
        let names: Vec<&str> = files[1].1.lines().filter(|line| line.starts_with("127.")).collect();
        assert_eq!(names, ["127.0.0.1\tlocalhost", "127.0.0.1\ttare-7-0"]);
        assert_eq!(files[2].1, "options timeout:1 attempts:1\n");
    }
}
