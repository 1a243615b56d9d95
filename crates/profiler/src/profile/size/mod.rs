//! The size pass: how large an image is and why, down to the crate. Exact where bytes are counted, called an
//! estimate where symbols are interpreted.
//!
//! Reads images that anybody built; nothing is unpacked and nothing is run.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use tare_oci::input;
use tare_oci::reader::{Encoding, ReadError, ReadImage, Source, read_layer};
use tare_oci::spec::Configuration;

mod attribution;
mod dependencies;
mod diff;
mod elf;
mod metrics;
mod parts;
mod program;
mod render;
mod symbol;
#[cfg(test)]
mod tests;
mod tree;

pub use attribution::{Attribution, CrateSize, FunctionSize, NATIVE};
pub use dependencies::PackageSize;
pub use diff::{Change, diff};
pub use elf::SegmentSize;
pub use metrics::measurements;
pub use parts::{built_from, parts};
pub use program::{ProgramSize, SectionSize, SymbolSource, program};
pub use render::{changes, section};
pub(super) use symbol::crate_of;
pub use tree::TreeError;

/// Larger programs are not looked into; they are held in memory whole.
const PROGRAM_LIMIT: u64 = 512 << 20;

/// Why an image has no sizes.
#[derive(Debug, thiserror::Error)]
pub enum SizeError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A layer has names that no image has.
    #[error("layer {layer}")]
    Tree {
        /// Its file.
        layer: String,
        /// What is wrong.
        source: TreeError,
    },
    /// The unstripped program cannot be read.
    #[error("cannot read {path}", path = path.display())]
    Unstripped {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The bytes of a whole image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageBytes {
    /// Of all layers as they are stored here: what is pulled, for a layout with compressed layers. Docker
    /// archives have them uncompressed as a rule.
    pub compressed: u64,
    /// Of all layers' tars.
    pub uncompressed: u64,
    /// Of the config.
    pub config: u64,
    /// Of the manifest; docker archives have none.
    pub manifest: Option<u64>,
    /// Config and layers as stored: the size of an image as `crane` and registries count it, without the
    /// manifest.
    pub total: u64,
    /// What the unpacked tree takes: regular files in whole blocks of 4096 bytes, hard links once, a
    /// block for each folder with the root, nothing for links and devices, holes of sparse files filled (as
    /// unpackers write them). `du` on ext4 says the same.
    pub on_disk: u64,
    /// Content of all files that a container sees, hard links once.
    pub content: u64,
    /// Everything but folders that a container sees.
    pub files: u64,
}

/// One layer, lowest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerSize {
    /// What made it, as the history says.
    pub created_by: Option<String>,
    /// `plain`, `gzip` or `zstd`, by its first bytes.
    pub encoding: String,
    /// Bytes of the blob.
    pub compressed: u64,
    /// Bytes of the tar.
    pub uncompressed: u64,
    /// What it takes when it is unpacked alone, as [`ImageBytes::on_disk`] counts.
    pub on_disk: u64,
    /// Everything but folders and whiteouts.
    pub files: u64,
    /// Bytes of its files that higher layers replace or hide.
    pub hidden: u64,
}

/// One file that a container sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSize {
    /// From the root, without leading slash; what is not UTF-8 is replaced.
    pub path: String,
    /// `-`, `l`, `c`, `b` or `p`, as `ls` shows it; `h` for a further name of a file listed before, and for
    /// a hard link to nothing.
    pub kind: char,
    /// Bytes of content; 0 for further names.
    pub size: u64,
    /// Bytes on disk.
    pub on_disk: u64,
    /// The number of the layer it is from, the lowest is 0.
    pub layer: usize,
}

/// What is stored in more than one layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Waste {
    /// dive's score, from 0 to 1: sum of the least sizes of all paths over the sum of all their sizes in
    /// all layers (dive/filetree/efficiency.go). 1 for one layer, however fat it is.
    pub efficiency: f64,
    /// Content stored in layers and seen by nobody: replaced or hidden by higher layers.
    pub hidden: u64,
    /// The worst paths, worst first, by the sum of their sizes.
    pub paths: Vec<WastedPath>,
}

/// Paths of [`Waste`] that are listed.
const WASTED_LISTED: usize = 50;

/// A path in two layers or more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WastedPath {
    /// Without leading slash.
    pub path: String,
    /// All its sizes together.
    pub bytes: u64,
    /// Layers that have it, whiteouts among them.
    pub layers: u64,
}

/// The sizes of an image, in bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct SizeResult {
    /// Names it goes by.
    pub names: Vec<String>,
    /// `linux/amd64`
    pub platform: String,
    /// The whole.
    pub bytes: ImageBytes,
    /// Lowest first.
    pub layers: Vec<LayerSize>,
    /// By path.
    pub files: Vec<FileSize>,
    /// What is stored twice.
    pub waste: Waste,
    /// What a container starts with, if that is an ELF file.
    pub program: Option<ProgramSize>,
    /// What was left out, and why, a sentence each.
    pub doubts: Vec<String>,
}

/// Measures an image. `unstripped` is the entrypoint's program before it was stripped, if it is at hand.
///
/// # Errors
/// When the image or the unstripped program cannot be read. What can be left out is left out, with a doubt.
pub fn run(source: &Source, image: &ReadImage, unstripped: Option<&Path>) -> Result<SizeResult, SizeError> {
    let mut doubts = Vec::new();
    let (mut layers, stack) = layers(source, image)?;
    let program = start_program(source, image, &stack, unstripped, &mut doubts)?;
    let mut hidden_sum = 0;
    for inode in stack.inodes.iter().filter(|inode| inode.names == 0) {
        let hidden = &mut layers[inode.layer].hidden;
        *hidden = hidden.saturating_add(inode.size);
        hidden_sum = inode.size.saturating_add(hidden_sum);
    }
    let sum = |of: fn(&LayerSize) -> u64| layers.iter().map(of).fold(0, u64::saturating_add);
    let compressed = sum(|layer| layer.compressed);
    let config = source.read(&image.config_file)?.len() as u64;
    let files = files(&stack);
    let bytes = ImageBytes {
        compressed,
        uncompressed: sum(|layer| layer.uncompressed),
        config,
        manifest: image.manifest.as_ref().map(|(descriptor, _)| descriptor.size),
        total: compressed.saturating_add(config),
        on_disk: stack.on_disk(),
        content: files.iter().map(|file| file.size).fold(0, u64::saturating_add),
        files: files.len() as u64,
    };
    Ok(SizeResult {
        names: image.names.clone(),
        platform: image.config.platform(),
        bytes,
        layers,
        files,
        waste: waste(&stack, hidden_sum),
        program,
        doubts,
    })
}

fn layers(source: &Source, image: &ReadImage) -> Result<(Vec<LayerSize>, tree::Stack), SizeError> {
    let mut stack = tree::Stack::default();
    let mut history = image.config.history_of_layers();
    let mut layers = Vec::new();
    for layer in &image.layers {
        let mut entries = Vec::new();
        let mut refused = Ok(());
        let mut place = 0;
        let facts = read_layer(source, layer, |entry, _| {
            let own = place;
            place += 1;
            if entry.kind == '?' {
                return Ok(());
            }
            // Before it is kept: a layer of a few megabytes can have names of gigabytes.
            refused = stack.admit(entry.path.len() + entry.link.as_ref().map_or(0, Vec::len));
            if refused.is_err() {
                return Err(io::Error::from(io::ErrorKind::InvalidData));
            }
            let path = tree::normal(&entry.path);
            let link = if entry.kind == 'h' { entry.link.as_deref().map(tree::normal) } else { entry.link };
            entries.push(tree::Entry { path, kind: entry.kind, size: entry.size, link, place: own });
            Ok(())
        });
        let tree_error = |error| SizeError::Tree { layer: layer.file.clone(), source: error };
        // What a damaged layer seems to hold says nothing.
        let facts = match facts {
            Err(error @ ReadError::Damaged { .. }) => return Err(error.into()),
            facts => facts,
        };
        refused.map_err(tree_error)?;
        let facts = facts?;
        let added = stack.push(entries).map_err(tree_error)?;
        let encoding = match facts.encoding {
            Encoding::Plain => "plain",
            Encoding::Gzip => "gzip",
            Encoding::Zstd => "zstd",
        };
        layers.push(LayerSize {
            created_by: history.next().and_then(|step| step.created_by().clone()),
            encoding: encoding.to_owned(),
            compressed: facts.size,
            uncompressed: facts.uncompressed_size,
            on_disk: added.on_disk,
            files: added.files,
            hidden: 0,
        });
    }
    Ok((layers, stack))
}

fn lossy(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

fn files(stack: &tree::Stack) -> Vec<FileSize> {
    let mut listed = vec![false; stack.inodes.len()];
    let mut files = Vec::new();
    for (path, node) in &stack.tree {
        let tree::Node::Inode(number, _) = node else { continue };
        let inode = &stack.inodes[*number];
        let first = !std::mem::replace(&mut listed[*number], true);
        files.push(FileSize {
            path: lossy(path),
            kind: if first { inode.kind } else { 'h' },
            size: if first { inode.size } else { 0 },
            on_disk: if first { inode.on_disk() } else { 0 },
            layer: inode.layer,
        });
    }
    files
}

fn waste(stack: &tree::Stack, hidden: u64) -> Waste {
    let repeated = stack.seen.iter().filter(|(_, seen)| seen.times > 1);
    let mut paths: Vec<WastedPath> = repeated
        .map(|(path, seen)| WastedPath { path: lossy(path), bytes: seen.total, layers: seen.times })
        .collect();
    paths.retain(|path| path.bytes > 0);
    paths.sort_by(|a, b| (b.bytes, &a.path).cmp(&(a.bytes, &b.path)));
    paths.truncate(WASTED_LISTED);
    Waste { efficiency: stack.efficiency(), hidden, paths }
}

/// What a shell and runc look for a command in when the image says nothing.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The path of the program that a container starts with, links followed.
fn entrypoint(config: &Configuration, stack: &tree::Stack, command: &str) -> Option<Vec<u8>> {
    let execution = &config.execution;
    let candidates: Vec<String> = if command.starts_with('/') {
        vec![command.to_owned()]
    } else if command.contains('/') {
        vec![format!("{}/{command}", execution.working_dir().as_deref().unwrap_or_default())]
    } else {
        let path = execution.env().iter().flatten().find_map(|variable| variable.strip_prefix("PATH="));
        path.unwrap_or(DEFAULT_PATH).split(':').map(|dir| format!("{dir}/{command}")).collect()
    };
    let resolved = candidates.iter().map(|candidate| stack.resolve(candidate.as_bytes(), true));
    resolved.into_iter().find(|path| matches!(stack.tree.get(path), Some(tree::Node::Inode(..))))
}

/// The program that a container starts with. None for a script.
fn start_program(
    source: &Source,
    image: &ReadImage,
    stack: &tree::Stack,
    unstripped: Option<&Path>,
    doubts: &mut Vec<String>,
) -> Result<Option<ProgramSize>, SizeError> {
    let execution = &image.config.execution;
    let mut command = [execution.entrypoint(), execution.cmd()].into_iter().flatten().flatten();
    let Some(command) = command.next() else { return Ok(None) };
    let path = entrypoint(&image.config, stack, command);
    let Some((path, tree::Node::Inode(number, _))) = path.and_then(|path| stack.tree.get_key_value(&path))
    else {
        doubts.push(format!("the entrypoint `{command}` is not in the image"));
        return Ok(None);
    };
    let (path, inode) = (lossy(path), &stack.inodes[*number]);
    if inode.size > PROGRAM_LIMIT {
        doubts
            .push(format!("/{path} is not looked into: {} bytes are more than {PROGRAM_LIMIT}", inode.size));
        return Ok(None);
    }
    let (mut place, mut data) = (0, Vec::new());
    read_layer(source, &image.layers[inode.layer], |_, content| {
        if place == inode.place {
            content.take(PROGRAM_LIMIT).read_to_end(&mut data)?;
        }
        place += 1;
        Ok(())
    })?;
    if !data.starts_with(b"\x7fELF") {
        return Ok(None);
    }
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |source| SizeError::Unstripped { path, source }
    };
    let unstripped = unstripped.map(|path| read_unstripped(path).map_err(failed(path))).transpose()?;
    Ok(Some(program(&path, &data, unstripped.as_deref(), doubts)))
}

/// The name of a symbol's function as people read it.
pub(super) fn readable(symbol: &str) -> String {
    attribution::name(symbol.as_bytes()).function
}

fn read_unstripped(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // It has its debug information, and may be larger than anything in an image.
    let limit = 2 * PROGRAM_LIMIT;
    input::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::other(format!("it has more than {limit} bytes")));
    }
    Ok(bytes)
}
