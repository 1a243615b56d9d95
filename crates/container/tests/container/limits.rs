//! Limits are in force, and the counters show the resources that were used.

use std::time::Duration;

use tare_container::cgroup::Cgroup;
use tare_container::counters::Counters;
use tare_container::group::Group;
use tare_container::life::Exit;
use tare_container::limits::{CpuSet, Limits};
use tare_container::spec::ContainerSpec;

use crate::fixture::{BOUND, World, possible, until};

fn limited(limits: Limits) -> ContainerSpec {
    ContainerSpec { limits, ..ContainerSpec::default() }
}

#[test]
fn every_limit_is_in_force_and_read_back_from_the_kernel() {
    if !possible() {
        return;
    }
    let world = World::new();
    let limits = Limits {
        cpu: Some("0.5".parse().unwrap()),
        cpuset: CpuSet::new([0]),
        memory: Some(64 << 20),
        swap: Some(0),
        pids: Some(32),
    };
    let container = world.run(&world.runtime(), limited(limits.clone()), &["parallelism", "sleep"]);
    assert_eq!(container.limits_in_force().unwrap(), limits);
    // The program sees them too.
    until("its output", || container.output_tail() == "1\n");
    let affinity = std::fs::read_to_string(format!("/proc/{}/status", container.pid().unwrap())).unwrap();
    assert!(affinity.contains("Cpus_allowed_list:\t0\n"), "{affinity}");
}

#[test]
fn half_a_cpu_is_not_more_and_the_throttling_is_counted() {
    if !possible() {
        return;
    }
    let world = World::new();
    let limits = Limits { cpu: Some("0.5".parse().unwrap()), ..Limits::default() };
    let container = world.run(&world.runtime(), limited(limits), &["spin=2", "sleep"]);
    let before = container.counters().unwrap();
    std::thread::sleep(Duration::from_secs(1));
    // On a busy host it takes its time to get as much as it may, and what it gets beyond that, because the
    // kernel noticed late, is taken from the periods that follow.
    let mut after = container.counters().unwrap();
    until("throttling to half a CPU", || {
        after = container.counters().unwrap();
        let used = after.cpu_usage.unwrap() - before.cpu_usage.unwrap();
        let elapsed = after.read.1 - before.read.0;
        // The quota of a period may be used at its end and that of the next at its beginning, on each CPU a
        // slice of 5 ms more (sched_cfs_bandwidth_slice_us).
        let most = elapsed / 2 + 50_000_000 + 10_000_000;
        let throttled =
            after.throttled_periods > before.throttled_periods && after.throttled > before.throttled;
        throttled && used <= most
    });
    let (user, system) = (after.cpu_user.unwrap(), after.cpu_system.unwrap());
    assert!(user > system, "{after:?}");
    assert!(after.involuntary_switches.is_some(), "{after:?}");
}

#[test]
fn counters_are_the_kernels_own() {
    if !possible() {
        return;
    }
    let world = World::new();
    let container = world.run(&world.runtime(), ContainerSpec::default(), &["alloc=8388608", "sleep"]);
    until("its output", || container.output_tail() == "8\n");
    let Ok(Cgroup::V2(folder)) = Cgroup::of_process(container.pid().unwrap()) else { return };
    container.signal(9).unwrap();
    container.wait(BOUND).unwrap();
    // Nothing in it runs any more.
    let cpu = std::fs::read_to_string(folder.join("cpu.stat")).unwrap();
    let counters = container.counters().unwrap();
    let file = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
    let key = |text: &str, key: &str| {
        let mut words =
            text.lines().map(|line| line.split(' ')).filter_map(|mut it| Some((it.next()?, it.next()?)));
        words.find(|(name, _)| *name == key).and_then(|(_, value)| value.parse::<u64>().ok())
    };
    let microseconds = |name: &str| key(&cpu, name).map(|it| it * 1000);
    assert_eq!(counters.cpu_usage, microseconds("usage_usec"));
    assert_eq!(counters.cpu_user, microseconds("user_usec"));
    assert_eq!(counters.cpu_system, microseconds("system_usec"));
    assert_eq!(counters.memory_peak, file("memory.peak").trim().parse().ok());
    assert_eq!(counters.oom_kill, key(&file("memory.events"), "oom_kill"));
    assert_eq!(counters.pids, Some(0));
    assert!(counters.memory_peak.unwrap() > 8 << 20, "{counters:?}");
}

#[test]
fn more_memory_than_the_limit_is_told_as_such() {
    if !possible() {
        return;
    }
    let world = World::new();
    let runtime = world.runtime();
    let limits = Limits { memory: Some(16 << 20), swap: Some(0), ..Limits::default() };
    let container = world.run(&runtime, limited(limits.clone()), &["alloc=67108864"]);
    let exit = container.wait(BOUND).unwrap().unwrap();
    assert_eq!(exit, Exit { code: None, signal: Some(9), oom_killed: true });
    assert_eq!(exit.to_string(), "it used more memory than its limit and was killed by the kernel");
    let counters = container.counters().unwrap();
    assert!(counters.oom_kill.unwrap() >= 1 && counters.memory_peak.unwrap() <= 16 << 20, "{counters:?}");
    // Killed by anybody else it is not.
    let within = world.run(&runtime, limited(limits), &["alloc=4194304", "sleep"]);
    until("its output", || within.output_tail() == "4\n");
    within.signal(9).unwrap();
    let exit = within.wait(BOUND).unwrap().unwrap();
    assert_eq!(exit, Exit { code: None, signal: Some(9), oom_killed: false });
    assert!(within.counters().unwrap().memory_peak.unwrap() >= 4 << 20);
}

#[test]
fn processes_are_limited_and_counted() {
    if !possible() {
        return;
    }
    let world = World::new();
    let limits = Limits { pids: Some(8), ..Limits::default() };
    let container = world.run(&world.runtime(), limited(limits), &["threads=20", "sleep"]);
    until("its output", || container.output_tail() == "7\n");
    assert_eq!(container.counters().unwrap().pids, Some(8));
}

#[test]
fn a_cpu_that_the_host_lacks_is_refused_before_anything_is_made() {
    if !possible() {
        return;
    }
    let world = World::new();
    let limits = Limits { cpuset: CpuSet::new([0, 8000]), ..Limits::default() };
    let error = world.runtime().create(&world.image(), &limited(limits)).unwrap_err();
    assert!(error.to_string().starts_with("the limit for CPUs cannot be enforced: "), "{error}");
    assert!(error.to_string().contains("0,8000"), "{error}");
    assert_eq!(std::fs::read_dir(&world.options.state).unwrap().count(), 0);
}

#[test]
fn a_group_of_its_own_counts_what_a_process_uses() {
    if !possible() {
        return;
    }
    let world = World::new();
    let parent = world.runtime().parent().unwrap();
    let cpu = CpuSet::new([0]).unwrap();
    let group = Group::create(&parent, "generator", Some(&cpu)).unwrap();
    let mut busy = std::process::Command::new("sh")
        .args(["-c", "read go; while :; do :; done"])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    group.add(busy.id()).unwrap();
    drop(busy.stdin.take());
    until("CPU time", || Counters::read(group.cgroup()).unwrap().cpu_usage.unwrap() > 20_000_000);
    let status = std::fs::read_to_string(format!("/proc/{}/status", busy.id())).unwrap();
    assert!(status.contains("Cpus_allowed_list:\t0\n"), "{status}");
    let path = group.path().to_path_buf();
    // With a process still in it, which goes home.
    drop(group);
    assert_eq!(tare_keeper::cgroup::folders(&path), Vec::<std::path::PathBuf>::new());
    busy.kill().unwrap();
    busy.wait().unwrap();
}
