//! The program itself, as a process of its own: what it holds can be told from what the test holds.

use std::io::{self, BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use super::{Answer, Client};

/// A started server, killed when a test fails before it has stopped.
pub(crate) struct Program {
    child: Child,
    pub(crate) stderr: BufReader<ChildStderr>,
    pub(crate) address: SocketAddr,
}

impl Program {
    pub(crate) fn start(command: &mut Command) -> io::Result<Self> {
        let mut child = command
            // What the sample server of the workspace asks for.
            .env("PORT", "0")
            // As long as every kernel allows: nothing is to be said about it.
            .env("TARE_BACKLOG", "128")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let stderr = child.stderr.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let mut program =
            Self { child, stderr: BufReader::new(stderr), address: (Ipv4Addr::LOCALHOST, 0).into() };
        let mut line = String::new();
        program.stderr.read_line(&mut line)?;
        let port = line
            .strip_prefix("listening on ")
            .and_then(|address| address.trim_end().rsplit_once(':')?.1.parse().ok())
            .ok_or_else(|| io::Error::other(format!("it said {line:?}")))?;
        program.address.set_port(port);
        Ok(program)
    }

    pub(crate) fn client(&self) -> io::Result<Client> {
        Client::connect(self.address)
    }

    pub(crate) fn port(&self) -> String {
        self.address.port().to_string()
    }

    pub(crate) fn signal(&self, name: &str) -> io::Result<()> {
        let kill = format!("kill -{name} {}", self.child.id());
        let status = Command::new("sh").args(["-c", &kill]).status()?;
        if status.success() { Ok(()) } else { Err(io::Error::other(kill)) }
    }

    /// It still serves everybody else.
    pub(crate) fn is_well(&self) -> io::Result<()> {
        assert_eq!(self.client()?.ask("GET", "/health")?, Answer::text("200 OK", "ok\n"));
        Ok(())
    }

    pub(crate) fn metric(&self, name: &str) -> io::Result<u64> {
        self.client()?.metric(name)
    }

    /// Files that it has open.
    pub(crate) fn open_files(&self) -> io::Result<usize> {
        Ok(std::fs::read_dir(format!("/proc/{}/fd", self.child.id()))?.count())
    }

    /// Its resident memory, in bytes.
    pub(crate) fn resident(&self) -> io::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
        let kib: Option<u64> = line.and_then(|kib| kib.parse().ok());
        Ok(kib.ok_or(io::ErrorKind::InvalidData)? << 10)
    }

    /// CPU time of all its threads: the first number of `schedstat`.
    pub(crate) fn cpu_time(&self) -> io::Result<Duration> {
        let mut total = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
            let nanos = text.split(' ').next().and_then(|nanos| nanos.parse::<u64>().ok());
            total += nanos.ok_or(io::ErrorKind::InvalidData)?;
        }
        Ok(Duration::from_nanos(total))
    }

    /// The exit code, and what it said after it had started.
    pub(crate) fn wait(mut self) -> io::Result<(Option<i32>, String)> {
        let code = self.child.wait()?.code();
        let mut said = String::new();
        self.stderr.read_to_string(&mut said)?;
        Ok((code, said))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A file that goes with the test, in a folder of its own.
pub(crate) struct Scratch {
    folder: tempfile::TempDir,
    name: String,
}

impl Scratch {
    pub(crate) fn new(name: &str, text: &str) -> io::Result<Self> {
        let scratch = Self { folder: tempfile::tempdir()?, name: name.to_owned() };
        std::fs::write(scratch.path(), text)?;
        Ok(scratch)
    }

    pub(crate) fn path(&self) -> std::path::PathBuf {
        self.folder.path().join(&self.name)
    }
}
