//! Containers from creation to removal.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tare_container::Tightening;
use tare_container::group::Parent;
use tare_container::group::group_of;
use tare_container::leftovers::{Leftover, sweep};
use tare_container::life::{Container, Exit};
use tare_container::spec::{ContainerSpec, Network};
use tare_container::{Runtime, RuntimeKind};

use crate::fixture::{BOUND, World, answer, as_root, inside, possible, until};

fn exit(code: i32) -> Exit {
    Exit { code: Some(code), signal: None, oom_killed: false }
}

/// The process that made a container, by its id.
fn maker(id: &str) -> u32 {
    id.split('-').nth(1).unwrap().parse().unwrap()
}

/// Everything that could be left of a container.
fn traces(id: &str, state: &Path) -> Vec<String> {
    // Of root each process has a group, and an id of a container begins with that process's.
    let parent = match as_root() {
        true => group_of(maker(id)),
        false => Parent::find(false).unwrap().path,
    };
    let mut traces: Vec<String> = tare_keeper::cgroup::folders(&parent.join(id))
        .iter()
        .map(|folder| folder.display().to_string())
        .collect();
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    traces.extend(mounts.lines().filter(|line| line.contains(id)).map(str::to_owned));
    traces.extend(state.join(id).exists().then(|| "its folder".to_owned()));
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let cgroup = fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        if cgroup.contains(id) {
            traces.push(format!("process {}", entry.file_name().to_string_lossy()));
        }
    }
    traces
}

#[test]
fn a_container_lives_and_leaves_nothing() {
    if !possible() {
        return;
    }
    let world = World::new();
    let runtime = world.runtime();
    let spec = ContainerSpec { env: vec![("WHO".to_owned(), "tare".to_owned())], ..ContainerSpec::default() };
    let container = world.run(&runtime, spec, &["say=out", "complain=err", "env=WHO", "exit=7"]);
    assert_eq!(container.wait(BOUND).unwrap(), Some(exit(7)));
    until("its output", || container.output_tail().lines().count() == 3);
    assert_eq!(container.output_tail(), "out\nerr\ntare\n");
    let clock = container.clock();
    let points = [Some(clock.begun), Some(clock.created), clock.started, clock.executed, clock.exited];
    let points: Vec<u64> = points.iter().map(|point| point.unwrap()).collect();
    assert!(points.is_sorted_by(|a, b| a < b) || points.is_sorted(), "{points:?}");
    // Counters outlive it.
    let counters = container.counters().unwrap();
    assert!(counters.cpu_usage.unwrap() > 0 && counters.memory_peak.unwrap() > 0, "{counters:?}");
    let id = container.id().to_owned();
    container.remove().unwrap();
    assert_eq!(traces(&id, &world.options.state), Vec::<String>::new());
}

#[test]
fn a_root_is_writable_unless_it_is_said_to_be_read_only() {
    if !possible() {
        return;
    }
    let world = World::new();
    let runtime = world.runtime();
    let arguments = ["write=/x", "write=/tmp/x", "write=/dev/shm/x", "write=/proc/sys/kernel/hostname"];
    // The image has no /tmp, and a read-only root has one in memory.
    for (read_only, expected) in [
        (false, "written\nNotFound\nwritten\nReadOnlyFilesystem\n"),
        (true, "ReadOnlyFilesystem\nwritten\nwritten\nReadOnlyFilesystem\n"),
    ] {
        let tightening = Tightening { read_only: Some(read_only), ..Tightening::default() };
        let spec = ContainerSpec { tightening, ..ContainerSpec::default() };
        let container = world.run(&runtime, spec, &arguments);
        assert_eq!(container.wait(BOUND).unwrap(), Some(exit(0)));
        until("its output", || container.output_tail().lines().count() == 4);
        assert_eq!(container.output_tail(), expected);
    }
}

#[test]
fn a_server_answers_on_the_loopback_of_its_own_network() {
    if !possible() {
        return;
    }
    let world = World::new();
    let runtime = world.runtime();
    // The same port twice: each has a network of its own.
    let containers = [(); 2].map(|()| world.run(&runtime, ContainerSpec::default(), &["serve=8080"]));
    for container in &containers {
        let endpoint = container.endpoint(8080).unwrap();
        // It is process 1 of its own namespace.
        let served = inside(&endpoint.network_namespace.unwrap(), move || answer(endpoint.address));
        assert_eq!(served, "served by 1");
    }
    assert_ne!(
        fs::read_link(containers[0].endpoint(8080).unwrap().network_namespace.unwrap()).unwrap(),
        fs::read_link("/proc/self/ns/net").unwrap()
    );
}

#[test]
fn a_server_answers_over_a_pair_of_interfaces_and_on_a_bridge() {
    if !as_root() || !Path::new("/sbin/ip").exists() && !Path::new("/usr/sbin/ip").exists() {
        return;
    }
    let world = World::new();
    let runtime = world.runtime();
    // In a network of the test's own: the host's is not changed.
    let host = world.run(&runtime, ContainerSpec::default(), &["sleep"]);
    let options = world.options.clone();
    let image = world.image();
    let answers = inside(&host.endpoint(0).unwrap().network_namespace.unwrap(), move || {
        let runtime = Runtime::open(RuntimeKind::Embedded, &options).unwrap();
        let args = ["/program", "serve=8080"].map(str::to_owned).to_vec();
        let spec = |network| ContainerSpec { args: Some(args.clone()), network, ..ContainerSpec::default() };
        let bridge = std::sync::Arc::new(tare_container::network::Bridge::create().unwrap());
        let networks = [Network::Veth, Network::Bridge(bridge.clone()), Network::Bridge(bridge)];
        let containers = networks.map(|network| {
            let container = runtime.create(&image, &spec(network)).unwrap();
            container.start().unwrap();
            container
        });
        containers.each_ref().map(|container| {
            let endpoint = container.endpoint(8080).unwrap();
            assert_eq!(endpoint.network_namespace, None);
            (endpoint.address, answer(endpoint.address))
        })
    });
    let mut addresses: Vec<_> = answers.iter().map(|(address, _)| address.ip()).collect();
    addresses.dedup();
    assert_eq!(addresses.len(), 3, "{answers:?}");
    assert!(answers.iter().all(|(_, answer)| answer == "served by 1"), "{answers:?}");
}

#[test]
fn signals_reach_it_and_its_end_is_told() {
    if !possible() {
        return;
    }
    let world = World::new();
    let runtime = world.runtime();
    let container = world.run(&runtime, ContainerSpec::default(), &["sleep"]);
    assert_eq!(container.wait(Duration::ZERO).unwrap(), None);
    // The first process of a PID namespace has no default actions (pid_namespaces(7)): SIGTERM does nothing.
    container.signal(15).unwrap();
    assert_eq!(container.wait(Duration::from_millis(50)).unwrap(), None);
    container.signal(9).unwrap();
    let expected = Exit { code: None, signal: Some(9), oom_killed: false };
    assert_eq!(container.wait(BOUND).unwrap(), Some(expected));
    let crashed = world.run(&runtime, ContainerSpec::default(), &["say=before", "exit=134"]);
    assert_eq!(crashed.wait(BOUND).unwrap(), Some(exit(134)));
    until("its output", || crashed.output_tail() == "before\n");
}

#[test]
fn an_entrypoint_that_cannot_be_run_is_named_with_advice() {
    if !possible() {
        return;
    }
    let world = World::new();
    let runtime = world.runtime();
    for (entrypoint, named, advice) in
        [("/no-such", "/no-such", "not in the image"), ("/not-executable", "/not-executable", "mode 0755")]
    {
        let image = world.image_with(&json!({"Entrypoint": [entrypoint]}));
        let spec = ContainerSpec::default();
        let created = runtime.create(&image, &spec);
        let error = created.and_then(|container| container.start()).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(named), "{text}");
        assert!(error.hint().unwrap_or_default().contains(advice), "{text}: {:?}", error.hint());
    }
    let image = world.image_with(&json!({}));
    let error = runtime.create(&image, &ContainerSpec::default()).unwrap_err();
    assert!(error.to_string().ends_with(" has neither entrypoint nor command"), "{error}");
    assert_eq!(fs::read_dir(&world.options.state).unwrap().count(), 0);
}

#[test]
fn what_is_dropped_or_cleaned_up_leaves_nothing() {
    if !possible() {
        return;
    }
    let world = World::new();
    let runtime = world.runtime();
    let dropped = world.run(&runtime, ContainerSpec::default(), &["sleep"]);
    let id = dropped.id().to_owned();
    drop(dropped);
    assert_eq!(traces(&id, &world.options.state), Vec::<String>::new());
    // As a handler of SIGINT does it, while somebody still holds the container.
    let held = world.run(&runtime, ContainerSpec::default(), &["sleep"]);
    world.options.cleanup.run();
    assert_eq!(traces(held.id(), &world.options.state), Vec::<String>::new());
    // One that was created and never started.
    let waiting = runtime.create(&world.image(), &ContainerSpec::default()).unwrap();
    let id = waiting.id().to_owned();
    drop(waiting);
    assert_eq!(traces(&id, &world.options.state), Vec::<String>::new());
}

/// Kills the process that looks after a container, and waits until that is known.
fn kill_keeper(container: &Container) {
    let stat = fs::read_to_string(format!("/proc/{}/stat", container.pid().unwrap())).unwrap();
    let keeper: i32 = stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap().parse().unwrap();
    let keeper = rustix::process::Pid::from_raw(keeper).unwrap();
    rustix::process::kill_process(keeper, rustix::process::Signal::KILL).unwrap();
    until("its end", || container.wait(Duration::ZERO).is_err());
}

#[test]
fn whoever_holds_the_container_of_a_killed_keeper_removes_it() {
    if !possible() {
        return;
    }
    let world = World::new();
    let container = world.run(&world.runtime(), ContainerSpec::default(), &["sleep"]);
    let id = container.id().to_owned();
    kill_keeper(&container);
    container.remove().unwrap();
    assert_eq!(traces(&id, &world.options.state), Vec::<String>::new());
}

#[test]
fn a_killed_keeper_takes_the_container_along_and_the_next_run_removes_the_rest() {
    if !possible() {
        return;
    }
    let world = World::new();
    let runtime = world.runtime();
    let container = world.run(&runtime, ContainerSpec::default(), &["sleep"]);
    let (id, pid) = (container.id().to_owned(), container.pid().unwrap());
    kill_keeper(&container);
    // Nobody is left to remove the cgroup: what it looks like when everything was killed.
    until("the end of its process", || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    });
    let record = world.options.state.join(&id).join("owner.json");
    let text = fs::read_to_string(&record).unwrap();
    fs::write(&record, text.replace(&format!("\"pid\":{}", std::process::id()), "\"pid\":4294967295"))
        .unwrap();
    let swept = sweep(&world.options.state, &|_| None);
    assert!(swept.contains(&Leftover::Removed(format!("container {id}"))), "{swept:?}");
    assert_eq!(traces(&id, &world.options.state), Vec::<String>::new());
}

/// Says that a container runs, and holds it until somebody kills this process.
#[test]
#[ignore = "started by the next test, to be killed"]
fn somebody_who_holds_a_container() {
    let world = World::new();
    let container = world.run(&world.runtime(), ContainerSpec::default(), &["sleep"]);
    let state = world.options.state.display();
    fs::write(std::env::var("TARE_TEST_TELL").unwrap(), format!("{} {state}", container.id())).unwrap();
    std::thread::sleep(BOUND);
}

#[test]
fn a_killed_tool_leaves_no_container_behind() {
    if !possible() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let tell = folder.path().join("told");
    let mut tool = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "life::somebody_who_holds_a_container"])
        .env("TARE_TEST_TELL", &tell)
        .env("TMPDIR", folder.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut told = String::new();
    until("a container", || {
        told = fs::read_to_string(&tell).unwrap_or_default();
        !told.is_empty()
    });
    let (id, state) = told.split_once(' ').unwrap();
    assert_ne!(traces(id, Path::new(state)), Vec::<String>::new());
    // SIGKILL.
    tool.kill().unwrap();
    tool.wait().unwrap();
    // Its keeper removes all but the record, which the next run removes.
    let record = Leftover::Removed(format!("container {id}"));
    until("the end of the container", || traces(id, Path::new(state)) == ["its folder"]);
    let swept = sweep(Path::new(state), &|_| None);
    assert!(swept.contains(&record), "{swept:?}");
    assert_eq!(tare_keeper::cgroup::folders(&group_of(maker(id))), Vec::<std::path::PathBuf>::new());
    assert_eq!(traces(id, Path::new(state)), Vec::<String>::new());
}
