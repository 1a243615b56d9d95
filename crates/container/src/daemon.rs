//! Containers of docker and podman, through their command lines.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tare_tool::process::{Execute as _, ProcessError, Shell, cmd};

use super::affinity;
use super::cgroup::{self, Cgroup};
use super::cleanup::{Cleanup, Transient};
use super::confinement::Confinement;
use super::counters::Counters;
use super::error::ContainerError;
use super::group;
use super::kind::RuntimeKind;
use super::leftovers::{Folder, Owner, Record};
use super::life::{Clock, Driver, Exit, Follower};
use super::limits::{CpuLimit, CpuSet, Limits};
use super::refusal::refused;
use super::rights::is_root;
use super::spec::{ContainerSpec, Network};
use super::target::Target;

mod arguments;
mod loaded;

use self::arguments::{arguments, publication};
use self::loaded::{Loaded, owner_of, tag};

/// Marks our containers; its value is the owner, `@`, and the host that the owner is a process of: others may
/// use the same daemon.
const LABEL: &str = "tare.owner";
/// Images that are loaded are tagged in it.
const REPOSITORY: &str = "tare-run";
/// signal(7)
const SIGKILL: i32 = 9;
/// The daemon's process, as the kernel shows its name.
const DOCKERD: &str = "dockerd";
/// Lines of output that are asked for.
const LINES: &str = "200";

/// A client that was seen to work.
#[derive(Debug)]
pub(crate) struct Daemon {
    kind: RuntimeKind,
    program: PathBuf,
    loaded: Arc<Loaded>,
    /// Whether it runs its containers on this very host, so that their processes can be seen.
    here: bool,
    /// Whether it can keep containers to CPUs.
    has_cpusets: bool,
}

/// A container that a daemon runs.
#[derive(Debug)]
struct DaemonContainer {
    kind: RuntimeKind,
    program: PathBuf,
    id: String,
    here: bool,
    limits: Limits,
    begun: u64,
    created: u64,
    /// Inherited by the container of a client that is its parent, as podman is.
    affinity: Option<CpuSet>,
    started: OnceLock<Started>,
    ended: OnceLock<Ended>,
    /// Whether we sent it SIGKILL.
    killed: AtomicBool,
    /// The most kills for want of memory that were seen so far.
    oom_kills_seen: AtomicU64,
    /// [`host_oom_kills`] before its start. Podman does not notice when that is its container's, and removes
    /// the group, which counts it, a moment after the end.
    oom_kills_before: u64,
    shares_host_network: bool,
    /// Whether it has a network of its own with loopback alone.
    has_own_loopback: bool,
}

/// A container after its start, as the daemon describes it.
#[derive(Debug)]
struct Started {
    at: u64,
    /// As the daemon shows it.
    state: Value,
    /// None where the group is on another host, or went before it could be looked at.
    group: Option<Group>,
}

/// The cgroup that a daemon made for a container.
#[derive(Debug)]
struct Group {
    /// The group that holds all of it.
    whole: Cgroup,
    /// The group of its first process: the same, or one below.
    innermost: Cgroup,
}

/// A container after its end, as the daemon describes it.
#[derive(Debug)]
struct Ended {
    at: u64,
    /// Whether a process of it was killed for want of memory, as the daemon says.
    oom_killed: bool,
}

impl Daemon {
    pub(crate) fn open(kind: RuntimeKind, program: &Path, cleanup: &Cleanup) -> Result<Self, ContainerError> {
        let mut daemon = Self {
            kind,
            program: program.to_path_buf(),
            loaded: Loaded::new(program, cleanup),
            here: false,
            has_cpusets: true,
        };
        daemon.read(&["version"])?;
        let facts = daemon.read(&["info", "--format", "{{json .}}"])?;
        let facts: Value = serde_json::from_str(&facts).unwrap_or(Value::Null);
        daemon.here =
            is_of_this_host(&facts) && (kind != RuntimeKind::Docker || group::numbers_alike(DOCKERD));
        daemon.has_cpusets = has_cpusets(&facts);
        Ok(daemon)
    }

    /// Whether its containers' network namespaces can be entered. Where they cannot, a server is reached by a port
    /// of the host.
    pub(crate) fn joins(&self) -> bool {
        self.here && is_root()
    }

    /// Whether it can keep containers to CPUs.
    pub(crate) fn has_cpusets(&self) -> bool {
        self.has_cpusets
    }

    /// Whether its containers' processes, cgroups and networks can be seen from here.
    pub(crate) fn is_here(&self) -> bool {
        self.here
    }

    fn read(&self, arguments: &[impl AsRef<OsStr>]) -> Result<String, ContainerError> {
        read(self.kind, &self.program, arguments)
    }

    /// Removes containers whose owner process has ended. Their records may be in any folder of this host.
    pub(crate) fn sweep(&self) -> Vec<String> {
        let filter = format!("label={LABEL}");
        let format = format!("{{{{.Names}}}} {{{{.Label \"{LABEL}\"}}}}");
        let Ok(list) = self.read(&["ps", "--all", "--filter", &filter, "--format", &format]) else {
            return Vec::new();
        };
        let mut removed = Vec::new();
        for line in list.lines() {
            let Some((name, label)) = line.trim().split_once(' ') else { continue };
            let Some((owner, host)) = label.split_once('@') else { continue };
            let dead = host == host_name() && owner.parse::<Owner>().is_ok_and(|owner| !owner.lives());
            if dead && self.read(&["rm", "--force", "--volumes", name]).is_ok() {
                removed.push(format!("{} container {name}", self.kind));
            }
        }
        let format = "{{.Repository}}:{{.Tag}}";
        for name in self.read(&["images", "--format", format]).unwrap_or_default().lines() {
            let owner = name.rsplit_once(':').filter(|(repository, _)| repository.ends_with(REPOSITORY));
            let dead = owner.and_then(|(_, tag)| owner_of(tag)).is_some_and(|owner| !owner.lives());
            if dead && self.read(&["rmi", name]).is_ok() {
                removed.push(format!("{} image {name}", self.kind));
            }
        }
        removed
    }

    /// Loads an image into the daemon's store once, and returns its name there.
    pub(crate) fn load(&self, target: &Target, folder: &Path) -> Result<String, ContainerError> {
        // A tag of this process's own: another's goes with the other.
        let name = format!("{REPOSITORY}:{}", tag(&target.image_id.short(), Owner::this()));
        let name = match self.kind {
            RuntimeKind::Podman => format!("localhost/{name}"),
            _ => name,
        };
        let mut loaded = self.loaded.names();
        if loaded.contains(&name) {
            return Ok(name);
        }
        let archive = folder.join(format!("{}-{}.tar", std::process::id(), target.image_id.short()));
        let archive = Transient::new(archive);
        let path = archive.path();
        File::create(path)
            .and_then(|file| write_archive(target, &name, file))
            .map_err(ContainerError::on("write", path))?;
        // Before it is there.
        loaded.push(name.clone());
        if let Err(error) = self.read(&["load", "--input", &path.display().to_string()]) {
            loaded.pop();
            return Err(error);
        }
        Ok(name)
    }

    /// Creates a container; its limits are verified when it is started, which is when a daemon makes its group.
    pub(crate) fn create(
        &self,
        target: &Target,
        spec: &ContainerSpec,
        confinement: &Confinement,
        state: &Path,
    ) -> Result<(Box<dyn Driver>, Folder), ContainerError> {
        let image = self.load(target, state)?;
        let record = Record { owner: Owner::this(), cgroup: None, runtime: self.kind };
        let folder = Folder::create(state, &record).map_err(ContainerError::on("create", state))?;
        let has_own_loopback = self.joins() && spec.network == Network::Loopback;
        let published = match &spec.network {
            Network::Host => Vec::new(),
            _ if has_own_loopback => Vec::new(),
            _ => spec.ports.iter().map(|port| publication(*port, self.here)).collect::<Result<_, _>>()?,
        };
        let begun = tare_load::clock::now();
        let created =
            self.read(&arguments(&folder.id, &image, spec, confinement, has_own_loopback, &published));
        if let Err(error) = created {
            // The daemon may have got that far when its client failed.
            let _ = self.read(&["rm", "--force", "--volumes", &folder.id]);
            return Err(error);
        }
        let container = DaemonContainer {
            kind: self.kind,
            program: self.program.clone(),
            id: folder.id.clone(),
            here: self.here,
            limits: spec.limits.clone(),
            begun,
            created: tare_load::clock::now(),
            affinity: spec.affinity.clone(),
            started: OnceLock::new(),
            ended: OnceLock::new(),
            killed: AtomicBool::new(false),
            oom_kills_seen: AtomicU64::new(0),
            oom_kills_before: host_oom_kills(),
            shares_host_network: spec.network == Network::Host,
            has_own_loopback,
        };
        Ok((Box::new(container), folder))
    }
}

/// How many processes of this host the kernel has killed for want of memory, by a limit or in all
/// (`oom_kill` of /proc/vmstat, since Linux 4.13); 0 where that cannot be seen.
fn host_oom_kills() -> u64 {
    let vmstat = std::fs::read_to_string("/proc/vmstat").unwrap_or_default();
    vmstat.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok()).unwrap_or(0)
}

/// What this host calls itself (uname(2)).
fn host_name() -> String {
    #[cfg(unix)]
    return rustix::system::uname().nodename().to_string_lossy().into_owned();
    #[cfg(not(unix))]
    String::new()
}

/// Whether what a daemon says of its host is true of this one: the same kernel under the same name. A virtual
/// machine's, a remote one's and one in another container are not.
fn is_of_this_host(facts: &Value) -> bool {
    // First as docker has them, then as podman does.
    let says =
        |paths: [&str; 2]| paths.iter().find_map(|path| facts.pointer(path)?.as_str()).map(str::to_owned);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let same = |paths, own: &str| says(paths).is_some_and(|said| said == own);
    cfg!(target_os = "linux")
        && same(["/KernelVersion", "/host/kernel"], kernel.trim())
        && same(["/Name", "/host/hostname"], &host_name())
}

/// Whether podman is delegated the controller; an ordinary user's is not, as systemd comes. Docker keeps
/// containers to CPUs or says that it cannot.
fn has_cpusets(facts: &Value) -> bool {
    let controllers = facts.pointer("/host/cgroupControllers").and_then(Value::as_array);
    controllers.is_none_or(|controllers| controllers.iter().any(|it| it == "cpuset"))
}

fn read(
    kind: RuntimeKind,
    program: &Path,
    arguments: &[impl AsRef<OsStr>],
) -> Result<String, ContainerError> {
    let failed = |error| ContainerError::new(format_args!("{kind} failed")).because(error);
    run(program, arguments).map_err(failed)
}

/// Ctrl-C is for this process, which then removes what its clients have made.
fn run(program: &Path, arguments: &[impl AsRef<OsStr>]) -> Result<String, ProcessError> {
    let sh = Shell::new()?;
    cmd!(sh, "{program} {arguments...}").capture_text_apart()
}

/// The format that all versions of docker and podman read: "docker save" v1.2, whose layers may be compressed.
fn write_archive(target: &Target, name: &str, out: impl Write) -> io::Result<()> {
    let mut archive = tar::Builder::new(io::BufWriter::new(out));
    let mut put = |path: &str, size: u64, content: &mut dyn io::Read| {
        let mut header = tar::Header::new_ustar();
        header.set_size(size);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        archive.append_data(&mut header, path, content)
    };
    let read = |file: &str| {
        let stream = target.source.stream(file).map_err(io::Error::other)?;
        let size = target.source.size(file).ok_or_else(|| io::Error::other(format!("{file} is missing")))?;
        Ok::<_, io::Error>((size, stream))
    };
    let config = format!("{}.json", target.image_id.hex());
    let (size, mut stream) = read(&target.image.config_file)?;
    put(&config, size, &mut stream)?;
    let mut layers = Vec::new();
    for (at, layer) in target.image.layers.iter().enumerate() {
        let path = format!("layer-{at}.tar");
        let (size, mut stream) = read(&layer.file)?;
        put(&path, size, &mut stream)?;
        layers.push(path);
    }
    let manifest = json!([{"Config": config, "RepoTags": [name], "Layers": layers}]).to_string();
    put("manifest.json", manifest.len() as u64, &mut manifest.as_bytes())?;
    archive.into_inner()?.flush()
}

impl DaemonContainer {
    fn read(&self, arguments: &[&str]) -> Result<String, ContainerError> {
        read(self.kind, &self.program, arguments)
    }

    fn inspect(&self) -> Result<Value, ContainerError> {
        let text = self.read(&["inspect", "--type", "container", &self.id])?;
        let list: Value =
            serde_json::from_str(&text).map_err(|error| refused(self.kind, "inspect", &error.to_string()))?;
        Ok(list.get(0).cloned().unwrap_or(Value::Null))
    }

    /// As the daemon showed it after its start.
    fn state(&self) -> Option<&Value> {
        Some(&self.started.get()?.state)
    }

    fn group(&self) -> Option<&Group> {
        self.started.get()?.group.as_ref()
    }

    /// Whether its first process is there, which can be seen on this host alone.
    fn is_seen(&self) -> bool {
        self.pid().is_some_and(|pid| Path::new(&format!("/proc/{pid}")).exists())
    }

    /// Whether it was killed for want of memory, where the daemon does not say so: by SIGKILL, not by us, while
    /// the kernel did that to a process of this host.
    fn ran_out_of_memory(&self, signal: Option<i32>) -> bool {
        let by_others = signal == Some(SIGKILL) && !self.killed.load(Ordering::Relaxed);
        by_others && self.here && host_oom_kills() > self.oom_kills_before
    }

    /// The limits in force, with the name of the judge: the kernel, or the daemon where its files cannot be seen.
    fn judged_limits(&self) -> Result<(&'static str, Limits), ContainerError> {
        if let Some(Group { whole, innermost }) = self.group() {
            let limits = innermost.limits_below(whole);
            // When it has ended meanwhile its files go one after another, which is not to have no limits. They
            // are all there as long as its first process is.
            if self.is_seen() {
                return Ok((cgroup::KERNEL, limits));
            }
        }
        Ok((self.kind.name(), limits(&self.inspect()?)))
    }
}

impl Driver for DaemonContainer {
    fn release(&self) -> Result<(), ContainerError> {
        let start = || run(&self.program, &["start", &self.id]);
        let result = affinity::on(self.affinity.as_ref(), start);
        let at = tare_load::clock::now();
        result.map_err(|error| match error {
            ProcessError::Failed { stderr, .. } => refused(self.kind, "start", &stderr),
            error => ContainerError::new(format_args!("{} failed", self.kind)).because(error),
        })?;
        let state = self.inspect()?;
        let id = state.get("Id").and_then(Value::as_str);
        let cgroup = pid(&state).filter(|_| self.here).and_then(|pid| Cgroup::of_process(pid).ok());
        let group = cgroup.zip(id).and_then(|(innermost, id)| {
            // With version 1 a process that has ended is in the root group, whose limits and kills are others.
            innermost.is_named(id).then(|| Group { whole: innermost.clone().named(id), innermost })
        });
        let _ = self.started.set(Started { at, state, group });
        // A daemon makes the group at the start; only now can it be looked at.
        if self.limits == Limits::default() {
            return Ok(());
        }
        let (judge, found) = self.judged_limits()?;
        cgroup::compare(judge, &self.limits, &found)
    }

    /// The client comes back after it.
    fn wait_executed(&self) -> Result<(), ContainerError> {
        Ok(())
    }

    fn clock(&self) -> Clock {
        Clock {
            begun: self.begun,
            created: self.created,
            started: self.started.get().map(|started| started.at),
            executed: None,
            exited: self.ended.get().map(|ended| ended.at),
        }
    }

    fn pid(&self) -> Option<i32> {
        // In another host's numbering it means nothing here.
        self.state().filter(|_| self.here).and_then(pid)
    }

    fn counters(&self) -> Option<Counters> {
        Counters::read(&self.group()?.whole).ok()
    }

    fn processes(&self) -> Vec<i32> {
        self.group().and_then(|group| group.innermost.processes().ok()).unwrap_or_default()
    }

    /// As the kernel counts, or else 1 if the daemon says that one was killed. What was seen once remains, since
    /// the kernel's count goes with the container, and docker may end one before it hears of the kill.
    fn oom_kills(&self) -> u64 {
        let counted = self.group().and_then(|group| Counters::oom_kills(&group.whole));
        let kills = counted.unwrap_or_else(|| {
            let said = || self.inspect().is_ok_and(|state| exit(&state).oom_killed);
            u64::from(self.ended.get().map_or_else(said, |ended| ended.oom_killed))
        });
        self.oom_kills_seen.fetch_max(kills, Ordering::Relaxed).max(kills)
    }

    fn writes_to_memory(&self) -> bool {
        false
    }

    fn explain(&self, _: &str) -> Option<String> {
        None
    }

    fn limits(&self) -> Result<Limits, ContainerError> {
        self.judged_limits().map(|(_, limits)| limits)
    }

    fn published(&self, port: u16) -> Result<Option<SocketAddr>, &'static str> {
        let at = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        match (self.shares_host_network, self.has_own_loopback) {
            (true, _) if !self.here => Err("it shares the network of another host"),
            (true, _) => Ok(Some(at(port))),
            (false, true) => Ok(None),
            (false, false) => {
                let published = format!("/NetworkSettings/Ports/{port}~1tcp/0/HostPort");
                let published = self.state().and_then(|state| state.pointer(&published)?.as_str());
                let published = published.and_then(|port| port.parse().ok()).filter(|port| *port > 0);
                published.map(at).map(Some).ok_or("it is not published")
            }
        }
    }

    fn is_reached_late(&self) -> bool {
        !self.shares_host_network
    }

    fn signal(&self, number: i32) -> Result<(), ContainerError> {
        if number == SIGKILL {
            self.killed.store(true, Ordering::Relaxed);
        }
        self.read(&["kill", "--signal", &number.to_string(), &self.id]).map(drop)
    }

    fn wait(&self, timeout: Duration) -> Result<Option<Exit>, ContainerError> {
        const PAUSE: Duration = Duration::from_millis(5);
        let deadline = Instant::now() + timeout;
        loop {
            // Cheaper than to ask the daemon, where it can be seen.
            if !self.is_seen() {
                let state = self.inspect()?;
                if state.pointer("/State/Running").and_then(Value::as_bool) == Some(false) {
                    let exit = exit(&state);
                    let oom_killed = exit.oom_killed || self.ran_out_of_memory(exit.signal);
                    let _ = self.ended.set(Ended { at: tare_load::clock::now(), oom_killed });
                    return Ok(Some(Exit { oom_killed, ..exit }));
                }
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn output(&self) -> String {
        // The client sends the container's stderr to its own.
        let command = "exec \"$0\" logs --tail \"$1\" \"$2\" 2>&1";
        let (program, id) = (&self.program, &self.id);
        let Ok(sh) = Shell::new() else { return String::new() };
        let output = cmd!(sh, "sh -c {command} {program} {LINES} {id}").capture().unwrap_or_default();
        String::from_utf8_lossy(&output).into_owned()
    }

    fn follow(&self, mut follower: Follower) -> Result<Option<JoinHandle<()>>, ContainerError> {
        let command = "exec \"$0\" logs --follow \"$1\" 2>&1";
        let (program, id, kind) = (self.program.clone(), self.id.clone(), self.kind);
        let sh = Shell::new()
            .map_err(|error| ContainerError::new(format_args!("{kind} failed")).because(error))?;
        // It ends with the container.
        Ok(Some(std::thread::spawn(move || {
            let write = |line: &str| drop(writeln!(follower, "{line}"));
            let _ = cmd!(sh, "sh -c {command} {program} {id}").for_each_line(write);
        })))
    }

    fn remove(&self) -> Result<(), ContainerError> {
        self.read(&["rm", "--force", "--volumes", &self.id]).map(drop)
    }
}

/// The first process of a container that a daemon shows.
fn pid(state: &Value) -> Option<i32> {
    let pid = state.pointer("/State/Pid")?.as_i64()?;
    i32::try_from(pid).ok().filter(|pid| *pid > 0)
}

/// The limits that both show under the names of docker's API (`HostConfig`); what a daemon could not set it
/// shows as 0 or -1, which is no limit.
fn limits(state: &Value) -> Limits {
    let number = |name: &str| {
        let number = state.pointer("/HostConfig")?.get(name)?.as_i64()?;
        u64::try_from(number).ok().filter(|number| *number > 0)
    };
    let memory = number("Memory");
    let cpuset = state.pointer("/HostConfig/CpusetCpus").and_then(Value::as_str);
    Limits {
        cpu: number("CpuQuota").zip(number("CpuPeriod")).map(|(quota, period)| CpuLimit { quota, period }),
        cpuset: cpuset.and_then(|cpuset| cpuset.parse().ok()),
        memory,
        swap: number("MemorySwap").zip(memory).and_then(|(both, memory)| both.checked_sub(memory)),
        pids: number("PidsLimit"),
    }
}

/// Both report a signal as 128 and its number, as a shell does.
fn exit(state: &Value) -> Exit {
    let code = state.pointer("/State/ExitCode").and_then(Value::as_i64).and_then(|it| i32::try_from(it).ok());
    let oom_killed = state.pointer("/State/OOMKilled").and_then(Value::as_bool).unwrap_or(false);
    match code {
        Some(code @ 129..=192) => Exit { code: None, signal: Some(code - 128), oom_killed },
        code => Exit { code, signal: None, oom_killed },
    }
}

#[cfg(test)]
#[path = "daemon_tests.rs"]
mod tests;
