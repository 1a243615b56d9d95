//! The manifests, as trees that [`crate::yaml`] writes.

mod compose;
mod istio;
mod knative;
mod kubernetes;
mod pod;

use tare_report::Limits;

use crate::Kind;
use crate::error::DeployError;
use crate::evidence::Evidence;
use crate::image::ImageFacts;
use crate::origin::Sourced;
use crate::recommend::Recommendation;
use crate::settings::Settings;
use crate::yaml;

/// Everything that a manifest is made of.
#[derive(Debug, Clone)]
pub struct Application<'a> {
    /// Name of the objects.
    pub name: String,
    /// The image.
    pub image: &'a ImageFacts,
    /// The numbers.
    pub numbers: &'a Recommendation,
    /// The limits that were measured under.
    pub limits: Limits,
    /// Whether the profile ran the image with a read-only root file system.
    pub read_only: bool,
    /// Path of the readiness and start-up probes.
    pub readiness: Sourced<String>,
    /// Path of the liveness probe, where one is stated.
    pub liveness: Option<Sourced<String>>,
    /// Of each volume claim, in MiB.
    pub storage: Sourced<String>,
}

impl<'a> Application<'a> {
    /// Joins the numbers with what the profile and the settings say about running the image.
    ///
    /// # Errors
    /// When the name is none that Kubernetes takes, or a path is no path.
    pub fn new(
        name: &str,
        image: &'a ImageFacts,
        numbers: &'a Recommendation,
        evidence: Evidence<'_>,
        settings: &Settings,
    ) -> Result<Self, DeployError> {
        let path = |path: &Option<String>, key: &str| match path {
            Some(path) if !path.starts_with('/') => Err(DeployError::new(
                format!("{key} of [deploy] is `{path}`"),
                "write a path that begins with `/`, such as \"/health\"",
            )),
            path => Ok(path.clone()),
        };
        let readiness = path(&settings.readiness, "readiness")?;
        let liveness = path(&settings.liveness, "liveness")?;
        let readiness = match (readiness, evidence.setting("ready").and_then(probed)) {
            (None, Some(path)) => Sourced::measured(path.to_owned(), "what the profile waited for", vec![]),
            (stated, _) => Sourced::stated_or(
                stated,
                "readiness in [deploy]",
                "/ready".to_owned(),
                "the article's; the profile waited for no path with a status of 200 to 399",
            ),
        };
        let storage =
            settings.storage.map(|size| (size.0.div_ceil(1 << 20)).max(1)).map(|size| format!("{size}Mi"));
        Ok(Self {
            name: object_name(settings.name.as_deref().unwrap_or(name))?,
            image,
            numbers,
            limits: evidence.limits(),
            // The profiles of a version without this setting ran all images so.
            read_only: evidence.setting("read-only").is_none_or(|value| value == "true"),
            readiness,
            liveness: liveness
                .map(|path| Sourced::stated_or(Some(path), "liveness in [deploy]", String::new(), "")),
            storage: Sourced::stated_or(storage, "storage in [deploy]", "10Gi".to_owned(), "the article's"),
        })
    }

    /// The text of a manifest; `header` stands in comments at its top.
    ///
    /// # Errors
    /// When the image is one that this kind cannot run.
    pub fn write(&self, kind: Kind, header: &[String]) -> Result<String, DeployError> {
        let documents = match kind {
            Kind::Kubernetes => kubernetes::documents(self, false),
            Kind::Istio => {
                let mut documents = kubernetes::documents(self, true);
                documents.extend(istio::documents(self));
                documents
            }
            Kind::Knative => vec![knative::document(self)?],
            Kind::Compose => vec![compose::document(self)],
        };
        Ok(yaml::file(header, &documents))
    }
}

/// The path of the profile's setting `ready`, `/ → 200`, if a kubelet takes the status for success.
fn probed(ready: &str) -> Option<&str> {
    let (path, status) = ready.split_once(" → ")?;
    let status: u16 = status.parse().ok()?;
    (path.starts_with('/') && (200..400).contains(&status)).then_some(path)
}

/// A name as every kind of object takes it (RFC 1035, short enough for the suffixes of pods).
fn object_name(name: &str) -> Result<String, DeployError> {
    let name: String = name.to_ascii_lowercase().replace(['_', '.'], "-");
    let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if plain && name.len() <= 40 && name.starts_with(|c: char| c.is_ascii_lowercase()) && !name.ends_with('-')
    {
        return Ok(name);
    }
    Err(DeployError::new(
        format!("`{name}` cannot be the name of Kubernetes objects"),
        "set `name` under [deploy] in image.toml: at most 40 lower-case letters, digits and `-`, a letter first",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_kubernetes() {
        assert_eq!(object_name("App_full.1"), Ok("app-full-1".to_owned()));
        for name in ["", "1app", "app-", "ä", "a b", &"a".repeat(41)] {
            assert_eq!(
                object_name(name).unwrap_err().to_string(),
                format!("`{name}` cannot be the name of Kubernetes objects")
            );
        }
    }

    #[test]
    fn the_profiles_ready_path_is_probed_if_a_kubelet_takes_its_status() {
        assert_eq!(probed("/ready → 200"), Some("/ready"));
        assert_eq!(probed("/ → 404"), None);
        assert_eq!(probed("nothing"), None);
    }
}
