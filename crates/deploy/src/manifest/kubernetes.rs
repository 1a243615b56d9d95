//! Kubernetes 1.30 or newer: `preStop.sleep` is not in older ones.

use super::Application;
use super::pod;
use crate::recommend::Scaling;
use crate::yaml::{Map, Node};

/// All objects of an application. `mesh` is whether Istio's proxy runs beside the container.
pub(super) fn documents(app: &Application<'_>, mesh: bool) -> Vec<Map> {
    let mut documents = vec![service(app, "", false)];
    if app.image.volumes.is_empty() {
        documents.push(deployment(app, mesh));
    } else {
        documents.push(service(app, "-pods", true));
        documents.push(stateful_set(app, mesh));
    }
    if let Scaling::Auto { .. } = app.numbers.scaling {
        documents.push(autoscaler(app));
    }
    // With one pod it would block every drain of a node.
    if app.numbers.scaling.least() > 1 {
        documents.push(disruption_budget(app));
    }
    documents.push(network_policy(app));
    documents
}

fn object(version: &str, kind: &str, app: &Application<'_>, suffix: &str, spec: Map) -> Map {
    Map::new()
        .set("apiVersion", version)
        .set("kind", kind)
        .set("metadata", pod::metadata(app, suffix))
        .set("spec", spec)
}

fn service(app: &Application<'_>, suffix: &str, headless: bool) -> Map {
    let port = Map::new().set("name", "http").set("port", 80_u32).set("targetPort", "http");
    let spec = Map::new()
        .set_some("clusterIP", headless.then_some("None"))
        .set("selector", pod::labels(app))
        .set("ports", vec![port]);
    object("v1", "Service", app, suffix, spec)
}

fn deployment(app: &Application<'_>, mesh: bool) -> Map {
    let update = Map::new()
        .set("maxUnavailable", Node::from(0_u32).comment("a new pod is ready before an old one goes"))
        .set("maxSurge", 1_u32);
    let spec = Map::new()
        // The autoscaler's otherwise: a number here would undo its own at every apply.
        .set_some("replicas", fixed(app))
        .set("selector", selector(app))
        .set("strategy", Map::new().set("type", "RollingUpdate").set("rollingUpdate", update))
        .set("template", template(app, mesh));
    object("apps/v1", "Deployment", app, "", spec)
}

fn stateful_set(app: &Application<'_>, mesh: bool) -> Map {
    let claim = |at| {
        let requests = Map::new().set("storage", &app.storage);
        let spec = Map::new()
            .set("accessModes", vec!["ReadWriteOnce"])
            .set("resources", Map::new().set("requests", requests));
        Map::new().set("metadata", Map::new().set("name", pod::volume_name(at))).set("spec", spec)
    };
    let claims: Vec<Map> = (0..app.image.volumes.len()).map(claim).collect();
    let spec = Map::new()
        .set_some("replicas", fixed(app))
        .set("serviceName", format!("{}-pods", app.name))
        .set("selector", selector(app))
        .set("template", template(app, mesh))
        .set("volumeClaimTemplates", claims);
    object("apps/v1", "StatefulSet", app, "", spec)
}

fn fixed(app: &Application<'_>) -> Option<Node> {
    match &app.numbers.scaling {
        Scaling::Fixed(replicas) => Some(replicas.into()),
        Scaling::Auto { .. } => None,
    }
}

fn selector(app: &Application<'_>) -> Map {
    Map::new().set("matchLabels", pod::labels(app))
}

fn template(app: &Application<'_>, mesh: bool) -> Map {
    let hold = Map::new().set("proxy.istio.io/config", r#"{"holdApplicationUntilProxyStarts": true}"#);
    let hold = Node::from(hold).comment("the server starts before the proxy could");
    let metadata = Map::new().set("labels", pod::labels(app)).set_some("annotations", mesh.then_some(hold));
    Map::new().set("metadata", metadata).set("spec", pod::spec(app))
}

fn autoscaler(app: &Application<'_>) -> Map {
    let Scaling::Auto { min, max, target } = &app.numbers.scaling else { return Map::new() };
    let target = Map::new().set("type", "AverageValue").set("averageValue", target);
    let cpu = Map::new().set("name", "cpu").set("target", target);
    let metric = Map::new().set("type", "Resource").set("resource", cpu);
    let metrics = Node::from(vec![metric]).comment("memory is none: it does not fall when load does");
    let of = Map::new().set("apiVersion", "apps/v1").set("kind", "Deployment").set("name", app.name.as_str());
    let spec = Map::new()
        .set("scaleTargetRef", of)
        .set("minReplicas", min)
        .set("maxReplicas", max)
        .set("metrics", metrics);
    object("autoscaling/v2", "HorizontalPodAutoscaler", app, "", spec)
}

fn disruption_budget(app: &Application<'_>) -> Map {
    let broken = Node::from("AlwaysAllow").comment("a pod that is not ready does not block a drain");
    let spec = Map::new()
        .set("maxUnavailable", 1_u32)
        .set("unhealthyPodEvictionPolicy", broken)
        .set("selector", selector(app));
    object("policy/v1", "PodDisruptionBudget", app, "", spec)
}

fn network_policy(app: &Application<'_>) -> Map {
    let port = Map::new().set("protocol", "TCP").set("port", "http");
    let types = Node::from(vec!["Ingress"]).comment("what the server connects to was not measured");
    let spec = Map::new()
        .set("podSelector", selector(app))
        .set("policyTypes", types)
        .set("ingress", vec![Map::new().set("ports", vec![port])]);
    object("networking.k8s.io/v1", "NetworkPolicy", app, "", spec)
}
