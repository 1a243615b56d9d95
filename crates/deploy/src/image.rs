//! The image that manifests name: always by its digest, and with what its configuration says about running it.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;
use tare_oci::digest::Digest;
use tare_oci::input;
use tare_oci::reader::{self, Source};
use tare_oci::reference::Reference;
use tare_oci::spec::Configuration;

use crate::error::DeployError;

/// An image as it lies on this machine.
#[derive(Debug, Clone)]
pub struct LocalImage {
    /// Of the index, or of the manifest where there is no index: what a reference holds.
    pub digest: Digest,
    /// Manifest and configuration of every platform.
    platforms: Vec<(Digest, Configuration)>,
}

/// What a manifest says about the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFacts {
    /// `repository@digest`
    pub reference: String,
    /// The only architecture that it has, in Go's spelling, where it has one.
    pub architecture: Option<String>,
    /// The port that the server listens on.
    pub port: u16,
    /// User and group.
    pub user: (u32, Option<u32>),
    /// Paths that hold data.
    pub volumes: Vec<String>,
    /// The command of its health check.
    pub health_check: Option<Vec<String>>,
}

impl LocalImage {
    /// Reads an OCI layout or archive.
    ///
    /// # Errors
    /// When it is none, or holds several images.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        #[derive(Deserialize)]
        struct Index {
            manifests: Vec<Named>,
        }
        #[derive(Deserialize)]
        struct Named {
            digest: Digest,
        }
        let source = Source::open(path)?;
        let images = reader::images(&source)?;
        let text = source.read("index.json")?;
        let index: Index = input::from_json(&text)?;
        let digests: BTreeSet<Digest> = index.manifests.iter().map(|it| it.digest).collect();
        let mut digests = digests.into_iter();
        let (Some(digest), None) = (digests.next(), digests.next()) else {
            let message = format!("{} does not hold one image", path.display());
            return Err(DeployError::new(message, "name a layout or archive with a single image").into());
        };
        let platform = |image: reader::ReadImage| Some((image.manifest?.0.digest, image.config));
        Ok(Self { digest, platforms: images.into_iter().filter_map(platform).collect() })
    }

    /// The facts of the platform that a report is of.
    ///
    /// # Errors
    /// When the report is of another image, or the configuration is one that no manifest can be written for.
    pub fn facts(
        &self,
        measured: &str,
        repository: &str,
        port: Option<u16>,
    ) -> Result<ImageFacts, DeployError> {
        let Some((_, config)) = self.platforms.iter().find(|(digest, _)| digest.to_string() == measured)
        else {
            return Err(DeployError::new(
                format!(
                    "the report is of another image: it measured {measured}, and this is {}",
                    self.digest
                ),
                "these limits would be older than the image: profile it again",
            ));
        };
        let architectures: BTreeSet<String> =
            self.platforms.iter().map(|(_, config)| config.image.architecture().to_string()).collect();
        let mut architectures = architectures.into_iter();
        let architecture = architectures.next().filter(|_| architectures.next().is_none());
        let run = &config.execution;
        let test = config.healthcheck.as_ref().and_then(|check| check.test.as_deref()).unwrap_or_default();
        let health_check = match test.split_first() {
            Some((kind, command)) if kind == "CMD" && !command.is_empty() => Some(command.to_vec()),
            _ => None,
        };
        Ok(ImageFacts {
            reference: format!("{}@{}", pinned(repository)?, self.digest),
            architecture,
            port: choose_port(run.exposed_ports().iter().flatten().map(String::as_str), port)?,
            user: numeric_user(run.user().as_deref().unwrap_or_default())?,
            volumes: run.volumes().clone().unwrap_or_default(),
            health_check,
        })
    }
}

/// The repository, if it names one and nothing that can move.
pub(crate) fn pinned(repository: &str) -> Result<&str, DeployError> {
    let error = |message: String| {
        DeployError::new(
            message,
            "write the repository alone, such as registry.example/team/app: the digest is added",
        )
    };
    if repository.contains('@') {
        return Err(error(format!("`{repository}` holds a digest already")));
    }
    let parsed: Reference =
        repository.parse().map_err(|it: tare_oci::reference::ReferenceError| error(it.to_string()))?;
    if parsed.repository() != repository {
        return Err(error(format!("`{repository}` has a tag, which may name another image tomorrow")));
    }
    Ok(repository)
}

/// The stated one of the exposed TCP ports; else the only one, 80, 8080 or the lowest.
fn choose_port<'a>(exposed: impl Iterator<Item = &'a str>, stated: Option<u16>) -> Result<u16, DeployError> {
    let tcp = |text: &str| text.strip_suffix("/tcp").unwrap_or(text).parse::<u16>().ok().filter(|it| *it > 0);
    let ports: BTreeSet<u16> = exposed.filter_map(tcp).collect();
    let usual = || [80, 8080].into_iter().find(|port| ports.contains(port));
    stated.filter(|it| *it > 0).or_else(usual).or_else(|| ports.first().copied()).ok_or_else(|| {
        DeployError::new(
            "the image exposes no TCP port",
            "set `exposed-ports` under [config], or `port` under [deploy] in image.toml",
        )
    })
}

/// `UID[:GID]`: a node cannot see whether a name is root's.
fn numeric_user(user: &str) -> Result<(u32, Option<u32>), DeployError> {
    let hint =
        "set a numeric user other than 0 under [config] in image.toml, such as `user = \"65534:65534\"`";
    let (uid, gid) = match user.split_once(':') {
        Some((uid, gid)) => (uid, Some(gid)),
        None => (user, None),
    };
    // Kubernetes takes ids up to 2^31 - 1 (apimachinery, `IsValidUserID`).
    let id = |text: &str| text.parse::<u32>().ok().filter(|id| i32::try_from(*id).is_ok()).ok_or(());
    match (id(uid), gid.map(id).transpose()) {
        (Ok(0), _) => Err(DeployError::new("the image runs as root", hint)),
        (Ok(uid), Ok(gid)) => Ok((uid, gid)),
        _ if user.is_empty() => Err(DeployError::new("the image names no user, so it runs as root", hint)),
        _ => {
            Err(DeployError::new(format!("the image's user is `{user}`, a name or too large a number"), hint))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_taken_and_what_moves_is_refused() {
        for good in ["app", "team/app", "registry.example:5000/team/app"] {
            assert_eq!(pinned(good), Ok(good));
        }
        let refused = |text: &str| pinned(text).unwrap_err().to_string();
        assert_eq!(refused("app:1.2"), "`app:1.2` has a tag, which may name another image tomorrow");
        assert_eq!(
            refused("h:5000/a:latest"),
            "`h:5000/a:latest` has a tag, which may name another image tomorrow"
        );
        assert_eq!(refused("a@sha256:00"), "`a@sha256:00` holds a digest already");
        assert!(refused("App").starts_with("`App` is not an image name"), "{}", refused("App"));
    }

    #[test]
    fn ports_are_stated_or_the_usual_ones_or_the_lowest() {
        let choose = |ports: &[&str], stated| choose_port(ports.iter().copied(), stated).ok();
        assert_eq!(choose(&["443/tcp", "80/tcp"], None), Some(80));
        assert_eq!(choose(&["8080", "10000"], None), Some(8080));
        assert_eq!(choose(&["9000/tcp", "60000/tcp", "53/udp"], None), Some(9000));
        assert_eq!(choose(&["9000/tcp", "60000/tcp"], Some(60000)), Some(60000));
        assert_eq!(choose(&["53/udp", "x/tcp", "0/tcp"], None), None);
    }

    #[test]
    fn users_are_numbers_and_not_root() {
        assert_eq!(numeric_user("65534:65534"), Ok((65534, Some(65534))));
        assert_eq!(numeric_user("1000"), Ok((1000, None)));
        for (user, message) in [
            ("0:0", "the image runs as root"),
            ("", "the image names no user, so it runs as root"),
            ("nobody", "the image's user is `nobody`, a name or too large a number"),
            ("1:x", "the image's user is `1:x`, a name or too large a number"),
            ("2147483648", "the image's user is `2147483648`, a name or too large a number"),
        ] {
            assert_eq!(numeric_user(user).unwrap_err().to_string(), message);
        }
    }
}
