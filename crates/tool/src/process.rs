//! Starts other programs: `cmd!` makes a command, and [`Execute`] runs it. Every error names the command.

use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

pub use xshell::{self, Shell, cmd};

use crate::signals;

/// A command that could not be run or did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// There is no such program.
    #[error("`{program}` is not installed or not on PATH")]
    NotFound {
        /// Which.
        program: String,
    },
    /// The program could not be started, or its output could not be read.
    #[error("cannot run `{command}`")]
    Io {
        /// Which.
        command: String,
        /// Why.
        source: std::io::Error,
    },
    /// It ended with an error.
    #[error("`{command}` failed ({status}){}{}", if stderr.is_empty() { "" } else { ": " }, stderr)]
    Failed {
        /// Which.
        command: String,
        /// How.
        status: ExitStatus,
        /// The captured stderr; empty if it was not captured.
        stderr: String,
    },
    /// A signal has arrived, so that nothing is started any more.
    #[error("interrupted before `{command}`")]
    Interrupted {
        /// The command that was not run.
        command: String,
    },
    /// The current directory is gone.
    #[error(transparent)]
    Shell(#[from] xshell::Error),
}

/// A shell whose commands run in this folder.
///
/// # Errors
/// When the current directory is gone.
pub fn shell_in(folder: &Path) -> Result<Shell, ProcessError> {
    let shell = Shell::new()?;
    shell.change_dir(folder);
    Ok(shell)
}

/// The ways to run a command of `cmd!`. xshell's own print the command and leave stderr out of the error.
pub trait Execute: Into<Command> + Display + Sized {
    /// Without some variables of the environment.
    #[must_use]
    fn without_env(self, names: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self;

    /// Runs the command and returns its stdout. stderr is captured for the error.
    ///
    /// # Errors
    /// When it cannot be run or fails.
    fn capture(self) -> Result<Vec<u8>, ProcessError> {
        captured(start(self, piped)?)
    }

    /// [`Self::capture`] as text without surrounding white space. Bytes that are not UTF-8 are replaced.
    ///
    /// # Errors
    /// When it cannot be run or fails.
    fn capture_text(self) -> Result<String, ProcessError> {
        Ok(String::from_utf8_lossy(&self.capture()?).trim().to_owned())
    }

    /// [`Self::capture_text`] of a program that Ctrl-C in a terminal does not reach: it runs in a process group of its own.
    ///
    /// # Errors
    /// When it cannot be run or fails.
    fn capture_text_apart(self) -> Result<String, ProcessError> {
        let output = captured(start(self, |it| in_own_group(piped(it)))?)?;
        Ok(String::from_utf8_lossy(&output).trim().to_owned())
    }

    /// Runs it with our own stderr where failing is an answer too: its exit code, none if a signal ended it, and what
    /// it prints on stdout.
    ///
    /// # Errors
    /// When it cannot be run.
    fn capture_with_code(self) -> Result<(Option<i32>, Vec<u8>), ProcessError> {
        let (child, command) = start(self, |it| it.stdin(Stdio::null()).stdout(Stdio::piped()))?;
        let output = child.wait_with_output().map_err(|source| ProcessError::Io { command, source })?;
        Ok((output.status.code(), output.stdout))
    }

    /// Runs it with our own stdin, stdout and stderr, and returns its exit code, 255 for none of 0 to 255.
    ///
    /// # Errors
    /// When it cannot be run.
    fn exit_code(self) -> Result<u8, ProcessError> {
        let (child, command) = start(self, |it| it)?;
        exit_code(child, command)
    }

    /// [`Self::exit_code`], with the program's stdin passed to `hold`. When `hold` drops it, the program reads the end of
    /// its stdin.
    ///
    /// # Errors
    /// When it cannot be run.
    fn exit_code_with_stdin_held(self, hold: impl FnOnce(ChildStdin)) -> Result<u8, ProcessError> {
        let (mut child, command) = start(self, |it| it.stdin(Stdio::piped()))?;
        // `wait` would close it at once.
        child.stdin.take().map(hold);
        exit_code(child, command)
    }

    /// Replaces this process by the program, which then gets signals and the terminal directly. Where that is not possible
    /// (Windows), waits and returns the exit code (255 for none of 0 to 255).
    ///
    /// # Errors
    /// When it cannot be run.
    fn replace(self) -> Result<u8, ProcessError> {
        #[cfg(unix)]
        {
            use std::os::unix::process::CommandExt as _;
            let (display, mut command) = (self.to_string(), self.into());
            let source = command.exec();
            Err(cannot_start(&command, display, source))
        }
        #[cfg(not(unix))]
        self.exit_code()
    }

    /// Runs it with everything it prints on our stderr, and lets `feed` write its stdin.
    ///
    /// # Errors
    /// When it cannot be run, fed, or fails.
    fn run_with_input(
        self,
        feed: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
    ) -> Result<(), ProcessError> {
        let (mut child, command) = start(self, |it| it.stdin(Stdio::piped()).stdout(std::io::stderr()))?;
        let fed = match child.stdin.take() {
            Some(mut stdin) => feed(&mut stdin),
            None => Ok(()),
        };
        // A program that stops reading early fails with a reason of its own, which says more.
        finish(&mut child, &command)?;
        fed.map_err(|source| ProcessError::Io { command, source })
    }

    /// Runs it with our own stderr, and hands over its stdout line by line while it runs. Says whether
    /// it succeeded.
    ///
    /// # Errors
    /// When it cannot be run or its output cannot be read.
    fn for_each_line(self, mut take: impl FnMut(&str)) -> Result<bool, ProcessError> {
        let (mut child, command) = start(self, |it| it.stdin(Stdio::null()).stdout(Stdio::piped()))?;
        let mut lines =
            child.stdout.take().into_iter().flat_map(|stdout| BufReader::new(stdout).split(b'\n'));
        let read = lines.try_for_each(|line| line.map(|line| take(&String::from_utf8_lossy(&line))));
        // Close stdout, so that the program does not wait for a reader.
        drop(lines);
        let ended = child.wait();
        match read.and(ended) {
            Ok(status) => Ok(status.success()),
            Err(source) => Err(ProcessError::Io { command, source }),
        }
    }

    /// Starts a program for a conversation by lines. It shares our stderr.
    ///
    /// # Errors
    /// When it cannot be started.
    fn converse(self) -> Result<Conversation, ProcessError> {
        let (mut child, command) = start(self, |it| it.stdin(Stdio::piped()).stdout(Stdio::piped()))?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().map(BufReader::new));
        Ok(Conversation { child, command, stdin, stdout })
    }

    /// Starts it with everything it prints going to files, and does not wait for it.
    ///
    /// # Errors
    /// When it cannot be started.
    fn start_beside(self, stdout: std::fs::File, stderr: std::fs::File) -> Result<Running, ProcessError> {
        let (child, command) = start(self, |it| it.stdin(Stdio::null()).stdout(stdout).stderr(stderr))?;
        Ok(Running { child, command })
    }
}

impl Execute for xshell::Cmd<'_> {
    fn without_env(self, names: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        names.into_iter().fold(self, xshell::Cmd::env_remove)
    }
}

/// The write lock is held while a program is started, and a read lock while a file is written that will be executed.
static STARTING: RwLock<()> = RwLock::new(());

/// Starts no program in this process until the guard is dropped: for writing a file that will be executed. A new process
/// has a copy of every open descriptor until it executes its program, and a file that is open for writing anywhere
/// cannot be executed (ETXTBSY, execve(2)).
pub fn no_start() -> RwLockReadGuard<'static, ()> {
    STARTING.read().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a program, but not while a guard of [`no_start`] is held.
///
/// # Errors
/// When it cannot be started.
pub fn spawn(command: &mut Command) -> std::io::Result<Child> {
    let _alone = STARTING.write().unwrap_or_else(PoisonError::into_inner);
    command.spawn()
}

fn start(
    command: impl Execute,
    connect: impl FnOnce(&mut Command) -> &mut Command,
) -> Result<(Child, String), ProcessError> {
    let (display, mut command) = (command.to_string(), command.into());
    if signals::received() {
        return Err(ProcessError::Interrupted { command: display });
    }
    match spawn(connect(&mut command)) {
        Ok(child) => Ok((child, display)),
        Err(source) => Err(cannot_start(&command, display, source)),
    }
}

fn piped(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped())
}

#[cfg(unix)]
fn in_own_group(command: &mut Command) -> &mut Command {
    std::os::unix::process::CommandExt::process_group(command, 0)
}

#[cfg(windows)]
fn in_own_group(command: &mut Command) -> &mut Command {
    /// Process Creation Flags of the Windows API.
    const CREATE_NEW_PROCESS_GROUP: u32 = 0x200;
    std::os::windows::process::CommandExt::creation_flags(command, CREATE_NEW_PROCESS_GROUP)
}

/// The stdout of a program with pipes, which is waited for.
fn captured((child, command): (Child, String)) -> Result<Vec<u8>, ProcessError> {
    let output = match child.wait_with_output() {
        Ok(output) => output,
        Err(source) => return Err(ProcessError::Io { command, source }),
    };
    if output.status.success() {
        return Ok(output.stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(ProcessError::Failed { command, status: output.status, stderr })
}

fn cannot_start(program: &Command, command: String, source: std::io::Error) -> ProcessError {
    match source.kind() {
        std::io::ErrorKind::NotFound => {
            ProcessError::NotFound { program: program.get_program().to_string_lossy().into_owned() }
        }
        _ => ProcessError::Io { command, source },
    }
}

/// A program that exchanges lines with us. Dropping it ends the program.
#[derive(Debug)]
pub struct Conversation {
    child: Child,
    command: String,
    stdin: Option<ChildStdin>,
    stdout: Option<BufReader<std::process::ChildStdout>>,
}

impl Conversation {
    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a line to the program.
    ///
    /// # Errors
    /// When the program does not read any more.
    pub fn tell(&mut self, line: &str) -> Result<(), ProcessError> {
        let told = match &mut self.stdin {
            Some(stdin) => stdin.write_all(format!("{line}\n").as_bytes()).and_then(|()| stdin.flush()),
            None => Err(std::io::ErrorKind::BrokenPipe.into()),
        };
        told.map_err(|source| ProcessError::Io { command: self.command.clone(), source })
    }

    /// Waits for the next line of the program.
    ///
    /// # Errors
    /// When the program has ended instead, with its exit status.
    pub fn listen(&mut self) -> Result<String, ProcessError> {
        let mut line = String::new();
        let length = match &mut self.stdout {
            Some(stdout) => stdout.read_line(&mut line),
            None => Ok(0),
        };
        let failed = |source| ProcessError::Io { command: self.command.clone(), source };
        if length.map_err(failed)? > 0 {
            line.truncate(line.trim_end().len());
            return Ok(line);
        }
        let status = self.child.wait().map_err(failed)?;
        Err(ProcessError::Failed { command: self.command.clone(), status, stderr: String::new() })
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        // Both fail only for a process that is gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program that runs in the background. Dropping it ends the program.
#[derive(Debug)]
pub struct Running {
    child: Child,
    command: String,
}

impl Running {
    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it fails.
    pub fn wait(mut self) -> Result<(), ProcessError> {
        finish(&mut self.child, &self.command)
    }

    /// Sends SIGTERM, and SIGKILL if the program still runs after `patience`.
    pub fn end(&mut self, patience: std::time::Duration) {
        const PAUSE: std::time::Duration = std::time::Duration::from_millis(10);
        if !self.is_running() {
            return;
        }
        // std has no other signal than SIGKILL.
        let id = self.id().to_string();
        let asked = Shell::new().is_ok_and(|sh| cmd!(sh, "sh -c 'kill -TERM \"$0\"' {id}").capture().is_ok());
        let deadline = std::time::Instant::now() + patience;
        while asked && self.is_running() && std::time::Instant::now() < deadline {
            std::thread::sleep(PAUSE);
        }
        // Both fail only for a process that is gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end(std::time::Duration::from_secs(10));
    }
}

fn exit_code(mut child: Child, command: String) -> Result<u8, ProcessError> {
    let status = child.wait().map_err(|source| ProcessError::Io { command, source })?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX))
}

fn finish(child: &mut Child, command: &str) -> Result<(), ProcessError> {
    let command = command.to_owned();
    match child.wait() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(ProcessError::Failed { command, status, stderr: String::new() }),
        Err(source) => Err(ProcessError::Io { command, source }),
    }
}

/// Whether a program of this name is on PATH.
#[must_use]
pub fn find_program(name: &str, path: Option<&OsString>) -> Option<std::path::PathBuf> {
    let candidate = |dir: std::path::PathBuf| {
        let file = dir.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
        file.is_file().then_some(file)
    };
    std::env::split_paths(path?).find_map(candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let sh = Shell::new().unwrap();
        let error = cmd!(sh, "no-such-program-here").capture().unwrap_err();
        assert_eq!(error.to_string(), "`no-such-program-here` is not installed or not on PATH");
    }

    #[test]
    #[cfg(unix)]
    fn a_program_is_talked_to_until_it_ends() {
        let sh = Shell::new().unwrap();
        let mut cat = cmd!(sh, "sh -c 'read a; echo \"$a!\"; exit 3'").converse().unwrap();
        cat.tell("hello").unwrap();
        assert_eq!(cat.listen().unwrap(), "hello!");
        let ended = cat.listen().unwrap_err().to_string();
        assert!(ended.ends_with("failed (exit status: 3)"), "{ended}");
    }

    #[test]
    #[cfg(unix)]
    fn a_program_runs_as_long_as_its_stdin_is_held() {
        let sh = Shell::new().unwrap();
        let command = cmd!(sh, "sh -c 'read line; exit 3'");
        assert_eq!(command.exit_code_with_stdin_held(drop).unwrap(), 3);
        let mut held = None;
        let command = cmd!(sh, "sh -c 'kill -9 $$'");
        assert_eq!(command.exit_code_with_stdin_held(|stdin| held = Some(stdin)).unwrap(), u8::MAX);
    }

    #[test]
    #[cfg(unix)]
    fn a_failure_shows_the_command_and_what_it_said() {
        let sh = shell_in(Path::new("/")).unwrap();
        let error = cmd!(sh, "sh -c 'pwd >&2; exit 3'").capture().unwrap_err();
        assert_eq!(error.to_string(), "`sh -c \"pwd >&2; exit 3\"` failed (exit status: 3): /");
    }

    #[test]
    #[cfg(unix)]
    fn lines_arrive_one_by_one() {
        let (sh, mut lines) = (Shell::new().unwrap(), Vec::new());
        let ok = cmd!(sh, "printf 'a\nb'").for_each_line(|line| lines.push(line.to_owned()));
        assert_eq!((ok.unwrap(), lines), (true, vec!["a".to_owned(), "b".to_owned()]));
    }

    #[test]
    #[cfg(unix)]
    fn no_program_is_started_while_one_is_written() {
        use std::sync::mpsc::{TryRecvError, channel};
        use std::time::Duration;

        let guard = no_start();
        let (report, started) = channel();
        let starting = std::thread::spawn(move || {
            let sh = Shell::new().unwrap();
            report.send(()).unwrap();
            cmd!(sh, "true").capture().unwrap();
            report.send(()).unwrap();
        });
        started.recv().unwrap();
        // Without the guard it would have started and ended by now, on a host that is not too busy.
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(started.try_recv(), Err(TryRecvError::Empty));
        drop(guard);
        started.recv().unwrap();
        starting.join().unwrap();
    }
}
