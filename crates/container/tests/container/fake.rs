//! A fake `docker` client that runs nothing and prints what the test chooses.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};
use tare_container::life::Container;
use tare_container::spec::{ContainerSpec, Network};
use tare_container::target::Target;
use tare_container::{Options, Runtime, RuntimeKind};

use crate::fixture::World;

/// A `docker` that writes down how containers are created, and runs nothing.
const CLIENT: &str = r#"#!/bin/sh
folder=$(dirname "$0")
case $1 in
    info) cat "$folder/info" ;;
    inspect) cat "$folder/inspect" ;;
    create) printf '%s\n' "$@" > "$folder/create" ;;
esac
"#;

/// A fake daemon: every answer is invented by the test.
pub(crate) struct Fake {
    world: World,
    pub(crate) runtime: Runtime,
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
    pub(crate) fn elsewhere() -> Self {
        Self::new(&json!({"KernelVersion": "6.10.14-linuxkit", "Name": "docker-desktop"}))
    }

    pub(crate) fn here() -> Self {
        let read = |name: &str| fs::read_to_string(format!("/proc/sys/kernel/{name}")).unwrap();
        let (kernel, name) = (read("osrelease"), read("hostname"));
        Self::new(&json!({"KernelVersion": kernel.trim(), "Name": name.trim()}))
    }

    /// What `docker inspect` shows from now on.
    pub(crate) fn shows(&self, pid: i32, cpuset: &str, ports: &Value) {
        let running = json!({
            "Id": "x", "State": {"Running": pid > 0, "Pid": pid, "ExitCode": 3},
            "HostConfig": {"CpusetCpus": cpuset}, "NetworkSettings": {"Ports": ports},
        });
        fs::write(self.world.folder.path().join("inspect"), json!([running]).to_string()).unwrap();
    }

    /// An image that exposes nothing.
    pub(crate) fn image(&self) -> Target {
        self.world.image_with(&json!({"Entrypoint": ["/program"]}))
    }

    pub(crate) fn started(&self, network: Network, ports: &[u16]) -> Container {
        let spec = ContainerSpec { network, ports: ports.to_vec(), ..ContainerSpec::default() };
        let container = self.runtime.create(&self.image(), &spec).unwrap();
        container.start().unwrap();
        container
    }

    /// The values of an option of the last `docker create`.
    pub(crate) fn created_with(&self, option: &str) -> Vec<String> {
        let arguments = fs::read_to_string(self.world.folder.path().join("create")).unwrap();
        let arguments: Vec<&str> = arguments.lines().collect();
        let pairs = arguments.windows(2).filter(|pair| pair[0] == option);
        pairs.map(|pair| pair[1].to_owned()).collect()
    }
}
