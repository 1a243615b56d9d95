//! The guest: its programs, its first file system, and the report that is expected of it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::Value;

use super::Machine;
use super::kernel::Kernel;
use crate::lab::expect::same;
use crate::lab::profile::{events, figure};
use tare_profiler::{Overall, Report};
use tare_tool::environment::Environment;
use tare_tool::process::{Execute as _, cmd, shell_in};
use tare_tool::ui::Ui;
use xtask_tare::workspace::Workspace;

const INIT: &str = include_str!("init.sh");
const COMMON: &str = include_str!("common.sh");

/// The programs, as they were built on the host, with the names of the shell's variables that hold them.
pub(super) struct Tests([(&'static str, PathBuf); 5]);

impl Tests {
    pub(super) fn build(
        workspace: &Workspace,
        env: &Environment,
        folder: &Path,
        ui: Ui,
    ) -> anyhow::Result<Self> {
        ui.status("Building", "the tests of containers");
        let (sh, target) = (shell_in(&workspace.root)?, workspace.target_dir.join("tests"));
        let cargo = |arguments: &[&str]| {
            let cargo = env.cargo();
            cmd!(sh, "{cargo} {arguments...} --target-dir {target}").without_env(env.of_cargo_run())
        };
        let test = |package: &str, name: &str| {
            let arguments = ["test", "--locked", "--profile", "xtask", "--package", package];
            let messages = cargo(&arguments).args(["--test", name, "--no-run", "--message-format", "json"]);
            let messages = messages.capture_text()?;
            let executable = |line: &str| {
                let message: Value = serde_json::from_str(line).ok()?;
                let is_test = message.pointer("/target/name")? == name;
                let path = message.get("executable")?.as_str().map(PathBuf::from);
                path.filter(|_| is_test)
            };
            messages.lines().find_map(executable).with_context(|| format!("cargo names no test {name}"))
        };
        let (containers, measure) = (test("tare-container", "container")?, test("tare-profiler", "measure")?);
        let packages = ["--package", "tare-keeper", "--package", "tare-profiler"];
        cargo(&["build", "--locked", "--profile", "xtask"]).args(packages).capture()?;
        let program = folder.join("program");
        let source = workspace.root.join("crates/container/tests/container/program.rs");
        crate::compile(&source, &program, "x86_64-unknown-linux-musl", &workspace.root)?;
        let built = |name: &str| target.join("xtask").join(name);
        Ok(Self([
            ("CONTAINERS", containers),
            ("MEASURE", measure),
            ("KEEPER", built("tare-keeper")),
            ("PROFILER", built("tare-profiler")),
            ("PROGRAM", program),
        ]))
    }

    /// For the shell.
    fn names(&self) -> String {
        self.0.iter().map(|(name, path)| format!("{name}='{}'\n", path.display())).collect()
    }
}

/// The first file system: busybox, the modules, and what to do.
pub(super) fn initrd(
    machine: &Machine,
    folder: &Path,
    kernel: &Kernel,
    tests: &Tests,
) -> anyhow::Result<PathBuf> {
    let root = folder.join("initrd.d");
    let _ = fs::remove_dir_all(&root);
    let written = || -> std::io::Result<()> {
        fs::create_dir_all(root.join("bin"))?;
        fs::create_dir_all(root.join("modules"))?;
        fs::create_dir_all(root.join("tare-vm"))?;
        let busybox = ["/usr/bin/busybox", "/bin/busybox"].iter().find(|path| Path::new(path).exists());
        fs::copy(busybox.copied().unwrap_or("busybox"), root.join("bin/busybox"))?;
        for (at, module) in kernel.modules.iter().enumerate() {
            fs::copy(module, root.join(format!("modules/{at:02}.ko")))?;
        }
        fs::write(root.join("init"), INIT)?;
        fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755))?;
        fs::write(root.join("tare-vm/names"), tests.names())?;
        fs::write(root.join("tare-vm/common.sh"), COMMON)?;
        fs::write(root.join("tare-vm/script"), machine.script)?;
        for (name, text) in machine.units {
            fs::create_dir_all(root.join("tare-vm/units"))?;
            fs::write(root.join("tare-vm/units").join(name), text)?;
        }
        Ok(())
    };
    written().with_context(|| format!("cannot write {}", root.display()))?;
    let initrd = folder.join("initrd");
    let sh = shell_in(&root)?;
    cmd!(sh, "sh -c 'find . | cpio --quiet -o -H newc > \"$0\"' {initrd}").capture()?;
    Ok(initrd)
}

/// Fails unless the report of the ordinary user's profile in the guest is as it must be.
pub(super) fn check_report(text: &str) -> anyhow::Result<()> {
    let report = Report::parse(text)?;
    let runtime = report.runtime.as_ref().map(|it| (it.name.as_str(), it.rootless));
    same("the cgroup version", &report.host.cgroup.as_str(), &"v2")?;
    same("the runtime, and whether it is rootless,", &runtime, &Some(("embedded", true)))?;
    same("the list of events", &events(&report), &Vec::new())?;
    same("the verdict", &report.overall, &Overall::Pass)?;
    let limits = report.runs.get(1).and_then(|run| run.limits.as_ref());
    same("the memory limit", &limits.and_then(|limits| limits.memory), &Some(64 << 20))?;
    let affinity = "by affinity, for no cpuset is delegated";
    anyhow::ensure!(text.contains(affinity), "it lacks `{affinity}`");
    for metric in
        ["startup.warm.ready", "startup.cold.ready", "throughput.rate", "throughput.cpu-per-request"]
    {
        figure(&report, metric)?;
    }
    Ok(())
}
