//! The result of one run as plain data: counts, nanoseconds, histograms. Quotients are computed on demand.

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// What one run found.
///
/// Requests are counted by their planned start: those planned in the measured span. Each of them is in the end
/// completed, failed or unsent: `planned == completed + failed() + unsent`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// When the load began, in nanoseconds of CLOCK_MONOTONIC: all connections are open.
    pub began: u64,
    /// The measured span, after the warm-up.
    pub measured: Span,
    /// When the last answer was in or given up.
    pub ended: u64,
    /// Requests that were to start in the measured span. In a closed loop those that did.
    pub planned: u64,
    /// Of those the ones that were sent.
    pub sent: u64,
    /// The requests among them with a complete and correct answer, even if it arrived after the span.
    pub completed: u64,
    /// Requests of an open loop that were planned in the measured span and for which no connection was
    /// free before its end, nor in a tenth of it (1 s at most) after that.
    pub unsent: u64,
    /// What went wrong: with the requests of the measured span, and with connections before the load and in the span.
    pub errors: Errors,
    /// Right answers that came in each window from `began` on, whenever they were asked for.
    pub windows: Vec<u64>,
    /// Nanoseconds of one window.
    pub window: u64,
    /// From the planned start to the last byte of the answer, of completed requests.
    pub latency: Distribution,
    /// From the send to the last byte of the answer, of the same requests. Without keep-alive it
    /// contains the connecting.
    pub service: Distribution,
    /// Both again by planned start: one part for each of the first windows of the measured span, at most
    /// [`PARTS`], and one for the rest. Empty where there are no windows to leave out.
    pub parts: Vec<Times>,
    /// Nanoseconds of each part but the last, whole windows.
    pub part: u64,
    /// Sum over the measured span of requests under way times nanoseconds: divided by the span it is the mean
    /// concurrency, counted apart from every latency.
    pub in_flight: u128,
    /// Bytes received in the measured span, with heads.
    pub bytes_in: u64,
    /// Bytes sent in the measured span, with heads.
    pub bytes_out: u64,
    /// Bodies compared byte by byte, over the whole run.
    pub bodies_compared: u64,
    /// Connections.
    pub connections: Connections,
    /// CPU time that the generator itself used in the measured span. None where the host does not report it.
    pub cpu: Option<Cpu>,
    /// Threads that sent.
    pub threads: u32,
}

/// From and to, in nanoseconds of CLOCK_MONOTONIC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// The first nanosecond in it.
    pub from: u64,
    /// The first after it.
    pub to: u64,
}

impl Span {
    /// How long it is.
    #[must_use]
    pub fn nanoseconds(self) -> u64 {
        self.to.saturating_sub(self.from)
    }
}

impl Outcome {
    /// Turns of a closed loop one after the other as one run, without what lay between them. None of no turns.
    ///
    /// It begins at 0, and is as long as its turns together, each from its begin to its last answer: so every
    /// answer is in the measured span, which is one window.
    #[must_use]
    pub fn joined(turns: impl IntoIterator<Item = Self>) -> Option<Self> {
        turns
            .into_iter()
            .map(|turn| {
                let length = turn.ended.saturating_sub(turn.measured.from).max(1);
                let measured = Span { from: 0, to: length };
                let windows = vec![turn.completed];
                let parts = Vec::new();
                Self { began: 0, measured, ended: length, windows, window: length, parts, ..turn }
            })
            .reduce(|mut all, turn| {
                all.measured.to += turn.measured.to;
                all.ended = all.measured.to;
                all.window = all.measured.to;
                let connections = all.connections.then(turn.connections);
                Self { connections, ..all.with(turn) }
            })
    }

    pub(crate) fn new(began: u64, measured: Span, window: u64) -> Self {
        Self {
            began,
            measured,
            ended: 0,
            planned: 0,
            sent: 0,
            completed: 0,
            unsent: 0,
            errors: Errors::default(),
            windows: Vec::new(),
            window,
            latency: Distribution::default(),
            service: Distribution::default(),
            parts: Vec::new(),
            part: 0,
            in_flight: 0,
            bytes_in: 0,
            bytes_out: 0,
            bodies_compared: 0,
            connections: Connections::default(),
            cpu: None,
            threads: 0,
        }
    }

    /// Adds what another thread found at the same time.
    pub(crate) fn beside(self, other: Self) -> Self {
        let ended = self.ended.max(other.ended);
        let connections = self.connections.beside(other.connections);
        Self { ended, connections, ..self.with(other) }
    }

    /// Sums all counts except those of connections.
    fn with(mut self, other: Self) -> Self {
        for (own, theirs) in self.windows.iter_mut().zip(&other.windows) {
            *own += theirs;
        }
        self.planned += other.planned;
        self.sent += other.sent;
        self.completed += other.completed;
        self.unsent += other.unsent;
        self.errors.merge(other.errors);
        self.latency.merge(&other.latency);
        self.service.merge(&other.service);
        for (own, theirs) in self.parts.iter_mut().zip(&other.parts) {
            own.latency.merge(&theirs.latency);
            own.service.merge(&theirs.service);
        }
        self.in_flight += other.in_flight;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.bodies_compared += other.bodies_compared;
        self.cpu = self.cpu.zip(other.cpu).map(|(a, b)| a.with(b));
        self
    }

    /// Right answers per second that came in whole windows of the measured span.
    ///
    /// Counted from the windows when the span is at least one window long, else from `completed`.
    #[must_use]
    pub fn requests_per_second(&self) -> f64 {
        let windows = self.measured_windows();
        if windows.is_empty() {
            return self.completed as f64 * 1e9 / self.measured.nanoseconds().max(1) as f64;
        }
        windows.iter().sum::<u64>() as f64 * 1e9 / (windows.len() as u64 * self.window) as f64
    }

    /// The windows that lie wholly in the measured span.
    #[must_use]
    pub fn measured_windows(&self) -> &[u64] {
        let first = (self.measured.from - self.began).div_ceil(self.window.max(1)) as usize;
        let end = (self.measured.to - self.began) / self.window.max(1);
        self.windows.get(first..(end as usize).min(self.windows.len())).unwrap_or_default()
    }

    /// The same run without the first windows of the measured span: the span begins later, and rates and times are of
    /// the rest. What is counted over the span or the whole run stays as it is.
    ///
    /// Times begin with the first part after those windows.
    #[must_use]
    pub fn without_warm_up(&self, windows: usize) -> Self {
        if windows == 0 || self.parts.is_empty() {
            return self.clone();
        }
        let window = self.window.max(1);
        let first = (self.measured.from - self.began).div_ceil(window) + windows as u64;
        let from = (self.began + first * window).min(self.measured.to);
        let part =
            usize::try_from((from - self.measured.from).div_ceil(self.part.max(1))).unwrap_or(usize::MAX);
        let rest = &self.parts[part.min(self.parts.len() - 1)..];
        let mut times = Times::default();
        for part in rest {
            times.latency.merge(&part.latency);
            times.service.merge(&part.service);
        }
        let measured = Span { from, ..self.measured };
        Self { measured, latency: times.latency, service: times.service, parts: Vec::new(), ..self.clone() }
    }

    /// Requests of the measured span that were sent and not completed.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.sent - self.completed
    }

    /// Requests under way, on average over the measured span.
    #[must_use]
    pub fn mean_in_flight(&self) -> f64 {
        self.in_flight as f64 / self.measured.nanoseconds().max(1) as f64
    }

    /// The part of one CPU that each thread of the generator used, on average.
    #[must_use]
    pub fn generator_use(&self) -> Option<f64> {
        let cpu = self.cpu?;
        let available = self.measured.nanoseconds().max(1) as f64 * f64::from(self.threads.max(1));
        Some((cpu.user + cpu.system) as f64 * 1e3 / available)
    }
}

/// The most parts of a measured span that times are kept for, beside the rest.
pub const PARTS: u64 = 10;

/// Times of requests.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Times {
    /// From the planned start.
    pub latency: Distribution,
    /// From the send.
    pub service: Distribution,
}

/// Connections, over the whole run and all threads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connections {
    /// As asked.
    pub asked: u32,
    /// Open when the load began. Without keep-alive none.
    pub at_start: u32,
    /// The most that were open at once.
    pub peak: u32,
    /// Open when the measurement ended.
    pub at_end: u32,
    /// Connections opened after the load began, because another had ended.
    pub reconnects: u64,
    /// Times that the server closed a connection after an answer although it could have stayed open.
    pub closed_by_server: u64,
    /// Times that the server said or did nothing to close a connection that the request asked it to.
    pub kept_by_server: u64,
}

impl Connections {
    /// Adds the counts of another thread.
    fn beside(self, other: Self) -> Self {
        Self {
            asked: self.asked + other.asked,
            at_start: self.at_start + other.at_start,
            peak: self.peak + other.peak,
            at_end: self.at_end + other.at_end,
            reconnects: self.reconnects + other.reconnects,
            closed_by_server: self.closed_by_server + other.closed_by_server,
            kept_by_server: self.kept_by_server + other.kept_by_server,
        }
    }

    /// These, and then those of a later load over them.
    fn then(self, later: Self) -> Self {
        let (asked, at_start, at_end) = (later.asked, self.at_start, later.at_end);
        let peak = self.peak.max(later.peak);
        Self { asked, at_start, peak, at_end, ..self.beside(later) }
    }
}

/// CPU time in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cpu {
    /// In user mode.
    pub user: u64,
    /// In the kernel.
    pub system: u64,
}

impl Cpu {
    /// Both together.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self { user: self.user + other.user, system: self.system + other.system }
    }
}

/// What is an error: a request without a right answer, or a connection that could not be opened. Whatever is
/// none of these is a right answer, and only those count in rates, latencies and costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorKind {
    /// Nobody listens.
    ConnectRefused,
    /// Connecting took longer than the timeout.
    ConnectTimeout,
    /// This host has no free port left for another connection (EADDRNOTAVAIL of connect(2)).
    NoLocalPort,
    /// Connecting failed otherwise: no route, no file descriptor.
    ConnectOther,
    /// The server reset the connection, or a stream of HTTP/2.
    Reset,
    /// The connection ended in the middle of an answer, or before it.
    ClosedEarly,
    /// No whole answer within the timeout.
    Timeout,
    /// The answer is not HTTP, or more of it than was asked for.
    Malformed,
    /// Another status than expected.
    BadStatus,
    /// Another length than expected.
    BadLength,
    /// Other bytes than expected.
    BadBody,
    /// Reading or writing failed otherwise.
    Other,
}

impl ErrorKind {
    /// Of a failed attempt to connect.
    pub(crate) fn of_connect(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::ConnectRefused,
            io::ErrorKind::TimedOut => Self::ConnectTimeout,
            io::ErrorKind::AddrNotAvailable => Self::NoLocalPort,
            _ => Self::ConnectOther,
        }
    }

    /// Of a failed read or write.
    pub(crate) fn of_broken(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Reset,
            _ => Self::Other,
        }
    }

    /// Which class it belongs to.
    #[must_use]
    pub fn class(self) -> ErrorClass {
        match self {
            Self::ConnectRefused | Self::ConnectTimeout | Self::NoLocalPort | Self::ConnectOther => {
                ErrorClass::Connect
            }
            Self::Reset | Self::ClosedEarly | Self::Other => ErrorClass::Io,
            Self::Timeout => ErrorClass::Timeout,
            Self::Malformed | Self::BadStatus | Self::BadLength | Self::BadBody => ErrorClass::Answer,
        }
    }
}

/// Errors by what became of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// There was no connection to send it on.
    Connect,
    /// The connection broke.
    Io,
    /// The answer was not whole in time.
    Timeout,
    /// The answer was wrong.
    Answer,
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::ConnectRefused => "connection refused",
            Self::ConnectTimeout => "connecting timed out",
            Self::NoLocalPort => "no local port left",
            Self::ConnectOther => "cannot connect",
            Self::Reset => "reset",
            Self::ClosedEarly => "closed before the answer was whole",
            Self::Timeout => "timed out",
            Self::Malformed => "malformed answer",
            Self::BadStatus => "wrong status",
            Self::BadLength => "wrong length",
            Self::BadBody => "wrong body",
            Self::Other => "other",
        })
    }
}

/// How often what went wrong, with the first example of each.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Errors(pub BTreeMap<ErrorKind, Failures>);

/// Of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failures {
    /// How many.
    pub count: u64,
    /// The first, in words.
    pub first: String,
}

impl Errors {
    /// Counts one; `first` is asked only for the first of its kind.
    pub(crate) fn add(&mut self, kind: ErrorKind, first: impl FnOnce() -> String) {
        let failures = self.0.entry(kind).or_insert_with(|| Failures { count: 0, first: first() });
        failures.count += 1;
    }

    pub(crate) fn merge(&mut self, other: Self) {
        for (kind, failures) in other.0 {
            let own = self.0.entry(kind).or_insert_with(|| Failures { count: 0, first: failures.first });
            own.count += failures.count;
        }
    }

    /// How many of a kind.
    #[must_use]
    pub fn count(&self, kind: ErrorKind) -> u64 {
        self.0.get(&kind).map_or(0, |failures| failures.count)
    }

    /// How many of a class.
    #[must_use]
    pub fn of_class(&self, class: ErrorClass) -> u64 {
        let of_class = self.0.iter().filter(|(kind, _)| kind.class() == class);
        of_class.map(|(_, failures)| failures.count).sum()
    }

    /// How many of any kind.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.values().map(|failures| failures.count).sum()
    }
}

/// One hour: longer durations are recorded as this one.
const HIGHEST: u64 = 3_600_000_000_000;

/// Durations in nanoseconds, to three decimal digits; the least, the greatest and the sum are exact.
#[derive(Debug, Clone, PartialEq)]
pub struct Distribution {
    histogram: Histogram<u64>,
    min: u64,
    max: u64,
    sum: u128,
}

impl Default for Distribution {
    fn default() -> Self {
        // Three digits up to an hour are bounds that the histogram takes.
        let histogram = Histogram::new_with_bounds(1, HIGHEST, 3);
        let histogram = histogram.unwrap_or_else(|_| unreachable!("1 ns to an hour in three digits"));
        Self { histogram, min: u64::MAX, max: 0, sum: 0 }
    }
}

impl Distribution {
    /// Adds one duration.
    pub fn record(&mut self, nanoseconds: u64) {
        self.histogram.saturating_record(nanoseconds);
        self.min = self.min.min(nanoseconds);
        self.max = self.max.max(nanoseconds);
        self.sum += u128::from(nanoseconds);
    }

    /// Adds all of another.
    pub fn merge(&mut self, other: &Self) {
        // Cannot fail: both have the same bounds.
        let _ = self.histogram.add(&other.histogram);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.sum += other.sum;
    }

    /// How many durations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// The nearest-rank percentile, `percent` from 0 to 100: the smallest duration that at least so many
    /// per cent do not exceed, to three digits, rounded up as hdrhistogram does; never above the greatest.
    /// 0 when there is none.
    #[must_use]
    pub fn percentile(&self, percent: f64) -> u64 {
        let count = self.count() as f64;
        // 99.9 % of 1000 is rank 999, which in binary fractions comes out a little above. In the middle
        // before the rank there is nothing that rounding could change.
        let rank = (percent * count / 100.0 - 1e-6).ceil().max(1.0);
        self.histogram.value_at_quantile((rank - 0.5) / count.max(1.0)).min(self.max).max(self.min())
    }

    /// The least, exactly. 0 when there is none.
    #[must_use]
    pub fn min(&self) -> u64 {
        if self.count() == 0 { 0 } else { self.min }
    }

    /// The greatest, exactly. 0 when there is none.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.max
    }

    /// The mean of the exact durations. 0 when there is none.
    #[must_use]
    pub fn mean(&self) -> f64 {
        if self.count() == 0 { 0.0 } else { self.sum as f64 / self.count() as f64 }
    }
}

/// As it is written: pairs of a duration and how many had it.
#[derive(Serialize, Deserialize)]
struct Pairs {
    min: u64,
    max: u64,
    sum: u128,
    counts: Vec<(u64, u64)>,
}

impl Serialize for Distribution {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let counts = self.histogram.iter_recorded().map(|it| (it.value_iterated_to(), it.count_at_value()));
        Pairs { min: self.min, max: self.max, sum: self.sum, counts: counts.collect() }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Distribution {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let pairs = Pairs::deserialize(deserializer)?;
        let mut distribution = Self { min: pairs.min, max: pairs.max, sum: pairs.sum, ..Self::default() };
        for (value, count) in pairs.counts {
            distribution.histogram.saturating_record_n(value, count);
        }
        Ok(distribution)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_free_port_is_an_error_of_its_own() {
        let error = io::Error::from(io::ErrorKind::AddrNotAvailable);
        assert_eq!(ErrorKind::of_connect(&error).to_string(), "no local port left");
    }

    #[test]
    fn percentiles_are_nearest_rank_to_three_digits() {
        let mut distribution = Distribution::default();
        assert_eq!((distribution.percentile(50.0), distribution.min(), distribution.max()), (0, 0, 0));
        for value in 1..=1_000_u64 {
            distribution.record(value);
        }
        let of = |percent| distribution.percentile(percent);
        assert_eq!((of(0.0), of(50.0), of(99.0), of(99.9), of(100.0)), (1, 500, 990, 999, 1_000));
        assert_eq!((distribution.min(), distribution.max(), distribution.mean()), (1, 1_000, 500.5));
        // Every percentile of a single duration is that duration, with any buckets.
        let mut one = Distribution::default();
        one.record(123_456_789);
        assert_eq!((one.percentile(1.0), one.percentile(99.99)), (123_456_789, 123_456_789));
    }

    #[test]
    fn a_distribution_survives_json_and_merging() {
        let mut first = Distribution::default();
        let mut second = Distribution::default();
        let mut whole = Distribution::default();
        for number in 0..10_000_u64 {
            let value = number * number * 37;
            let part = if number % 3 == 0 { &mut first } else { &mut second };
            part.record(value);
            whole.record(value);
        }
        first.merge(&second);
        assert_eq!(first, whole);
        let text = serde_json::to_string(&whole).unwrap();
        assert_eq!(serde_json::from_str::<Distribution>(&text).unwrap(), whole);
    }
}
