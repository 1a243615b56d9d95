//! Copies of real containers, of a server whose memory is known.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::fixture::{World, as_root, until};
use crate::passes::{Scene, profile, value};

const MIB: f64 = 1_048_576.0;

fn density(scene: &Scene, hold: u32, options: &str) -> tare_profiler::profile::report::Run {
    let text =
        format!("args = [\"hold={hold}\", \"http=8080\"]\npasses = [\"density\"]\n[density]\n{options}\n");
    scene.run(&profile(&text))
}

#[test]
fn ten_mib_more_in_every_copy_are_ten_mib_more_in_every_figure() {
    let Some(scene) = Scene::new() else { return };
    let options = "most = 3\nmemory = \"128MiB\"";
    let [small, large] = [1 << 20, 11 << 20].map(|hold| density(&scene, hold, options));
    for run in [&small, &large] {
        assert_eq!(run.events, []);
        assert_eq!(value(&run.measurements, "density.copies"), 3.0);
        assert!(value(&run.measurements, "density.start.first") > 0.0);
    }
    for metric in ["density.memory.pss", "density.memory.cgroup", "density.memory.added"] {
        let more = (value(&large.measurements, metric) - value(&small.measurements, metric)) / MIB;
        assert!((more - 10.0).abs() < 0.5, "{metric}: {more} MiB more");
    }
    assert!(scene.is_clean());
}

#[test]
fn copies_are_started_until_the_memory_is_used_up() {
    let Some(scene) = Scene::new() else { return };
    let run = density(&scene, 20 << 20, "most = 10\nmemory = \"70MiB\"");
    assert_eq!(value(&run.measurements, "density.copies"), 3.0);
    let notes = &run.sections[0].notes;
    assert!(notes[1].starts_with("3 copies fit: with another copy the "), "{notes:?}");
    assert!(scene.is_clean());
}

/// Each copy uses a whole CPU as long as it lives.
#[test]
fn copies_that_never_rest_are_as_many_as_the_budget_has_cpu_time_for() {
    let Some(scene) = Scene::new() else { return };
    let text = "args = [\"spin=1\", \"http=8080\"]\npasses = [\"density\"]\nlimits = { cpus = 0.2 }\n\
                density = { most = 5, idle-cpus = 0.3 }\n";
    let run = scene.run(&profile(text));
    assert_eq!(value(&run.measurements, "density.copies"), 1.0);
    let idle = value(&run.measurements, "density.idle-cpu");
    assert!((0.05..=0.3).contains(&idle), "{idle}");
    assert!(scene.is_clean());
}

#[test]
fn a_first_copy_that_does_not_become_ready_is_an_event_and_no_figure() {
    let Some(scene) = Scene::new() else { return };
    let run = scene.run(&profile("args = [\"exit=3\"]\npasses = [\"density\"]\n"));
    assert_eq!((run.measurements, run.events.len()), (vec![], 1));
    assert!(scene.is_clean());
}

#[test]
fn an_interrupted_pass_leaves_no_copy() {
    if !as_root() {
        return;
    }
    let world = World::new();
    let work = world.folder.path().join("work");
    std::fs::create_dir_all(work.join("profiles")).unwrap();
    std::fs::write(work.join("profiles/many.toml"), "passes = [\"density\"]\n[density]\nmost = 200\n")
        .unwrap();
    let image = world.image_with(
        &json!({"Entrypoint": ["/program"], "Cmd": ["http=8080"], "ExposedPorts": {"8080/tcp": {}}}),
    );
    let plan = json!({
        "workspace": {"root": work, "target_dir": work.join("target")}, "keeper": world.options.keeper,
    });
    let file = work.join("plan.json");
    std::fs::write(&file, plan.to_string()).unwrap();
    // Records of containers in a folder of its own.
    let mut child = Command::new("unshare")
        .args(["--mount", "sh", "-c", "mount -t tmpfs tmpfs /run && exec \"$0\" \"$@\""])
        .arg(crate::profiler())
        .args(["run", "--plan"])
        .arg(file)
        .args(["--", "profile", &image.name, "--runtime", "embedded", "--profile", "many", "--quiet"])
        .current_dir(&work)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let pid = child.id();
    let group = tare_container::group::group_of(pid);
    let copies = || -> usize {
        let folders = tare_keeper::cgroup::folders(&group);
        folders.iter().map(|folder| below(folder)).max().unwrap_or(0)
    };
    until("three copies", || copies() >= 3);
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(copies(), 0);
}

fn below(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).count()
}
