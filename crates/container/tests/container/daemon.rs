//! Where a daemon's containers are reached.

use serde_json::{Value, json};
use tare_container::life::Endpoint;
use tare_container::spec::Network;

use crate::fake::Fake;
use crate::fixture::{as_root, possible};

#[test]
fn a_port_is_reached_where_it_is_published_and_nowhere_else() {
    if !possible() {
        return;
    }
    let fake = Fake::elsewhere();
    let at = |network: Network, ports: Value| {
        fake.shows(4242, "", &ports);
        fake.started(network, &[8080]).endpoint(8080).map_err(|error| error.to_string())
    };
    let unreachable =
        |why: &str| Err(format!("port 8080 of the container of docker cannot be reached: {why}"));
    let published = json!({"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": "40001"}]});
    let endpoint = Endpoint { address: ([127, 0, 0, 1], 40_001).into(), network_namespace: None };
    let not_published = "it is not published";
    for (network, ports, expected) in [
        (Network::Loopback, published.clone(), Ok(endpoint.clone())),
        (Network::Veth, published.clone(), Ok(endpoint)),
        (Network::Loopback, json!({}), unreachable(not_published)),
        (Network::Veth, json!({"8080/tcp": null}), unreachable(not_published)),
        (Network::Loopback, json!({"8080/tcp": [{"HostPort": ""}]}), unreachable(not_published)),
        (Network::Loopback, json!({"8080/tcp": [{"HostPort": "0"}]}), unreachable(not_published)),
        (Network::Loopback, json!({"9090/tcp": [{"HostPort": "40001"}]}), unreachable(not_published)),
        (Network::Host, published, unreachable("it shares the network of another host")),
    ] {
        assert_eq!(at(network.clone(), ports.clone()), expected, "{network:?} {ports}");
    }
    if as_root() {
        let fake = Fake::here();
        fake.shows(0, "", &json!({}));
        let error = fake.started(Network::Loopback, &[8080]).endpoint(8080).unwrap_err().to_string();
        assert_eq!(unreachable("the container has no process"), Err::<Endpoint, _>(error));
        fake.shows(4242, "", &json!({}));
        let endpoint = fake.started(Network::Loopback, &[8080]).endpoint(8080).unwrap();
        let network_namespace = Some("/proc/4242/ns/net".into());
        assert_eq!(endpoint, Endpoint { address: ([127, 0, 0, 1], 8080).into(), network_namespace });
        // A network with interfaces is not entered, and its daemon chooses the port of this host.
        fake.started(Network::Veth, &[8080]);
        assert_eq!(fake.created_with("--publish"), ["127.0.0.1::8080"]);
    }
}
