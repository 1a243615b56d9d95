//! The loop of the process: commands, the start's progress, and signals, in the order in which they come.

use std::fs::{self, File};
use std::io::{self, PipeReader, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::process::ExitCode;

use libcontainer::container::Container;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{Pid, fchown};
use tare_keeper::{Command, Create, Event, cgroup, line};

use crate::command_line::{self, Created};
use crate::embedded::{self, REACHED};
use crate::network;
use crate::root;

/// No command is longer.
const COMMAND_LIMIT: usize = 1 << 20;

enum Made {
    Embedded(Box<Container>),
    CommandLine(Created),
}

struct Keeper {
    request: Create,
    made: Made,
    pid: Pid,
    /// Of a start by libcontainer, until its end was seen.
    progress: Option<PipeReader>,
    /// What came over it.
    said: Vec<u8>,
    ended: bool,
}

/// Runs until the container is removed.
pub(crate) fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            // It fails when the parent is gone.
            let _ = send(&Event::Failed { message });
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let mut commands = Commands::open().map_err(|error| format!("no stdin: {error}"))?;
    // SIGCHLD reports the container's end; the others ask for our own.
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        signals.add(signal);
    }
    signals.thread_block().map_err(|error| format!("cannot block signals: {error}"))?;
    let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(|error| format!("cannot wait for signals: {error}"))?;
    let Some(Command::Create(request)) = commands.wait().map_err(|error| format!("cannot read: {error}"))?
    else {
        return Err("the first command must be `create`".to_owned());
    };
    let mut keeper = Keeper::create(*request)?;
    let result = keeper.serve(&mut commands, &signals);
    let removed = keeper.remove();
    result?;
    removed?;
    // The parent may be gone.
    let _ = send(&Event::Removed);
    Ok(())
}

impl Keeper {
    fn create(request: Create) -> Result<Self, String> {
        let begun = now()?;
        let output = io::stderr().as_fd().try_clone_to_owned().map_err(|error| error.to_string())?;
        let made = root::mount(&request.bundle.join("rootfs"), &request.root)
            .and_then(|in_memory| Ok((in_memory, Self::make(&request, &output)?)));
        let (in_memory, (made, pid, progress)) = match made {
            Ok(made) => made,
            Err(error) => {
                // What was made before it failed.
                let _ = cgroup::remove(&request.cgroup);
                let _ = fs::remove_dir_all(request.state.join(&request.id));
                let _ = root::remove(&request.root);
                return Err(error);
            }
        };
        let keeper =
            Self { request, made, pid: Pid::from_raw(pid), progress, said: Vec::new(), ended: false };
        send(&Event::Created { pid, begun, at: now()?, in_memory })?;
        Ok(keeper)
    }

    fn make(request: &Create, output: &OwnedFd) -> Result<(Made, i32, Option<PipeReader>), String> {
        if request.new_network {
            network::new_network(&request.network_parameters)?;
        }
        // The container may open its output again by `/dev/stdout`, which checks the permissions of the pipe.
        let (user, group) = request.owner;
        fchown(output.as_raw_fd(), Some(user.into()), Some(group.into()))
            .map_err(|error| format!("cannot give the output to user {user}: {error}"))?;
        if let Some(program) = &request.program {
            let created = command_line::create(request, program, output)?;
            let pid = created.pid;
            return Ok((Made::CommandLine(created), pid, None));
        }
        let (reader, writer) = io::pipe().map_err(|error| format!("no pipe: {error}"))?;
        let (container, pid) = embedded::create(request, output, writer)?;
        Ok((Made::Embedded(Box::new(container)), pid, Some(reader)))
    }

    /// Until it is to be removed, or the parent is gone.
    fn serve(&mut self, commands: &mut Commands, signals: &SignalFd) -> Result<(), String> {
        let mut started = false;
        loop {
            let ready = {
                let watched = self.progress.as_ref().filter(|_| started);
                ready([Some(commands.input.as_fd()), watched.map(|it| it.as_fd()), Some(signals.as_fd())])?
            };
            // An end that comes together with the start is reported after it.
            if ready[1] {
                self.read_progress()?;
            }
            if ready[2] {
                while let Some(signal) = signals.read_signal().map_err(|error| error.to_string())? {
                    if signal.ssi_signo != Signal::SIGCHLD as u32 {
                        return Ok(());
                    }
                }
                self.look_for_end()?;
            }
            if ready[0] && !commands.fill().map_err(|error| error.to_string())? {
                return Ok(());
            }
            while let Some(command) = commands.next()? {
                match command {
                    Command::Create(_) => return Err("it is created already".to_owned()),
                    Command::Remove => return Ok(()),
                    Command::Start => {
                        started = true;
                        self.start()?;
                    }
                    Command::Signal { number } => self.signal(number)?,
                }
            }
        }
    }

    fn start(&mut self) -> Result<(), String> {
        match &mut self.made {
            Made::Embedded(container) => embedded::start(container)?,
            Made::CommandLine(created) => created.start()?,
        }
        send(&Event::Started { at: now()? })?;
        if let Made::CommandLine(created) = &self.made {
            created.wait_for_program();
            send(&Event::Executed { at: now()? })?;
        }
        Ok(())
    }

    fn read_progress(&mut self) -> Result<(), String> {
        let at = now()?;
        let Some(reader) = &mut self.progress else { return Ok(()) };
        let mut buffer = [0; 4096];
        let length = reader.read(&mut buffer).map_err(|error| format!("cannot read a pipe: {error}"))?;
        self.said.extend_from_slice(&buffer[..length]);
        if length > 0 {
            return Ok(());
        }
        self.progress = None;
        match self.said.as_slice() {
            [REACHED] => send(&Event::Executed { at }),
            [REACHED, reason @ ..] => {
                send(&Event::Failed { message: String::from_utf8_lossy(reason).into_owned() })
            }
            _ => send(&Event::Failed { message: "the container ended before its program began".to_owned() }),
        }
    }

    /// Reports the end of the container's first process, and reaps all others.
    fn look_for_end(&mut self) -> Result<(), String> {
        loop {
            let status = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) | Err(nix::Error::ECHILD) => return Ok(()),
                Ok(status) => status,
                Err(error) => return Err(format!("cannot wait: {error}")),
            };
            let (code, signal) = match status {
                WaitStatus::Exited(pid, code) if pid == self.pid => (Some(code), None),
                WaitStatus::Signaled(pid, signal, _) if pid == self.pid => (None, Some(signal as i32)),
                _ => continue,
            };
            // What it got to comes first: up to two reads, of what is there and of the end.
            while self.progress.is_some() {
                self.read_progress()?;
            }
            self.ended = true;
            send(&Event::Exited { at: now()?, code, signal })?;
        }
    }

    fn signal(&self, number: i32) -> Result<(), String> {
        let signal = Signal::try_from(number).map_err(|_| format!("there is no signal {number}"))?;
        if self.ended {
            return Ok(());
        }
        kill(self.pid, signal).map_err(|error| format!("cannot send {signal}: {error}"))
    }

    fn remove(&mut self) -> Result<(), String> {
        if !self.ended {
            // The first process of a PID namespace takes all others with it (pid_namespaces(7)).
            let _ = kill(self.pid, Signal::SIGKILL);
            let _ = waitpid(self.pid, None);
            self.ended = true;
        }
        let deleted = match &self.made {
            Made::Embedded(_) => Ok(()),
            Made::CommandLine(created) => created.delete(),
        };
        cgroup::remove(&self.request.cgroup).map_err(|error| format!("cannot remove the cgroup {error}"))?;
        let folder = self.request.state.join(&self.request.id);
        let layer = root::remove(&self.request.root);
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(format!("cannot remove {}: {error}", folder.display()))
            }
            _ => deleted.and(layer),
        }
    }
}

/// Which of some files can be read, waiting until one can.
fn ready<const N: usize>(files: [Option<BorrowedFd<'_>>; N]) -> Result<[bool; N], String> {
    let mut polled: Vec<PollFd<'_>> =
        files.iter().flatten().map(|file| PollFd::new(*file, PollFlags::POLLIN)).collect();
    loop {
        match poll(&mut polled, PollTimeout::NONE) {
            Ok(_) => break,
            Err(nix::Error::EINTR) => {}
            Err(error) => return Err(format!("cannot wait: {error}")),
        }
    }
    let mut polled = polled.iter();
    Ok(files.map(|file| file.is_some() && polled.next().is_some_and(|it| it.any().unwrap_or(false))))
}

/// The lines of stdin.
struct Commands {
    input: File,
    buffer: Vec<u8>,
}

impl Commands {
    fn open() -> io::Result<Self> {
        Ok(Self { input: File::from(io::stdin().as_fd().try_clone_to_owned()?), buffer: Vec::new() })
    }

    /// Reads what is there; false at the end.
    fn fill(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 4096];
        let length = self.input.read(&mut buffer)?;
        self.buffer.extend_from_slice(&buffer[..length]);
        if self.buffer.len() > COMMAND_LIMIT {
            return Err(io::Error::other("a command is too long"));
        }
        Ok(length > 0)
    }

    /// The next that was read whole.
    fn next(&mut self) -> Result<Option<Command>, String> {
        let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
        let line: Vec<u8> = self.buffer.drain(..=end).collect();
        serde_json::from_slice(&line).map(Some).map_err(|error| format!("not a command: {error}"))
    }

    /// The next; none at the end.
    fn wait(&mut self) -> io::Result<Option<Command>> {
        loop {
            if let Some(command) = self.next().map_err(io::Error::other)? {
                return Ok(Some(command));
            }
            if !self.fill()? {
                return Ok(None);
            }
        }
    }
}

fn send(event: &Event) -> Result<(), String> {
    let line = line(event).map_err(|error| error.to_string())?;
    let mut out = File::from(io::stdout().as_fd().try_clone_to_owned().map_err(|error| error.to_string())?);
    out.write_all(&line).map_err(|error| format!("cannot write to stdout: {error}"))
}

fn now() -> Result<u64, String> {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).map_err(|error| format!("no clock: {error}"))?;
    let (seconds, rest) = (time.tv_sec().unsigned_abs(), time.tv_nsec().unsigned_abs());
    Ok(seconds * 1_000_000_000 + rest)
}
