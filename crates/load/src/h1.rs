//! HTTP/1.1 with readiness events: one thread serves many connections, with one system call to send a request and one to
//! receive an answer.

mod answers;

use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::sync::atomic::Ordering;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::host::Meter;
use super::outcome::ErrorKind;
use super::pacer::{Choice, Pacer};
use super::plan::Plan;
use super::recorder::{Comparison, Recorder, Schedule, Started};
use super::request::request_bytes;
use super::response::Parser;
use super::timer::{TIMER, Timer};
use super::{Lane, LoadError, Outcome};
use crate::clock;

/// Connections that are being opened at once: half of the shortest backlog in use (128), so that opening
/// thousands does not look like a flood and is not answered with lost SYNs and a second's wait.
const CONNECTING: usize = 64;
/// After a failed attempt to connect the next one waits: 10 ms.
const PAUSE: u64 = 10_000_000;
/// A connection that the server has said to close is closed here when it has not within 1 ms. The one that
/// closes first keeps the port for a minute (RFC 9293, 3.6.1), so it had better be the server; most close with the last
/// bytes of the answer.
const LINGER: u64 = 1_000_000;
/// How late an interruption may be seen: 100 ms.
const SIGNAL: u64 = 100_000_000;
/// What one read takes at most.
const BUFFER: usize = 64 << 10;

/// Runs one thread's share of a plan.
pub(crate) fn work(lane: &Lane<'_>) -> Result<(), LoadError> {
    let mut worker = match Worker::new(lane) {
        Ok(worker) => worker,
        Err(source) => {
            let kind = source.kind();
            let error = |source| LoadError::Host { what: "poll sockets", source };
            let _ = lane.opened.send(Err(error(source)));
            return Err(error(kind.into()));
        }
    };
    worker.work(lane).map_err(|source| LoadError::Host { what: "poll sockets", source })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No socket. Without keep-alive the state between two requests.
    Down,
    /// Since when.
    Connecting(u64),
    Open,
    /// The last answer is in, and the server is to close; until when it is waited for.
    Closing(u64),
}

struct Pending {
    started: Started,
    comparison: Option<Comparison>,
}

struct Connection {
    socket: Option<TcpStream>,
    state: State,
    parser: Parser,
    /// Received and not yet read by the parser: part of a head or of a chunk's line.
    rest: Vec<u8>,
    /// To be sent, from `written` on.
    out: Vec<u8>,
    written: usize,
    pending: VecDeque<Pending>,
    /// Requests sent on it.
    requests: u64,
    /// Whether it is in the queue of connections with room.
    is_queued: bool,
    /// Whether it waits after a failed attempt to connect.
    is_paused: bool,
}

struct Worker<'a> {
    plan: &'a Plan,
    address: std::net::SocketAddr,
    bytes: Vec<Vec<u8>>,
    poll: Poll,
    timer: Timer,
    connections: Vec<Connection>,
    /// Those with room for a request, the one that has waited longest first.
    ready: VecDeque<usize>,
    /// Those that are to be opened.
    down: VecDeque<usize>,
    /// Those that are to be opened, or are ready, only after a pause; in the order of its end.
    paused: VecDeque<(u64, usize)>,
    /// Those that the server is to close, in the order in which they are waited for.
    closing: VecDeque<usize>,
    connecting: usize,
    pacer: Pacer,
    choice: Choice,
    recorder: Recorder,
    meter: Meter,
    buffer: Box<[u8]>,
    /// Whether requests are to be started.
    is_running: bool,
    under_way: usize,
    /// Requests that may still be started ([`Plan::most`]).
    left: u64,
    first_error: Option<io::Error>,
}

impl<'a> Worker<'a> {
    fn new(lane: &Lane<'a>) -> io::Result<Self> {
        let plan = lane.plan;
        let poll = Poll::new()?;
        let timer = Timer::new(&poll)?;
        let connection = |_| Connection {
            socket: None,
            state: State::Down,
            parser: Parser::new(),
            rest: Vec::new(),
            out: Vec::new(),
            written: 0,
            pending: VecDeque::new(),
            requests: 0,
            is_queued: false,
            is_paused: false,
        };
        let connections: Vec<Connection> = (0..lane.connections()).map(connection).collect();
        Ok(Self {
            plan,
            address: lane.address,
            bytes: plan
                .requests
                .iter()
                .map(|request| request_bytes(&plan.address, request, plan.keep_alive))
                .collect(),
            poll,
            timer,
            ready: VecDeque::new(),
            down: (0..connections.len()).collect(),
            paused: VecDeque::new(),
            closing: VecDeque::new(),
            connections,
            connecting: 0,
            pacer: Pacer::new(plan.pace, lane.thread, plan.threads),
            choice: Choice::new(&plan.requests, lane.seed()),
            recorder: Recorder::new(Schedule::NONE),
            meter: Meter::default(),
            buffer: vec![0; BUFFER].into_boxed_slice(),
            is_running: false,
            under_way: 0,
            left: plan.most.unwrap_or(u64::MAX),
            first_error: None,
        })
    }

    fn work(&mut self, lane: &Lane<'_>) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        let opened = if self.plan.keep_alive { self.open_all(&mut events) } else { Ok(0) };
        let open = match opened {
            Ok(0) if self.plan.keep_alive => {
                let source = self.first_error.take().unwrap_or_else(|| io::ErrorKind::TimedOut.into());
                Err(LoadError::Connect { address: self.plan.address.clone(), source })
            }
            Ok(open) => Ok(open),
            Err(source) => Err(LoadError::Host { what: "poll sockets", source }),
        };
        let _ = lane.opened.send(open);
        while let Ok(schedule) = lane.start.recv() {
            // Do not send on connections that have closed since the last turn.
            self.handle_events(&mut events, 0)?;
            self.recorder.begin(schedule);
            self.pacer = Pacer::new(self.plan.pace, lane.thread, self.plan.threads);
            if !self.plan.keep_alive {
                for at in std::mem::take(&mut self.down) {
                    self.is_ready(at);
                }
            }
            self.is_running = true;
            self.left = self.plan.most.unwrap_or(u64::MAX);
            self.send_and_receive(schedule, &mut events, lane)?;
            let found = self.recorder.end();
            // Nobody wants it when another thread has failed.
            let _ = lane.done.send(Outcome { cpu: self.meter.used(), ended: clock::now(), ..found });
        }
        Ok(())
    }

    /// Opens every connection, or gives up on those that cannot be. Says how many are open.
    fn open_all(&mut self, events: &mut Events) -> io::Result<u32> {
        let give_up = clock::now() + self.plan.timeout;
        loop {
            let now = clock::now();
            self.connect_some(now);
            let open = self.connections.iter().filter(|it| it.state == State::Open).count();
            if open == self.connections.len() || now >= give_up {
                return Ok(u32::try_from(open).unwrap_or(u32::MAX));
            }
            self.resume(now);
            let wake = self.paused.front().map_or(give_up, |(at, _)| *at).min(give_up);
            self.handle_events(events, wake)?;
        }
    }

    fn send_and_receive(
        &mut self,
        schedule: Schedule,
        events: &mut Events,
        lane: &Lane<'_>,
    ) -> io::Result<()> {
        // A tenth of the timeout late at most, and no more than every millisecond.
        let scan_every = (self.plan.timeout / 10).clamp(1_000_000, 100_000_000);
        let mut next_scan = schedule.began + scan_every;
        let mut boundary = schedule.from;
        let (mut has_begun, mut has_ended) = (false, false);
        loop {
            let now = clock::now();
            if self.is_running && lane.stop.load(Ordering::Relaxed) {
                self.interrupt(now, has_begun);
                return Ok(());
            }
            if now >= boundary {
                if !has_begun {
                    has_begun = true;
                    self.pacer.skip_before(schedule.from - schedule.began);
                    self.meter.start();
                    boundary = schedule.to;
                }
                if now >= schedule.to && self.is_running {
                    if !has_ended {
                        has_ended = true;
                        self.meter.stop();
                        self.recorder.at_end();
                    }
                    // What was planned before is sent a moment later, as far as the server keeps up.
                    let planned = self.pacer.next().map(|offset| schedule.began + offset);
                    let is_behind = planned.is_some_and(|planned| planned < schedule.to);
                    self.is_running = is_behind && now < schedule.to + self.plan.backlog();
                    boundary = if self.is_running { now + LINGER } else { u64::MAX };
                }
            }
            if now >= next_scan {
                self.give_up_late(now);
                next_scan = now + scan_every;
            }
            if !self.is_running && self.under_way == 0 {
                return Ok(());
            }
            self.resume(now);
            self.close_due(now);
            self.connect_some(now);
            self.start_due();
            let mut wake = boundary.min(next_scan).min(now + SIGNAL);
            if let Some((at, _)) = self.paused.front() {
                wake = wake.min(*at);
            }
            if let Some(until) = self.closing_until() {
                wake = wake.min(until);
            }
            if self.is_running
                && !self.ready.is_empty()
                && let Some(planned) = self.pacer.next()
            {
                wake = wake.min(schedule.began + planned);
            }
            self.handle_events(events, wake)?;
            self.recorder.show(now, &lane.shown);
            if self.left == 0 && self.under_way == 0 {
                lane.stop.store(true, Ordering::Relaxed);
            }
        }
    }

    fn handle_events(&mut self, events: &mut Events, until: u64) -> io::Result<()> {
        self.timer.poll(&mut self.poll, events, until)?;
        for event in events.iter().filter(|event| event.token() != TIMER) {
            let at = event.token().0;
            if let State::Connecting(_) = self.connections[at].state {
                self.connected(at);
            }
            if event.is_writable() {
                self.flush(at);
            }
            if event.is_readable() || event.is_read_closed() || event.is_error() {
                self.receive(at, event.is_read_closed() || event.is_error());
            }
            self.start_due();
        }
        Ok(())
    }

    /// The run ends now, as if it had been planned so: what is under way is given up and counted nowhere.
    fn interrupt(&mut self, now: u64, has_begun: bool) {
        if has_begun {
            self.meter.stop();
        }
        self.recorder.at_end();
        self.is_running = false;
        for at in 0..self.connections.len() {
            while let Some(pending) = self.connections[at].pending.pop_front() {
                self.under_way -= 1;
                self.recorder.abandoned(now, pending.started);
            }
            self.connections[at].socket = None;
        }
        self.recorder.interrupted(now);
    }

    /// Starts requests that are due, as far as there is room.
    fn start_due(&mut self) {
        if !self.is_running || self.ready.is_empty() {
            return;
        }
        let now = clock::now();
        let Schedule { began, to, .. } = self.recorder.schedule;
        while let Some(at) = self.ready.pop_front() {
            self.connections[at].is_queued = false;
            let mut is_due = true;
            while self.has_room(at) {
                let planned = match self.pacer.next() {
                    None => now,
                    Some(offset) => began + offset,
                };
                is_due = planned <= now && planned < to;
                if !is_due {
                    break;
                }
                self.pacer.advance();
                self.start(at, planned, now);
                // In an open loop the next is another connection's turn.
                if self.pacer.next().is_some() {
                    break;
                }
            }
            self.flush(at);
            if self.has_room(at) {
                if is_due {
                    self.is_ready(at);
                } else {
                    self.connections[at].is_queued = true;
                    self.ready.push_front(at);
                    return;
                }
            }
        }
    }

    fn has_room(&self, at: usize) -> bool {
        let connection = &self.connections[at];
        let can_send = if self.plan.keep_alive { State::Open } else { State::Down };
        connection.state == can_send
            && !connection.is_paused
            && self.left > 0
            && connection.pending.len() < self.plan.depth as usize
    }

    fn is_ready(&mut self, at: usize) {
        if !self.connections[at].is_queued && self.has_room(at) {
            self.connections[at].is_queued = true;
            self.ready.push_back(at);
        }
    }

    fn start(&mut self, at: usize, planned: u64, now: u64) {
        let request = self.choice.next();
        let started = Started { request, planned, sent: now };
        self.recorder.started(started);
        self.under_way += 1;
        self.left -= 1;
        let connection = &mut self.connections[at];
        let has_body = self.plan.requests[request].expect.body.is_some();
        let comparison = (has_body && self.plan.is_sampled(connection.requests)).then(Comparison::new);
        connection.requests += 1;
        connection.pending.push_back(Pending { started, comparison });
        connection.out.extend_from_slice(&self.bytes[request]);
        if !self.plan.keep_alive {
            self.connect(at, now);
        }
    }

    /// Opens what is to be opened, not too many at once.
    fn connect_some(&mut self, now: u64) {
        while self.connecting < CONNECTING
            && let Some(at) = self.down.pop_front()
        {
            self.connect(at, now);
        }
    }

    fn connect(&mut self, at: usize, now: u64) {
        let registry = self.poll.registry();
        let interest = Interest::READABLE | Interest::WRITABLE;
        let socket = TcpStream::connect(self.address).and_then(|mut socket| {
            registry.register(&mut socket, Token(at), interest)?;
            Ok(socket)
        });
        match socket {
            Ok(socket) => {
                // Requests are small and wait for answers: never held back (RFC 9293, 3.7.4).
                let _ = socket.set_nodelay(true);
                self.connections[at].socket = Some(socket);
                self.connections[at].state = State::Connecting(now);
                self.connecting += 1;
            }
            Err(error) => self.cannot_connect(at, error),
        }
    }

    /// Something has happened to a socket that is being opened.
    fn connected(&mut self, at: usize) {
        let Some(socket) = &self.connections[at].socket else { return };
        let error = match socket.take_error() {
            Ok(None) => match socket.peer_addr() {
                Ok(_) => None,
                Err(error) if error.kind() == io::ErrorKind::NotConnected => return,
                Err(error) => Some(error),
            },
            Ok(Some(error)) | Err(error) => Some(error),
        };
        if let Some(error) = error {
            self.cannot_connect(at, error);
            return;
        }
        self.connecting -= 1;
        self.recorder.opened();
        if self.is_running && self.plan.keep_alive {
            self.recorder.found.connections.reconnects += 1;
        }
        self.connections[at].state = State::Open;
        self.connections[at].requests = self.connections[at].pending.len() as u64;
        self.is_ready(at);
    }

    fn cannot_connect(&mut self, at: usize, error: io::Error) {
        let kind = ErrorKind::of_connect(&error);
        let why = error.to_string();
        self.first_error.get_or_insert(error);
        // Without keep-alive it is a request that fails.
        if self.connections[at].pending.is_empty() {
            self.recorder.failed(clock::now(), kind, || why);
            self.drop_socket(at, true);
        } else {
            self.fail(at, kind, &why, true);
        }
    }

    fn flush(&mut self, at: usize) {
        let connection = &mut self.connections[at];
        if connection.out.is_empty() || !matches!(connection.state, State::Open) {
            return;
        }
        let Some(socket) = &mut connection.socket else { return };
        let mut written = 0;
        let error = loop {
            match socket.write(&connection.out[connection.written..]) {
                Ok(length) => {
                    written += length;
                    connection.written += length;
                    if connection.written == connection.out.len() {
                        connection.out.clear();
                        connection.written = 0;
                        break None;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break None,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Some(error),
            }
        };
        if written > 0 {
            let now = connection.pending.back().map_or_else(clock::now, |pending| pending.started.sent);
            self.recorder.wrote(now, written);
        }
        if let Some(error) = error {
            // A server may answer before it has read the request, and close (RFC 9112, 9.3): what has come counts.
            self.receive(at, true);
            if self.connections[at].socket.is_some() {
                self.broken(at, &error);
            }
        }
    }

    /// Closes a connection and sees to it that it is opened again.
    fn drop_socket(&mut self, at: usize, pause: bool) {
        let connection = &mut self.connections[at];
        match connection.state {
            State::Down => {}
            State::Connecting(_) => self.connecting -= 1,
            State::Open | State::Closing(_) => self.recorder.closed(),
        }
        connection.socket = None;
        connection.state = State::Down;
        connection.parser = Parser::new();
        connection.rest.clear();
        connection.out.clear();
        connection.written = 0;
        connection.requests = 0;
        if pause {
            connection.is_paused = true;
            self.paused.push_back((clock::now() + PAUSE, at));
        } else {
            self.up_again(at);
        }
    }

    fn up_again(&mut self, at: usize) {
        if self.plan.keep_alive {
            self.down.push_back(at);
        } else {
            self.is_ready(at);
        }
    }

    /// Until when the server may close the first of the connections that it is to close.
    fn closing_until(&mut self) -> Option<u64> {
        while let Some(at) = self.closing.front() {
            if let State::Closing(until) = self.connections[*at].state {
                return Some(until);
            }
            // The server did.
            self.closing.pop_front();
        }
        None
    }

    /// Closes what the server was to close and has not.
    fn close_due(&mut self, now: u64) {
        while self.closing_until().is_some_and(|until| until <= now) {
            if let Some(at) = self.closing.pop_front() {
                self.drop_socket(at, false);
            }
        }
    }

    /// Ends pauses.
    fn resume(&mut self, now: u64) {
        while let Some((until, at)) = self.paused.front().copied()
            && until <= now
        {
            self.paused.pop_front();
            self.connections[at].is_paused = false;
            self.up_again(at);
        }
    }

    /// Gives up what takes longer than the timeout.
    fn give_up_late(&mut self, now: u64) {
        let timeout = self.plan.timeout;
        for at in 0..self.connections.len() {
            let connection = &self.connections[at];
            match connection.state {
                State::Connecting(since) if now >= since + timeout => {
                    self.cannot_connect(at, io::ErrorKind::TimedOut.into());
                }
                State::Open
                    if connection.pending.front().is_some_and(|it| now >= it.started.sent + timeout) =>
                {
                    self.fail(at, ErrorKind::Timeout, &self.plan.late(), false);
                }
                _ => {}
            }
        }
    }
}
