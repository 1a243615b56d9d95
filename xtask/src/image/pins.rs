//! `images/lock.toml`: the digests of the base images that definitions name by a tag.
//!
//! `cargo xtask update` writes it, and a build reads it, so that a tag that moves changes no image by itself.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Deserialize;

use tare_oci::digest::Digest;
use tare_oci::input;
use tare_tool::document::{DefinitionError, Parsed, Places};

/// What the file begins with.
const HEADER: &str = "\
# The digests of the base images that images/*/image.toml name by a tag.
# `cargo xtask update` writes this file. Commit it.

[base]
";

/// The content of `images/lock.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pins {
    /// Reference with its tag → digest of the manifest or index.
    pub bases: BTreeMap<String, Digest>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
struct Raw {
    base: BTreeMap<String, Parsed<Digest>>,
}

impl Pins {
    /// Where a workspace has the file.
    #[must_use]
    pub fn path(root: &Path) -> PathBuf {
        root.join("images/lock.toml")
    }

    /// Reads the file of a workspace; without a file nothing is pinned.
    ///
    /// # Errors
    /// When it cannot be read, or is something else.
    pub fn read(root: &Path) -> anyhow::Result<Self> {
        let path = Self::path(root);
        match input::read_definition(root, &path) {
            Ok(text) => Ok(Self::parse(path.strip_prefix(root).unwrap_or(&path), &text)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    fn parse(path: &Path, text: &str) -> Result<Self, DefinitionError> {
        let Raw { base } = Places::new(path, text).read()?;
        Ok(Self { bases: base.into_iter().map(|(name, digest)| (name, digest.0)).collect() })
    }

    /// The text of the file.
    #[must_use]
    pub fn to_toml(&self) -> String {
        // References have no character that TOML escapes.
        let line = |(name, digest): (&String, &Digest)| format!("\"{name}\" = \"{digest}\"\n");
        self.bases.iter().map(line).fold(HEADER.to_owned(), |text, line| text + &line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let digest = Digest::of(b"base");
        let pins = Pins { bases: [("docker.io/library/debian:12-slim".to_owned(), digest)].into() };
        let text = pins.to_toml();
        assert!(text.ends_with(&format!("\n[base]\n\"docker.io/library/debian:12-slim\" = \"{digest}\"\n")));
        assert_eq!(Pins::parse(Path::new("images/lock.toml"), &text), Ok(pins));
        assert_eq!(Pins::parse(Path::new("images/lock.toml"), ""), Ok(Pins::default()));
        let error = Pins::parse(Path::new("images/lock.toml"), "[base]\na = \"b\"\n").unwrap_err();
        assert_eq!((error.line, error.column), (2, 5), "{error}");
    }
}
