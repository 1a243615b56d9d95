//! Plans the layers of a definition: lists every entry of the image before any byte is written.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};

use super::base::tree::BaseTree;
use super::certificates;
use super::definition::values::FileTime;
use super::definition::{APPLICATION_LAYER, Definition, EntryDefinition, Position, Volume, What};
use super::libraries::Library;
use super::zoneinfo::{Zone, zones};
use tare_oci::entry::{Content, Entry, EntryKind, InMemory, Owner, Tree};
use tare_oci::input;
use tare_oci::layer::LayerPlan;
use tare_oci::path::{ImagePath, ImagePathError};
use tare_oci::units::Epoch;
use tare_tool::exit::Hinted;

/// The binary that goes into an image.
#[derive(Debug, Clone)]
pub struct Binary {
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub bytes: Arc<InMemory>,
    /// The files of the host that it needs, if the definition wants them.
    pub libraries: Vec<Library>,
}

impl Binary {
    /// Where it goes when the definition does not say.
    ///
    /// # Errors
    /// When the name cannot be in an image.
    pub fn usual_path(&self) -> Result<ImagePath, ImagePathError> {
        format!("/app/{}", self.name).parse()
    }
}

/// What lies below the layers.
#[derive(Clone, Copy)]
pub struct Base<'a> {
    /// The files of the base image.
    pub tree: &'a BaseTree,
    /// The owner of volumes, if it is known.
    pub user: Option<Owner>,
}

/// Who writes a path.
#[derive(Clone)]
struct Writer {
    layer: usize,
    place: Option<Position>,
    /// Named by an entry itself, or found in a tree.
    named: bool,
}

struct Plan<'a> {
    definition: &'a Definition,
    root: &'a Path,
    /// SOURCE_DATE_EPOCH, else the commit's time.
    commit: Epoch,
    base: Base<'a>,
    /// Every path of the image once, whichever layer it is in.
    paths: BTreeMap<ImagePath, (Entry, Writer)>,
}

/// Plans the layers of an image, lowest first. Layers without an entry are left out.
///
/// # Errors
/// When a file is missing or cannot be shipped, or entries contradict each other.
pub fn plan(
    definition: &Definition,
    root: &Path,
    binary: &Binary,
    commit: Epoch,
    base: Base<'_>,
) -> anyhow::Result<Vec<LayerPlan>> {
    let mut plan = Plan { definition, root, commit, base, paths: BTreeMap::new() };
    for (at, layer) in definition.layers.iter().enumerate() {
        for entry in &layer.entries {
            plan.add(at, entry, binary).with_context(|| plan.place(at, entry.place))?;
        }
    }
    plan.add_volumes()?;
    plan.check_parents()?;
    Ok(plan.into_layers())
}

impl Plan<'_> {
    /// An entry as errors name it: the definition's file, line and column, or the image's name where there is none,
    /// and the layer.
    fn place(&self, layer: usize, place: Option<Position>) -> String {
        // As the errors of its syntax show it.
        let file = self.definition.file.as_ref().map(|file| file.strip_prefix(self.root).unwrap_or(file));
        let place = match (file, place) {
            (Some(file), Some(Position { line, column })) => format!("{}:{line}:{column}", file.display()),
            (Some(file), None) => file.display().to_string(),
            (None, _) => format!("image {}", self.definition.name),
        };
        format!("{place}: layer {}", self.definition.layers[layer].name)
    }

    fn time(&self, time: FileTime) -> Epoch {
        match time {
            FileTime::Constant => Epoch::OF_FILES,
            FileTime::Commit => self.commit,
        }
    }

    fn writer_name(&self, writer: &Writer) -> String {
        let name = &self.definition.layers[writer.layer].name;
        writer.place.map_or_else(|| name.clone(), |place| format!("{name} (line {})", place.line))
    }

    fn put(&mut self, entry: Entry, writer: Writer) -> anyhow::Result<()> {
        let entry = self.above_base(entry, writer.named)?;
        if let Some((known, known_writer)) = self.paths.get(&entry.path) {
            let both_dirs =
                matches!((&known.kind, &entry.kind), (EntryKind::Directory, EntryKind::Directory));
            // Directories of trees may meet; an entry that names one decides about its mode.
            let one_decides = both_dirs && !(known_writer.named && writer.named);
            if !one_decides {
                let (first, second) = (self.writer_name(known_writer), self.writer_name(&writer));
                bail!("{} is written twice: by layer {first} and by layer {second}", entry.path);
            }
            if !writer.named {
                return Ok(());
            }
        }
        self.paths.insert(entry.path.clone(), (entry, writer));
        Ok(())
    }

    /// The entry in its place above the base. A directory of a tree leaves the base's as it is.
    fn above_base(&self, entry: Entry, is_named: bool) -> anyhow::Result<Entry> {
        let is_directory = matches!(entry.kind, EntryKind::Directory);
        let path = self.base.tree.place(&entry.path, is_directory)?;
        if is_directory
            && !is_named
            && let Some(directory) = self.base.tree.directory(&path)
        {
            return Ok(directory);
        }
        if path == entry.path {
            return Ok(entry);
        }
        // The path of a tree's file says where it is in the folder that is copied.
        let kind = match (entry.source(), entry.kind) {
            (Some(source), EntryKind::File(content)) => {
                EntryKind::File(Content::File(source.into(), content.size()))
            }
            (_, kind) => kind,
        };
        Ok(Entry { path, kind, ..entry })
    }

    fn add(&mut self, layer: usize, definition: &EntryDefinition, binary: &Binary) -> anyhow::Result<()> {
        let writer = Writer { layer, place: definition.place, named: true };
        let mtime = self.time(definition.mtime);
        let entry = |path: ImagePath, kind: EntryKind, mode: u32| Entry {
            owner: definition.owner,
            mtime,
            capabilities: definition.capabilities.map(Box::new),
            ..Entry::new(path, kind, definition.mode.unwrap_or(mode))
        };
        let bytes = |bytes: Vec<u8>| EntryKind::File(Content::Bytes(InMemory::new(bytes)));
        match &definition.what {
            What::Dir(path) => self.put(entry(path.clone(), EntryKind::Directory, 0o755), writer),
            What::Symlink { path, to } => {
                let target = EntryKind::Symlink(to.as_bytes().into());
                self.put(entry(path.clone(), target, 0o777), writer)
            }
            What::File { path, from } => {
                let (source, metadata) = self.locate(from)?;
                if !metadata.is_file() {
                    bail!("{} is not a file", source.display());
                }
                let mode = file_mode(&metadata);
                let content = Content::File(source.into(), metadata.len());
                self.put(entry(path.clone(), EntryKind::File(content), mode), writer)
            }
            What::Tree { path, from } => {
                let (source, metadata) = self.locate(from)?;
                if !metadata.is_dir() {
                    bail!("{} is not a folder", source.display());
                }
                let tree = Arc::new(Tree { source, destination: path.clone() });
                let folder = Entry {
                    mode: tree_folder_mode(definition),
                    ..entry(path.clone(), EntryKind::Directory, 0o755)
                };
                self.put(folder, Writer { named: false, ..writer })?;
                self.walk(&tree, path, &tree.source, definition, layer)
            }
            What::Binary(path) => {
                let path = match path {
                    Some(path) => path.clone(),
                    None => binary.usual_path()?,
                };
                let content = EntryKind::File(Content::Bytes(Arc::clone(&binary.bytes)));
                // Nobody needs to write to it, and scanners look only at executable files.
                self.put(entry(path, content, 0o555), writer)
            }
            What::CaCertificates(path) => {
                self.put(entry(path.clone(), bytes(certificates::bundle()), 0o644), writer)
            }
            What::Zoneinfo(path) => {
                for (name, zone) in zones() {
                    let (kind, mode) = match zone {
                        Zone::File(rules) => (bytes(rules.to_vec()), 0o644),
                        Zone::Link(target) => (EntryKind::Symlink(target.as_bytes().into()), 0o777),
                    };
                    let mode = if matches!(kind, EntryKind::File(_)) {
                        definition.mode.unwrap_or(mode)
                    } else {
                        mode
                    };
                    let path = path.join(name.as_bytes())?;
                    self.put(Entry { mode, ..entry(path, kind, mode) }, writer.clone())?;
                }
                Ok(())
            }
            What::Libraries => binary.libraries.iter().try_for_each(|library| {
                let content = EntryKind::File(Content::Bytes(Arc::clone(&library.bytes)));
                self.put(entry(library.path.clone(), content, library.mode), writer.clone())
            }),
            What::Skeleton => skeleton()?.into_iter().try_for_each(|entry| self.put(entry, writer.clone())),
        }
    }

    /// Where a path of the definition is; symlinks are followed, but not out of the workspace.
    fn locate(&self, from: &Path) -> anyhow::Result<(PathBuf, fs::Metadata)> {
        let path = self.definition.dir.join(from);
        let real = fs::canonicalize(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                let hint = "`from` is relative to the image's folder";
                Hinted::new(cannot_read(&path), hint).because(error).into()
            }
            _ => anyhow::Error::new(error).context(cannot_read(&path)),
        })?;
        let root = fs::canonicalize(self.root).with_context(|| cannot_read(self.root))?;
        if !real.starts_with(root) {
            let hint = "copy it into the workspace, so that every checkout has it";
            return Err(Hinted::new(format!("{} is outside the workspace", path.display()), hint).into());
        }
        let metadata = fs::metadata(&real).with_context(|| cannot_read(&path))?;
        Ok((real, metadata))
    }

    fn walk(
        &mut self,
        tree: &Arc<Tree>,
        at: &ImagePath,
        dir: &Path,
        definition: &EntryDefinition,
        layer: usize,
    ) -> anyhow::Result<()> {
        for found in fs::read_dir(dir).with_context(|| cannot_read(dir))? {
            let found = found.with_context(|| cannot_read(dir))?;
            let source = found.path();
            let read = || cannot_read(&source);
            let path = at.join(&name_bytes(&found.file_name()))?;
            let kind = found.file_type().with_context(read)?;
            let mtime = self.time(definition.mtime);
            let entry =
                |kind, mode| Entry { owner: definition.owner, mtime, ..Entry::new(path.clone(), kind, mode) };
            let entry = if kind.is_dir() {
                entry(EntryKind::Directory, tree_folder_mode(definition))
            } else if kind.is_symlink() {
                let target = fs::read_link(&source).with_context(read)?;
                let target = name_bytes(target.as_os_str());
                check_link(tree, &path, &source, &target)?;
                entry(EntryKind::Symlink(target.into()), 0o777)
            } else if kind.is_file() {
                let metadata = found.metadata().with_context(read)?;
                let mode = definition.mode.unwrap_or_else(|| file_mode(&metadata));
                entry(EntryKind::File(Content::InTree(Arc::clone(tree), metadata.len())), mode)
            } else {
                let kind = input::special_kind(kind);
                let message = format!("{} is a {kind}, which cannot go into an image", source.display());
                return Err(Hinted::new(message, "remove it, or name the files one by one").into());
            };
            self.put(entry, Writer { layer, place: definition.place, named: false })?;
            if kind.is_dir() {
                self.walk(tree, &path, &source, definition, layer)?;
            }
        }
        Ok(())
    }

    /// A volume's directory belongs to the user, who could not write to it otherwise: runtimes create
    /// a missing one for root.
    fn add_volumes(&mut self) -> anyhow::Result<()> {
        let layers = &self.definition.layers;
        let application = layers
            .iter()
            .position(|layer| layer.entries.iter().any(|entry| matches!(entry.what, What::Binary(_))))
            .or_else(|| layers.iter().position(|layer| layer.name == APPLICATION_LAYER))
            .unwrap_or(0);
        for Volume { path, place } in &self.definition.config.volumes {
            let place = Some(*place);
            let path = &self.base.tree.place(path, true).with_context(|| self.place(application, place))?;
            if self.base.tree.has_file(path) && !self.paths.contains_key(path) {
                let place = self.place(application, place);
                bail!("{place}: {path} cannot be a volume: it is not a directory in the base");
            }
            match self.paths.get(path) {
                Some((Entry { kind: EntryKind::Directory, .. }, _)) => {}
                Some((_, writer)) => {
                    bail!(
                        "{}: {path} cannot be a volume: it is not a directory but written by layer {}",
                        self.place(writer.layer, place),
                        self.writer_name(writer)
                    );
                }
                None if self.base.tree.directory(path).is_some() => {}
                None => {
                    let owner = self.base.user.ok_or_else(|| self.unknown_owner(path))?;
                    let entry = Entry { owner, ..Entry::new(path.clone(), EntryKind::Directory, 0o755) };
                    let writer = Writer { layer: application, place, named: false };
                    self.paths.insert(path.clone(), (entry, writer));
                }
            }
        }
        Ok(())
    }

    fn unknown_owner(&self, volume: &ImagePath) -> Hinted {
        let message = format!(
            "image {}: the owner of the volume {volume} is not known: the base has a user without a number",
            self.definition.name
        );
        Hinted::new(message, "set `user` under [config] in numbers, such as \"1000:1000\"")
    }

    fn check_parents(&self) -> anyhow::Result<()> {
        for (path, (_, writer)) in &self.paths {
            for parent in std::iter::successors(path.parent(), ImagePath::parent) {
                match self.paths.get(&parent) {
                    Some((Entry { kind: EntryKind::Directory, .. }, _)) | None => {}
                    Some((_, of_parent)) => bail!(
                        "{}: {path} cannot be in the image: {parent} is not a directory but written by layer {}",
                        self.place(writer.layer, writer.place),
                        self.writer_name(of_parent)
                    ),
                }
            }
        }
        Ok(())
    }

    /// Every layer with the directories that its entries lie in, in its own order. A layer writes a
    /// directory that it only passes through with the mode and owner of the entry that names it:
    /// anything else would change it.
    fn into_layers(self) -> Vec<LayerPlan> {
        let layers = &self.definition.layers;
        let mut parents: Vec<BTreeSet<ImagePath>> = layers.iter().map(|_| BTreeSet::new()).collect();
        for (path, (_, writer)) in &self.paths {
            for parent in std::iter::successors(path.parent(), ImagePath::parent) {
                // The entry that put it there has added the folders above it as well.
                if !parents[writer.layer].insert(parent) {
                    break;
                }
            }
        }
        let mut entries: Vec<Vec<Entry>> = layers.iter().map(|_| Vec::new()).collect();
        for (layer, parents) in parents.into_iter().enumerate() {
            for path in parents {
                match self.paths.get(&path) {
                    Some((_, writer)) if writer.layer == layer => {}
                    Some((entry, _)) => entries[layer].push(entry.clone()),
                    None => {
                        let of_base = self.base.tree.directory(&path);
                        let new = || Entry::new(path, EntryKind::Directory, 0o755);
                        entries[layer].push(of_base.unwrap_or_else(new));
                    }
                }
            }
        }
        for (entry, writer) in self.paths.into_values() {
            entries[writer.layer].push(entry);
        }
        let named = layers.iter().map(|layer| layer.name.clone()).zip(entries);
        named
            .filter(|(_, entries)| !entries.is_empty())
            .map(|(name, mut entries)| {
                entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
                LayerPlan { name, entries }
            })
            .collect()
    }
}

/// What programs expect of any system: users with numbers, homes and a place for temporary files. The
/// numbers are those of Debian and distroless. musl reads no nsswitch.conf, and claiming to be a
/// distribution (os-release) would make scanners look for packages that are not there.
fn skeleton() -> Result<Vec<Entry>, ImagePathError> {
    const PASSWD: &str = "root:x:0:0:root:/root:/sbin/nologin\n\
        nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n\
        nobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\n";
    const GROUP: &str = "root:x:0:\nnonroot:x:65532:\nnobody:x:65534:\n";
    let nonroot = Owner { uid: 65532, gid: 65532 };
    let file = |text: &str| EntryKind::File(Content::Bytes(InMemory::new(text.into())));
    [
        ("/etc/passwd", file(PASSWD), 0o644, Owner::default()),
        ("/etc/group", file(GROUP), 0o644, Owner::default()),
        ("/root", EntryKind::Directory, 0o700, Owner::default()),
        ("/home/nonroot", EntryKind::Directory, 0o700, nonroot),
        ("/tmp", EntryKind::Directory, 0o1777, Owner::default()),
    ]
    .into_iter()
    .map(|(path, kind, mode, owner)| Ok(Entry { owner, ..Entry::new(path.parse()?, kind, mode) }))
    .collect()
}

fn cannot_read(path: &Path) -> String {
    format!("cannot read {}", path.display())
}

/// A link of a tree must stay in the tree, as seen from where it lies there.
fn check_link(tree: &Tree, path: &ImagePath, source: &Path, target: &[u8]) -> Result<(), Hinted> {
    let escape = || {
        let (source, target) = (source.display(), String::from_utf8_lossy(target));
        Hinted::new(
            format!("{source} links to {target}, which is outside the tree"),
            "replace it by what it points to, or write a `symlink` entry",
        )
    };
    let mut parts: Vec<&[u8]> = match target.strip_prefix(b"/") {
        Some(_) => Vec::new(),
        None => {
            let mut parts: Vec<&[u8]> = path.as_bytes().split(|byte| *byte == b'/').collect();
            parts.pop();
            parts
        }
    };
    let depth =
        tree.destination.as_bytes().split(|byte| *byte == b'/').filter(|part| !part.is_empty()).count();
    let relative = !target.starts_with(b"/");
    for part in target.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
                // A link out of the tree and into it again would depend on the tree's name in the image.
                if relative && parts.len() < depth {
                    return Err(escape());
                }
            }
            part => parts.push(part),
        }
    }
    let resolved = parts.join(&b'/');
    let inside = resolved.is_empty() && tree.destination.as_bytes().is_empty()
        || ImagePath::from_bytes(&resolved).is_ok_and(|resolved| tree.destination.contains(&resolved));
    if inside { Ok(()) } else { Err(escape()) }
}

/// The mode of a tree's folders: users who may read the files may enter the folders.
fn tree_folder_mode(definition: &EntryDefinition) -> u32 {
    definition.mode.map_or(0o755, |mode| mode & 0o7777 | (mode & 0o444) >> 2)
}

/// Checkouts differ in everything but the executable bit, so that alone counts.
#[cfg(unix)]
fn file_mode(metadata: &fs::Metadata) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    if metadata.permissions().mode() & 0o111 == 0 { 0o644 } else { 0o755 }
}

/// Where files have no executable bit, `mode` has to say it.
#[cfg(not(unix))]
fn file_mode(_: &fs::Metadata) -> u32 {
    0o644
}

#[cfg(unix)]
fn name_bytes(name: &std::ffi::OsStr) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt as _;
    name.as_bytes().to_vec()
}

/// Paths there may use backslashes; in an image they never do.
#[cfg(not(unix))]
fn name_bytes(name: &std::ffi::OsStr) -> Vec<u8> {
    name.to_string_lossy().replace('\\', "/").into_bytes()
}
