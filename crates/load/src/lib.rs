//! The load generator: sends requests and records the answers, with paces, connections and histograms. It knows nothing
//! about containers.
//!
//! [`run`] executes a [`Plan`] and returns an [`Outcome`]. [`run_in_turns`] executes it repeatedly over the same
//! connections. [`verify`] sends every request once and compares the answers in full.
//!
//! It is a package of its own so that it is always optimised: its CPU time is part of the measurement.
//!
//! Left out on purpose: TLS, redirects, cookies, caches, proxies. The subject of the measurement is a server.

pub mod clock;
mod h1;
mod h2;
pub mod host;
mod outcome;
mod pacer;
mod plan;
mod recorder;
mod request;
pub mod response;
mod timer;
mod verify;

use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

pub use outcome::{
    Connections, Cpu, Distribution, ErrorClass, ErrorKind, Errors, Failures, Outcome, PARTS, Span, Times,
};
pub use plan::{Blob, Expect, Pace, Plan, PlanError, Protocol, Request};
pub use request::request_bytes;
pub use response::Answered;
pub use verify::{Check, expect_what_was_answered, verify};

use recorder::Schedule;

/// Why a plan could not be started. Errors during the run are in [`Outcome::errors`].
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The plan makes no sense.
    #[error("the load cannot be run: {0}")]
    Plan(#[from] PlanError),
    /// The name has no address.
    #[error("`{address}` cannot be resolved")]
    Resolve {
        /// As in the plan.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// No connection could be opened.
    #[error("cannot connect to {address}")]
    Connect {
        /// As in the plan.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// The server does not speak HTTP/2 without TLS.
    #[error("{address} does not answer to HTTP/2")]
    Http2 {
        /// As in the plan.
        address: String,
        /// Why.
        source: ::h2::Error,
    },
    /// The host refuses a resource.
    #[error("cannot {what}")]
    Host {
        /// The resource.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// An answer is wrong when every request is sent once.
    #[error("{method} {path} at {address}: {why}")]
    Answer {
        /// Which kind of fault.
        kind: ErrorKind,
        /// As in the plan.
        address: String,
        /// Of the request.
        method: String,
        /// Of the request.
        path: String,
        /// The difference from the expected answer.
        why: String,
    },
    /// A thread of the generator has panicked.
    #[error("the generator failed")]
    Panicked,
}

/// The progress of a run, reported on the caller's thread while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Connections are open, nothing is sent yet.
    Connected {
        /// How many.
        connections: u32,
    },
    /// The measured span has begun.
    Measuring {
        /// When, in nanoseconds of CLOCK_MONOTONIC.
        at: u64,
    },
    /// A window has passed, in the warm-up or in the measured span.
    Progress {
        /// Answers so far.
        answers: u64,
        /// Nanoseconds from the planned start within which 99 % of the right answers came lately, of the slowest thread; none
        /// before there are some.
        p99: Option<u64>,
    },
    /// The measured span has ended; answers are still awaited.
    Measured {
        /// When, in nanoseconds of CLOCK_MONOTONIC.
        at: u64,
    },
}

/// What a thread shows while it runs.
#[derive(Debug, Default)]
struct Shown {
    /// Answers so far.
    answers: AtomicU64,
    /// As in [`Phase::Progress`]; 0 for none.
    p99: AtomicU64,
}

/// What one thread is given.
struct Lane<'a> {
    plan: &'a Plan,
    address: SocketAddr,
    thread: u32,
    /// Says how many connections are open, or why none is.
    opened: Sender<Result<u32, LoadError>>,
    /// When to begin, for every turn; closed when there are no more.
    start: Receiver<Schedule>,
    /// What each turn found.
    done: Sender<Outcome>,
    shown: Arc<Shown>,
    /// The run is to end now.
    stop: &'a AtomicBool,
}

impl Lane<'_> {
    /// Its share of the connections.
    fn connections(&self) -> u32 {
        let (all, threads) = (self.plan.connections, self.plan.threads);
        all / threads + u32::from(self.thread < all % threads)
    }

    /// Apart for each thread.
    fn seed(&self) -> u64 {
        self.plan.seed.wrapping_add(u64::from(self.thread) << 32)
    }
}

/// Runs a plan.
///
/// # Errors
/// When it makes no sense or nothing could be begun.
pub fn run(plan: &Plan) -> Result<Outcome, LoadError> {
    run_watched(plan, |_| {})
}

/// Runs a plan and says where it is.
///
/// # Errors
/// When it makes no sense or nothing could be begun.
pub fn run_watched(plan: &Plan, watch: impl FnMut(Phase)) -> Result<Outcome, LoadError> {
    run_until(plan, &AtomicBool::new(false), watch)
}

/// Runs a plan and says where it is, until its end or until `stop` is true. Then the measured span ends where it was
/// stopped, and what was under way is counted nowhere.
///
/// # Errors
/// When it makes no sense or nothing could be begun.
pub fn run_until(plan: &Plan, stop: &AtomicBool, mut watch: impl FnMut(Phase)) -> Result<Outcome, LoadError> {
    with_threads(plan, stop, |threads| {
        watch(Phase::Connected { connections: threads.connections });
        threads.turn(plan, stop, &mut watch)
    })
}

/// Runs a plan without its warm-up, and again over the same connections as long as `again` says for how many
/// nanoseconds, which is told what the turn before found. A turn is one window. Between two turns nothing is
/// sent and no answer is awaited.
///
/// # Errors
/// When the plan or a duration makes no sense or nothing could be begun.
pub fn run_in_turns(plan: &Plan, mut again: impl FnMut(Outcome) -> Option<u64>) -> Result<(), LoadError> {
    let stop = &AtomicBool::new(false);
    with_threads(plan, stop, |threads| {
        let mut next = Some(plan.duration);
        while let Some(duration) = next {
            let turn = Plan { warm_up: 0, duration, window: duration, ..plan.clone() };
            turn.check()?;
            next = again(threads.turn(&turn, stop, &mut |_| {})?);
        }
        Ok(())
    })
}

/// One thread, from here.
struct Hand<'scope> {
    start: Sender<Schedule>,
    done: Receiver<Outcome>,
    shown: Arc<Shown>,
    thread: std::thread::ScopedJoinHandle<'scope, Result<(), LoadError>>,
}

impl Hand<'_> {
    fn why_it_ended(self) -> LoadError {
        match self.thread.join() {
            Ok(Err(error)) => error,
            Ok(Ok(())) | Err(_) => LoadError::Panicked,
        }
    }
}

/// All of a plan's threads, with their connections open.
struct Threads<'scope> {
    hands: Vec<Hand<'scope>>,
    /// How many connections are open.
    connections: u32,
}

/// Starts the threads, has them open their connections, and ends them when `work` is done.
fn with_threads<R>(
    plan: &Plan,
    stop: &AtomicBool,
    work: impl FnOnce(&mut Threads<'_>) -> Result<R, LoadError>,
) -> Result<R, LoadError> {
    plan.check()?;
    let address = reach(plan)?;
    host::raise_open_files(u64::from(plan.connections))?;
    std::thread::scope(|scope| {
        let (opened, all_opened) = mpsc::channel();
        let mut hands = Vec::new();
        for thread in 0..plan.threads {
            let (start, starts) = mpsc::channel();
            let (done, all_done) = mpsc::channel();
            let shown: Arc<Shown> = Arc::default();
            let lane = Lane {
                plan,
                address,
                thread,
                opened: opened.clone(),
                start: starts,
                done,
                shown: Arc::clone(&shown),
                stop,
            };
            let thread = scope.spawn(move || match plan.protocol {
                Protocol::Http1 => h1::work(&lane),
                Protocol::Http2 => h2::work(&lane),
            });
            hands.push(Hand { start, done: all_done, shown, thread });
        }
        drop(opened);
        let mut connections = 0;
        let mut failed = None;
        for opened in all_opened.iter().take(hands.len()) {
            match opened {
                Ok(opened) => connections += opened,
                Err(error) => failed = Some(error),
            }
        }
        if connections == 0
            && plan.keep_alive
            && let Some(error) = failed
        {
            return Err(error);
        }
        work(&mut Threads { hands, connections })
    })
}

impl Threads<'_> {
    /// One load over the open connections, until the last answer is in.
    fn turn(
        &mut self,
        plan: &Plan,
        stop: &AtomicBool,
        watch: &mut impl FnMut(Phase),
    ) -> Result<Outcome, LoadError> {
        let began = clock::now();
        let from = began + plan.warm_up;
        let schedule = Schedule { began, from, to: from + plan.duration, window: plan.window };
        for hand in &self.hands {
            // A thread that has ended says why when it is joined.
            let _ = hand.start.send(schedule);
        }
        let shown: Vec<&Shown> = self.hands.iter().map(|hand| &*hand.shown).collect();
        follow(schedule, &shown, stop, watch);
        let mut all: Option<Outcome> = None;
        for at in 0..self.hands.len() {
            let Ok(found) = self.hands[at].done.recv() else {
                return Err(self.hands.swap_remove(at).why_it_ended());
            };
            all = Some(match all {
                None => found,
                Some(all) => all.beside(found),
            });
        }
        let mut all = all.ok_or(LoadError::Panicked)?;
        all.planned = match plan.pace {
            Pace::Closed => all.sent,
            Pace::Open { rate } => {
                // Earlier than planned where it was stopped; a thread may have seen that a moment later.
                let planned = pacer::planned_before(all.measured.to - schedule.began, rate)
                    - pacer::planned_before(schedule.from - schedule.began, rate);
                planned.max(all.sent)
            }
        };
        all.unsent = all.planned - all.sent;
        all.connections.asked = plan.connections;
        all.threads = plan.threads;
        Ok(all)
    }
}

/// Sleeps from window to window and says what has passed, until it is stopped.
fn follow(schedule: Schedule, shown: &[&Shown], stop: &AtomicBool, watch: &mut impl FnMut(Phase)) {
    let wait = |until: u64| {
        while let left = until.saturating_sub(clock::now())
            && left > 0
            && !stop.load(Ordering::Relaxed)
        {
            std::thread::sleep(Duration::from_nanos(left.min(LOOK)));
        }
    };
    let mut window_end = schedule.began + schedule.window;
    let mut is_measuring = false;
    loop {
        if !is_measuring && schedule.from <= window_end {
            wait(schedule.from);
            is_measuring = true;
            watch(Phase::Measuring { at: schedule.from });
        }
        if window_end >= schedule.to || stop.load(Ordering::Relaxed) {
            break;
        }
        wait(window_end);
        let answers = shown.iter().map(|it| it.answers.load(Ordering::Relaxed)).sum();
        let p99 = shown.iter().map(|it| it.p99.load(Ordering::Relaxed)).max().filter(|p99| *p99 > 0);
        watch(Phase::Progress { answers, p99 });
        window_end += schedule.window;
    }
    wait(schedule.to);
    watch(Phase::Measured { at: schedule.to });
}

/// How late it is seen that a run is to stop: 50 ms.
const LOOK: u64 = 50_000_000;

/// The address, if a server listens there.
fn reach(plan: &Plan) -> Result<SocketAddr, LoadError> {
    let timeout = Duration::from_nanos(plan.timeout);
    let unresolved = |source| LoadError::Resolve { address: plan.address.clone(), source };
    let mut last = None;
    for address in plan.address.to_socket_addrs().map_err(unresolved)? {
        match TcpStream::connect_timeout(&address, timeout) {
            Ok(_) => return Ok(address),
            Err(error) => last = Some(error),
        }
    }
    let source = last.unwrap_or_else(|| std::io::ErrorKind::NotFound.into());
    Err(LoadError::Connect { address: plan.address.clone(), source })
}
