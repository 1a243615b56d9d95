//! What the pods of all kinds have in common: container, probes, security.

use super::Application;
use crate::origin::Sourced;
use crate::yaml::{Map, Node};

/// `labels` of everything, and of the selectors.
pub(super) fn labels(app: &Application<'_>) -> Map {
    Map::new().set("app.kubernetes.io/name", app.name.as_str())
}

/// `metadata` of an object; `suffix` follows the application's name.
pub(super) fn metadata(app: &Application<'_>, suffix: &str) -> Map {
    Map::new().set("name", format!("{}{suffix}", app.name)).set("labels", labels(app))
}

/// `spec` of the pods.
pub(super) fn spec(app: &Application<'_>) -> Map {
    let numbers = app.numbers;
    let security = Map::new()
        .set_some("fsGroup", owns_volumes(app).map(|gid| Node::from(gid).comment("may write the volumes")))
        .set_some("sysctls", low_port(app));
    let mounts = app.image.volumes.iter().enumerate().map(|(at, path)| mount(&volume_name(at), path));
    let lifecycle =
        Map::new().set("preStop", Map::new().set("sleep", Map::new().set("seconds", &numbers.pre_stop)));
    let container =
        container(app, Map::new().set("name", "http").set("containerPort", app.image.port), mounts)
            .set("lifecycle", Node::from(lifecycle).comment("by the kubelet: needs no shell"));
    let selector = |architecture: &String| {
        let labels = Map::new().set("kubernetes.io/arch", architecture.as_str());
        Node::from(labels).comment("the image has this platform only")
    };
    Map::new()
        .set("automountServiceAccountToken", false)
        .set("enableServiceLinks", false)
        .set_some("nodeSelector", app.image.architecture.as_ref().map(selector))
        .set_some("topologySpreadConstraints", spread(app))
        .set("terminationGracePeriodSeconds", &numbers.grace)
        .set_some("securityContext", (!security.is_empty()).then_some(security))
        .set("containers", vec![container])
        .set("volumes", vec![temporary()])
}

/// The container without what only some kinds allow.
pub(super) fn container(app: &Application<'_>, port: Map, volumes: impl Iterator<Item = Map>) -> Map {
    let numbers = app.numbers;
    let requests = Map::new().set("cpu", &numbers.cpu_request).set("memory", &numbers.memory_request);
    let limits = Map::new().set_some("cpu", numbers.cpu_limit.as_ref()).set("memory", &numbers.memory_limit);
    let mut mounts = vec![mount("tmp", "/tmp")];
    mounts.extend(volumes);
    let startup = Map::new()
        .set("httpGet", get(&app.readiness, app.image.port))
        .set("periodSeconds", Node::from(1_u32).comment("a probe that misses costs a whole period"))
        .set("failureThreshold", &numbers.startup_failures);
    let readiness =
        Map::new().set("httpGet", get(&app.readiness, app.image.port)).set("periodSeconds", article(5));
    Map::new()
        .set("name", app.name.as_str())
        .set("image", app.image.reference.as_str())
        .set("ports", vec![port])
        .set("resources", Map::new().set("requests", requests).set("limits", limits))
        .set("startupProbe", startup)
        .set("readinessProbe", readiness)
        .set_some("livenessProbe", liveness(app))
        .set("securityContext", security(app))
        .set("volumeMounts", mounts)
}

/// The stated path, else the image's own health check, else none: a path that does not exist would have a healthy
/// container killed.
fn liveness(app: &Application<'_>) -> Option<Map> {
    let check = match (&app.liveness, &app.image.health_check) {
        (Some(path), _) => Map::new().set("httpGet", get(path, app.image.port)),
        (None, Some(command)) => {
            let command = Node::from(command.clone()).comment("the image's health check");
            Map::new().set("exec", Map::new().set("command", command))
        }
        (None, None) => return None,
    };
    Some(check.set("periodSeconds", article(10)).set("failureThreshold", Node::from(3_u32)))
}

fn get(path: &Sourced<String>, port: u16) -> Map {
    Map::new().set("path", path).set("port", port)
}

fn article(seconds: u32) -> Node {
    Node::from(seconds).comment("assumed: the article's")
}

/// `securityContext` of the container, as PodSecurity `restricted` wants it.
fn security(app: &Application<'_>) -> Map {
    let read_only = Node::from(app.read_only);
    let read_only = match app.read_only {
        true => read_only.comment("the profile ran it so"),
        false => read_only.comment("the profile ran it with a writable root"),
    };
    let (uid, gid) = app.image.user;
    Map::new()
        .set("runAsNonRoot", true)
        .set("runAsUser", Node::from(uid).comment("the image's user"))
        .set_some("runAsGroup", gid.map(|gid| Node::from(gid).comment("the image's group")))
        .set("allowPrivilegeEscalation", false)
        .set("readOnlyRootFilesystem", read_only)
        .set("capabilities", Map::new().set("drop", vec!["ALL"]))
        .set("seccompProfile", Map::new().set("type", "RuntimeDefault"))
}

/// An address below 1024 needs a capability, or this sysctl, which `restricted` allows.
fn low_port(app: &Application<'_>) -> Option<Vec<Map>> {
    let sysctl = Map::new().set("name", "net.ipv4.ip_unprivileged_port_start").set("value", "0");
    (app.image.port < 1024).then(|| vec![sysctl])
}

fn owns_volumes(app: &Application<'_>) -> Option<u32> {
    let (uid, gid) = app.image.user;
    (!app.image.volumes.is_empty()).then_some(gid.unwrap_or(uid))
}

/// Over hosts, where there are several pods.
fn spread(app: &Application<'_>) -> Option<Vec<Map>> {
    let constraint = Map::new()
        .set("maxSkew", 1_u32)
        .set("topologyKey", "kubernetes.io/hostname")
        .set("whenUnsatisfiable", "ScheduleAnyway")
        .set("labelSelector", Map::new().set("matchLabels", labels(app)));
    (app.numbers.scaling.least() > 1).then(|| vec![constraint])
}

/// `/tmp`, in memory as under the profile.
pub(super) fn temporary() -> Node {
    let volume = Map::new().set("name", "tmp").set("emptyDir", Map::new().set("medium", "Memory"));
    Node::from(volume).comment("counts as memory of the container, as it did in the profile")
}

pub(super) fn volume_name(at: usize) -> String {
    format!("data-{at}")
}

fn mount(name: &str, path: &str) -> Map {
    Map::new().set("name", name).set("mountPath", path)
}
