//! Waits until a point in time as exactly as the host allows: on Linux with a timerfd, with the resolution of its clock,
//! elsewhere with poll, to the millisecond. (wrk2 rounds every wait up to a millisecond, and attributes it to the server.)

use std::io;
use std::time::Duration;

use mio::{Events, Poll, Token};

use crate::clock;

/// No connection has this token.
pub(crate) const TIMER: Token = Token(usize::MAX);

/// A poll with an alarm.
#[derive(Debug)]
pub(crate) struct Timer {
    #[cfg(target_os = "linux")]
    alarm: Alarm,
}

#[cfg(target_os = "linux")]
impl Timer {
    pub(crate) fn new(poll: &Poll) -> io::Result<Self> {
        use std::os::fd::AsRawFd as _;
        let alarm = Alarm::new()?;
        let fd = alarm.fd.as_raw_fd();
        poll.registry().register(&mut mio::unix::SourceFd(&fd), TIMER, mio::Interest::READABLE)?;
        Ok(Self { alarm })
    }

    /// Waits for events until a point of the clock.
    pub(crate) fn poll(&mut self, poll: &mut Poll, events: &mut Events, until: u64) -> io::Result<()> {
        let timeout = if until <= clock::now() {
            Some(Duration::ZERO)
        } else {
            self.alarm.set(until)?;
            None
        };
        again(|| poll.poll(events, timeout))
    }
}

#[cfg(not(target_os = "linux"))]
impl Timer {
    pub(crate) fn new(_: &Poll) -> io::Result<Self> {
        Ok(Self {})
    }

    /// Waits for events until a point of the clock.
    pub(crate) fn poll(&mut self, poll: &mut Poll, events: &mut Events, until: u64) -> io::Result<()> {
        let timeout = Duration::from_nanos(until.saturating_sub(clock::now()));
        again(|| poll.poll(events, Some(timeout)))
    }
}

/// A signal is no event.
fn again(mut poll: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    match poll() {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        other => other,
    }
}

/// A timerfd of CLOCK_MONOTONIC (timerfd_create(2)). It is never read: with edge-triggered polling every
/// expiry is an event of its own, and setting it again clears it.
#[cfg(target_os = "linux")]
#[derive(Debug)]
pub(crate) struct Alarm {
    fd: std::os::fd::OwnedFd,
    set: u64,
}

#[cfg(target_os = "linux")]
impl Alarm {
    pub(crate) fn new() -> io::Result<Self> {
        use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        Ok(Self { fd: timerfd_create(TimerfdClockId::Monotonic, flags)?, set: 0 })
    }

    pub(crate) fn set(&mut self, at: u64) -> io::Result<()> {
        use rustix::time::{Itimerspec, TimerfdTimerFlags, Timespec, timerfd_settime};
        if at == self.set {
            return Ok(());
        }
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        let value = Timespec { tv_sec: (at / 1_000_000_000) as i64, tv_nsec: (at % 1_000_000_000) as _ };
        let spec = Itimerspec { it_interval: never, it_value: value };
        timerfd_settime(&self.fd, TimerfdTimerFlags::ABSTIME, &spec)?;
        self.set = at;
        Ok(())
    }
}

#[cfg(target_os = "linux")]
impl std::os::fd::AsRawFd for Alarm {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.fd.as_raw_fd()
    }
}
