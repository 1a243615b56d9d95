//! The only place that starts other programs. Every error names the command.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};

/// A command that could not be run or did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// There is no such program.
    #[error("`{program}` is not installed or not on PATH")]
    NotFound {
        /// Which.
        program: String,
    },
    /// It could not be started, or what it prints could not be read.
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
        /// The end of what it said on stderr, if that was caught.
        stderr: String,
    },
}

/// A program with its arguments, before it is run.
#[derive(Debug)]
pub struct Cmd {
    command: Command,
}

impl Cmd {
    /// A program by name, looked for on PATH, or by path.
    #[must_use]
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self { command: Command::new(program) }
    }

    /// With one more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// With more arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(args);
        self
    }

    /// With a variable in its environment.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// With more variables in its environment.
    #[must_use]
    pub fn envs(mut self, env: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>) -> Self {
        self.command.envs(env);
        self
    }

    /// Without some variables.
    #[must_use]
    pub fn without_env(mut self, names: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        for name in names {
            self.command.env_remove(name);
        }
        self
    }

    /// In this folder.
    #[must_use]
    pub fn current_dir(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// The command as one would type it.
    #[must_use]
    pub fn display(&self) -> String {
        let words = std::iter::once(self.command.get_program()).chain(self.command.get_args());
        words.map(quoted).collect::<Vec<_>>().join(" ")
    }

    fn start(mut self) -> Result<(Child, String), ProcessError> {
        let display = self.display();
        match self.command.spawn() {
            Ok(child) => Ok((child, display)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(ProcessError::NotFound {
                program: self.command.get_program().to_string_lossy().into_owned(),
            }),
            Err(source) => Err(ProcessError::Io { command: display, source }),
        }
    }

    /// Runs it and gives back what it prints on stdout; stderr is caught and shown only on failure.
    ///
    /// # Errors
    /// When it cannot be run or fails.
    pub fn read(mut self) -> Result<Vec<u8>, ProcessError> {
        self.command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let (child, command) = self.start()?;
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

    /// The same where failing is an answer too: its exit code, none if a signal ended it, and what it printed.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn read_whatever(mut self) -> Result<(Option<i32>, Vec<u8>), ProcessError> {
        self.command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let (child, command) = self.start()?;
        let output = child.wait_with_output().map_err(|source| ProcessError::Io { command, source })?;
        Ok((output.status.code(), output.stdout))
    }

    /// Runs it with our own stdout and stderr.
    ///
    /// # Errors
    /// When it cannot be run or fails.
    pub fn run(self) -> Result<(), ProcessError> {
        let (child, command) = self.start()?;
        finish(child, command)
    }

    /// Runs it with our own stdin, stdout and stderr, and gives back its exit code, 255 for none of 0 to 255.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn run_for_code(self) -> Result<u8, ProcessError> {
        let (child, command) = self.start()?;
        exit_code(child, command)
    }

    /// Runs it with our own stdout and stderr. `hold` is given its stdin, whose end tells it that nobody waits for
    /// it any more. Gives back its exit code, 255 for none of 0 to 255.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn run_with_stdin_held(mut self, hold: impl FnOnce(ChildStdin)) -> Result<u8, ProcessError> {
        self.command.stdin(Stdio::piped());
        let (mut child, command) = self.start()?;
        // `wait` would close it at once.
        child.stdin.take().map(hold);
        exit_code(child, command)
    }

    /// Becomes the program: same process, so that signals and the terminal are its own. Comes back only
    /// where that cannot be, as on Windows, with the code that it ended with (255 for none of 0 to 255).
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn replace(self) -> Result<u8, ProcessError> {
        #[cfg(unix)]
        {
            use std::os::unix::process::CommandExt as _;
            let mut this = self;
            let source = this.command.exec();
            Err(match source.kind() {
                std::io::ErrorKind::NotFound => ProcessError::NotFound {
                    program: this.command.get_program().to_string_lossy().into_owned(),
                },
                _ => ProcessError::Io { command: this.display(), source },
            })
        }
        #[cfg(not(unix))]
        {
            let (child, command) = self.start()?;
            exit_code(child, command)
        }
    }

    /// Runs it with everything it prints on our stderr, and lets `feed` write its stdin.
    ///
    /// # Errors
    /// When it cannot be run, fed, or fails.
    pub fn run_with_input(
        mut self,
        feed: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
    ) -> Result<(), ProcessError> {
        self.command.stdin(Stdio::piped()).stdout(std::io::stderr());
        let (mut child, command) = self.start()?;
        let fed = match child.stdin.take() {
            Some(mut stdin) => feed(&mut stdin),
            None => Ok(()),
        };
        // A program that stops reading early fails with a reason of its own, which says more.
        finish(child, command.clone())?;
        fed.map_err(|source| ProcessError::Io { command, source })
    }

    /// Runs it with our own stderr, and hands over its stdout line by line while it runs. Says whether
    /// it succeeded.
    ///
    /// # Errors
    /// When it cannot be run or its output cannot be read.
    pub fn for_each_line(mut self, mut take: impl FnMut(&str)) -> Result<bool, ProcessError> {
        self.command.stdin(Stdio::null()).stdout(Stdio::piped());
        let (mut child, command) = self.start()?;
        let mut result = Ok(());
        if let Some(stdout) = child.stdout.take() {
            for line in BufReader::new(stdout).split(b'\n') {
                match line {
                    Ok(line) => take(&String::from_utf8_lossy(&line)),
                    Err(error) => {
                        result = Err(error);
                        break;
                    }
                }
            }
        }
        match (child.wait(), result) {
            (Ok(status), Ok(())) => Ok(status.success()),
            (Err(source), _) | (_, Err(source)) => Err(ProcessError::Io { command, source }),
        }
    }
}

/// A program that is talked to line by line. Dropped, it is ended.
#[derive(Debug)]
pub struct Conversation {
    child: Child,
    command: String,
    stdin: Option<ChildStdin>,
    stdout: Option<BufReader<std::process::ChildStdout>>,
}

impl Cmd {
    /// Starts it to be talked to; its stderr is our own.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn converse(mut self) -> Result<Conversation, ProcessError> {
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let (mut child, command) = self.start()?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().map(BufReader::new));
        Ok(Conversation { child, command, stdin, stdout })
    }
}

impl Conversation {
    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Gives it a line.
    ///
    /// # Errors
    /// When it no longer reads.
    pub fn tell(&mut self, line: &str) -> Result<(), ProcessError> {
        let told = match &mut self.stdin {
            Some(stdin) => stdin.write_all(format!("{line}\n").as_bytes()).and_then(|()| stdin.flush()),
            None => Err(std::io::ErrorKind::BrokenPipe.into()),
        };
        told.map_err(|source| ProcessError::Io { command: self.command.clone(), source })
    }

    /// Waits for its next line.
    ///
    /// # Errors
    /// When it has ended instead, with how.
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

/// A program that runs beside us. Dropped, it is ended.
#[derive(Debug)]
pub struct Running {
    child: Child,
    command: String,
}

impl Cmd {
    /// Starts it with everything it prints going to a file, and does not wait for it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_beside(
        mut self,
        stdout: std::fs::File,
        stderr: std::fs::File,
    ) -> Result<Running, ProcessError> {
        self.command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        let (child, command) = self.start()?;
        Ok(Running { child, command })
    }
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
        let command = self.command.clone();
        match self.child.wait() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(ProcessError::Failed { command, status, stderr: String::new() }),
            Err(source) => Err(ProcessError::Io { command, source }),
        }
    }

    /// Asks it to end (SIGTERM), and ends it (SIGKILL) when it has not after `patience`.
    pub fn end(&mut self, patience: std::time::Duration) {
        const PAUSE: std::time::Duration = std::time::Duration::from_millis(10);
        if !self.is_running() {
            return;
        }
        // std has no other signal than SIGKILL.
        let asked = Cmd::new("sh").args(["-c", "kill -TERM \"$0\"", &self.id().to_string()]).read();
        let deadline = std::time::Instant::now() + patience;
        while asked.is_ok() && self.is_running() && std::time::Instant::now() < deadline {
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

fn finish(mut child: Child, command: String) -> Result<(), ProcessError> {
    match child.wait() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(ProcessError::Failed { command, status, stderr: String::new() }),
        Err(source) => Err(ProcessError::Io { command, source }),
    }
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
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
        let error = Cmd::new("no-such-program-here").read().unwrap_err();
        assert_eq!(error.to_string(), "`no-such-program-here` is not installed or not on PATH");
    }

    #[test]
    #[cfg(unix)]
    fn a_program_is_talked_to_until_it_ends() {
        let mut cat = Cmd::new("sh").args(["-c", "read a; echo \"$a!\"; exit 3"]).converse().unwrap();
        cat.tell("hello").unwrap();
        assert_eq!(cat.listen().unwrap(), "hello!");
        let ended = cat.listen().unwrap_err().to_string();
        assert!(ended.ends_with("failed (exit status: 3)"), "{ended}");
    }

    #[test]
    #[cfg(unix)]
    fn a_program_runs_as_long_as_its_stdin_is_held() {
        let command = Cmd::new("sh").args(["-c", "read line; exit 3"]);
        assert_eq!(command.run_with_stdin_held(drop).unwrap(), 3);
        let mut held = None;
        let command = Cmd::new("sh").args(["-c", "kill -9 $$"]);
        assert_eq!(command.run_with_stdin_held(|stdin| held = Some(stdin)).unwrap(), u8::MAX);
    }

    #[test]
    #[cfg(unix)]
    fn a_failure_shows_the_command_and_what_it_said() {
        let error = Cmd::new("sh").args(["-c", "echo why >&2; exit 3"]).read().unwrap_err();
        assert_eq!(error.to_string(), "`sh -c 'echo why >&2; exit 3'` failed (exit status: 3): why");
    }

    #[test]
    #[cfg(unix)]
    fn lines_arrive_one_by_one() {
        let mut lines = Vec::new();
        let ok = Cmd::new("printf").arg("a\nb").for_each_line(|line| lines.push(line.to_owned()));
        assert_eq!((ok.unwrap(), lines), (true, vec!["a".to_owned(), "b".to_owned()]));
    }
}
