//! Containers of the embedded runtime or of a program with the OCI command line. A keeper supervises both.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::Resource;
use tare_keeper::{Command, Create, LastStep};
use tare_tool::process::{Execute as _, Shell, cmd};

use super::advice;
use super::bundle::{self, Place};
use super::cgroup::{self, Cgroup};
use super::confinement::Confinement;
use super::counters::Counters;
use super::error::ContainerError;
use super::group::Parent;
use super::keeper::Keeper;
use super::kind::RuntimeKind;
use super::layers::Layer;
use super::leftovers::{Folder, Owner, RUNTIME_STATE, Record};
use super::life::{Clock, Driver, Exit, Follower};
use super::limits::Limits;
use super::network::Pair;
use super::options::Options;
use super::refusal::refused;
use super::rights::Rights;
use super::roots::{Cache, Keep, Root};
use super::seccomp;
use super::spec::{ContainerSpec, Network};
use super::target::Target;
use super::unpack::read_inside;
use super::user;

/// The most open files that a container gets, even where the host allows more. docker uses the same number.
const NOFILE_MOST: u64 = 1 << 20;

/// The embedded runtime, or a program with the OCI command line.
#[derive(Debug)]
pub(crate) struct OciRuntime {
    kind: RuntimeKind,
    /// None: libcontainer, in the keeper.
    program: Option<PathBuf>,
    /// The program `tare-keeper`.
    keeper: PathBuf,
    pub(crate) parent: Parent,
    /// Whether this process is root on the host; root in a user namespace does not count.
    root: bool,
    /// Whether the program filters system calls.
    filters: bool,
    options: Options,
}

/// A container under a keeper.
#[derive(Debug)]
struct KeptContainer {
    kind: RuntimeKind,
    keeper: Keeper,
    cgroup: Cgroup,
    /// The same from the root of every hierarchy.
    group: PathBuf,
    shares_host_network: bool,
    pair: Mutex<Option<Pair>>,
    /// What is run.
    command: Vec<String>,
    /// What the container writes, which goes before the image's files.
    _layer: Layer,
    /// The unpacked image, which is kept as long as this lives.
    root: Root,
}

impl OciRuntime {
    /// Makes sure that this process may make containers.
    pub(crate) fn open(
        kind: RuntimeKind,
        program: Option<PathBuf>,
        options: Options,
        root: bool,
    ) -> Result<Self, ContainerError> {
        let Some(keeper) = options.keeper.clone() else {
            let error =
                ContainerError::new(format_args!("the runtime `{kind}` needs the program tare-keeper"));
            return Err(error.with_hint(format!(
                "let `{}` build it, or set TARE_KEEPER to its path",
                tare_tool::environment::command()
            )));
        };
        if Rights::of_this_process() == Rights::Ordinary {
            let message = format!("the runtime `{kind}` makes containers as root, or in a user namespace");
            return Err(ContainerError::new(message).with_hint("add `--sudo`, or choose `--runtime docker`"));
        }
        let parent = Parent::find(root)?;
        parent.prepare()?;
        let filters = program.as_deref().is_none_or(|program| filters(kind, program));
        Ok(Self { kind, program, keeper, parent, root, filters, options })
    }

    /// The root file system of an image, which is unpacked on first use.
    pub(crate) fn root_of(&self, target: &Target) -> Result<Root, ContainerError> {
        Cache::new(&self.options.cache, Keep::default()).rootfs(target)
    }

    /// Creates a container whose limits are in force, with the root of its image.
    pub(crate) fn create(
        &self,
        target: &Target,
        spec: &ContainerSpec,
        confinement: &Confinement,
        root: Root,
    ) -> Result<(Box<dyn Driver>, Folder), ContainerError> {
        let Self { kind, parent, options, .. } = self;
        if !self.root && !matches!(spec.network, Network::Loopback | Network::Host) {
            let error = ContainerError::new("only root may put containers on interfaces of this host");
            return Err(error.with_hint("leave `network` out of the profile, or add `--sudo`"));
        }
        cgroup::check_enforceable(&parent.existing, &spec.limits)?;
        let record = Record { owner: Owner::this(), cgroup: Some(parent.path.clone()), runtime: *kind };
        let folder =
            Folder::create(&options.state, &record).map_err(ContainerError::on("create", &options.state))?;
        let layer = Layer::create(&options.cache, &folder.id)?;
        let image = root.path();
        let (passwd, group) = (read_inside(image, "etc/passwd"), read_inside(image, "etc/group"));
        let mut user = user::resolve(&confinement.user, &passwd, &group).map_err(ContainerError::new)?;
        if !self.root {
            // The only user that exists in the namespace, which was made without the right to map others.
            (user.uid, user.gid) = (0, 0);
            user.groups.clear();
        }
        let is_embedded = *kind == RuntimeKind::Embedded;
        let shares_host_network = spec.network == Network::Host;
        let group = parent.path.join(&folder.id);
        let most = |resource| rustix::process::getrlimit(resource).maximum;
        let single_user = !self.root;
        let place = Place {
            id: &folder.id,
            rootfs: &folder.path.join("rootfs"),
            layer: layer.path(),
            cgroup: &group,
            cgroup_folders: parent.group.join(&folder.id),
            user: &user,
            nofile: most(Resource::Nofile).unwrap_or(NOFILE_MOST).min(NOFILE_MOST),
            // None is no limit (getrlimit(2)).
            nproc: most(Resource::Nproc).unwrap_or(u64::MAX),
            runtime_makes_network: !is_embedded && !shares_host_network,
            single_user,
            keeper_finishes: is_embedded,
            filters: self.filters,
        };
        let config = folder.path.join("config.json");
        let document = bundle::document(spec, confinement, &target.config, &place).to_string();
        fs::write(&config, document).map_err(ContainerError::on("write", &config))?;
        let capabilities = bundle::capabilities(confinement);
        let inside = |path: &String| PathBuf::from(path.trim_start_matches('/'));
        let resolver = shares_host_network.then(|| fs::read_to_string("/etc/resolv.conf").ok()).flatten();
        let request = Create {
            bundle: folder.path.clone(),
            state: folder.path.join(RUNTIME_STATE),
            id: folder.id.clone(),
            cgroup: group.clone(),
            program: self.program.clone(),
            new_network: is_embedded && !shares_host_network,
            network_parameters: bundle::network_parameters(spec, confinement, single_user),
            root: tare_keeper::Root {
                lower: image.to_path_buf(),
                layer: layer.path().to_path_buf(),
                folders: bundle::folders(spec, confinement, &target.config).iter().map(inside).collect(),
                shared_folders: confinement.tmpfs.iter().map(inside).collect(),
                files: bundle::files(&folder.id, resolver.as_deref())
                    .into_iter()
                    .map(|(path, content)| (path.into(), content))
                    .collect(),
                volumes: bundle::mounted_volumes(confinement).iter().map(inside).collect(),
                user_namespace: single_user,
            },
            owner: (user.uid, user.gid),
            last_step: is_embedded.then(|| LastStep {
                filter: seccomp::program(&capabilities).unwrap_or_default(),
                capabilities: capabilities.iter().map(|it| it.bit()).sum(),
            }),
        };
        let command = spec.command(&target.config);
        let failed = |reason: String| unstartable(*kind, "create", &reason, image, &command);
        let keeper = Keeper::create(&self.keeper, request).map_err(failed)?;
        let Some(pid) = keeper.events().pid else { return Err(failed("it has no process".to_owned())) };
        let cgroup = Cgroup::of_process(pid)?;
        check_place(&cgroup, &group).map_err(failed)?;
        cgroup.limit_swap(&spec.limits)?;
        // Read the limits back from the kernel; a runtime may report limits that are not in force.
        cgroup.verify(&spec.limits)?;
        let pair = match &spec.network {
            Network::Loopback | Network::Host => None,
            Network::Veth => Some(Pair::create(pid)?),
            Network::Bridge(bridge) => Some(bridge.join(pid)?),
        };
        let pair = Mutex::new(pair);
        let container = KeptContainer {
            kind: *kind,
            keeper,
            cgroup,
            group,
            shares_host_network,
            pair,
            command,
            _layer: layer,
            root,
        };
        Ok((Box::new(container), folder))
    }
}

impl KeptContainer {
    fn refused(&self, operation: &str, reason: &str) -> ContainerError {
        refused(self.kind, operation, reason)
    }
}

impl Driver for KeptContainer {
    fn release(&self) -> Result<(), ContainerError> {
        self.cgroup.reset_peak();
        self.keeper.send(&Command::Start).map_err(|reason| self.refused("start", &reason))
    }

    fn explain(&self, output: &str) -> Option<String> {
        let last = output.lines().last().filter(|line| line.contains("exec"))?;
        advice::on_program(self.root.path(), self.command.first()?, last)
    }

    fn wait_executed(&self) -> Result<(), ContainerError> {
        let failed =
            |reason: String| unstartable(self.kind, "start", &reason, self.root.path(), &self.command);
        self.keeper.wait_executed().map_err(failed)
    }

    fn clock(&self) -> Clock {
        let events = self.keeper.events();
        Clock {
            begun: self.keeper.begun,
            created: events.created.unwrap_or(self.keeper.begun),
            started: events.started,
            executed: events.executed,
            exited: events.exited.map(|(at, ..)| at),
        }
    }

    fn pid(&self) -> Option<i32> {
        self.keeper.events().pid
    }

    fn counters(&self) -> Option<Counters> {
        Counters::read(&self.cgroup).ok()
    }

    fn processes(&self) -> Vec<i32> {
        self.cgroup.processes().unwrap_or_default()
    }

    fn oom_kills(&self) -> u64 {
        Counters::oom_kills(&self.cgroup).unwrap_or(0)
    }

    fn writes_to_memory(&self) -> bool {
        self.keeper.events().in_memory
    }

    fn limits(&self) -> Result<Limits, ContainerError> {
        Ok(self.cgroup.limits())
    }

    fn published(&self, port: u16) -> Result<Option<SocketAddr>, &'static str> {
        let pair = self.pair.lock().unwrap_or_else(PoisonError::into_inner);
        let address = pair.as_ref().map(|pair| pair.address);
        let of_host = self.shares_host_network.then_some(std::net::Ipv4Addr::LOCALHOST);
        Ok(address.or(of_host).map(|address| (address, port).into()))
    }

    fn is_reached_late(&self) -> bool {
        false
    }

    fn signal(&self, number: i32) -> Result<(), ContainerError> {
        self.keeper.send(&Command::Signal { number }).map_err(|reason| self.refused("signal", &reason))
    }

    fn wait(&self, timeout: Duration) -> Result<Option<Exit>, ContainerError> {
        let events = self.keeper.wait(timeout, |events| events.exited.is_some());
        match events.exited {
            Some((_, code, signal)) => Ok(Some(Exit { code, signal, oom_killed: self.oom_kills() > 0 })),
            None if events.ended => {
                let reason = events.failed.unwrap_or_else(|| "the runtime is gone".to_owned());
                Err(self.refused("watch", &reason))
            }
            None => Ok(None),
        }
    }

    fn output(&self) -> String {
        self.keeper.output()
    }

    fn follow(&self, follower: Follower) -> Result<Option<JoinHandle<()>>, ContainerError> {
        Ok(self.keeper.follow(follower))
    }

    fn remove(&self) -> Result<(), ContainerError> {
        let result = self.keeper.remove().or_else(|reason| {
            // Nothing else does it where the keeper was killed.
            tare_keeper::cgroup::remove(&self.group)
                .map_err(|error| self.refused("remove", &format!("{reason}; {error}")))
        });
        drop(self.pair.lock().unwrap_or_else(PoisonError::into_inner).take());
        result
    }
}

/// Whether a runtime was built with a filter of system calls, which it refuses a bundle for if it was not. runc and
/// crun say so with their version; youki has one unless it was built without.
fn filters(kind: RuntimeKind, program: &Path) -> bool {
    let says = match kind {
        RuntimeKind::Runc => "libseccomp",
        RuntimeKind::Crun => "+SECCOMP",
        _ => return true,
    };
    let version = Shell::new().ok().and_then(|sh| cmd!(sh, "{program} --version").capture_text().ok());
    version.is_some_and(|version| version.contains(says))
}

/// The error of a program that cannot be run, with what the image lacks.
fn unstartable(
    kind: RuntimeKind,
    operation: &str,
    reason: &str,
    image: &Path,
    command: &[String],
) -> ContainerError {
    let error = refused(kind, operation, reason);
    match command.first().and_then(|program| advice::on_program(image, program, reason)) {
        Some(advice) => error.with_hint(advice),
        None => error,
    }
}

/// Counters of another group would not be the container's.
fn check_place(cgroup: &Cgroup, path: &Path) -> Result<(), String> {
    let below = path.strip_prefix("/").unwrap_or(path);
    match cgroup.folder("cpu").or(cgroup.folder("memory")) {
        Some(folder) if folder.ends_with(below) => Ok(()),
        Some(folder) => Err(format!("it is in the group {}, not in {}", folder.display(), path.display())),
        None => Err("it is in no group that counts".to_owned()),
    }
}
