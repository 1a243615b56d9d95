//! The size pass: what an image weighs and why, down to the crate. Exact where bytes are counted, called an
//! estimate where symbols are interpreted.
//!
//! Reads images that anybody built; nothing is unpacked and nothing is run.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tare_oci::digest::{DiffId, Digest};
use tare_oci::input;
use tare_oci::reader::{Encoding, ReadError, ReadImage, Source, read_layer};
use tare_oci::spec::Config;

mod attribution;
mod dependencies;
mod diff;
mod elf;
mod metrics;
mod program;
mod render;
mod symbol;
#[cfg(test)]
mod tests;
mod tree;

pub use attribution::{Attribution, CrateSize, FunctionSize, NATIVE};
pub use dependencies::PackageSize;
pub use diff::{Change, ProgramDiff, SizeDiff, diff};
pub use elf::SegmentSize;
pub use metrics::measurements;
pub use program::{ProgramSize, SectionSize, SymbolSource, program};
pub use render::{diff_markdown, diff_text, markdown, section, text};
pub use tree::TreeError;

/// Larger programs are not looked into; they are held in memory whole.
const PROGRAM_LIMIT: u64 = 512 << 20;
/// Beside the entrypoint, programs and libraries from this size on are looked into, ...
const PROGRAM_THRESHOLD: u64 = 1 << 20;
/// ... the largest of them.
const PROGRAMS_LIMIT: usize = 16;

/// Why an image cannot be weighed.
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
    Twin {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What a reader of the figures should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum SizeDoubt {
    /// The unstripped program is not the one in the image, so its symbols were not used.
    #[error(
        "the unstripped twin of /{path} is not the program in the image: {what}; its symbols are not used"
    )]
    TwinDiffers {
        /// The program.
        path: String,
        /// The first difference.
        what: String,
    },
    /// A program was not looked into, or not as far as possible.
    #[error("/{path} is not looked into: {why}")]
    Unreadable {
        /// The program.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// There is no such file, or it cannot be one.
    #[error("the entrypoint `{command}` is not in the image")]
    NoEntrypoint {
        /// As the config has it.
        command: String,
    },
}

/// The bytes of a whole image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LayerSize {
    /// Of the blob.
    pub digest: Digest,
    /// Of the tar.
    pub diff_id: DiffId,
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Waste {
    /// dive's score, from 0 to 1: sum of the least sizes of all paths over the sum of all their sizes in
    /// all layers (dive/filetree/efficiency.go). 1 for one layer, however fat it is.
    pub efficiency: f64,
    /// dive's "wasted bytes": all sizes of paths that are in two layers or more, the one that is used
    /// among them.
    pub dive_wasted: u64,
    /// Content stored in layers and seen by nobody: replaced or hidden by higher layers.
    pub hidden: u64,
    /// The worst paths, worst first, by the sum of their sizes.
    pub paths: Vec<WastedPath>,
}

/// Paths of [`Waste`] that are listed.
const WASTED_LISTED: usize = 50;

/// A path in two layers or more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WastedPath {
    /// Without leading slash.
    pub path: String,
    /// All its sizes together.
    pub bytes: u64,
    /// Layers that have it, whiteouts among them.
    pub layers: u64,
}

/// What an image weighs. All sizes are in bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SizeResult {
    /// Names it goes by.
    pub names: Vec<String>,
    /// Of the manifest; none in a docker archive.
    pub digest: Option<Digest>,
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
    /// The entrypoint's program first, then the largest others.
    pub programs: Vec<ProgramSize>,
    /// What was left out, and why.
    pub doubts: Vec<SizeDoubt>,
}

/// Weighs an image. `twin` is the entrypoint's program before it was stripped, if it is at hand.
///
/// # Errors
/// When the image or the twin cannot be read. What can be left out is left out, with a doubt.
pub fn run(source: &Source, image: &ReadImage, twin: Option<&Path>) -> Result<SizeResult, SizeError> {
    let mut doubts = Vec::new();
    let (mut layers, stack) = layers(source, image)?;
    let programs = programs(source, image, &stack, twin, &mut doubts)?;
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
    let Config { os, architecture, variant, .. } = &image.config;
    let variant = variant.as_ref().map(|variant| format!("/{variant}")).unwrap_or_default();
    Ok(SizeResult {
        names: image.names.clone(),
        digest: image.manifest.as_ref().map(|(descriptor, _)| descriptor.digest),
        platform: format!("{os}/{architecture}{variant}"),
        bytes,
        layers,
        files,
        waste: waste(&stack, hidden_sum),
        programs,
        doubts,
    })
}

fn layers(source: &Source, image: &ReadImage) -> Result<(Vec<LayerSize>, tree::Stack), SizeError> {
    let mut stack = tree::Stack::default();
    let mut history = image.config.history.iter().filter(|step| !step.empty_layer);
    let mut layers = Vec::new();
    for layer in &image.layers {
        let mut entries = Vec::new();
        let mut refused = Ok(());
        let mut place = 0;
        let facts = read_layer(source, layer, |entry, content| {
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
            let mut magic = [0; 4];
            let elf = entry.kind == '-' && read_fully(content, &mut magic)? == 4 && magic == *b"\x7fELF";
            let path = tree::normal(&entry.path);
            let link = if entry.kind == 'h' { entry.link.as_deref().map(tree::normal) } else { entry.link };
            entries.push(tree::Entry { path, kind: entry.kind, size: entry.size, link, elf, place: own });
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
            digest: facts.digest,
            diff_id: facts.diff_id,
            created_by: history.next().and_then(|step| step.created_by.clone()),
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

fn read_fully(content: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match content.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
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
    let dive_wasted = paths.iter().map(|path| path.bytes).fold(0, u64::saturating_add);
    paths.retain(|path| path.bytes > 0);
    paths.sort_by(|a, b| (b.bytes, &a.path).cmp(&(a.bytes, &b.path)));
    paths.truncate(WASTED_LISTED);
    Waste { efficiency: stack.efficiency(), dive_wasted, hidden, paths }
}

/// What a shell and runc look for a command in when the image says nothing.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The path of the program that a container starts with, links followed.
fn entrypoint(config: &Config, stack: &tree::Stack, command: &str) -> Option<Vec<u8>> {
    let execution = &config.config;
    let candidates: Vec<String> = if command.starts_with('/') {
        vec![command.to_owned()]
    } else if command.contains('/') {
        vec![format!("{}/{command}", execution.working_dir)]
    } else {
        let path = execution.env.iter().find_map(|variable| variable.strip_prefix("PATH="));
        path.unwrap_or(DEFAULT_PATH).split(':').map(|dir| format!("{dir}/{command}")).collect()
    };
    let resolved = candidates.iter().map(|candidate| stack.resolve(candidate.as_bytes(), true));
    resolved.into_iter().find(|path| matches!(stack.tree.get(path), Some(tree::Node::Inode(..))))
}

fn programs(
    source: &Source,
    image: &ReadImage,
    stack: &tree::Stack,
    twin: Option<&Path>,
    doubts: &mut Vec<SizeDoubt>,
) -> Result<Vec<ProgramSize>, SizeError> {
    let execution = &image.config.config;
    let command = execution.entrypoint.iter().chain(&execution.cmd).next();
    let start = command.and_then(|command| {
        let found = entrypoint(&image.config, stack, command);
        if found.is_none() {
            doubts.push(SizeDoubt::NoEntrypoint { command: command.clone() });
        }
        found
    });
    // By number of the file, so that hard links to one are one program.
    let mut wanted: Vec<(bool, usize, &[u8])> = Vec::new();
    let mut known = std::collections::BTreeSet::new();
    let start_number = start.as_ref().and_then(|path| match stack.tree.get(path) {
        Some(tree::Node::Inode(number, _)) => Some(*number),
        _ => None,
    });
    for (path, node) in &stack.tree {
        let tree::Node::Inode(number, _) = node else { continue };
        let inode = &stack.inodes[*number];
        let is_start = start_number == Some(*number);
        // A program with several names goes by the one it is started by.
        if is_start && start.as_ref() != Some(path) {
            continue;
        }
        if inode.elf && (is_start || inode.size >= PROGRAM_THRESHOLD) && known.insert(*number) {
            wanted.push((is_start, *number, path));
        }
    }
    wanted.sort_by(|a, b| (b.0, stack.inodes[b.1].size, a.2).cmp(&(a.0, stack.inodes[a.1].size, b.2)));
    wanted.truncate(PROGRAMS_LIMIT);
    let mut programs: Vec<(usize, ProgramSize)> = Vec::new();
    for (number, layer) in image.layers.iter().enumerate() {
        let mut here: Vec<(usize, bool, usize, &[u8])> = wanted
            .iter()
            .enumerate()
            .filter(|(_, (_, inode, _))| stack.inodes[*inode].layer == number)
            .map(|(rank, (is_start, inode, path))| (stack.inodes[*inode].place, *is_start, rank, *path))
            .collect();
        here.retain(|(_, _, rank, path)| {
            let size = stack.inodes[wanted[*rank].1].size;
            if size > PROGRAM_LIMIT {
                let why = format!("{size} bytes are more than {PROGRAM_LIMIT}");
                doubts.push(SizeDoubt::Unreadable { path: lossy(path), why });
            }
            size <= PROGRAM_LIMIT
        });
        if here.is_empty() {
            continue;
        }
        let mut place = 0;
        let mut failed = None;
        let read = read_layer(source, layer, |_, content| {
            let found = here.iter().find(|(at, ..)| *at == place);
            place += 1;
            let Some((_, is_start, rank, path)) = found else { return Ok(()) };
            let mut data = Vec::new();
            content.take(PROGRAM_LIMIT).read_to_end(&mut data)?;
            let twin = match twin.filter(|_| *is_start).map(|path| (path, read_twin(path))) {
                Some((path, Err(source))) => {
                    failed = Some(SizeError::Twin { path: path.to_path_buf(), source });
                    return Err(io::Error::from(io::ErrorKind::InvalidData));
                }
                Some((_, Ok(twin))) => Some(twin),
                None => None,
            };
            let program = program(&lossy(path), *is_start, &data, twin.as_deref(), doubts);
            programs.push((*rank, program));
            Ok(())
        });
        if let Some(error) = failed {
            return Err(error);
        }
        read?;
    }
    programs.sort_by_key(|(rank, _)| *rank);
    Ok(programs.into_iter().map(|(_, program)| program).collect())
}

fn read_twin(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // A twin has its debug information, and may be larger than anything in an image.
    let limit = 2 * PROGRAM_LIMIT;
    input::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::other(format!("it has more than {limit} bytes")));
    }
    Ok(bytes)
}
