//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use thiserror::Error;

use super::keys::{KEYS, Key};

/// What the program is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Command {
    /// Serve until a signal comes.
    #[default]
    Serve,
    /// Ask the server of the same container whether it is well.
    Health,
    /// Show the settings.
    PrintConfig,
    /// Explain the command line.
    Help,
    /// Print the version.
    Version,
}

/// The command line, read.
#[derive(Default)]
pub struct Arguments {
    /// What to do.
    pub command: Command,
    /// Another configuration file; it has to be there.
    pub file: Option<PathBuf>,
    /// Settings, in the order in which they were given.
    pub flags: Vec<(&'static Key, String)>,
}

impl Arguments {
    /// Reads the arguments that follow the program's name.
    ///
    /// # Errors
    /// When one is unknown, has no value, or asks for a second thing to do.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, UnknownArgument> {
        let mut parsed = Self::default();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let unknown = || UnknownArgument(argument.clone());
            let text = argument.to_str().ok_or_else(unknown)?;
            let command = match text {
                "--health" => Some(Command::Health),
                "--print-config" => Some(Command::PrintConfig),
                "--help" | "-h" => Some(Command::Help),
                "--version" | "-V" => Some(Command::Version),
                _ => None,
            };
            if let Some(command) = command {
                if parsed.command != Command::Serve {
                    return Err(unknown());
                }
                parsed.command = command;
                continue;
            }
            let (name, value) = match text.split_once('=') {
                Some((name, value)) => (name, Some(OsString::from(value))),
                None => (text, None),
            };
            let name = name.strip_prefix("--").ok_or_else(unknown)?;
            let key = KEYS.iter().find(|key| key.name == name);
            if key.is_none() && name != "config" {
                return Err(unknown());
            }
            let value = value.or_else(|| arguments.next()).ok_or_else(unknown)?;
            match key {
                // What is no text is no value either, and shows as what it is.
                Some(key) => parsed.flags.push((key, value.to_string_lossy().into_owned())),
                None => parsed.file = Some(value.into()),
            }
        }
        Ok(parsed)
    }
}

/// An argument the program does not know, or has no use for, or that lacks its value.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("unexpected argument: {0:?}")]
pub struct UnknownArgument(pub(crate) OsString);

impl UnknownArgument {
    /// What to do about it.
    pub const HINT: &str = "run it with --help to see what it takes";
}
