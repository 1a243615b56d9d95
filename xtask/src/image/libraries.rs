//! `libs = "auto"`: the shared libraries of this host that a dynamic program needs, which go into the image with it.
//!
//! Libraries are searched as glibc's loader does (ld.so(8)): in DT_RPATH, DT_RUNPATH, the folders of
//! `/etc/ld.so.conf` and the loader's own. Left out on purpose: LD_LIBRARY_PATH and the variants for newer
//! processors (glibc-hwcaps), with which the image would depend on the shell or the processor that builds it.
//! Libraries that a program opens by itself (dlopen) are not named in its ELF file and are not found.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tare_oci::elf::{self, ElfError, Facts};
use tare_oci::entry::InMemory;
use tare_oci::input;
use tare_oci::path::ImagePath;
use tare_oci::platform::Platform;

const CONFIGURATION: &str = "/etc/ld.so.conf";
/// Files of the configuration include others; no system nests them deeper.
const MOST_INCLUDES: u32 = 4;
/// The folders that glibc's loader searches without configuration, on Debian and elsewhere.
const LOADER_FOLDERS: [&str; 4] = ["/lib64", "/usr/lib64", "/lib", "/usr/lib"];
/// Without this file glibc asks the name server before `/etc/hosts` (nsswitch.conf(5)).
const NSSWITCH: &str = "passwd: files\ngroup: files\nhosts: files dns\n";

/// A file that a program needs.
#[derive(Debug, Clone)]
pub struct Library {
    /// Where the loader finds it in the image.
    pub path: ImagePath,
    /// Its permission bits.
    pub mode: u32,
    /// Its content.
    pub bytes: Arc<InMemory>,
}

/// A library that cannot be found or must not be taken.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct LibraryError {
    message: String,
    /// What to do.
    pub hint: &'static str,
    source: Option<io::Error>,
}

impl LibraryError {
    fn new(message: String, hint: &'static str) -> Self {
        Self { message, hint, source: None }
    }

    fn read(path: &Path, source: io::Error) -> Self {
        let message = format!("cannot read {}", path.display());
        Self { message, hint: "install the package that has it", source: Some(source) }
    }
}

/// Fails unless this host runs programs of the platform, and so has libraries for them.
///
/// # Errors
/// When the host has another operating system or architecture.
pub fn check_host(platform: Platform) -> Result<(), LibraryError> {
    let host = format!("{}/{}", std::env::consts::OS, tare_oci::platform::host_architecture());
    if host == platform.to_string() {
        return Ok(());
    }
    Err(LibraryError::new(
        format!("`libs = \"auto\"` takes the libraries of this host, which is {host}, not {platform}"),
        "build on a host of that platform, or bring the libraries along in [[layers]], with `static = false` instead",
    ))
}

/// The loader of a program, every library that it needs directly or through others, and the name service
/// configuration that glibc expects. Nothing for a static program.
///
/// # Errors
/// When a library is missing or damaged, or the program's loader is not glibc's.
pub fn closure(program: &Path, facts: &Facts) -> Result<Vec<Library>, LibraryError> {
    if facts.is_static() {
        return Ok(Vec::new());
    }
    let interpreter = facts.interpreter.as_deref().unwrap_or("no interpreter");
    let loader_name = interpreter.rsplit('/').next().unwrap_or_default();
    if !loader_name.starts_with("ld-linux") {
        return Err(LibraryError::new(
            format!(
                "`libs = \"auto\"` is for programs with glibc's loader; {} has {interpreter}",
                program.display()
            ),
            "link it statically, or bring its libraries along in [[layers]], with `static = false` instead",
        ));
    }
    let loader = Path::new(interpreter);
    let loader_bytes = input::read(loader).map_err(|source| LibraryError::read(loader, source))?;
    // In the image, too, the loader searches the folder that it was installed to.
    let real = fs::canonicalize(loader).map_err(|source| LibraryError::read(loader, source))?;
    let folder = real.parent().unwrap_or(Path::new("/"));

    let mut files = vec![
        library(loader, 0o755, loader_bytes)?,
        library(Path::new("/etc/nsswitch.conf"), 0o644, NSSWITCH.into())?,
    ];
    let mut system = configured_folders(Path::new(CONFIGURATION), MOST_INCLUDES)?;
    system.extend(LOADER_FOLDERS.map(PathBuf::from));
    let mut known = vec![loader_name.to_owned()];
    let mut objects = vec![Object::new(program.to_path_buf(), facts.clone(), &[])];
    while let Some(object) = objects.pop() {
        for name in &object.facts.needed {
            if known.contains(name) {
                continue;
            }
            let (path, bytes, facts) = find(name, &object, &system)?;
            known.push(name.clone());
            files.push(library(&folder.join(name), 0o644, bytes)?);
            objects.push(Object::new(path, facts, &object.inherited));
        }
    }
    Ok(files)
}

fn library(path: &Path, mode: u32, bytes: Vec<u8>) -> Result<Library, LibraryError> {
    let path = path.to_string_lossy().parse().map_err(|error| {
        LibraryError::new(
            format!("{error}"),
            "bring the libraries along in [[layers]], with `static = false` instead",
        )
    })?;
    Ok(Library { path, mode, bytes: InMemory::new(bytes) })
}

/// A program or library of this host.
struct Object {
    path: PathBuf,
    facts: Facts,
    /// The folders that it has searched before the system's.
    folders: Vec<PathBuf>,
    /// The folders of DT_RPATH, which apply to the libraries that it needs as well.
    inherited: Vec<PathBuf>,
}

impl Object {
    fn new(path: PathBuf, facts: Facts, inherited: &[PathBuf]) -> Self {
        let origin = path.parent().unwrap_or(Path::new("/"));
        let run_path = facts.run_path.as_deref().map(|list| expand(list, origin));
        // DT_RUNPATH makes the loader ignore DT_RPATH.
        let own = facts.rpath.as_deref().filter(|_| run_path.is_none()).map(|list| expand(list, origin));
        let inherited = [own.unwrap_or_default(), inherited.to_vec()].concat();
        Self { folders: run_path.unwrap_or_else(|| inherited.clone()), path, facts, inherited }
    }
}

/// The absolute folders of a list in DT_RPATH or DT_RUNPATH. Of the loader's variables, `$ORIGIN` alone is known.
fn expand(list: &str, origin: &Path) -> Vec<PathBuf> {
    let origin = origin.to_string_lossy();
    let folders = list.split(':').map(|it| it.replace("${ORIGIN}", &origin).replace("$ORIGIN", &origin));
    folders.filter(|folder| folder.starts_with('/') && !folder.contains('$')).map(PathBuf::from).collect()
}

/// The first library of this name for the same processor: its path, content and facts.
fn find(name: &str, by: &Object, system: &[PathBuf]) -> Result<(PathBuf, Vec<u8>, Facts), LibraryError> {
    let by_path = by.path.display();
    if name.contains('/') {
        return Err(LibraryError::new(
            format!("{by_path} needs {name}, a path and not a name that is searched"),
            "link it with the library's name (-lNAME, or -soname when the library is linked)",
        ));
    }
    for folder in by.folders.iter().chain(system) {
        let path = folder.join(name);
        let bytes = match input::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                continue;
            }
            Err(source) => return Err(LibraryError::read(&path, source)),
        };
        match elf::facts(&bytes) {
            Ok(facts) if facts.machine == by.facts.machine => return Ok((path, bytes, facts)),
            // For another processor: the loader goes on, too.
            Ok(_) | Err(ElfError::Not64Bit) => {}
            Err(error) => {
                let message = format!("{by_path} needs {name}: {}: {error}", path.display());
                return Err(LibraryError::new(message, "install it again, or remove that file"));
            }
        }
    }
    Err(LibraryError::new(
        format!("{by_path} needs {name}, which this host does not have"),
        "install the library; a folder of its own has to be named in /etc/ld.so.conf",
    ))
}

/// The folders of a configuration file of the loader, in order, with those of the files that it includes.
fn configured_folders(file: &Path, includes: u32) -> Result<Vec<PathBuf>, LibraryError> {
    let text = match input::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(LibraryError::read(file, source)),
    };
    let mut folders = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if let Some(pattern) = line.strip_prefix("include ").filter(|_| includes > 0) {
            for file in matching(&file.with_file_name(pattern.trim()))? {
                folders.extend(configured_folders(&file, includes - 1)?);
            }
        } else if line.starts_with('/') {
            folders.push(PathBuf::from(line));
        }
    }
    Ok(folders)
}

/// The files of a pattern whose last part may have one `*`, sorted.
fn matching(pattern: &Path) -> Result<Vec<PathBuf>, LibraryError> {
    let name = pattern.file_name().unwrap_or_default().to_string_lossy();
    let Some((start, end)) = name.split_once('*') else { return Ok(vec![pattern.to_path_buf()]) };
    let folder = pattern.parent().unwrap_or(Path::new("/"));
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(LibraryError::read(folder, source)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|source| LibraryError::read(folder, source))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.strip_prefix(start).is_some_and(|rest| rest.ends_with(end)) && !name.starts_with('.') {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tare_oci::elf::Machine;

    #[test]
    fn configuration_names_folders_and_includes_files() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("conf.d")).unwrap();
        fs::write(at("conf.d/b.conf"), "/b\n").unwrap();
        fs::write(at("conf.d/a.conf"), "# words\n/a # more words\n\nhwcap 0 nosegneg\n").unwrap();
        fs::write(at("conf.d/a.conf.old"), "/old\n").unwrap();
        fs::write(at("conf.d/.hidden.conf"), "/hidden\n").unwrap();
        fs::write(at("one"), format!("include {}\n", at("conf").display())).unwrap();
        fs::write(at("conf"), "/first\ninclude conf.d/*.conf\ninclude gone/*.conf\ninclude one\n/last\n")
            .unwrap();
        // The file that includes itself is read once more, without its includes.
        let expected = ["/first", "/a", "/b", "/first", "/last", "/last"].map(PathBuf::from);
        assert_eq!(configured_folders(&at("conf"), 2).unwrap(), expected);
        assert_eq!(configured_folders(&at("gone"), 2).unwrap(), Vec::<PathBuf>::new());
    }

    #[test]
    fn run_paths_apply_as_the_loader_has_it() {
        let facts = |rpath: Option<&str>, run_path: Option<&str>| Facts {
            machine: Machine::Amd64,
            interpreter: None,
            needed: Vec::new(),
            rpath: rpath.map(str::to_owned),
            run_path: run_path.map(str::to_owned),
            symbols: false,
            audit_size: None,
        };
        let paths = |paths: &[&str]| paths.iter().map(PathBuf::from).collect::<Vec<_>>();
        let object = |facts| Object::new("/opt/bin/program".into(), facts, &paths(&["/inherited"]));

        let rpath = object(facts(Some("$ORIGIN/../lib:relative:/a/$LIB:${ORIGIN}"), None));
        assert_eq!(rpath.folders, paths(&["/opt/bin/../lib", "/opt/bin", "/inherited"]));
        assert_eq!(rpath.inherited, rpath.folders);

        let run_path = object(facts(Some("/rpath"), Some("/run")));
        assert_eq!(run_path.folders, paths(&["/run"]));
        assert_eq!(run_path.inherited, paths(&["/inherited"]));
    }
}
