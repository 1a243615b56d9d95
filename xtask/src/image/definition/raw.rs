//! The keys of `image.toml` and the forms of their values.
//!
//! A value is parsed into its own type while it is read, so that errors have a line and a column.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny, Visitor};

use super::base::BaseReference;
use super::values::{FileTime, Mode, Port, Signal, User};
use tare_oci::capabilities::Capabilities;
use tare_oci::path::ImagePath;
use tare_oci::platform::Platform;
use tare_oci::units::Nanoseconds;
use tare_tool::document::{Env, Parsed, ParsedOrNumber, Spanned};

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(expecting = "a table", deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawDefinition {
    pub(super) default: Option<bool>,
    pub(super) base: Option<Spanned<Parsed<BaseReference>>>,
    pub(super) platforms: Option<Spanned<Vec<Parsed<Platform>>>>,
    #[serde(default)]
    pub(super) build: RawBuild,
    #[serde(default)]
    pub(super) config: RawConfig,
    #[serde(default)]
    pub(super) layers: Vec<RawLayer>,
    /// `tare-deploy` reads it.
    #[serde(rename = "deploy")]
    _deploy: Option<IgnoredAny>,
    /// `tare-publish` reads it.
    #[serde(rename = "publish")]
    _publish: Option<IgnoredAny>,
}

/// `[build]`
#[derive(Debug, Default, Deserialize)]
#[serde(expecting = "a table", deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawBuild {
    pub(super) package: Option<Spanned<String>>,
    pub(super) bin: Option<Spanned<String>>,
    pub(super) profile: Option<String>,
    pub(super) features: Option<Vec<String>>,
    pub(super) default_features: Option<bool>,
    pub(super) audit: Option<bool>,
    #[serde(rename = "static")]
    pub(super) static_: Option<bool>,
    pub(super) command: Option<Spanned<Vec<String>>>,
    pub(super) output: Option<Spanned<PathBuf>>,
    pub(super) libs: Option<Spanned<Libs>>,
}

/// How the shared libraries of a program get into the image.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Libs {
    /// They are found and taken from this host.
    Auto,
}

/// `[config]`, in the image spec's terms.
#[derive(Debug, Default, Deserialize)]
#[serde(expecting = "a table", deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct RawConfig {
    pub(super) entrypoint: Option<Spanned<Vec<String>>>,
    pub(super) cmd: Option<Vec<String>>,
    pub(super) env: Env,
    pub(super) user: Option<ParsedOrNumber<User>>,
    pub(super) working_dir: Option<Parsed<ImagePath>>,
    pub(super) exposed_ports: Vec<ParsedOrNumber<Port>>,
    pub(super) volumes: Vec<Spanned<Parsed<ImagePath>>>,
    pub(super) labels: std::collections::BTreeMap<Spanned<String>, String>,
    pub(super) stop_signal: Option<Parsed<Signal>>,
    pub(super) healthcheck: Option<RawHealthcheck>,
}

/// `[config.healthcheck]`
#[derive(Debug, Deserialize)]
#[serde(expecting = "a table", deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawHealthcheck {
    pub(super) test: Spanned<Vec<String>>,
    pub(super) interval: Option<Spanned<Parsed<Nanoseconds>>>,
    pub(super) timeout: Option<Spanned<Parsed<Nanoseconds>>>,
    pub(super) start_period: Option<Spanned<Parsed<Nanoseconds>>>,
    pub(super) start_interval: Option<Spanned<Parsed<Nanoseconds>>>,
    pub(super) retries: Option<u32>,
}

/// One of `[[layers]]`
#[derive(Debug, Deserialize)]
#[serde(expecting = "a table", deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawLayer {
    pub(super) name: Spanned<String>,
    pub(super) mtime: Option<Parsed<FileTime>>,
    #[serde(default)]
    pub(super) entries: Vec<Spanned<RawEntry>>,
}

/// One of a layer's `entries`. Exactly one key names its kind and its path in the image.
#[derive(Debug, Deserialize)]
#[serde(expecting = "a table", deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawEntry {
    pub(super) dir: Option<Parsed<ImagePath>>,
    pub(super) file: Option<Parsed<ImagePath>>,
    pub(super) symlink: Option<Parsed<ImagePath>>,
    pub(super) tree: Option<Parsed<ImagePath>>,
    pub(super) binary: Option<Place>,
    pub(super) ca_certificates: Option<Place>,
    pub(super) zoneinfo: Option<Place>,
    pub(super) skeleton: Option<Place>,
    pub(super) from: Option<PathBuf>,
    pub(super) to: Option<String>,
    pub(super) mode: Option<Parsed<Mode>>,
    pub(super) owner: Option<ParsedOrNumber<User>>,
    pub(super) mtime: Option<Parsed<FileTime>>,
    pub(super) capabilities: Option<Parsed<Capabilities>>,
}

/// Where something with a usual place goes: `true` for the usual place, or a path.
#[derive(Debug, Clone)]
pub(super) enum Place {
    Usual,
    At(ImagePath),
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TrueOrPath;

        impl Visitor<'_> for TrueOrPath {
            type Value = Place;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`true` or a path")
            }

            fn visit_bool<E: de::Error>(self, usual: bool) -> Result<Place, E> {
                if usual {
                    Ok(Place::Usual)
                } else {
                    Err(E::invalid_value(de::Unexpected::Bool(false), &self))
                }
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Place, E> {
                text.parse().map(Place::At).map_err(E::custom)
            }
        }

        deserializer.deserialize_any(TrueOrPath)
    }
}
