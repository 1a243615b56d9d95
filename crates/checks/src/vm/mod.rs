//! Tests containers in small virtual machines with cgroup version 2: without systemd, as root with every installed runtime
//! and as an ordinary user; and with systemd, as on a laptop. They test behaviour and no times, because most of them are
//! emulated, ten to thirty times slower than the host.
//!
//! The guest's root is the host's, read-only, below a file system in memory: programs of the host run in the guest, and
//! nothing that the guest writes reaches the host.

mod guest;
mod kernel;

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, bail};

use guest::Tests;
use kernel::Kernel;
use tare_tool::environment::Environment;
use tare_tool::process::xshell::Cmd;
use tare_tool::process::{Execute as _, Shell, cmd, find_program};
use tare_tool::ui::Ui;
use xtask_tare::workspace::Workspace;

/// Programs that are needed, with Debian's names of what brings them.
const NEEDS: [(&str, &str); 8] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("cpio", "cpio"),
    ("modprobe", "kmod"),
    ("depmod", "kmod"),
    ("dpkg", "dpkg"),
    ("apt-get", "apt"),
    ("unshare", "util-linux"),
];
/// Longer than any run took; a guest that hangs is ended.
const SECONDS: &str = "900";
/// The same for a guest that only prints a line. On some hosts /dev/kvm never gets that far.
const PROBE_SECONDS: &str = "15";
/// The prefix of the guest's own lines.
const MARK: &str = "tare-vm: ";

/// A virtual machine in which containers are tested.
struct Machine {
    name: &'static str,
    /// The programs that it runs.
    script: &'static str,
    /// What its systemd has to start; none without systemd.
    units: &'static [(&'static str, &'static str)],
    /// The tests that it must report as passed, in this order.
    expected: &'static [&'static str],
}

const MACHINES: [Machine; 2] = [
    Machine {
        name: "bare",
        script: include_str!("bare.sh"),
        units: &[],
        expected: &["root", "refused", "user"],
    },
    Machine {
        name: "systemd",
        script: include_str!("systemd.sh"),
        units: &[
            ("tare.service", include_str!("tare.service")),
            ("tare.target", include_str!("tare.target")),
        ],
        expected: &["session", "podman", "profile", "clean", "rootless-podman", "killed"],
    },
];

/// Boots one machine or all, and runs the tests; false if one failed.
pub(crate) fn run(
    only: Option<&str>,
    workspace: &Workspace,
    env: &Environment,
    ui: Ui,
) -> anyhow::Result<bool> {
    let path = env.get("PATH");
    let is_there =
        // Administrators' programs are on root's PATH alone.
        |program: &str| find_program(program, path).is_some() || Path::new("/sbin").join(program).exists();
    let missing: Vec<&str> =
        NEEDS.iter().filter(|(program, _)| !is_there(program)).map(|(_, package)| *package).collect();
    if !missing.is_empty() {
        bail!("the virtual machine needs {}: install them with apt-get", missing.join(", "));
    }
    let folder = workspace.target_dir.join("vm");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let kernel = Kernel::get(&folder, ui)?;
    let tests = Tests::build(workspace, env, &folder, ui)?;
    let mut passed = true;
    for machine in MACHINES.iter().filter(|machine| only.is_none_or(|only| only == machine.name)) {
        passed &= boot(machine, &kernel, &tests, &folder, ui)?;
    }
    Ok(passed)
}

fn boot(machine: &Machine, kernel: &Kernel, tests: &Tests, folder: &Path, ui: Ui) -> anyhow::Result<bool> {
    let sh = Shell::new()?;
    let initrd = guest::initrd(machine, folder, kernel, tests)?;
    let kvm = kvm_works(&sh, kernel, &initrd);
    let how = if kvm { "with KVM" } else { "emulated" };
    ui.status("Booting", &format!("a virtual machine with cgroup v2, {how}: {}", machine.name));
    let started = Instant::now();
    let mut said = Vec::new();
    let ended = qemu(&sh, SECONDS, kvm, kernel, &initrd, "")
        .args(["-virtfs", "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap"])
        .for_each_line(|line| {
            let line = line.trim_end();
            match line.strip_prefix(MARK) {
                Some(text) => said.push(text.to_owned()),
                None => ui.block(line),
            }
        })?;
    if !ended {
        ui.error("the virtual machine did not end by itself", None);
    }
    let (reports, verdicts): (Vec<_>, Vec<_>) = said.iter().partition(|text| text.starts_with("report "));
    let expected: Vec<String> = machine.expected.iter().map(|name| format!("{name} passed")).collect();
    let mut passed = ended && verdicts.iter().copied().eq(&expected);
    for verdict in &verdicts {
        ui.status("Said", verdict);
    }
    for report in reports {
        if let Err(error) = guest::check_report(report.trim_start_matches("report ")) {
            passed = false;
            ui.error(&format!("the report of the profile: {error:#}"), None);
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    match passed {
        true => ui.status("Passed", &format!("the virtual machine {} ({seconds:.0} s)", machine.name)),
        false => ui.error(
            &format!("the virtual machine {} did not pass ({seconds:.0} s)", machine.name),
            Some(&format!("it has to say, in this order: {}", expected.join(", "))),
        ),
    }
    Ok(passed)
}

/// The machine without its file systems.
fn qemu<'a>(
    sh: &'a Shell,
    seconds: &str,
    kvm: bool,
    kernel: &Kernel,
    initrd: &Path,
    append: &str,
) -> Cmd<'a> {
    let accelerator: &[&str] =
        if kvm { &["-accel", "kvm", "-cpu", "host"] } else { &["-accel", "tcg,thread=multi"] };
    let append = format!(
        "console=ttyS0 quiet loglevel=0 panic=1 systemd.show_status=0 systemd.unified_cgroup_hierarchy=1 {append}"
    );
    cmd!(sh, "timeout {seconds} qemu-system-x86_64 {accelerator...} -smp 2 -m 3072 -nographic -no-reboot")
        .args(["-append", &append, "-kernel"])
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(initrd)
}

/// Whether a guest gets as far as its first program with the host's processor.
fn kvm_works(sh: &Shell, kernel: &Kernel, initrd: &Path) -> bool {
    if fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_err() {
        return false;
    }
    let probe = qemu(sh, PROBE_SECONDS, true, kernel, initrd, "tare.probe").capture_text();
    probe.is_ok_and(|said| said.contains("tare-vm: up"))
}
