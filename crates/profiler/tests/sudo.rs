//! The two steps of `profile` as an ordinary user: what the first asks for, what goes through sudo in the second, and
//! what is done before it. The `sudo` of these tests notes how it is called and makes nobody root.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tare_container::cgroup::Version;
use tare_container::host::HostFacts;
use tare_container::rights::is_root;
use tare_oci::platform::Platform;
use tare_profiler::profile::startup::runtime_baseline;
use tempfile::TempDir;

/// Whoever that is where these tests run as root.
const USER: u32 = 1001;

/// A workspace of an ordinary user, with all that the command line calls.
struct World {
    _folder: TempDir,
    work: PathBuf,
    bin: PathBuf,
    calls: PathBuf,
    layout: PathBuf,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).unwrap();
        let (work, bin) = (root.join("work"), root.join("bin"));
        for folder in [&work, &bin] {
            fs::create_dir(folder).unwrap();
        }
        // The user may not see the folder that it was built in.
        install(env!("CARGO_BIN_EXE_tare-profiler").as_ref(), "", &root.join("tare-profiler"));
        let platform = format!("linux/{}", tare_container::target::host_architecture());
        let layout = runtime_baseline::write(&root, platform.parse::<Platform>().unwrap()).unwrap();
        let world = Self { _folder: folder, calls: work.join("calls"), work, bin, layout };
        world.program(
            "sudo",
            &format!(
                "case $4 in '') exit 0;; esac; read -r line; printf '%s\\n' \"$line\" >>'{}'; exit 7",
                world.calls.display()
            ),
        );
        let plan = json!({
            "workspace": world.folders(), "keeper": "/built/keeper", "images": [world.image()], "user": null,
        });
        fs::write(root.join("plan.json"), plan.to_string()).unwrap();
        if is_root() {
            chown(&world.work, Some(USER), Some(USER)).unwrap();
        }
        world
    }

    /// A program that notes how it is called before it does this.
    fn program(&self, name: &str, does: &str) {
        let path = self.bin.join(name);
        let script = format!("#!/bin/sh\necho \"{name} $*\" >>'{}'\n{does}\n", self.calls.display());
        install("/dev/stdin".as_ref(), &script, &path);
    }

    fn profiler(&self) -> PathBuf {
        self.work.with_file_name("tare-profiler")
    }

    fn folders(&self) -> Value {
        json!({"root": self.work, "target_dir": self.work.join("target")})
    }

    /// As it is in the plan.
    fn image(&self) -> Value {
        let platform = json!({"platform": "linux/other", "unstripped_binary": "/built/app.unstripped"});
        json!({"name": "app", "location": self.layout, "platforms": [platform]})
    }

    fn start(&self, step: &[&str], arguments: &[&str]) -> Output {
        let mut command = Command::new(self.profiler());
        command.args(step).args(arguments).current_dir(&self.work).env_clear();
        command.env("PATH", &self.bin).env("NO_COLOR", "1");
        if is_root() {
            command.uid(USER).gid(USER);
        }
        command.output().unwrap()
    }

    /// The first step, and what it asks for.
    fn plan(&self, arguments: &[&str]) -> (Output, Option<Value>) {
        let file = self.work.join("wanted.json");
        let step = ["plan", "--plan", "wanted.json", "--workspace", self.work.to_str().unwrap(), "--"];
        let output = self.start(&step, arguments);
        let wanted = fs::read(&file).ok().map(|text| serde_json::from_slice(&text).unwrap());
        if wanted.is_some() {
            fs::remove_file(&file).unwrap();
        }
        (output, wanted)
    }

    /// The second step, with everything built.
    fn run(&self, arguments: &[&str]) -> Output {
        self.start(&["run", "--plan", "../plan.json", "--"], arguments)
    }

    fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(&self.calls).unwrap_or_default();
        calls.lines().map(str::to_owned).collect()
    }

    /// The user that [`Self::run`] runs as, as it is handed over.
    fn user(&self) -> Value {
        if is_root() {
            return json!({"uid": USER, "gid": USER, "groups": []});
        }
        let groups = rustix::process::getgroups().unwrap();
        let groups: Vec<u32> = groups.into_iter().map(rustix::process::Gid::as_raw).collect();
        let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
        json!({"uid": user.as_raw(), "gid": group.as_raw(), "groups": groups})
    }
}

/// Makes a program, by another process: a child that another test starts meanwhile would hold a file that this one
/// has open, and no program can be run that is open for writing (ETXTBSY).
fn install(source: &Path, stdin: &str, program: &Path) {
    let mut install = Command::new("install");
    install.args(["-m", "755"]).arg(source).arg(program).stdin(Stdio::piped());
    let mut install = install.spawn().unwrap();
    install.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    assert!(install.wait().unwrap().success());
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Exit code, stdout and stderr.
fn said(output: &Output) -> (Option<i32>, String, String) {
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn sudo_is_not_called_unless_asked_for() {
    let version = HostFacts::read().cgroup;
    if !matches!(version, Version::V1 | Version::Hybrid) {
        let _ = writeln!(std::io::stderr(), "left out: an ordinary user may make containers with {version}");
        return;
    }
    let expected = "error: containers cannot be made here: only root may set limits with cgroup version 1\n\
        hint: add `--sudo` to measure as root after all is built, boot with cgroup version 2 \
        (`systemd.unified_cgroup_hierarchy=1`), of which systemd delegates a group to you, or choose \
        `--runtime docker`\n";
    let world = World::new();
    for arguments in [&["profile", "app"][..], &["profile", "compare", "app", "app"]] {
        // Nothing is built in vain, either.
        let (output, wanted) = world.plan(arguments);
        assert_eq!((said(&output), wanted), ((Some(2), String::new(), expected.to_owned()), None));
        assert_eq!(said(&world.run(arguments)), (Some(2), String::new(), expected.to_owned()));
        assert_eq!(world.calls(), Vec::<String>::new());
    }
}

#[test]
fn what_goes_through_sudo_comes_after_everything_is_built() {
    let world = World::new();
    for (verb, subjects) in [(&["profile", "app"][..], 1), (&["profile", "compare", "app", "app"], 2)] {
        let arguments = [verb, &["--sudo", "--runs", "1"]].concat();
        let (output, wanted) = world.plan(&arguments);
        let images = json!({"named": vec!["app"; subjects]});
        assert_eq!(
            (said(&output), wanted),
            (
                (Some(0), String::new(), String::new()),
                Some(json!({"images": images, "keeper": true, "quiet": false}))
            )
        );
        assert_eq!(world.calls(), Vec::<String>::new());

        let output = world.run(&arguments);
        assert_eq!(output.status.code(), Some(7), "{}", text(&output.stderr));
        let calls = world.calls();
        let [through, command, plan] = calls.as_slice() else { panic!("{calls:?}") };
        assert_eq!(through, "sudo --non-interactive -- true");
        assert_eq!(
            *command,
            format!(
                "sudo --non-interactive -- env NO_COLOR=1 {} run --plan - -- {} --sudo --runs 1",
                world.profiler().display(),
                verb.join(" ")
            )
        );
        assert_eq!(
            serde_json::from_str::<Value>(plan).unwrap(),
            json!({
                "workspace": world.folders(), "keeper": "/built/keeper",
                "images": vec![world.image(); subjects], "user": world.user(),
            })
        );
        fs::remove_file(&world.calls).unwrap();
    }
}

#[test]
fn a_sudo_that_asks_for_a_password_is_said_so() {
    let world = World::new();
    world.program("sudo", "echo 'sudo: a password is required' >&2; exit 1");
    let output = world.run(&["profile", "app", "--sudo", "--quiet"]);
    let expected = "error: `sudo --non-interactive -- true` failed (exit status: 1): sudo: a password is required\n\
        hint: call `sudo --validate` first, which asks for the password, or choose `--runtime docker`\n";
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(2), expected.to_owned()));
}

#[test]
fn sizes_need_no_root_whoever_offers_it() {
    let world = World::new();
    let arguments = ["profile", "app", "--sudo", "--pass", "size"];
    let (output, wanted) = world.plan(&arguments);
    let wants = json!({"images": {"named": ["app"]}, "keeper": false, "quiet": false});
    assert_eq!((said(&output).0, wanted), (Some(0), Some(wants)));
    let output = world.run(&arguments);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(world.calls(), Vec::<String>::new());
    assert!(Path::new(&world.work.join("target/profiles/app/default/report.json")).is_file());
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_built() {
    let world = World::new();
    // A daemon's containers need no rights of this user's.
    world.program("docker", "");
    let has = std::thread::available_parallelism().unwrap();
    let too_many = format!(
        "error: the profile allows 1000 CPUs, and this host has {has}\n\
         hint: ask for at most `--cpus {has}`, or leave the limit out of the profile\n"
    );
    let docker = ["--runtime", "docker", "--cpus", "1000"];
    let absent = "error: the runtime `podman` is not installed or not on PATH\n\
        hint: install podman, or leave `--runtime` out to use the embedded one\n";
    let podman = ["--runtime", "podman"];
    let lost = "error: ./lost: cannot read ./lost: No such file or directory (os error 2)\n";
    for (arguments, expected) in [
        ([&["profile", "app"][..], &docker].concat(), too_many.as_str()),
        ([&["profile"][..], &docker].concat(), &too_many),
        ([&["profile", "compare", "app", "app"][..], &docker].concat(), &too_many),
        ([&["profile", "app"][..], &podman].concat(), absent),
        ([&["profile", "compare", "app", "app"][..], &podman].concat(), absent),
        (vec!["profile", "app", "./lost", "--pass", "size"], lost),
    ] {
        let (output, wanted) = world.plan(&arguments);
        let (code, stdout, stderr) = said(&output);
        assert_eq!((code, stdout, wanted), (Some(2), String::new(), None), "{arguments:?}");
        assert!(stderr.starts_with(expected), "{arguments:?}: {stderr}");
    }
    // Only asked whether it is there, where that decides.
    let calls: Vec<String> = world.calls().into_iter().filter(|call| call != "docker version").collect();
    assert_eq!(calls, Vec::<String>::new());
}

#[test]
fn the_first_step_asks_for_what_is_missing_alone() {
    let world = World::new();
    let layout = world.layout.to_str().unwrap();
    world.program("docker", "");
    let sizes = ["--pass", "size"];
    for (arguments, images, quiet) in [
        ([&["profile"][..], &sizes].concat(), json!("default"), false),
        ([&["profile", layout][..], &sizes].concat(), json!("none"), false),
        (
            [&["profile", layout, "b", "a", "--quiet"][..], &sizes].concat(),
            json!({"named": ["b", "a"]}),
            true,
        ),
        (vec!["profile", "compare", "a", layout, "--runtime", "docker"], json!({"named": ["a"]}), false),
    ] {
        let (output, wanted) = world.plan(&arguments);
        let expected = json!({"images": images, "keeper": false, "quiet": quiet});
        assert_eq!((said(&output).2, wanted), (String::new(), Some(expected)), "{arguments:?}");
    }
    let (_, wanted) = world.plan(&["profile", "app", "registry.example/app:1", "--pass", "size"]);
    let pulled = json!(["registry.example/app:1"]);
    let expected = json!({"images": {"named": ["app"]}, "keeper": false, "pulled": pulled, "quiet": false});
    assert_eq!(wanted, Some(expected));
    for arguments in [["profile", "--list-metrics"], ["profile", "--list-profiles"], ["profile", "--help"]] {
        let (output, wanted) = world.plan(&arguments);
        assert_eq!((output.status.code(), wanted), (Some(0), None), "{arguments:?}");
        assert!(!output.stdout.is_empty(), "{arguments:?}");
    }
    let (output, wanted) = world.plan(&["profile", "--no-such"]);
    assert_eq!((output.status.code(), wanted), (Some(2), None));
}

#[test]
fn without_a_plan_only_paths_are_images() {
    let world = World::new();
    let output = world.start(&[], &["profile", world.layout.to_str().unwrap(), "--pass", "size"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let name = world.layout.file_name().unwrap();
    assert!(world.work.join("target/profiles").join(name).join("default/report.json").is_file());
    let hint = "hint: call it as `cargo xtask profile`, or name a path: an OCI layout or an archive\n";
    for (arguments, what) in [
        (&["profile", "--pass", "size"][..], "the workspace's images"),
        (&["profile", "app", "--pass", "size"], "image app"),
    ] {
        let expected = format!("error: {what} cannot be had without the xtask of a workspace\n{hint}");
        assert_eq!(said(&world.start(&[], arguments)), (Some(2), String::new(), expected));
    }
}
