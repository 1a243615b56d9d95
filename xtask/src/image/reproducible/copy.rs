//! Copies of the files that a build of the workspace reads, in which every path keeps its place relative to the others.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::cargo_config::files;
use crate::git;
use crate::image::cargo::local_packages;
use crate::workspace::Workspace;
use tare_oci::blob::FileError;
use tare_oci::input;
use tare_tool::environment::{Environment, GIT_VARIABLES};
use tare_tool::process::{Execute as _, cmd, shell_in};

/// What is copied for each build.
#[derive(Debug)]
pub(super) struct Originals {
    /// Whole repositories, because packages may refer to their neighbours, and folders without one.
    tops: Vec<PathBuf>,
    /// Target folders, which no build may find filled.
    built: Vec<PathBuf>,
    /// Configuration files of cargo, with those that they include: outside and inside the repositories, where git may
    /// ignore them.
    configuration: Vec<ConfigurationOf>,
    /// The same for CARGO_HOME's own file.
    of_home: Vec<PathBuf>,
}

/// The configuration files that are read because of a folder.
#[derive(Debug)]
struct ConfigurationOf {
    /// The folder with `.cargo`.
    folder: PathBuf,
    files: Vec<PathBuf>,
}

/// The place of an absolute path in a copy of the whole file system.
pub(super) fn mirrored(path: &Path, copy: &Path) -> PathBuf {
    let names = path.components().filter(|part| matches!(part, Component::Normal(_)));
    copy.join(names.collect::<PathBuf>())
}

impl Originals {
    /// Finds the workspace's repository, those of the packages outside that it needs, and cargo's configuration.
    ///
    /// # Errors
    /// When cargo's configuration cannot be read.
    pub(super) fn find(workspace: &Workspace, env: &Environment) -> anyhow::Result<Self> {
        let mut tops = vec![top_of(&workspace.root, &workspace.root)];
        let mut built = vec![workspace.target_dir.clone(), workspace.build_dir.clone()];
        for package in local_packages(workspace, env)? {
            tops.push(top_of(&package.folder, &package.workspace));
            built.push(package.target_dir);
        }
        tops.sort();
        // A folder inside another one is copied with it, if git does not ignore it there.
        tops.dedup();

        let home = env.cargo_home().map(|home| home.canonicalize().unwrap_or(home));
        let (mut configuration, mut of_home) = (Vec::new(), Vec::new());
        for file in files::places(&workspace.root, env) {
            let files = files::with_included(&file)?;
            let dir = file.parent().unwrap_or(&file);
            if dir.canonicalize().ok() == home {
                of_home = files;
            } else {
                configuration
                    .push(ConfigurationOf { folder: dir.parent().unwrap_or(dir).to_path_buf(), files });
            }
        }
        Ok(Self { tops, built, configuration, of_home })
    }

    /// Copies everything but CARGO_HOME's files. `temporary` is the folder of all copies, which is in none of them.
    pub(super) fn copy(&self, copy: &Path, temporary: &Path) -> Result<(), FileError> {
        for top in &self.tops {
            let built = self.built.iter().filter(|built| !top.starts_with(built));
            let left_out: Vec<&Path> = built.map(PathBuf::as_path).chain([temporary]).collect();
            let skip =
                |path: &Path| path.ends_with(".git") || left_out.iter().any(|left| path.starts_with(left));
            copy_repository(top, copy, &skip)?;
        }
        for ConfigurationOf { folder, files } in &self.configuration {
            // cargo finds the original too, because the copy lies below it.
            if !copy.starts_with(folder) {
                copy_files(files, copy)?;
            }
        }
        Ok(())
    }

    /// Copies the configuration in CARGO_HOME with what it includes.
    pub(super) fn copy_home_configuration(&self, copy: &Path) -> Result<(), FileError> {
        copy_files(&self.of_home, copy)
    }
}

/// The repository that a folder belongs to; without one its cargo workspace, if it is inside.
fn top_of(folder: &Path, workspace: &Path) -> PathBuf {
    let without = || if folder.starts_with(workspace) { workspace } else { folder }.to_path_buf();
    git::checkout_of(folder).unwrap_or_else(without)
}

fn copy_files(files: &[PathBuf], copy: &Path) -> Result<(), FileError> {
    files.iter().try_for_each(|file| copy_file(file, &mirrored(file, copy), file))
}

/// Copies the files that git tracks or would add, with those of submodules and other repositories inside; without git
/// every file that is not skipped.
fn copy_repository(from: &Path, copy: &Path, skip: &dyn Fn(&Path) -> bool) -> Result<(), FileError> {
    let list = shell_in(from).and_then(|sh| {
        let command = cmd!(sh, "git ls-files --cached --others --exclude-standard -z");
        command.without_env(GIT_VARIABLES).capture()
    });
    let is_repository = from.join(".git").exists();
    let to = mirrored(from, copy);
    let Some(list) = list.ok().filter(|_| is_repository) else {
        return copy_folder(from, &to, from, skip);
    };
    fs::create_dir_all(&to).map_err(FileError::on("create", &to))?;
    let names: BTreeSet<&[u8]> = list.split(|byte| *byte == 0).filter(|name| !name.is_empty()).collect();
    for name in names {
        let name = path_of(name);
        let (file, to) = (from.join(&name), to.join(&name));
        if skip(&file) {
            continue;
        }
        match file.symlink_metadata() {
            // A submodule that is not checked out has no files.
            Ok(metadata) if metadata.is_dir() && file.join(".git").exists() => {
                copy_repository(&file, copy, skip)?;
            }
            Ok(metadata) if !metadata.is_dir() => copy_file(&file, &to, from)?,
            // Deleted and not committed.
            _ => {}
        }
    }
    Ok(())
}

#[cfg(unix)]
fn path_of(name: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt as _;
    PathBuf::from(std::ffi::OsStr::from_bytes(name))
}

/// git writes names in UTF-8 there.
#[cfg(not(unix))]
fn path_of(name: &[u8]) -> PathBuf {
    PathBuf::from(String::from_utf8_lossy(name).into_owned())
}

/// Copies a file, if it is not there yet. A link that leads out of `top` leads to the original from then on.
pub(super) fn copy_file(from: &Path, to: &Path, top: &Path) -> Result<(), FileError> {
    if to.symlink_metadata().is_ok() {
        return Ok(());
    }
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(FileError::on("create", parent))?;
    }
    let metadata = from.symlink_metadata().map_err(FileError::on("read", from))?;
    // A single file is copied with its content.
    if metadata.is_symlink() && from != top {
        let target = fs::read_link(from).map_err(FileError::on("read", from))?;
        let absolute = files::normalized(&from.parent().unwrap_or(from).join(&target));
        let target = if absolute.starts_with(top) { target } else { absolute };
        return link(&target, to).map_err(FileError::on("create", to));
    }
    // Refuses what is no regular file, which `copy` would wait for.
    let opened = input::open(from).map(drop);
    opened.and_then(|()| fs::copy(from, to).map(drop)).map_err(FileError::on("copy", from))
}

#[cfg(unix)]
fn link(target: &Path, place: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, place)
}

#[cfg(not(unix))]
fn link(target: &Path, place: &Path) -> io::Result<()> {
    let from = place.parent().unwrap_or(Path::new("")).join(target);
    fs::copy(from, place).map(drop)
}

/// Copies every file below a folder that is not skipped. `top` is that of [`copy_file`].
pub(super) fn copy_folder(
    from: &Path,
    to: &Path,
    top: &Path,
    skip: &dyn Fn(&Path) -> bool,
) -> Result<(), FileError> {
    for entry in fs::read_dir(from).map_err(FileError::on("read", from))? {
        let path = entry.map_err(FileError::on("read", from))?.path();
        let place = to.join(path.file_name().unwrap_or_default());
        if skip(&path) {
            continue;
        }
        let metadata = path.symlink_metadata().map_err(FileError::on("read", &path))?;
        if metadata.is_dir() {
            copy_folder(&path, &place, top, skip)?;
        } else if metadata.is_file() || metadata.is_symlink() {
            copy_file(&path, &place, top)?;
        }
    }
    Ok(())
}
