//! The same image with every runtime that is installed and works here: limits in force, answers, counters, exits, and
//! nothing left behind. Missing runtimes are reported and left out.

use std::io::Write as _;
use std::time::Duration;

use tare_container::Cleanup;
use tare_container::cgroup::Version;
use tare_container::host::HostFacts;
use tare_container::life::Exit;
use tare_container::limits::{CpuSet, Limits};
use tare_container::spec::{ContainerSpec, Network};
use tare_container::{Options, Runtime, RuntimeKind};

use crate::fixture::{BOUND, World, answer, as_root, inside, possible, until};

pub(crate) fn say(text: &str) {
    let mut stderr = std::io::stderr();
    let _ = writeln!(stderr, "{text}");
}

/// The runtime, or why it is left out.
pub(crate) fn open(kind: RuntimeKind, world: &World) -> Result<Runtime, String> {
    let options = Options { cleanup: Cleanup::default(), ..world.options.clone() };
    let version = HostFacts::read().cgroup;
    if matches!(kind, RuntimeKind::Crun | RuntimeKind::Podman) && version != Version::V2 {
        return Err(format!("it needs cgroup v2, and here is {version}"));
    }
    if kind.is_daemon() && !as_root() {
        return Err("its own store and daemon are root's here".to_owned());
    }
    match Runtime::open(kind, &options) {
        Ok(runtime) => Ok(runtime),
        Err(error) => {
            let why = error.to_string();
            // No daemon answers.
            let is_silent = kind.is_daemon() && why == format!("{kind} failed");
            assert!(is_silent || why.ends_with("is not installed or not on PATH"), "{kind}: {why}");
            Err(why)
        }
    }
}

/// One of each, as every runtime can set it.
fn limits() -> Limits {
    Limits {
        cpu: Some("0.5".parse().unwrap()),
        cpuset: CpuSet::new([0]),
        memory: Some(64 << 20),
        swap: None,
        pids: Some(64),
    }
}

/// The observations of one run with one runtime.
fn check(runtime: &Runtime, world: &World) {
    let kind = runtime.kind();
    let limits = limits();
    let spec = ContainerSpec { limits: limits.clone(), ..ContainerSpec::default() };
    let server = world.run(runtime, spec.clone(), &["parallelism", "write=/x", "write=/y", "serve=8080"]);
    assert_eq!(Limits { swap: None, ..server.limits_in_force().unwrap() }, limits, "{kind}");
    let endpoint = server.endpoint(8080).unwrap();
    let served = inside(&endpoint.network_namespace.unwrap(), move || answer(endpoint.address));
    assert_eq!(served, "served by 1", "{kind}");
    until("its output", || server.output_tail().lines().count() == 3);
    assert_eq!(server.output_tail(), "1\nwritten\nwritten\n", "{kind}");
    let counters = server.counters().unwrap();
    assert!(counters.cpu_usage.unwrap() > 0 && counters.memory.unwrap() > 0, "{kind}: {counters:?}");
    let clock = server.clock();
    say(&format!(
        "{kind}: created in {} us, CPU {} us, memory {} kB, peak {:?} kB, layer in memory: {}",
        (clock.created - clock.begun) / 1000,
        counters.cpu_usage.unwrap() / 1000,
        counters.memory.unwrap() / 1000,
        counters.memory_peak.map(|it| it / 1000),
        server.writes_to_memory(),
    ));
    server.signal(9).unwrap();
    let killed = Exit { code: None, signal: Some(9), oom_killed: false };
    assert_eq!(server.wait(BOUND).unwrap(), Some(killed), "{kind}");
    server.remove().unwrap();

    let ended = world.run(runtime, spec, &["say=x", "exit=3"]);
    let exit = Exit { code: Some(3), signal: None, oom_killed: false };
    assert_eq!(ended.wait(BOUND).unwrap(), Some(exit), "{kind}");

    let small = Limits { memory: Some(16 << 20), ..Limits::default() };
    let spec = ContainerSpec { limits: small, ..ContainerSpec::default() };
    let greedy = world.run(runtime, spec.clone(), &["alloc=268435456"]);
    let killed = Exit { code: None, signal: Some(9), oom_killed: true };
    assert_eq!(greedy.wait(BOUND).unwrap(), Some(killed), "{kind}");

    // One of several processes, which the first survives.
    let worker = world.run(runtime, spec, &["worker=268435456", "sleep"]);
    until("the end of the worker", || !worker.output_tail().is_empty());
    assert_eq!(worker.output_tail(), "signal: 9 (SIGKILL)\n", "{kind}");
    assert_eq!((worker.oom_kills(), worker.wait(Duration::ZERO).unwrap()), (1, None), "{kind}");
    worker.signal(9).unwrap();
    assert!(worker.wait(BOUND).unwrap().is_some(), "{kind}");
    assert_eq!(worker.oom_kills(), 1, "{kind}");

    let args = Some(vec!["/no-such".to_owned()]);
    let missing = ContainerSpec { args, ..ContainerSpec::default() };
    let error = runtime.create(&world.image(), &missing).and_then(|container| container.start()).unwrap_err();
    assert!(error.to_string().contains("no-such"), "{kind}: {error}");
    drop((ended, greedy, worker));
    assert_eq!(std::fs::read_dir(&world.options.state).unwrap().count(), 0, "{kind}");
}

fn by(kind: RuntimeKind) {
    if !possible() {
        return;
    }
    let world = World::new();
    match open(kind, &world) {
        Ok(runtime) => check(&runtime, &world),
        Err(why) => say(&format!("left out: {kind}: {why}")),
    }
}

#[test]
fn the_embedded_runtime_runs_an_image() {
    by(RuntimeKind::Embedded);
}

#[test]
fn runc_runs_it_the_same() {
    by(RuntimeKind::Runc);
}

#[test]
fn crun_runs_it_the_same() {
    by(RuntimeKind::Crun);
}

#[test]
fn youki_runs_it_the_same() {
    by(RuntimeKind::Youki);
}

#[test]
fn docker_runs_it_the_same() {
    by(RuntimeKind::Docker);
}

/// Docker's daemon where it is of another host to all appearance.
#[test]
#[ignore = "started by the next test, on a host of another name"]
fn a_daemon_elsewhere() {
    let world = World::new();
    let runtime = match open(RuntimeKind::Docker, &world) {
        Ok(runtime) => runtime,
        Err(why) => return say(&format!("left out: docker elsewhere: {why}")),
    };
    assert!(runtime.limits_are_the_daemons_word());
    let limits = limits();
    // The host's own network, because that of the daemon may have no other.
    let spec = ContainerSpec { limits: limits.clone(), network: Network::Host, ..ContainerSpec::default() };
    let server = world.run(&runtime, spec, &["serve=18080"]);
    assert_eq!(server.pid(), None);
    // For all that is known its host is another one; only this test knows better.
    let error = server.endpoint(18080).unwrap_err();
    assert_eq!(
        error.to_string(),
        "port 18080 of the container of docker cannot be reached: it shares the network of another host"
    );
    assert_eq!(Limits { swap: None, ..server.limits_in_force().unwrap() }, limits);
    assert_eq!(
        server.counters().unwrap_err().to_string(),
        "the counters of a container of docker cannot be read on this host"
    );
    assert_eq!(answer(([127, 0, 0, 1], 18080).into()), "served by 1");
    server.signal(9).unwrap();
    let killed = Exit { code: None, signal: Some(9), oom_killed: false };
    assert_eq!(server.wait(BOUND).unwrap(), Some(killed));
    assert_eq!(server.oom_kills(), 0);
    // What the kernel counts cannot be seen, and docker says whether there was one.
    let small = Limits { memory: Some(16 << 20), ..Limits::default() };
    let spec = ContainerSpec { limits: small, network: Network::Host, ..ContainerSpec::default() };
    let worker = world.run(&runtime, spec, &["worker=268435456", "sleep"]);
    // It says so after the end alone, and only of a kill that it has heard of by then.
    until("docker's event", || {
        let filters = ["--filter", "event=oom", "--filter", &format!("container={}", worker.id())];
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let mut events = std::process::Command::new("docker");
        events.args(["events", "--since", "1", "--until", &now.as_secs().to_string()]).args(filters);
        !events.output().unwrap().stdout.is_empty()
    });
    worker.signal(9).unwrap();
    assert!(worker.wait(BOUND).unwrap().is_some());
    assert_eq!(worker.oom_kills(), 1);
}

#[test]
fn limits_of_a_daemon_elsewhere_are_its_own_word() {
    if !as_root() {
        return;
    }
    let name = "echo elsewhere > /proc/sys/kernel/hostname && exec \"$0\" \"$@\"";
    let child = std::process::Command::new("unshare")
        .args(["--uts", "sh", "-c", name])
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", "adapters::a_daemon_elsewhere"])
        .status()
        .unwrap();
    assert!(child.success());
}

#[test]
fn podman_runs_it_the_same() {
    by(RuntimeKind::Podman);
}
