//! The annotations of an image, from Cargo.toml and git (image-spec annotations.md).

use cargo_metadata::Package;
use serde_json::Value;

use crate::git::GitFacts;
use tare_oci::spec::Map;
use tare_oci::units::Epoch;

/// The prefix of the keys that the image spec defines.
const PREFIX: &str = "org.opencontainers.image.";

/// The annotations; the same become labels of the config, so that daemons that keep no manifest show
/// them too.
#[must_use]
pub fn annotations(
    image: &str,
    package: Option<&Package>,
    workspace_metadata: &Value,
    git: &GitFacts,
    created: Epoch,
) -> Map {
    let mut map = Map::new();
    let mut put = |key: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            map.insert(format!("{PREFIX}{key}"), value);
        }
    };
    put("created", Some(created.to_string()));
    put("title", Some(package.map_or_else(|| image.to_owned(), |package| package.name.to_string())));
    put("revision", git.revision.clone());
    put("source", git.remote.clone());
    if let Some(package) = package {
        put("version", Some(package.version.to_string()));
        put("description", package.description.as_deref().map(one_line));
        put("authors", Some(package.authors.join(", ")));
        put("licenses", package.license.as_deref().map(spdx));
        put("url", package.homepage.clone());
        put("documentation", package.documentation.clone());
        put("source", package.repository.clone());
    }
    let of_package = package.map(|package| &package.metadata);
    put("vendor", vendor(of_package).or_else(|| vendor(Some(workspace_metadata))));
    map
}

/// Cargo.toml has no field for it: `[package.metadata.tare]` or `[workspace.metadata.tare]`.
fn vendor(metadata: Option<&Value>) -> Option<String> {
    metadata?.get("tare")?.get("vendor")?.as_str().map(str::to_owned)
}

/// Descriptions in Cargo.toml are often broken into lines.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Cargo still takes the older form `MIT/Apache-2.0`, which is no SPDX expression.
fn spdx(license: &str) -> String {
    license.split('/').map(str::trim).collect::<Vec<_>>().join(" OR ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(fields: &Value) -> Package {
        let mut package = serde_json::json!({
            "name": "server", "version": "1.2.3", "id": "server", "dependencies": [], "targets": [],
            "features": {}, "manifest_path": "Cargo.toml", "authors": [], "edition": "2024",
        });
        for (key, value) in fields.as_object().unwrap() {
            package[key] = value.clone();
        }
        serde_json::from_value(package).unwrap()
    }

    #[test]
    fn every_key_has_its_source() {
        let package = package(&serde_json::json!({
            "description": "A server\n  of things", "authors": ["A <a@x>", "B"], "license": "MIT/Apache-2.0",
            "homepage": "https://h", "documentation": "https://d", "repository": "https://r",
            "metadata": {"tare": {"vendor": "V"}},
        }));
        let git = GitFacts {
            revision: Some("abc-dirty".into()),
            remote: Some("https://g".into()),
            ..GitFacts::default()
        };
        let map = annotations("image", Some(&package), &Value::Null, &git, Epoch::ZERO);
        let shown: Vec<(&str, &str)> =
            map.iter().map(|(k, v)| (k.strip_prefix(PREFIX).unwrap(), v.as_str())).collect();
        let expected = [
            ("authors", "A <a@x>, B"),
            ("created", "1970-01-01T00:00:00Z"),
            ("description", "A server of things"),
            ("documentation", "https://d"),
            ("licenses", "MIT OR Apache-2.0"),
            ("revision", "abc-dirty"),
            ("source", "https://r"),
            ("title", "server"),
            ("url", "https://h"),
            ("vendor", "V"),
            ("version", "1.2.3"),
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn what_nobody_says_is_left_out() {
        let git = GitFacts { remote: Some("https://g".into()), ..GitFacts::default() };
        let of_workspace = serde_json::json!({"tare": {"vendor": "W"}});
        let map = annotations("go", None, &of_workspace, &git, Epoch::ZERO);
        let keys: Vec<&str> = map.keys().map(|key| key.strip_prefix(PREFIX).unwrap()).collect();
        assert_eq!(keys, ["created", "source", "title", "vendor"]);
        assert_eq!(map[&format!("{PREFIX}title")], "go");
    }
}
