//! Where cgroups are on this host, and how they are removed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Where it is mounted.
    pub mount: PathBuf,
    /// Its controllers, as mount options name them; empty for version 2.
    pub controllers: Vec<String>,
    /// Whether it is version 2.
    pub unified: bool,
}

/// Every controller that version 1 ever had (include/linux/cgroup_subsys.h).
const CONTROLLERS: [&str; 14] = [
    "blkio",
    "cpu",
    "cpuacct",
    "cpuset",
    "debug",
    "devices",
    "freezer",
    "hugetlb",
    "memory",
    "misc",
    "net_cls",
    "net_prio",
    "perf_event",
    "pids",
];

/// The hierarchies among the mounts of `/proc/self/mounts` (fstab(5)).
#[must_use]
pub fn hierarchies(mounts: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mounts.lines() {
        let mut fields = line.split(' ').skip(1);
        let (Some(mount), Some(kind), Some(options)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let unified = match kind {
            "cgroup2" => true,
            "cgroup" => false,
            _ => continue,
        };
        // Among them are mount options of every kind; controllers are a closed set, and named hierarchies.
        let controller = |it: &&str| CONTROLLERS.contains(it) || it.starts_with("name=");
        let controllers = options.split(',').filter(controller).map(str::to_owned);
        let controllers: Vec<String> = if unified { Vec::new() } else { controllers.collect() };
        // A hierarchy may be mounted twice; the first place is the usual one.
        if !found.iter().any(|it| it.unified == unified && it.controllers == controllers) {
            found.push(Hierarchy { mount: PathBuf::from(unescape(mount)), controllers, unified });
        }
    }
    found
}

/// Blanks are written as octal numbers (getmntent(3)).
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
}

/// The folders that exist of a cgroup, one per hierarchy.
#[must_use]
pub fn folders(cgroup: &Path) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let below = cgroup.strip_prefix("/").unwrap_or(cgroup);
    let places = hierarchies(&mounts).into_iter().map(|hierarchy| hierarchy.mount.join(below));
    places.filter(|place| place.is_dir()).collect()
}

/// Kills what runs in a cgroup and removes it with its children from every hierarchy.
///
/// # Errors
/// When something in it outlives SIGKILL for ten seconds, or the kernel refuses.
pub fn remove(cgroup: &Path) -> io::Result<()> {
    // A process is gone from its cgroup a moment after it was reaped; after OOM kills it may take longer.
    let deadline = Instant::now() + Duration::from_secs(10);
    for folder in folders(cgroup) {
        remove_folder(&folder, deadline)?;
    }
    Ok(())
}

fn remove_folder(folder: &Path, deadline: Instant) -> io::Result<()> {
    const PAUSE: Duration = Duration::from_micros(200);
    let with_path = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", folder.display()));
    loop {
        match fs::remove_dir(folder) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() != io::ErrorKind::ResourceBusy => return Err(with_path(error)),
            Err(error) if Instant::now() >= deadline => return Err(with_path(error)),
            Err(_) => {}
        }
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove_folder(&entry.path(), deadline)?;
            }
        }
        let processes = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
        for process in processes.lines().filter_map(|line| line.parse::<i32>().ok()) {
            kill(process);
        }
        std::thread::sleep(PAUSE);
    }
}

/// SIGKILL. It fails only for a process that is gone.
#[cfg(unix)]
fn kill(process: i32) {
    if let Some(process) = rustix::process::Pid::from_raw(process) {
        let _ = rustix::process::kill_process(process, rustix::process::Signal::KILL);
    }
}

/// Other systems have no cgroups.
#[cfg(not(unix))]
fn kill(_process: i32) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_of_all_three_setups_are_found() {
        let hybrid = "tmpfs /sys/fs/cgroup tmpfs rw,relatime,mode=755 0 0\n\
            cgroup /sys/fs/cgroup/cpu cgroup rw,relatime,cpu 0 0\n\
            cgroup /sys/fs/cgroup/systemd cgroup rw,relatime,name=systemd 0 0\n\
            cgroup /sys/fs/cgroup/net_cls,net_prio cgroup rw,relatime,net_cls,net_prio 0 0\n\
            cgroup /other/cpu cgroup rw,relatime,cpu 0 0\n\
            cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0\n";
        let v1 = |mount: &str, controllers: &[&str]| Hierarchy {
            mount: mount.into(),
            controllers: controllers.iter().map(|it| (*it).to_owned()).collect(),
            unified: false,
        };
        let v2 = |mount: &str| Hierarchy { mount: mount.into(), controllers: Vec::new(), unified: true };
        assert_eq!(
            hierarchies(hybrid),
            [
                v1("/sys/fs/cgroup/cpu", &["cpu"]),
                v1("/sys/fs/cgroup/systemd", &["name=systemd"]),
                v1("/sys/fs/cgroup/net_cls,net_prio", &["net_cls", "net_prio"]),
                v2("/sys/fs/cgroup/unified"),
            ]
        );
        let unified = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid,nodev,noexec,relatime,nsdelegate 0 0";
        assert_eq!(hierarchies(unified), [v2("/sys/fs/cgroup")]);
        assert_eq!(hierarchies("proc /proc proc rw 0 0\nshort\n"), []);
    }
}
