//! Knative: what its Serving API takes without feature flags, so no `lifecycle`, no spread and no node selector.

use super::{Application, pod};
use crate::error::DeployError;
use crate::origin::{Origin, Sourced};
use crate::recommend::{Concurrency, Scaling};
use crate::yaml::{Map, Node};

/// A Service of Knative.
///
/// # Errors
/// When the image has volumes.
pub(super) fn document(app: &Application<'_>) -> Result<Map, DeployError> {
    if !app.image.volumes.is_empty() {
        return Err(DeployError::new(
            "the image has volumes, and pods of Knative keep no data",
            "use --for kubernetes, which writes a StatefulSet",
        ));
    }
    let Some(Concurrency { target, limit }) = &app.numbers.concurrency else {
        return Err(DeployError::new("there are no numbers for Knative", "recommend for this kind"));
    };
    let container = pod::container(
        app,
        Map::new().set("name", "http1").set("containerPort", app.image.port),
        std::iter::empty(),
    );
    let spec = Map::new()
        .set("containerConcurrency", limit)
        .set("automountServiceAccountToken", false)
        .set("enableServiceLinks", false)
        .set("containers", vec![container])
        .set("volumes", vec![pod::temporary()]);
    let annotations = scale(app)
        .set("autoscaling.knative.dev/metric", "concurrency")
        .set("autoscaling.knative.dev/target", text(target))
        .set(
            "autoscaling.knative.dev/target-utilization-percentage",
            Node::from("100").comment("the target has its headroom already"),
        );
    let metadata = Map::new().set("labels", pod::labels(app)).set("annotations", annotations);
    let template = Map::new().set("metadata", metadata).set("spec", spec);
    Ok(Map::new()
        .set("apiVersion", "serving.knative.dev/v1")
        .set("kind", "Service")
        .set("metadata", pod::metadata(app, ""))
        .set("spec", Map::new().set("template", template)))
}

/// How many pods. Without a stated number or rate there is no least, and Knative stops all of them while nobody asks.
fn scale(app: &Application<'_>) -> Map {
    let (min, max) = match &app.numbers.scaling {
        Scaling::Fixed(replicas) => (replicas, replicas),
        Scaling::Auto { min, max, .. } => (min, max),
    };
    let is_wanted = !matches!(min.origin, Origin::Assumed(_));
    Map::new()
        .set_some("autoscaling.knative.dev/min-scale", is_wanted.then(|| text(min)))
        .set("autoscaling.knative.dev/max-scale", text(max))
}

/// Annotations are strings.
fn text(number: &Sourced<u32>) -> Node {
    Node::from(number.value.to_string()).comment(number.origin.to_string())
}
