//! A worker: one thread, one listener, one event loop, and what its connections share.
//!
//! Nothing here is shared with other workers but counters that are touched when a connection opens or
//! closes. The locks are never contended: only the worker's own thread takes them.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::sleep;

use crate::buffers::{BUFFER, Buffers};
use crate::counters::Counters;
use crate::date::{IMF_FIXDATE, imf_fixdate};
use crate::engine::Engine;

/// Sets of buffers that are kept for the next request.
const MOST_FREE: usize = 32;
pub(crate) struct Worker {
    pub(crate) engine: Arc<Engine>,
    pub(crate) counters: Arc<Counters>,
    start: Instant,
    local: Mutex<Local>,
    table: Mutex<Table>,
    /// Bytes of slow clients, kept while they are waited for.
    stashed: AtomicUsize,
    /// Refused connections that are being seen off.
    pub(crate) refusals: AtomicUsize,
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
    pub(crate) number: usize,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut table = lock(&self.worker.table);
        table.seats[self.number] = None;
        table.vacant.push(self.number);
        let left = table.taken();
        drop(table);
        self.worker.engine.connections.fetch_sub(1, Ordering::Relaxed);
        if left == 0 {
            self.worker.empty.notify_one();
        }
    }
}

impl Worker {
    pub(crate) fn new(engine: Arc<Engine>, number: usize) -> Arc<Self> {
        let counters = engine.counters.get(number).cloned().unwrap_or_default();
        let local = Local { free: Vec::new(), taken: 0, date: [b' '; IMF_FIXDATE], date_until: 0 };
        Arc::new(Self {
            engine,
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

    /// A place for a new connection.
    pub(crate) fn seat(self: &Arc<Self>) -> Seat {
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
        Seat { worker: Arc::clone(self), pulse, number }
    }

    /// The task of the connection that has a place, so that it can be cut off.
    pub(crate) fn set_task(&self, number: usize, task: AbortHandle) {
        if let Some(Some((_, handle))) = lock(&self.table).seats.get_mut(number) {
            *handle = Some(task);
        }
    }

    /// It has lingered long enough: idle connections are closed from now on.
    pub(crate) fn close_idle(&self) {
        self.closing.store(true, Ordering::Relaxed);
        self.wake_all();
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

    /// This worker's part of the memory.
    fn share(&self) -> u64 {
        self.engine.sizes.memory / self.engine.sizes.workers as u64
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
    pub(crate) async fn sweep(self: Arc<Self>) {
        loop {
            if lock(&self.table).taken() == 0 {
                self.occupied.notified().await;
            }
            let pause = (self.engine.live.shortest() / 4).clamp(1, 1000);
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

    pub(crate) fn wake_all(&self) {
        for (pulse, _) in lock(&self.table).seats.iter().flatten() {
            pulse.wake();
        }
    }

    /// Waits until no connection waits to be accepted, and none is left.
    pub(crate) async fn all_served(&self) {
        // Whatever waits is accepted by the other side of the race: at the first yield the event loop
        // hears of it, during the second it is accepted.
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        self.all_ended().await;
    }

    /// Waits until no connection is left.
    pub(crate) async fn all_ended(&self) {
        while lock(&self.table).taken() > 0 {
            self.empty.notified().await;
        }
    }

    pub(crate) fn cut_off(&self) -> usize {
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
            let time = SystemTime::now();
            let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
            self.date = imf_fixdate(time);
            self.date_until = now + 1000 - u64::from(since.subsec_millis());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Sizes;
    use crate::settings::Settings;

    fn worker(memory: u64) -> Arc<Worker> {
        let sizes =
            Sizes { workers: 1, pinned: Vec::new(), stack_size: 1 << 20, connections: 1, memory, backlog: 1 };
        let settings = Settings {
            header_timeout: Duration::ZERO,
            body_timeout: Duration::ZERO,
            write_timeout: Duration::ZERO,
            idle_timeout: Duration::ZERO,
            linger: Duration::ZERO,
            stop_deadline: Duration::ZERO,
            head_limit: 0,
            body_limit: 0,
        };
        Worker::new(Engine::new(sizes, &settings), 0)
    }

    #[test]
    fn buffers_are_used_again_and_come_back_empty() {
        let worker = worker(1 << 20);
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
        let worker = worker(3 << 20);
        let taken: Vec<_> = std::iter::from_fn(|| worker.take()).collect();
        let share = worker.engine.sizes.memory;
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
