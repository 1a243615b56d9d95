//! A container by a runtime with the OCI command line: runc, crun, youki.
//!
//! Such a program ends once the container is created. The keeper adopts the container's first process
//! then, so that it can wait for it.

use std::fs::{self, File};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::prctl::set_child_subreaper;
use tare_keeper::Create;

/// A container that a program made.
pub(crate) struct Created {
    program: PathBuf,
    state: PathBuf,
    id: String,
    log: PathBuf,
    pub(crate) pid: i32,
    /// Device and inode of what its process ran before its start.
    before: Option<(u64, u64)>,
}

/// Creates a container whose output goes to `output`.
///
/// # Errors
/// When the program fails; the text holds what it said.
pub(crate) fn create(request: &Create, program: &Path, output: &OwnedFd) -> Result<Created, String> {
    set_child_subreaper(true).map_err(|error| format!("cannot adopt processes: {error}"))?;
    let pid_file = request.bundle.join("pid");
    let mut created = Created {
        program: program.to_path_buf(),
        state: request.state.clone(),
        id: request.id.clone(),
        log: request.bundle.join("log"),
        pid: 0,
        before: None,
    };
    let duplicate =
        || output.as_fd().try_clone_to_owned().map(Stdio::from).map_err(|error| error.to_string());
    let mut command = created.command("create");
    command.arg("--bundle").arg(&request.bundle).arg("--pid-file").arg(&pid_file).arg(&request.id);
    command.stdout(duplicate()?).stderr(duplicate()?);
    created.run(command)?;
    let text = fs::read_to_string(&pid_file);
    let text = text.map_err(|error| format!("cannot read {}: {error}", pid_file.display()))?;
    created.pid =
        text.trim().parse().map_err(|_| format!("{} holds no number: {text}", pid_file.display()))?;
    created.before = running(created.pid);
    Ok(created)
}

impl Created {
    fn command(&self, what: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(&self.state).arg("--log").arg(&self.log).arg(what);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn run(&self, mut command: Command) -> Result<(), String> {
        let program = self.program.display();
        match command.status() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => {
                let log = fs::read_to_string(&self.log).unwrap_or_default();
                let said = log.lines().last().unwrap_or("it said nothing");
                Err(format!("{program} failed ({status}): {said}"))
            }
            Err(error) => Err(format!("cannot run {program}: {error}")),
        }
    }

    /// Lets it run.
    ///
    /// # Errors
    /// When the program fails.
    pub(crate) fn start(&self) -> Result<(), String> {
        let mut command = self.command("start");
        command.arg(&self.id);
        self.run(command)
    }

    /// Waits until its process runs another program than before its start, or is gone.
    pub(crate) fn wait_for_program(&self) {
        const PAUSE: Duration = Duration::from_micros(20);
        let deadline = Instant::now() + Duration::from_secs(10);
        while running(self.pid) == self.before && Instant::now() < deadline {
            std::thread::sleep(PAUSE);
        }
    }

    /// Makes the program forget it.
    ///
    /// # Errors
    /// When the program fails.
    pub(crate) fn delete(&self) -> Result<(), String> {
        let mut command = self.command("delete");
        command.arg("--force").arg(&self.id);
        self.run(command)
    }
}

/// Which program a process runs; none while that is not to be seen.
fn running(pid: i32) -> Option<(u64, u64)> {
    let file = File::open(format!("/proc/{pid}/exe")).ok()?;
    let data = file.metadata().ok()?;
    Some((data.dev(), data.ino()))
}
