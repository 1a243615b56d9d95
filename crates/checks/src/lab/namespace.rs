//! Programs in their own process, mount and network namespaces. They cannot reach anything outside, and the kernel removes
//! everything when the first process ends.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

use super::expect::poll;
use tare_tool::process::xshell::Cmd;
use tare_tool::process::{Execute as _, Running, Shell, cmd};

/// `/run` is empty, because some programs always write there; loopback is up; then `$@` is process 1.
const SET_UP: &str = "mount -t tmpfs tmpfs /run && ip link set lo up && exec \"$@\"";

/// A command that runs in namespaces of its own as long as it takes.
pub(crate) fn in_namespaces<'a>(sh: &'a Shell, program: &Path) -> Cmd<'a> {
    // When we are killed, unshare is, and with it process 1 and all others.
    let unshare =
        cmd!(sh, "setpriv --pdeathsig KILL unshare --net --pid --mount --fork --kill-child --mount-proc");
    unshare.args(["sh", "-c", SET_UP, "sh"]).arg(program)
}

/// A program that runs in namespaces of its own. Dropped, it is ended with all that it started.
pub(crate) struct Isolated {
    /// The process of unshare, whose only child is process 1.
    id: u32,
    /// None once its end was waited for.
    running: Option<Running>,
    pub(crate) sh: Shell,
    log: PathBuf,
}

/// An answer to a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// `HTTP/1.1 200 OK`
    pub(crate) status_line: String,
    /// All of it.
    pub(crate) body: String,
}

impl Isolated {
    /// Starts a program and writes its output to the file.
    pub(crate) fn start(
        program: &Path,
        arguments: &[&str],
        env: &[(&str, &str)],
        log: &Path,
    ) -> anyhow::Result<Self> {
        let file = File::create(log).with_context(|| format!("cannot create {}", log.display()))?;
        let second = file.try_clone().with_context(|| format!("cannot write {}", log.display()))?;
        let sh = Shell::new()?;
        let command = in_namespaces(&sh, program).args(arguments).envs(env.iter().copied());
        let running = command.start_beside(file, second)?;
        Ok(Self { id: running.id(), running: Some(running), sh, log: log.to_path_buf() })
    }

    /// The output so far.
    pub(crate) fn output(&self) -> anyhow::Result<String> {
        let bytes = fs::read(&self.log).with_context(|| format!("cannot read {}", self.log.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn is_running(&mut self) -> bool {
        self.running.as_mut().is_some_and(Running::is_running)
    }

    /// Fails with the program's output if it has ended.
    pub(crate) fn check_running(&mut self) -> anyhow::Result<()> {
        if self.is_running() {
            return Ok(());
        }
        anyhow::bail!("it ended early and said: {}", self.output()?.trim())
    }

    /// A command in its network.
    pub(crate) fn inside(&self, program: &str) -> Cmd<'_> {
        let id = self.id.to_string();
        cmd!(self.sh, "nsenter --net --target {id} -- {program}")
    }

    /// The beginning of a command in all of its namespaces: the program follows.
    pub(crate) fn inside_all(&self) -> anyhow::Result<Cmd<'_>> {
        let first = self.processes().first().context("it has no process")?.to_string();
        Ok(cmd!(self.sh, "nsenter --net --pid --mount --target {first} --"))
    }

    /// Sends a server in its network what is to be sent, and gives back all that it sends until it closes
    /// the connection; none while nobody listens.
    pub(crate) fn exchange(&self, port: u16, request: &str) -> Option<String> {
        // bash is a client that is everywhere; it fails when the connection is refused.
        const CLIENT: &str = r#"exec 3<>"/dev/tcp/127.0.0.1/$0" && printf %s "$1" >&3 && cat <&3"#;
        let output = self.inside("bash").args(["-c", CLIENT, &port.to_string(), request]).capture().ok()?;
        Some(String::from_utf8_lossy(&output).into_owned())
    }

    /// Asks a server in its network; none while nobody listens.
    pub(crate) fn ask(&self, port: u16, method: &str, path: &str, body: &str) -> Option<Answer> {
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        let text = self.exchange(port, &request)?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status_line = head.lines().next().unwrap_or_default().to_owned();
        Some(Answer { status_line, body: body.to_owned() })
    }

    /// Asks with `GET`, waiting until somebody listens.
    pub(crate) fn wait_for(&mut self, port: u16, path: &str) -> anyhow::Result<Answer> {
        poll(&format!("an answer on port {port}"), || {
            self.check_running()?;
            Ok(self.ask(port, "GET", path, ""))
        })
    }

    /// Every process that it consists of, as numbered here.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let mut all = vec![self.id];
        let mut seen = 0;
        while let Some(parent) = all.get(seen).copied() {
            all.extend(children(parent));
            seen += 1;
        }
        all.remove(0);
        all
    }

    /// The process whose program lies at this path, as it sees it itself.
    pub(crate) fn process_of(&self, program: &str) -> Option<u32> {
        let is =
            |id: &u32| fs::read_link(format!("/proc/{id}/exe")).is_ok_and(|exe| exe == Path::new(program));
        self.processes().into_iter().find(is)
    }

    /// Asks process 1 to end (SIGTERM), waits for it, and fails unless its exit code is 0.
    pub(crate) fn end(mut self) -> anyhow::Result<()> {
        self.terminate();
        let mut end = || {
            poll("its end after SIGTERM", || Ok((!self.is_running()).then_some(())))?;
            Ok(self.running.take().map_or(Ok(()), Running::wait)?)
        };
        let ended: anyhow::Result<()> = end();
        ended.with_context(|| format!("it said: {}", self.output().unwrap_or_default().trim()))
    }

    /// Ends it without asking.
    pub(crate) fn kill(mut self) {
        if let Some(running) = &mut self.running {
            running.end(Duration::ZERO);
        }
    }

    fn terminate(&self) {
        for child in children(self.id) {
            let child = child.to_string();
            // It fails only for a process that is gone.
            let _ = cmd!(self.sh, "sh -c 'kill -TERM \"$0\"' {child}").capture();
        }
    }
}

impl Drop for Isolated {
    fn drop(&mut self) {
        let first = children(self.id);
        self.terminate();
        let _ = poll("its end", || Ok((!self.is_running()).then_some(())));
        if let Some(running) = &mut self.running {
            // unshare does not react to SIGTERM; killed, it takes process 1 with it, and that all others.
            running.end(Duration::ZERO);
        }
        let gone = |id: &u32| match fs::read_to_string(format!("/proc/{id}/stat")) {
            Ok(stat) => state(&stat) == Some('Z'),
            Err(_) => true,
        };
        let _ = poll("the end of its processes", || Ok(first.iter().all(gone).then_some(())));
    }
}

/// A control group for everything that a check starts. Dropped, it is removed.
pub(crate) struct Cgroup(String);

impl Cgroup {
    /// Only names it: runtimes make it.
    pub(crate) fn new(name: String) -> Self {
        Self(name)
    }

    /// Below the root of every hierarchy.
    pub(crate) fn name(&self) -> &str {
        &self.0
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        remove_cgroups(&self.0);
    }
}

/// Removes a control group from every hierarchy.
pub(crate) fn remove_cgroups(name: &str) {
    for folder in cgroups(name) {
        // The last check finds groups that are not empty.
        let _ = fs::remove_dir(folder);
    }
}

/// Every control group with this name in its path, those in it first.
pub(crate) fn cgroups(name: &str) -> Vec<PathBuf> {
    let pattern = format!("*/{name}*");
    let Ok(sh) = Shell::new() else { return Vec::new() };
    // It fails for a group that goes while it looks, and lists the others.
    let find = cmd!(sh, "find /sys/fs/cgroup -depth -type d -path {pattern}").capture_with_code();
    let (_, list) = find.unwrap_or_default();
    String::from_utf8_lossy(&list).lines().map(PathBuf::from).collect()
}

/// The state in `/proc/ID/stat` (proc(5)); the name before it may hold anything.
fn state(stat: &str) -> Option<char> {
    stat.rsplit_once(") ")?.1.chars().next()
}

/// The children of a process's main thread, which are all unless it has more threads; then those of
/// the others too.
pub(crate) fn children(id: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{id}/task"));
    let lists = threads.into_iter().flatten().flatten();
    let lists = lists.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<_>>())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_follows_the_name_whatever_that_is() {
        assert_eq!(state("17 (sh) S 1 17"), Some('S'));
        assert_eq!(state("17 (a) Z b) Z 1 17"), Some('Z'));
        assert_eq!(state(""), None);
    }
}
