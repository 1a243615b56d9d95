//! The builder that `cmd!` replaces, as long as it has users.

use std::ffi::OsStr;
use std::fmt::{Display, Formatter};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use super::{Execute, ProcessError, Running};

/// A program with its arguments, before it is run.
#[derive(Debug)]
pub struct Cmd(Command);

impl Display for Cmd {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let words = std::iter::once(self.0.get_program()).chain(self.0.get_args());
        f.write_str(&words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" "))
    }
}

impl From<Cmd> for Command {
    fn from(cmd: Cmd) -> Self {
        cmd.0
    }
}

impl Execute for Cmd {
    fn without_env(mut self, names: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        for name in names {
            self.0.env_remove(name);
        }
        self
    }
}

#[expect(missing_docs, reason = "each is the method of std's Command or of Execute")]
#[expect(clippy::missing_errors_doc, reason = "as there")]
#[expect(clippy::must_use_candidate, clippy::return_self_not_must_use, reason = "as there")]
impl Cmd {
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self(Command::new(program))
    }

    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.0.arg(arg);
        self
    }

    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.0.args(args);
        self
    }

    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.0.env(name, value);
        self
    }

    pub fn envs(mut self, env: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>) -> Self {
        self.0.envs(env);
        self
    }

    pub fn without_env(self, names: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        Execute::without_env(self, names)
    }

    pub fn current_dir(mut self, dir: &Path) -> Self {
        self.0.current_dir(dir);
        self
    }

    pub fn display(&self) -> String {
        self.to_string()
    }

    pub fn read(self) -> Result<Vec<u8>, ProcessError> {
        self.capture()
    }

    pub fn read_whatever(self) -> Result<(Option<i32>, Vec<u8>), ProcessError> {
        self.capture_with_code()
    }

    pub fn run_with_input(
        self,
        feed: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
    ) -> Result<(), ProcessError> {
        Execute::run_with_input(self, feed)
    }

    pub fn for_each_line(self, take: impl FnMut(&str)) -> Result<bool, ProcessError> {
        Execute::for_each_line(self, take)
    }

    pub fn start_beside(self, stdout: File, stderr: File) -> Result<Running, ProcessError> {
        Execute::start_beside(self, stdout, stderr)
    }
}
