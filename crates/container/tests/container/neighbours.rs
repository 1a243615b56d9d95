//! Runs in namespaces of processes and mounts of their own, as in two containers that share the host's network, cgroups,
//! records, cache and docker's daemon: each leaves the other's container alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tare_container::leftovers::{Leftover, sweep};
use tare_container::spec::{ContainerSpec, Network};
use tare_container::{Options, Runtime, RuntimeKind};

use crate::adapters::{open, say};
use crate::fixture::{World, answer, as_root, possible, until};

/// The folder that neighbours share.
const SHARED: &str = "TARE_TEST_SHARED";
const NAME: &str = "TARE_TEST_NAME";
const RUNTIME: &str = "TARE_TEST_RUNTIME";

/// Holds a container until it is asked whether the container is there, and removes it.
#[test]
#[ignore = "started by the next test in namespaces of its own"]
fn a_neighbour() {
    let shared = PathBuf::from(std::env::var_os(SHARED).unwrap());
    let (name, kind) = (std::env::var(NAME).unwrap(), std::env::var(RUNTIME).unwrap());
    let kind: RuntimeKind = kind.parse().unwrap();
    let mut world = World::new();
    world.options =
        Options { state: shared.join("state"), cache: shared.join("cache"), ..world.options.clone() };
    // This removes what it takes for the remains of killed runs.
    let runtime = Runtime::open(kind, &world.options).unwrap();
    let swept: Vec<String> = runtime.swept().iter().map(ToString::to_string).collect();
    // Interfaces of this host. The daemon's processes are not seen from here, so it would publish a port, which one
    // without a bridge cannot.
    let network = if kind.is_daemon() { Network::Loopback } else { Network::Veth };
    let spec = ContainerSpec { network, ..ContainerSpec::default() };
    let container = world.run(&runtime, spec, &["serve=8080"]);
    fs::write(shared.join(&name), format!("{} {}", container.id(), swept.join(", "))).unwrap();
    until("the question", || shared.join(format!("{name}.asked")).exists());
    assert_eq!(container.wait(Duration::ZERO).unwrap(), None);
    if kind.is_daemon() {
        assert!(runtime.limits_are_the_daemons_word());
    } else {
        assert_eq!(answer(container.endpoint(8080).unwrap().address), "served by 1");
    }
    container.remove().unwrap();
}

fn start(shared: &Path, name: &str, kind: RuntimeKind) -> Child {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    command.arg(std::env::current_exe().unwrap()).args(["--ignored", "--exact", "neighbours::a_neighbour"]);
    command.env(SHARED, shared).env(NAME, name).env(RUNTIME, kind.name());
    command.stdout(Stdio::null()).spawn().unwrap()
}

/// The container's name, and what was removed before it was made.
fn told(shared: &Path, name: &str) -> (String, String) {
    let mut text = String::new();
    until("a neighbour's container", || {
        text = fs::read_to_string(shared.join(name)).unwrap_or_default();
        !text.is_empty()
    });
    let (id, swept) = text.split_once(' ').unwrap();
    (id.to_owned(), swept.to_owned())
}

fn ask(shared: &Path, name: &str, child: &mut Child) -> bool {
    fs::write(shared.join(format!("{name}.asked")), "").unwrap();
    child.wait().unwrap().success()
}

fn live_together(kind: RuntimeKind) {
    let world = World::new();
    let shared = world.folder.path();
    let mut first = start(shared, "first", kind);
    let (id, _) = told(shared, "first");
    let mut second = start(shared, "second", kind);
    let (other, swept) = told(shared, "second");
    assert_ne!(id, other, "{kind}");
    assert!(!swept.contains(&id), "{kind}: {swept}");
    assert!(ask(shared, "first", &mut first), "{kind}");
    assert!(ask(shared, "second", &mut second), "{kind}");
    assert_eq!(fs::read_dir(shared.join("state")).unwrap().count(), 0, "{kind}");
}

#[test]
fn containers_of_neighbours_stay() {
    if !possible() || !as_root() {
        return;
    }
    for kind in [RuntimeKind::Embedded, RuntimeKind::Docker] {
        match open(kind, &World::new()) {
            Ok(_) => live_together(kind),
            Err(why) => say(&format!("left out: {kind}: {why}")),
        }
    }
}

/// The interfaces here that processes of a pid namespace made: `pid:[4026532178]`.
fn interfaces_of(numbering: &Path) -> String {
    let number = numbering.to_string_lossy().replace(|c: char| !c.is_ascii_digit(), "");
    let group = number.parse::<u32>().unwrap() & 0x7fff_ffff;
    let list =
        Command::new("ip").args(["-oneline", "link", "show", "group", &group.to_string()]).output().unwrap();
    String::from_utf8(list.stdout).unwrap()
}

/// Seen from where all processes are numbered, a run whose namespace is gone is dead.
#[test]
fn the_container_of_a_namespace_that_is_gone_is_removed() {
    if !possible() || !as_root() {
        return;
    }
    let world = World::new();
    let shared = world.folder.path();
    let mut child = start(shared, "killed", RuntimeKind::Embedded);
    let (id, _) = told(shared, "killed");
    let numbering = fs::read_link(format!("/proc/{}/ns/pid_for_children", child.id())).unwrap();
    assert!(!interfaces_of(&numbering).is_empty());
    // SIGKILL, which takes the first process of the namespace along.
    child.kill().unwrap();
    child.wait().unwrap();
    let is_initial = fs::read_link("/proc/self/ns/pid").unwrap() == Path::new("pid:[4026531836]");
    until("the end of the namespace", || {
        let swept = sweep(&shared.join("state"), &|_| None);
        // In a container of another run it may be alive for all that can be seen.
        !is_initial || swept.contains(&Leftover::Removed(format!("container {id}")))
    });
    assert_eq!(fs::read_dir(shared.join("state")).unwrap().count(), usize::from(!is_initial));
    if is_initial {
        // The bridge too, which no network namespace takes along.
        assert_eq!(interfaces_of(&numbering), "");
    }
}
