//! Finds the other tools that are installed here.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use tare_tool::environment::Environment;
use tare_tool::process::{Execute as _, Shell, cmd, find_program};

/// Something that a check cannot do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tool {
    /// A program on PATH.
    Program(&'static str),
    /// The right to change owners.
    Root,
    /// The right to make namespaces, and what sets them up.
    Namespaces,
    /// The last Docker daemon before zstd, with the classic image store: Debian 12's.
    Docker20,
    /// A Docker daemon with containerd's image store, in the folder that `TARE_DOCKER29` names.
    Docker29,
    /// Debian packages of servers, in the folder that `TARE_PACKAGES` names: a folder for each server, as `.ci/packages`
    /// fills it.
    Packages,
    /// A Kubernetes, in the folder that `.ci/kubernetes` fills. Building it takes so long that only `--cluster` does.
    Kubernetes,
}

impl Tool {
    /// Whether a check that lacks it is left out even where all tools are required.
    pub(crate) fn is_optional(self) -> bool {
        self == Self::Kubernetes
    }
}

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Program(name) => name,
            Self::Root => "root",
            Self::Namespaces => "root with unshare, nsenter, setpriv, mount, ip and bash",
            Self::Docker20 => "dockerd 20.10",
            Self::Docker29 => "TARE_DOCKER29, a folder with dockerd 29 and containerd",
            Self::Kubernetes => "a Kubernetes, which `cargo xtask test --cluster` builds",
            Self::Packages => "TARE_PACKAGES, a folder that `.ci/packages` has filled",
        })
    }
}

/// Where the tools are that were found.
pub(crate) struct Found(BTreeMap<Tool, PathBuf>);

impl Found {
    /// Looks for each tool once.
    pub(crate) fn probe<'a>(tools: impl Iterator<Item = &'a Tool>, env: &Environment) -> Self {
        let mut found = BTreeMap::new();
        for tool in tools {
            if let Some(place) = find(*tool, env).filter(|_| !found.contains_key(tool)) {
                found.insert(*tool, place);
            }
        }
        Self(found)
    }

    /// Whether it was found.
    pub(crate) fn has(&self, tool: Tool) -> bool {
        self.0.contains_key(&tool)
    }

    /// The path of a tool; the name of a missing one, which cannot be started.
    pub(crate) fn path(&self, tool: Tool) -> PathBuf {
        self.0.get(&tool).cloned().unwrap_or_else(|| PathBuf::from(tool.to_string()))
    }
}

/// The folder of `.ci/kubernetes`.
fn kubernetes_folder(env: &Environment) -> Option<PathBuf> {
    let cache = || match env.get("XDG_CACHE_HOME") {
        Some(folder) => Some(PathBuf::from(folder)),
        None => Some(Path::new(env.get("HOME")?).join(".cache")),
    };
    let tools = env.get("TARE_TOOLS").map(PathBuf::from).or_else(|| Some(cache()?.join("tare-tools")))?;
    Some(tools.join("kubernetes"))
}

fn find(tool: Tool, env: &Environment) -> Option<PathBuf> {
    let (sh, program) = (Shell::new().ok()?, |name: &str| find_program(name, env.get("PATH")));
    match tool {
        Tool::Program(name) => program(name),
        Tool::Root => {
            let own = std::fs::metadata("/proc/self").ok()?;
            (own.uid() == 0).then(|| PathBuf::from("/"))
        }
        Tool::Namespaces => {
            for name in ["nsenter", "setpriv", "mount", "ip", "bash"] {
                program(name)?;
            }
            let unshare = program("unshare")?;
            let options = ["--net", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc", "true"];
            cmd!(sh, "{unshare} {options...}").capture().ok().map(|_| unshare)
        }
        Tool::Docker20 => {
            let dockerd = program("dockerd")?;
            let version = cmd!(sh, "{dockerd} --version").capture_text().ok()?;
            version.contains("version 20.10.").then_some(dockerd)
        }
        Tool::Packages => {
            let folder = PathBuf::from(env.get("TARE_PACKAGES")?);
            folder.is_dir().then_some(folder)
        }
        Tool::Kubernetes => {
            let folder = kubernetes_folder(env)?;
            // What the script builds last, and is complete only then.
            folder.join("stamps/knative").is_file().then_some(folder)
        }
        Tool::Docker29 => {
            let folder = PathBuf::from(env.get("TARE_DOCKER29")?);
            let complete = ["dockerd", "containerd", "containerd-shim-runc-v2"]
                .iter()
                .all(|name| folder.join(name).is_file());
            complete.then(|| folder.join("dockerd"))
        }
    }
}
