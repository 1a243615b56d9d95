//! Everything that can be set, in one table: its name, how it is read, and how it is shown.

use std::fmt::Display;
use std::str::FromStr;

use super::Config;
use super::value::{bytes, duration, show_bytes, show_duration};
use crate::log::{Filter, Format};
use crate::sizing::Rules;

/// A setting. Its flag is `--NAME`; its line in the file is `NAME = …`.
pub struct Key {
    /// The name in the file, and behind `--`.
    pub name: &'static str,
    /// The environment variable.
    pub variable: &'static str,
    /// What a value looks like.
    pub expected: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// Whether a running server takes a new value over on SIGHUP.
    pub live: bool,
    /// Takes a value over; none when it is not what is expected.
    pub(super) set: fn(&mut Config, &str) -> Option<()>,
    /// The value as it is set; none when it is left to be decided.
    pub(super) show: fn(&Config) -> Option<String>,
}

const DURATION: &str = "a duration such as 500ms, 30s or 5m";
const SIZE: &str = "a number of bytes such as 4096, 64KiB or 16MiB";
const NUMBER: &str = "a number above 0";

/// Two shapes make up most of the table.
macro_rules! key {
    (duration, $name:literal, $variable:literal, $field:ident, $about:literal) => {
        Key {
            name: $name,
            variable: $variable,
            expected: DURATION,
            about: $about,
            live: true,
            set: |config, text| {
                config.$field = duration(text)?;
                Some(())
            },
            show: |config| Some(show_duration(config.$field)),
        }
    };
    (optional $parse:ident, $name:literal, $variable:literal, $field:ident, $expected:expr, $about:literal) => {
        Key {
            name: $name,
            variable: $variable,
            expected: $expected,
            about: $about,
            live: false,
            set: |config, text| {
                config.$field = Some($parse(text)?);
                Some(())
            },
            show: |config| config.$field.map(|it| it.to_string()),
        }
    };
}

/// In the order in which they are shown.
pub const KEYS: &[Key] = &[
    Key {
        name: "address",
        variable: "TARE_ADDRESS",
        expected: "an IP address",
        about: "where to listen",
        live: false,
        set: |config, text| {
            config.address = text.parse().ok()?;
            Some(())
        },
        show: |config| Some(config.address.to_string()),
    },
    Key {
        name: "port",
        variable: "PORT",
        expected: "a number from 0 to 65535",
        about: "0 lets the kernel choose one",
        live: false,
        set: |config, text| {
            config.port = number(text)?;
            Some(())
        },
        show: |config| Some(config.port.to_string()),
    },
    Key {
        name: "sizing",
        variable: "TARE_SIZING",
        expected: "measured or article",
        about: "the rules for what is not set",
        live: false,
        set: |config, text| {
            config.sizing = match text {
                "measured" => Rules::Measured,
                "article" => Rules::Article,
                _ => return None,
            };
            Some(())
        },
        show: |config| {
            let name = match config.sizing {
                Rules::Measured => "measured",
                Rules::Article => "article",
            };
            Some(name.to_owned())
        },
    },
    key!(optional positive, "workers", "TARE_WORKERS", workers, "a number from 1 to 256", "threads that serve"),
    Key {
        name: "pin",
        variable: "TARE_PIN",
        expected: "true or false",
        about: "each worker on a CPU of its own",
        live: false,
        set: |config, text| {
            config.pin = Some(number(text)?);
            Some(())
        },
        show: |config| config.pin.map(|it| it.to_string()),
    },
    Key {
        name: "stack-size",
        variable: "TARE_STACK_SIZE",
        expected: "a number of bytes from 128KiB to 1GiB",
        about: "of each worker but the first",
        live: false,
        set: |config, text| {
            let size = bytes(text).filter(|size| (128 << 10..=1 << 30).contains(size))?;
            config.stack_size = Some(size);
            Some(())
        },
        show: |config| config.stack_size.map(show_bytes),
    },
    Key {
        name: "memory",
        variable: "TARE_MEMORY",
        expected: "a number of bytes from 4MiB",
        about: "to be divided, instead of the container's limit",
        live: false,
        set: |config, text| {
            config.memory = Some(bytes(text).filter(|size| *size >= 4 << 20)?);
            Some(())
        },
        show: |config| config.memory.map(show_bytes),
    },
    key!(optional connections, "max-connections", "TARE_MAX_CONNECTIONS", max_connections, NUMBER, "one more is answered 503"),
    Key {
        name: "backlog",
        variable: "TARE_BACKLOG",
        expected: "a number from 1 to 65535",
        about: "connections that wait to be accepted",
        live: false,
        set: |config, text| {
            config.backlog = number(text).filter(|it| (1..=65_535).contains(it))?;
            Some(())
        },
        show: |config| Some(config.backlog.to_string()),
    },
    key!(
        duration,
        "header-timeout",
        "TARE_HEADER_TIMEOUT",
        header_timeout,
        "for the whole head of a request"
    ),
    key!(
        duration,
        "body-timeout",
        "TARE_BODY_TIMEOUT",
        body_timeout,
        "for the first KiB of a body, and a second for each further one"
    ),
    key!(duration, "write-timeout", "TARE_WRITE_TIMEOUT", write_timeout, "the same for an answer"),
    key!(duration, "idle-timeout", "TARE_IDLE_TIMEOUT", idle_timeout, "between requests"),
    key!(duration, "linger", "TARE_LINGER", linger, "while stopping, for requests that are on their way"),
    key!(duration, "stop-deadline", "TARE_STOP_DEADLINE", stop_deadline, "while stopping, for everything"),
    Key {
        name: "head-limit",
        variable: "TARE_HEAD_LIMIT",
        expected: "a number of bytes from 1KiB to 16KiB",
        about: "a longer head is answered 431, a longer target 414",
        live: true,
        set: |config, text| {
            let limit = bytes(text).filter(|limit| (1 << 10..=16 << 10).contains(limit))?;
            config.head_limit = usize::try_from(limit).ok()?;
            Some(())
        },
        show: |config| Some(show_bytes(config.head_limit as u64)),
    },
    Key {
        name: "body-limit",
        variable: "TARE_BODY_LIMIT",
        expected: SIZE,
        about: "a longer body is answered 413",
        live: true,
        set: |config, text| {
            config.body_limit = bytes(text)?;
            Some(())
        },
        show: |config| Some(show_bytes(config.body_limit)),
    },
    Key {
        name: "files",
        variable: "TARE_FILES",
        expected: "a folder",
        about: "what /files/NAME is read from",
        live: false,
        set: |config, text| {
            config.files = Some(Some(text).filter(|it| !it.is_empty())?.into());
            Some(())
        },
        show: |config| config.files.as_ref().map(|it| it.display().to_string()),
    },
    Key {
        name: "cache-memory",
        variable: "TARE_CACHE_MEMORY",
        expected: SIZE,
        about: "for cached responses",
        live: false,
        set: |config, text| {
            config.cache_memory = Some(bytes(text)?);
            Some(())
        },
        show: |config| config.cache_memory.map(show_bytes),
    },
    key!(
        duration,
        "cache-fresh",
        "TARE_CACHE_FRESH",
        cache_fresh,
        "a cached file is served without a look at the folder"
    ),
    key!(
        duration,
        "cache-stale",
        "TARE_CACHE_STALE",
        cache_stale,
        "and for so much longer while the folder cannot be read"
    ),
    Key {
        name: "log",
        variable: "RUST_LOG",
        expected: "off, error, warn, info or debug",
        about: "the least important line that is written",
        live: true,
        set: |config, text| {
            config.log = Filter::parse(text)?;
            Some(())
        },
        show: |config| Some(config.log.to_string()),
    },
    Key {
        name: "log-format",
        variable: "TARE_LOG_FORMAT",
        expected: "text or json",
        about: "lines of text, or of JSON objects",
        live: true,
        set: |config, text| {
            config.log_format = match text {
                "text" => Format::Text,
                "json" => Format::Json,
                _ => return None,
            };
            Some(())
        },
        show: |config| {
            let name = match config.log_format {
                Format::Text => "text",
                Format::Json => "json",
            };
            Some(name.to_owned())
        },
    },
];

fn number<T: FromStr + Display>(text: &str) -> Option<T> {
    // `+1` and `01` would read as numbers too, and show as others.
    text.parse::<T>().ok().filter(|number| number.to_string() == text)
}

fn positive(text: &str) -> Option<usize> {
    number(text).filter(|number| (1..=256).contains(number))
}

fn connections(text: &str) -> Option<usize> {
    number(text).filter(|number| *number > 0)
}
