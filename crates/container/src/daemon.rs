//! Containers by docker or podman, through their command lines.

use std::fs::File;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tare_tool::process::{Execute as _, ProcessError, Shell, cmd};

use super::affinity;
use super::cgroup::{self, Cgroup};
use super::counters::Counters;
use super::leftovers::{Folder, Owner, Record};
use super::life::{Clock, Driver, Exit, Inner};
use super::limits::{CpuLimit, CpuSet, Limits};
use super::runtime::{Runtime, RuntimeError, RuntimeKind, is_root};
use super::spec::{ContainerSpec, Network};
use super::target::Target;

/// Marks our containers; its value is the owner, `@`, and the host that the owner is a process of: others may
/// use the same daemon.
const LABEL: &str = "tare.owner";
/// signal(7)
const SIGKILL: i32 = 9;
/// Lines of output that are asked for.
const LINES: &str = "200";

/// A client that was seen to work.
#[derive(Debug)]
pub(crate) struct Daemon {
    kind: RuntimeKind,
    program: PathBuf,
    /// Images that are loaded, by image id.
    loaded: Mutex<Vec<String>>,
    /// Whether it runs its containers on this very host, so that their processes can be seen.
    here: bool,
    /// Whether it can keep containers to CPUs.
    has_cpusets: bool,
}

/// Where a container is among the cgroups.
#[derive(Debug)]
struct Place {
    /// The group that holds all of it.
    whole: Cgroup,
    /// The group that its first process is in: the same, or one below.
    innermost: Cgroup,
}

/// A container that a daemon runs.
#[derive(Debug)]
pub(crate) struct DaemonContainer {
    kind: RuntimeKind,
    program: PathBuf,
    id: String,
    here: bool,
    begun: u64,
    created: u64,
    /// Inherited by the container of a client that is its parent, as podman is.
    affinity: Option<CpuSet>,
    started: OnceLock<u64>,
    exited: OnceLock<u64>,
    /// After its start.
    state: OnceLock<Value>,
    /// The same.
    cgroup: OnceLock<Place>,
    /// Whether we sent it SIGKILL.
    killed: AtomicBool,
    /// After its end: whether a process of it was killed for want of memory, as the daemon says.
    oom_killed: OnceLock<bool>,
    /// How many were when that was last asked.
    oom_kills_seen: AtomicU64,
    /// [`host_oom_kills`] before its start. Podman does not notice when that is its container's, and removes
    /// the group, which would tell, a moment after the end.
    oom_kills: u64,
    /// Whether it has a network of its own with loopback alone.
    pub(crate) has_own_loopback: bool,
}

impl Daemon {
    pub(crate) fn open(kind: RuntimeKind, program: &Path) -> Result<Self, RuntimeError> {
        let mut daemon = Self {
            kind,
            program: program.to_path_buf(),
            loaded: Mutex::new(Vec::new()),
            here: false,
            has_cpusets: true,
        };
        daemon.read(&["version"])?;
        let facts = daemon.read(&["info", "--format", "{{json .}}"])?;
        let facts: Value = serde_json::from_str(&facts).unwrap_or(Value::Null);
        daemon.here = is_of_this_host(&facts);
        daemon.has_cpusets = has_cpusets(&facts);
        Ok(daemon)
    }

    /// Whether its containers' network namespaces can be entered. Who may not reaches a server by a port of the
    /// host.
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

    fn read(&self, arguments: &[&str]) -> Result<String, RuntimeError> {
        read(self.kind, &self.program, arguments)
    }

    /// Removes containers of dead owners, whatever host folder knew of them.
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
            if dead && self.read(&["rm", "--force", name]).is_ok() {
                removed.push(format!("{} container {name}", self.kind));
            }
        }
        removed
    }

    /// Puts an image into the store, once. Gives back what it is called there.
    pub(crate) fn load(&self, target: &Target, folder: &Path) -> Result<String, RuntimeError> {
        let name = format!("tare-run:{}", target.image_id.short());
        let name = match self.kind {
            RuntimeKind::Podman => format!("localhost/{name}"),
            _ => name,
        };
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if loaded.contains(&name) {
            return Ok(name);
        }
        let archive = folder.join(format!("{}-{}.tar", std::process::id(), target.image_id.short()));
        let on = |source| RuntimeError::File { operation: "write", path: archive.clone(), source };
        let written = File::create(&archive).and_then(|file| write_archive(target, &name, file));
        let result = written
            .map_err(on)
            .and_then(|()| self.read(&["load", "--input", &archive.display().to_string()]));
        // Whether or not it was read.
        let _ = std::fs::remove_file(&archive);
        result?;
        loaded.push(name.clone());
        Ok(name)
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

impl Drop for Daemon {
    fn drop(&mut self) {
        let names = std::mem::take(&mut *self.loaded.lock().unwrap_or_else(PoisonError::into_inner));
        for name in names {
            // Only the name that we gave; an image that has others stays.
            let _ = self.read(&["rmi", &name]);
        }
    }
}

fn read(kind: RuntimeKind, program: &Path, arguments: &[&str]) -> Result<String, RuntimeError> {
    let failed = |source| RuntimeError::Program { runtime: kind, source };
    let sh = Shell::new().map_err(|error| failed(error.into()))?;
    cmd!(sh, "{program} {arguments...}").capture_text().map_err(failed)
}

/// The form that every version of both reads: "docker save" v1.2, whose layers may be compressed.
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

/// Creates a container; its limits are looked at when it is started, which is when a daemon makes its group.
pub(crate) fn create(
    runtime: &Runtime,
    daemon: &Daemon,
    target: &Target,
    spec: &ContainerSpec,
) -> Result<Inner, RuntimeError> {
    let state = &runtime.options.state;
    let image = daemon.load(target, state)?;
    let record = Record { owner: Owner::this(), cgroup: None, runtime: daemon.kind };
    let on = |source| RuntimeError::File { operation: "create", path: state.clone(), source };
    let folder = Folder::create(state, &record).map_err(on)?;
    let has_own_loopback = daemon.joins() && spec.network == Network::Loopback;
    let published = match &spec.network {
        Network::Host => Vec::new(),
        _ if has_own_loopback => Vec::new(),
        _ => spec.ports.iter().map(|port| publication(*port, daemon.here)).collect::<Result<_, _>>()?,
    };
    let arguments = arguments(&folder.id, &image, spec, has_own_loopback, &published);
    let begun = tare_load::clock::now();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    daemon.read(&arguments)?;
    let container = DaemonContainer {
        kind: daemon.kind,
        program: daemon.program.clone(),
        id: folder.id.clone(),
        here: daemon.here,
        begun,
        created: tare_load::clock::now(),
        affinity: spec.affinity.clone(),
        started: OnceLock::new(),
        exited: OnceLock::new(),
        state: OnceLock::new(),
        cgroup: OnceLock::new(),
        killed: AtomicBool::new(false),
        oom_killed: OnceLock::new(),
        oom_kills_seen: AtomicU64::new(0),
        oom_kills: host_oom_kills(),
        has_own_loopback,
    };
    Ok(Inner {
        runtime: daemon.kind,
        driver: Driver::Daemon(container),
        limits: spec.limits.clone(),
        host_network: spec.network == Network::Host,
        #[cfg(target_os = "linux")]
        pair: Mutex::new(None),
        removed: AtomicBool::new(false),
        id: folder.id.clone(),
        folder: Mutex::new(Some(folder)),
        _kept: runtime.kept.clone(),
    })
}

/// How a port is published, as `--publish` takes it.
///
/// A daemon of this host chooses the port of the host. Any other may publish on the loopback of a host that is
/// not this one, where the port that it chooses may be one that another server has here. So it gets a port
/// that is free here: without the container nobody answers there.
fn publication(port: u16, here: bool) -> Result<String, RuntimeError> {
    if here {
        return Ok(format!("127.0.0.1::{port}"));
    }
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    let free = free.map_err(RuntimeError::NoFreePort)?;
    Ok(format!("127.0.0.1:{}:{port}", free.port()))
}

/// The command line of a creation. Pure.
fn arguments(
    id: &str,
    image: &str,
    spec: &ContainerSpec,
    has_own_loopback: bool,
    published: &[String],
) -> Vec<String> {
    let mut arguments: Vec<String> = vec!["create".to_owned(), "--name".to_owned(), id.to_owned()];
    let mut add = |words: &[&str]| arguments.extend(words.iter().map(|word| (*word).to_owned()));
    add(&["--label", &format!("{LABEL}={}@{}", Owner::this(), host_name())]);
    add(&["--security-opt", "no-new-privileges", "--cap-drop", "ALL"]);
    add(&["--cap-add", "AUDIT_WRITE", "--cap-add", "KILL", "--cap-add", "NET_BIND_SERVICE"]);
    match &spec.network {
        Network::Host => add(&["--network", "host"]),
        _ if has_own_loopback => add(&["--network", "none"]),
        _ => published.iter().for_each(|port| add(&["--publish", port])),
    }
    let limits = &spec.limits;
    if let Some(cpu) = limits.cpu {
        add(&["--cpu-period", &cpu.period.to_string(), "--cpu-quota", &cpu.quota.to_string()]);
    }
    if let Some(cpuset) = &limits.cpuset {
        add(&["--cpuset-cpus", &cpuset.to_string()]);
    }
    if let Some(memory) = limits.memory {
        let swap = limits.swap.map_or_else(|| "-1".to_owned(), |swap| (memory + swap).to_string());
        add(&["--memory", &memory.to_string(), "--memory-swap", &swap]);
    }
    if let Some(pids) = limits.pids {
        add(&["--pids-limit", &pids.to_string()]);
    }
    add(&["--read-only", "--tmpfs", "/tmp"]);
    for (name, value) in &spec.env {
        add(&["--env", &format!("{name}={value}")]);
    }
    if let Some([program, rest @ ..]) = spec.args.as_deref() {
        add(&["--entrypoint", program, image]);
        let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
        add(&rest);
    } else {
        add(&[image]);
    }
    arguments
}

impl DaemonContainer {
    fn read(&self, arguments: &[&str]) -> Result<String, RuntimeError> {
        read(self.kind, &self.program, arguments)
    }

    pub(crate) fn start(&self) -> Result<(), RuntimeError> {
        let result = affinity::on(self.affinity.as_ref(), || self.read(&["start", &self.id]));
        let at = tare_load::clock::now();
        match result {
            Ok(_) => {}
            Err(RuntimeError::Program { source: ProcessError::Failed { stderr, .. }, .. }) => {
                return Err(RuntimeError::Refused {
                    runtime: self.kind,
                    operation: "start",
                    reason: stderr,
                    output: self.output(),
                });
            }
            Err(error) => return Err(error),
        }
        let _ = self.started.set(at);
        let _ = self.state.set(self.inspect()?);
        let id = self.state.get().and_then(|state| state.get("Id")?.as_str());
        if let Some((pid, id)) = self.pid().zip(id)
            && let Ok(cgroup) = Cgroup::of_process(pid)
            // With version 1 a process that has ended is in the root group, whose limits and kills are others.
            && cgroup.is_named(id)
        {
            let _ = self.cgroup.set(Place { whole: cgroup.clone().named(id), innermost: cgroup });
        }
        Ok(())
    }

    fn inspect(&self) -> Result<Value, RuntimeError> {
        let text = self.read(&["inspect", "--type", "container", &self.id])?;
        let list: Value = serde_json::from_str(&text).map_err(|error| RuntimeError::Refused {
            runtime: self.kind,
            operation: "inspect",
            reason: error.to_string(),
            output: String::new(),
        })?;
        Ok(list.get(0).cloned().unwrap_or(Value::Null))
    }

    pub(crate) fn clock(&self) -> Clock {
        Clock {
            begun: self.begun,
            created: self.created,
            started: self.started.get().copied(),
            // The client comes back after it.
            executed: None,
            exited: self.exited.get().copied(),
        }
    }

    pub(crate) fn pid(&self) -> Option<i32> {
        // In another host's numbering it means nothing here.
        let state = self.state.get().filter(|_| self.here)?;
        let pid = state.pointer("/State/Pid")?.as_i64()?;
        i32::try_from(pid).ok().filter(|pid| *pid > 0)
    }

    /// What the kernel counted of it.
    pub(crate) fn counters(&self) -> Option<Counters> {
        Counters::read(&self.cgroup.get()?.whole).ok()
    }

    /// How many of its processes were killed for want of memory: as the kernel counts, or else whether the
    /// daemon says that one was. What was seen once remains, since the kernel's count goes with the container,
    /// and docker may end one before it hears of the kill.
    pub(crate) fn oom_kills(&self) -> u64 {
        let counted = self.cgroup.get().and_then(|place| Counters::oom_kills(&place.whole));
        let kills = counted.unwrap_or_else(|| {
            let said = || self.inspect().is_ok_and(|state| exit(&state).oom_killed);
            u64::from(self.oom_killed.get().copied().unwrap_or_else(said))
        });
        self.oom_kills_seen.fetch_max(kills, Ordering::Relaxed).max(kills)
    }

    /// Whether it was killed for want of memory, when nobody says so: by SIGKILL, not by us, while the kernel
    /// did that to a process of this host.
    fn ran_out_of_memory(&self, signal: Option<i32>) -> bool {
        let by_others = signal == Some(SIGKILL) && !self.killed.load(Ordering::Relaxed);
        by_others && self.here && host_oom_kills() > self.oom_kills
    }

    /// Compares the limits in force with those asked for.
    pub(crate) fn verify(&self, wanted: &Limits) -> Result<(), RuntimeError> {
        if *wanted == Limits::default() {
            return Ok(());
        }
        let (judge, found) = self.judged_limits()?;
        Ok(cgroup::compare(judge, wanted, &found)?)
    }

    /// The limits in force, as the kernel has them or as the daemon says.
    pub(crate) fn limits(&self) -> Result<Limits, RuntimeError> {
        self.judged_limits().map(|(_, limits)| limits)
    }

    /// The same with who says so.
    fn judged_limits(&self) -> Result<(&'static str, Limits), RuntimeError> {
        if let Some(Place { whole, innermost }) = self.cgroup.get() {
            let limits = innermost.limits_below(whole);
            // When it has ended meanwhile its files go one after another, which is not to have no limits. They
            // are all there as long as its first process is.
            if self.pid().is_some_and(|pid| Path::new(&format!("/proc/{pid}")).exists()) {
                return Ok((cgroup::KERNEL, limits));
            }
        }
        Ok((self.kind.name(), limits(&self.inspect()?)))
    }

    /// Whether its processes and networks are those of this host.
    pub(crate) fn is_here(&self) -> bool {
        self.here
    }

    /// Where this host reaches a port of it that is published.
    pub(crate) fn published(&self, port: u16) -> Option<SocketAddr> {
        let state = self.state.get()?;
        let published = state.pointer(&format!("/NetworkSettings/Ports/{port}~1tcp/0/HostPort"));
        let published = published.and_then(Value::as_str).and_then(|port| port.parse().ok());
        Some(SocketAddr::from((Ipv4Addr::LOCALHOST, published.filter(|port| *port > 0)?)))
    }

    pub(crate) fn signal(&self, number: i32) -> Result<(), RuntimeError> {
        if number == SIGKILL {
            self.killed.store(true, Ordering::Relaxed);
        }
        self.read(&["kill", "--signal", &number.to_string(), &self.id]).map(drop)
    }

    pub(crate) fn wait(&self, deadline: Instant) -> Result<Option<Exit>, RuntimeError> {
        const PAUSE: Duration = Duration::from_millis(5);
        loop {
            // Cheaper than to ask the daemon, where it can be seen.
            let ended = self.pid().is_none_or(|pid| !Path::new(&format!("/proc/{pid}")).exists());
            if ended {
                let state = self.inspect()?;
                if state.pointer("/State/Running").and_then(Value::as_bool) == Some(false) {
                    let _ = self.exited.set(tare_load::clock::now());
                    let exit = exit(&state);
                    let oom_killed = exit.oom_killed || self.ran_out_of_memory(exit.signal);
                    let _ = self.oom_killed.set(oom_killed);
                    return Ok(Some(Exit { oom_killed, ..exit }));
                }
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            std::thread::sleep(PAUSE);
        }
    }

    pub(crate) fn output(&self) -> String {
        // The client sends the container's stderr to its own.
        let command = "exec \"$0\" logs --tail \"$1\" \"$2\" 2>&1";
        let (program, id) = (&self.program, &self.id);
        let Ok(sh) = Shell::new() else { return String::new() };
        let output = cmd!(sh, "sh -c {command} {program} {LINES} {id}").capture().unwrap_or_default();
        String::from_utf8_lossy(&output).into_owned()
    }

    pub(crate) fn remove(&self) -> Result<(), RuntimeError> {
        self.read(&["rm", "--force", "--volumes", &self.id]).map(drop)
    }
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
