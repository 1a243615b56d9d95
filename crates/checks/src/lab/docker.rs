//! Docker daemons of two generations. Each runs in its own namespaces with its own folders.

use std::path::{Path, PathBuf};

use super::context::{Context, write};
use super::expect::poll;
use super::namespace::{Cgroup, Isolated};
use super::tools::Tool;
use tare_tool::process::xshell::Cmd;
use tare_tool::process::{Execute as _, cmd};

/// How a daemon keeps images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Store {
    /// Its own, by image id: docker 20.10. Before version 23 it knew no zstd, before 25 no start interval.
    Classic,
    /// containerd's, by the digest of manifest or index: docker 29.
    Containerd,
}

/// A daemon. Dropped, it is ended with its containers.
pub(crate) struct Docker {
    pub(crate) daemon: Isolated,
    pub(crate) store: Store,
    host: String,
    config: PathBuf,
    _cgroup: Cgroup,
}

impl Docker {
    pub(crate) fn start(context: &Context<'_>, store: Store) -> anyhow::Result<Self> {
        let (tool, name) = match store {
            Store::Classic => (Tool::Docker20, "docker-20"),
            Store::Containerd => (Tool::Docker29, "docker-29"),
        };
        let dockerd = context.found.path(tool);
        let folder = context.new_folder(name)?;
        let path = |name: &str| folder.join(name).display().to_string();
        let cgroup = Cgroup::new(context.unique());
        let host = format!("unix://{}", path("socket"));
        // No configuration of this host.
        write(&folder.join("daemon.json"), b"{}")?;
        let mut arguments: Vec<String> = [
            ("host", host.clone()),
            ("data-root", path("data")),
            ("exec-root", path("exec")),
            ("pidfile", path("pid")),
            ("config-file", path("daemon.json")),
            // No network to be set up: containers use the daemon's, which is a namespace with loopback alone.
            ("bridge", "none".to_owned()),
            ("iptables", "false".to_owned()),
            ("ip6tables", "false".to_owned()),
            ("userland-proxy", "false".to_owned()),
            ("cgroup-parent", format!("/{}", cgroup.name())),
            ("exec-opt", "native.cgroupdriver=cgroupfs".to_owned()),
        ]
        .iter()
        .map(|(name, value)| format!("--{name}={value}"))
        .collect();
        let mut programs = context.env.text("PATH").unwrap_or_default();
        if store == Store::Containerd {
            // runc knows time namespaces since 1.2; Debian's is older.
            arguments.push("--feature=time-namespaces=false".to_owned());
            let beside = dockerd.parent().unwrap_or(Path::new("/")).display().to_string();
            programs = format!("{beside}:{programs}");
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let daemon = Isolated::start(&dockerd, &arguments, &[("PATH", &programs)], &folder.join("log"))?;
        let mut docker = Self { daemon, store, host, config: folder.join("client"), _cgroup: cgroup };
        poll("the daemon's readiness", || {
            docker.daemon.check_running()?;
            Ok(docker.command(&["version"]).capture().ok())
        })?;
        Ok(docker)
    }

    /// The client.
    pub(crate) fn command(&self, arguments: &[&str]) -> Cmd<'_> {
        self.client(cmd!(self.daemon.sh, "docker {arguments...}"))
    }

    /// A program that is or calls the client of this daemon, without the configuration of this host.
    pub(crate) fn client<'a>(&self, command: Cmd<'a>) -> Cmd<'a> {
        command.env("DOCKER_HOST", &self.host).env("DOCKER_CONFIG", &self.config).without_env([
            "BUILDX_BUILDER",
            "BUILDX_CONFIG",
            "DOCKER_CONTEXT",
            "DOCKER_TLS_VERIFY",
            "DOCKER_CERT_PATH",
            "DOCKER_DEFAULT_PLATFORM",
        ])
    }

    pub(crate) fn read(&self, arguments: &[&str]) -> anyhow::Result<String> {
        Ok(self.command(arguments).capture_text()?)
    }

    pub(crate) fn load(&self, archive: &Path) -> anyhow::Result<String> {
        self.read(&["load", "--quiet", "--input", &archive.display().to_string()])
    }
}
