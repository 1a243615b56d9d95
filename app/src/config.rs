//! What can be set: the waiting times of the server, the `PORT` variable and the command line.
//!
//! Nothing here reads the environment: that is left to the program, which passes it on.

use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::time::Duration;

/// The port when `PORT` is not set.
pub const DEFAULT_PORT: u16 = 60_000;

/// How long the server waits for its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// How long a client may take to send the head of a request; an idle connection is closed after as
    /// long.
    pub header_read_timeout: Duration,
    /// Once told to stop, how long a connection stays open for a request that may already be on its way.
    /// The answer then asks the client to close, so a busy client loses nothing.
    pub linger: Duration,
    /// Once told to stop, how long all of it may take. Docker kills a container after 10 seconds.
    pub stop_deadline: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            header_read_timeout: Duration::from_secs(30),
            linger: Duration::from_secs(1),
            stop_deadline: Duration::from_secs(10),
        }
    }
}

/// Reads the value of the `PORT` variable. Port 0 lets the kernel choose one.
///
/// # Errors
/// When the value is not a number from 0 to 65535.
pub fn port(value: Option<&OsStr>) -> Result<u16, InvalidPort> {
    let Some(value) = value else {
        return Ok(DEFAULT_PORT);
    };
    let value = value.to_string_lossy();
    value.parse().map_err(|_| InvalidPort(value.into_owned()))
}

/// The value of `PORT` is not a port number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidPort(String);

impl InvalidPort {
    /// What to do about it.
    pub const HINT: &str = "set PORT to a number from 0 to 65535, or leave it unset for 60000";
}

impl fmt::Display for InvalidPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PORT is not a port number: {:?}", self.0)
    }
}

impl Error for InvalidPort {}

/// What the program is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Serve until a signal comes.
    Serve,
    /// Ask the server of the same container whether it is well.
    Health,
    /// Explain the command line.
    Help,
    /// Print the version.
    Version,
}

impl Command {
    /// Reads the arguments that follow the program's name.
    ///
    /// # Errors
    /// When an argument is unknown or one too many.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, UnknownArgument> {
        let mut arguments = arguments.into_iter();
        let Some(first) = arguments.next() else {
            return Ok(Self::Serve);
        };
        let command = match first.to_str() {
            Some("--health") => Self::Health,
            Some("--help" | "-h") => Self::Help,
            Some("--version" | "-V") => Self::Version,
            _ => return Err(UnknownArgument(first)),
        };
        match arguments.next() {
            None => Ok(command),
            Some(extra) => Err(UnknownArgument(extra)),
        }
    }
}

/// An argument the program does not know, or has no use for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownArgument(OsString);

impl UnknownArgument {
    /// What to do about it.
    pub const HINT: &str = "run it with --help to see what it takes";
}

impl fmt::Display for UnknownArgument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unexpected argument: {:?}", self.0)
    }
}

impl Error for UnknownArgument {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_is_a_number_of_16_bits_or_the_default() {
        let bad = |value: &str| Err(InvalidPort(value.to_owned()));
        for (value, expected) in [
            (None, Ok(60_000)),
            (Some("8080"), Ok(8080)),
            (Some("0"), Ok(0)),
            (Some("65535"), Ok(65_535)),
            (Some("65536"), bad("65536")),
            (Some("-1"), bad("-1")),
            (Some(""), bad("")),
            (Some("80 "), bad("80 ")),
        ] {
            assert_eq!(port(value.map(OsStr::new)), expected, "PORT={value:?}");
        }
    }

    #[test]
    fn command_line_is_one_known_argument_or_none() {
        let unknown = |argument: &str| Err(UnknownArgument(argument.into()));
        for (arguments, expected) in [
            (vec![], Ok(Command::Serve)),
            (vec!["--health"], Ok(Command::Health)),
            (vec!["--help"], Ok(Command::Help)),
            (vec!["-h"], Ok(Command::Help)),
            (vec!["--version"], Ok(Command::Version)),
            (vec!["-V"], Ok(Command::Version)),
            (vec!["serve"], unknown("serve")),
            (vec![""], unknown("")),
            (vec!["--health", "--help"], unknown("--help")),
        ] {
            let given = arguments.iter().map(OsString::from);
            assert_eq!(Command::parse(given), expected, "{arguments:?}");
        }
    }
}
