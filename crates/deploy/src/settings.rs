//! What a team states itself: the table `[deploy]` of image.toml, and the flags that replace its keys.

use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Deserializer};
use tare_oci::units::ByteSize;
use tare_tool::document::{DefinitionError, Parsed, Places};

/// `[deploy]`: every key is optional and wins over what would be computed or assumed.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case", expecting = "a table")]
pub struct Settings {
    /// Name of the objects; by default the image's.
    pub name: Option<String>,
    /// Where the cluster pulls the image from, without a tag: `registry.example/team/app`.
    pub repository: Option<String>,
    /// Requests in a second to the whole service.
    pub rate: Option<f64>,
    /// A fixed number of pods, without an autoscaler.
    pub replicas: Option<u32>,
    /// The autoscaler's least number of pods.
    pub min_replicas: Option<u32>,
    /// The autoscaler's largest number of pods.
    pub max_replicas: Option<u32>,
    /// Which part of the rate at the knee a pod is to have at most, between 0 and 1.
    pub headroom: Option<f64>,
    /// The port, where the image exposes several.
    pub port: Option<u16>,
    /// Path of the readiness and start-up probes; by default the profile's.
    pub readiness: Option<String>,
    /// Path of the liveness probe; by default the image's health check is run.
    pub liveness: Option<String>,
    /// The least memory limit.
    #[serde(deserialize_with = "parsed")]
    pub memory_floor: Option<ByteSize>,
    /// Seconds between the removal from the Service and SIGTERM.
    pub pre_stop: Option<u32>,
    /// Size of each volume claim.
    #[serde(deserialize_with = "parsed")]
    pub storage: Option<ByteSize>,
}

impl Settings {
    /// Reads `[deploy]` of the text of an image.toml at `path`; everything else in it is xtask's matter.
    ///
    /// # Errors
    /// When it is not TOML, or the table has an unknown key or a value of the wrong kind.
    pub fn parse(path: &Path, text: &str) -> Result<Self, DefinitionError> {
        #[derive(Deserialize)]
        struct Definition {
            #[serde(default)]
            deploy: Settings,
        }
        let definition: Definition = Places::new(path, text).read()?;
        Ok(definition.deploy)
    }
}

fn parsed<'de, D: Deserializer<'de>, T: FromStr<Err: std::fmt::Display>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Parsed::deserialize(deserializer).map(|Parsed(value)| Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read_and_the_rest_left_alone() {
        let text = "[config]\nanything = 1\n[deploy]\nrate = 2000\nmemory-floor = \"32MiB\"\n";
        let expected =
            Settings { rate: Some(2000.0), memory_floor: Some(ByteSize(32 << 20)), ..Settings::default() };
        assert_eq!(Settings::parse(Path::new("image.toml"), text), Ok(expected));
        assert_eq!(Settings::parse(Path::new("image.toml"), ""), Ok(Settings::default()));
    }

    #[test]
    fn a_mistyped_key_is_reported_with_its_place_and_the_nearest_known() {
        let error = Settings::parse(Path::new("image.toml"), "[deploy]\nreplica = 2\n").unwrap_err();
        assert_eq!(error.to_string(), "image.toml:2:1: unknown key `replica`");
        assert!(error.hint.unwrap().starts_with("did you mean `replicas`?"));
        let error =
            Settings::parse(Path::new("i"), "[deploy]\nstorage = \"10Gi\"\n").unwrap_err().to_string();
        assert!(error.starts_with("i:2:11: `10Gi` is not a size"), "{error}");
    }
}
