//! Where a daemon's containers are reached, by a client that says what a test has it say.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tare_container::life::{Container, Endpoint};
use tare_container::runtime::{Options, Runtime, RuntimeError, RuntimeKind};
use tare_container::spec::{ContainerSpec, Network};
use tare_container::target::Target;
use tare_profiler::profile::cpus;
use tare_profiler::profile::definition;
use tare_profiler::profile::measure::{self, Setting, Stage};
use tare_profiler::profile::subject::PassError;

use crate::fixture::{World, as_root, possible};

/// A `docker` that writes down how containers are created, and runs nothing.
const CLIENT: &str = r#"#!/bin/sh
folder=$(dirname "$0")
case $1 in
    info) cat "$folder/info" ;;
    inspect) cat "$folder/inspect" ;;
    create) printf '%s\n' "$@" > "$folder/create" ;;
esac
"#;

/// A daemon of which everything is made up.
struct Fake {
    world: World,
    runtime: Runtime,
}

impl Fake {
    fn new(info: &Value) -> Self {
        let world = World::new();
        let script = world.folder.path().join("script");
        fs::write(&script, CLIENT).unwrap();
        // By another process: a child that another test starts meanwhile would inherit the file open for
        // writing, and then it cannot be executed (ETXTBSY of execve(2)).
        let client = world.folder.path().join("docker");
        let installed = Command::new("install").args(["-m", "755"]).args([&script, &client]).status();
        assert!(installed.unwrap().success());
        fs::write(world.folder.path().join("info"), info.to_string()).unwrap();
        let path = format!("{}:{}", world.folder.path().display(), std::env::var("PATH").unwrap());
        let options = Options { path: Some(path.into()), ..world.options.clone() };
        let runtime = Runtime::open(RuntimeKind::Docker, &options).unwrap();
        Self { world, runtime }
    }

    /// On another host, or in a virtual machine.
    fn elsewhere() -> Self {
        Self::new(&json!({"KernelVersion": "6.10.14-linuxkit", "Name": "docker-desktop"}))
    }

    fn here() -> Self {
        let read = |name: &str| fs::read_to_string(format!("/proc/sys/kernel/{name}")).unwrap();
        let (kernel, name) = (read("osrelease"), read("hostname"));
        Self::new(&json!({"KernelVersion": kernel.trim(), "Name": name.trim()}))
    }

    /// What `docker inspect` shows from now on.
    fn shows(&self, pid: i32, ports: &Value) {
        let server = cpus::place(&cpus::allowed(), None, None).server;
        let cpuset: Vec<String> = server.iter().map(ToString::to_string).collect();
        let running = json!({
            "Id": "x", "State": {"Running": pid > 0, "Pid": pid, "ExitCode": 3},
            "HostConfig": {"CpusetCpus": cpuset.join(",")}, "NetworkSettings": {"Ports": ports},
        });
        fs::write(self.world.folder.path().join("inspect"), json!([running]).to_string()).unwrap();
    }

    /// An image that exposes nothing.
    fn image(&self) -> Target {
        self.world.image_with(&json!({"Entrypoint": ["/program"]}))
    }

    fn started(&self, network: Network, ports: &[u16]) -> Container {
        let spec = ContainerSpec { network, ports: ports.to_vec(), ..ContainerSpec::default() };
        let container = self.runtime.create(&self.image(), &spec).unwrap();
        container.start().unwrap();
        container
    }

    /// The values of an option of the last `docker create`.
    fn created_with(&self, option: &str) -> Vec<String> {
        let arguments = fs::read_to_string(self.world.folder.path().join("create")).unwrap();
        let arguments: Vec<&str> = arguments.lines().collect();
        let pairs = arguments.windows(2).filter(|pair| pair[0] == option);
        pairs.map(|pair| pair[1].to_owned()).collect()
    }
}

/// A server of this host that answers whatever it is asked, for as long as the tests run.
fn server_of_this_host() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhost");
        }
    });
    address
}

#[test]
fn a_server_of_this_host_is_never_measured_instead_of_the_containers() {
    if !possible() {
        return;
    }
    let host = server_of_this_host();
    let text = format!(
        "ready = {{ port = {}, timeout = \"1s\" }}\nlimits = {{}}\npasses = [\"startup\"]\n\
         startup = {{ runs = 1, cold-runs = 0, floor = false }}\n",
        host.port()
    );
    let profile = definition::parse("test", Path::new("test.toml"), &text).unwrap();
    let allowed = cpus::allowed();
    let run = |fake: &Fake| {
        let target = fake.image();
        let program = Path::new("/no/generator");
        let setting = Setting { target: &target, twin: None, profile: &profile, program, allowed: &allowed };
        let stage = Stage { runtime: &fake.runtime, floor: None, roots: &[] };
        measure::run(&setting, &stage, &profile.limits[0], |_| {})
    };
    let fake = Fake::elsewhere();
    fake.shows(4242, &json!({}));
    let error = run(&fake).unwrap_err();
    let PassError::Runtime(RuntimeError::Unreachable { port, .. }) = error else { panic!("{error}") };
    assert_eq!(port, host.port());
    // The port of the profile is published, at one of this host where nobody listens yet.
    let published = fake.created_with("--publish");
    let [published] = published.as_slice() else { panic!("{published:?}") };
    let (of_host, of_container) = published.strip_prefix("127.0.0.1:").unwrap().split_once(':').unwrap();
    assert_eq!(of_container, host.port().to_string());
    assert_ne!(of_host.parse::<u16>().unwrap(), host.port());
    // It has ended at once: there is no network to enter any more, which is not the host's.
    if as_root() {
        let fake = Fake::here();
        fake.shows(0, &json!({}));
        let run = run(&fake).unwrap();
        let said: Vec<&str> = run.events.iter().map(|event| event.message.as_str()).collect();
        assert_eq!(said, ["the server ended: it ended with exit code 3"]);
        assert_eq!(fake.created_with("--network"), ["none"]);
    }
}

#[test]
fn a_port_is_reached_where_it_is_published_and_nowhere_else() {
    if !possible() {
        return;
    }
    let fake = Fake::elsewhere();
    let at = |network: Network, ports: Value| {
        fake.shows(4242, &ports);
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
        fake.shows(0, &json!({}));
        let error = fake.started(Network::Loopback, &[8080]).endpoint(8080).unwrap_err().to_string();
        assert_eq!(unreachable("the container has no process"), Err::<Endpoint, _>(error));
        fake.shows(4242, &json!({}));
        let endpoint = fake.started(Network::Loopback, &[8080]).endpoint(8080).unwrap();
        let network_namespace = Some("/proc/4242/ns/net".into());
        assert_eq!(endpoint, Endpoint { address: ([127, 0, 0, 1], 8080).into(), network_namespace });
        // A network with interfaces is not entered, and its daemon chooses the port of this host.
        fake.started(Network::Veth, &[8080]);
        assert_eq!(fake.created_with("--publish"), ["127.0.0.1::8080"]);
    }
}
