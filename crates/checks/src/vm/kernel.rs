//! Debian's kernel and modules, unpacked without installation.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use tare_tool::process::{Execute as _, cmd, shell_in};
use tare_tool::ui::Ui;

/// The generic kernel; the one for clouds has no 9p.
const PACKAGE: &str = "linux-image-amd64";
/// The modules in the order in which they are loaded, each after its dependencies.
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
        let (sh, depmod, modprobe) = (shell_in(folder)?, program("depmod"), program("modprobe"));
        cmd!(sh, "{depmod} -b {root} {version}").capture()?;
        let mut modules = Vec::new();
        for module in MODULES {
            let lines =
                cmd!(sh, "{modprobe} --show-depends -S {version} -d {root} {module}").capture_text()?;
            for line in lines.lines() {
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
    let sh = shell_in(folder)?;
    let depends = cmd!(sh, "apt-cache depends {PACKAGE}").capture_text()?;
    let package = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
    let package = package.with_context(|| format!("apt knows no {PACKAGE}: run `apt-get update`"))?;
    ui.status("Downloading", package);
    cmd!(sh, "apt-get download -qq {package}").capture()?;
    let archive = find(folder, |name| name.starts_with(package) && name.ends_with(".deb"))?;
    // A killed run leaves no half of it under its name.
    let unfinished = folder.join("kernel.unfinished");
    let _ = fs::remove_dir_all(&unfinished);
    cmd!(sh, "dpkg -x {archive} {unfinished}").capture()?;
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
