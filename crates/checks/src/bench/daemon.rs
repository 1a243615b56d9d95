//! Docker daemons of our own: they keep everything in folders that are removed, have no network, and end
//! with the measurement.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::Bench;
use super::report::Part;
use super::scratch::Scratch;
use tare_tool::process::{Cmd, Running};

/// A daemon that answers. Fields are dropped in their order: the processes first.
#[derive(Debug)]
pub(super) struct Daemon {
    running: Running,
    sockets: Scratch,
    _data: Scratch,
    /// As it says itself.
    pub(super) version: String,
}

/// A daemon that is given up for dead.
const START_PATIENCE: Duration = Duration::from_secs(60);
const END_PATIENCE: Duration = Duration::from_secs(30);

impl Daemon {
    /// Starts a `dockerd` for a part of the measurements, which otherwise tells that `what` is left out, and why.
    pub(super) fn of(
        bench: &Bench<'_>,
        dockerd: Option<PathBuf>,
        name: &str,
        data: PathBuf,
        what: &str,
        part: &mut Part,
    ) -> Option<Self> {
        let Some(dockerd) = dockerd else {
            part.left_out.push(format!("{what}: no dockerd is installed for it"));
            return None;
        };
        let path = bench.env.get("PATH").cloned().unwrap_or_default();
        match Self::start(&dockerd, name, data, &path) {
            Ok(daemon) => Some(daemon),
            Err(error) => {
                part.left_out.push(format!("{what}: {error:#}"));
                None
            }
        }
    }

    /// Starts a `dockerd`, with the containerd that lies beside it, and waits until it answers.
    fn start(dockerd: &Path, name: &str, data: PathBuf, path: &OsString) -> anyhow::Result<Self> {
        let sockets = Scratch::short(name)?;
        let data = Scratch::create(data)?;
        let log_path = data.path().join("log");
        let log = File::create(&log_path).with_context(|| format!("cannot write {}", log_path.display()))?;
        let beside = dockerd.parent().map(Path::to_path_buf);
        let path = std::env::join_paths(beside.into_iter().chain(std::env::split_paths(path)))?;
        let option = |name: &str, value: PathBuf| {
            let mut option = OsString::from(format!("--{name}="));
            option.push(value);
            option
        };
        let running = Cmd::new(dockerd)
            .args(["--iptables=false", "--ip6tables=false", "--bridge=none", "--userland-proxy=false"])
            .arg(option("host", PathBuf::from(host(sockets.path()))))
            .arg(option("data-root", data.path().join("root")))
            .arg(option("exec-root", sockets.path().join("exec")))
            .arg(option("pidfile", sockets.path().join("pid")))
            // Another daemon's configuration is not ours.
            .arg(option("config-file", sockets.path().join("daemon.json")))
            .env("PATH", path);
        fs::write(sockets.path().join("daemon.json"), "{}")?;
        let running = running.start_beside(log.try_clone()?, log)?;
        let mut daemon = Self { running, sockets, _data: data, version: String::new() };
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            let version = daemon.client("docker").args(["version", "--format", "{{.Server.Version}}"]).read();
            if let Ok(version) = version {
                daemon.version = String::from_utf8_lossy(&version).trim().to_owned();
                return Ok(daemon);
            }
            if !daemon.running.is_running() || Instant::now() > deadline {
                let log = fs::read_to_string(&log_path).unwrap_or_default();
                let last = log.lines().last().unwrap_or("it says nothing").to_owned();
                anyhow::bail!("{} does not start: {last}", dockerd.display());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// A client of this daemon without anybody's configuration.
    pub(super) fn client(&self, program: impl AsRef<std::ffi::OsStr>) -> Cmd {
        self.aim(Cmd::new(program))
    }

    /// Lets a command find this daemon and no other, without anybody's configuration.
    pub(super) fn aim(&self, command: Cmd) -> Cmd {
        command
            .without_env(["DOCKER_CONTEXT", "BUILDX_BUILDER", "DOCKER_TLS_VERIFY"])
            .env("DOCKER_HOST", host(self.sockets.path()))
            .env("DOCKER_CONFIG", self.sockets.path().join("config"))
            .env("BUILDX_CONFIG", self.sockets.path().join("buildx"))
    }
}

fn host(sockets: &Path) -> String {
    format!("unix://{}/docker.sock", sockets.display())
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.running.end(END_PATIENCE);
        // A daemon that had to be killed leaves its containerd behind.
        let pid = fs::read_to_string(self.sockets.path().join("exec/containerd/containerd.pid"));
        if let Ok(pid) = pid {
            let _ = Cmd::new("sh").args(["-c", "kill -KILL \"$0\"", pid.trim()]).read();
        }
    }
}
