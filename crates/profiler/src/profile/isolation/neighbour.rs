//! The neighbour's image and its container.
//!
//! The image holds this very program, whose hidden command burns ([`crate::neighbour`]), with the shared libraries that a
//! process of it has mapped: so the neighbour is the same whatever image is measured, and nothing has to be built or pulled.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tare_container::spec::ContainerSpec;
use tare_container::target::{Target, host_architecture};
use tare_container::{Container, Counters};
use tare_oci::elf;
use tare_oci::entry::{Content, Entry, EntryKind, Owner};
use tare_oci::path::ImagePath;
use tare_oci::platform::Platform;
use tare_oci::spec::Config;
use tare_oci::units::Epoch;

use crate::generator::{Generator, Place};
use crate::neighbour::BURNING;
use crate::profile::own_image::{self, WriteError};
use crate::profile::subject::{PassError, Subject};

/// Where the program lies in the image.
const PROGRAM: &str = "/neighbour";
/// How long it may take to begin.
const PATIENCE: Duration = Duration::from_secs(30);
/// The most memory that it uses, and what it uses where memory is not limited. It is more than a CPU's caches hold.
const MEMORY: u64 = 128 << 20;

/// Writes the image of the neighbour below `dir` as an OCI layout, and says where it is. `program` is this one.
///
/// # Errors
/// When the program cannot be started or read, or a file cannot be written.
pub fn write(dir: &Path, program: &Path) -> Result<PathBuf, WriteError> {
    let platform: Platform = format!("linux/{}", host_architecture()).parse()?;
    // A process of it says where the loader finds its libraries.
    let process = Generator::start(program, &Place::default())?;
    let maps = fs::read_to_string(format!("/proc/{}/maps", process.id()))?;
    let own = fs::read_link(format!("/proc/{}/exe", process.id()))?;
    drop(process);
    let libraries: Vec<PathBuf> = mapped(&maps).into_iter().filter(|path| *path != own).collect();
    let mut files: BTreeMap<PathBuf, PathBuf> =
        libraries.iter().map(|path| (path.clone(), path.clone())).collect();
    files.insert(PROGRAM.into(), own.clone());
    if let Some(interpreter) = elf::facts(&fs::read(&own)?)?.interpreter {
        let file = fs::canonicalize(&interpreter)?;
        files.insert(interpreter.into(), file);
    }
    let mut folders: Vec<String> =
        libraries.iter().filter_map(|path| Some(path.parent()?.display().to_string())).collect();
    folders.sort_unstable();
    folders.dedup();
    let mut execution = Config::default();
    execution.set_entrypoint(Some(vec![PROGRAM.to_owned()]));
    if !folders.is_empty() {
        execution.set_env(Some(vec![format!("LD_LIBRARY_PATH={}", folders.join(":"))]));
    }
    own_image::write(dir, "neighbour", platform, entries(&files)?, execution)
}

/// The files of a process's address space (proc_pid_maps(5)), each once.
fn mapped(maps: &str) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        maps.lines().filter_map(|line| Some(PathBuf::from(&line[line.find('/')?..]))).collect();
    paths.sort_unstable();
    paths.dedup();
    paths
}

/// The files, with the folders above them and those that runtimes mount on.
fn entries(files: &BTreeMap<PathBuf, PathBuf>) -> Result<Vec<Entry>, WriteError> {
    let mut kinds: BTreeMap<PathBuf, EntryKind> =
        ["/dev", "/etc", "/proc", "/sys", "/tmp"].map(|path| (path.into(), EntryKind::Directory)).into();
    for (path, file) in files {
        for folder in path.ancestors().skip(1).filter(|folder| folder.parent().is_some()) {
            kinds.insert(folder.to_path_buf(), EntryKind::Directory);
        }
        let size = fs::metadata(file)?.len();
        kinds.insert(path.clone(), EntryKind::File(Content::File(file.as_path().into(), size)));
    }
    let entry = |(path, kind): (PathBuf, EntryKind)| -> Result<Entry, WriteError> {
        let relative = path.strip_prefix("/").unwrap_or(&path).to_string_lossy();
        Ok(Entry {
            path: ImagePath::from_bytes(relative.as_bytes())?,
            kind,
            mode: 0o755,
            owner: Owner::default(),
            mtime: Epoch::OF_FILES,
            capabilities: None,
        })
    };
    kinds.into_iter().map(entry).collect()
}

/// A neighbour that burns. Dropped, it is gone.
pub(super) struct Neighbour(Container);

impl Neighbour {
    /// Starts one under the limits of the subject and on its CPUs, and waits until it burns.
    pub(super) fn start(target: &Target, subject: &Subject<'_>) -> Result<Self, PassError> {
        // Half of its own limit: its program's pages count too.
        let memory = subject.spec.limits.memory.map_or(MEMORY, |limit| MEMORY.min(limit / 2));
        let args = [PROGRAM, "neighbour", "--memory", &memory.to_string()].map(str::to_owned).to_vec();
        let spec = ContainerSpec {
            args: Some(args),
            limits: subject.spec.limits.clone(),
            affinity: subject.spec.affinity.clone(),
            ..ContainerSpec::default()
        };
        let container = subject.runtime.create(target, &spec)?;
        container.start()?;
        let deadline = Instant::now() + PATIENCE;
        while !container.output_tail().lines().any(|line| line == BURNING) {
            if let Some(exit) = container.wait(Duration::from_millis(10))? {
                return Err(PassError::Neighbour(format!(
                    "ended: {exit}; {}",
                    container.output_tail().trim_end()
                )));
            }
            if Instant::now() > deadline {
                let seconds = PATIENCE.as_secs();
                return Err(PassError::Neighbour(format!("has not begun within {seconds} s")));
            }
        }
        Ok(Self(container))
    }

    /// Nanoseconds of CPU time that it has used, as far as that can be read.
    pub(super) fn cpu(&self) -> Option<u64> {
        self.0.counters().ok().and_then(|counters: Counters| counters.cpu_usage)
    }

    /// Removes it. It must not have ended by itself: then it was no neighbour all the time.
    pub(super) fn end(self) -> Result<(), PassError> {
        if let Some(exit) = self.0.wait(Duration::ZERO)? {
            return Err(PassError::Neighbour(format!("ended: {exit}; {}", self.0.output_tail().trim_end())));
        }
        Ok(self.0.remove()?)
    }
}

/// The image, opened.
///
/// # Errors
/// When it cannot be written or opened.
pub fn image(cache: &Path, program: &Path) -> Result<Target, PassError> {
    let layout =
        write(cache, program).map_err(|error| PassError::Neighbour(format!("has no image: {error}")))?;
    Ok(Target::resolve(&layout.to_string_lossy(), None, Path::new(""))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_an_address_space_are_listed_once_without_what_is_no_file() {
        let maps = "55d0c6a52000-55d0c6a5e000 r--p 00000000 fe:01 1311 /usr/bin/a program\n\
            7f1c00000000-7f1c00021000 rw-p 00000000 00:00 0 \n\
            7f1c05a2b000-7f1c05a51000 r--p 00000000 fe:01 2045 /usr/lib/x/libc.so.6\n\
            7f1c05a51000-7f1c05ba6000 r-xp 00026000 fe:01 2045 /usr/lib/x/libc.so.6\n\
            7ffd8c9d6000-7ffd8c9f7000 rw-p 00000000 00:00 0 [stack]\n";
        assert_eq!(mapped(maps), ["/usr/bin/a program", "/usr/lib/x/libc.so.6"].map(PathBuf::from));
    }

    #[test]
    fn files_have_their_folders() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let files = [("/lib64/ld.so".into(), file.path().to_path_buf())].into();
        let paths: Vec<String> = entries(&files)
            .unwrap()
            .iter()
            .map(|entry| String::from_utf8(entry.path.as_bytes().to_vec()).unwrap())
            .collect();
        assert_eq!(paths, ["dev", "etc", "lib64", "lib64/ld.so", "proc", "sys", "tmp"]);
    }
}
