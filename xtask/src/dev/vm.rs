//! A small virtual machine with cgroup version 2, in which the tests of containers run: as root with every
//! runtime that is installed, and as an ordinary user whose group was delegated. It proves behaviour and
//! never a time: it is emulated, ten to thirty times slower than the host.
//!
//! The host's root is the guest's, read-only below a file system in memory: what is installed or built here
//! runs there as it is, and nothing it writes comes back.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::environment::Environment;
use crate::process::{Cmd, find_program};
use crate::ui::Ui;
use crate::workspace::Workspace;

/// Debian's names of what is needed.
const NEEDS: [(&str, &str); 7] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("cpio", "cpio"),
    ("modprobe", "kmod"),
    ("depmod", "kmod"),
    ("dpkg", "dpkg"),
    ("apt-get", "apt"),
];
/// The generic kernel; the one for clouds has no 9p.
const KERNEL: &str = "linux-image-amd64";
/// In the order in which they are loaded, each with what it depends on.
const MODULES: [&str; 7] = ["virtio_pci", "9p", "9pnet_virtio", "overlay", "fuse", "veth", "bridge"];
/// Longer than any run took; a guest that hangs is ended.
const SECONDS: &str = "1500";
/// What the guest says of each part, followed by the part and `passed` or `failed`.
const VERDICT: &str = "tare-vm:";
/// The parts.
const PARTS: [&str; 2] = ["root", "user"];

/// Boots it and runs the tests; false if one failed.
pub(crate) fn run(workspace: &Workspace, env: &Environment, ui: Ui) -> anyhow::Result<bool> {
    let path = env.get("PATH");
    // Administrators' programs are on root's PATH alone.
    let missing: Vec<&str> = NEEDS
        .iter()
        .filter(|(program, _)| {
            find_program(program, path).is_none() && !Path::new("/sbin").join(program).exists()
        })
        .map(|(_, package)| *package)
        .collect();
    if !missing.is_empty() {
        bail!("the virtual machine needs {}: install them with apt-get", missing.join(", "));
    }
    let folder = workspace.target_dir.join("vm");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let kernel = kernel(&folder, ui)?;
    let tests = Tests::build(workspace, env, &folder, ui)?;
    let initrd = initrd(&folder, &kernel, &tests)?;
    ui.status("Booting", "a virtual machine with cgroup v2");
    let mut verdicts = Vec::new();
    let ended = Cmd::new("timeout")
        .args([SECONDS, "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-smp", "2", "-m", "3072"])
        .args(["-nographic", "-no-reboot", "-append", "console=ttyS0 quiet panic=1", "-kernel"])
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(&initrd)
        .args(["-virtfs", "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap"])
        .for_each_line(|line| {
            let line = line.trim_end();
            ui.block(line);
            if let Some(verdict) = line.strip_prefix(VERDICT) {
                verdicts.push(verdict.trim().to_owned());
            }
        })?;
    let expected: Vec<String> = PARTS.iter().map(|part| format!("{part} passed")).collect();
    if !ended {
        ui.error("the virtual machine did not end by itself", None);
    }
    Ok(ended && verdicts == expected)
}

struct Kernel {
    /// To boot.
    image: PathBuf,
    /// Its modules, as `insmod` takes them, in order.
    modules: Vec<PathBuf>,
}

/// Debian's kernel, unpacked and not installed.
fn kernel(folder: &Path, ui: Ui) -> anyhow::Result<Kernel> {
    let root = folder.join("kernel");
    if !root.join("boot").is_dir() {
        let depends = Cmd::new("apt-cache").args(["depends", KERNEL]).read()?;
        let depends = String::from_utf8_lossy(&depends).into_owned();
        let package = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
        let package = package.with_context(|| format!("{KERNEL} names no kernel"))?.to_owned();
        ui.status("Downloading", &package);
        Cmd::new("apt-get").args(["download", "-qq", &package]).current_dir(folder).read()?;
        let archive = find(folder, |name| name.starts_with(&package) && name.ends_with(".deb"))?;
        Cmd::new("dpkg").arg("-x").arg(&archive).arg(&root).read()?;
    }
    let image = find(&root.join("boot"), |name| name.starts_with("vmlinuz-"))?;
    let version = image.file_name().unwrap_or_default().to_string_lossy().replacen("vmlinuz-", "", 1);
    let program = |name: &str| match Path::new("/sbin").join(name) {
        path if path.exists() => path,
        _ => PathBuf::from(name),
    };
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
    Ok(Kernel { image, modules })
}

fn find(folder: &Path, is: impl Fn(&str) -> bool) -> anyhow::Result<PathBuf> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut names = entries.flatten().filter(|entry| is(&entry.file_name().to_string_lossy()));
    Ok(names.next().with_context(|| format!("not found in {}", folder.display()))?.path())
}

/// What runs in the guest.
struct Tests {
    tests: PathBuf,
    keeper: PathBuf,
    program: PathBuf,
}

impl Tests {
    fn build(workspace: &Workspace, env: &Environment, folder: &Path, ui: Ui) -> anyhow::Result<Self> {
        ui.status("Building", "the tests of containers");
        let target = workspace.target_dir.join("tests");
        let cargo = |arguments: &[&str]| {
            let command = Cmd::new(env.cargo()).args(arguments).arg("--target-dir").arg(&target);
            command.without_env(env.of_cargo_run()).current_dir(&workspace.root)
        };
        let arguments = ["test", "--locked", "--package", "tare-scale", "--test", "container", "--no-run"];
        let messages = cargo(&arguments).args(["--message-format", "json"]).read()?;
        let messages = String::from_utf8_lossy(&messages).into_owned();
        let executable = |line: &str| {
            let message: serde_json::Value = serde_json::from_str(line).ok()?;
            let is_test = message.pointer("/target/name")? == "container";
            let path = message.get("executable")?.as_str().map(PathBuf::from);
            path.filter(|_| is_test)
        };
        let tests = messages.lines().find_map(executable).context("cargo names no test")?;
        cargo(&["build", "--locked", "--package", "tare-runtime", "--profile", "scale"]).read()?;
        let program = folder.join("program");
        let source = workspace.root.join("scale/tests/container/program.rs");
        Cmd::new("rustc")
            .args(["--edition", "2024", "-O", "-C", "linker=rust-lld"])
            .args(["--target", "x86_64-unknown-linux-musl", "-o"])
            .arg(&program)
            .arg(&source)
            .current_dir(&workspace.root)
            .read()?;
        Ok(Self { tests, keeper: target.join("scale/tare-runtime"), program })
    }
}

/// The first file system: busybox, the modules, and what to do.
fn initrd(folder: &Path, kernel: &Kernel, tests: &Tests) -> anyhow::Result<PathBuf> {
    let root = folder.join("initrd.d");
    let _ = fs::remove_dir_all(&root);
    let written = || -> std::io::Result<()> {
        fs::create_dir_all(root.join("bin"))?;
        fs::create_dir_all(root.join("modules"))?;
        let busybox = ["/usr/bin/busybox", "/bin/busybox"].iter().find(|path| Path::new(path).exists());
        fs::copy(busybox.copied().unwrap_or("busybox"), root.join("bin/busybox"))?;
        for (at, module) in kernel.modules.iter().enumerate() {
            fs::copy(module, root.join(format!("modules/{at:02}.ko")))?;
        }
        executable(&root.join("init"), INIT)?;
        executable(&root.join("guest"), &guest(tests))
    };
    written().with_context(|| format!("cannot write {}", root.display()))?;
    let initrd = folder.join("initrd");
    Cmd::new("sh")
        .args(["-c", "find . | cpio --quiet -o -H newc > \"$0\""])
        .arg(&initrd)
        .current_dir(&root)
        .read()?;
    Ok(initrd)
}

fn executable(path: &Path, text: &str) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

/// Process 1: makes a root of the host's and goes there. By `switch_root`, because inside a chroot the
/// kernel refuses user namespaces (user_namespaces(7)).
const INIT: &str = "#!/bin/busybox sh
export PATH=/bin
busybox mkdir -p /proc /sys /dev /lower /upper /new
busybox mount -t proc proc /proc
busybox --install -s /bin
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
for module in /modules/*.ko; do insmod $module; done
mount -t 9p -o trans=virtio,version=9p2000.L,cache=loose,ro,msize=262144 host /lower
mount -t tmpfs tmpfs /upper
mkdir /upper/u /upper/w
mount -t overlay -o lowerdir=/lower,upperdir=/upper/u,workdir=/upper/w overlay /new
mount -t proc proc /new/proc
mount -t sysfs sysfs /new/sys
mount -t devtmpfs dev /new/dev
mkdir -p /new/dev/pts /new/dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts /new/dev/pts
for place in /dev/shm /run /tmp; do mount -t tmpfs -o mode=1777 tmpfs /new$place; done
mount -t cgroup2 cgroup2 /new/sys/fs/cgroup
cp /guest /bin/busybox /new/run/
exec switch_root /new /bin/sh /run/guest
";

/// What happens in the guest.
fn guest(tests: &Tests) -> String {
    let Tests { tests, keeper, program } = tests;
    let (tests, keeper, program) = (tests.display(), keeper.display(), program.display());
    format!(
        "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TMPDIR=/tmp RUST_BACKTRACE=0
ip link set lo up
# The ordinary user may not see the folders above them.
mkdir /tmp/t && cp '{tests}' /tmp/t/tests && cp '{keeper}' /tmp/t/keeper && cp '{program}' /tmp/t/program
chmod -R a+rX /tmp/t
export TARE_RUNTIME=/tmp/t/keeper TARE_TEST_PROGRAM=/tmp/t/program
# What podman and docker need where there is no systemd and no disk.
mkdir -p /etc/containers
printf '[storage]\\ndriver = \"vfs\"\\nrunroot = \"/run/storage\"\\ngraphroot = \"/var/lib/tare-storage\"\\n' > /etc/containers/storage.conf
printf '[engine]\\ncgroup_manager = \"cgroupfs\"\\nevents_logger = \"file\"\\n' > /etc/containers/containers.conf
if command -v dockerd > /dev/null; then
    dockerd --iptables=false --ip6tables=false --bridge=none -s vfs --data-root /var/lib/tare-docker > /run/dockerd.log 2>&1 &
    for second in $(seq 60); do docker version > /dev/null 2>&1 && break; sleep 1; done
fi
verdict() {{ if [ $1 = 0 ]; then echo '{VERDICT}' $2 passed; else echo '{VERDICT}' $2 failed; fi; }}
/tmp/t/tests --test-threads 1 --nocapture
verdict $? root
mkdir /sys/fs/cgroup/user
for controller in cpu cpuset memory pids; do echo +$controller > /sys/fs/cgroup/cgroup.subtree_control; done
cd /sys/fs/cgroup/user && chown 1000:1000 . cgroup.procs cgroup.subtree_control cgroup.threads
mkdir /tmp/u && chown 1000:1000 /tmp/u
(
    echo 0 > /sys/fs/cgroup/user/cgroup.procs
    export HOME=/tmp/u TMPDIR=/tmp/u
    exec setpriv --reuid 1000 --regid 1000 --clear-groups /tmp/t/tests --test-threads 1 --nocapture
)
verdict $? user
/run/busybox poweroff -f
"
    )
}
