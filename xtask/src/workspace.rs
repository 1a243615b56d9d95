//! The cargo workspace: its folders, packages and images.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use cargo_metadata::{Metadata, Package, TargetKind};

use tare_oci::input;
use tare_oci::units::Epoch;
use tare_tool::cache;
use tare_tool::environment::{self, Environment};
use tare_tool::exit::Hinted;
use tare_tool::private::PrivateError;
use tare_tool::process::{Execute as _, cmd, shell_in};
use tare_tool::toolkit::{self, Toolkit};

/// A cargo workspace.
#[derive(Debug, Clone)]
pub struct Workspace {
    /// Where its Cargo.toml is.
    pub root: PathBuf,
    /// cargo's target folder, in which `images/` is written.
    pub target_dir: PathBuf,
    /// Where cargo keeps what it builds on the way; often the same.
    pub build_dir: PathBuf,
    /// Its own packages.
    pub packages: Vec<Package>,
    /// `[workspace.metadata]`
    pub metadata: serde_json::Value,
    /// `[profile]` of its Cargo.toml.
    pub profiles: toml::Table,
    /// `[patch]` of its Cargo.toml.
    pub patch: toml::Table,
}

impl Workspace {
    /// Finds the workspace that the running `xtask` belongs to: cargo says where that package is, and
    /// without cargo it is the current directory's.
    ///
    /// # Errors
    /// When there is none, or cargo cannot read it.
    pub fn find(env: &Environment) -> anyhow::Result<Self> {
        let target_dir = ["CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR"]
            .into_iter()
            // cargo takes a relative one from where it is called.
            .filter_map(|name| Some((name, env.current_dir.join(env.get(name)?))));
        let sh = shell_in(&env.start_dir())?;
        let cargo = env.cargo();
        let command = cmd!(sh, "{cargo} metadata --no-deps --format-version 1")
            .without_env(env.of_cargo_run())
            .without_env(["CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR"])
            .envs(target_dir);
        Self::of_metadata(&command.capture().context("no usable cargo workspace here")?)
    }

    /// The workspace that `cargo metadata` printed.
    ///
    /// # Errors
    /// When it is something else, or the workspace's Cargo.toml cannot be read.
    fn of_metadata(printed: &[u8]) -> anyhow::Result<Self> {
        let metadata: Metadata =
            serde_json::from_slice(printed).context("`cargo metadata` printed something unexpected")?;
        let root = metadata.workspace_root.into_std_path_buf();
        let mut manifest = read_toml(&root.join("Cargo.toml"))?;
        let mut table = |name| match manifest.remove(name) {
            Some(toml::Value::Table(table)) => table,
            _ => toml::Table::new(),
        };
        let target_dir = metadata.target_directory.into_std_path_buf();
        Ok(Self {
            build_dir: metadata.build_directory.map_or_else(|| target_dir.clone(), Into::into),
            target_dir,
            packages: metadata.packages,
            metadata: metadata.workspace_metadata,
            profiles: table("profile"),
            patch: table("patch"),
            root,
        })
    }

    /// The toolkit, which builds the other programs for this workspace from the source of the running one.
    #[must_use]
    pub fn toolkit(&self, env: &Environment) -> Toolkit {
        Toolkit::new(self.toolkit_source(env), &self.root, &self.target_dir)
    }

    /// The checkout that the running program was built from. A program of this workspace may have been copied with it,
    /// so cargo says where its packages are now. The source of an installed `cargo tare` is elsewhere.
    fn toolkit_source(&self, env: &Environment) -> PathBuf {
        let program = environment::this_program();
        let is_here = env.get("CARGO_MANIFEST_DIR").is_some()
            || program.is_ok_and(|program| program.starts_with(&self.target_dir));
        let found = is_here
            .then(|| toolkit_among(&self.packages).or_else(|| toolkit_among(&self.all_packages(env).ok()?)));
        found.flatten().unwrap_or_else(toolkit::compiled_source)
    }

    /// The packages of the workspace with their dependencies on this host, as far as they are downloaded.
    fn all_packages(&self, env: &Environment) -> anyhow::Result<Vec<Package>> {
        let (sh, cargo) = (shell_in(&self.root)?, env.cargo());
        let version = cmd!(sh, "{cargo} -vV").capture_text()?;
        let host = version.lines().find_map(|line| line.strip_prefix("host: "));
        let host = host.context("`cargo -vV` names no host")?;
        let command =
            cmd!(sh, "{cargo} metadata --format-version 1 --locked --offline --filter-platform {host}");
        let printed = command.without_env(env.of_cargo_run()).capture()?;
        Ok(serde_json::from_slice::<Metadata>(&printed)?.packages)
    }

    /// A folder of `target/images/.cache`, which exists from now on.
    ///
    /// # Errors
    /// When there is a link or a file in its place, or it cannot be created.
    pub fn cache(&self, name: &str) -> Result<PathBuf, PrivateError> {
        cache::folder(&self.cache_dir(), name)
    }

    /// `target/images/.cache`, the folder of all caches.
    #[must_use]
    pub fn cache_dir(&self) -> PathBuf {
        self.output_dir().join(".cache")
    }

    /// The packages that have a binary, sorted.
    #[must_use]
    pub fn packages_with_binaries(&self) -> Vec<String> {
        let has_binary =
            |package: &&Package| package.targets.iter().any(|target| target.kind.contains(&TargetKind::Bin));
        let mut names: Vec<String> =
            self.packages.iter().filter(has_binary).map(|package| package.name.to_string()).collect();
        names.sort();
        names
    }

    /// `images`, where the definitions are.
    #[must_use]
    pub fn images_dir(&self) -> PathBuf {
        self.root.join("images")
    }

    /// `target/images`, where finished images are written.
    #[must_use]
    pub fn output_dir(&self) -> PathBuf {
        self.target_dir.join("images")
    }

    /// The names of all images that have a definition, sorted.
    ///
    /// # Errors
    /// When the folder cannot be read; that there is none is no error.
    pub fn image_names(&self) -> anyhow::Result<Vec<String>> {
        let dir = self.images_dir();
        let cannot = || format!("cannot read {}", dir.display());
        let entries = match std::fs::read_dir(&dir) {
            Err(problem) if problem.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.with_context(cannot)?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.with_context(cannot)?;
            // If image.toml is no regular file, opening it reports that.
            if entry.path().join("image.toml").symlink_metadata().is_ok() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// A package of the workspace.
    #[must_use]
    pub fn package(&self, name: &str) -> Option<&Package> {
        self.packages.iter().find(|package| *package.name == name)
    }

    /// A path as it is shown: relative to the workspace where it lies inside.
    #[must_use]
    pub fn show(&self, path: &Path) -> String {
        path.strip_prefix(&self.root).unwrap_or(path).display().to_string()
    }
}

/// The checkout of the toolkit that one of these packages is in.
fn toolkit_among(packages: &[Package]) -> Option<PathBuf> {
    let package = packages.iter().find(|package| *package.name == *"tare-tool")?;
    toolkit::source_of(package.manifest_path.as_std_path())
}

/// Reads a file that others wrote.
///
/// # Errors
/// When it cannot be read or is not TOML.
pub(crate) fn read_toml(path: &Path) -> anyhow::Result<toml::Table> {
    let text = input::read_definition(path.parent().unwrap_or(path), path);
    let text = text.with_context(|| format!("cannot read {}", path.display()))?;
    let parsed: Result<toml::Table, toml::de::Error> = text.parse();
    // Its own text would quote the file.
    parsed.map_err(|error| anyhow!("{} is not TOML: {}", path.display(), error.message()))
}

/// SOURCE_DATE_EPOCH, if it is set.
///
/// # Errors
/// When it is set to something that is not a time.
pub fn source_date_epoch(env: &Environment) -> Result<Option<Epoch>, Hinted> {
    let text = env.variables.get(&OsString::from("SOURCE_DATE_EPOCH"));
    let parsed: Result<_, tare_oci::units::EpochError> =
        text.map(|text| text.to_string_lossy().parse()).transpose();
    let hint = "unset it to use the commit's time, or set it to the output of `git log -1 --format=%ct`";
    parsed.map_err(|error| Hinted::new(format!("SOURCE_DATE_EPOCH: {error}"), hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_date_epoch_must_be_a_time() {
        let env = |value: Option<&str>| Environment {
            variables: value.map(|v| ("SOURCE_DATE_EPOCH".into(), v.into())).into_iter().collect(),
            current_dir: PathBuf::new(),
            parallelism: 1,
        };
        assert_eq!(source_date_epoch(&env(Some("5"))).unwrap().map(Epoch::seconds), Some(5));
        assert_eq!(source_date_epoch(&env(None)).unwrap(), None);
        for bad in ["", "now", "-1"] {
            assert!(source_date_epoch(&env(Some(bad))).is_err(), "{bad:?}");
        }
    }
}
