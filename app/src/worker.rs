//! A worker: one thread, one listener, one event loop, and what its connections share.
//!
//! Nothing here is shared with other workers but counters that are touched when a connection opens or
//! closes. The locks are never contended: only the worker's own thread takes them.

use std::future::{Future, poll_fn};
use std::io;
use std::net::TcpListener as StdListener;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::{sleep, sleep_until};

use crate::date::{IMF_FIXDATE, imf_fixdate};
use crate::http1;
use crate::listen::{is_handshake_under_way, refuse_new};
use crate::log::Level;
use crate::metrics::Counters;
use crate::server::{Phase, Server};

/// How long to wait when a connection cannot be accepted for lack of file descriptors or memory. Trying
/// again at once would take a whole CPU; nobody notices a tenth of a second in that state.
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(100);
/// When a worker that stops looks for handshakes that have not ended; after twice that time again, and so on.
const HANDSHAKE: Duration = Duration::from_millis(5);
/// Connections accepted in a row before those that are open get a turn.
const ACCEPT_AT_ONCE: usize = 64;
/// Sets of buffers that are kept for the next request.
const MOST_FREE: usize = 32;
/// Refused connections that are seen off at a time.
const MOST_REFUSALS: usize = 64;

/// Bytes of each buffer. A whole head fits, and sixteen small requests with their answers.
pub(crate) const BUFFER: usize = 16 << 10;

/// What a request is read into and its answer written to. A connection has them only while there is
/// something in them: an idle one has none, and a slow one what it has sent so far.
pub(crate) struct Buffers {
    /// What has come, of which `start..end` is unread.
    pub(crate) input: Box<[u8]>,
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// What is to be sent, from `sent` on. It never grows.
    pub(crate) output: Vec<u8>,
    pub(crate) sent: usize,
    /// The date of answers, as of when the buffers were taken or filled.
    pub(crate) date: [u8; IMF_FIXDATE],
    /// Milliseconds since the worker's start, as of the same moment.
    pub(crate) now: u64,
}

impl Buffers {
    fn new() -> Self {
        Self {
            // Zeroed by the kernel: pages that are never used cost nothing.
            input: vec![0; BUFFER].into(),
            start: 0,
            end: 0,
            output: Vec::with_capacity(BUFFER),
            sent: 0,
            date: [0; IMF_FIXDATE],
            now: 0,
        }
    }

    pub(crate) fn unread(&self) -> &[u8] {
        &self.input[self.start..self.end]
    }

    /// Makes room again if everything has been sent, and tells whether it has.
    pub(crate) fn forget_sent(&mut self) -> bool {
        let all = self.sent == self.output.len();
        if all {
            self.output.clear();
            self.sent = 0;
        }
        all
    }

    pub(crate) fn room(&self) -> usize {
        self.output.capacity() - self.output.len()
    }
}

pub(crate) struct Worker {
    pub(crate) server: Arc<Server>,
    pub(crate) counters: Arc<Counters>,
    start: Instant,
    local: Mutex<Local>,
    table: Mutex<Table>,
    /// Bytes of slow clients, kept while they are waited for.
    stashed: AtomicUsize,
    refusals: AtomicUsize,
    /// It has lingered long enough: idle connections are closed.
    closing: AtomicBool,
    /// The last connection has ended.
    empty: Notify,
    /// The first connection has come.
    occupied: Notify,
}

struct Local {
    #[expect(clippy::vec_box, reason = "boxes come and go as they are: a connection holds one word")]
    free: Vec<Box<Buffers>>,
    taken: usize,
    date: [u8; IMF_FIXDATE],
    /// When the date has to be made anew, in milliseconds since the start.
    date_until: u64,
}

#[derive(Default)]
struct Table {
    seats: Vec<Option<(Arc<Pulse>, Option<AbortHandle>)>>,
    vacant: Vec<usize>,
}

impl Table {
    fn taken(&self) -> usize {
        self.seats.len() - self.vacant.len()
    }
}

/// How a connection is reached from outside of its task.
pub(crate) struct Pulse {
    /// In milliseconds since the worker's start.
    deadline: AtomicU64,
    expired: AtomicBool,
    /// A task has one waker for all of its life.
    waker: Mutex<Option<Waker>>,
}

/// A lock that a panic in a test cannot spoil: what it guards is whole between any two statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pulse {
    /// Waits no longer than until `deadline`.
    pub(crate) fn set_deadline(&self, deadline: u64) {
        self.deadline.store(deadline, Ordering::Relaxed);
        self.expired.store(false, Ordering::Relaxed);
    }

    pub(crate) fn is_expired(&self) -> bool {
        self.expired.load(Ordering::Relaxed)
    }

    pub(crate) fn know(&self, waker: &Waker) {
        let mut known = lock(&self.waker);
        if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *known = Some(waker.clone());
        }
    }

    fn wake(&self) {
        if let Some(waker) = &*lock(&self.waker) {
            waker.wake_by_ref();
        }
    }
}

/// A connection's place at its worker; it is free again when this is dropped.
pub(crate) struct Seat {
    pub(crate) worker: Arc<Worker>,
    pub(crate) pulse: Arc<Pulse>,
    number: usize,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut table = lock(&self.worker.table);
        table.seats[self.number] = None;
        table.vacant.push(self.number);
        let left = table.taken();
        drop(table);
        self.worker.server.connections.fetch_sub(1, Ordering::Relaxed);
        if left == 0 {
            self.worker.empty.notify_one();
        }
    }
}

impl Worker {
    pub(crate) fn new(server: Arc<Server>, number: usize) -> Arc<Self> {
        let counters = server.counters.get(number).cloned().unwrap_or_default();
        let local = Local { free: Vec::new(), taken: 0, date: [b' '; IMF_FIXDATE], date_until: 0 };
        Arc::new(Self {
            server,
            counters,
            start: Instant::now(),
            local: Mutex::new(local),
            table: Mutex::default(),
            stashed: AtomicUsize::new(0),
            refusals: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
            empty: Notify::new(),
            occupied: Notify::new(),
        })
    }

    /// Accepts and serves until the server closes; tells how many connections were cut off.
    pub(crate) async fn run(
        self: Arc<Self>,
        listener: StdListener,
        mut phases: watch::Receiver<Phase>,
    ) -> io::Result<usize> {
        listener.set_nonblocking(true)?;
        crate::listen::begin(&listener, self.server.sizing.backlog)?;
        let listener = TcpListener::from_std(listener)?;
        let sweeper = tokio::spawn(Arc::clone(&self).sweep());
        self.server.accepts();

        // The phase comes first in the race, or a flood of connections could keep it from being seen.
        let draining = async {
            // It fails when the server is gone, which means the same.
            let _ = phases.wait_for(|phase| *phase >= Phase::Draining).await;
        };
        let mut accept = Box::pin(self.accept(&listener));
        race(draining, accept.as_mut()).await;

        let stopping = Instant::now();
        refuse_new(&listener);
        self.wake_all();
        let deadline = stopping + self.server.live.stop_deadline();
        let linger = (stopping + self.server.live.linger()).min(deadline);
        // Handshakes that were under way still end, and are served. They take as long as their packets are on
        // their way, and one may begin while the kernel takes over that no more are wanted.
        let port = listener.local_addr().map_or(0, |address| address.port());
        let mut pause = HANDSHAKE;
        loop {
            let until = linger.min(Instant::now() + pause);
            race(sleep_until(until.into()), accept.as_mut()).await;
            if until == linger || !is_handshake_under_way(port) {
                break;
            }
            pause *= 2;
        }
        race(self.all_served(), race(sleep_until(linger.into()), accept.as_mut())).await;
        drop(accept);
        drop(listener);
        self.closing.store(true, Ordering::Relaxed);
        self.wake_all();
        race(self.all_ended(), sleep_until(deadline.into())).await;
        sweeper.abort();
        Ok(self.cut_off())
    }

    /// Accepts for ever.
    async fn accept(self: &Arc<Self>, listener: &TcpListener) {
        let mut in_a_row = 0;
        let mut complained = false;
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    self.open(stream);
                    complained = false;
                    in_a_row += 1;
                    if in_a_row == ACCEPT_AT_ONCE {
                        in_a_row = 0;
                        tokio::task::yield_now().await;
                    }
                }
                Err(error) if concerns_one_connection(&error) => {}
                Err(error) => {
                    self.counters.accept_errors.add(1);
                    if !complained {
                        let told = format_args!("cannot accept connections for now: {error}");
                        self.server.log.line(Level::Warn, told);
                        complained = true;
                    }
                    sleep(ACCEPT_BACK_OFF).await;
                }
            }
        }
    }

    fn open(self: &Arc<Self>, stream: TcpStream) {
        self.counters.accepted.add(1);
        let before = self.server.connections.fetch_add(1, Ordering::Relaxed);
        if before >= self.server.sizing.connections {
            self.server.connections.fetch_sub(1, Ordering::Relaxed);
            self.refuse(stream);
            return;
        }
        let pulse = Arc::new(Pulse {
            deadline: AtomicU64::new(u64::MAX),
            expired: AtomicBool::new(false),
            waker: Mutex::new(None),
        });
        let mut table = lock(&self.table);
        let entry = Some((Arc::clone(&pulse), None));
        let number = match table.vacant.pop() {
            Some(number) => {
                table.seats[number] = entry;
                number
            }
            None => {
                table.seats.push(entry);
                table.seats.len() - 1
            }
        };
        if table.taken() == 1 {
            self.occupied.notify_one();
        }
        drop(table);
        let seat = Seat { worker: Arc::clone(self), pulse, number };
        let task = tokio::spawn(http1::serve(stream, seat)).abort_handle();
        // A new task does not run before this one waits.
        if let Some(Some((_, handle))) = lock(&self.table).seats.get_mut(number) {
            *handle = Some(task);
        }
    }

    /// One connection too many: it is told so, as long as there are not too many of these too.
    fn refuse(self: &Arc<Self>, stream: TcpStream) {
        self.counters.refused.add(1);
        if self.refusals.load(Ordering::Relaxed) >= MOST_REFUSALS {
            let _ = stream.try_write(http1::OVERLOADED);
            return;
        }
        self.refusals.fetch_add(1, Ordering::Relaxed);
        let worker = Arc::clone(self);
        tokio::spawn(async move {
            let _ = stream.try_write(http1::OVERLOADED);
            http1::see_off(&stream).await;
            worker.refusals.fetch_sub(1, Ordering::Relaxed);
        });
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    /// Milliseconds since the worker's start.
    pub(crate) fn now(&self) -> u64 {
        // A process does not run for the half a billion years that do not fit.
        self.start.elapsed().as_millis() as u64
    }

    /// Buffers for a connection that has something to read; none when slow clients hold all that the budget
    /// allows.
    pub(crate) fn take(&self) -> Option<Box<Buffers>> {
        let now = self.now();
        let mut local = lock(&self.local);
        local.refresh(now);
        let mut buffers = match local.free.pop() {
            Some(buffers) => buffers,
            None if self.may_take(local.taken) => Box::new(Buffers::new()),
            None => return None,
        };
        local.taken += 1;
        buffers.now = now;
        buffers.date = local.date;
        Some(buffers)
    }

    fn may_take(&self, taken: usize) -> bool {
        let held = taken * 2 * BUFFER + self.stashed.load(Ordering::Relaxed);
        (held as u64) < self.share()
    }

    /// This worker's part of the heap.
    fn share(&self) -> u64 {
        self.server.sizing.budget.heap / self.server.sizing.workers as u64
    }

    /// The same for buffers that have been held for a while.
    pub(crate) fn refresh(&self, buffers: &mut Buffers) {
        let now = self.now();
        let mut local = lock(&self.local);
        local.refresh(now);
        buffers.now = now;
        buffers.date = local.date;
    }

    /// The date of an answer.
    #[cfg(feature = "h2")]
    pub(crate) fn date(&self) -> [u8; IMF_FIXDATE] {
        let mut local = lock(&self.local);
        local.refresh(self.now());
        local.date
    }

    /// Takes buffers back.
    pub(crate) fn give(&self, mut buffers: Box<Buffers>) {
        (buffers.start, buffers.end, buffers.sent) = (0, 0, 0);
        buffers.output.clear();
        let mut local = lock(&self.local);
        local.taken -= 1;
        if local.free.len() < MOST_FREE {
            local.free.push(buffers);
        }
    }

    /// Counts bytes that a slow client has sent and that are kept for it; false when it is too much.
    pub(crate) fn stash(&self, bytes: usize) -> bool {
        let held = self.stashed.fetch_add(bytes, Ordering::Relaxed) + bytes;
        (held as u64) < self.share()
    }

    /// Counts them no more.
    pub(crate) fn unstash(&self, bytes: usize) {
        self.stashed.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Wakes the connections whose time is up, as often as is needed to notice the shortest wait a quarter
    /// late at most. Without connections it sleeps.
    async fn sweep(self: Arc<Self>) {
        loop {
            if lock(&self.table).taken() == 0 {
                self.occupied.notified().await;
            }
            let pause = (self.server.live.shortest() / 4).clamp(1, 1000);
            sleep(Duration::from_millis(pause)).await;
            let now = self.now();
            for (pulse, _) in lock(&self.table).seats.iter().flatten() {
                if pulse.deadline.load(Ordering::Relaxed) <= now {
                    pulse.expired.store(true, Ordering::Relaxed);
                    pulse.wake();
                }
            }
        }
    }

    fn wake_all(&self) {
        for (pulse, _) in lock(&self.table).seats.iter().flatten() {
            pulse.wake();
        }
    }

    /// Waits until no connection waits to be accepted, and none is left.
    async fn all_served(&self) {
        // Whatever waits is accepted by the other side of the race: at the first yield the event loop
        // hears of it, during the second it is accepted.
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        self.all_ended().await;
    }

    /// Waits until no connection is left.
    async fn all_ended(&self) {
        while lock(&self.table).taken() > 0 {
            self.empty.notified().await;
        }
    }

    fn cut_off(&self) -> usize {
        let table = lock(&self.table);
        let tasks: Vec<_> = table.seats.iter().flatten().filter_map(|(_, task)| task.clone()).collect();
        drop(table);
        for task in &tasks {
            task.abort();
        }
        tasks.len()
    }
}

impl Local {
    fn refresh(&mut self, now: u64) {
        if now >= self.date_until {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            self.date = imf_fixdate(since.as_secs());
            self.date_until = now + 1000 - u64::from(since.subsec_millis());
        }
    }
}

/// accept(2) also reports what happened to a connection while it waited; the next one may be fine.
fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

/// Waits for either future; the left one is asked first.
pub(crate) async fn race(left: impl Future, right: impl Future) {
    let (mut left, mut right) = (pin!(left), pin!(right));
    poll_fn(|context| {
        if left.as_mut().poll(context).is_ready() || right.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::limits::Limits;

    fn worker(config: Config) -> Arc<Worker> {
        Worker::new(Server::new(config, Limits::default(), 1024), 0)
    }

    #[test]
    fn buffers_are_used_again_and_come_back_empty() {
        let worker = worker(Config::default());
        let mut buffers = worker.take().unwrap();
        buffers.output.extend_from_slice(b"left over");
        buffers.end = 9;
        let place = buffers.input.as_ptr();
        worker.give(buffers);
        let buffers = worker.take().unwrap();
        assert_eq!((buffers.input.as_ptr(), buffers.unread(), buffers.output.len()), (place, &[][..], 0));
    }

    #[test]
    fn buffers_end_where_the_budget_ends() {
        let worker = worker(Config { memory: Some(4 << 20), ..Config::default() });
        let taken: Vec<_> = std::iter::from_fn(|| worker.take()).collect();
        let share = worker.server.sizing.budget.heap;
        assert_eq!(taken.len() as u64, share.div_ceil(2 * BUFFER as u64));
        assert!(!worker.stash(usize::try_from(share).unwrap()));
    }

    #[test]
    fn date_is_made_anew_with_the_next_second() {
        let mut local = Local { free: Vec::new(), taken: 0, date: [0; IMF_FIXDATE], date_until: 0 };
        local.refresh(5);
        let until = local.date_until;
        assert!((6..=1005).contains(&until), "{until}");
        local.date = [0; IMF_FIXDATE];
        local.refresh(until - 1);
        assert_eq!(local.date, [0; IMF_FIXDATE]);
        local.refresh(until);
        assert!(local.date.ends_with(b" GMT"));
    }
}
