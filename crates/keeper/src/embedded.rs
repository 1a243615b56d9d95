//! A container by libcontainer.

use std::fs::File;
use std::io::{PipeWriter, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::rc::Rc;

use libcontainer::container::Container;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::oci_spec::runtime::Spec;
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::workload::default::DefaultExecutor;
use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, pthread_sigmask, signal};
use tare_keeper::{Create, LastStep};

use crate::last_step;

/// Runs the image's program in the state that programs expect at their start.
///
/// The pipe reports to the keeper: [`REACHED`] before the program takes over, which closes it, and
/// an error behind that when it cannot.
#[derive(Clone)]
struct Expected {
    progress: Rc<PipeWriter>,
    last_step: Option<Rc<LastStep>>,
}

/// Comes over the pipe when nothing is left to do but to call the program.
pub(crate) const REACHED: u8 = b'+';

impl Executor for Expected {
    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let error = |error: nix::Error| ExecutorError::Other(error.to_string());
        // The keeper waits for signals with all of them blocked, and Rust ignores SIGPIPE; both would be
        // inherited.
        pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None).map_err(error)?;
        #[expect(unsafe_code, reason = "signal(2) is unsafe for the handler that it may be given")]
        // SAFETY: the default action is no handler, and no other thread is there to expect one.
        unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) }.map_err(error)?;
        if let Some(step) = &self.last_step {
            last_step::take(step).map_err(ExecutorError::Other)?;
        }
        // When the keeper is killed, no other process would end the container. It is set last, because a change
        // of user clears it (prctl(2)).
        set_pdeathsig(Signal::SIGKILL).map_err(error)?;
        let mut progress = &*self.progress;
        progress.write_all(&[REACHED]).map_err(|error| ExecutorError::Other(error.to_string()))?;
        let result = DefaultExecutor {}.exec(spec);
        if let Err(error) = &result {
            // The keeper sees the end of the pipe even if it does not get the reason.
            let _ = progress.write_all(causes(error).as_bytes());
        }
        result
    }

    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        DefaultExecutor {}.validate(spec)
    }
}

/// Creates a container whose output goes to `output` and that reports its start to `progress`.
///
/// # Errors
/// When libcontainer fails; the text holds all causes.
pub(crate) fn create(
    request: &Create,
    output: &OwnedFd,
    progress: PipeWriter,
) -> Result<(Container, i32), String> {
    let nothing = File::open("/dev/null").map_err(|error| format!("cannot open /dev/null: {error}"))?;
    let duplicate = || output.as_fd().try_clone_to_owned().map_err(|error| error.to_string());
    let container = ContainerBuilder::new(request.id.clone(), SyscallType::default())
        .with_executor(Expected {
            progress: Rc::new(progress),
            last_step: request.last_step.clone().map(Rc::new),
        })
        .with_stdin(nothing)
        .with_stdout(duplicate()?)
        .with_stderr(duplicate()?)
        .with_root_path(request.state.clone())
        .map_err(|error| causes(&error))?
        .as_init(&request.bundle)
        .with_systemd(false)
        .with_detach(true)
        .build()
        .map_err(|error| causes(&error))?;
    let pid = container.pid().ok_or("libcontainer knows no process of it")?.as_raw();
    Ok((container, pid))
}

/// Lets it run.
///
/// # Errors
/// When libcontainer fails.
pub(crate) fn start(container: &mut Container) -> Result<(), String> {
    container.start().map_err(|error| causes(&error))
}

/// An error with all its causes, each once: some of libcontainer's texts hold those of their causes.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}
