//! The client of `tare-keeper`: starts it, sends its commands, collects its events, and keeps the end of the
//! container's output.
//!
//! This module starts a program without `tare_tool::process`, which does not support three pipes that stay open as long
//! as the container runs.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufReader, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, ChildStdin, Command as Program, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use tare_keeper::{Command, Create, Event, line};
use tare_tool::process::{Shell, cmd, spawn};

use super::life::Follower;

/// Bytes of output that are kept; a pipe holds as many (pipe(7)).
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

/// What the container prints. Its pipe is read under the lock, so that no byte is neither in the pipe nor here.
#[derive(Default)]
struct Output {
    /// The reading end, which does not block. None after the end.
    pipe: Option<File>,
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
    /// Reads what is in the pipe now; false at the end.
    fn drain(&mut self) -> bool {
        let mut buffer = vec![0; OUTPUT_KEPT];
        let Some(pipe) = &mut self.pipe else { return false };
        match pipe.read(&mut buffer) {
            Ok(0) => {}
            Ok(length) => {
                self.push(&buffer[..length]);
                return true;
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return true;
            }
            Err(_) => {}
        }
        self.pipe = None;
        false
    }

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
    /// Reads the container's output until its end.
    collector: Mutex<Option<JoinHandle<()>>>,
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
        let pipe = child.stderr.take().map(OwnedFd::from);
        let collector = pipe.map(|pipe| collect(&shared, pipe)).transpose();
        let collector = collector.map_err(|error| format!("cannot read the container's output: {error}"))?;
        let collector = Mutex::new(collector);
        let stdin = Mutex::new(child.stdin.take());
        let keeper = Self { child: Mutex::new(child), stdin, shared, collector, begun };
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

    /// The last of what the container has printed up to now.
    pub(crate) fn output(&self) -> String {
        let mut output = lock(&self.shared.output);
        output.drain();
        output.text()
    }

    /// Copies what the container printed, as far as it is kept, and prints from now on. The thread that does so ends
    /// with the output, at the latest when the container has been removed.
    pub(crate) fn follow(&self, follower: Follower) -> Option<JoinHandle<()>> {
        lock(&self.shared.output).follow(follower);
        lock(&self.collector).take()
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
}

/// Reads a container's output to its end on a thread, so that the container never waits for a reader.
fn collect(shared: &Arc<Shared>, pipe: OwnedFd) -> io::Result<JoinHandle<()>> {
    let readable = pipe.try_clone()?;
    rustix::io::ioctl_fionbio(&pipe, true)?;
    lock(&shared.output).pipe = Some(File::from(pipe));
    let shared = Arc::clone(shared);
    Ok(std::thread::spawn(move || {
        loop {
            match poll(&mut [PollFd::new(&readable, PollFlags::IN)], None) {
                Ok(_) if lock(&shared.output).drain() => {}
                Err(rustix::io::Errno::INTR) => {}
                _ => return,
            }
        }
    }))
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

    /// A pipe whose reading end is the output's, and its writing end.
    fn output() -> (Arc<Shared>, io::PipeWriter, JoinHandle<()>) {
        let (reader, writer) = io::pipe().unwrap();
        let shared = Arc::new(Shared::default());
        let collector = collect(&shared, OwnedFd::from(reader)).unwrap();
        (shared, writer, collector)
    }

    #[test]
    fn only_the_end_of_a_long_output_is_kept() {
        let (shared, mut writer, collector) = output();
        let text: String = (0..20_000).map(|number| format!("line {number}\n")).collect();
        writer.write_all(text.as_bytes()).unwrap();
        drop(writer);
        collector.join().unwrap();
        let kept = lock(&shared.output).text();
        assert_eq!(kept.len(), OUTPUT_KEPT);
        assert!(kept.ends_with("line 19999\n"));
    }

    /// The collector may not have got to it.
    #[test]
    fn what_was_printed_before_the_question_is_in_the_answer() {
        let (reader, mut writer) = io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&reader, true).unwrap();
        let mut output = Output { pipe: Some(File::from(OwnedFd::from(reader))), ..Output::default() };
        assert!(output.drain());
        assert_eq!(output.text(), "");
        writer.write_all(b"last words").unwrap();
        assert!(output.drain());
        assert_eq!(output.text(), "last words");
        drop(writer);
        assert!(!output.drain());
        assert!(!output.drain());
        assert_eq!(output.text(), "last words");
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
        let mut output = Output::default();
        output.push(b"before");
        output.follow(Box::new(Sent(sent)));
        let text = "x".repeat(OUTPUT_KEPT * 2);
        output.push(text.as_bytes());
        let followed: Vec<u8> = received.try_iter().flatten().collect();
        assert_eq!(String::from_utf8(followed).unwrap(), format!("before{text}"));
        // Nobody follows any more.
        drop(received);
        output.push(b"the end");
        assert!(output.text().ends_with("the end"));
        assert!(output.follower.is_none());
    }
}
