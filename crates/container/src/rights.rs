//! The rights of this process, and the user namespace that an ordinary user makes containers in.
//!
//! The whole process enters the namespace once. Prober, load generator and keeper are then in the namespace that owns the
//! containers' networks, and no container's start waits for the creation of a namespace.

/// What this process may do to namespaces, mounts and cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    /// Everything, with any user.
    Root,
    /// Everything in a user namespace in which it is root and no other user exists.
    Namespace,
    /// Nothing of that.
    Ordinary,
}

impl Rights {
    /// Of this process.
    #[must_use]
    pub fn of_this_process() -> Self {
        #[cfg(unix)]
        {
            let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
            Self::parse(rustix::process::geteuid().is_root(), &map)
        }
        #[cfg(not(unix))]
        Self::Ordinary
    }

    /// From the effective user and the text of `/proc/self/uid_map` (user_namespaces(7)): a line for each
    /// range of users, with its first inside, its first outside, and its length.
    #[cfg_attr(not(unix), expect(dead_code, reason = "there are no such users"))]
    fn parse(root: bool, uid_map: &str) -> Self {
        let lengths = uid_map.lines().filter_map(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok());
        match root {
            true if lengths.sum::<u64>() == 1 => Self::Namespace,
            true => Self::Root,
            false => Self::Ordinary,
        }
    }
}

/// Whether this process is root, and not only in a user namespace of its own.
#[must_use]
pub fn is_root() -> bool {
    Rights::of_this_process() == Rights::Root
}

/// Why the namespace cannot be entered.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step} a user namespace")]
pub struct NamespaceError {
    step: &'static str,
    source: std::io::Error,
}

/// Enters a new user namespace in which this process's user is root, unless it is root or in one already.
///
/// Only a process without other threads can (unshare(2)), so before anything that starts some.
///
/// # Errors
/// When the kernel refuses.
#[cfg(target_os = "linux")]
pub fn enter_namespace() -> Result<(), NamespaceError> {
    use std::time::{Duration, Instant};

    use nix::errno::Errno;
    use nix::sched::{CloneFlags, unshare};

    /// A thread that was joined is the kernel's for a moment yet.
    const PATIENCE: Duration = Duration::from_secs(1);

    if Rights::of_this_process() != Rights::Ordinary {
        return Ok(());
    }
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let deadline = Instant::now() + PATIENCE;
    loop {
        match unshare(CloneFlags::CLONE_NEWUSER) {
            Ok(()) => break,
            Err(Errno::EINVAL) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(1)),
            Err(error) => return Err(NamespaceError { step: "make", source: error.into() }),
        }
    }
    // Without the right to map other users setgroups is given up first.
    let files = [
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("0 {user} 1")),
        ("/proc/self/gid_map", format!("0 {group} 1")),
    ];
    for (path, text) in files {
        std::fs::write(path, text).map_err(|source| NamespaceError { step: "become root of", source })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_of_a_namespace_of_one_user_is_not_root() {
        for (root, map, expected) in [
            (true, "         0          0 4294967295\n", Rights::Root),
            // Of a container that was made for many users.
            (true, "         0     100000      65536\n", Rights::Root),
            (true, "0 1000 1\n1 100000 65536\n", Rights::Root),
            (true, "         0       1000          1\n", Rights::Namespace),
            (false, "         0          0 4294967295\n", Rights::Ordinary),
            (false, "      1000       1000          1\n", Rights::Ordinary),
            (true, "", Rights::Root),
        ] {
            assert_eq!(Rights::parse(root, map), expected, "{map}");
        }
    }
}
