//! The protocol between `tare-keeper` and its parent.
//!
//! One process per container. The process reads [`Command`]s from its stdin and writes [`Event`]s to its
//! stdout, a JSON document per line; its stderr is the container's stdout and stderr. When its stdin ends,
//! for whatever reason (also because the parent was killed), it kills and removes the container
//! and ends.
//!
//! All times are nanoseconds of CLOCK_MONOTONIC, which is one clock for all processes of a host.

pub mod cgroup;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What the process is asked to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum Command {
    /// Create a container; it waits for its start. Must be the first.
    Create(Box<Create>),
    /// Let it run.
    Start,
    /// Send a signal to its first process.
    Signal {
        /// As in signal(7).
        number: i32,
    },
    /// Kill it, if it still runs, and remove it with its cgroups. The process ends thereafter.
    Remove,
}

/// What is to be created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Create {
    /// Folder of `config.json` (runtime-spec bundle.md).
    pub bundle: PathBuf,
    /// Where runtimes keep the state of containers. It exists, and no other process uses it.
    pub state: PathBuf,
    /// Name of the container.
    pub id: String,
    /// Its cgroup, as the bundle has it: from the root of every hierarchy.
    pub cgroup: PathBuf,
    /// A program with the OCI command line (`create`, `start`, `delete`); none: libcontainer, in process.
    pub program: Option<PathBuf>,
    /// Whether to enter a new network namespace first and set loopback up. Runtimes with a command line do
    /// so by themselves when the bundle asks for it.
    pub new_network: bool,
    /// Kernel parameters of the new network namespace, by their names in sysctl(8).
    pub network_parameters: BTreeMap<String, String>,
    /// The root that the bundle names.
    pub root: Root,
    /// User and group that own the container's output, which it may open again by `/dev/stdout`.
    pub owner: (u32, u32),
    /// What libcontainer leaves to the keeper; other runtimes do it by themselves.
    pub last_step: Option<LastStep>,
}

/// The root of a container: a layer of its own over an image's files (overlayfs). It is mounted in the keeper's own
/// mount namespace, on the folder `rootfs` of the bundle, and goes with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// The image's files, which nothing here changes.
    pub lower: PathBuf,
    /// An empty folder for the layer. It is removed with the container.
    pub layer: PathBuf,
    /// Folders that the root must have, from its top.
    pub folders: Vec<PathBuf>,
    /// Folders that the root must have and every user may write to, with the sticky bit: for file systems in memory,
    /// which take a folder's mode.
    pub shared_folders: Vec<PathBuf>,
    /// Files that take the place of the image's, with their content.
    pub files: Vec<(PathBuf, String)>,
    /// Folders of the root that are mounted on the folders `volumes/0`, `volumes/1`, … of the layer.
    pub volumes: Vec<PathBuf>,
    /// Whether this is in a user namespace, where overlayfs keeps its attributes among the user's.
    pub user_namespace: bool,
}

/// What is done between the creation of a container and its program: with it, nothing could be created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastStep {
    /// Instructions of the filter of system calls (linux/filter.h), as big-endian numbers: code, jumps, operand.
    pub filter: Vec<u64>,
    /// The capabilities that are kept, as a set of bits (capget(2)).
    pub capabilities: u64,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// All but the image's program is there: namespaces, mounts, cgroup, limits.
    Created {
        /// Its first process, as numbered on the host.
        pid: i32,
        /// When the creation began.
        begun: u64,
        /// When it ended.
        at: u64,
        /// Whether what is written into its root is kept in memory, because no file system of this host can hold
        /// the layer. It counts as the container's memory.
        in_memory: bool,
    },
    /// It was let run.
    Started {
        /// When that was done.
        at: u64,
    },
    /// The image's program has taken the place of the runtime's.
    Executed {
        /// When that was seen.
        at: u64,
    },
    /// Its first process ended.
    Exited {
        /// When that was seen.
        at: u64,
        /// Exit code, unless a signal ended it.
        code: Option<i32>,
        /// The signal.
        signal: Option<i32>,
    },
    /// Nothing of it is left.
    Removed,
    /// The last command could not be done.
    Failed {
        /// Why, causes included.
        message: String,
    },
}

/// A document and the end of its line.
///
/// # Errors
/// When it cannot be serialised, which is a mistake in its type.
pub fn line<T: Serialize>(message: &T) -> serde_json::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_one_line_each_and_round_trip() {
        let create = Command::Create(Box::new(Create {
            bundle: "/b".into(),
            state: "/s".into(),
            id: "a\nb".to_owned(),
            cgroup: "/tare/a".into(),
            program: None,
            new_network: true,
            network_parameters: BTreeMap::new(),
            root: Root {
                lower: "/r".into(),
                layer: "/l".into(),
                folders: vec!["proc".into()],
                shared_folders: vec!["tmp".into()],
                files: vec![("etc/hosts".into(), "127.0.0.1 localhost\n".to_owned())],
                volumes: vec![],
                user_namespace: false,
            },
            owner: (0, 0),
            last_step: Some(LastStep { filter: vec![u64::MAX], capabilities: 1 }),
        }));
        for command in [create, Command::Start, Command::Signal { number: 15 }, Command::Remove] {
            let line = line(&command).unwrap();
            assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
            assert_eq!(serde_json::from_slice::<Command>(&line).unwrap(), command);
        }
        let exited = Event::Exited { at: u64::MAX, code: None, signal: Some(9) };
        assert_eq!(serde_json::from_slice::<Event>(&line(&exited).unwrap()).unwrap(), exited);
    }
}
