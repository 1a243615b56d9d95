use super::*;
use crate::limits::CpuSet;

/// As docker 20.10 and 29 and podman 4.3 show them.
#[test]
fn limits_are_read_from_what_a_daemon_shows() {
    let state = json!({"HostConfig": {"CpuQuota": 50_000, "CpuPeriod": 100_000, "CpusetCpus": "0",
        "Memory": 67_108_864, "MemorySwap": 67_108_864, "PidsLimit": 64}});
    let wanted = Limits {
        cpu: Some(CpuLimit { quota: 50_000, period: 100_000 }),
        cpuset: CpuSet::new([0]),
        memory: Some(64 << 20),
        swap: Some(0),
        pids: Some(64),
    };
    assert_eq!(limits(&state), wanted);
    // What was not asked for, or could not be done and was left out with a warning.
    let none = json!({"HostConfig": {"CpuQuota": 0, "CpuPeriod": 0, "CpusetCpus": "",
        "Memory": 0, "MemorySwap": -1, "PidsLimit": null}});
    assert_eq!(limits(&none), Limits::default());
    assert_eq!(limits(&Value::Null), Limits::default());
    let error = cgroup::compare("docker", &wanted, &limits(&none)).unwrap_err().to_string();
    assert_eq!(
        error,
        "the limit for CPU time is not in force: 50000/100000 µs was asked for, and docker has none"
    );
}

#[test]
fn a_daemon_is_here_if_it_names_this_kernel_and_host() {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let (kernel, name) = (kernel.trim(), host_name());
    for (facts, here) in [
        (json!({"KernelVersion": kernel, "Name": name}), true),
        (json!({"host": {"kernel": kernel, "hostname": name}}), true),
        (json!({"KernelVersion": "6.10.14-linuxkit", "Name": "docker-desktop"}), false),
        (json!({"KernelVersion": kernel, "Name": "another"}), false),
        (Value::Null, false),
    ] {
        assert_eq!(is_of_this_host(&facts), here && cfg!(target_os = "linux"), "{facts}");
    }
}

#[test]
fn an_exit_code_above_128_is_a_signal() {
    let state = |code: i32, oom: bool| json!({"State": {"ExitCode": code, "OOMKilled": oom}});
    for (code, oom, expected) in [
        (0, false, Exit { code: Some(0), signal: None, oom_killed: false }),
        (137, true, Exit { code: None, signal: Some(9), oom_killed: true }),
        (143, false, Exit { code: None, signal: Some(15), oom_killed: false }),
        (255, false, Exit { code: Some(255), signal: None, oom_killed: false }),
    ] {
        assert_eq!(exit(&state(code, oom)), expected);
    }
}

#[test]
fn tags_name_the_host_and_process_that_gave_them() {
    let owner = Owner { pid: 7, started: 8, namespace: 9 };
    assert_eq!(owner_of(&tag("0123456789ab", owner)), Some(owner));
    for other in ["latest", "0123456789ab", "0123456789ab-elsewhere-7-8-9", "0-", ""] {
        assert_eq!(owner_of(other), None, "{other}");
    }
}
