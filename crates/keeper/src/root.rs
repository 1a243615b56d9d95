//! The root of a container: the image's files with a layer over them that takes what the container writes, as docker
//! makes it.
//!
//! It is mounted in a mount namespace of the keeper's own, which ends with the keeper: nothing stays mounted on the
//! host, however a run ends. Every path of the image is resolved by the kernel inside the root, so no link of an
//! image leads out of it.

use std::fs;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::sched::{CloneFlags, unshare};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, mount as mount_at, mount_bind, mount_change};
use tare_keeper::Root;

/// Mounts the root on a folder, in a new mount namespace. True if its layer is memory, because the file system of the
/// layer's folder cannot hold one.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn mount(target: &Path, root: &Root) -> Result<bool, String> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(|error| format!("no mount namespace: {error}"))?;
    // What the host unmounts goes here as well; nothing that is mounted here is seen there.
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .map_err(|error| format!("cannot keep mounts apart from the host's: {error}"))?;
    let named = |what: &str, path: &Path| {
        let place = format!("{what} {}", path.display());
        move |error: io::Error| format!("cannot {place}: {error}")
    };
    fs::create_dir_all(target).map_err(named("create", target))?;
    let in_memory = match overlay(target, root) {
        Ok(()) => false,
        // Among others overlayfs itself cannot hold a layer of another.
        Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
            let options = Some(c"mode=700");
            mount_at("tmpfs", &root.layer, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, options)
                .map_err(io::Error::from)
                .and_then(|()| overlay(target, root))
                .map_err(named("mount an overlay on", target))?;
            true
        }
        Err(error) => return Err(named("mount an overlay on", target)(error)),
    };
    let top = open_folder(target).map_err(named("open", target))?;
    for path in &root.folders {
        folder(top.as_fd(), path).map_err(named("make the folder", path))?;
    }
    for path in &root.shared_folders {
        folder(top.as_fd(), path)
            .and_then(|folder| Ok(rustix::fs::fchmod(&folder, Mode::from_raw_mode(0o1777))?))
            .map_err(named("make the folder", path))?;
    }
    for (path, content) in &root.files {
        file(top.as_fd(), path, content).map_err(named("write", path))?;
    }
    for (number, path) in root.volumes.iter().enumerate() {
        let place = root.layer.join("volumes").join(number.to_string());
        fs::create_dir_all(&place).map_err(named("create", &place))?;
        folder(top.as_fd(), path)
            .and_then(|volume| Ok(mount_bind(through(&volume), &place)?))
            .map_err(named("mount the volume", path))?;
    }
    Ok(in_memory)
}

/// Removes the layer's folder.
///
/// The overlay itself goes with the mount namespace, when this process ends. The kernel then writes everything that waits
/// to be written to the layer's file system (ovl_sync_fs of fs/overlayfs/super.c), other programs' data too, which takes
/// most of the time of a removal. The option `volatile` would avoid that, and make fsync(2) in the container do nothing.
///
/// # Errors
/// When something in it cannot be removed.
pub(crate) fn remove(root: &Root) -> Result<(), String> {
    for number in 0..root.volumes.len() {
        // A folder is removed only where nothing is mounted.
        let place = root.layer.join("volumes").join(number.to_string());
        let _ = rustix::mount::unmount(&place, rustix::mount::UnmountFlags::DETACH);
    }
    let _ = rustix::mount::unmount(&root.layer, rustix::mount::UnmountFlags::DETACH);
    match fs::remove_dir_all(&root.layer) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(format!("cannot remove {}: {error}", root.layer.display()))
        }
        _ => Ok(()),
    }
}

fn overlay(target: &Path, root: &Root) -> io::Result<()> {
    let (upper, work) = (root.layer.join("upper"), root.layer.join("work"));
    for path in [&upper, &work] {
        fs::create_dir_all(path)?;
    }
    // The top of the root has the mode, owner and time of its own folder.
    let lower = open_folder(&root.lower)?;
    let stat = rustix::fs::fstat(&lower)?;
    let (lower, upper, work) = (lower, open_folder(&upper)?, open_folder(&work)?);
    rustix::fs::fchmod(&upper, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    let (user, group) = (rustix::fs::Uid::from_raw(stat.st_uid), rustix::fs::Gid::from_raw(stat.st_gid));
    rustix::fs::fchown(&upper, Some(user), Some(group))?;
    // Names in options would have to be escaped, and two kinds of kernels do that differently.
    let mut options = format!(
        "lowerdir={},upperdir={},workdir={}",
        through(&lower).display(),
        through(&upper).display(),
        through(&work).display()
    );
    if root.user_namespace {
        options.push_str(",userxattr");
    }
    let options = std::ffi::CString::new(options)?;
    Ok(mount_at("overlay", target, "overlay", MountFlags::empty(), Some(options.as_c_str()))?)
}

fn open_folder(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
    Ok(rustix::fs::openat(CWD, path, flags, Mode::empty())?)
}

/// A path to an open file.
fn through(file: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// A folder of the root, made where there is none. A link to something else, or to nowhere, makes room; a file does not.
fn folder(top: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
    let open = |path: &Path| rustix::fs::openat2(top, path, flags, Mode::empty(), resolve);
    let mut inner = PathBuf::from(".");
    let mut opened = open(&inner)?;
    for part in path.components() {
        let Component::Normal(name) = part else { continue };
        inner.push(name);
        opened = match open(&inner) {
            Ok(folder) => folder,
            Err(error @ (Errno::NOENT | Errno::NOTDIR | Errno::LOOP)) => {
                match rustix::fs::statat(&opened, name, AtFlags::SYMLINK_NOFOLLOW) {
                    // A file of the image may be its program.
                    Ok(stat) if !FileType::from_raw_mode(stat.st_mode).is_symlink() => {
                        return Err(error.into());
                    }
                    _ => {}
                }
                match rustix::fs::unlinkat(&opened, name, AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(error) => return Err(error.into()),
                }
                rustix::fs::mkdirat(&opened, name, Mode::from_raw_mode(0o755))?;
                let made = open(&inner)?;
                // Whatever the umask.
                rustix::fs::fchmod(&made, Mode::from_raw_mode(0o755))?;
                made
            }
            Err(error) => return Err(error.into()),
        };
    }
    Ok(opened)
}

/// A file of the root in place of the image's, whatever that is: a link is not followed.
fn file(top: BorrowedFd<'_>, path: &Path, content: &str) -> io::Result<()> {
    let (parent, name) = (path.parent().unwrap_or(Path::new("")), path.file_name());
    let name = name.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let parent = folder(top, parent)?;
    match rustix::fs::unlinkat(&parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR)?,
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = fs::File::from(rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o644))?);
    rustix::fs::fchmod(&file, Mode::from_raw_mode(0o644))?;
    file.write_all(content.as_bytes())
}
