//! Finds leftovers of the checks before this one: there must be none.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;

use crate::lab::context::Context;
use crate::lab::namespace::cgroups;

/// No process, mount, namespace or control group mentions the folder that all checks worked in. A
/// namespace lives as long as a process or a mount holds it, and all of ours mount something from there
/// or were started with a path in it.
pub(super) fn none(context: &Context<'_>) -> anyhow::Result<()> {
    let unique = context.unique();
    let mentions = |bytes: &[u8]| bytes.windows(unique.len()).any(|window| window == unique.as_bytes());
    let mut left = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let id = entry.file_name().to_string_lossy().into_owned();
        if !id.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        // What cannot be read has ended meanwhile, or is another user's and so none of ours.
        let read = |name: &str| fs::read(entry.path().join(name)).unwrap_or_default();
        let link = |name: &str| fs::read_link(entry.path().join(name)).unwrap_or_default();
        let facts = [
            ("command line", read("cmdline")),
            ("mounts", read("mountinfo")),
            ("control groups", read("cgroup")),
            ("program", link("exe").as_os_str().as_bytes().to_vec()),
            ("current directory", link("cwd").as_os_str().as_bytes().to_vec()),
        ];
        let name = String::from_utf8_lossy(&read("comm")).trim().to_owned();
        let found = facts.iter().filter(|(_, value)| mentions(value)).map(|(what, _)| *what);
        left.extend(found.map(|what| format!("process {id} ({name}) by its {what}")));
    }
    left.extend(cgroups(&unique).iter().map(|place| format!("control group {}", place.display())));
    anyhow::ensure!(left.is_empty(), "left behind: {}", left.join("; "));
    Ok(())
}
