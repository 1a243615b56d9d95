//! A file of docker compose for one host.

use super::Application;
use crate::origin::Sourced;
use crate::recommend::Mebibytes;
use crate::yaml::{Map, Node};

/// The whole file.
pub(super) fn document(app: &Application<'_>) -> Map {
    let numbers = app.numbers;
    let (uid, gid) = app.image.user;
    let user = gid.map_or(uid.to_string(), |gid| format!("{uid}:{gid}"));
    let cpus = |value: u32, origin: String| Node::from(format!("{}", f64::from(value) / 1e3)).comment(origin);
    let limits = Map::new()
        .set_some(
            "cpus",
            numbers.cpu_limit.as_ref().map(|limit| cpus(limit.value.0, limit.origin.to_string())),
        )
        .set("memory", memory(&numbers.memory_limit))
        .set_some("pids", app.limits.pids.and_then(|pids| u32::try_from(pids).ok()).map(pids));
    let request = &numbers.cpu_request;
    let reservations = Map::new()
        .set("cpus", cpus(request.value.0, request.origin.to_string()))
        .set("memory", memory(&numbers.memory_request));
    let name = |at: usize| format!("{}-data-{at}", app.name);
    let mounts: Vec<String> =
        app.image.volumes.iter().enumerate().map(|(at, path)| format!("{}:{path}", name(at))).collect();
    let volumes = (0..app.image.volumes.len()).fold(Map::new(), |map, at| map.set(name(at), Map::new()));
    let has_volumes = !app.image.volumes.is_empty();
    let port = app.image.port;
    let read_only =
        if app.read_only { "the profile ran it so" } else { "the profile ran it with a writable root" };
    let service = Map::new()
        .set("image", app.image.reference.as_str())
        .set("user", Node::from(user).comment("the image's user"))
        .set("read_only", Node::from(app.read_only).comment(read_only))
        .set("tmpfs", vec!["/tmp"])
        .set("cap_drop", vec!["ALL"])
        .set("security_opt", vec!["no-new-privileges:true"])
        .set("restart", "unless-stopped")
        .set("stop_grace_period", seconds(&numbers.drain))
        .set("ports", vec![format!("{port}:{port}")])
        .set_some("volumes", has_volumes.then_some(mounts))
        .set(
            "deploy",
            Map::new().set("resources", Map::new().set("limits", limits).set("reservations", reservations)),
        );
    Map::new()
        .set("services", Map::new().set(app.name.as_str(), service))
        .set_some("volumes", has_volumes.then_some(volumes))
}

/// Units of compose are powers of 1024 (compose-spec, "Specifying byte values").
fn memory(size: &Sourced<Mebibytes>) -> Node {
    Node::from(format!("{}m", size.value.0)).comment(size.origin.to_string())
}

fn seconds(time: &Sourced<u32>) -> Node {
    Node::from(format!("{}s", time.value)).comment(time.origin.to_string())
}

fn pids(number: u32) -> Node {
    Node::from(number).comment("the limit of the profile")
}
