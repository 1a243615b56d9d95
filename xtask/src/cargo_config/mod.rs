//! The user's own cargo configuration: files and environment, as cargo joins them.
//!
//! The files are read here by cargo's rules, because `cargo config get` is unstable and cargo-config2 (0.1.45) knows
//! neither `include` nor `[profile]`.

pub(crate) mod files;

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use cargo_metadata::cargo_platform::{self, Cfg};

use files::ConfigFile;
use tare_tool::environment::Environment;
use tare_tool::process::{Execute as _, cmd, shell_in};

/// Everything that configures cargo in a workspace.
#[derive(Debug, Clone)]
pub(crate) struct CargoConfig<'a> {
    /// From the lowest precedence to the highest.
    files: Vec<ConfigFile>,
    env: &'a Environment,
    root: PathBuf,
}

/// Where a value of the configuration comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// An environment variable.
    Variable(String),
    /// A configuration file.
    File(PathBuf),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name) => f.write_str(name),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

impl<'a> CargoConfig<'a> {
    /// Reads what counts for cargo when it is called in `root`.
    ///
    /// # Errors
    /// When a file cannot be read or understood.
    pub(crate) fn read(root: &Path, env: &'a Environment) -> anyhow::Result<Self> {
        Ok(Self { files: files::read(root, env)?, env, root: root.to_path_buf() })
    }

    /// One value. The environment wins, then the file of the highest precedence.
    pub(crate) fn scalar(&self, key: &[&str]) -> Option<(toml::Value, Origin)> {
        let name = variable(key);
        if let Some(text) = self.unicode(&name) {
            return Some((of_text(text), Origin::Variable(name)));
        }
        let mut found = self.files.iter().rev().filter_map(|file| Some((get(&file.table, key)?, file)));
        found.next().map(|(value, file)| (value.clone(), Origin::File(file.path.clone())))
    }

    /// A list of words. Lists of several files join, one string replaces another, and the environment comes last.
    fn list(&self, key: &[&str]) -> Vec<String> {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let mut list = Vec::new();
        for value in self.files.iter().filter_map(|file| get(&file.table, key)) {
            match value {
                toml::Value::String(text) => list = words(text),
                toml::Value::Array(more) => {
                    list.extend(more.iter().filter_map(|word| word.as_str().map(str::to_owned)));
                }
                _ => {}
            }
        }
        list.extend(self.unicode(&variable(key)).map(words).unwrap_or_default());
        list
    }

    /// Every table of that name in a file, with the file.
    pub(crate) fn tables<'b>(
        &'b self,
        key: &'b [&'b str],
    ) -> impl Iterator<Item = (&'b toml::Table, &'b Path)> {
        let table = |file: &'b ConfigFile| Some((get(&file.table, key)?.as_table()?, file.path.as_path()));
        self.files.iter().filter_map(table)
    }

    /// Whether a file or variable says anything below a table.
    pub(crate) fn has_table(&self, key: &[&str]) -> bool {
        let begins = format!("{}_", variable(key));
        self.tables(key).next().is_some()
            || self.env.variables.keys().any(|name| name.to_string_lossy().starts_with(&begins))
    }

    /// A variable that cargo's children see: of the environment, or from `[env]`.
    pub(crate) fn child_variable(&self, name: &str) -> Option<String> {
        let configured = self.files.iter().rev().find_map(|file| get(&file.table, &["env", name]));
        let value = configured.and_then(|value| value.as_str().or_else(|| value.get("value")?.as_str()));
        let forced = configured.and_then(|value| value.get("force")?.as_bool()).unwrap_or(false);
        match (self.env.text(name), value) {
            (Some(own), _) if !forced => Some(own),
            (own, configured) => configured.map(str::to_owned).or(own),
        }
    }

    /// A path of a file, which is relative to the folder that `.cargo` is in.
    pub(crate) fn path(&self, value: &str, file: &Path) -> PathBuf {
        let base = file.parent().and_then(Path::parent).unwrap_or(&self.root);
        files::normalized(&base.join(value))
    }

    /// The folders of `paths`, whose packages replace others of their names.
    pub(crate) fn override_paths(&self) -> Vec<PathBuf> {
        let lists = self.files.iter().filter_map(|file| Some((file.table.get("paths")?.as_array()?, file)));
        let paths =
            lists.flat_map(|(list, file)| list.iter().filter_map(move |path| Some((path.as_str()?, file))));
        paths.map(|(path, file)| self.path(path, &file.path)).collect()
    }

    /// The flags that cargo would give to rustc for a target. One source alone counts, the first that is there.
    pub(crate) fn rustflags(&self, target: &str) -> Vec<String> {
        if let Some(flags) = self.unicode("CARGO_ENCODED_RUSTFLAGS") {
            return flags.split('\u{1f}').filter(|_| !flags.is_empty()).map(str::to_owned).collect();
        }
        if let Some(flags) = self.unicode("RUSTFLAGS") {
            return flags
                .split(' ')
                .map(str::trim)
                .filter(|word| !word.is_empty())
                .map(str::to_owned)
                .collect();
        }
        let mut of_target = self.list(&["target", target, "rustflags"]);
        for name in self.applicable_cfgs(target) {
            of_target.extend(self.list(&["target", &name, "rustflags"]));
        }
        if of_target.is_empty() { self.list(&["build", "rustflags"]) } else { of_target }
    }

    /// Whether the user says how a target is linked: by a linker, or by flags for one.
    pub(crate) fn has_linker(&self, target: &str) -> bool {
        let named = |name: &str| self.scalar(&["target", name, "linker"]).is_some();
        named(target)
            || self.applicable_cfgs(target).iter().any(|name| named(name))
            || self.rustflags(target).iter().any(|flag| flag.contains("link-arg") || flag.contains("linker"))
    }

    /// The keys `cfg(…)` of `[target]` that hold for a target, sorted as cargo sorts them.
    fn applicable_cfgs(&self, target: &str) -> Vec<String> {
        let tables = self.tables(&["target"]).flat_map(|(table, _)| table.keys());
        let names: BTreeSet<&String> = tables.filter(|name| name.starts_with("cfg(")).collect();
        if names.is_empty() {
            return Vec::new();
        }
        let cfgs = self.cfgs(target);
        let applies = |name: &&String| {
            cargo_platform::Platform::from_str(name).is_ok_and(|platform| platform.matches(target, &cfgs))
        };
        names.into_iter().filter(applies).cloned().collect()
    }

    /// What rustc says of a target, or else what any musl target has.
    fn cfgs(&self, target: &str) -> Vec<Cfg> {
        let rustc = self.rustc();
        let asked = shell_in(&self.root)
            .and_then(|sh| cmd!(sh, "{rustc} --print cfg --target {target}").capture_text())
            .unwrap_or_default();
        let arch = target.split('-').next().unwrap_or_default();
        let known = format!(
            "unix\ntarget_os=\"linux\"\ntarget_family=\"unix\"\ntarget_env=\"musl\"\ntarget_arch=\"{arch}\"\n\
             target_endian=\"little\"\ntarget_pointer_width=\"64\"\ntarget_vendor=\"unknown\""
        );
        let text = if asked.is_empty() { known } else { asked };
        text.lines().filter_map(|cfg| cfg.parse().ok()).collect()
    }

    /// The compiler that cargo calls.
    pub(crate) fn rustc(&self) -> PathBuf {
        if let Some(rustc) = self.env.get("RUSTC") {
            return rustc.into();
        }
        match self.scalar(&["build", "rustc"]) {
            Some((toml::Value::String(rustc), Origin::File(file))) if rustc.contains('/') => {
                self.path(&rustc, &file)
            }
            Some((toml::Value::String(rustc), _)) => rustc.into(),
            _ => "rustc".into(),
        }
    }

    /// The wrapper that cargo calls the compiler through, if there is one.
    pub(crate) fn rustc_wrapper(&self) -> Option<PathBuf> {
        // An empty variable turns off what the files say.
        if let Some(wrapper) = self.unicode("RUSTC_WRAPPER") {
            return (!wrapper.is_empty()).then(|| wrapper.into());
        }
        match self.scalar(&["build", "rustc-wrapper"])? {
            (toml::Value::String(wrapper), Origin::File(file)) if wrapper.contains('/') => {
                Some(self.path(&wrapper, &file))
            }
            (toml::Value::String(wrapper), _) if !wrapper.is_empty() => Some(wrapper.into()),
            _ => None,
        }
    }

    /// A variable that is set, even to nothing. Like cargo, passes over one that is not Unicode.
    fn unicode(&self, name: &str) -> Option<&str> {
        self.env.variables.get(std::ffi::OsStr::new(name))?.to_str()
    }
}

/// The variable of a key (The Cargo Book, "Environment variables").
fn variable(key: &[&str]) -> String {
    format!("CARGO_{}", key.join("_").to_uppercase().replace(['-', '.'], "_"))
}

/// A variable's text as cargo understands it.
fn of_text(text: &str) -> toml::Value {
    match (text, text.parse()) {
        ("true", _) => true.into(),
        ("false", _) => false.into(),
        (_, Ok(number)) => toml::Value::Integer(number),
        _ => text.into(),
    }
}

fn get<'a>(table: &'a toml::Table, key: &[&str]) -> Option<&'a toml::Value> {
    let (last, tables) = key.split_last()?;
    let within = tables.iter().try_fold(table, |table, name| table.get(*name)?.as_table())?;
    within.get(*last)
}

#[cfg(test)]
mod tests;
