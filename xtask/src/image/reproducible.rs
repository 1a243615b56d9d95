//! `--verify-reproducible`: builds the same checkout twice, in different folders and with different CARGO_HOMEs, and
//! compares every byte.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::git;
use crate::workspace::Workspace;
use tare_oci::blob::FileError;
use tare_oci::compare::{Difference, first_difference};
use tare_oci::input;
use tare_oci::reader::Source;
use tare_oci::units::Epoch;
use tare_tool::environment::{self, Environment, GIT_VARIABLES};
use tare_tool::private::FreshFolder;
use tare_tool::process::{Execute as _, cmd, shell_in};
use tare_tool::ui::Ui;

/// Builds the image twice with the program that runs now, called with `arguments`, and compares.
///
/// # Errors
/// When a checkout cannot be copied or a build fails.
pub fn verify(
    workspace: &Workspace,
    env: &Environment,
    name: &str,
    arguments: &[OsString],
    created: Epoch,
    ui: Ui,
) -> anyhow::Result<Option<Difference>> {
    // Programs that are built here run as this user, so nobody else may write to the folder.
    let temporary = FreshFolder::create(&std::env::temp_dir(), "tare-reproducible-")?;
    let temporary = temporary.path();
    let program = environment::this_program().context("cannot find this program")?;
    // Of different length and depth, as two people's are.
    let folders = [temporary.join("one"), temporary.join("another/folder/of/somebody/else")];
    let homes = [None, Some(temporary.join("another/cargo-home"))];
    let mut outputs = Vec::new();
    for (folder, home) in folders.iter().zip(&homes) {
        let checkout = copy_checkout(workspace, env, folder)?;
        let output = folder.join("output");
        let shown = home
            .as_ref()
            .map_or("your CARGO_HOME".to_owned(), |home| format!("CARGO_HOME {}", home.display()));
        ui.status("Building", &format!("{name} in {} with {shown}", checkout.display()));
        let sh = shell_in(&checkout)?;
        let mut command = cmd!(sh, "{program} {arguments...} --output {output}")
            .without_env(env.of_cargo_run())
            .without_env(["CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR"])
            // Each its own, whatever folder the configuration above names for all.
            .env("CARGO_TARGET_DIR", checkout.join("target"))
            .env("CARGO_MANIFEST_DIR", &checkout)
            .env("SOURCE_DATE_EPOCH", created.seconds().to_string());
        if let Some(home) = home {
            if let Some(own) = env.cargo_home() {
                seed_cargo_home(&own, home, &checkout.join("Cargo.lock"))?;
            }
            command = command.env("CARGO_HOME", home);
        }
        // Its digest is not our result.
        let failed = || format!("the build in {} failed", checkout.display());
        command.run_with_input(|_| Ok(())).with_context(failed)?;
        outputs.push(output.join(name).join("layout"));
    }
    Ok(first_difference(&Source::open(&outputs[0])?, &Source::open(&outputs[1])?)?)
}

/// Copies the workspace with the whole repository that it is part of, because packages may refer to their neighbours, and
/// with the configuration of cargo above. Returns the workspace's folder in the copy.
fn copy_checkout(workspace: &Workspace, env: &Environment, folder: &Path) -> Result<PathBuf, FileError> {
    let top = git::checkout_of(&workspace.root).unwrap_or_else(|| workspace.root.clone());
    let mut copy = folder.to_path_buf();
    // The outermost first: cargo reads them in all folders above the one that it runs in.
    let above: Vec<&Path> = top.ancestors().skip(1).collect();
    for (number, ancestor) in above.into_iter().enumerate().rev() {
        // The copy may lie below this folder too, and CARGO_HOME is read without being above.
        let counts = !folder.starts_with(ancestor) && Some(ancestor.join(".cargo")) != env.cargo_home();
        if counts && copy_configuration(ancestor, &copy.join(format!("above-{number}")))? {
            copy.push(format!("above-{number}"));
        }
    }
    copy.push("checkout");
    copy_repository(&top, &copy, &workspace.target_dir)?;
    let inside = workspace.root.strip_prefix(&top).unwrap_or(Path::new(""));
    // Configuration that git ignores counts as well.
    for folder in inside.ancestors() {
        copy_configuration(&top.join(folder), &copy.join(folder))?;
    }
    Ok(copy.join(inside))
}

/// Copies `.cargo/config.toml` of a folder, and the other TOML files beside it, which it may include, as far as they are
/// not in the copy yet. Says whether there are any.
fn copy_configuration(folder: &Path, copy: &Path) -> Result<bool, FileError> {
    let folder = folder.join(".cargo");
    let is_configuration =
        |path: &PathBuf| path.ends_with("config") || path.extension().is_some_and(|it| it == "toml");
    let entries = fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let files: Vec<PathBuf> = entries.filter(|path| path.is_file()).filter(is_configuration).collect();
    if !files.iter().any(|path| path.ends_with("config") || path.ends_with("config.toml")) {
        return Ok(false);
    }
    for file in files {
        let place = copy.join(".cargo").join(file.file_name().unwrap_or_default());
        if place.symlink_metadata().is_err() {
            copy_file(&file, &place)?;
        }
    }
    Ok(true)
}

/// Copies the files that git tracks or would add, with those of submodules and other repositories inside; without git
/// every file but those of the target folder.
fn copy_repository(from: &Path, to: &Path, target_dir: &Path) -> Result<(), FileError> {
    let list = shell_in(from).and_then(|sh| {
        let command = cmd!(sh, "git ls-files --cached --others --exclude-standard -z");
        command.without_env(GIT_VARIABLES).capture()
    });
    let is_repository = from.join(".git").exists();
    let Some(list) = list.ok().filter(|_| is_repository) else {
        return copy_folder(from, to, &|path| path == target_dir || path.ends_with(".git"));
    };
    fs::create_dir_all(to).map_err(FileError::on("create", to))?;
    let names: BTreeSet<&[u8]> = list.split(|byte| *byte == 0).filter(|name| !name.is_empty()).collect();
    for name in names {
        let name = path_of(name);
        let (from, to) = (from.join(&name), to.join(&name));
        match from.symlink_metadata() {
            // A submodule that is not checked out has no files.
            Ok(metadata) if metadata.is_dir() && from.join(".git").exists() => {
                copy_repository(&from, &to, target_dir)?;
            }
            Ok(metadata) if !metadata.is_dir() => copy_file(&from, &to)?,
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

fn copy_file(from: &Path, to: &Path) -> Result<(), FileError> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(FileError::on("create", parent))?;
    }
    let metadata = from.symlink_metadata().map_err(FileError::on("read", from))?;
    if metadata.is_symlink() {
        let target = fs::read_link(from).map_err(FileError::on("read", from))?;
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

fn copy_folder(from: &Path, to: &Path, skip: &dyn Fn(&Path) -> bool) -> Result<(), FileError> {
    for entry in fs::read_dir(from).map_err(FileError::on("read", from))? {
        let path = entry.map_err(FileError::on("read", from))?.path();
        let place = to.join(path.file_name().unwrap_or_default());
        if skip(&path) {
            continue;
        }
        let metadata = path.symlink_metadata().map_err(FileError::on("read", &path))?;
        if metadata.is_dir() {
            copy_folder(&path, &place, skip)?;
        } else if metadata.is_file() || metadata.is_symlink() {
            copy_file(&path, &place)?;
        }
    }
    Ok(())
}

/// Gives a new CARGO_HOME what cargo would download into it again: configuration, the index, and the
/// packed crates of the lock file. Whatever is missing is downloaded.
fn seed_cargo_home(own: &Path, home: &Path, lock: &Path) -> Result<(), FileError> {
    fs::create_dir_all(home).map_err(FileError::on("create", home))?;
    for name in ["config.toml", "credentials.toml"] {
        let from = own.join(name);
        if from.is_file() {
            copy_file(&from, &home.join(name))?;
        }
    }
    let wanted = locked_crates(&input::read_to_string(lock).unwrap_or_default());
    for (kind, skip) in [
        ("registry/index", (&|_: &Path| false) as &dyn Fn(&Path) -> bool),
        ("registry/cache", &|path: &Path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.ends_with(".crate") && !wanted.contains(&*name)
        }),
        ("git/db", &|_: &Path| false),
    ] {
        let from = own.join(kind);
        if from.is_dir() {
            copy_folder(&from, &home.join(kind), skip)?;
        }
    }
    Ok(())
}

/// The file names of the crates in a lock file.
fn locked_crates(lock: &str) -> BTreeSet<String> {
    let lock: toml::Table = lock.parse().unwrap_or_default();
    let packages = lock.get("package").and_then(toml::Value::as_array).into_iter().flatten();
    let text = |package: &toml::Value, key: &str| package.get(key)?.as_str().map(str::to_owned);
    packages
        .filter_map(|package| Some(format!("{}-{}.crate", text(package, "name")?, text(package, "version")?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_file_names_the_crates_to_take_along() {
        let lock = "version = 4\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\n[[package]]\nname = \"b\"\nversion = \"2.0.0-rc\"\n";
        let expected = ["a-1.0.0.crate", "b-2.0.0-rc.crate"].map(str::to_owned);
        assert_eq!(locked_crates(lock), expected.into());
    }
}
