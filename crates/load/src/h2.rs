//! HTTP/2 with prior knowledge, by the crate h2 on one thread, with one task for each stream that may be open.

mod socket;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Connection, SendRequest};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot};
use tokio::task::LocalSet;

use self::socket::Counted;

use super::host::Meter;
use super::outcome::ErrorKind;
use super::pacer::{Choice, Pacer};
use super::plan::{Blob, Plan, Request};
use super::recorder::{Comparison, Recorder, Schedule, Started};
use super::request::authority;
use super::response::{Answer, Answered, Fault, MOST_BODY};
use super::{Lane, LoadError, Outcome, Shown};
use crate::clock;

/// Connections that are being opened at once, as in HTTP/1.1.
const CONNECTING: usize = 64;
/// After a failed attempt to connect the next one waits.
const PAUSE: Duration = Duration::from_millis(10);
/// How often it is seen whether a server's SETTINGS have come.
const SETTINGS: Duration = Duration::from_millis(1);
/// How late an interruption may be seen: 100 ms.
const SIGNAL: u64 = 100_000_000;
/// What may be on the way to us, per stream and per connection: the server never waits for us (RFC 9113,
/// 6.9).
const WINDOW: u32 = 1 << 24;

/// Runs one thread's share of a plan.
pub(crate) fn work(lane: &Lane<'_>) -> Result<(), LoadError> {
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = lane.opened.send(Err(error));
            return Err(LoadError::Panicked);
        }
    };
    let result = LocalSet::new().block_on(&runtime, drive(lane));
    // Connections that are still being opened are not waited for.
    runtime.shutdown_background();
    result
}

fn runtime() -> Result<tokio::runtime::Runtime, LoadError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|source| LoadError::Host { what: "poll sockets", source })
}

/// The state that the tasks of one thread share.
struct Shared {
    plan: Plan,
    address: SocketAddr,
    requests: Vec<http::Request<()>>,
    recorder: RefCell<Recorder>,
    pacer: RefCell<Pacer>,
    choice: RefCell<Choice>,
    /// Those that wait for their planned start, the earliest first: starts are given out in order.
    sleepers: RefCell<VecDeque<(u64, oneshot::Sender<()>)>>,
    /// A first sleeper has come.
    is_awaited: Notify,
    is_running: Cell<bool>,
    /// Requests that may still be started ([`Plan::most`]), and those under way.
    left: Cell<u64>,
    under_way: Cell<u64>,
    shown: Arc<Shown>,
}

/// A connection that is opened again when it ends.
struct Line {
    sender: RefCell<Option<SendRequest<Bytes>>>,
    is_up: Notify,
    /// Streams that are open on it.
    open: Cell<usize>,
    /// Requests that wait for room, in the order in which they came.
    waiting: Cell<usize>,
    /// A stream has ended.
    has_room: Notify,
}

impl Line {
    /// Waits behind those that wait already.
    async fn room(&self) {
        struct Waiting<'a>(&'a Cell<usize>);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.set(self.0.get() - 1);
            }
        }
        self.waiting.set(self.waiting.get() + 1);
        let _waiting = Waiting(&self.waiting);
        self.has_room.notified().await;
    }
}

/// A stream that is open; another one has room when it is dropped.
struct Slot(Rc<Line>);

impl Slot {
    fn of(line: &Rc<Line>) -> Self {
        line.open.set(line.open.get() + 1);
        Self(Rc::clone(line))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        self.0.has_room.notify_one();
    }
}

async fn drive(lane: &Lane<'_>) -> Result<(), LoadError> {
    let plan = lane.plan;
    let requests = plan.requests.iter().map(|request| head(plan, request)).collect::<Result<_, _>>();
    let requests = match requests {
        Ok(requests) => requests,
        Err(error) => {
            let _ = lane.opened.send(Err(error));
            return Err(LoadError::Panicked);
        }
    };
    let shared = Rc::new(Shared {
        plan: plan.clone(),
        address: lane.address,
        requests,
        recorder: RefCell::new(Recorder::new(Schedule::NONE)),
        pacer: RefCell::new(Pacer::new(plan.pace, lane.thread, plan.threads)),
        choice: RefCell::new(Choice::new(&plan.requests, lane.seed())),
        sleepers: RefCell::new(VecDeque::new()),
        is_awaited: Notify::new(),
        is_running: Cell::new(false),
        left: Cell::new(0),
        under_way: Cell::new(0),
        shown: Arc::clone(&lane.shown),
    });
    let (lines, failed) = open_all(&shared, lane.connections()).await;
    let open = lines.iter().filter(|line| line.sender.borrow().is_some()).count();
    let _ = lane.opened.send(match failed {
        Some(error) if open == 0 => Err(error),
        _ => Ok(u32::try_from(open).unwrap_or(u32::MAX)),
    });
    let mut meter = Meter::default();
    while let Ok(schedule) = lane.start.recv() {
        shared.recorder.borrow_mut().begin(schedule);
        *shared.pacer.borrow_mut() = Pacer::new(plan.pace, lane.thread, plan.threads);
        shared.is_running.set(true);
        shared.left.set(plan.most.unwrap_or(u64::MAX));
        let waker = tokio::task::spawn_local(wake(Rc::clone(&shared)));
        let mut streams = Vec::new();
        for line in &lines {
            for _ in 0..plan.depth {
                let stream = stream(Rc::clone(&shared), Rc::clone(line), schedule.to);
                streams.push(tokio::task::spawn_local(stream));
            }
        }
        while clock::now() < schedule.from && !lane.stop.load(Ordering::Relaxed) {
            sleep_until(schedule.from.min(clock::now() + SIGNAL)).await;
        }
        shared.pacer.borrow_mut().skip_before(schedule.from - schedule.began);
        meter.start();
        while clock::now() < schedule.to && !lane.stop.load(Ordering::Relaxed) {
            if shared.left.get() == 0 && shared.under_way.get() == 0 {
                lane.stop.store(true, Ordering::Relaxed);
            } else {
                sleep_until(schedule.to.min(clock::now() + SIGNAL)).await;
            }
        }
        meter.stop();
        shared.recorder.borrow_mut().at_end();
        shared.is_running.set(false);
        let interrupted = clock::now() < schedule.to;
        if interrupted {
            streams.iter().for_each(tokio::task::JoinHandle::abort);
            shared.recorder.borrow_mut().interrupted(clock::now());
        }
        for stream in streams {
            match stream.await {
                Ok(()) => {}
                Err(error) if error.is_cancelled() && interrupted => {}
                Err(_) => return Err(LoadError::Panicked),
            }
        }
        waker.abort();
        let found = shared.recorder.borrow_mut().end();
        // Nobody wants it when another thread has failed.
        let _ = lane.done.send(Outcome { cpu: meter.used(), ended: clock::now(), ..found });
    }
    Ok(())
}

/// To the millisecond, as tokio's timers are: for what nobody measures.
async fn sleep_until(at: u64) {
    tokio::time::sleep(Duration::from_nanos(at.saturating_sub(clock::now()))).await;
}

fn head(plan: &Plan, request: &Request) -> Result<http::Request<()>, LoadError> {
    let named = |name: &str| name.eq_ignore_ascii_case("host");
    let own = request.headers.iter().find(|(name, _)| named(name)).map(|(_, value)| value.as_str());
    let authority = own.unwrap_or(authority(&plan.address));
    let mut head = http::Request::builder()
        .version(http::Version::HTTP_2)
        .method(request.method.as_str())
        .uri(format!("http://{authority}{}", request.path));
    for (name, value) in request.headers.iter().filter(|(name, _)| !named(name)) {
        head = head.header(name, value);
    }
    if !request.body.0.is_empty() {
        head = head.header("content-length", request.body.0.len());
    }
    let shown = || format!("{} {}", request.method, request.path);
    head.body(()).map_err(|_| super::PlanError::characters("the request", &shown()).into())
}

/// Why there is no connection.
enum Closed {
    Connect(io::Error),
    Handshake(h2::Error),
}

type Handshake = (SendRequest<Bytes>, Connection<Counted, Bytes>);

async fn connect(shared: &Rc<Shared>) -> Result<Handshake, Closed> {
    let timeout = Duration::from_nanos(shared.plan.timeout);
    let opened = tokio::time::timeout(timeout, TcpStream::connect(shared.address)).await;
    let socket = opened.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(Closed::Connect)?;
    let _ = socket.set_nodelay(true);
    let counted = Counted { socket, shared: Rc::clone(shared) };
    handshake(counted).await.map_err(Closed::Handshake)
}

async fn handshake<T: AsyncRead + AsyncWrite + Unpin>(
    socket: T,
) -> Result<(SendRequest<Bytes>, Connection<T, Bytes>), h2::Error> {
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(WINDOW).initial_connection_window_size(WINDOW).enable_push(false);
    // No stream before the server has said how many it allows: it would refuse those beyond.
    builder.initial_max_send_streams(0);
    builder.handshake(socket).await
}

/// Opens the connections, some at a time, and keeps them open. Says why the last that could not be opened
/// could not.
async fn open_all(shared: &Rc<Shared>, count: u32) -> (Vec<Rc<Line>>, Option<LoadError>) {
    let mut lines = Vec::new();
    let mut failed = None;
    let mut left = count as usize;
    while left > 0 {
        let mut tried = Vec::new();
        for _ in 0..left.min(CONNECTING) {
            let line = Rc::new(Line {
                sender: RefCell::new(None),
                is_up: Notify::new(),
                open: Cell::new(0),
                waiting: Cell::new(0),
                has_room: Notify::new(),
            });
            let (first, result) = oneshot::channel();
            tokio::task::spawn_local(keep_open(Rc::clone(shared), Rc::clone(&line), first));
            lines.push(line);
            tried.push(result);
        }
        left -= tried.len();
        for result in tried {
            if let Ok(Err(closed)) = result.await {
                let address = shared.plan.address.clone();
                failed = Some(match closed {
                    Closed::Connect(source) => LoadError::Connect { address, source },
                    Closed::Handshake(source) => LoadError::Http2 { address, source },
                });
            }
        }
    }
    (lines, failed)
}

/// Opens a connection again and again. `first` gets the result of the first attempt.
async fn keep_open(shared: Rc<Shared>, line: Rc<Line>, first: oneshot::Sender<Result<(), Closed>>) {
    let mut first = Some(first);
    loop {
        match connect(&shared).await {
            Ok((sender, connection)) => {
                *line.sender.borrow_mut() = Some(sender);
                line.is_up.notify_waiters();
                {
                    let mut recorder = shared.recorder.borrow_mut();
                    recorder.opened();
                    if first.is_none() {
                        recorder.found.connections.reconnects += 1;
                    }
                }
                if let Some(first) = first.take() {
                    let _ = first.send(Ok(()));
                }
                // The requests on this connection get the reason of its end.
                let _ = connection.await;
                *line.sender.borrow_mut() = None;
                let mut recorder = shared.recorder.borrow_mut();
                recorder.closed();
                if shared.is_running.get() {
                    recorder.found.connections.closed_by_server += 1;
                }
            }
            Err(closed) => {
                let (kind, why) = match &closed {
                    Closed::Connect(error) => (ErrorKind::of_connect(error), error.to_string()),
                    Closed::Handshake(error) => (ErrorKind::ConnectOther, error.to_string()),
                };
                shared.recorder.borrow_mut().failed(clock::now(), kind, || why);
                if let Some(first) = first.take() {
                    let _ = first.send(Err(closed));
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Sends one request after another.
async fn stream(shared: Rc<Shared>, line: Rc<Line>, to: u64) {
    let timeout = Duration::from_nanos(shared.plan.timeout);
    let mut requests = 0_u64;
    loop {
        let late = to + shared.plan.backlog();
        let left = Duration::from_nanos(late.saturating_sub(clock::now()));
        if left.is_zero() {
            return;
        }
        // In a closed loop a request is due when the one before is answered. Where the server allows fewer streams it waits
        // here for its turn, which is part of its latency; where the connection is down it is not due.
        let due = if line.sender.borrow().is_some() { clock::now() } else { 0 };
        // Whether the connection ends or has no room for the stream: when the time is over it is too late.
        let Ok(sender) = tokio::time::timeout(left, ready(&line)).await else { return };
        let slot = Slot::of(&line);
        let Some(planned) = claim(&shared, due, to) else { return };
        if planned > clock::now() {
            let (sender, due) = oneshot::channel();
            shared.sleepers.borrow_mut().push_back((planned, sender));
            shared.is_awaited.notify_one();
            let _ = due.await;
        }
        let request = shared.choice.borrow_mut().next();
        let sent = clock::now();
        if sent >= late {
            return;
        }
        let started = Started { request, planned, sent };
        let mut under_way = UnderWay::begin(&shared, started);
        let is_sampled = shared.plan.is_sampled(requests);
        requests += 1;
        let expect = &shared.plan.requests[request].expect;
        let expected = expect.body.as_ref().filter(|_| is_sampled);
        let mut comparison = expected.map(|_| Comparison::new());
        let take = |piece: &[u8]| {
            if let (Some(comparison), Some(expected)) = (&mut comparison, expected) {
                comparison.piece(&expected.0, piece);
            }
        };
        let head = shared.requests[request].clone();
        let exchanged = exchange(sender, head, &shared.plan.requests[request].body.0, take);
        let result = tokio::time::timeout(timeout, exchanged).await;
        drop(slot);
        let now = clock::now();
        under_way.is_settled = true;
        let mut recorder = shared.recorder.borrow_mut();
        match result {
            Ok(Ok(answer)) => recorder.answered(now, started, expect, &answer, comparison.as_ref()),
            Ok(Err(fault)) => recorder.lost(now, started, fault.kind, || fault.why),
            Err(_) => recorder.lost(now, started, ErrorKind::Timeout, || shared.plan.late()),
        }
        recorder.show(now, &shared.shown);
    }
}

/// A request without an outcome yet. Dropped so, it was interrupted.
struct UnderWay<'a> {
    shared: &'a Shared,
    started: Started,
    is_settled: bool,
}

impl<'a> UnderWay<'a> {
    fn begin(shared: &'a Shared, started: Started) -> Self {
        shared.recorder.borrow_mut().started(started);
        shared.under_way.set(shared.under_way.get() + 1);
        Self { shared, started, is_settled: false }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.shared.under_way.set(self.shared.under_way.get() - 1);
        if !self.is_settled {
            self.shared.recorder.borrow_mut().abandoned(clock::now(), self.started);
        }
    }
}

/// Waits for a connection with room for a stream.
async fn ready(line: &Line) -> SendRequest<Bytes> {
    let mut has_waited = false;
    loop {
        let is_up = line.is_up.notified();
        let sender = line.sender.borrow().clone();
        match sender {
            Some(sender) => match sender.ready().await {
                // The server's own limit (SETTINGS_MAX_CONCURRENT_STREAMS, RFC 9113, 5.1.2); beyond it the library would
                // queue the request, and it would count as sent.
                // It has not said yet.
                Ok(sender) if sender.current_max_send_streams() == 0 => {
                    tokio::time::sleep(SETTINGS).await;
                }
                Ok(sender)
                    if line.open.get() >= sender.current_max_send_streams()
                        || (!has_waited && line.waiting.get() > 0) =>
                {
                    line.room().await;
                    has_waited = true;
                }
                Ok(sender) => return sender,
                // The task that keeps it open has not noticed yet.
                Err(_) => tokio::task::yield_now().await,
            },
            None => is_up.await,
        }
    }
}

/// Takes the next planned start, unless it is too late for it.
fn claim(shared: &Shared, due: u64, to: u64) -> Option<u64> {
    let mut pacer = shared.pacer.borrow_mut();
    let planned = match pacer.next() {
        None if due > 0 => due,
        None => clock::now(),
        Some(offset) => shared.recorder.borrow().schedule.began + offset,
    };
    if planned >= to || shared.left.get() == 0 {
        return None;
    }
    shared.left.set(shared.left.get() - 1);
    pacer.advance();
    Some(planned)
}

/// Wakes those whose start has come.
async fn wake(shared: Rc<Shared>) {
    #[cfg(target_os = "linux")]
    let mut alarm = registered();
    loop {
        let now = clock::now();
        let first = loop {
            let mut sleepers = shared.sleepers.borrow_mut();
            match sleepers.front() {
                Some((at, _)) if *at <= now => {
                    if let Some((_, sleeper)) = sleepers.pop_front() {
                        let _ = sleeper.send(());
                    }
                }
                other => break other.map(|(at, _)| *at),
            }
        };
        let Some(first) = first else {
            shared.is_awaited.notified().await;
            continue;
        };
        #[cfg(target_os = "linux")]
        if let Some(alarm) = &mut alarm
            && alarm.get_mut().set(first).is_ok()
        {
            if let Ok(mut ready) = alarm.readable().await {
                ready.clear_ready();
            }
            continue;
        }
        sleep_until(first).await;
    }
}

/// An alarm that the runtime watches; none where it cannot be had, and then starts are late by up to a
/// millisecond, which counts as latency.
#[cfg(target_os = "linux")]
fn registered() -> Option<tokio::io::unix::AsyncFd<super::timer::Alarm>> {
    let alarm = super::timer::Alarm::new().ok()?;
    #[expect(unsafe_code, reason = "the only way to let the runtime watch a descriptor that is not a socket")]
    // SAFETY: the alarm owns its descriptor, which stays open and the same as long as the alarm lives, and
    // it moves into the result.
    unsafe {
        tokio::io::unix::AsyncFd::register(alarm).ok()
    }
}

/// One request and its answer.
async fn exchange(
    mut sender: SendRequest<Bytes>,
    head: http::Request<()>,
    body: &[u8],
    mut take: impl FnMut(&[u8]),
) -> Result<Answer, Fault> {
    let (response, mut stream) = sender.send_request(head, body.is_empty()).map_err(|error| fault(&error))?;
    if !body.is_empty() {
        stream.send_data(Bytes::copy_from_slice(body), true).map_err(|error| fault(&error))?;
    }
    let response = response.await.map_err(|error| fault(&error))?;
    let status = response.status().as_u16();
    let mut body = response.into_body();
    let mut length = 0;
    while let Some(piece) = body.data().await {
        let piece = piece.map_err(|error| fault(&error))?;
        length += piece.len() as u64;
        take(&piece);
        body.flow_control().release_capacity(piece.len()).map_err(|error| fault(&error))?;
    }
    Ok(Answer { status, length, keep_alive: true })
}

fn fault(error: &h2::Error) -> Fault {
    let kind = match error.get_io().map(io::Error::kind) {
        Some(io::ErrorKind::ConnectionReset) => ErrorKind::Reset,
        Some(io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe) => ErrorKind::ClosedEarly,
        Some(_) => ErrorKind::Other,
        None if error.is_go_away() && error.is_remote() => ErrorKind::ClosedEarly,
        None if error.is_reset() && error.is_remote() => ErrorKind::Reset,
        None => ErrorKind::Malformed,
    };
    // Of the very first frame it says no more than that its size is wrong.
    let why = match kind {
        ErrorKind::Malformed => format!("the answer is not HTTP/2 ({error})"),
        _ => error.to_string(),
    };
    Fault { kind, why }
}

/// Asks once, on a connection of its own, and keeps the body.
pub(crate) fn ask(
    plan: &Plan,
    address: SocketAddr,
    request: &Request,
) -> Result<Result<Answered, Fault>, LoadError> {
    let head = head(plan, request)?;
    let timeout = Duration::from_nanos(plan.timeout);
    let asked = async {
        let other = |error: io::Error| Fault { kind: ErrorKind::of_connect(&error), why: error.to_string() };
        let socket = TcpStream::connect(address).await.map_err(other)?;
        let (sender, connection) = handshake(socket).await.map_err(|error| fault(&error))?;
        let driver = tokio::task::spawn_local(connection);
        let mut body = Vec::new();
        let mut length = 0;
        let take = |piece: &[u8]| {
            length += piece.len();
            // What is longer is refused below.
            body.extend_from_slice(&piece[..piece.len().min(MOST_BODY - body.len())]);
        };
        let sender = sender.ready().await.map_err(|error| fault(&error))?;
        let answer = exchange(sender, head, &request.body.0, take).await?;
        driver.abort();
        if length > MOST_BODY {
            return Err(Fault::too_long());
        }
        Ok(Answered { status: answer.status, body: Blob(body) })
    };
    let late = || Fault { kind: ErrorKind::Timeout, why: plan.late() };
    Ok(LocalSet::new()
        .block_on(&runtime()?, async { tokio::time::timeout(timeout, asked).await })
        .unwrap_or_else(|_| Err(late())))
}
