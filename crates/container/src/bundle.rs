//! From an image and a spec to a container by the embedded runtime or one with the OCI command line.

use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use tare_keeper::Create;

use super::cgroup::{self, Cgroup};
use super::keeper::Keeper;
use super::leftovers::{Folder, Owner, RUNTIME_STATE, Record};
use super::life::{Driver, Inner};
use super::network::Pair;
use super::roots::{Cache, Keep};
use super::runtime::{Runtime, RuntimeError, RuntimeKind};
use super::spec::{ContainerSpec, Network, Place};
use super::target::Target;
use super::unpack::read_inside;
use super::user;

/// No container gets more open files than this, whatever the host allows: it is docker's number.
const NOFILE_MOST: u64 = 1 << 20;

pub(crate) fn create(
    runtime: &Runtime,
    target: &Target,
    spec: &ContainerSpec,
) -> Result<Inner, RuntimeError> {
    let on = |operation, path: &Path| {
        let path = path.to_path_buf();
        move |source| RuntimeError::File { operation, path, source }
    };
    let (Some(parent), Some(program)) = (&runtime.parent, &runtime.options.keeper) else {
        return Err(RuntimeError::NoKeeper(runtime.kind));
    };
    cgroup::check_enforceable(&parent.existing, &spec.limits)?;
    let cache = Cache::new(&runtime.options.cache, Keep::default());
    let cached = cache.rootfs(target, &spec.mount_points(&target.config))?;
    let state = &runtime.options.state;
    let record = Record { owner: Owner::this(), cgroup: Some(parent.path.clone()), runtime: runtime.kind };
    let folder = Folder::create(state, &record).map_err(on("create", state))?;
    let rootfs = cached.path().to_path_buf();
    let passwd = read_inside(&rootfs, "etc/passwd");
    let group = read_inside(&rootfs, "etc/group");
    let mut user = user::resolve(&target.config.config.user, &passwd, &group)?;
    if !runtime.root {
        // The only user that exists in the namespace, which was made without the right to map others.
        (user.uid, user.gid) = (0, 0);
        user.groups.clear();
    }
    let embedded = runtime.kind == RuntimeKind::Embedded;
    let cgroup_path = parent.path.join(&folder.id);
    let nofile = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    let place = Place {
        id: &folder.id,
        rootfs: &rootfs,
        cgroup: &cgroup_path,
        cgroup_folders: cgroup::folders_of_version_1(&cgroup_path)?,
        user: &user,
        nofile: nofile.unwrap_or(NOFILE_MOST).min(NOFILE_MOST),
        runtime_makes_network: !embedded && spec.network != Network::Host,
        single_user: !runtime.root,
    };
    let config = folder.path.join("config.json");
    let document = spec.bundle(&target.config, &place).to_string();
    fs::write(&config, document).map_err(on("write", &config))?;
    let request = Create {
        bundle: folder.path.clone(),
        state: folder.path.join(RUNTIME_STATE),
        id: folder.id.clone(),
        cgroup: cgroup_path.clone(),
        program: runtime.program.clone(),
        new_network: embedded && spec.network != Network::Host,
    };
    let refused = |reason: String| runtime.refused("create", reason, String::new());
    let keeper = Keeper::create(program, request).map_err(refused)?;
    let Some(pid) = keeper.told().pid else { return Err(refused("it has no process".to_owned())) };
    let cgroup = Cgroup::of_process(pid)?;
    check_place(&cgroup, &cgroup_path).map_err(refused)?;
    cgroup.limit_swap(&spec.limits)?;
    // Whatever the runtime says: what counts is what the kernel has.
    cgroup.verify(&spec.limits)?;
    let pair = match &spec.network {
        Network::Loopback | Network::Host => None,
        Network::Veth => Some(Pair::create(pid)?),
        Network::Bridge(bridge) => Some(bridge.join(pid)?),
    };
    Ok(Inner {
        runtime: runtime.kind,
        driver: Driver::Keeper { keeper, cgroup, group: cgroup_path, _root: cached },
        limits: spec.limits.clone(),
        host_network: spec.network == Network::Host,
        pair: Mutex::new(pair),
        removed: AtomicBool::new(false),
        id: folder.id.clone(),
        folder: Mutex::new(Some(folder)),
        _kept: runtime.kept.clone(),
    })
}

/// Counters of another group would be somebody else's.
fn check_place(cgroup: &Cgroup, path: &Path) -> Result<(), String> {
    let below = path.strip_prefix("/").unwrap_or(path);
    match cgroup.folder("cpu").or(cgroup.folder("memory")) {
        Some(folder) if folder.ends_with(below) => Ok(()),
        Some(folder) => Err(format!("it is in the group {}, not in {}", folder.display(), path.display())),
        None => Err("it is in no group that counts".to_owned()),
    }
}
