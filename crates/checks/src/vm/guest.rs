//! What runs in the guest: the programs, the first file system, and what is expected of a report.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::Value;

use super::Machine;
use super::kernel::Kernel;
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

/// What an ordinary user's report of the guest's profile does not say as it should.
pub(super) fn wrong_in_report(text: &str) -> Vec<String> {
    let Ok(report) = serde_json::from_str::<Value>(text) else { return vec!["it is no JSON".to_owned()] };
    let mut wrong = Vec::new();
    for (what, expected) in [
        ("/host/cgroup", Value::from("v2")),
        ("/runtime/name", Value::from("embedded")),
        ("/runtime/rootless", Value::from(true)),
        ("/overall", Value::from("pass")),
        // Nothing went wrong with the server.
        ("/runs/1/events", Value::Null),
        ("/runs/1/limits/memory", Value::from(64 << 20)),
    ] {
        let found = report.pointer(what).cloned().unwrap_or(Value::Null);
        if found != expected {
            wrong.push(format!("{what} is {found} and not {expected}"));
        }
    }
    let affinity = "by affinity, for no cpuset is delegated";
    if !text.contains(affinity) {
        wrong.push(format!("it does not say `{affinity}`"));
    }
    for metric in
        ["startup.warm.ready", "startup.cold.ready", "throughput.rate", "throughput.cpu-per-request"]
    {
        if !text.contains(&format!("\"{metric}\"")) {
            wrong.push(format!("it has no figure {metric}"));
        }
    }
    wrong
}
