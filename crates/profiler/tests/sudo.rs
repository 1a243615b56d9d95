//! As an ordinary user: what goes through sudo, and what was done before it. The `sudo` of these tests notes how
//! it is called and makes nobody root.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::json;
use tare_container::cgroup::Version;
use tare_container::host::HostFacts;
use tare_container::runtime::is_root;
use tare_oci::platform::Platform;
use tare_profiler::profile::startup::floor;
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
        fs::copy(env!("CARGO_BIN_EXE_tare-profiler"), root.join("tare-profiler")).unwrap();
        fs::write(work.join("Cargo.toml"), "[workspace]\n").unwrap();
        let platform = format!("linux/{}", tare_container::target::host_architecture());
        let layout = floor::write(&root, platform.parse::<Platform>().unwrap()).unwrap();
        let world = Self { _folder: folder, calls: work.join("calls"), work, bin, layout };
        world.program("sudo", "case $4 in '') exit 0;; esac; exit 7");
        let image = json!({"name": "app", "layout": world.layout, "platforms": []});
        world.program(
            "xtask",
            &format!("case $1 in image) echo '{image}';; part) echo /built/runtime;; esac"),
        );
        if is_root() {
            chown(&world.work, Some(USER), Some(USER)).unwrap();
        }
        world
    }

    /// A program that notes how it is called before it does this.
    fn program(&self, name: &str, does: &str) {
        let path = self.bin.join(name);
        let script = format!("#!/bin/sh\necho \"{name} $*\" >>'{}'\n{does}\n", self.calls.display());
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn scale(&self) -> PathBuf {
        self.work.with_file_name("tare-profiler")
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(self.scale());
        command.args(arguments).current_dir(&self.work).env_clear();
        command.env("PATH", &self.bin).env("TARE_XTASK", self.bin.join("xtask")).env("NO_COLOR", "1");
        if is_root() {
            command.uid(USER).gid(USER);
        }
        command.output().unwrap()
    }

    fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(&self.calls).unwrap_or_default();
        calls.lines().map(str::to_owned).collect()
    }

    /// The user that [`Self::run`] runs as, as it is handed over.
    fn user(&self) -> serde_json::Value {
        if is_root() {
            return json!({"uid": USER, "gid": USER, "groups": []});
        }
        let groups = rustix::process::getgroups().unwrap();
        let groups: Vec<u32> = groups.into_iter().map(rustix::process::Gid::as_raw).collect();
        let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
        json!({"uid": user.as_raw(), "gid": group.as_raw(), "groups": groups})
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
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
        let output = world.run(arguments);
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(2), expected.to_owned()));
        // Nothing was built in vain, either.
        assert_eq!(world.calls(), Vec::<String>::new());
    }
}

#[test]
fn what_goes_through_sudo_comes_after_everything_is_built() {
    let world = World::new();
    for (verb, subjects) in [(&["profile", "app"][..], 1), (&["profile", "compare", "app", "app"], 2)] {
        let output = world.run(&[verb, &["--sudo", "--runs", "1"]].concat());
        assert_eq!(output.status.code(), Some(7), "{}", text(&output.stderr));
        let image = format!(r#"{{"name":"app","location":"{}","twin":null}}"#, world.layout.display());
        let images = vec![image; subjects].join(",");
        let handed_over = format!(
            r#"{{"workspace":"{work}","target_dir":"{work}/target","keeper":"/built/runtime","images":[{images}],"user":{user}}}"#,
            work = world.work.display(),
            user = in_order(&world.user()),
        );
        let mut expected = vec!["xtask image --json app".to_owned(); subjects];
        expected.push("xtask part keeper".to_owned());
        expected.push("sudo --non-interactive -- true".to_owned());
        expected.push(format!(
            "sudo --non-interactive -- env TARE_HANDED_OVER={handed_over} NO_COLOR=1 {} {} --sudo --runs 1",
            world.scale().display(),
            verb.join(" ")
        ));
        assert_eq!(world.calls(), expected);
        fs::remove_file(&world.calls).unwrap();
    }
}

/// As the program writes it: `serde_json`'s maps are sorted.
fn in_order(user: &serde_json::Value) -> String {
    format!(r#"{{"uid":{},"gid":{},"groups":{}}}"#, user["uid"], user["gid"], user["groups"])
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
    let output = world.run(&["profile", "app", "--sudo", "--pass", "size"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(world.calls(), ["xtask image --json app"]);
    assert!(Path::new(&world.work.join("target/profiles/app/default/report.json")).is_file());
}
