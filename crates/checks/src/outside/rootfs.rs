//! Compares an image's root file system according to its layers with the result of another unpacker: path, type, mode,
//! owner, time, target, content and extended attributes.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::Context as _;

use crate::lab::expect::json;
use tare_oci::digest::Digest;
use tare_oci::reader::{LayerBlob, ReadImage, Source, read_layer};
use tare_tool::process::{Execute as _, Shell, cmd};

/// Paths without a leading slash; the root is empty.
pub(super) type Tree = BTreeMap<Vec<u8>, Facts>;

/// The properties of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    /// As `ls` shows it.
    pub(super) kind: char,
    pub(super) mode: u32,
    pub(super) owner: (u64, u64),
    pub(super) mtime: i64,
    /// Of a regular file.
    pub(super) content: Option<(Digest, u64)>,
    pub(super) link: Option<Vec<u8>>,
    /// Extended attributes.
    pub(super) attributes: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, mode, owner: (user, group), mtime, content, link, attributes } = self;
        write!(f, "{kind}{mode:04o} {user}:{group} at {mtime}")?;
        if let Some((digest, size)) = content {
            write!(f, ", {size} bytes of {}", digest.short())?;
        }
        if let Some(link) = link {
            write!(f, " -> {}", link.escape_ascii())?;
        }
        attributes
            .iter()
            .try_for_each(|(name, value)| write!(f, ", {}={}", name.escape_ascii(), value.escape_ascii()))
    }
}

/// The properties that an unpacker need not keep.
#[derive(Debug, Default)]
pub(super) struct Allowed {
    /// Paths that a runtime adds or replaces.
    pub(super) extra: &'static [&'static str],
    /// Folders whose time changes because a runtime writes into them.
    pub(super) other_time: &'static [&'static str],
}

/// The file system that all layers of an image give.
pub(super) fn of_image(source: &Source, image: &ReadImage) -> anyhow::Result<Tree> {
    let mut tree = Tree::new();
    for layer in &image.layers {
        tree.append(&mut of_layer(source, layer)?);
    }
    Ok(tree)
}

/// What one layer holds.
pub(super) fn of_layer(source: &Source, layer: &LayerBlob) -> anyhow::Result<Tree> {
    const XATTR: &[u8] = b"SCHILY.xattr.";
    let mut tree = Tree::new();
    read_layer(source, layer, |entry, content| {
        let path = entry.path.strip_prefix(b"./").unwrap_or(&entry.path);
        let path = path.strip_suffix(b"/").unwrap_or(path).to_vec();
        let content = match entry.kind {
            '-' => Some(Digest::of_reader(content)?),
            _ => None,
        };
        let attributes = entry
            .attributes
            .iter()
            .map(|(key, value)| (key.strip_prefix(XATTR).unwrap_or(key).to_vec(), value.clone()));
        let facts = Facts {
            kind: entry.kind,
            mode: entry.mode & 0o7777,
            owner: entry.owner,
            mtime: entry.mtime,
            content,
            link: entry.link,
            attributes: attributes.collect(),
        };
        tree.insert(path, facts);
        Ok(())
    })?;
    Ok(tree)
}

/// What lies in a folder. Other file systems in it, such as `/proc`, are left out.
pub(super) fn of_folder(root: &Path) -> anyhow::Result<Tree> {
    let mut tree = Tree::new();
    let device = fs::metadata(root).with_context(|| format!("cannot read {}", root.display()))?.dev();
    walk(root, root, device, &mut tree)?;
    for (path, attributes) in attributes(root)? {
        if let Some(facts) = tree.get_mut(&path) {
            facts.attributes = attributes;
        }
    }
    Ok(tree)
}

fn walk(root: &Path, path: &Path, device: u64, tree: &mut Tree) -> anyhow::Result<()> {
    let read = || format!("cannot read {}", path.display());
    // A root that is itself a link, as in /proc/ID/root, is looked through.
    let metadata = if path == root { fs::metadata(path) } else { fs::symlink_metadata(path) };
    let metadata = metadata.with_context(read)?;
    let kind = metadata.file_type();
    if kind.is_dir() && metadata.dev() != device {
        return Ok(());
    }
    let mut facts = Facts {
        kind: '?',
        mode: metadata.mode() & 0o7777,
        owner: (metadata.uid().into(), metadata.gid().into()),
        mtime: metadata.mtime(),
        content: None,
        link: None,
        attributes: BTreeMap::new(),
    };
    if kind.is_symlink() {
        facts.kind = 'l';
        facts.link = Some(fs::read_link(path).with_context(read)?.as_os_str().as_bytes().to_vec());
    } else if kind.is_file() {
        facts.kind = '-';
        facts.content = Some(Digest::of_reader(File::open(path).with_context(read)?).with_context(read)?);
    } else if kind.is_dir() {
        facts.kind = 'd';
        for entry in fs::read_dir(path).with_context(read)? {
            walk(root, &entry.with_context(read)?.path(), device, tree)?;
        }
    }
    let relative = path.strip_prefix(root).unwrap_or(path);
    tree.insert(relative.as_os_str().as_bytes().to_vec(), facts);
    Ok(())
}

type Attributes = BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>>;

/// The extended attributes of everything in a folder: std does not read them.
fn attributes(root: &Path) -> anyhow::Result<Attributes> {
    const SCRIPT: &str = "
import json, os, sys
root, found = os.fsencode(sys.argv[1]), {}
device = os.stat(root).st_dev
for folder, folders, files in os.walk(root):
    folders[:] = [n for n in folders if os.lstat(os.path.join(folder, n)).st_dev == device]
    for name in folders + files:
        path = os.path.join(folder, name)
        names = os.listxattr(path, follow_symlinks=False)
        if names:
            values = {os.fsencode(n).hex(): os.getxattr(path, n, follow_symlinks=False).hex() for n in names}
            found[os.path.relpath(path, root).hex()] = values
json.dump(found, sys.stdout)
";
    let sh = Shell::new()?;
    let output = cmd!(sh, "python3 -c {SCRIPT} {root}").capture()?;
    let found: BTreeMap<String, BTreeMap<String, String>> =
        serde_json::from_value(json("python3", &output)?)?;
    found
        .iter()
        .map(|(path, attributes)| {
            let attributes = attributes.iter().map(|(name, value)| Ok((unhex(name)?, unhex(value)?)));
            Ok((unhex(path)?, attributes.collect::<anyhow::Result<_>>()?))
        })
        .collect()
}

/// Bytes from their hexadecimal digits.
pub(super) fn unhex(text: &str) -> anyhow::Result<Vec<u8>> {
    let digits: Vec<char> = text.chars().collect();
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16);
    digits.chunks(2).map(|pair| byte(pair).with_context(|| format!("{text} is not hexadecimal"))).collect()
}

/// Fails with every difference, up to a screenful.
pub(super) fn compare(what: &str, found: &Tree, expected: &Tree, allowed: &Allowed) -> anyhow::Result<()> {
    const SHOWN: usize = 12;
    let is = |list: &[&str], path: &[u8]| list.iter().any(|item| item.as_bytes() == path);
    let mut differences = Vec::new();
    for (path, expected) in expected {
        if is(allowed.extra, path) {
            continue;
        }
        let shown = path.escape_ascii();
        match found.get(path) {
            None => differences.push(format!("/{shown} is missing")),
            Some(found) => {
                let mut found = found.clone();
                if is(allowed.other_time, path) {
                    found.mtime = expected.mtime;
                }
                if found != *expected {
                    differences.push(format!("/{shown} is {found}, expected {expected}"));
                }
            }
        }
    }
    let extra = found.keys().filter(|path| !expected.contains_key(*path) && !is(allowed.extra, path));
    differences.extend(extra.map(|path| format!("/{} is not in the image", path.escape_ascii())));
    let count = differences.len();
    differences.truncate(SHOWN);
    anyhow::ensure!(count == 0, "{what}: {count} differences: {}", differences.join("; "));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_digits_become_bytes() {
        assert_eq!(unhex("00ff0a").unwrap(), [0, 255, 10]);
        assert!(unhex("0g").is_err());
    }
}
