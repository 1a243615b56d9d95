//! What the workspace knows of an image that it builds: the package's version, the checkout's state, and licences and
//! checksums, which no binary has.

use std::path::Path;

use serde::Deserialize;
use tare_tool::environment::{Environment, GIT_VARIABLES};
use tare_tool::process::{Execute as _, ProcessError, cmd, shell_in};

use crate::error::Error;
use crate::facts::Packages;
use crate::provenance::BuildFacts;

/// The part of `cargo metadata` that is used.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
}

/// The part of Cargo.lock that is used.
#[derive(Deserialize)]
struct Lock {
    #[serde(default)]
    package: Vec<LockedPackage>,
}

#[derive(Deserialize)]
struct LockedPackage {
    name: String,
    version: String,
    checksum: Option<String>,
}

/// The packages of a workspace and everything that they are built of.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    pub(crate) packages: Packages,
    pub(crate) build: BuildFacts,
    versions: Vec<(String, String)>,
}

impl Workspace {
    /// Asks cargo, rustc and git.
    pub(crate) fn read(root: &Path, env: &Environment) -> anyhow::Result<Self> {
        let shell = shell_in(root)?;
        let cargo = env.cargo();
        let metadata = cmd!(shell, "{cargo} metadata --locked --format-version 1").capture()?;
        let Metadata { packages: all } = serde_json::from_slice(&metadata)?;
        let path = root.join("Cargo.lock");
        let text = tare_oci::input::read_to_string(&path).map_err(|source| Error::File {
            operation: "read",
            path: path.clone(),
            source,
        })?;
        let Lock { package: locked } = toml::from_str(&text)
            .map_err(|error| Error::Input(format!("{}: {}", path.display(), error.message())))?;
        let mut packages = Packages::default();
        for Package { name, version, license } in &all {
            let same = |locked: &&LockedPackage| (&locked.name, &locked.version) == (name, version);
            let checksum = locked.iter().find(same).and_then(|locked| locked.checksum.clone());
            packages.add(name, version, checksum, license.clone());
        }
        let rustc = cmd!(shell, "rustc --version").capture_text().ok();
        let commit = cmd!(shell, "git rev-parse HEAD").without_env(GIT_VARIABLES).capture_text().ok();
        let versions = all.into_iter().map(|package| (package.name, package.version)).collect();
        Ok(Self { packages, build: BuildFacts { rustc, commit, targets: vec![] }, versions })
    }

    /// The version of the one package of that name.
    pub(crate) fn version(&self, name: &str) -> Option<&str> {
        let mut found = self.versions.iter().filter(|(package, _)| package == name);
        let (_, version) = found.next()?;
        found.next().is_none().then_some(version)
    }
}

/// Files of the checkout that differ from its commit; none outside of git.
pub(crate) fn changed_files(root: &Path) -> anyhow::Result<Vec<String>> {
    let shell = shell_in(root)?;
    match cmd!(shell, "git status --porcelain").without_env(GIT_VARIABLES).capture_text() {
        Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
        Err(ProcessError::NotFound { .. } | ProcessError::Failed { .. }) => Ok(vec![]),
        Err(error) => Err(error.into()),
    }
}
