//! Finding and reading cargo's configuration files (The Cargo Book, "Configuration": "Hierarchical structure" and
//! "Including extra configuration files").

use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::workspace::read_toml;
use tare_tool::environment::Environment;

/// A configuration file without its `include`.
#[derive(Debug, Clone)]
pub(crate) struct ConfigFile {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// What it says.
    pub(crate) table: toml::Table,
}

/// Every file that cargo reads when it is called in `root`, from the lowest precedence to the highest: CARGO_HOME's,
/// then from the file system's root down to `root`, and each file after those that it includes.
///
/// # Errors
/// When a file cannot be read, is no TOML, or has an `include` that cargo refuses.
pub(super) fn read(root: &Path, env: &Environment) -> anyhow::Result<Vec<ConfigFile>> {
    let mut files = Vec::new();
    for path in places(root, env) {
        load(&path, &mut Vec::new(), &mut files)?;
    }
    Ok(files)
}

/// A file that cargo finds by its place, and every file that it includes.
///
/// # Errors
/// As [`CargoConfig::read`](super::CargoConfig::read).
pub(crate) fn with_included(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    load(path, &mut Vec::new(), &mut files)?;
    Ok(files.into_iter().map(|file| file.path).collect())
}

/// The files that cargo finds by their place, in the same order.
pub(crate) fn places(root: &Path, env: &Environment) -> Vec<PathBuf> {
    let mut dirs: Vec<PathBuf> = root.ancestors().map(|dir| dir.join(".cargo")).collect();
    dirs.reverse();
    let canonical = |dir: &PathBuf| dir.canonicalize().unwrap_or_else(|_| dir.clone());
    let seen: Vec<PathBuf> = dirs.iter().map(canonical).collect();
    if let Some(home) = env.cargo_home().filter(|home| !seen.contains(&canonical(home))) {
        dirs.insert(0, home);
    }
    // The name without an ending is older and wins.
    let candidates = dirs.iter().map(|dir| [dir.join("config"), dir.join("config.toml")]);
    candidates.filter_map(|names| names.into_iter().find(|path| path.is_file())).collect()
}

/// Reads a file after those that it includes. `above` are the files that include it.
fn load(path: &Path, above: &mut Vec<PathBuf>, files: &mut Vec<ConfigFile>) -> anyhow::Result<()> {
    if above.iter().any(|seen| seen == path) {
        bail!("{} includes itself", path.display());
    }
    let mut table = read_toml(path)?;
    let includes = table.remove("include");
    above.push(path.to_path_buf());
    for (included, optional) in included(path, includes.as_ref())? {
        if !optional || included.exists() {
            let from = || format!("`include` in {}", path.display());
            load(&included, above, files).with_context(from)?;
        }
    }
    above.pop();
    files.push(ConfigFile { path: path.to_path_buf(), table });
    Ok(())
}

/// The paths in an `include`, each with whether the file may be absent.
fn included(path: &Path, include: Option<&toml::Value>) -> anyhow::Result<Vec<(PathBuf, bool)>> {
    let entries = match include {
        None => return Ok(Vec::new()),
        Some(toml::Value::Array(entries)) => entries,
        Some(_) => bail!("{}: `include` is no list", path.display()),
    };
    let dir = path.parent().unwrap_or(Path::new(""));
    let parse = |entry: &toml::Value| {
        let optional = entry.get("optional").and_then(toml::Value::as_bool).unwrap_or(false);
        let named = entry.as_str().or_else(|| entry.get("path")?.as_str());
        let named =
            named.with_context(|| format!("{}: `include` has an entry without path", path.display()))?;
        Ok((normalized(&dir.join(named)), optional))
    };
    entries.iter().map(parse).collect()
}

/// A path without `.` and `..`, by its words alone, as cargo has it.
pub(crate) fn normalized(path: &Path) -> PathBuf {
    let mut normalized = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                normalized.pop();
            }
            other => normalized.push(other),
        }
    }
    normalized
}
