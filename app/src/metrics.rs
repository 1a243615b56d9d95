//! What is counted, and `/metrics`: the text format of Prometheus, version 0.0.4.
//!
//! Each worker counts for itself, and a counter is written by one thread only: counting is a load and a
//! store, with no lock and no cache line that two cores want.

use std::fmt::{Display, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::json::Thousandths;
use crate::report::{self, Usage};
use crate::server::{Phase, Server};

/// The statuses that are answered.
const STATUSES: [u16; 13] = [200, 304, 400, 404, 405, 408, 413, 414, 417, 431, 501, 503, 505];

/// A number that one thread adds to and others read.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        // Nobody else writes it, so nothing is lost between the two.
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one worker counts. Two workers never share a cache line, nor the pair that is fetched at once.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Counters {
    answers: [Counter; STATUSES.len()],
    pub(crate) accepted: Counter,
    pub(crate) refused: Counter,
    pub(crate) accept_errors: Counter,
    pub(crate) received: Counter,
    pub(crate) sent: Counter,
}

impl Counters {
    pub(crate) fn answered(&self, status: u16) {
        if let Some(at) = STATUSES.iter().position(|known| *known == status) {
            self.answers[at].add(1);
        }
    }
}

/// Everything, as Prometheus reads it.
pub(crate) fn text(server: &Server) -> String {
    let sum = |of: fn(&Counters) -> &Counter| server.counters.iter().map(|it| of(it).get()).sum::<u64>();
    let mut page = Page::default();
    page.family("app_requests_total", "counter", "Requests answered, by status.");
    for (at, status) in STATUSES.iter().enumerate() {
        let count: u64 = server.counters.iter().map(|it| it.answers[at].get()).sum();
        page.sample(&format!("app_requests_total{{status=\"{status}\"}}"), count);
    }
    let ready = server.phase() == Phase::Serving && !server.is_over_budget();
    let Usage { throttled_periods, throttled_millis, memory } = report::usage(&server.limits.groups);
    for (name, kind, help, value) in [
        ("app_connections", "gauge", "Open connections.", Some(count(&server.connections))),
        ("app_connections_max", "gauge", "Connections at a time.", Some(server.sizing.connections as u64)),
        ("app_connections_accepted_total", "counter", "Connections accepted.", Some(sum(|it| &it.accepted))),
        (
            "app_connections_refused_total",
            "counter",
            "Connections answered 503 because there were too many.",
            Some(sum(|it| &it.refused)),
        ),
        (
            "app_accept_errors_total",
            "counter",
            "Times that a connection could not be accepted.",
            Some(sum(|it| &it.accept_errors)),
        ),
        ("app_received_bytes_total", "counter", "Bytes of requests.", Some(sum(|it| &it.received))),
        ("app_sent_bytes_total", "counter", "Bytes of answers.", Some(sum(|it| &it.sent))),
        ("app_workers", "gauge", "Threads that serve.", Some(server.sizing.workers as u64)),
        ("app_ready", "gauge", "1 while /ready says so.", Some(u64::from(ready))),
        ("app_memory_budget_bytes", "gauge", "Heap, stacks and cache.", Some(server.sizing.budget.total())),
        ("process_resident_memory_bytes", "gauge", "Resident memory.", report::resident_bytes()),
        ("app_cgroup_memory_bytes", "gauge", "Memory charged to the container.", memory),
        ("app_cgroup_memory_limit_bytes", "gauge", "What the container may have.", server.limits.memory),
        (
            "app_cgroup_throttled_periods_total",
            "counter",
            "Periods in which the container was throttled.",
            throttled_periods,
        ),
    ] {
        // What this system does not tell is left out.
        if let Some(value) = value {
            page.family(name, kind, help);
            page.sample(name, value);
        }
    }
    let uptime = u64::try_from(server.started.elapsed().as_millis()).unwrap_or(u64::MAX);
    for (name, kind, help, millis) in [
        ("app_uptime_seconds", "gauge", "Since the start.", Some(uptime)),
        ("app_cgroup_cpu_limit", "gauge", "CPUs that may be used.", Some(server.limits.cpu_millis())),
        ("app_cgroup_throttled_seconds_total", "counter", "Time for which it was.", throttled_millis),
    ] {
        if let Some(millis) = millis {
            page.family(name, kind, help);
            page.sample(name, Thousandths(millis));
        }
    }
    if let Some(cache) = &server.cache {
        let counts = cache.counts();
        page.family("app_cache_requests_total", "counter", "Files asked for, by where they came from.");
        for (outcome, count) in [
            ("hit", counts.hits),
            ("miss", counts.misses),
            ("stale", counts.stale),
            ("failed", counts.failed),
        ] {
            page.sample(&format!("app_cache_requests_total{{outcome=\"{outcome}\"}}"), count);
        }
        page.family("app_cache_bytes", "gauge", "Memory of cached files in all their encodings.");
        page.sample("app_cache_bytes", counts.bytes);
    }
    page.0
}

fn count(number: &std::sync::atomic::AtomicUsize) -> u64 {
    number.load(Ordering::Relaxed) as u64
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string does not fail.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, name: &str, value: impl Display) {
        let _ = writeln!(self.0, "{name} {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::limits::Limits;

    #[test]
    fn page_has_each_family_once_with_its_sum_over_all_workers() {
        let config = Config { workers: Some(2), ..Config::default() };
        let server = Server::new(config, Limits::default(), 1024);
        for counters in &server.counters {
            counters.answered(200);
            counters.sent.add(7);
        }
        server.counters[1].answered(404);
        let text = text(&server);
        for line in [
            "app_requests_total{status=\"200\"} 2",
            "app_requests_total{status=\"404\"} 1",
            "app_requests_total{status=\"500\"} 0",
            "app_sent_bytes_total 14",
            "app_workers 2",
            "app_ready 0",
        ] {
            assert_eq!(text.lines().any(|it| it == line), !line.contains("500"), "{line}\n{text}");
        }
        let mut names: Vec<_> = text.lines().filter_map(|it| it.strip_prefix("# TYPE ")).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(text.ends_with('\n'));
    }

    /// The grammar of the format, and what its writers are asked to keep to.
    #[test]
    fn page_is_read_by_the_strictest_reader() {
        let config = Config { files: Some("/nonexistent".into()), ..Config::default() };
        let text = text(&Server::new(config, Limits::default(), 1024));
        let (mut family, mut kind, mut samples) = ("", "", Vec::new());
        let is_name =
            |it: &str| it.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') && !it.is_empty();
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, about) = help.split_once(' ').unwrap();
                assert!(is_name(name) && !about.is_empty() && !about.contains('\\'), "{line}");
                (family, kind) = (name, "");
            } else if let Some(typed) = line.strip_prefix("# TYPE ") {
                let (name, its) = typed.split_once(' ').unwrap();
                assert!(name == family && kind.is_empty(), "{line}");
                assert_eq!(its == "counter", name.ends_with("_total"), "{line}");
                assert!(matches!(its, "counter" | "gauge"), "{line}");
                kind = its;
            } else {
                let (series, value) = line.rsplit_once(' ').unwrap();
                let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
                assert!(name == family && !kind.is_empty(), "{line}");
                let labels = labels.strip_suffix('}').unwrap();
                if let Some((label, quoted)) = labels.split_once('=') {
                    let inner = quoted.strip_prefix('"').and_then(|it| it.strip_suffix('"')).unwrap();
                    assert!(is_name(label) && inner.bytes().all(|it| it.is_ascii_alphanumeric()), "{line}");
                }
                assert!(value.parse::<f64>().is_ok_and(f64::is_finite), "{line}");
                assert!(!samples.contains(&series), "{line}");
                samples.push(series);
            }
        }
        assert!(samples.len() > STATUSES.len());
    }
}
