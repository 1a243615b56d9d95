//! Everything that can be set, in one table: its name, how it is read, and how it is shown.

use super::Config;
use super::value::Value;

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

const LIVE: bool = true;
/// The sockets and threads are made with it.
const FIXED: bool = false;

const DURATION: &str = "a duration such as 500ms, 30s or 5m";
const SIZE: &str = "a number of bytes such as 4096, 64KiB or 16MiB";

/// A row is `NAME VARIABLE, LIVE, FIELD [in RANGE], EXPECTED, ABOUT;`. The type of the field says how it is written.
macro_rules! keys {
    ($($name:literal $variable:literal, $live:ident, $field:ident $(in $range:expr)?,
        $expected:expr, $about:literal;)*) => {
        /// In the order in which they are shown.
        pub const KEYS: &[Key] = &[$(Key {
            name: $name,
            variable: $variable,
            expected: $expected,
            about: $about,
            live: $live,
            set: |config, text| {
                let value = Value::parse(text)?;
                $(if !($range).contains(&value) {
                    return None;
                })?
                config.$field = value;
                Some(())
            },
            show: |config| config.$field.show(),
        },)*];
    };
}

keys! {
    "address" "TARE_ADDRESS", FIXED, address, "an IP address", "where to listen";
    "port" "PORT", FIXED, port, "a number from 0 to 65535", "0 lets the kernel choose one";
    "sizing" "TARE_SIZING", FIXED, sizing, "measured or article", "the rules for what is not set";
    "workers" "TARE_WORKERS", FIXED, workers in Some(1)..=Some(256),
        "a number from 1 to 256", "threads that serve";
    "pin" "TARE_PIN", FIXED, pin, "true or false", "each worker on a CPU of its own";
    "stack-size" "TARE_STACK_SIZE", FIXED, stack_size in Some(128 << 10)..=Some(1 << 30),
        "a number of bytes from 128KiB to 1GiB", "of each worker but the first";
    "memory" "TARE_MEMORY", FIXED, memory in Some(4 << 20)..,
        "a number of bytes from 4MiB", "to be divided, instead of the container's limit";
    "max-connections" "TARE_MAX_CONNECTIONS", FIXED, max_connections in Some(1)..,
        "a number above 0", "one more is answered 503";
    "backlog" "TARE_BACKLOG", FIXED, backlog in 1..=65_535,
        "a number from 1 to 65535", "connections that wait to be accepted";
    "header-timeout" "TARE_HEADER_TIMEOUT", LIVE, header_timeout, DURATION, "for the whole head of a request";
    "body-timeout" "TARE_BODY_TIMEOUT", LIVE, body_timeout,
        DURATION, "for the first KiB of a body, and a second for each further one";
    "write-timeout" "TARE_WRITE_TIMEOUT", LIVE, write_timeout, DURATION, "the same for an answer";
    "idle-timeout" "TARE_IDLE_TIMEOUT", LIVE, idle_timeout, DURATION, "between requests";
    "linger" "TARE_LINGER", LIVE, linger, DURATION, "while stopping, for requests that are on their way";
    "stop-deadline" "TARE_STOP_DEADLINE", LIVE, stop_deadline, DURATION, "while stopping, for everything";
    "head-limit" "TARE_HEAD_LIMIT", LIVE, head_limit in 1 << 10..=16 << 10,
        "a number of bytes from 1KiB to 16KiB", "a longer head is answered 431, a longer target 414";
    "body-limit" "TARE_BODY_LIMIT", LIVE, body_limit, SIZE, "a longer body is answered 413";
    "files" "TARE_FILES", FIXED, files, "a folder", "what /files/NAME is read from";
    "cache-memory" "TARE_CACHE_MEMORY", FIXED, cache_memory, SIZE, "for cached responses";
    "cache-fresh" "TARE_CACHE_FRESH", LIVE, cache_fresh,
        DURATION, "a cached file is served without a look at the folder";
    "cache-stale" "TARE_CACHE_STALE", LIVE, cache_stale,
        DURATION, "and for so much longer while the folder cannot be read";
    "log" "RUST_LOG", LIVE, log,
        "off, error, warn, info or debug", "the least important line that is written";
    "log-format" "TARE_LOG_FORMAT", LIVE, log_format, "text or json", "lines of text, or of JSON objects";
}
