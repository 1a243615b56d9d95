//! The description of a container to be created: its limits, and what it overrides of the image.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use tare_oci::spec::Configuration;

use super::confinement::Tightening;
use super::limits::{CpuSet, Limits};
use super::network::Bridge;

/// How a container is to be run.
#[derive(Debug, Clone, Default)]
pub struct ContainerSpec {
    /// Instead of the image's entrypoint and command.
    pub args: Option<Vec<String>>,
    /// Variables that are added to the image's environment, or replace those of the same name.
    pub env: Vec<(String, String)>,
    /// The limits of the container.
    pub limits: Limits,
    /// CPUs that its threads are kept to by affinity, where groups have no cpuset.
    pub affinity: Option<CpuSet>,
    /// How it is confined, beside what docker and the image say.
    pub tightening: Tightening,
    /// How it is reached.
    pub network: Network,
    /// TCP ports that its server is asked on. A daemon publishes them where its containers' networks cannot be
    /// entered; nothing else of a container is published, whatever its image exposes.
    pub ports: Vec<u16>,
    /// Folders of this host that it sees, and cannot write to.
    pub mounts: Vec<Mount>,
}

/// A folder of this host, read-only in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The folder.
    pub source: PathBuf,
    /// Where the container sees it, an absolute path.
    pub target: String,
}

/// How a container is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Network {
    /// A network namespace of its own with loopback alone, which the load generator joins.
    #[default]
    Loopback,
    /// The same with a pair of virtual interfaces to the host.
    Veth,
    /// The same on a bridge that several containers share.
    Bridge(Arc<Bridge>),
    /// The host's.
    Host,
}

/// As docker and podman have it when an image sets none.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl ContainerSpec {
    /// The command line: entrypoint and command of the image, or their replacement.
    #[must_use]
    pub fn command(&self, config: &Configuration) -> Vec<String> {
        match &self.args {
            Some(args) => args.clone(),
            None => {
                let command = config.execution.cmd().iter().flatten();
                Self::entrypoint(config).iter().chain(command).cloned().collect()
            }
        }
    }

    /// The environment as `NAME=VALUE`. A name alone removes the variable, as under docker.
    #[must_use]
    pub fn environment(&self, config: &Configuration, host_name: &str, home: &str) -> Vec<String> {
        let mut variables: BTreeMap<&str, &str> =
            [("PATH", PATH), ("HOSTNAME", host_name), ("HOME", home)].into();
        for entry in config.execution.env().iter().flatten() {
            match entry.split_once('=') {
                Some((name, value)) => variables.insert(name, value),
                None => variables.remove(entry.as_str()),
            };
        }
        // docker sets it last, so that it is there in any case.
        variables.entry("HOME").or_insert(home);
        variables.extend(self.env.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        variables.iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    /// The image's entrypoint. One empty word is none to docker.
    #[must_use]
    pub fn entrypoint(config: &Configuration) -> &[String] {
        match config.execution.entrypoint().as_deref() {
            Some([word]) if word.is_empty() => &[],
            words => words.unwrap_or_default(),
        }
    }

    /// The folder that the program starts in, by its name from the root and without `.` and `..`, as docker has it.
    #[cfg(any(target_os = "linux", test))]
    pub(crate) fn work_dir(config: &Configuration) -> String {
        let mut parts: Vec<&str> = Vec::new();
        for part in config.execution.working_dir().as_deref().unwrap_or_default().split('/') {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()),
                part => parts.push(part),
            }
        }
        format!("/{}", parts.join("/"))
    }

    /// Why no runtime can start a program with this command line and environment, if so: execve(2) ends each string at
    /// its first NUL byte, and runtimes refuse variables without names.
    pub(crate) fn flaw(&self, config: &Configuration) -> Option<String> {
        let of_image =
            config.execution.env().iter().flatten().map(|entry| ("the image's Env entry", entry.clone()));
        let own = self.env.iter().map(|(name, value)| ("the variable", format!("{name}={value}")));
        for (what, entry) in of_image.chain(own) {
            if entry.starts_with('=') {
                return Some(format!("{what} `{entry}` has no name"));
            }
            if entry.contains('\0') {
                return Some(format!("{what} {entry:?} contains a NUL byte"));
            }
        }
        let work_dir = config.execution.working_dir().as_deref().unwrap_or_default();
        if !work_dir.is_empty() && !work_dir.starts_with('/') {
            return Some(format!("the image's working directory `{work_dir}` does not begin with /"));
        }
        let command = self.command(config);
        if command.first().is_some_and(String::is_empty) {
            return Some("the name of its program is empty".to_owned());
        }
        let argument = command.into_iter().find(|argument| argument.contains('\0'))?;
        Some(format!("the argument {argument:?} of the command contains a NUL byte"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_and_environment_are_the_images_unless_overridden() {
        let config = Configuration::new(serde_json::json!({
            "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []},
            "config": {"Entrypoint": ["/app"], "Cmd": ["--port", "80"], "Env": ["A=1", "PATH=/bin"]},
        }))
        .unwrap();
        let spec = ContainerSpec::default();
        assert_eq!(spec.command(&config), ["/app", "--port", "80"]);
        assert_eq!(spec.environment(&config, "x", "/h"), ["A=1", "HOME=/h", "HOSTNAME=x", "PATH=/bin"]);
        let spec = ContainerSpec {
            args: Some(vec!["/other".to_owned()]),
            env: vec![("A".to_owned(), "2".to_owned())],
            ..spec
        };
        assert_eq!(spec.command(&config), ["/other"]);
        assert_eq!(spec.environment(&config, "x", "/h")[0], "A=2");
    }

    fn config(env: &[&str], command: &[&str]) -> Configuration {
        Configuration::new(serde_json::json!({
            "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []},
            "config": {"Entrypoint": command, "Env": env},
        }))
        .unwrap()
    }

    /// Each as docker 20.10 starts it.
    #[test]
    fn odd_entries_of_an_environment_mean_what_they_mean_to_docker() {
        let environment =
            |env: &[&str]| ContainerSpec::default().environment(&config(env, &["/app"]), "x", "/").join(" ");
        let path = format!("PATH={PATH}");
        for (env, expected) in [
            (&["FOO", ""][..], format!("HOME=/ HOSTNAME=x {path}")),
            (&["A=1", "A=2", "B"], format!("A=2 HOME=/ HOSTNAME=x {path}")),
            (&["A=1", "A"], format!("HOME=/ HOSTNAME=x {path}")),
            (&["A B=3", "1=2=3", "PATH="], "1=2=3 A B=3 HOME=/ HOSTNAME=x PATH=".to_owned()),
            (&["HOME"], format!("HOME=/ HOSTNAME=x {path}")),
            (&["PATH"], "HOME=/ HOSTNAME=x".to_owned()),
        ] {
            assert_eq!(environment(env), expected, "{env:?}");
        }
    }

    #[test]
    fn a_working_directory_is_absolute_and_plain() {
        let with = |dir: &str| {
            Configuration::new(serde_json::json!({
                "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []},
                "config": {"Entrypoint": ["/app"], "WorkingDir": dir},
            }))
            .unwrap()
        };
        for (dir, expected) in [("", "/"), ("/", "/"), ("/a/../b", "/b"), ("/../a//b/.", "/a/b")] {
            assert_eq!(ContainerSpec::work_dir(&with(dir)), expected, "{dir}");
            assert_eq!(ContainerSpec::default().flaw(&with(dir)), None, "{dir}");
        }
        let flaw = ContainerSpec::default().flaw(&with("app"));
        assert_eq!(flaw.as_deref(), Some("the image's working directory `app` does not begin with /"));
        assert_eq!(ContainerSpec::default().command(&config(&[], &[""])), Vec::<String>::new());
    }

    #[test]
    fn what_no_runtime_can_pass_to_a_program_is_named() {
        let flaw = |env: &[&str], command: &[&str]| ContainerSpec::default().flaw(&config(env, command));
        assert_eq!(flaw(&["A=", "FOO", ""], &["/app", ""]), None);
        assert_eq!(
            flaw(&["A=1", "=x"], &["/app"]).as_deref(),
            Some("the image's Env entry `=x` has no name")
        );
        assert_eq!(
            flaw(&["A=\0b"], &["/app"]).as_deref(),
            Some(r#"the image's Env entry "A=\0b" contains a NUL byte"#)
        );
        assert_eq!(
            flaw(&[], &["/app", "\0"]).as_deref(),
            Some(r#"the argument "\0" of the command contains a NUL byte"#)
        );
        assert_eq!(flaw(&[], &["", "x"]).as_deref(), Some("the name of its program is empty"));
        let spec = ContainerSpec { env: vec![(String::new(), "y".to_owned())], ..ContainerSpec::default() };
        assert_eq!(spec.flaw(&config(&[], &["/app"])).as_deref(), Some("the variable `=y` has no name"));
    }
}
