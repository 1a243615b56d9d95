//! One thread: its listener, its epoll instance, its connections.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::time::{ClockId, clock_gettime};

use crate::answer::Answers;
use crate::connection::{Connection, Next};

/// What the kernel allows by itself (`net.core.somaxconn`).
const BACKLOG: i32 = 4096;
/// Holds far more than 16 small requests.
const BUFFER: usize = 16 * 1024;
/// Events taken at a time.
const EVENTS: usize = 512;
/// Of the listener; a connection's is the number of its file, which is never negative.
const LISTENER: u64 = u64::MAX;

#[derive(Debug)]
pub(crate) struct Worker {
    listener: OwnedFd,
    epoll: OwnedFd,
    /// By the number of their file: the kernel gives out the smallest that is free.
    connections: Vec<Option<Connection>>,
    answers: Answers,
    buffer: Box<[u8]>,
    out: Vec<u8>,
}

impl Worker {
    pub(crate) fn listen(address: SocketAddr) -> io::Result<Self> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let listener = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        sockopt::set_socket_reuseaddr(&listener, true)?;
        // The kernel spreads connections over the threads (socket(7)).
        sockopt::set_socket_reuseport(&listener, true)?;
        rustix::net::bind(&listener, &address)?;
        rustix::net::listen(&listener, BACKLOG)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        Ok(Self {
            listener,
            epoll,
            connections: Vec::new(),
            answers: Answers::at(second()),
            buffer: vec![0; BUFFER].into(),
            out: Vec::new(),
        })
    }

    pub(crate) fn run(&mut self) {
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            events.clear();
            // It fails only when a signal interrupts it.
            if epoll::wait(&self.epoll, spare_capacity(&mut events), None).is_err() {
                continue;
            }
            self.answers.refresh(second());
            for event in &events {
                match event.data.u64() {
                    LISTENER => self.accept(),
                    index => self.serve(index as usize, event.flags),
                }
            }
        }
    }

    /// Takes what is waiting, one at a time: when more is there, epoll says so again.
    fn accept(&mut self) {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let Ok(socket) = rustix::net::accept_with(&self.listener, flags) else { return };
        let Ok(index) = usize::try_from(socket.as_raw_fd()) else { return };
        // Answers go out at once, although an earlier one is not acknowledged (Nagle, RFC 896).
        let set_up = sockopt::set_tcp_nodelay(&socket, true).and_then(|()| {
            epoll::add(&self.epoll, &socket, EventData::new_u64(index as u64), EventFlags::IN)
        });
        if set_up.is_err() {
            return;
        }
        if self.connections.len() <= index {
            self.connections.resize_with(index + 1, || None);
        }
        self.connections[index] = Some(Connection::new(socket));
    }

    fn serve(&mut self, index: usize, flags: EventFlags) {
        let Some(Some(connection)) = self.connections.get_mut(index) else { return };
        let writes = flags.contains(EventFlags::OUT);
        let next = if writes {
            connection.write()
        } else {
            connection.read(&mut self.buffer, &mut self.out, &self.answers)
        };
        let waited = if writes { Next::Write } else { Next::Read };
        if next == Next::Close || (next != waited && self.wait_for(index, next).is_err()) {
            // Closing the file takes it out of epoll too.
            self.connections[index] = None;
        }
    }

    fn wait_for(&self, index: usize, next: Next) -> Result<(), Errno> {
        let Some(Some(connection)) = self.connections.get(index) else { return Ok(()) };
        let flags = if next == Next::Write { EventFlags::OUT } else { EventFlags::IN };
        epoll::modify(&self.epoll, connection.socket(), EventData::new_u64(index as u64), flags)
    }
}

/// Since the epoch. The coarse clock costs no more than a read of memory (clock_gettime(2)).
fn second() -> u64 {
    u64::try_from(clock_gettime(ClockId::RealtimeCoarse).tv_sec).unwrap_or_default()
}
