//! The environment of the process: variables, current directory, number of CPUs.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The environment of the process. It is read once and passed on.
#[derive(Debug, Clone)]
pub struct Environment {
    /// Every variable.
    pub variables: BTreeMap<OsString, OsString>,
    /// The current directory.
    pub current_dir: PathBuf,
    /// How many threads run at once here.
    pub parallelism: usize,
}

/// The path of the running program.
///
/// # Errors
/// When the system does not know it.
pub fn this_program() -> std::io::Result<PathBuf> {
    std::env::current_exe()
}

/// Tells a part how the user calls the toolkit.
pub const COMMAND_VARIABLE: &str = "TARE_COMMAND";
const COMMANDS: [&str; 2] = ["cargo xtask", "cargo tare"];
static COMMAND: OnceLock<&str> = OnceLock::new();

/// Says that the user called `cargo tare`. Counts before the first [`command`] only.
pub fn called_as_cargo_tare() {
    let _ = COMMAND.set(COMMANDS[1]);
}

/// How the user calls the toolkit, for hints: `cargo xtask` or `cargo tare`.
#[must_use]
pub fn command() -> &'static str {
    COMMAND.get_or_init(|| {
        let named = std::env::var(COMMAND_VARIABLE).unwrap_or_default();
        COMMANDS.into_iter().find(|command| *command == named).unwrap_or(COMMANDS[0])
    })
}

/// cargo's own variable for `--offline` (The Cargo Book, "net.offline").
const OFFLINE: (&str, &str) = ("CARGO_NET_OFFLINE", "true");

/// Variables that bind git to one repository, as hooks have them (`git rev-parse --local-env-vars`). Without them git
/// finds the repository of the folder that it runs in. Configuration in variables, such as `safe.directory`, is kept.
pub const GIT_VARIABLES: [&str; 14] = [
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_CONFIG",
    "GIT_DIR",
    "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_INTERNAL_SUPER_PREFIX",
    "GIT_NO_REPLACE_OBJECTS",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
];

impl Environment {
    /// Reads it.
    ///
    /// # Errors
    /// When the current directory is gone.
    pub fn read() -> std::io::Result<Self> {
        Ok(Self {
            variables: std::env::vars_os().collect(),
            current_dir: std::env::current_dir()?,
            parallelism: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        })
    }

    /// A variable that is set and not empty.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&OsString> {
        self.variables.get(&OsString::from(name)).filter(|value| !value.is_empty())
    }

    /// The same as text. Bytes that are not Unicode become replacement characters.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<String> {
        self.get(name).map(|value| value.to_string_lossy().into_owned())
    }

    /// Lets every cargo that is started from now on work without the network.
    pub fn set_offline(&mut self) {
        self.variables.insert(OFFLINE.0.into(), OFFLINE.1.into());
    }

    /// The variable that keeps cargo from the network, for the environment of a command; none where it is allowed.
    #[must_use]
    pub fn offline(&self) -> Option<(&'static str, &'static str)> {
        (self.get(OFFLINE.0)? == OFFLINE.1).then_some(OFFLINE)
    }

    /// Where the search for the workspace begins: at the package that `cargo run` says it runs, else in
    /// the current directory.
    #[must_use]
    pub fn start_dir(&self) -> PathBuf {
        self.get("CARGO_MANIFEST_DIR").map_or_else(|| self.current_dir.clone(), PathBuf::from)
    }

    /// The cargo to call: the one that called us, so that a toolchain is chosen only once.
    #[must_use]
    pub fn cargo(&self) -> PathBuf {
        self.get("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
    }

    /// Where cargo keeps registries and configuration.
    #[must_use]
    pub fn cargo_home(&self) -> Option<PathBuf> {
        let home = || self.get("HOME").or_else(|| self.get("USERPROFILE"));
        match self.get("CARGO_HOME") {
            // Relative to the current directory, as cargo takes it.
            Some(dir) => Some(self.current_dir.join(dir)),
            None => home().map(|home| Path::new(home).join(".cargo")),
        }
    }

    /// Variables that `cargo run` sets for the package it runs. A cargo called from here sets its own,
    /// and build scripts must not see ours in between.
    pub fn of_cargo_run(&self) -> impl Iterator<Item = &OsString> {
        let prefixes =
            ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_NAME", "CARGO_CRATE_NAME", "CARGO_PRIMARY_PACKAGE"];
        self.variables
            .keys()
            .filter(move |name| prefixes.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)))
    }
}
