//! The file tree that a container sees, from the layers that it is stacked of: whiteouts, opaque folders,
//! replaced files and hard links (image-spec layer.md), and what is stored without ever being seen.
//!
//! Names only, no content: the tree grows with the number of files, not with their bytes, and both the
//! number and the length of names are bounded.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The unit in which file systems give out space: ext4, xfs and btrfs use 4096 bytes by default.
pub(super) const BLOCK: u64 = 4096;
/// Entries of all layers together. The largest images in use have some hundred thousand.
const ENTRIES_LIMIT: usize = 1_000_000;
/// Bytes of all names together, those of folders that no layer lists among them.
const NAMES_LIMIT: usize = 128 << 20;
/// `PATH_MAX` of Linux: nothing longer can be unpacked, or opened.
const PATH_LIMIT: usize = 4096;
/// As many symbolic links as the kernel follows before ELOOP.
const LINKS_LIMIT: usize = 40;

/// More or longer names than any real image has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TreeError(String);

/// One entry of a layer, as far as it matters for sizes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// From the root, without leading slash and without `.` and `..`.
    pub(super) path: Vec<u8>,
    /// As in `ls`: `-`, `d`, `l`, `h`, `c`, `b`, `p`.
    pub(super) kind: char,
    /// Bytes of content, holes of sparse files included.
    pub(super) size: u64,
    /// Target of a symbolic or hard link.
    pub(super) link: Option<Vec<u8>>,
    /// Its place in the layer, to find it again.
    pub(super) place: usize,
}

/// Everything with content or a target of its own; hard links share one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Inode {
    pub(super) kind: char,
    pub(super) size: u64,
    pub(super) link: Option<Vec<u8>>,
    pub(super) layer: usize,
    pub(super) place: usize,
    /// Under how many names it is seen; none when it is stored in vain.
    pub(super) names: usize,
}

impl Inode {
    /// What it takes on disk: regular files in whole blocks; links, devices and pipes live in the inode.
    pub(super) fn on_disk(&self) -> u64 {
        if self.kind == '-' { self.size.div_ceil(BLOCK).saturating_mul(BLOCK) } else { 0 }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    Directory,
    /// Its number, and whether this name came as a hard link to another.
    Inode(usize, bool),
}

/// What one layer adds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Added {
    /// Files, links and so on; no folders.
    pub(super) files: u64,
    /// Bytes on disk when it is unpacked alone, with the folders that hold its files.
    pub(super) on_disk: u64,
}

/// What dive saw of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) least: u64,
    pub(super) total: u64,
    pub(super) times: u64,
}

/// The layers so far.
#[derive(Debug, Default)]
pub(super) struct Stack {
    pub(super) tree: BTreeMap<Vec<u8>, Node>,
    pub(super) inodes: Vec<Inode>,
    pub(super) seen: BTreeMap<Vec<u8>, Seen>,
    entries: usize,
    names: usize,
    layers: usize,
}

/// A path as it stands in a tar, in one spelling.
pub(super) fn normal(path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join(&b'/')
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() { name.to_vec() } else { [dir, b"/", name].concat() }
}

/// First and last key of what lies below a folder: `/` is followed by `0` in ASCII.
fn below(dir: &[u8]) -> (Vec<u8>, Vec<u8>) {
    ([dir, b"/"].concat(), [dir, b"0"].concat())
}

impl Stack {
    /// Counts an entry before it is kept, by the length of its names.
    pub(super) fn admit(&mut self, length: usize) -> Result<(), TreeError> {
        self.entries += 1;
        if self.entries > ENTRIES_LIMIT {
            return Err(TreeError(format!(
                "more than {ENTRIES_LIMIT} files and folders; no image is that large"
            )));
        }
        if length > 2 * PATH_LIMIT {
            let what = format!("a path, or a link and its target, of {length} bytes");
            return Err(TreeError(format!("{what}; Linux opens no path of more than {PATH_LIMIT}")));
        }
        self.count_name(length)
    }

    /// Puts a layer on top, given as its entries in the order of the tar.
    pub(super) fn push(&mut self, entries: Vec<Entry>) -> Result<Added, TreeError> {
        self.see(&entries);
        // Whiteouts hide what lies below and never what is in the same layer, wherever they stand in it
        // (image-spec layer.md, "Whiteouts").
        let (marks, entries): (Vec<Entry>, Vec<Entry>) =
            entries.into_iter().partition(|entry| split(&entry.path).1.starts_with(b".wh."));
        for mark in &marks {
            self.white_out(&mark.path);
        }
        let first = self.inodes.len();
        let mut directories = BTreeSet::new();
        for entry in entries {
            self.add(entry, &mut directories)?;
        }
        self.layers += 1;
        let own = self.inodes[first..].iter().filter(|inode| inode.names > 0);
        let (files, bytes) = own.fold((0, 0_u64), |(files, bytes), inode| {
            (files + inode.names as u64, bytes.saturating_add(inode.on_disk()))
        });
        // The root is a folder too.
        let directories = directories.len() as u64 + 1;
        Ok(Added { files, on_disk: bytes.saturating_add(directories * BLOCK) })
    }

    fn count_name(&mut self, length: usize) -> Result<(), TreeError> {
        self.names += length;
        if self.names > NAMES_LIMIT {
            return Err(TreeError(format!("names of more than {NAMES_LIMIT} bytes; no image has that many")));
        }
        Ok(())
    }

    fn remove(&mut self, path: &[u8]) {
        if let Some(Node::Inode(number, _)) = self.tree.remove(path) {
            self.inodes[number].names -= 1;
        }
    }

    fn remove_below(&mut self, dir: &[u8]) {
        let inside: Vec<Vec<u8>> = if dir.is_empty() {
            self.tree.keys().cloned().collect()
        } else {
            let (from, to) = below(dir);
            self.tree.range(from..to).map(|(path, _)| path.clone()).collect()
        };
        for path in inside {
            self.remove(&path);
        }
    }

    fn white_out(&mut self, path: &[u8]) {
        let (dir, name) = split(path);
        let dir = self.resolve(dir, true);
        match name {
            b".wh..wh..opq" => self.remove_below(&dir),
            // aufs kept records of its own under such names.
            name if name.starts_with(b".wh..wh.") => {}
            name => {
                let hidden = join(&dir, &name[b".wh.".len()..]);
                self.remove_below(&hidden);
                self.remove(&hidden);
            }
        }
    }

    fn add(&mut self, entry: Entry, directories: &mut BTreeSet<Vec<u8>>) -> Result<(), TreeError> {
        if entry.path.is_empty() {
            return Ok(());
        }
        let (dir, name) = split(&entry.path);
        let dir = self.resolve(dir, true);
        let path = join(&dir, name);
        // Folders that no layer lists are made when it is unpacked.
        let ends = dir.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        for end in ends.chain((!dir.is_empty()).then_some(dir.len())) {
            self.directory(&dir[..end], directories)?;
        }
        if entry.kind == 'd' {
            return self.directory(&path, directories);
        }
        let linked = entry.link.as_ref().filter(|_| entry.kind == 'h').and_then(|link| {
            let target = self.resolve(link, false);
            match self.tree.get(&target) {
                Some(Node::Inode(number, _)) => Some(*number),
                _ => None,
            }
        });
        let number = linked.unwrap_or(self.inodes.len());
        if linked.is_none() {
            self.inodes.push(Inode {
                kind: entry.kind,
                // What a hard link to nothing says of its size is true of nothing.
                size: if entry.kind == '-' { entry.size } else { 0 },
                link: entry.link,
                layer: self.layers,
                place: entry.place,
                names: 0,
            });
        }
        // Before the old one goes: it may be a link to itself.
        self.inodes[number].names += 1;
        self.remove_below(&path);
        self.remove(&path);
        self.count_name(path.len())?;
        self.tree.insert(path, Node::Inode(number, linked.is_some()));
        Ok(())
    }

    fn directory(&mut self, path: &[u8], directories: &mut BTreeSet<Vec<u8>>) -> Result<(), TreeError> {
        if self.tree.get(path) != Some(&Node::Directory) {
            self.remove(path);
            self.count_name(path.len())?;
            self.tree.insert(path.to_vec(), Node::Directory);
        }
        if !directories.contains(path) {
            self.count_name(path.len())?;
            directories.insert(path.to_vec());
        }
        Ok(())
    }

    /// Where a path leads in the tree, symbolic links followed within the image; the last part only if
    /// asked. Layers of distributions put files below `/bin` long after it became a link to `usr/bin`.
    pub(super) fn resolve(&self, path: &[u8], follow_last: bool) -> Vec<u8> {
        fn parts(path: &[u8]) -> impl DoubleEndedIterator<Item = Vec<u8>> {
            path.split(|byte| *byte == b'/')
                .filter(|part| !part.is_empty() && *part != b".")
                .map(<[u8]>::to_vec)
        }
        let mut rest: VecDeque<Vec<u8>> = parts(path).collect();
        let mut resolved: Vec<u8> = Vec::new();
        let mut links = 0;
        while let Some(part) = rest.pop_front() {
            if part == b".." {
                let parent = split(&resolved).0.len();
                resolved.truncate(parent);
                continue;
            }
            let next = join(&resolved, &part);
            let target = match self.tree.get(&next) {
                Some(Node::Inode(number, _)) if follow_last || !rest.is_empty() => {
                    let inode = &self.inodes[*number];
                    inode.link.as_ref().filter(|_| inode.kind == 'l')
                }
                _ => None,
            };
            match target {
                Some(target) if links < LINKS_LIMIT => {
                    links += 1;
                    if target.starts_with(b"/") {
                        resolved.clear();
                    }
                    for part in parts(target).rev() {
                        rest.push_front(part);
                    }
                }
                _ => resolved = next,
            }
        }
        resolved
    }

    /// Keeps dive's books (dive/filetree/efficiency.go): of each layer the leaves, by name alone; the
    /// last of entries with one name; a whiteout counts what it removes of a folder, and nothing for a
    /// file, so that the file's least size becomes 0. Opaque folders are not in those books.
    fn see(&mut self, entries: &[Entry]) {
        let own: BTreeMap<&[u8], &Entry> = entries
            .iter()
            .filter(|entry| !split(&entry.path).1.starts_with(b".wh..wh.") && !entry.path.is_empty())
            .map(|entry| (entry.path.as_slice(), entry))
            .collect();
        for (path, entry) in &own {
            let (from, to) = below(path);
            let leaf = own.range(from.as_slice()..to.as_slice()).next().is_none();
            if !leaf {
                continue;
            }
            let (dir, name) = split(path);
            let (path, size) = match name.strip_prefix(b".wh.") {
                Some(hidden) => {
                    let hidden = join(dir, hidden);
                    let size = self.size_below(&hidden);
                    (hidden, size)
                }
                None => (path.to_vec(), if entry.kind == 'd' { 0 } else { entry.size }),
            };
            let seen = self.seen.entry(path).or_insert(Seen { least: u64::MAX, total: 0, times: 0 });
            seen.least = seen.least.min(size);
            seen.total = seen.total.saturating_add(size);
            seen.times += 1;
        }
    }

    fn size_below(&self, dir: &[u8]) -> u64 {
        let (from, to) = below(dir);
        let inside = self.tree.range(from..to).map(|(_, node)| match node {
            Node::Inode(number, false) => self.inodes[*number].size,
            Node::Inode(_, true) | Node::Directory => 0,
        });
        inside.fold(0, u64::saturating_add)
    }

    /// dive's score: the least size of every path over the sum of all its sizes; 1 for an image without
    /// content.
    pub(super) fn efficiency(&self) -> f64 {
        let (least, total) = self.seen.values().fold((0_u64, 0_u64), |(least, total), seen| {
            (least.saturating_add(seen.least), total.saturating_add(seen.total))
        });
        if total == 0 { 1.0 } else { least as f64 / total as f64 }
    }

    /// What the whole tree takes on disk, its folders (a block each, the root too) included.
    pub(super) fn on_disk(&self) -> u64 {
        let directories = self.tree.values().filter(|node| **node == Node::Directory).count() as u64 + 1;
        let files = self.inodes.iter().filter(|inode| inode.names > 0);
        files.map(Inode::on_disk).fold(directories * BLOCK, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, kind: char, size: u64, link: Option<&str>) -> Entry {
        let link = link.map(|link| link.as_bytes().to_vec());
        Entry { path: normal(path.as_bytes()), kind, size, link, place: 0 }
    }

    fn file(path: &str, size: u64) -> Entry {
        entry(path, '-', size, None)
    }

    fn stack(layers: &[Vec<Entry>]) -> Stack {
        let mut stack = Stack::default();
        for layer in layers {
            push(&mut stack, layer.clone()).unwrap();
        }
        stack
    }

    fn push(stack: &mut Stack, layer: Vec<Entry>) -> Result<Added, TreeError> {
        for entry in &layer {
            stack.admit(entry.path.len() + entry.link.as_ref().map_or(0, Vec::len))?;
        }
        stack.push(layer)
    }

    /// `path size`, folders without size.
    fn listing(stack: &Stack) -> Vec<String> {
        let line = |(path, node): (&Vec<u8>, &Node)| match node {
            Node::Directory => format!("{}/", String::from_utf8_lossy(path)),
            Node::Inode(number, _) => {
                format!("{} {}", String::from_utf8_lossy(path), stack.inodes[*number].size)
            }
        };
        stack.tree.iter().map(line).collect()
    }

    #[test]
    fn a_whiteout_hides_what_lies_below_and_not_what_is_beside_it() {
        let lower = vec![file("d/a", 1), file("d/b", 2), file("e/f/g", 4), file("d0", 8)];
        let upper = vec![file("d/a", 3), entry("d/.wh.b", '-', 0, None), entry(".wh.d", '-', 0, None)];
        let upper = [upper, vec![entry(".wh.e", '-', 0, None)]].concat();
        assert_eq!(listing(&stack(&[lower, upper])), ["d/", "d/a 3", "d0 8"]);
    }

    #[test]
    fn an_opaque_folder_hides_all_that_was_in_it_wherever_the_mark_stands() {
        let lower = vec![file("d/a", 1), file("d/s/b", 2), file("e", 4)];
        let upper = vec![file("d/new", 8), entry("d/.wh..wh..opq", '-', 0, None)];
        let both = stack(&[lower.clone(), upper]);
        assert_eq!(listing(&both), ["d/", "d/new 8", "e 4"]);
        let hidden: u64 = both.inodes.iter().filter(|inode| inode.names == 0).map(|inode| inode.size).sum();
        assert_eq!(hidden, 3);
        let all = stack(&[lower, vec![entry(".wh..wh..opq", '-', 0, None)]]);
        assert_eq!(listing(&all), Vec::<String>::new());
    }

    #[test]
    fn the_last_of_several_entries_with_one_name_counts() {
        let repeated = stack(&[vec![file("a", 1), file("./a", 2), file("/x/../a", 5000)]]);
        assert_eq!(listing(&repeated), ["a 5000"]);
        assert_eq!(repeated.on_disk(), 3 * BLOCK, "two blocks and the root");
    }

    #[test]
    fn hard_links_take_space_once() {
        let layer =
            vec![file("a", 5000), entry("b", 'h', 0, Some("a")), entry("c", 'h', 9, Some("no/where"))];
        let linked = stack(&[layer, vec![entry(".wh.a", '-', 0, None), entry("b", 'h', 0, Some("b"))]]);
        assert_eq!(listing(&linked), ["b 5000", "c 0"]);
        assert_eq!(linked.inodes[0].names, 1);
        assert_eq!(linked.on_disk(), 3 * BLOCK);
    }

    #[test]
    fn entries_behind_a_symbolic_link_land_where_it_leads_and_never_outside() {
        let lower = vec![entry("bin", 'l', 0, Some("usr/bin")), entry("out", 'l', 0, Some("../../.."))];
        let upper = vec![file("bin/sh", 1), file("out/etc/passwd", 2), entry("loop", 'l', 0, Some("loop"))];
        let last = vec![file("loop/x", 4)];
        let names = listing(&stack(&[lower, upper, last]));
        let expected = [
            "bin 0",
            "etc/",
            "etc/passwd 2",
            "loop/",
            "loop/x 4",
            "out 0",
            "usr/",
            "usr/bin/",
            "usr/bin/sh 1",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn a_file_in_the_place_of_a_folder_takes_all_that_was_in_it() {
        let replaced = stack(&[vec![file("d/a", 1)], vec![file("d", 2)], vec![file("d/b", 4)]]);
        assert_eq!(listing(&replaced), ["d/", "d/b 4"]);
    }

    #[test]
    fn efficiency_is_that_of_dive() {
        // One layer wastes nothing, whatever is in it.
        assert_eq!(stack(&[vec![file("a", 100), file("b", 1)]]).efficiency(), 1.0);
        assert_eq!(stack(&[]).efficiency(), 1.0);
        // Twice the same: half.
        assert_eq!(stack(&[vec![file("a", 100)], vec![file("a", 100)]]).efficiency(), 0.5);
        // A file removed: its least size is 0. (100 + 0) / (100 + 300)
        let removed = stack(&[vec![file("a", 100), file("b", 300)], vec![entry(".wh.b", '-', 0, None)]]);
        assert_eq!(removed.efficiency(), 0.25);
        // A folder removed costs its size again, under its own name: (300 + 300) / (300 + 300)
        let folder = stack(&[vec![file("d/b", 300)], vec![entry(".wh.d", '-', 0, None)]]);
        assert_eq!((folder.efficiency(), folder.seen[&b"d"[..]].total), (1.0, 300));
    }

    #[test]
    fn too_much_is_refused() {
        let long = "a/".repeat(5000);
        let refused = |entries| push(&mut Stack::default(), entries).unwrap_err().to_string();
        let error = refused(vec![file(&long, 1)]);
        assert!(error.contains(" of 9999 bytes"), "{error}");
        let error = refused(vec![file("a", 1); ENTRIES_LIMIT + 1]);
        assert!(error.contains("files and folders"), "{error}");
        // Folders that are only implied count too: each of these brings a thousand.
        let deep = |n: usize| file(&format!("{n}/{}", "a/".repeat(1000)), 1);
        let deep = (0..1000).map(deep).collect();
        let error = refused(deep);
        assert!(error.starts_with("names of more than"), "{error}");
    }
}
