//! Containers of the embedded runtime or of a program with the OCI command line. A keeper supervises both.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tare_keeper::{Command, Create};

use super::bundle::{self, Place};
use super::cgroup::{self, Cgroup};
use super::counters::Counters;
use super::error::ContainerError;
use super::group::Parent;
use super::keeper::Keeper;
use super::kind::RuntimeKind;
use super::leftovers::{Folder, Owner, RUNTIME_STATE, Record};
use super::life::{Clock, Driver, Exit, Follower};
use super::limits::Limits;
use super::network::Pair;
use super::options::Options;
use super::refusal::refused;
use super::rights::Rights;
use super::roots::{Cache, Keep, Root};
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
    /// The unpacked image, which is kept as long as this lives.
    _root: Root,
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
            return Err(error.with_hint("let `cargo xtask` build it, or set TARE_KEEPER to its path"));
        };
        if Rights::of_this_process() == Rights::Ordinary {
            let message = format!("the runtime `{kind}` makes containers as root, or in a user namespace");
            return Err(ContainerError::new(message).with_hint("add `--sudo`, or choose `--runtime docker`"));
        }
        let parent = Parent::find(root)?;
        parent.prepare()?;
        Ok(Self { kind, program, keeper, parent, root, options })
    }

    /// The root file system of an image, which is unpacked on first use.
    pub(crate) fn root_of(&self, target: &Target, spec: &ContainerSpec) -> Result<Root, ContainerError> {
        Cache::new(&self.options.cache, Keep::default()).rootfs(target, &spec.mount_points(&target.config))
    }

    /// Creates a container whose limits are in force.
    pub(crate) fn create(
        &self,
        target: &Target,
        spec: &ContainerSpec,
    ) -> Result<(Box<dyn Driver>, Folder), ContainerError> {
        let Self { kind, parent, options, .. } = self;
        if !self.root && !matches!(spec.network, Network::Loopback | Network::Host) {
            let error = ContainerError::new("only root may put containers on interfaces of this host");
            return Err(error.with_hint("leave `network` out of the profile, or add `--sudo`"));
        }
        cgroup::check_enforceable(&parent.existing, &spec.limits)?;
        let root = self.root_of(target, spec)?;
        let record = Record { owner: Owner::this(), cgroup: Some(parent.path.clone()), runtime: *kind };
        let folder =
            Folder::create(&options.state, &record).map_err(ContainerError::on("create", &options.state))?;
        let rootfs = root.path();
        let (passwd, group) = (read_inside(rootfs, "etc/passwd"), read_inside(rootfs, "etc/group"));
        let user =
            user::resolve(target.config.execution.user().as_deref().unwrap_or_default(), &passwd, &group);
        let mut user = user.map_err(ContainerError::new)?;
        if !self.root {
            // The only user that exists in the namespace, which was made without the right to map others.
            (user.uid, user.gid) = (0, 0);
            user.groups.clear();
        }
        let is_embedded = *kind == RuntimeKind::Embedded;
        let shares_host_network = spec.network == Network::Host;
        let group = parent.path.join(&folder.id);
        let nofile = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
        let place = Place {
            id: &folder.id,
            rootfs,
            cgroup: &group,
            cgroup_folders: parent.group.join(&folder.id),
            user: &user,
            nofile: nofile.unwrap_or(NOFILE_MOST).min(NOFILE_MOST),
            runtime_makes_network: !is_embedded && !shares_host_network,
            single_user: !self.root,
        };
        let config = folder.path.join("config.json");
        let document = bundle::document(spec, &target.config, &place).to_string();
        fs::write(&config, document).map_err(ContainerError::on("write", &config))?;
        let request = Create {
            bundle: folder.path.clone(),
            state: folder.path.join(RUNTIME_STATE),
            id: folder.id.clone(),
            cgroup: group.clone(),
            program: self.program.clone(),
            new_network: is_embedded && !shares_host_network,
        };
        let failed = |reason: String| refused(*kind, "create", &reason);
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
        let container =
            KeptContainer { kind: *kind, keeper, cgroup, group, shares_host_network, pair, _root: root };
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

    fn wait_executed(&self) -> Result<(), ContainerError> {
        self.keeper.wait_executed().map_err(|reason| self.refused("start", &reason))
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

    fn oom_kills(&self) -> u64 {
        Counters::oom_kills(&self.cgroup).unwrap_or(0)
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
        self.keeper.follow(follower);
        Ok(None)
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

/// Counters of another group would not be the container's.
fn check_place(cgroup: &Cgroup, path: &Path) -> Result<(), String> {
    let below = path.strip_prefix("/").unwrap_or(path);
    match cgroup.folder("cpu").or(cgroup.folder("memory")) {
        Some(folder) if folder.ends_with(below) => Ok(()),
        Some(folder) => Err(format!("it is in the group {}, not in {}", folder.display(), path.display())),
        None => Err("it is in no group that counts".to_owned()),
    }
}
