//! What the sample server reads of its limits: any text in any of the files.

#![no_main]

use app::limits::{groups, values};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|texts: (&str, &str)| {
    let (first, second) = texts;
    let (memberships, mounts) = (groups::memberships(first), groups::mounts(second));
    for controller in ["cpu", "cpuset", "memory", "pids"] {
        if let Some((_, folders)) = groups::folders(controller, &memberships, &mounts) {
            // Whatever the path of a group, it is not looked for outside of the mount.
            let mount = folders.last().expect("the mount point itself");
            assert!(folders.iter().all(|folder| folder.starts_with(mount)));
            assert!(mounts.iter().any(|it| it.point == *mount));
        }
    }
    if let Ok(Some(quota)) = values::cpu_max(first) {
        assert!(quota.period > 0);
        let _ = quota.millis();
    }
    if let Ok(cpus) = values::cpu_list(first) {
        assert!(cpus.windows(2).all(|pair| pair[0] < pair[1]));
    }
    let _ = values::cfs(first, second);
    let _ = values::max_or_number(first);
    let _ = values::limit_in_bytes(first);
    let _ = values::memory_of_machine(first);
    let _ = values::keyed(first, second);
});
