//! How a container is confined: as docker confines it, and tighter where the profile or the image says so.

use std::collections::BTreeMap;

use tare_oci::spec::Configuration;

use super::capability::{Capabilities, of_docker};
use super::error::ContainerError;

/// What a profile says about the confinement of its containers. What is left out is as the image's labels say, or
/// else as in docker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tightening {
    /// Whether the root is read-only.
    pub read_only: Option<bool>,
    /// The capabilities in place of docker's.
    pub capabilities: Option<Capabilities>,
    /// Whether programs gain no rights by set-user-id bits and file capabilities.
    pub no_new_privileges: Option<bool>,
    /// In place of the image's user: `UID[:GID]` or names that the image knows.
    pub user: Option<String>,
    /// Kernel parameters of the container's own namespaces, beside docker's.
    pub sysctls: BTreeMap<String, String>,
    /// Folders that are memory.
    pub tmpfs: Vec<String>,
    /// Folders that stay writable in a read-only root, beside the image's volumes.
    pub volumes: Vec<String>,
}

/// How one container of an image is confined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confinement {
    /// Whether the root is read-only.
    pub read_only: bool,
    /// The most that a process of it can have.
    pub capabilities: Capabilities,
    /// Whether programs gain no rights by set-user-id bits and file capabilities.
    pub no_new_privileges: bool,
    /// `UID[:GID]`, or names that the image knows; empty for root.
    pub user: String,
    /// Kernel parameters beside docker's.
    pub sysctls: BTreeMap<String, String>,
    /// Folders that are memory.
    pub tmpfs: Vec<String>,
    /// Folders that are writable whatever the root is, with the image's files in them.
    pub volumes: Vec<String>,
    /// What is tighter or otherwise than in docker, and who says so.
    pub differences: Vec<String>,
}

/// The label of an image whose program needs no writable root: `true`.
pub const READ_ONLY: &str = "tare.read-only";
/// The label of an image whose program needs no more than these capabilities: names between commas, or nothing.
pub const CAPABILITIES: &str = "tare.capabilities";
/// The label of an image whose programs need no set-user-id bits and file capabilities: `true`.
pub const NO_NEW_PRIVILEGES: &str = "tare.no-new-privileges";

/// What a read-only root has in memory unless the profile says otherwise.
const TEMPORARY: &str = "/tmp";

impl Confinement {
    /// What a profile and the labels of an image make together. Labels only tighten, because anybody can write them.
    ///
    /// # Errors
    /// When a label names no capability, or a path is none.
    pub fn of(config: &Configuration, profile: &Tightening) -> Result<Self, ContainerError> {
        let mut differences = Vec::new();
        let label = |name: &str| config.execution.labels().as_ref().and_then(|labels| labels.get(name));
        let flag =
            |profile: Option<bool>, key: &str, name: &str, what: &str, differences: &mut Vec<String>| {
                let value = profile.unwrap_or_else(|| label(name).is_some_and(|value| value == "true"));
                let source = if profile.is_some() {
                    format!("`{key}` of the profile")
                } else {
                    format!("the image's label {name}")
                };
                if value {
                    differences.push(format!("{what} ({source})"));
                }
                value
            };
        let read_only =
            flag(profile.read_only, "read-only", READ_ONLY, "the root is read-only", &mut differences);
        let no_new_privileges = flag(
            profile.no_new_privileges,
            "no-new-privileges",
            NO_NEW_PRIVILEGES,
            "no program gains privileges",
            &mut differences,
        );
        let docker = of_docker();
        let capabilities = match (&profile.capabilities, label(CAPABILITIES)) {
            (Some(capabilities), _) => {
                differences
                    .push(format!("capabilities {} (`capabilities` of the profile)", listed(capabilities)));
                capabilities.clone()
            }
            (None, Some(text)) => {
                let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
                let named = names.map(str::parse).collect::<Result<Capabilities, _>>().map_err(|error| {
                    ContainerError::new(format_args!("the image's label {CAPABILITIES}: {error}"))
                        .with_hint("say in the profile which it gets: `capabilities` under [container]")
                })?;
                let kept: Capabilities = named.intersection(&docker).copied().collect();
                differences
                    .push(format!("capabilities {} (the image's label {CAPABILITIES})", listed(&kept)));
                kept
            }
            (None, None) => docker,
        };
        let user = match &profile.user {
            Some(user) => {
                differences.push(format!("user {user} (`user` of the profile)"));
                user.clone()
            }
            None => config.execution.user().clone().unwrap_or_default(),
        };
        let mut volumes = folders(config.execution.volumes().iter().flatten().chain(&profile.volumes));
        let mut tmpfs = folders(profile.tmpfs.iter());
        if !profile.volumes.is_empty() {
            differences
                .push(format!("writable folders {} (`volumes` of the profile)", profile.volumes.join(", ")));
        }
        if !tmpfs.is_empty() {
            let list = tmpfs.join(", ");
            differences
                .push(format!("{list} in memory, which counts as the server's (`tmpfs` of the profile)"));
        } else if read_only && !volumes.iter().any(|volume| volume == TEMPORARY) {
            differences.push(format!("{TEMPORARY} in memory, which counts as the server's"));
            tmpfs.push(TEMPORARY.to_owned());
        }
        volumes.retain(|volume| !tmpfs.contains(volume));
        if !profile.sysctls.is_empty() {
            let names: Vec<&str> = profile.sysctls.keys().map(String::as_str).collect();
            differences.push(format!("{} (`sysctls` of the profile)", names.join(", ")));
        }
        let sysctls = profile.sysctls.clone();
        Ok(Self { read_only, capabilities, no_new_privileges, user, sysctls, tmpfs, volumes, differences })
    }
}

fn listed(capabilities: &Capabilities) -> String {
    match capabilities.is_empty() {
        true => "none".to_owned(),
        false => capabilities.iter().map(|it| it.name()).collect::<Vec<_>>().join(", "),
    }
}

/// Absolute paths in one spelling, each once, a folder before those in it; never the root itself.
fn folders<'a>(paths: impl Iterator<Item = &'a String>) -> Vec<String> {
    let clean = |path: &String| {
        let parts = path.split('/').filter(|part| !part.is_empty() && *part != "." && *part != "..");
        format!("/{}", parts.collect::<Vec<_>>().join("/"))
    };
    let mut paths: Vec<String> = paths.map(clean).filter(|path| path.len() > 1).collect();
    paths.sort_unstable();
    paths.dedup();
    paths
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config(execution: &serde_json::Value) -> Configuration {
        Configuration::new(json!({
            "architecture": "amd64", "os": "linux", "config": execution,
            "rootfs": {"type": "layers", "diff_ids": []},
        }))
        .unwrap()
    }

    fn set(names: &[&str]) -> Capabilities {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn an_image_that_says_nothing_is_confined_as_in_docker() {
        let config = config(&json!({"User": "web", "Volumes": {"/data/": {}, "/data/sub": {}, "/": {}}}));
        let expected = Confinement {
            read_only: false,
            capabilities: of_docker(),
            no_new_privileges: false,
            user: "web".to_owned(),
            sysctls: BTreeMap::new(),
            tmpfs: vec![],
            volumes: vec!["/data".to_owned(), "/data/sub".to_owned()],
            differences: vec![],
        };
        assert_eq!(Confinement::of(&config, &Tightening::default()).unwrap(), expected);
    }

    #[test]
    fn labels_tighten_and_never_loosen() {
        let labels = json!({
            READ_ONLY: "true", NO_NEW_PRIVILEGES: "true", CAPABILITIES: "net_bind_service, SYS_ADMIN",
        });
        let config = config(&json!({"Labels": labels}));
        let found = Confinement::of(&config, &Tightening::default()).unwrap();
        assert_eq!((found.read_only, found.no_new_privileges), (true, true));
        assert_eq!(found.capabilities, set(&["NET_BIND_SERVICE"]));
        assert_eq!(found.tmpfs, ["/tmp"]);
        assert_eq!(
            found.differences,
            [
                "the root is read-only (the image's label tare.read-only)",
                "no program gains privileges (the image's label tare.no-new-privileges)",
                "capabilities NET_BIND_SERVICE (the image's label tare.capabilities)",
                "/tmp in memory, which counts as the server's",
            ]
        );
        // The profile has the last word.
        let profile = Tightening {
            read_only: Some(false),
            no_new_privileges: Some(false),
            capabilities: Some(set(&["SYS_PTRACE"])),
            ..Tightening::default()
        };
        let found = Confinement::of(&config, &profile).unwrap();
        assert_eq!((found.read_only, found.no_new_privileges, found.tmpfs.len()), (false, false, 0));
        assert_eq!(found.differences, ["capabilities SYS_PTRACE (`capabilities` of the profile)"]);
    }

    #[test]
    fn a_label_without_a_capability_is_refused() {
        let error =
            Confinement::of(&config(&json!({"Labels": {CAPABILITIES: "fly"}})), &Tightening::default());
        assert_eq!(
            error.unwrap_err().to_string(),
            "the image's label tare.capabilities: `fly` is no capability: write it as in capabilities(7), for example \
             \"NET_BIND_SERVICE\""
        );
    }

    #[test]
    fn folders_of_the_profile_are_one_thing_each() {
        let config = config(&json!({"Volumes": {"/data": {}}}));
        let profile = Tightening {
            tmpfs: vec!["/data".to_owned(), "run/../run".to_owned()],
            volumes: vec!["/var//cache".to_owned()],
            read_only: Some(true),
            ..Tightening::default()
        };
        let found = Confinement::of(&config, &profile).unwrap();
        assert_eq!(found.tmpfs, ["/data", "/run/run"]);
        assert_eq!(found.volumes, ["/var/cache"]);
    }
}
