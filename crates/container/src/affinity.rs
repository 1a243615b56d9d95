//! CPU limits without a cpuset, by thread affinity (sched_setaffinity(2)). Processes that the threads start inherit it.

use super::limits::CpuSet;

/// Keeps another process to CPUs. One that has ended meanwhile needs none.
pub(crate) fn pin(pid: i32, cpus: &CpuSet) {
    #[cfg(target_os = "linux")]
    {
        let pid = rustix::process::Pid::from_raw(pid);
        let _ = rustix::thread::sched_setaffinity(pid, &set(cpus));
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (pid, cpus);
}

/// Does something on these CPUs, and is then where it was before.
pub(crate) fn on<T>(cpus: Option<&CpuSet>, action: impl FnOnce() -> T) -> T {
    #[cfg(target_os = "linux")]
    if let Some(cpus) = cpus
        && let Ok(before) = rustix::thread::sched_getaffinity(None)
    {
        let _ = rustix::thread::sched_setaffinity(None, &set(cpus));
        let result = action();
        let _ = rustix::thread::sched_setaffinity(None, &before);
        return result;
    }
    let _ = cpus;
    action()
}

#[cfg(target_os = "linux")]
fn set(cpus: &CpuSet) -> rustix::thread::CpuSet {
    use rustix::thread::CpuSet as Mask;
    let mut mask = Mask::new();
    cpus.iter().filter(|cpu| *cpu < Mask::MAX_CPU).for_each(|cpu| mask.set(cpu));
    mask
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use tare_tool::process::{Execute as _, Shell, cmd};

    use super::*;

    #[test]
    fn what_is_started_on_cpus_stays_there_and_the_caller_does_not() {
        let allowed = |pid: &str| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            status.lines().find(|line| line.starts_with("Cpus_allowed_list")).unwrap().to_owned()
        };
        let before = allowed("thread-self");
        let mask = rustix::thread::sched_getaffinity(None).unwrap();
        let first = (0..rustix::thread::CpuSet::MAX_CPU).find(|cpu| mask.is_set(*cpu)).unwrap();
        let cpus = CpuSet::new([first]).unwrap();
        let sh = Shell::new().unwrap();
        let read = || cmd!(sh, "cat /proc/self/status").capture().unwrap();
        let started = String::from_utf8(on(Some(&cpus), read)).unwrap();
        assert!(started.contains(&format!("Cpus_allowed_list:\t{first}\n")), "{started}");
        assert_eq!(allowed("thread-self"), before);
    }
}
