//! The process of root's that `--sudo` starts, as it is handed everything by an ordinary user's.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::json;
use tare_container::group::group_of;

use crate::fixture::{World, as_root, until};

/// Whoever that is.
const USER: u32 = 1001;
/// What is root's on this host stays as it is.
const SET_UP: &str = "mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/cache && exec \"$0\" \"$@\"";

/// Starts it in a workspace of the user's. Its stdin is a pipe.
fn start(world: &World, profile: &str) -> (Child, PathBuf) {
    let work = world.folder.path().join("work");
    fs::create_dir_all(work.join("profiles")).unwrap();
    fs::write(work.join("profiles/short.toml"), profile).unwrap();
    chown(&work, Some(USER), Some(USER)).unwrap();
    let image =
        world.image_with(&json!({"Entrypoint": ["/program", "http=8080"], "ExposedPorts": {"8080/tcp": {}}}));
    let plan = json!({
        "workspace": {"root": work, "target_dir": work.join("target")}, "keeper": world.options.keeper,
        "images": [{"name": "app", "location": image.name, "platforms": []}],
        "user": {"uid": USER, "gid": USER, "groups": [USER]},
    });
    fs::set_permissions(world.folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut child = Command::new("unshare")
        .args(["--mount", "sh", "-c", SET_UP])
        .arg(crate::profiler())
        .args(["run", "--plan", "-", "--", "profile", "app", "--sudo", "--profile", "short"])
        .args(["--save-baseline", "baseline.json"])
        .env("GITHUB_STEP_SUMMARY", work.join("summary"))
        .current_dir(&work)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(fs::File::create(world.folder.path().join("stderr")).unwrap())
        .spawn()
        .unwrap();
    writeln!(child.stdin.as_mut().unwrap(), "{plan}").unwrap();
    (child, work)
}

/// Every file below a folder with its owner, but what the test itself made.
fn owners(folder: &Path, at: &str) -> Vec<(String, u32)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{at}{}", entry.file_name().to_string_lossy());
        if name == "profiles" {
            continue;
        }
        found.push((name.clone(), entry.metadata().unwrap().uid()));
        if entry.file_type().unwrap().is_dir() {
            found.extend(owners(&entry.path(), &format!("{name}/")));
        }
    }
    found.sort();
    found
}

#[test]
fn what_root_leaves_in_a_users_folders_belongs_to_the_user() {
    if !as_root() {
        return;
    }
    let world = World::new();
    let profile = "passes = [\"startup\"]\n[startup]\nruns = 2\ncold-runs = 1\n";
    let (mut child, work) = start(&world, profile);
    // `wait` would close it.
    let stdin = child.stdin.take();
    let status = child.wait().unwrap();
    drop(stdin);
    let said = fs::read_to_string(world.folder.path().join("stderr")).unwrap();
    assert!(status.success() && said.contains("Saved the baseline"), "{status}: {said}");
    let folder = "target/profiles/app/short";
    let mut expected: Vec<(String, u32)> = [
        "summary",
        "target",
        "target/profiles",
        "target/profiles/app",
        folder,
        &format!("{folder}/junit.xml"),
        &format!("{folder}/report.html"),
        &format!("{folder}/report.json"),
        &format!("{folder}/report.md"),
    ]
    .map(|name| (name.to_owned(), USER))
    .into();
    // Two runs of so few starts need not agree.
    if work.join("baseline.json").exists() {
        expected.push(("baseline.json".to_owned(), USER));
    }
    expected.sort();
    assert_eq!(owners(&work, ""), expected);
}

#[test]
fn the_end_of_the_users_process_ends_the_container() {
    if !as_root() {
        return;
    }
    let world = World::new();
    let (mut child, _) = start(&world, "[startup]\nruns = 10000\n");
    let pid = child.id();
    let state = PathBuf::from(format!("/proc/{pid}/root/run/tare"));
    until("a container", || fs::read_dir(&state).is_ok_and(|mut entries| entries.next().is_some()));
    drop(child.stdin.take());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(tare_keeper::cgroup::folders(&group_of(pid)), Vec::<PathBuf>::new());
}
