//! Istio: time limits, retries and connection pools in front of the Service.

use super::{Application, pod};
use crate::origin::Sourced;
use crate::recommend::Traffic;
use crate::yaml::{Map, Node};

/// A VirtualService and a DestinationRule; none without numbers for them.
pub(super) fn documents(app: &Application<'_>) -> Vec<Map> {
    let Some(traffic) = &app.numbers.traffic else { return vec![] };
    vec![virtual_service(app, traffic), destination_rule(app, traffic)]
}

fn object(kind: &str, app: &Application<'_>, spec: Map) -> Map {
    Map::new()
        .set("apiVersion", "networking.istio.io/v1")
        .set("kind", kind)
        .set("metadata", pod::metadata(app, ""))
        .set("spec", spec)
}

fn virtual_service(app: &Application<'_>, traffic: &Traffic) -> Map {
    let to = Map::new().set("destination", Map::new().set("host", app.name.as_str()));
    let retries = Map::new()
        .set("attempts", &traffic.retries)
        .set("perTryTimeout", milliseconds(&traffic.attempt_timeout))
        .set("retryOn", "connect-failure,refused-stream,reset,gateway-error");
    let method = |name: &str| Map::new().set("method", Map::new().set("exact", name));
    let safe = Map::new()
        .set("name", "safe")
        .set("match", vec![method("GET"), method("HEAD")])
        .set("route", vec![to.clone()])
        .set("timeout", milliseconds(&traffic.timeout))
        .set("retries", Node::from(retries).comment("reading twice changes nothing (RFC 9110, 9.2.1)"));
    let others = Map::new()
        .set("name", "others")
        .set("route", vec![to])
        .set("timeout", milliseconds(&traffic.attempt_timeout))
        .set("retries", Node::from(Map::new().set("attempts", 0_u32)).comment("Istio's default would be 2"));
    let spec = Map::new().set("hosts", vec![app.name.as_str()]).set("http", vec![safe, others]);
    object("VirtualService", app, spec)
}

fn destination_rule(app: &Application<'_>, traffic: &Traffic) -> Map {
    let http =
        Map::new().set("http1MaxPendingRequests", &traffic.pool).set("http2MaxRequests", &traffic.pool);
    let pool = Map::new().set("tcp", Map::new().set("maxConnections", &traffic.pool)).set("http", http);
    let balance = Node::from("LEAST_REQUEST").comment("assumed: the article's");
    let ejection =
        Map::new().set("consecutive5xxErrors", 5_u32).set("interval", "10s").set("baseEjectionTime", "30s");
    let policy = Map::new()
        .set("loadBalancer", Map::new().set("simple", balance))
        .set("connectionPool", pool)
        .set("outlierDetection", Node::from(ejection).comment("assumed: Istio's defaults"));
    let spec = Map::new().set("host", app.name.as_str()).set("trafficPolicy", policy);
    object("DestinationRule", app, spec)
}

fn milliseconds(time: &Sourced<u32>) -> Node {
    Node::from(format!("{}ms", time.value)).comment(time.origin.to_string())
}
