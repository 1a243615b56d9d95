//! Records the observations of one thread during a run. It knows nothing about sockets.

use std::sync::atomic::Ordering;

use super::Shown;
use super::outcome::{Connections, ErrorKind, Outcome, PARTS, Span, Times};
use super::plan::Expect;
use super::response::Answer;

/// When the load begins, when it is measured and when it ends, in nanoseconds of the clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    pub(crate) began: u64,
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) window: u64,
}

impl Schedule {
    /// Between two loads.
    pub(crate) const NONE: Self = Self { began: 0, from: 0, to: 0, window: 1 };

    pub(crate) fn is_measured(&self, at: u64) -> bool {
        (self.from..self.to).contains(&at)
    }
}

/// A request that is under way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Started {
    /// Index in the plan.
    pub(crate) request: usize,
    /// When it was to start.
    pub(crate) planned: u64,
    /// When it did.
    pub(crate) sent: u64,
}

/// Counts and times.
#[derive(Debug)]
pub(crate) struct Recorder {
    pub(crate) schedule: Schedule,
    /// What one thread can know of an outcome.
    pub(crate) found: Outcome,
    open: u32,
    now_in_flight: u32,
    changed: u64,
    /// Answers so far, to show progress.
    answers: u64,
    /// When the progress of times is shown next.
    next_shown: u64,
}

impl Recorder {
    pub(crate) fn new(schedule: Schedule) -> Self {
        let Schedule { began, from, to, window } = schedule;
        let mut found = Outcome::new(began, Span { from, to }, window);
        let windows = (to - began).div_ceil(window);
        found.windows = vec![0; usize::try_from(windows).unwrap_or_default()];
        // At most half of the windows can be warm-up.
        let early = (to - from) / window / 2;
        if early > 0 {
            found.part = window * early.div_ceil(PARTS);
            let parts = early.div_ceil(early.div_ceil(PARTS)) + 1;
            found.parts = vec![Times::default(); usize::try_from(parts).unwrap_or_default()];
        }
        Self {
            schedule,
            found,
            open: 0,
            now_in_flight: 0,
            changed: began,
            answers: 0,
            next_shown: began + window,
        }
    }

    /// The load begins now.
    pub(crate) fn begin(&mut self, schedule: Schedule) {
        let mut begun = Self { open: self.open, ..Self::new(schedule) };
        begun.found.connections = Connections { at_start: self.open, ..self.found.connections };
        begun.found.errors = std::mem::take(&mut self.found.errors);
        *self = begun;
    }

    pub(crate) fn opened(&mut self) {
        self.open += 1;
        self.found.connections.peak = self.found.connections.peak.max(self.open);
    }

    pub(crate) fn closed(&mut self) {
        self.open -= 1;
    }

    /// The measured span ends now.
    pub(crate) fn at_end(&mut self) {
        self.found.connections.at_end = self.open;
    }

    /// Adds the time since the last change to the sum of requests under way.
    fn in_flight_until(&mut self, now: u64) {
        let from = self.changed.max(self.schedule.from);
        let to = now.min(self.schedule.to);
        if to > from {
            self.found.in_flight += u128::from(to - from) * u128::from(self.now_in_flight);
        }
        self.changed = now;
    }

    pub(crate) fn started(&mut self, started: Started) {
        self.in_flight_until(started.sent);
        self.now_in_flight += 1;
        if self.schedule.is_measured(started.planned) {
            self.found.sent += 1;
        }
    }

    pub(crate) fn received(&mut self, now: u64, bytes: usize) {
        if self.schedule.is_measured(now) {
            self.found.bytes_in += bytes as u64;
        }
    }

    pub(crate) fn wrote(&mut self, now: u64, bytes: usize) {
        if self.schedule.is_measured(now) {
            self.found.bytes_out += bytes as u64;
        }
    }

    /// The answer is whole.
    pub(crate) fn answered(
        &mut self,
        now: u64,
        started: Started,
        expect: &Expect,
        answer: &Answer,
        comparison: Option<&Comparison>,
    ) {
        self.in_flight_until(now);
        self.now_in_flight -= 1;
        self.answers += 1;
        if comparison.is_some() {
            self.found.bodies_compared += 1;
        }
        if let Err((kind, why)) = check(expect, answer, comparison) {
            if self.schedule.is_measured(started.planned) {
                self.found.errors.add(kind, || why);
            }
            return;
        }
        if now < self.schedule.to
            && let Some(window) =
                self.found.windows.get_mut(((now - self.schedule.began) / self.schedule.window) as usize)
        {
            *window += 1;
        }
        if self.schedule.is_measured(started.planned) {
            self.found.completed += 1;
            let part = (started.planned - self.schedule.from) / self.found.part.max(1);
            let last = self.found.parts.len().saturating_sub(1);
            let (latency, service) = match self.found.parts.get_mut((part as usize).min(last)) {
                Some(times) => (&mut times.latency, &mut times.service),
                None => (&mut self.found.latency, &mut self.found.service),
            };
            latency.record(now - started.planned);
            service.record(now - started.sent);
        }
    }

    /// There will be no answer. It counts where the request does.
    pub(crate) fn lost(&mut self, now: u64, started: Started, kind: ErrorKind, why: impl FnOnce() -> String) {
        self.in_flight_until(now);
        self.now_in_flight -= 1;
        if self.schedule.is_measured(started.planned) {
            self.found.errors.add(kind, why);
        }
    }

    /// Something failed that is no request's.
    pub(crate) fn failed(&mut self, now: u64, kind: ErrorKind, why: impl FnOnce() -> String) {
        // A load begins with a span, so there is none before the first load.
        if self.schedule.is_measured(now) || self.schedule.to == 0 {
            self.found.errors.add(kind, why);
        }
    }

    /// The answer is not waited for, because the run was interrupted.
    pub(crate) fn abandoned(&mut self, now: u64, started: Started) {
        self.in_flight_until(now);
        self.now_in_flight -= 1;
        if self.schedule.is_measured(started.planned) {
            self.found.sent -= 1;
        }
    }

    /// Ends the run now. Later events do not count.
    pub(crate) fn interrupted(&mut self, now: u64) {
        self.schedule.to = now.max(self.schedule.from);
        self.found.measured.to = self.schedule.to;
    }

    /// Shows the progress: times once in a window, because to find a percentile takes some microseconds.
    pub(crate) fn show(&mut self, now: u64, shown: &Shown) {
        shown.answers.store(self.answers, Ordering::Relaxed);
        if now >= self.next_shown {
            self.next_shown = now + self.schedule.window;
            let parts = self.found.parts.iter().map(|part| &part.latency);
            let latest = parts.chain([&self.found.latency]).rfind(|times| times.count() > 0);
            shown.p99.store(latest.map_or(0, |times| times.percentile(99.0)), Ordering::Relaxed);
        }
    }

    /// Ends a load: returns its results, and keeps the number of open connections.
    pub(crate) fn end(&mut self) -> Outcome {
        self.in_flight_until(self.schedule.to.max(self.changed));
        let mut next = Self { open: self.open, ..Self::new(Schedule::NONE) };
        next.found.connections.peak = self.open;
        let mut found = std::mem::replace(self, next).found;
        for part in &found.parts {
            found.latency.merge(&part.latency);
            found.service.merge(&part.service);
        }
        found
    }
}

/// A body that is compared with the expected one as it comes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Comparison {
    at: usize,
    /// Where the first other byte is.
    differs: Option<usize>,
}

impl Comparison {
    pub(crate) fn new() -> Self {
        Self { at: 0, differs: None }
    }

    pub(crate) fn piece(&mut self, expected: &[u8], piece: &[u8]) {
        let end = self.at + piece.len();
        if self.differs.is_none() && expected.get(self.at..end) != Some(piece) {
            let rest = expected.get(self.at..).unwrap_or_default();
            self.differs = Some(self.at + rest.iter().zip(piece).take_while(|(a, b)| a == b).count());
        }
        self.at = end;
    }

    /// Where the body differs from the expected one first.
    fn difference(&self, expected: &[u8]) -> Option<usize> {
        self.differs.or_else(|| (self.at != expected.len()).then_some(self.at))
    }
}

/// Status before length before body: each explains the next.
pub(crate) fn check(
    expect: &Expect,
    answer: &Answer,
    comparison: Option<&Comparison>,
) -> Result<(), (ErrorKind, String)> {
    if !expect.takes_status(answer.status) {
        let wanted = expect.status.map_or_else(|| "200 to 299".to_owned(), |status| status.to_string());
        return Err((ErrorKind::BadStatus, format!("status {} instead of {wanted}", answer.status)));
    }
    let expected_length = expect.length.or_else(|| expect.body.as_ref().map(|body| body.0.len() as u64));
    if let Some(length) = expected_length
        && length != answer.length
    {
        return Err((ErrorKind::BadLength, format!("{} bytes instead of {length}", answer.length)));
    }
    if let (Some(comparison), Some(body)) = (comparison, &expect.body)
        && let Some(at) = comparison.difference(&body.0)
    {
        return Err((ErrorKind::BadBody, format!("the body differs at byte {at}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::ErrorClass;
    use crate::plan::Blob;

    #[test]
    fn of_one_load_the_next_keeps_only_what_is_open() {
        let schedule = Schedule { began: 100, from: 100, to: 200, window: 100 };
        let mut recorder = Recorder::new(Schedule::NONE);
        recorder.opened();
        recorder.opened();
        recorder.begin(schedule);
        recorder.started(Started { request: 0, planned: 110, sent: 110 });
        recorder.lost(120, Started { request: 0, planned: 110, sent: 110 }, ErrorKind::Reset, || {
            "gone".to_owned()
        });
        recorder.closed();
        recorder.at_end();
        let first = recorder.end();
        assert_eq!((first.sent, first.errors.total(), first.in_flight), (1, 1, 10));
        recorder.begin(Schedule { began: 300, from: 300, to: 400, window: 100 });
        recorder.at_end();
        let second = recorder.end();
        assert_eq!((second.sent, second.errors.total(), second.in_flight), (0, 0, 0));
        let of = |connections: Connections| (connections.at_start, connections.peak, connections.at_end);
        assert_eq!((of(first.connections), of(second.connections)), ((2, 2, 1), (1, 1, 1)));
    }

    #[test]
    fn requests_under_way_are_summed_over_the_measured_span_only() {
        let mut recorder = Recorder::new(Schedule { began: 100, from: 200, to: 400, window: 100 });
        let expect = Expect::default();
        let answer = Answer { status: 200, length: 0, keep_alive: true };
        let started = |planned, sent| Started { request: 0, planned, sent };
        recorder.started(started(150, 150));
        recorder.started(started(210, 250));
        recorder.answered(300, started(150, 150), &expect, &answer, None);
        recorder.answered(450, started(210, 250), &expect, &answer, None);
        let recorder = recorder.end();
        // One from 200 to 400, another from 250 to 300: 200 + 50, in the span alone.
        assert_eq!(recorder.in_flight, 250);
        assert_eq!((recorder.sent, recorder.completed), (1, 1));
        assert_eq!(recorder.windows, [0, 0, 1]);
        assert_eq!((recorder.latency.max(), recorder.service.max()), (240, 200));
    }

    #[test]
    fn a_wrong_answer_is_an_error_and_nothing_else() {
        let mut recorder = Recorder::new(Schedule { began: 0, from: 0, to: 200, window: 100 });
        let expect = Expect { status: Some(200), ..Expect::default() };
        for (at, status) in [(10, 200), (20, 503), (110, 503), (120, 503)] {
            let started = Started { request: 0, planned: at, sent: at };
            recorder.started(started);
            let answer = Answer { status, length: 0, keep_alive: true };
            recorder.answered(at + 5, started, &expect, &answer, None);
        }
        let recorder = recorder.end();
        assert_eq!((recorder.sent, recorder.completed, recorder.latency.count()), (4, 1, 1));
        assert_eq!(recorder.windows, [1, 0]);
        assert_eq!((recorder.errors.total(), recorder.errors.of_class(ErrorClass::Answer)), (3, 3));
        assert_eq!(recorder.failed(), recorder.errors.total());
    }

    #[test]
    fn an_error_counts_where_its_request_does() {
        let mut recorder = Recorder::new(Schedule { began: 0, from: 100, to: 200, window: 100 });
        let expect = Expect { status: Some(200), ..Expect::default() };
        let answer = Answer { status: 503, length: 0, keep_alive: true };
        for (planned, at) in [(50, 120), (150, 160), (160, 250)] {
            let started = Started { request: 0, planned, sent: planned };
            recorder.started(started);
            recorder.answered(at, started, &expect, &answer, None);
            recorder.started(started);
            recorder.lost(at, started, ErrorKind::Reset, || "gone".to_owned());
        }
        let found = recorder.end();
        assert_eq!((found.sent, found.failed(), found.errors.total()), (4, 4, 4));
    }

    #[test]
    fn an_interrupted_run_is_one_that_was_to_end_then() {
        let mut recorder = Recorder::new(Schedule { began: 0, from: 100, to: 1_000, window: 100 });
        let answer = Answer { status: 200, length: 0, keep_alive: true };
        for planned in [110, 210] {
            let started = Started { request: 0, planned, sent: planned };
            recorder.started(started);
            recorder.answered(planned + 50, started, &Expect::default(), &answer, None);
        }
        let under_way = Started { request: 0, planned: 290, sent: 290 };
        recorder.started(under_way);
        recorder.abandoned(310, under_way);
        recorder.interrupted(310);
        let found = recorder.end();
        assert_eq!((found.sent, found.completed, found.failed(), found.latency.count()), (2, 2, 0, 2));
        assert_eq!((found.measured.to, found.measured_windows()), (310, &[1, 1][..]));
    }

    #[test]
    fn answers_are_checked_by_status_then_length_then_bytes() {
        let expect = Expect { status: Some(200), length: None, body: Some(Blob(b"Hello".to_vec())) };
        type Case = (u16, &'static [&'static [u8]], Option<ErrorKind>);
        let cases: [Case; 6] = [
            (200, &[b"Hel", b"lo"], None),
            (500, &[b"x"], Some(ErrorKind::BadStatus)),
            (200, &[b"Hell"], Some(ErrorKind::BadLength)),
            (200, &[b"Hello!"], Some(ErrorKind::BadLength)),
            (200, &[b"Help", b"o"], Some(ErrorKind::BadBody)),
            (200, &[b"Hel", b"lO"], Some(ErrorKind::BadBody)),
        ];
        for (status, pieces, expected) in cases {
            let mut comparison = Comparison::new();
            for piece in pieces {
                comparison.piece(b"Hello", piece);
            }
            let length = pieces.concat().len() as u64;
            let answer = Answer { status, length, keep_alive: true };
            let found = check(&expect, &answer, Some(&comparison)).err().map(|(kind, _)| kind);
            assert_eq!(found, expected, "{status} {pieces:?}");
        }
    }
}
