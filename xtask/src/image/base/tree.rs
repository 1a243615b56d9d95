//! The directories and links of a base image, which decide where an entry of a layer above it goes.
//!
//! A layer that writes a file writes the directories above it as well. Those of the base must stay as they are, with mode
//! and owner, and a link such as `/lib -> usr/lib` must not become a directory: `COPY` of a Dockerfile follows it, too.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use tare_oci::entry::{Entry, EntryKind, Owner};
use tare_oci::path::ImagePath;
use tare_oci::reader::ReadEntry;
use tare_oci::units::Epoch;

/// As many links as the kernel follows before ELOOP.
const LINKS_LIMIT: usize = 40;

/// One entry of a layer, as far as it decides about others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedEntry {
    /// Its path, with each byte as a character.
    #[serde(rename = "p")]
    path: String,
    /// `d` or `l`; everything else is a file here.
    #[serde(rename = "k")]
    kind: char,
    #[serde(rename = "m", default, skip_serializing_if = "is_zero")]
    mode: u64,
    #[serde(rename = "u", default, skip_serializing_if = "is_zero")]
    uid: u64,
    #[serde(rename = "g", default, skip_serializing_if = "is_zero")]
    gid: u64,
    /// Seconds since 1970.
    #[serde(rename = "t", default, skip_serializing_if = "is_zero")]
    mtime: u64,
    /// The target of a link, with each byte as a character.
    #[serde(rename = "l", default, skip_serializing_if = "String::is_empty")]
    link: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn characters(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

fn bytes(characters: &str) -> Vec<u8> {
    characters.chars().map(|character| u8::try_from(character).unwrap_or(b'?')).collect()
}

impl From<ReadEntry> for ListedEntry {
    fn from(entry: ReadEntry) -> Self {
        let path = characters(&entry.path);
        let file = Self { path, kind: '-', mode: 0, uid: 0, gid: 0, mtime: 0, link: String::new() };
        match entry.kind {
            'd' => Self {
                kind: 'd',
                mode: entry.mode.into(),
                uid: entry.owner.0,
                gid: entry.owner.1,
                mtime: entry.mtime.try_into().unwrap_or(0),
                ..file
            },
            'l' => Self { kind: 'l', link: characters(&entry.link.unwrap_or_default()), ..file },
            _ => file,
        }
    }
}

/// What stands at a path of the base.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Directory { mode: u32, owner: Owner, mtime: Epoch },
    Link(Vec<u8>),
    File,
}

/// The files of an image, layer over layer. An image without a base has an empty one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BaseTree {
    /// By paths without a leading slash.
    nodes: BTreeMap<Vec<u8>, Node>,
}

/// Why an entry cannot be put above the base.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// Something above it is a file there.
    #[error("{path} cannot be in the image: {parent} is not a directory in the base")]
    NotADirectory {
        /// The entry.
        path: ImagePath,
        /// The file.
        parent: String,
    },
    /// Links above it lead in a circle.
    #[error("{0} cannot be in the image: links of the base lead in a circle")]
    Circle(ImagePath),
    /// A link above it leads to a name that cannot be in an image.
    #[error("{path} cannot be in the image: a link of the base leads to {target}")]
    Target {
        /// The entry.
        path: ImagePath,
        /// Where it would go.
        target: String,
    },
}

impl BaseTree {
    /// Puts a layer above those that are there (image-spec layer.md, "Whiteouts").
    pub(super) fn add_layer(&mut self, entries: Vec<ListedEntry>) {
        let entries: Vec<(Vec<u8>, ListedEntry)> =
            entries.into_iter().map(|entry| (normal(&bytes(&entry.path)), entry)).collect();
        for (path, _) in &entries {
            let (parent, name) = split(path);
            match name.strip_prefix(b".wh.") {
                Some(b".wh..opq") => self.remove_below(parent),
                Some(removed) => {
                    let path = joined(parent, removed);
                    self.remove_below(&path);
                    self.nodes.remove(&path);
                }
                None => {}
            }
        }
        for (path, entry) in entries {
            if split(&path).1.starts_with(b".wh.") {
                continue;
            }
            let node = match entry.kind {
                'd' => Node::Directory {
                    mode: u32::try_from(entry.mode).unwrap_or(0o755) & 0o7777,
                    owner: Owner {
                        uid: entry.uid.try_into().unwrap_or(0),
                        gid: entry.gid.try_into().unwrap_or(0),
                    },
                    mtime: Epoch::from_seconds(entry.mtime).unwrap_or(Epoch::OF_FILES),
                },
                'l' => Node::Link(bytes(&entry.link)),
                _ => Node::File,
            };
            match (&node, path.is_empty()) {
                (Node::Directory { .. }, _) => {}
                (_, true) => continue,
                (_, false) => self.remove_below(&path),
            }
            self.nodes.insert(path, node);
        }
    }

    fn remove_below(&mut self, path: &[u8]) {
        let begin = if path.is_empty() { Vec::new() } else { joined(path, b"") };
        let below = self.nodes.range(begin.clone()..).take_while(|(path, _)| path.starts_with(&begin));
        let below = below.filter(|(path, _)| !path.is_empty());
        let below: Vec<Vec<u8>> = below.map(|(path, _)| path.clone()).collect();
        for path in below {
            self.nodes.remove(&path);
        }
    }

    /// The directory that the base has at a path, as an entry.
    #[must_use]
    pub fn directory(&self, path: &ImagePath) -> Option<Entry> {
        match self.nodes.get(path.as_bytes()) {
            Some(Node::Directory { mode, owner, mtime }) => Some(Entry {
                owner: *owner,
                mtime: *mtime,
                ..Entry::new(path.clone(), EntryKind::Directory, *mode)
            }),
            _ => None,
        }
    }

    /// Whether the base has something else than a directory at a path.
    #[must_use]
    pub fn has_file(&self, path: &ImagePath) -> bool {
        matches!(self.nodes.get(path.as_bytes()), Some(Node::File | Node::Link(_)))
    }

    /// The place of an entry: links of the base above it are followed, and for a directory also one in its own place.
    ///
    /// # Errors
    /// When there is no such place.
    pub fn place(&self, path: &ImagePath, is_directory: bool) -> Result<ImagePath, TreeError> {
        if self.nodes.is_empty() || path.as_bytes().is_empty() {
            return Ok(path.clone());
        }
        let mut left: Vec<Vec<u8>> =
            path.as_bytes().split(|byte| *byte == b'/').rev().map(<[u8]>::to_vec).collect();
        let mut place: Vec<u8> = Vec::new();
        let mut links = 0;
        while let Some(component) = left.pop() {
            match component.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    place = split(&place).0.to_vec();
                    continue;
                }
                _ => {}
            }
            let next = joined(&place, &component);
            match self.nodes.get(&next) {
                Some(Node::Link(target)) if is_directory || !left.is_empty() => {
                    links += 1;
                    if links > LINKS_LIMIT {
                        return Err(TreeError::Circle(path.clone()));
                    }
                    if target.starts_with(b"/") {
                        place.clear();
                    }
                    left.extend(target.split(|byte| *byte == b'/').rev().map(<[u8]>::to_vec));
                }
                Some(Node::File) if !left.is_empty() => {
                    let parent = format!("/{}", String::from_utf8_lossy(&next));
                    return Err(TreeError::NotADirectory { path: path.clone(), parent });
                }
                _ => place = next,
            }
        }
        if place.is_empty() {
            return Ok(ImagePath::root());
        }
        ImagePath::from_bytes(&place).map_err(|_| TreeError::Target {
            path: path.clone(),
            target: format!("/{}", String::from_utf8_lossy(&place)),
        })
    }
}

/// Without slashes at the ends, and without components that change nothing.
fn normal(path: &[u8]) -> Vec<u8> {
    let parts = path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
    parts.collect::<Vec<_>>().join(&b'/')
}

/// The path of the directory, and the name.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

fn joined(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() { name.to_vec() } else { [parent, b"/", name].concat() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(path: &str, kind: char, mode: u64, link: &str) -> ListedEntry {
        let (path, link) = (path.to_owned(), link.to_owned());
        ListedEntry { path, kind, mode, uid: 0, gid: 0, mtime: 7, link }
    }

    fn debian() -> BaseTree {
        let mut tree = BaseTree::default();
        tree.add_layer(vec![
            listed("./", 'd', 0o755, ""),
            listed("tmp/", 'd', 0o1777, ""),
            listed("usr/", 'd', 0o755, ""),
            listed("usr/lib/", 'd', 0o755, ""),
            listed("lib", 'l', 0, "usr/lib"),
            listed("var/run", 'l', 0, "/run"),
            listed("a", 'l', 0, "b"),
            listed("b", 'l', 0, "a"),
            listed("up", 'l', 0, "usr/lib/../../tmp"),
            listed("etc/passwd", '-', 0, ""),
        ]);
        tree
    }

    #[test]
    fn links_of_the_base_are_followed_as_copy_does() {
        let tree = debian();
        let place = |path: &str, is_directory| {
            tree.place(&path.parse().unwrap(), is_directory).map(|path| path.to_string())
        };
        for (path, is_directory, expected) in [
            ("/lib/x.so", false, "/usr/lib/x.so"),
            ("/lib", false, "/lib"),
            ("/lib", true, "/usr/lib"),
            ("/var/run/app/pid", false, "/run/app/pid"),
            ("/up/x", false, "/tmp/x"),
            ("/new/place", true, "/new/place"),
            ("/etc/passwd", false, "/etc/passwd"),
            ("/", true, "/"),
        ] {
            assert_eq!(place(path, is_directory), Ok(expected.to_owned()), "{path}");
        }
        let error = place("/etc/passwd/x", false).unwrap_err().to_string();
        assert_eq!(error, "/etc/passwd/x cannot be in the image: /etc/passwd is not a directory in the base");
        let error = place("/a/x", false).unwrap_err().to_string();
        assert_eq!(error, "/a/x cannot be in the image: links of the base lead in a circle");
    }

    #[test]
    fn directories_of_the_base_keep_mode_owner_and_time() {
        let directory = debian().directory(&"/tmp".parse().unwrap()).unwrap();
        assert_eq!((directory.mode, directory.mtime.seconds()), (0o1777, 7));
        assert!(debian().directory(&"/lib".parse().unwrap()).is_none());
        assert!(debian().has_file(&"/etc/passwd".parse().unwrap()));
    }

    #[test]
    fn upper_layers_replace_and_remove() {
        let at = |tree: &BaseTree, path: &str| tree.nodes.contains_key(path.as_bytes());
        let mut tree = debian();
        tree.add_layer(vec![
            listed("usr/.wh.lib", '-', 0, ""),
            listed("usr/share/", 'd', 0o755, ""),
            listed("var", '-', 0, ""),
        ]);
        assert!(!at(&tree, "usr/lib") && at(&tree, "usr/share") && !at(&tree, "var/run"));
        tree.add_layer(vec![listed("usr/new", '-', 0, ""), listed("usr/.wh..wh..opq", '-', 0, "")]);
        assert!(!at(&tree, "usr/share") && at(&tree, "usr/new") && at(&tree, "usr"));
        // The whole image.
        tree.add_layer(vec![listed(".wh..wh..opq", '-', 0, ""), listed("x", '-', 0, "")]);
        assert_eq!(tree.nodes.keys().collect::<Vec<_>>(), [&b""[..], b"x"]);
    }

    #[test]
    fn a_list_of_names_in_any_encoding_is_read_again() {
        let mut entry = listed("", 'l', 0, "");
        (entry.path, entry.link) = (characters(b"\xff\xe4"), characters(b"\x80/x"));
        let text = serde_json::to_vec(&[entry.clone()]).unwrap();
        let read: Vec<ListedEntry> = serde_json::from_slice(&text).unwrap();
        assert_eq!((read[0].clone(), bytes(&read[0].path)), (entry, b"\xff\xe4".to_vec()));
    }
}
