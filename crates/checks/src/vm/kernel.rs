//! Debian's kernel with its modules, unpacked and not installed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use tare_tool::process::Cmd;
use tare_tool::ui::Ui;

/// The generic kernel; the one for clouds has no 9p.
const PACKAGE: &str = "linux-image-amd64";
/// In the order in which they are loaded, each with what it depends on.
const MODULES: [&str; 8] = ["virtio_pci", "9p", "9pnet_virtio", "overlay", "fuse", "veth", "bridge", "tun"];

pub(super) struct Kernel {
    /// To boot.
    pub(super) image: PathBuf,
    /// Its modules, as `insmod` takes them, in order.
    pub(super) modules: Vec<PathBuf>,
}

impl Kernel {
    /// Downloads it into the folder, unless it is there.
    pub(super) fn get(folder: &Path, ui: Ui) -> anyhow::Result<Self> {
        let root = folder.join("kernel");
        if !root.is_dir() {
            download(folder, &root, ui)?;
        }
        let image = find(&root.join("boot"), |name| name.starts_with("vmlinuz-"))?;
        let version = image.file_name().unwrap_or_default().to_string_lossy().replacen("vmlinuz-", "", 1);
        Cmd::new(program("depmod")).arg("-b").arg(&root).arg(&version).read()?;
        let mut modules = Vec::new();
        for module in MODULES {
            let command = Cmd::new(program("modprobe")).args(["--show-depends", "-S", &version, "-d"]);
            let lines = command.arg(&root).arg(module).read()?;
            for line in String::from_utf8_lossy(&lines).lines() {
                let Some(path) = line.trim().strip_prefix("insmod ") else { continue };
                let path = PathBuf::from(path.trim());
                if !modules.contains(&path) {
                    modules.push(path);
                }
            }
        }
        Ok(Self { image, modules })
    }
}

fn download(folder: &Path, root: &Path, ui: Ui) -> anyhow::Result<()> {
    let depends = Cmd::new("apt-cache").args(["depends", PACKAGE]).read()?;
    let depends = String::from_utf8_lossy(&depends).into_owned();
    let package = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
    let package = package.with_context(|| format!("apt knows no {PACKAGE}: run `apt-get update`"))?;
    ui.status("Downloading", package);
    Cmd::new("apt-get").args(["download", "-qq", package]).current_dir(folder).read()?;
    let archive = find(folder, |name| name.starts_with(package) && name.ends_with(".deb"))?;
    // A killed run leaves no half of it under its name.
    let unfinished = folder.join("kernel.unfinished");
    let _ = fs::remove_dir_all(&unfinished);
    Cmd::new("dpkg").arg("-x").arg(&archive).arg(&unfinished).read()?;
    fs::rename(&unfinished, root).with_context(|| format!("cannot create {}", root.display()))?;
    fs::remove_file(&archive).with_context(|| format!("cannot remove {}", archive.display()))
}

/// An administrators' program, which is on root's PATH alone.
fn program(name: &str) -> PathBuf {
    match Path::new("/sbin").join(name) {
        path if path.exists() => path,
        _ => PathBuf::from(name),
    }
}

fn find(folder: &Path, is: impl Fn(&str) -> bool) -> anyhow::Result<PathBuf> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut names = entries.flatten().filter(|entry| is(&entry.file_name().to_string_lossy()));
    Ok(names.next().with_context(|| format!("not found in {}", folder.display()))?.path())
}
