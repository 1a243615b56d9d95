//! The client of `tare-keeper`: starts it, sends its commands, collects its events, and keeps the end of the
//! container's output.
//!
//! This module starts a program without `tare_tool::process`, which does not support three pipes that stay open as long
//! as the container runs.

use std::collections::VecDeque;
use std::io::{self, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command as Program, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tare_keeper::{Command, Create, Event, line};
use tare_tool::process::{Shell, cmd, spawn};

use super::life::Follower;

/// For output that is still in the pipe.
const LAST_OUTPUT: Duration = Duration::from_millis(500);
/// Bytes of output that are kept.
const OUTPUT_KEPT: usize = 64 << 10;
/// How long a creation or removal may take before the host is taken to be broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// The events of a container so far. Times are ns of CLOCK_MONOTONIC.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Events {
    pub(crate) pid: Option<i32>,
    pub(crate) in_memory: bool,
    pub(crate) created: Option<u64>,
    pub(crate) started: Option<u64>,
    pub(crate) executed: Option<u64>,
    pub(crate) exited: Option<(u64, Option<i32>, Option<i32>)>,
    pub(crate) failed: Option<String>,
    pub(crate) removed: bool,
    /// Nothing more will come.
    pub(crate) ended: bool,
}

#[derive(Debug, Default)]
struct Shared {
    events: Mutex<Events>,
    changed: Condvar,
    output: Mutex<Output>,
}

#[derive(Default)]
struct Output {
    /// The end of it.
    kept: VecDeque<u8>,
    follower: Option<Follower>,
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output").field("kept", &self.kept).finish_non_exhaustive()
    }
}

impl Output {
    fn push(&mut self, bytes: &[u8]) {
        // A follower that fails is gone; the container goes on.
        if self.follower.as_mut().is_some_and(|it| it.write_all(bytes).and_then(|()| it.flush()).is_err()) {
            self.follower = None;
        }
        self.kept.extend(bytes);
        let surplus = self.kept.len().saturating_sub(OUTPUT_KEPT);
        self.kept.drain(..surplus);
    }

    fn follow(&mut self, mut follower: Follower) {
        let (first, second) = self.kept.as_slices();
        let written = follower.write_all(first).and_then(|()| follower.write_all(second));
        self.follower = written.and_then(|()| follower.flush()).is_ok().then_some(follower);
    }

    fn text(&self) -> String {
        let bytes: Vec<u8> = self.kept.iter().copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// A running keeper. Dropped, it ends, and with it the container.
#[derive(Debug)]
pub(crate) struct Keeper {
    child: Mutex<Child>,
    stdin: Mutex<Option<ChildStdin>>,
    shared: Arc<Shared>,
    /// The container's output, to see whether all of it has been read.
    pipe: Option<std::os::fd::OwnedFd>,
    /// When it was started.
    pub(crate) begun: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Keeper {
    /// Starts a keeper and has it create a container.
    ///
    /// # Errors
    /// With what it or the runtime said.
    pub(crate) fn create(program: &Path, request: Create) -> Result<Self, String> {
        use std::os::unix::process::CommandExt as _;
        let begun = tare_load::clock::now();
        let sh = Shell::new().map_err(|error| error.to_string())?;
        let mut command = Program::from(cmd!(sh, "{program}"));
        // A group of its own: Ctrl-C is for this process, which then removes the container in order.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child =
            spawn(&mut command).map_err(|error| format!("cannot run {}: {error}", program.display()))?;
        let shared = Arc::new(Shared::default());
        if let Some(stdout) = child.stdout.take() {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || shared.listen(BufReader::new(stdout)));
        }
        let pipe =
            child.stderr.as_ref().and_then(|it| std::os::fd::AsFd::as_fd(it).try_clone_to_owned().ok());
        if let Some(stderr) = child.stderr.take() {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || shared.collect(stderr));
        }
        let stdin = Mutex::new(child.stdin.take());
        let keeper = Self { child: Mutex::new(child), stdin, shared, pipe, begun };
        keeper.send(&Command::Create(Box::new(request)))?;
        let events = keeper.wait(PATIENCE, |events| events.pid.is_some() || events.failed.is_some());
        match events.pid {
            Some(_) => Ok(keeper),
            None => Err(events.failed.clone().unwrap_or_else(|| keeper.silence(&events))),
        }
    }

    fn silence(&self, events: &Events) -> String {
        match events.ended {
            true => format!("the runtime ended without a word: {}", self.output().trim()),
            false => format!("the runtime did not answer within {} s", PATIENCE.as_secs()),
        }
    }

    /// Sends a command.
    pub(crate) fn send(&self, command: &Command) -> Result<(), String> {
        let line = line(command).map_err(|error| error.to_string())?;
        match lock(&self.stdin).as_mut() {
            Some(stdin) => stdin.write_all(&line).map_err(|error| match self.events().failed {
                Some(reason) => reason,
                None => format!("the runtime is gone: {error}"),
            }),
            None => Err("the container was removed".to_owned()),
        }
    }

    /// Its events so far.
    pub(crate) fn events(&self) -> Events {
        lock(&self.shared.events).clone()
    }

    /// Waits until the events are enough, nothing more can come, or the time is over.
    pub(crate) fn wait(&self, timeout: Duration, enough: impl Fn(&Events) -> bool) -> Events {
        let deadline = Instant::now() + timeout;
        let mut events = lock(&self.shared.events);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if enough(&events) || events.ended || left.is_zero() {
                return events.clone();
            }
            let waited = self.shared.changed.wait_timeout(events, left);
            events = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until its program runs.
    ///
    /// # Errors
    /// When it cannot be run.
    pub(crate) fn wait_executed(&self) -> Result<(), String> {
        let events = self.wait(PATIENCE, |events| events.executed.is_some() || events.failed.is_some());
        match (events.executed, events.failed.clone()) {
            (Some(_), _) => Ok(()),
            (None, Some(reason)) => Err(reason),
            (None, None) => Err(self.silence(&events)),
        }
    }

    /// The last of what the container printed.
    pub(crate) fn output(&self) -> String {
        // Another thread reads the pipe, and may not have read everything yet.
        let deadline = Instant::now() + LAST_OUTPUT;
        let unread = || self.pipe.as_ref().and_then(|pipe| rustix::io::ioctl_fionread(pipe).ok());
        while unread().is_some_and(|length| length > 0) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        lock(&self.shared.output).text()
    }

    /// Copies what the container printed, as far as it is kept, and prints from now on.
    pub(crate) fn follow(&self, follower: Follower) {
        lock(&self.shared.output).follow(follower);
    }

    /// Kills the container and waits until nothing of it is left.
    pub(crate) fn remove(&self) -> Result<(), String> {
        // Its end has the same effect, should it not take the command.
        let _ = self.send(&Command::Remove);
        drop(lock(&self.stdin).take());
        let events = self.wait(PATIENCE, |_| false);
        if !events.ended {
            let _ = lock(&self.child).kill();
        }
        let status = lock(&self.child).wait();
        match (events.removed, events.failed, status) {
            (true, _, _) => Ok(()),
            // It removes what it has made when a creation fails, too.
            (false, Some(reason), _) if events.pid.is_some() => Err(reason),
            (false, Some(_), _) => Ok(()),
            (false, None, Ok(status)) => Err(format!("the runtime ended early ({status})")),
            (false, None, Err(error)) => Err(error.to_string()),
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(lock(&self.stdin).take());
        // Bounded by its own patience with the kernel.
        let _ = lock(&self.child).wait();
    }
}

impl Shared {
    fn listen(&self, lines: impl io::BufRead) {
        for line in lines.lines() {
            let Ok(line) = line else { break };
            let event = serde_json::from_str(&line);
            let mut events = lock(&self.events);
            match event {
                Ok(Event::Created { pid, at, in_memory, .. }) => {
                    events.pid = Some(pid);
                    events.in_memory = in_memory;
                    events.created = Some(at);
                }
                Ok(Event::Started { at }) => events.started = Some(at),
                Ok(Event::Executed { at }) => events.executed = Some(at),
                Ok(Event::Exited { at, code, signal }) => events.exited = Some((at, code, signal)),
                Ok(Event::Removed) => events.removed = true,
                Ok(Event::Failed { message }) => events.failed = Some(message),
                Err(error) => events.failed = Some(format!("cannot understand `{line}`: {error}")),
            }
            self.changed.notify_all();
        }
        lock(&self.events).ended = true;
        self.changed.notify_all();
    }

    /// Reads on to the end, so that the container never waits for a reader.
    fn collect(&self, mut output: impl io::Read) {
        let mut buffer = [0; 8192];
        loop {
            let length = match output.read(&mut buffer) {
                Ok(0) => return,
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return,
            };
            lock(&self.output).push(&buffer[..length]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_a_keeper_are_kept_and_its_end_too() {
        let shared = Shared::default();
        let events = "{\"event\":\"created\",\"pid\":7,\"begun\":1,\"at\":2,\"in_memory\":false}\n\
            {\"event\":\"started\",\"at\":3}\n{\"event\":\"executed\",\"at\":4}\n\
            {\"event\":\"exited\",\"at\":5,\"code\":null,\"signal\":9}\n{\"event\":\"removed\"}\n";
        shared.listen(events.as_bytes());
        let expected = Events {
            pid: Some(7),
            in_memory: false,
            created: Some(2),
            started: Some(3),
            executed: Some(4),
            exited: Some((5, None, Some(9))),
            failed: None,
            removed: true,
            ended: true,
        };
        assert_eq!(*lock(&shared.events), expected);
    }

    #[test]
    fn only_the_end_of_a_long_output_is_kept() {
        let shared = Shared::default();
        let text: String = (0..20_000).map(|number| format!("line {number}\n")).collect();
        shared.collect(text.as_bytes());
        let kept = lock(&shared.output).text();
        assert_eq!(kept.len(), OUTPUT_KEPT);
        assert!(kept.ends_with("line 19999\n"));
    }

    #[test]
    fn output_is_followed_whole_also_where_only_its_end_is_kept() {
        use std::sync::mpsc;

        struct Sent(mpsc::Sender<Vec<u8>>);
        impl io::Write for Sent {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.send(bytes.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (sent, received) = mpsc::channel();
        let shared = Shared::default();
        shared.collect(&b"before"[..]);
        lock(&shared.output).follow(Box::new(Sent(sent)));
        let text = "x".repeat(OUTPUT_KEPT * 2);
        shared.collect(text.as_bytes());
        let followed: Vec<u8> = received.try_iter().flatten().collect();
        assert_eq!(String::from_utf8(followed).unwrap(), format!("before{text}"));
        // Nobody follows any more.
        drop(received);
        shared.collect(&b"the end"[..]);
        assert!(lock(&shared.output).text().ends_with("the end"));
        assert!(lock(&shared.output).follower.is_none());
    }
}
