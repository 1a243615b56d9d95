//! `[container]`: how the container is confined.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::Deserializer;
use tare_container::{Capability, Tightening};
use tare_tool::document::Parsed;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Raw {
    read_only: Option<bool>,
    capabilities: Option<Vec<Parsed<Capability>>>,
    no_new_privileges: Option<bool>,
    user: Option<String>,
    sysctls: BTreeMap<String, String>,
    tmpfs: Vec<String>,
    volumes: Vec<String>,
}

/// The table; its values are checked with all others.
pub(super) fn tightening<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Tightening, D::Error> {
    let Raw { read_only, capabilities, no_new_privileges, user, sysctls, tmpfs, volumes } =
        Raw::deserialize(deserializer)?;
    let capabilities = capabilities.map(|list| list.into_iter().map(|it| it.0).collect());
    Ok(Tightening { read_only, capabilities, no_new_privileges, user, sysctls, tmpfs, volumes })
}
