//! `/metrics`: the text format of Prometheus, version 0.0.4.

use std::fmt::{self, Display, Write as _};

use tare_http::{Phase, Totals};

use crate::server::Server;
use crate::usage::{self, Usage};

/// Everything, as Prometheus reads it.
pub(crate) fn text(server: &Server) -> String {
    page(server, &server.engine.totals())
}

fn page(server: &Server, totals: &Totals) -> String {
    let mut page = Page::default();
    page.family("app_requests_total", "counter", "Requests answered, by status.");
    for (status, count) in totals.answers {
        page.sample(&format!("app_requests_total{{status=\"{status}\"}}"), count);
    }
    let ready = server.engine.phase() == Phase::Serving && !server.is_over_budget();
    let Usage { throttled_periods, throttled_millis, memory } = usage::of_groups(&server.limits.groups);
    for (name, kind, help, value) in [
        ("app_connections", "gauge", "Open connections.", Some(server.engine.connections() as u64)),
        ("app_connections_max", "gauge", "Connections at a time.", Some(server.sizing.connections as u64)),
        ("app_connections_accepted_total", "counter", "Connections accepted.", Some(totals.accepted)),
        (
            "app_connections_refused_total",
            "counter",
            "Connections answered 503 because there were too many.",
            Some(totals.refused),
        ),
        (
            "app_accept_errors_total",
            "counter",
            "Times that a connection could not be accepted.",
            Some(totals.accept_errors),
        ),
        ("app_received_bytes_total", "counter", "Bytes of requests.", Some(totals.received)),
        ("app_sent_bytes_total", "counter", "Bytes of answers.", Some(totals.sent)),
        ("app_workers", "gauge", "Threads that serve.", Some(server.sizing.workers as u64)),
        ("app_ready", "gauge", "1 while /ready says so.", Some(u64::from(ready))),
        ("app_memory_budget_bytes", "gauge", "Heap, stacks and cache.", Some(server.sizing.budget.total())),
        ("process_resident_memory_bytes", "gauge", "Resident memory.", usage::resident_bytes()),
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

/// A number of thousandths. Floats are not needed for it.
struct Thousandths(u64);

impl fmt::Display for Thousandths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::limits::Limits;

    #[test]
    fn page_has_each_family_once() {
        let config = Config { workers: Some(2), ..Config::default() };
        let server = Server::new(config, Limits::default(), 1024);
        let mut totals = server.engine.totals();
        totals.sent = 14;
        for (status, count) in &mut totals.answers {
            *count = match status {
                200 => 2,
                404 => 1,
                _ => 0,
            };
        }
        let text = page(&server, &totals);
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
        assert!(samples.len() > tare_http::STATUSES.len());
    }
}
