//! What can be wrong with a profile, whether it comes from a file, a command line or another program.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;

use tare_container::Tightening;
use tare_oci::units::{ByteSize, Nanoseconds};

use super::values::{Load, Protocol};
use super::{DensityOptions, EdgeOptions, IsolationOptions, Profile, table};

/// A value of a profile that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Problem {
    /// Where it stands: `throughput`, `requests`, `0`, `weight`.
    pub key: Vec<String>,
    /// What is wrong.
    pub message: String,
    /// What to do, if that is known.
    pub hint: Option<String>,
}

impl Problem {
    pub(super) fn new(key: &str, message: impl Into<String>) -> Self {
        let key = key.split('.').map(str::to_owned).collect();
        Self { key, message: message.into(), hint: None }
    }
}

/// An error at `key` unless the value is good.
fn ensure(key: &str, good: bool, message: impl FnOnce() -> String) -> Result<(), Problem> {
    if good { Ok(()) } else { Err(Problem::new(key, message())) }
}

fn within<T: PartialOrd + Display + Copy>(
    key: &str,
    value: T,
    range: RangeInclusive<T>,
) -> Result<(), Problem> {
    let name = key.rsplit('.').next().unwrap_or(key);
    let message =
        || format!("`{name}` is {value}, which is not between {} and {}", range.start(), range.end());
    ensure(key, range.contains(&value), message)
}

fn duration(key: &str, duration: Nanoseconds) -> Result<(), Problem> {
    within(key, duration, Nanoseconds(100_000_000)..=Nanoseconds(3_600_000_000_000))
}

fn path(key: &str, path: &str) -> Result<(), Problem> {
    let good = path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic());
    ensure(key, good, || format!("`{path}` is not a path: begin with `/` and escape what is not ASCII"))
}

/// RFC 9110, section 5.6.2.
fn is_token(text: &str) -> bool {
    let known = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.bytes().all(known)
}

impl Profile {
    /// Whether every value can be.
    ///
    /// # Errors
    /// The first that cannot.
    pub fn check(&self) -> Result<(), Problem> {
        let Self { ready, startup, throughput, .. } = self;
        ensure("limits", !self.limits.is_empty(), || "there are none".to_owned())?;
        for (number, limits) in self.limits.iter().enumerate() {
            let checked = limits.clone().checked();
            checked
                .map_err(|error| Problem::new(&format!("limits.{number}.{}", error.field), error.message))?;
        }
        ensure("passes", !self.passes.is_empty(), || "a profile without passes measures nothing".to_owned())?;
        container(&self.container)?;
        within("rounds", self.rounds, 1..=100)?;
        if let Some(subject) = self.subject.as_ref().filter(|_| !self.images.is_empty()) {
            let message = || format!("the subject `{subject}` is not among the profile's images");
            ensure("subject", self.images.contains(subject), message)?;
        }
        for (number, image) in self.images.iter().enumerate() {
            let before = &self.images[..number];
            ensure("images", !before.contains(image), || format!("the image `{image}` stands twice"))?;
        }
        table::check(&self.table, &self.images)?;
        let method = &ready.method;
        ensure("ready.method", is_token(method), || format!("`{method}` is not a method"))?;
        path("ready.path", &ready.path)?;
        headers("ready.headers", &ready.headers)?;
        within("ready.port", ready.port.unwrap_or(1), 1..=u16::MAX)?;
        within("ready.status", ready.status, 100..=599)?;
        duration("ready.timeout", ready.timeout)?;
        within("startup.runs", startup.runs, 1..=10_000)?;
        within("instructions.requests", self.instructions.requests, 10..=1_000_000)?;
        within("instructions.runs", self.instructions.runs, 1..=100)?;
        loads(&throughput.loads)?;
        // One address has 64 K ports.
        within("throughput.connections", throughput.connections, 1..=60_000)?;
        duration("throughput.duration", throughput.duration)?;
        duration("throughput.timeout", throughput.timeout)?;
        within("throughput.pipeline", throughput.pipeline, 1..=1024)?;
        if !throughput.keep_alive {
            let key = "throughput.keep-alive";
            ensure(key, throughput.pipeline == 1, || "a pipeline needs `keep-alive`".to_owned())?;
            let http1 = throughput.protocol == Protocol::Http1;
            ensure(key, http1, || "h2 has no connections without `keep-alive`".to_owned())?;
        }
        ensure("throughput.requests", !throughput.requests.is_empty(), || "there are none".to_owned())?;
        for (number, request) in throughput.requests.iter().enumerate() {
            let key = |field: &str| format!("throughput.requests.{number}.{field}");
            let method = &request.method;
            ensure(&key("method"), is_token(method), || format!("`{method}` is not a method"))?;
            path(&key("path"), &request.path)?;
            headers(&key("headers"), &request.headers)?;
            within(&key("weight"), request.weight, 1..=10_000)?;
            within(&key("status"), request.status, 100..=599)?;
        }
        density(&self.density)?;
        isolation(&self.isolation)?;
        edge(&self.edge)
    }
}

fn headers(key: &str, headers: &BTreeMap<String, String>) -> Result<(), Problem> {
    // They say where the request ends, which is known.
    const OURS: [&str; 4] = ["content-length", "connection", "transfer-encoding", "expect"];
    for (name, value) in headers {
        ensure(key, is_token(name), || format!("`{name}` is not a header"))?;
        let free = !OURS.iter().any(|ours| name.eq_ignore_ascii_case(ours));
        ensure(key, free, || format!("the header `{name}` is the generator's to set"))?;
        let plain = !value.contains(|c: char| c.is_control() && c != '\t');
        ensure(key, plain, || format!("the value of `{name}` has a control character"))?;
    }
    Ok(())
}

fn container(container: &Tightening) -> Result<(), Problem> {
    for (key, paths) in [("container.tmpfs", &container.tmpfs), ("container.volumes", &container.volumes)] {
        paths.iter().try_for_each(|path| folder(key, path))?;
    }
    for (name, value) in &container.sysctls {
        let known = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let good = name.contains('.') && name.chars().all(known) && !name.split('.').any(str::is_empty);
        ensure("container.sysctls", good, || {
            format!("`{name}` is not a kernel parameter: write it as in sysctl(8)")
        })?;
        let plain = !value.contains(char::is_control);
        ensure("container.sysctls", plain, || format!("the value of `{name}` has a control character"))?;
    }
    if let Some(user) = &container.user {
        let good = !user.is_empty() && !user.starts_with('-') && !user.contains(char::is_whitespace);
        ensure("container.user", good, || format!("`{user}` is not a user: write UID, UID:GID or a name"))?;
    }
    Ok(())
}

fn density(options: &DensityOptions) -> Result<(), Problem> {
    let DensityOptions { most, memory, idle_cpus, start } = options;
    // Each copy is a process of ours, with a thread and some open files.
    within("density.most", *most, 1..=1000)?;
    within("density.memory", *memory, ByteSize(1 << 20)..=ByteSize(1 << 44))?;
    ensure("density.idle-cpus", idle_cpus.is_finite() && *idle_cpus > 0.0, || {
        format!("`idle-cpus` is {idle_cpus}, which is not a number of CPUs above 0")
    })?;
    duration("density.start", *start)
}

fn isolation(options: &IsolationOptions) -> Result<(), Problem> {
    let IsolationOptions { load, rounds, duration: length } = options;
    ensure("isolation.load", *load != Load::Closed, || {
        "a closed loop has no fixed rate: write a share such as `30%`, or a rate such as `1000/s`".to_owned()
    })?;
    within("isolation.rounds", *rounds, 1..=1000)?;
    duration("isolation.duration", *length)
}

fn edge(options: &EdgeOptions) -> Result<(), Problem> {
    let EdgeOptions { path: prefix, folder: place, env: _, stale_after, requests } = options;
    path("edge.path", prefix)?;
    folder("edge.folder", place)?;
    duration("edge.stale-after", *stale_after)?;
    within("edge.requests", *requests, 1..=1_000_000)
}

/// The path of a folder in a container.
fn folder(key: &str, path: &str) -> Result<(), Problem> {
    let parts = || path.split('/').skip(1);
    let good = path.starts_with('/')
        && path.len() > 1
        && parts().all(|part| part != ".." && part != ".")
        // What separates options of mounts and of command lines.
        && !path.contains([':', ',']) && !path.contains(char::is_control);
    ensure(key, good, || format!("`{path}` is not the absolute path of a folder below `/`"))
}

fn loads(loads: &[Load]) -> Result<(), Problem> {
    let key = "throughput.loads";
    ensure(key, !loads.is_empty(), || "a throughput pass without loads measures nothing".to_owned())?;
    for (at, load) in loads.iter().enumerate() {
        let before = &loads[..at];
        ensure(key, !before.contains(load), || format!("`{load}` stands twice"))?;
        ensure(key, *load != Load::Rate(0), || "a rate of 0 sends nothing".to_owned())?;
        let known = !matches!(load, Load::Share(_)) || before.contains(&Load::Closed);
        ensure(key, known, || format!("`{load}` is a share of what `closed` finds: put `closed` before it"))?;
    }
    Ok(())
}
