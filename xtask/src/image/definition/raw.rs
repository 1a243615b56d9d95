//! `image.toml` as it is written: every key that exists, and the forms its values may take.
//!
//! A value is parsed into its own type while it is read, so that what is wrong with it is reported
//! with its line and column.

use std::fmt;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::str::FromStr;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use toml::Spanned;

use super::values::{Mode, Port, Signal, User};
use crate::oci::layer::{Capabilities, ImagePath};
use crate::oci::platform::Platform;
use crate::units::Nanoseconds;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawDefinition {
    pub(super) platforms: Option<Spanned<Vec<Parsed<Platform>>>>,
    #[serde(default)]
    pub(super) build: RawBuild,
    #[serde(default)]
    pub(super) config: RawConfig,
    #[serde(default)]
    pub(super) layers: Vec<RawLayer>,
}

/// `[build]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
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
}

/// `[config]`, in the image spec's terms.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct RawConfig {
    pub(super) entrypoint: Option<Vec<String>>,
    pub(super) cmd: Option<Vec<String>>,
    pub(super) env: Env,
    pub(super) user: Option<ParsedOrNumber<User>>,
    pub(super) working_dir: Option<Parsed<ImagePath>>,
    pub(super) exposed_ports: Vec<ParsedOrNumber<Port>>,
    pub(super) volumes: Vec<Parsed<ImagePath>>,
    pub(super) labels: std::collections::BTreeMap<String, String>,
    pub(super) stop_signal: Option<Parsed<Signal>>,
    pub(super) healthcheck: Option<RawHealthcheck>,
}

/// `[config.healthcheck]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawHealthcheck {
    pub(super) test: Spanned<Vec<String>>,
    pub(super) interval: Option<Parsed<Nanoseconds>>,
    pub(super) timeout: Option<Parsed<Nanoseconds>>,
    pub(super) start_period: Option<Parsed<Nanoseconds>>,
    pub(super) start_interval: Option<Parsed<Nanoseconds>>,
    pub(super) retries: Option<u32>,
}

/// One of `[[layers]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawLayer {
    pub(super) name: Spanned<String>,
    #[serde(default)]
    pub(super) entries: Vec<Spanned<RawEntry>>,
}

/// One of a layer's `entries`: exactly one key says what it is and where it goes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
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
    pub(super) capabilities: Option<Parsed<Capabilities>>,
}

/// A string in the form that its type parses.
#[derive(Debug, Clone)]
pub(super) struct Parsed<T>(pub(super) T);

impl<'de, T> Deserialize<'de> for Parsed<T>
where
    T: FromStr<Err: fmt::Display>,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Text { numbers: false, form: PhantomData }).map(Self)
    }
}

/// The same where a number can only mean one thing, as for a port or a user id. (A mode is not such a
/// place: TOML would read 755 in decimal.)
#[derive(Debug, Clone)]
pub(super) struct ParsedOrNumber<T>(pub(super) T);

impl<'de, T> Deserialize<'de> for ParsedOrNumber<T>
where
    T: FromStr<Err: fmt::Display>,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Text { numbers: true, form: PhantomData }).map(Self)
    }
}

struct Text<T> {
    numbers: bool,
    form: PhantomData<T>,
}

impl<T: FromStr<Err: fmt::Display>> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.numbers { "a string or a number" } else { "a string" })
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        if self.numbers {
            number.to_string().parse().map_err(E::custom)
        } else {
            Err(E::invalid_type(de::Unexpected::Signed(number), &self))
        }
    }
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

/// Environment variables: a table, which is ordered by name, or a list of `NAME=VALUE` as the image spec
/// has it, which keeps its order.
#[derive(Debug, Clone, Default)]
pub(super) struct Env(pub(super) Vec<(String, String)>);

impl<'de> Deserialize<'de> for Env {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TableOrList;

        fn pair<E: de::Error>(name: String, value: String) -> Result<(String, String), E> {
            if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                return Err(E::custom(format!("`{name}` is not the name of an environment variable")));
            }
            Ok((name, value))
        }

        impl<'de> Visitor<'de> for TableOrList {
            type Value = Env;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of names and values, or a list of `NAME=VALUE`")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Env, A::Error> {
                let mut env = Vec::new();
                while let Some((name, value)) = map.next_entry()? {
                    env.push(pair(name, value)?);
                }
                Ok(Env(env))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Env, A::Error> {
                let mut env: Vec<(String, String)> = Vec::new();
                while let Some(text) = list.next_element::<String>()? {
                    let Some((name, value)) = text.split_once('=') else {
                        return Err(de::Error::custom(format!("`{text}` is not NAME=VALUE")));
                    };
                    if env.iter().any(|(known, _)| known == name) {
                        return Err(de::Error::custom(format!("`{name}` stands twice")));
                    }
                    env.push(pair(name.to_owned(), value.to_owned())?);
                }
                Ok(Env(env))
            }
        }

        deserializer.deserialize_any(TableOrList)
    }
}
