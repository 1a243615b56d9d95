//! What can be set, and from where: built-in values, a file, the environment, the command line, each
//! stronger than the one before.
//!
//! Nothing here reads a file or the environment: that is left to the program, which passes the text on.

mod args;
mod file;
mod keys;
mod value;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

pub use args::{Arguments, Command, UnknownArgument};
pub use keys::{KEYS, Key};

use crate::log::{Filter, Format};
use crate::sizing::{BACKLOG, Rules};

/// Where the configuration layer of the image puts the file.
pub const FILE: &str = "/app/config.toml";
/// The variable that names another file.
pub const FILE_VARIABLE: &str = "TARE_CONFIG";

/// Every setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where to listen.
    pub address: IpAddr,
    /// The port; 0 lets the kernel choose one.
    pub port: u16,
    /// Which rules decide what is not set.
    pub sizing: Rules,
    /// Threads that serve.
    pub workers: Option<usize>,
    /// Whether each worker has a CPU of its own.
    pub pin: Option<bool>,
    /// Bytes of stack of each worker but the first.
    pub stack_size: Option<u64>,
    /// Bytes of memory to be divided, instead of the container's limit.
    pub memory: Option<u64>,
    /// Connections at a time.
    pub max_connections: Option<usize>,
    /// Connections that wait to be accepted.
    pub backlog: u32,
    /// How long a client may take to send the head of a request, from its first byte, or from the start of
    /// the connection for the first one.
    pub header_timeout: Duration,
    /// How long it may take for the first KiB of a body; each further one gives it a second more.
    pub body_timeout: Duration,
    /// The same for reading an answer.
    pub write_timeout: Duration,
    /// How long a connection may stay open without a request.
    pub idle_timeout: Duration,
    /// Once told to stop, how long a connection stays open for a request that may already be on its way.
    /// The answer then asks the client to close, so a busy client loses nothing.
    pub linger: Duration,
    /// Once told to stop, how long all of it may take. Docker kills a container after 10 seconds.
    pub stop_deadline: Duration,
    /// Bytes of a request's head.
    pub head_limit: u64,
    /// Bytes of a request's body.
    pub body_limit: u64,
    /// The folder of `/files/`.
    pub files: Option<PathBuf>,
    /// Bytes of cached responses.
    pub cache_memory: Option<u64>,
    /// How long a cached file is served without a look at the folder.
    pub cache_fresh: Duration,
    /// For how much longer it is served while the folder cannot be read.
    pub cache_stale: Duration,
    /// The least important line that is logged.
    pub log: Filter,
    /// How lines are written.
    pub log_format: Format,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            address: Ipv4Addr::UNSPECIFIED.into(),
            port: 60_000,
            sizing: Rules::default(),
            workers: None,
            pin: None,
            stack_size: None,
            memory: None,
            max_connections: None,
            backlog: BACKLOG,
            header_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(300),
            linger: Duration::from_secs(1),
            stop_deadline: Duration::from_secs(9),
            head_limit: 8 << 10,
            body_limit: 1 << 20,
            files: None,
            cache_memory: None,
            cache_fresh: Duration::from_secs(60),
            cache_stale: Duration::from_secs(86_400),
            log: Filter::default(),
            log_format: Format::Text,
        }
    }
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    BuiltIn,
    /// A file, by its path and line.
    File(PathBuf, usize),
    /// An environment variable.
    Environment(&'static str),
    /// A flag.
    Flag,
}

/// A file that is no TOML, a value that is none, or a name that nothing has. It is one line, whatever the value.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{place}: {fault}")]
pub struct ConfigError {
    /// A file with its line, the environment, the command line.
    place: String,
    fault: String,
}

/// A configuration and where each of its values comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layers {
    /// The outcome.
    pub config: Config,
    origins: BTreeMap<&'static str, Origin>,
}

impl Default for Layers {
    fn default() -> Self {
        Self::new()
    }
}

impl Layers {
    /// The built-in values.
    #[must_use]
    pub fn new() -> Self {
        Self { config: Config::default(), origins: BTreeMap::new() }
    }

    /// Where a setting comes from.
    #[must_use]
    pub fn origin(&self, key: &str) -> &Origin {
        self.origins.get(key).unwrap_or(&Origin::BuiltIn)
    }

    /// Adds the text of a file.
    ///
    /// # Errors
    /// When it is not TOML, or a name or value in it is wrong.
    pub fn file(&mut self, file: &Path, text: &str) -> Result<(), ConfigError> {
        let line_of = |at: usize| text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1;
        let place = |at: usize| format!("{}:{}", file.display(), line_of(at));
        let assignments = file::assignments(text)
            .map_err(|(at, message)| ConfigError { place: place(at), fault: message })?;
        for assignment in assignments {
            let place = place(assignment.at);
            let Some(key) = KEYS.iter().find(|key| key.name == assignment.name) else {
                let fault = format!("there is no setting {:?}", assignment.name);
                return Err(ConfigError { place, fault });
            };
            let value = assignment.value.as_deref();
            self.set(key, value, Origin::File(file.to_path_buf(), line_of(assignment.at)))
                .ok_or_else(|| wrong(place, key.name, value.unwrap_or(assignment.written), key))?;
        }
        Ok(())
    }

    /// Adds the variables that are set, of which `variable` tells the values.
    ///
    /// # Errors
    /// When a value is wrong.
    pub fn environment(&mut self, variable: impl Fn(&str) -> Option<String>) -> Result<(), ConfigError> {
        for key in KEYS {
            if let Some(value) = variable(key.variable) {
                self.set(key, Some(&value), Origin::Environment(key.variable))
                    .ok_or_else(|| wrong("environment".to_owned(), key.variable, &value, key))?;
            }
        }
        Ok(())
    }

    /// Adds the flags.
    ///
    /// # Errors
    /// When a value is wrong.
    pub fn flags(&mut self, flags: &[(&'static Key, String)]) -> Result<(), ConfigError> {
        for (key, value) in flags {
            let name = || format!("--{}", key.name);
            self.set(key, Some(value), Origin::Flag)
                .ok_or_else(|| wrong("command line".to_owned(), &name(), value, key))?;
        }
        Ok(())
    }

    fn set(&mut self, key: &Key, value: Option<&str>, origin: Origin) -> Option<()> {
        (key.set)(&mut self.config, value?)?;
        self.origins.insert(key.name, origin);
        Some(())
    }

    /// The outcome as a file that says the same, each line with where it comes from.
    #[must_use]
    pub fn show(&self) -> String {
        KEYS.iter().map(|key| self.line(key)).collect()
    }

    fn line(&self, key: &Key) -> String {
        let Some(value) = (key.show)(&self.config) else {
            return format!("# {:<42} # left to `sizing`\n", format!("{} is not set", key.name));
        };
        let is_plain = value == "true" || value == "false" || value.bytes().all(|it| it.is_ascii_digit());
        let value = if is_plain { value } else { format!("{value:?}") };
        let origin = match self.origin(key.name) {
            Origin::BuiltIn => "built in".to_owned(),
            Origin::File(file, line) => format!("{}:{line}", file.display()),
            Origin::Environment(variable) => variable.to_string(),
            Origin::Flag => format!("--{}", key.name),
        };
        format!("{:<44} # {origin}\n", format!("{} = {value}", key.name))
    }

    /// The names of settings that differ in `new` and that a running server cannot take over.
    #[must_use]
    pub fn need_restart(&self, new: &Self) -> Vec<&'static str> {
        let differs = |key: &&Key| (key.show)(&self.config) != (key.show)(&new.config);
        KEYS.iter().filter(|key| !key.live).filter(differs).map(|key| key.name).collect()
    }
}

fn wrong(place: String, name: &str, value: &str, key: &Key) -> ConfigError {
    // Whatever a value is, the line stays one of readable length.
    let value: String = value.chars().take(100).collect();
    ConfigError { place, fault: format!("{name} = {value:?} is not {}", key.expected) }
}

#[cfg(test)]
mod tests;
