//! The cargo profile of a build: where each of its keys is set, and which keys tare adds to its own profile, `image`.
//!
//! As in cargo, a key is looked up in the profile and then in those that it inherits from; in each of them the
//! environment comes before configuration files, and these before Cargo.toml.

use std::collections::BTreeSet;

use crate::cargo_config::CargoConfig;
use crate::image::definition::DEFAULT_PROFILE;
use tare_tool::environment::Environment;

/// What tare's own profile adds to `release`: what makes a program smaller and not slower.
const ADDED: [(&str, &str); 2] = [("lto", "\"fat\""), ("codegen-units", "1")];

/// Keys that are shown even where nobody sets them, with cargo's defaults for release and dev.
const SHOWN: [(&str, &str, &str); 4] = [
    ("opt-level", "3", "0"),
    ("lto", "false", "false"),
    ("codegen-units", "16", "256"),
    ("panic", "\"unwind\"", "\"unwind\""),
];

/// A profile, as a build uses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Profile {
    /// The keys that tare sets, with values in TOML.
    pub(super) added: Vec<(&'static str, &'static str)>,
    /// Every key that is set somewhere and some with cargo's defaults.
    pub(super) keys: Vec<Key>,
}

/// One key of a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    name: String,
    value: String,
    origin: String,
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, value, origin } = self;
        write!(f, "{name} = {value} ({origin})")
    }
}

/// A profile that nothing defines.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Undefined;

/// Finds out about a profile. `manifest` is `[profile]` of the workspace's Cargo.toml.
pub(super) fn resolve(
    name: &str,
    manifest: &toml::Table,
    config: &CargoConfig<'_>,
    env: &Environment,
) -> Result<Profile, Undefined> {
    let sources = Sources { manifest, config };
    let mut chain = vec![name.to_owned()];
    while let Some(last) = chain.last() {
        let Some(parent) = sources.parent(last)? else { break };
        if chain.contains(&parent) {
            break;
        }
        chain.push(parent);
    }
    let is_release = chain.last().is_some_and(|last| last == "release");
    let find = |key: &str| chain.iter().find_map(|profile| sources.key(profile, key));

    let mut added = Vec::new();
    if name == DEFAULT_PROFILE && sources.key(name, "inherits").is_none() {
        added.push(("inherits", "\"release\""));
    }
    if name == DEFAULT_PROFILE && is_release {
        // rustc refuses both at once.
        let incremental = match env.text("CARGO_INCREMENTAL") {
            Some(value) => value == "1",
            None => find("incremental").is_some_and(|key| key.value == "true"),
        };
        let wanted = ADDED.into_iter().filter(|(key, _)| find(key).is_none());
        added.extend(wanted.filter(|(key, _)| *key != "lto" || !incremental));
    }

    let mut names: Vec<String> = SHOWN.map(|(key, ..)| key.to_owned()).into();
    let others: BTreeSet<String> = chain.iter().flat_map(|profile| sources.names(profile)).collect();
    names.extend(others.into_iter().filter(|name| SHOWN.iter().all(|(key, ..)| key != name)));
    let default = |key: &str| {
        let (_, release, dev) = SHOWN.into_iter().find(|(shown, ..)| *shown == key)?;
        let value = if is_release { release } else { dev }.to_owned();
        Some(Key { name: key.to_owned(), value, origin: "cargo's default".to_owned() })
    };
    let of_tare = |key: &str| {
        let (name, value) = added.iter().find(|(added, _)| *added == key)?;
        Some(Key { name: (*name).to_owned(), value: (*value).to_owned(), origin: "tare".to_owned() })
    };
    let keys = names.iter().filter_map(|key| find(key).or_else(|| of_tare(key)).or_else(|| default(key)));
    Ok(Profile { keys: keys.collect(), added })
}

struct Sources<'a> {
    manifest: &'a toml::Table,
    config: &'a CargoConfig<'a>,
}

impl Sources<'_> {
    fn parent(&self, profile: &str) -> Result<Option<String>, Undefined> {
        if let Some(Key { value, .. }) = self.key(profile, "inherits") {
            return Ok(Some(value.trim_matches('"').to_owned()));
        }
        match profile {
            "dev" | "release" => Ok(None),
            "test" => Ok(Some("dev".to_owned())),
            "bench" | DEFAULT_PROFILE => Ok(Some("release".to_owned())),
            // cargo says what is missing.
            _ if self.manifest.contains_key(profile) => Ok(None),
            _ if self.config.has_table(&["profile", profile]) => Ok(None),
            _ => Err(Undefined),
        }
    }

    /// A key that is set in a profile itself.
    fn key(&self, profile: &str, key: &str) -> Option<Key> {
        let name = key.to_owned();
        if let Some((value, origin)) = self.config.scalar(&["profile", profile, key]) {
            return Some(Key { name, value: shown(&value), origin: origin.to_string() });
        }
        let value = shown(self.manifest.get(profile)?.get(key)?);
        Some(Key { name, value, origin: format!("[profile.{profile}] in Cargo.toml") })
    }

    /// The names of the keys in a profile's tables, without tables and what is said elsewhere.
    fn names(&self, profile: &str) -> Vec<String> {
        let of_files = ["profile", profile];
        let tables = self.config.tables(&of_files).map(|(table, _)| table);
        let manifest = self.manifest.get(profile).and_then(toml::Value::as_table);
        let keys = tables.chain(manifest).flatten().filter(|(_, value)| !value.is_table());
        let keys = keys.map(|(key, _)| key.clone());
        // tare's own call sets `strip`: the image gets a stripped copy of the program.
        keys.filter(|key| !["inherits", "strip"].contains(&key.as_str())).collect()
    }
}

/// A value in TOML, whose strings, numbers and lists are written as in JSON.
fn shown(value: &toml::Value) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What tare adds to `image`, and the shown keys, one a line.
    fn resolved(name: &str, manifest: &str, file: &str, variables: &[(&str, &str)]) -> Option<String> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(".cargo")).unwrap();
        std::fs::write(dir.path().join(".cargo/config.toml"), file).unwrap();
        let mut env = Environment {
            variables: variables.iter().map(|(k, v)| (k.into(), v.into())).collect(),
            current_dir: dir.path().into(),
            parallelism: 1,
        };
        env.variables.insert("CARGO_HOME".into(), dir.path().join("home").into());
        let config = CargoConfig::read(dir.path(), &env).unwrap();
        let manifest: toml::Table = manifest.parse().unwrap();
        let empty = toml::Table::new();
        let profiles = manifest.get("profile").and_then(toml::Value::as_table).unwrap_or(&empty);
        let profile = resolve(name, profiles, &config, &env).ok()?;
        let added: Vec<&str> = profile.added.iter().map(|(key, _)| *key).collect();
        let keys: Vec<String> = profile.keys.iter().map(ToString::to_string).collect();
        let text = format!("{}: {}", added.join(" "), keys.join(", "));
        Some(text.replace(&*dir.path().to_string_lossy(), "ROOT"))
    }

    #[test]
    fn tare_adds_what_nobody_sets_and_says_where_the_rest_is_from() {
        let plain = "inherits lto codegen-units: opt-level = 3 (cargo's default), lto = \"fat\" (tare), \
            codegen-units = 1 (tare), panic = \"unwind\" (cargo's default)";
        let small = "[profile.release]\nopt-level = \"s\"\nlto = \"thin\"\n";
        let released = "inherits codegen-units: opt-level = \"s\" ([profile.release] in Cargo.toml), lto = \"thin\" \
            ([profile.release] in Cargo.toml), codegen-units = 1 (tare), panic = \"unwind\" (cargo's default)";
        let config = "[profile.image]\nopt-level = \"s\"\npanic = \"abort\"\n[profile.release]\ndebug = 1\n";
        let configured = "inherits lto codegen-units: opt-level = \"s\" (ROOT/.cargo/config.toml), lto = \"fat\" \
            (tare), codegen-units = 1 (tare), panic = \"abort\" (ROOT/.cargo/config.toml), debug = 1 \
            (ROOT/.cargo/config.toml)";
        let variables =
            [("CARGO_PROFILE_IMAGE_PANIC", "abort"), ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "8")];
        let in_environment = "inherits lto: opt-level = 3 (cargo's default), lto = \"fat\" (tare), \
            codegen-units = 8 (CARGO_PROFILE_RELEASE_CODEGEN_UNITS), panic = \"abort\" (CARGO_PROFILE_IMAGE_PANIC)";
        // Inherited from elsewhere, and its own: cargo alone decides the rest.
        let of_dev = "[profile.image]\ninherits = \"dev\"\nopt-level = 1\n";
        let debugged = ": opt-level = 1 ([profile.image] in Cargo.toml), lto = false (cargo's default), \
            codegen-units = 256 (cargo's default), panic = \"unwind\" (cargo's default)";
        let between =
            "[profile.dist]\ninherits = \"release\"\nlto = false\n[profile.image]\ninherits = \"dist\"\n";
        let chained = "codegen-units: opt-level = 3 (cargo's default), lto = false ([profile.dist] in Cargo.toml), \
            codegen-units = 1 (tare), panic = \"unwind\" (cargo's default)";
        let incremental = "inherits codegen-units: opt-level = 3 (cargo's default), lto = false (cargo's default), \
            codegen-units = 1 (tare), panic = \"unwind\" (cargo's default)";
        for (manifest, file, variables, expected) in [
            ("", "", &[][..], plain),
            (small, "", &[], released),
            ("", config, &[], configured),
            ("", "", &variables, in_environment),
            (of_dev, "", &[], debugged),
            (between, "", &[], chained),
            ("", "", &[("CARGO_INCREMENTAL", "1")], incremental),
        ] {
            let shown = resolved("image", manifest, file, variables);
            assert_eq!(shown.as_deref(), Some(expected), "{manifest}{file}{variables:?}");
        }
    }

    #[test]
    fn a_profile_may_be_defined_anywhere_and_only_cargo_completes_it() {
        let dist = "[profile.dist]\ninherits = \"release\"\n";
        let in_environment = [("CARGO_PROFILE_DIST_INHERITS", "release")];
        let shown = ": opt-level = 3 (cargo's default), lto = false (cargo's default), codegen-units = 16 (cargo's \
            default), panic = \"unwind\" (cargo's default)";
        for (manifest, file, variables) in [(dist, "", &[][..]), ("", dist, &[]), ("", "", &in_environment)] {
            assert_eq!(resolved("dist", manifest, file, variables).as_deref(), Some(shown));
        }
        assert_eq!(resolved("dist", "", "", &[]), None);
        assert_eq!(resolved("release", "", "", &[]).as_deref(), Some(shown));
        // One that inherits from what nothing defines.
        assert_eq!(resolved("dist", "[profile.dist]\ninherits = \"gone\"\n", "", &[]), None);
        let circle = "[profile.a]\ninherits = \"b\"\n[profile.b]\ninherits = \"a\"\n";
        assert!(resolved("a", circle, "", &[]).is_some());
    }
}
