//! The log: lines on stderr, as text for people or as JSON for what collects them.
//!
//! Nothing is logged for a request, whatever its fate: `/metrics` counts those. A line is written whole and
//! at once; when nobody reads it any more, it is lost and the server goes on.

use std::fmt::{self, Display};
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

/// How important a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The server cannot do what it is there for.
    Error = 1,
    /// It does, but not as it was asked to.
    Warn = 2,
    /// It has started, it stops.
    Info = 3,
    /// Of interest while looking for a fault.
    Debug = 4,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

/// Which lines are written: those of a level and of all that are more important, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filter(Option<Level>);

impl Default for Filter {
    fn default() -> Self {
        Self(Some(Level::Info))
    }
}

impl Filter {
    /// Reads `RUST_LOG`: a level, or a list of `target=level` of which the ones for `app` and for everything
    /// count. `trace` shows no more than `debug`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut found = None;
        for part in text.split(',') {
            let (target, level) = match part.trim_ascii().split_once('=') {
                Some((target, level)) => (Some(target), level),
                None => (None, part.trim_ascii()),
            };
            let level = match level.to_ascii_lowercase().as_str() {
                "off" => Self(None),
                "error" => Self(Some(Level::Error)),
                "warn" => Self(Some(Level::Warn)),
                "info" => Self(Some(Level::Info)),
                "debug" | "trace" => Self(Some(Level::Debug)),
                _ => return None,
            };
            match target {
                // The more particular one wins, wherever it stands.
                Some("app") => return Some(level),
                Some(_) => {}
                None => found = Some(level),
            }
        }
        // A list that speaks only of others leaves this one as it is.
        Some(found.unwrap_or_default())
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.map_or("off", Level::name))
    }
}

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people; whoever reads a container's log adds the time.
    Text,
    /// An object a line.
    Json,
}

impl Format {
    /// The format of a name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Text, Self::Json].into_iter().find(|it| it.name() == name)
    }

    /// As it is called in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// Where lines go. What is written and how may change while the server runs.
#[derive(Debug)]
pub struct Log {
    /// A [`Level`], or 0 for none.
    filter: AtomicU8,
    json: AtomicU8,
}

impl Log {
    /// A log that writes what passes the filter.
    #[must_use]
    pub fn new(filter: Filter, format: Format) -> Self {
        let log = Self { filter: AtomicU8::new(0), json: AtomicU8::new(0) };
        log.set(filter, format);
        log
    }

    /// Changes what is written and how.
    pub fn set(&self, filter: Filter, format: Format) {
        self.filter.store(filter.0.map_or(0, |level| level as u8), Ordering::Relaxed);
        self.json.store(u8::from(format == Format::Json), Ordering::Relaxed);
    }

    /// Writes a line, if lines of its level are written.
    pub fn line(&self, level: Level, message: impl Display) {
        if level as u8 > self.filter.load(Ordering::Relaxed) {
            return;
        }
        let line = if self.json.load(Ordering::Relaxed) == 1 {
            json(SystemTime::now(), level, &message)
        } else {
            text(level, &message)
        };
        let _ = io::stderr().lock().write_all(line.as_bytes());
    }
}

fn text(level: Level, message: &dyn Display) -> String {
    match level {
        Level::Info => format!("{message}\n"),
        Level::Warn => format!("warning: {message}\n"),
        Level::Error | Level::Debug => format!("{}: {message}\n", level.name()),
    }
}

/// The last second of the year 9999.
const LAST: Duration = Duration::from_secs(253_402_300_799);

fn json(now: SystemTime, level: Level, message: &dyn Display) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        time: String,
        level: &'a str,
        message: String,
    }
    // The clock may be wrong by ages, and the form has four digits for the year.
    let time = UNIX_EPOCH + now.duration_since(UNIX_EPOCH).unwrap_or_default().min(LAST);
    let time = humantime::format_rfc3339_seconds(time).to_string();
    let line = Line { time, level: level.name(), message: message.to_string() };
    // Strings have no way to fail.
    serde_json::to_string(&line).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filter_is_a_level_or_the_part_of_a_list_that_is_meant() {
        for (text, expected) in [
            ("info", Some("info")),
            ("DEBUG", Some("debug")),
            ("trace", Some("debug")),
            ("off", Some("off")),
            ("warn,app=error", Some("error")),
            ("app=error,warn", Some("error")),
            ("hyper=debug", Some("info")),
            ("hyper=debug, warn", Some("warn")),
            ("", None),
            ("loud", None),
            ("app=", None),
        ] {
            let found = Filter::parse(text).map(|filter| filter.to_string());
            assert_eq!(found.as_deref(), expected, "{text:?}");
        }
    }

    #[test]
    fn line_of_text_says_what_is_wrong_and_not_that_something_is_said() {
        assert_eq!(text(Level::Info, &"listening"), "listening\n");
        assert_eq!(text(Level::Warn, &"small"), "warning: small\n");
        assert_eq!(text(Level::Error, &"gone"), "error: gone\n");
    }

    #[test]
    fn line_of_json_is_an_object_whatever_the_message() {
        let line = json(UNIX_EPOCH, Level::Warn, &"a \"b\"\nc\u{1}");
        let expected =
            "{\"time\":\"1970-01-01T00:00:00Z\",\"level\":\"warn\",\"message\":\"a \\\"b\\\"\\nc\\u0001\"}\n";
        assert_eq!(line, expected);
        for (time, expected) in [
            (UNIX_EPOCH - Duration::from_secs(1), "1970-01-01T00:00:00Z"),
            (UNIX_EPOCH + Duration::from_secs(951_782_400), "2000-02-29T00:00:00Z"),
            (UNIX_EPOCH + Duration::from_secs(253_402_300_800), "9999-12-31T23:59:59Z"),
        ] {
            let expected = format!("{{\"time\":\"{expected}\",\"level\":\"info\",\"message\":\"a\"}}\n");
            assert_eq!(json(time, Level::Info, &"a"), expected);
        }
    }
}
