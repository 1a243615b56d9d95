//! Which folders hold the limits of a process: from `/proc/self/cgroup` and `/proc/self/mountinfo`.
//! Pure: text goes in.
//!
//! cgroup v1 has a hierarchy for each controller, v2 has one for all, and a hybrid machine has both at once
//! with each controller in one of them. In a container either the cgroup namespace or a bind mount hides
//! what lies above, so a group's path counts from the root of its mount and not from that of the hierarchy.

use std::path::{Path, PathBuf};

/// Where a process stands in one hierarchy: a line of `/proc/self/cgroup` (cgroups(7)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// The controllers of a v1 hierarchy; empty for that of v2.
    pub controllers: Vec<String>,
    /// The group, as seen from the cgroup namespace of the process.
    pub path: String,
}

/// The memberships of a process; lines that are none are left out.
#[must_use]
pub fn memberships(text: &str) -> Vec<Membership> {
    let line = |line: &str| {
        let mut parts = line.splitn(3, ':');
        let _hierarchy = parts.next()?.parse::<u32>().ok()?;
        let controllers = parts.next()?;
        let path = parts.next()?;
        path.starts_with('/').then(|| Membership {
            controllers: controllers.split(',').filter(|it| !it.is_empty()).map(str::to_owned).collect(),
            path: path.strip_suffix(" (deleted)").unwrap_or(path).to_owned(),
        })
    };
    text.lines().filter_map(line).collect()
}

/// Which generation a hierarchy is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// A hierarchy for each controller.
    V1,
    /// One hierarchy.
    V2,
}

/// A mounted hierarchy: a line of `/proc/self/mountinfo` (proc(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// v1 or v2.
    pub version: Version,
    /// The group that is seen at the mount point.
    pub root: String,
    /// Where it is mounted.
    pub point: PathBuf,
    /// The controllers of a v1 hierarchy; empty for that of v2.
    pub controllers: Vec<String>,
}

/// The mounted cgroup hierarchies; all other lines are left out.
#[must_use]
pub fn mounts(text: &str) -> Vec<Mount> {
    let line = |line: &str| {
        // The number of optional fields before the dash varies.
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let (root, point) = (before.next()?, before.next()?);
        let mut after = after.split(' ');
        let (kind, _source, options) = (after.next()?, after.next()?, after.next()?);
        let (version, controllers) = match kind {
            "cgroup2" => (Version::V2, Vec::new()),
            "cgroup" => (Version::V1, options.split(',').map(str::to_owned).collect()),
            _ => return None,
        };
        Some(Mount { version, root: unescape(root), point: unescape(point).into(), controllers })
    };
    text.lines().filter_map(line).collect()
}

/// The folder of the process's own group and those above it, up to the mount point: the limits of each hold
/// for the process. Empty when the controller is not mounted.
#[must_use]
pub fn folders(
    controller: &str,
    memberships: &[Membership],
    mounts: &[Mount],
) -> Option<(Version, Vec<PathBuf>)> {
    let of_v1 = |it: &&Membership| it.controllers.iter().any(|name| name == controller);
    // A controller is in a v1 hierarchy or in that of v2, never in both.
    let (version, membership) = match memberships.iter().find(of_v1) {
        Some(membership) => (Version::V1, membership),
        None => (Version::V2, memberships.iter().find(|it| it.controllers.is_empty())?),
    };
    let fits = |mount: &&Mount| {
        mount.version == version
            && (version == Version::V2 || mount.controllers.iter().any(|name| name == controller))
    };
    // The mount that shows the most of the way down to the group; any other shows its own root at best.
    let (mount, below) = mounts
        .iter()
        .filter(fits)
        .filter_map(|mount| Some((mount, below(&mount.root, &membership.path)?)))
        .max_by_key(|(mount, _)| mount.root.len())
        .or_else(|| mounts.iter().find(fits).map(|mount| (mount, "")))?;
    // Joined with nothing, a path would get a slash at its end.
    let group = if below.is_empty() { mount.point.clone() } else { mount.point.join(below) };
    let ancestors = group.ancestors().take_while(|folder| folder.starts_with(&mount.point));
    Some((version, ancestors.map(Path::to_path_buf).collect()))
}

/// `path` as seen from the group `root`; none when it does not lie below.
fn below<'a>(root: &str, path: &'a str) -> Option<&'a str> {
    let below = if root == "/" { path } else { path.strip_prefix(root)? };
    // `/docker/ab` does not lie below `/docker/a`, and a path with `..` leaves the namespace.
    let whole = root == "/" || below.is_empty() || below.starts_with('/');
    let inside = !below.split('/').any(|name| name == "..");
    (whole && inside).then(|| below.trim_start_matches('/'))
}

/// mountinfo writes space, tab, newline and backslash as three octal digits (`seq_path` of the kernel).
fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        plain.push_str(before);
        let code = after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code.filter(u8::is_ascii) {
            Some(code) => {
                plain.push(char::from(code));
                rest = &after[3..];
            }
            None => {
                plain.push('\\');
                rest = after;
            }
        }
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folders_of(controller: &str, cgroup: &str, mountinfo: &str) -> Option<(Version, Vec<String>)> {
        let (version, folders) = folders(controller, &memberships(cgroup), &mounts(mountinfo))?;
        Some((version, folders.iter().map(|it| it.display().to_string()).collect()))
    }

    #[test]
    fn nested_group_is_looked_for_up_to_the_mount_point() {
        let mountinfo = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let expected = ["/sys/fs/cgroup/a.slice/b.scope", "/sys/fs/cgroup/a.slice", "/sys/fs/cgroup"];
        assert_eq!(
            folders_of("memory", "0::/a.slice/b.scope\n", mountinfo),
            Some((Version::V2, expected.map(str::to_owned).to_vec()))
        );
    }

    #[test]
    fn path_counts_from_the_root_of_the_mount() {
        let v1 = |root: &str| format!("40 31 0:33 {root} /cg/memory ro - cgroup cgroup rw,memory\n");
        for (cgroup, mountinfo, expected) in [
            // A bind mount of the container's own group.
            ("4:memory:/docker/ab\n", v1("/docker/ab"), vec!["/cg/memory"]),
            ("4:memory:/docker/ab/in\n", v1("/docker/ab"), vec!["/cg/memory/in", "/cg/memory"]),
            // A name that only starts alike, and one that leaves the namespace.
            ("4:memory:/docker/abc\n", v1("/docker/ab"), vec!["/cg/memory"]),
            ("4:memory:/../other\n", v1("/"), vec!["/cg/memory"]),
            // A namespace of its own.
            ("4:memory:/\n", v1("/"), vec!["/cg/memory"]),
        ] {
            let found = folders_of("memory", cgroup, &mountinfo).map(|(_, folders)| folders);
            assert_eq!(found, Some(expected.into_iter().map(str::to_owned).collect()), "{cgroup:?}");
        }
    }

    #[test]
    fn hybrid_machine_has_each_controller_where_it_is() {
        let cgroup = "9:memory:/m\n1:cpu,cpuacct:/c\n0::/u\n";
        let mountinfo = "1 0 0:1 / /v1/mem rw - cgroup cgroup rw,memory\n\
                         2 0 0:2 / /v1/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
                         3 0 0:3 / /v2 rw - cgroup2 cgroup2 rw\n";
        for (controller, version, first) in [
            ("memory", Version::V1, "/v1/mem/m"),
            ("cpu", Version::V1, "/v1/cpu/c"),
            ("pids", Version::V2, "/v2/u"),
        ] {
            let (found, folders) = folders_of(controller, cgroup, mountinfo).unwrap();
            assert_eq!((found, folders[0].as_str()), (version, first), "{controller}");
        }
    }

    #[test]
    fn what_is_not_mounted_has_no_folders() {
        assert_eq!(folders_of("cpu", "0::/\n", ""), None);
        assert_eq!(folders_of("cpu", "", "3 0 0:3 / /v2 rw - cgroup2 cgroup2 rw\n"), None);
        assert_eq!(folders_of("cpu", "nonsense\n::\n1:cpu\n", "nonsense - cgroup2\n"), None);
    }

    #[test]
    fn deleted_group_and_escaped_folder_are_read_by_their_names() {
        let mountinfo = "3 0 0:3 / /a\\040b\\134c rw - cgroup2 cgroup2 rw\n";
        let (_, folders) = folders_of("cpu", "0::/gone (deleted)\n", mountinfo).unwrap();
        assert_eq!(folders, ["/a b\\c/gone", "/a b\\c"]);
    }
}
