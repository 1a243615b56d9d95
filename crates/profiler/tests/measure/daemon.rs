//! A daemon whose containers are reached elsewhere than where a server of this host answers.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use serde_json::json;
use tare_profiler::profile::cpus::{self, HostCpus};
use tare_profiler::profile::definition::{self, CpuLimit};
use tare_profiler::profile::measure::{self, Setting, Stage};
use tare_profiler::profile::subject::PassError;

use crate::fake::Fake;
use crate::fixture::{as_root, possible};

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
         startup = {{ runs = 1, cold-runs = 0, runtime-baseline = false }}\n",
        host.port()
    );
    let host_cpus = HostCpus::read();
    let cpuset = cpus::place(&host_cpus, None, None).server;
    let cpuset: Vec<String> = cpuset.iter().map(ToString::to_string).collect();
    let cpuset = cpuset.join(",");
    let profile =
        definition::parse("test", Path::new("test.toml"), &text, CpuLimit::cpus(0.5).unwrap()).unwrap();
    let run = |fake: &Fake| {
        let target = fake.image();
        let program = Path::new("/no/generator");
        let setting =
            Setting { target: &target, unstripped: None, profile: &profile, program, host: &host_cpus };
        let stage = Stage { runtime: &fake.runtime, runtime_baseline: None, neighbour: None, roots: &[] };
        measure::run(&setting, &stage, &profile.limits[0], |_| {})
    };
    let fake = Fake::elsewhere();
    fake.shows(4242, &cpuset, &json!({}));
    let error = run(&fake).unwrap_err();
    let PassError::Runtime(error) = error else { panic!("{error}") };
    let unreachable = format!("port {} of the container of docker cannot be reached: ", host.port());
    assert!(error.to_string().starts_with(&unreachable), "{error}");
    // The port of the profile is published, at one of this host where nobody listens yet.
    let published = fake.created_with("--publish");
    let [published] = published.as_slice() else { panic!("{published:?}") };
    let (of_host, of_container) = published.strip_prefix("127.0.0.1:").unwrap().split_once(':').unwrap();
    assert_eq!(of_container, host.port().to_string());
    assert_ne!(of_host.parse::<u16>().unwrap(), host.port());
    // It has ended at once: there is no network to enter any more, which is not the host's.
    if as_root() {
        let fake = Fake::here();
        fake.shows(0, &cpuset, &json!({}));
        let run = run(&fake).unwrap();
        let said: Vec<&str> = run.events.iter().map(|event| event.message.as_str()).collect();
        assert_eq!(said, ["the server ended: it ended with exit code 3"]);
        assert_eq!(fake.created_with("--network"), ["none"]);
    }
}
