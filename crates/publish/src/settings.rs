//! What a team states itself: the table `[publish]` of image.toml.

use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize;
use serde::de::IgnoredAny;
use tare_tool::document::{DefinitionError, Places, Spanned};

use crate::publish::destination;

/// `[publish]`, and what of the rest says which package the image is of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Settings {
    /// Where the image is published without `--to`: `registry.example/team/app`.
    pub(crate) repositories: Vec<String>,
    /// Profiles whose gates must have passed.
    pub(crate) required_profiles: Vec<String>,
    /// The package of the workspace, where it is not called as the image is.
    pub(crate) package: Option<String>,
    /// Whether cargo builds the program.
    pub(crate) is_cargo_build: bool,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case", expecting = "a table")]
struct Table {
    repositories: Vec<Spanned<String>>,
    required_profiles: Vec<Spanned<String>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Definition {
    publish: Table,
    build: Build,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Build {
    package: Option<String>,
    output: Option<IgnoredAny>,
}

impl Settings {
    /// Of an image of the workspace at `root`; an image without an image.toml has none.
    pub(crate) fn read(root: &Path, name: &str) -> anyhow::Result<Self> {
        let path = root.join("images").join(name).join("image.toml");
        if !path.exists() {
            return Ok(Self { is_cargo_build: true, ..Self::default() });
        }
        let text = tare_oci::input::read_definition(root, &path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self::parse(&path, &text)?)
    }

    /// Reads the text of an image.toml at `path`; everything else in it is xtask's matter.
    fn parse(path: &Path, text: &str) -> Result<Self, DefinitionError> {
        let places = Places::new(path, text);
        let Definition { publish: Table { repositories, required_profiles }, build } = places.read()?;
        for repository in &repositories {
            let wrong = match destination(repository.get_ref()) {
                Ok((_, None)) => continue,
                Ok((_, Some(_))) => {
                    format!("`{}` has a tag; which tags there are is said by the run", repository.get_ref())
                }
                Err(error) => error.to_string(),
            };
            return Err(places.error(repository.span(), wrong));
        }
        for profile in &required_profiles {
            let name = profile.get_ref();
            // It is a folder of target/profiles.
            if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\']) {
                return Err(places.error(profile.span(), format!("`{name}` is no name of a profile")));
            }
        }
        let all = |list: Vec<Spanned<String>>| list.into_iter().map(Spanned::into_inner).collect();
        Ok(Self {
            repositories: all(repositories),
            required_profiles: all(required_profiles),
            package: build.package,
            is_cargo_build: build.output.is_none(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Settings, DefinitionError> {
        Settings::parse(Path::new("image.toml"), text)
    }

    #[test]
    fn the_table_is_read_and_the_rest_left_alone() {
        let text = "[build]\npackage = \"server\"\nx = 1\n[publish]\nrepositories = [\"ghcr.io/team/app\"]\n\
                    required-profiles = [\"ci\"]\n";
        let expected = Settings {
            repositories: vec!["ghcr.io/team/app".to_owned()],
            required_profiles: vec!["ci".to_owned()],
            package: Some("server".to_owned()),
            is_cargo_build: true,
        };
        assert_eq!(parse(text), Ok(expected));
        assert_eq!(parse(""), Ok(Settings { is_cargo_build: true, ..Settings::default() }));
        assert!(!parse("[build]\noutput = \"server\"\n").unwrap().is_cargo_build);
    }

    #[test]
    fn what_is_wrong_is_reported_with_its_place() {
        for (text, expected) in [
            ("[publish]\nrepository = \"a\"\n", "image.toml:2:1: unknown key `repository`"),
            (
                "[publish]\nrepositories = [\"ghcr.io/app\", \"ghcr.io/Team/app\"]\n",
                "image.toml:2:32: not an image reference: a repository is lower-case\n  ghcr.io/Team/app\n          ^",
            ),
            (
                "[publish]\nrepositories = [\"ghcr.io/app:1\"]\n",
                "image.toml:2:17: `ghcr.io/app:1` has a tag; which tags there are is said by the run",
            ),
            (
                "[publish]\nrequired-profiles = [\"../ci\"]\n",
                "image.toml:2:22: `../ci` is no name of a profile",
            ),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), expected);
        }
    }
}
