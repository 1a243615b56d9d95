//! An opened runtime, which creates containers.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tare_tool::private;
use tare_tool::process::{Execute as _, Shell, cmd, find_program};

use super::affinity;
use super::cgroup;
use super::cleanup;
use super::confinement::Confinement;
use super::daemon::Daemon;
use super::error::ContainerError;
use super::group::{Kept, Parent};
use super::kind::RuntimeKind;
#[cfg(target_os = "linux")]
use super::layers;
use super::leftovers::{self, Folder, Leftover};
use super::life::{Container, Driver};
use super::limits::{CpuSet, Limits};
#[cfg(target_os = "linux")]
use super::oci::OciRuntime;
use super::options::Options;
use super::rights::is_root;
use super::spec::{ContainerSpec, Network};
use super::target::Target;

/// A runtime that can be used.
#[derive(Debug)]
pub struct Runtime {
    kind: RuntimeKind,
    options: Options,
    root: bool,
    maker: Maker,
    /// Keeps the group of this process as long as this and its containers live.
    kept: Arc<Kept>,
    /// Whether a container's layer had to be memory.
    in_memory: AtomicBool,
    /// What dead owners had left.
    swept: Vec<Leftover>,
}

#[derive(Debug)]
enum Maker {
    Daemon(Daemon),
    #[cfg(target_os = "linux")]
    Oci(Box<OciRuntime>),
}

impl Runtime {
    /// Looks whether a runtime can be used, and removes what killed runs left.
    ///
    /// # Errors
    /// When its program is missing, or groups cannot be made.
    pub fn open(kind: RuntimeKind, options: &Options) -> Result<Self, ContainerError> {
        // The records in this folder lead to removals, so they must be this user's.
        private::own_folder(&options.state)?;
        let program = kind.find(options.path.as_ref())?;
        let root = is_root();
        let find = |kind: RuntimeKind| find_program(kind.name(), options.path.as_ref());
        let mut swept = leftovers::sweep(&options.state, &find);
        #[cfg(target_os = "linux")]
        layers::sweep(&options.cache);
        let kept = Kept::hold(root);
        let maker = match program {
            Some(program) if kind.is_daemon() => {
                let daemon = Daemon::open(kind, &program, &options.cleanup)?;
                swept.extend(daemon.sweep().into_iter().map(Leftover::Removed));
                Maker::Daemon(daemon)
            }
            #[cfg(target_os = "linux")]
            program => Maker::Oci(Box::new(OciRuntime::open(kind, program, options.clone(), root)?)),
            #[cfg(not(target_os = "linux"))]
            _ => {
                let error = ContainerError::new(format_args!("the runtime `{kind}` runs on Linux alone"));
                return Err(error.with_hint("choose `--runtime docker`"));
            }
        };
        let in_memory = AtomicBool::new(false);
        Ok(Self { kind, options: options.clone(), root, maker, kept, in_memory, swept })
    }

    /// Its version, as the first line of `PROGRAM --version` has it.
    #[must_use]
    pub fn version(&self) -> String {
        if self.kind == RuntimeKind::Embedded {
            return env!("CARGO_PKG_VERSION").to_owned();
        }
        let program = find_program(self.kind.name(), self.options.path.as_ref());
        let ask = |(program, sh): (_, Shell)| cmd!(sh, "{program} --version").capture_text().ok();
        let text = program.zip(Shell::new().ok()).and_then(ask).unwrap_or_default();
        text.lines().next().unwrap_or("unknown").to_owned()
    }

    /// A program of this host, on the PATH that the runtime was found on.
    #[must_use]
    pub fn find_program(&self, name: &str) -> Option<PathBuf> {
        find_program(name, self.options.path.as_ref())
    }

    /// Which it is.
    #[must_use]
    pub fn kind(&self) -> RuntimeKind {
        self.kind
    }

    /// What killed runs had left, and what became of it.
    #[must_use]
    pub fn swept(&self) -> &[Leftover] {
        &self.swept
    }

    fn daemon(&self) -> Option<&Daemon> {
        match &self.maker {
            Maker::Daemon(daemon) => Some(daemon),
            #[cfg(target_os = "linux")]
            Maker::Oci(_) => None,
        }
    }

    /// Where groups can be made, for the process that sends requests ([`super::group::Group`]).
    ///
    /// # Errors
    /// When they cannot be.
    pub fn parent(&self) -> Result<Parent, ContainerError> {
        match &self.maker {
            Maker::Daemon(_) => Parent::find(self.root),
            #[cfg(target_os = "linux")]
            Maker::Oci(runtime) => Ok(runtime.parent.clone()),
        }
    }

    /// Whether the limits in force are not read from the kernel but from a daemon, because it runs its
    /// containers where the kernel's files cannot be seen: in a virtual machine or on another host.
    #[must_use]
    pub fn limits_are_the_daemons_word(&self) -> bool {
        self.daemon().is_some_and(|daemon| !daemon.is_here())
    }

    /// Whether a server is reached by a port of this host that a proxy or the host's firewall passes on, because
    /// its network cannot be entered from here.
    #[must_use]
    pub fn publishes_ports(&self, spec: &ContainerSpec) -> bool {
        self.daemon().is_some_and(|daemon| !daemon.joins()) && spec.network != Network::Host
    }

    /// Whether what its containers so far wrote into their roots was kept in memory, and counted as theirs, because
    /// the file system of the cache cannot hold a layer.
    #[must_use]
    pub fn writes_to_memory(&self) -> bool {
        self.in_memory.load(Ordering::Relaxed)
    }

    /// Whether it can keep containers to these CPUs by a cpuset.
    #[must_use]
    pub fn has_cpuset(&self, cpus: &CpuSet) -> bool {
        if let Some(daemon) = self.daemon() {
            return daemon.has_cpusets();
        }
        let alone = Limits { cpuset: Some(cpus.clone()), ..Limits::default() };
        self.parent().map_or(true, |it| cgroup::check_enforceable(&it.existing, &alone).is_ok())
    }

    /// Unpacks or loads an image, so that creating containers of it takes no longer the first time. Returns its
    /// root, if that is a folder of this host.
    ///
    /// # Errors
    /// When the image is damaged or hostile, or the cache cannot be written.
    pub fn prepare(&self, target: &Target) -> Result<Option<PathBuf>, ContainerError> {
        match &self.maker {
            Maker::Daemon(daemon) => {
                let _making = cleanup::making();
                daemon.load(target, &self.options.state).map(|_| None)
            }
            #[cfg(target_os = "linux")]
            Maker::Oci(runtime) => Ok(Some(runtime.root_of(target)?.path().to_path_buf())),
        }
    }

    /// Creates a container. It waits for its start; its limits are in force, or this fails.
    ///
    /// # Errors
    /// When the image, the limits, the runtime or the network do not allow it.
    pub fn create(&self, target: &Target, spec: &ContainerSpec) -> Result<Container, ContainerError> {
        spec.limits.clone().checked().map_err(ContainerError::new)?;
        if spec.command(&target.config).is_empty() {
            let error =
                ContainerError::new(format_args!("{} has neither entrypoint nor command", target.name));
            return Err(error.with_hint("say what to run under `args` of the profile"));
        }
        if let Some(flaw) = spec.flaw(&target.config) {
            let error = ContainerError::new(format_args!("{} cannot be started: {flaw}", target.name));
            return Err(
                error.with_hint("remove it from the image or profile: no runtime starts it, nor does docker")
            );
        }
        let confinement = Confinement::of(&target.config, &spec.tightening)?;
        let container = match &self.maker {
            Maker::Daemon(daemon) => {
                let _making = cleanup::making();
                let made = daemon.create(target, spec, &confinement, &self.options.state)?;
                self.registered(made, spec, confinement)
            }
            #[cfg(target_os = "linux")]
            Maker::Oci(runtime) => {
                // Unpacking an image can be interrupted.
                let root = runtime.root_of(target)?;
                let _making = cleanup::making();
                let made = runtime.create(target, spec, &confinement, root)?;
                self.registered(made, spec, confinement)
            }
        };
        self.in_memory.fetch_or(container.writes_to_memory(), Ordering::Relaxed);
        // Of a daemon's there is none yet.
        if let Some((pid, cpus)) = container.pid().zip(spec.affinity.as_ref()) {
            affinity::pin(pid, cpus);
        }
        Ok(container)
    }

    /// A container that goes with this process.
    fn registered(
        &self,
        (driver, folder): (Box<dyn Driver>, Folder),
        spec: &ContainerSpec,
        confinement: Confinement,
    ) -> Container {
        let (limits, kept) = (spec.limits.clone(), Arc::clone(&self.kept));
        Container::new(self.kind, driver, folder, limits, confinement, kept, &self.options.cleanup)
    }
}
