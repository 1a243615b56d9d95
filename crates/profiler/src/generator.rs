//! The generator in a process of its own, so that it can be in another network namespace, on other CPUs
//! and in another cgroup than the one that measures it.
//!
//! One line of JSON is one message. The child does one plan after another and ends with its stdin, or at
//! once when its parent dies.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::{Deserialize, Serialize};
use tare_tool::exit::chain;
use tare_tool::process::{Conversation, Execute as _, ProcessError, Shell, cmd};

use tare_load::{Answered, ErrorKind, LoadError, Outcome, Phase, Plan, host};

/// Where the generator runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// The network namespace, such as `/proc/PID/ns/net`; none: ours.
    pub network_namespace: Option<PathBuf>,
    /// The CPUs; empty: ours.
    pub cpus: Vec<usize>,
    /// The `cgroup.procs` that it enters.
    pub cgroups: Vec<PathBuf>,
}

/// Becomes the generator where this process was started as one (`PROGRAM generate …`), or the neighbour of the isolation
/// pass (`PROGRAM neighbour …`), and says with which exit code it ends. The first line of `main` in a program that calls [`profile`](crate::profile()) and has no `tare-profiler` beside it.
#[must_use]
pub fn run_if_asked() -> Option<ExitCode> {
    let first = std::env::args_os().nth(1)?;
    (first == "generate" || first == "neighbour").then(crate::main)
}

/// What the child is asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// [`tare_load::run_watched`].
    Run(Box<Plan>),
    /// The first turn of [`tare_load::run_in_turns`].
    Turns(Box<Plan>),
    /// Another of them, of so many nanoseconds.
    Again(u64),
    /// There are no more.
    Enough,
    /// [`tare_load::verify`].
    Verify(Box<Plan>),
}

/// What the child says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Say {
    /// It is where it was to be.
    Ready,
    /// Where the run is.
    Phase(Phase),
    /// The end of a run, or of a turn.
    Outcome(Box<Outcome>),
    /// The answers of [`tare_load::verify`].
    Answered(Vec<Answered>),
    /// It could not be done. The child goes on, except when it could not get where it was to be.
    Failed {
        /// The error with its causes.
        message: String,
        /// Which fault an answer had.
        kind: Option<ErrorKind>,
    },
}

/// Why there is no outcome from the child.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// It could not be started, or ended too early.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// It says that it could not be done.
    #[error("{message}")]
    Failed {
        /// The error with its causes.
        message: String,
        /// Which fault an answer had.
        kind: Option<ErrorKind>,
    },
    /// It says something else than was asked.
    #[error("the generator says what it was not asked: {line:.200}")]
    Protocol {
        /// What.
        line: String,
    },
}

/// A generator in a process of its own. Dropped, it is ended.
#[derive(Debug)]
pub struct Generator {
    conversation: Conversation,
}

impl Generator {
    /// Starts `PROGRAM generate`, where the program is `tare-profiler`, and waits until it is in its place.
    ///
    /// The kernel ends it with the thread that calls this.
    ///
    /// # Errors
    /// When it cannot be started or cannot get there.
    pub fn start(program: &Path, place: &Place) -> Result<Self, ChildError> {
        let sh = Shell::new().map_err(ProcessError::from)?;
        let mut command = cmd!(sh, "{program} generate");
        if let Some(namespace) = &place.network_namespace {
            command = command.arg("--netns").arg(namespace);
        }
        if !place.cpus.is_empty() {
            let cpus: Vec<String> = place.cpus.iter().map(ToString::to_string).collect();
            command = command.arg("--cpus").arg(cpus.join(","));
        }
        for procs in &place.cgroups {
            command = command.arg("--cgroup-procs").arg(procs);
        }
        let mut generator = Self { conversation: command.converse()? };
        match generator.hear()? {
            (Say::Ready, _) => Ok(generator),
            (_, line) => Err(ChildError::Protocol { line }),
        }
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.conversation.id()
    }

    /// [`tare_load::run_watched`], over there.
    ///
    /// # Errors
    /// When it cannot be done there, or the process is gone.
    pub fn run(&mut self, plan: &Plan, mut watch: impl FnMut(Phase)) -> Result<Outcome, ChildError> {
        self.ask(&Ask::Run(Box::new(plan.clone())))?;
        loop {
            match self.hear()? {
                (Say::Phase(phase), _) => watch(phase),
                (Say::Outcome(outcome), _) => return Ok(*outcome),
                (_, line) => return Err(ChildError::Protocol { line }),
            }
        }
    }

    /// The first turn of [`tare_load::run_in_turns`], over there. Others may follow with [`Self::again`], until
    /// [`Self::enough`]; the generator does nothing else meanwhile.
    ///
    /// # Errors
    /// When it cannot be done there, or the process is gone.
    pub fn turns(&mut self, plan: &Plan) -> Result<Outcome, ChildError> {
        self.turn(&Ask::Turns(Box::new(plan.clone())))
    }

    /// Another turn, of so many nanoseconds.
    ///
    /// # Errors
    /// When it cannot be done there, or the process is gone.
    pub fn again(&mut self, nanoseconds: u64) -> Result<Outcome, ChildError> {
        self.turn(&Ask::Again(nanoseconds))
    }

    /// The last turn was the last.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn enough(&mut self) -> Result<(), ChildError> {
        self.ask(&Ask::Enough)
    }

    fn turn(&mut self, ask: &Ask) -> Result<Outcome, ChildError> {
        self.ask(ask)?;
        match self.hear()? {
            (Say::Outcome(outcome), _) => Ok(*outcome),
            (_, line) => Err(ChildError::Protocol { line }),
        }
    }

    /// [`tare_load::verify`], over there.
    ///
    /// # Errors
    /// When an answer is not as expected, or the process is gone.
    pub fn verify(&mut self, plan: &Plan) -> Result<Vec<Answered>, ChildError> {
        self.ask(&Ask::Verify(Box::new(plan.clone())))?;
        match self.hear()? {
            (Say::Answered(answered), _) => Ok(answered),
            (_, line) => Err(ChildError::Protocol { line }),
        }
    }

    fn ask(&mut self, ask: &Ask) -> Result<(), ChildError> {
        // Plans have string keys and finite numbers, which is all that could fail.
        let line = serde_json::to_string(ask).unwrap_or_default();
        Ok(self.conversation.tell(&line)?)
    }

    fn hear(&mut self) -> Result<(Say, String), ChildError> {
        let line = self.conversation.listen()?;
        match serde_json::from_str(&line) {
            Ok(Say::Failed { message, kind }) => Err(ChildError::Failed { message, kind }),
            Ok(say) => Ok((say, line)),
            Err(_) => Err(ChildError::Protocol { line }),
        }
    }
}

/// The child's side: goes to its place, then does what each line asks, until there are no more.
///
/// # Errors
/// When `say` fails. That it cannot get to its place is said.
pub fn serve<E>(
    place: &Place,
    mut lines: impl Iterator<Item = String>,
    mut say: impl FnMut(&Say) -> Result<(), E>,
) -> Result<(), E> {
    if let Err(error) = go(place) {
        return say(&failed(error));
    }
    say(&Say::Ready)?;
    while let Some(line) = lines.next() {
        let reply = match serde_json::from_str(&line) {
            Ok(Ask::Verify(plan)) => tare_load::verify(&plan).map_or_else(failed, Say::Answered),
            Ok(Ask::Run(plan)) => {
                let mut said = Ok(());
                let outcome = tare_load::run_watched(&plan, |phase| {
                    if said.is_ok() {
                        said = say(&Say::Phase(phase));
                    }
                });
                said?;
                outcome.map_or_else(failed, |outcome| Say::Outcome(Box::new(outcome)))
            }
            Ok(Ask::Turns(plan)) => {
                let mut said = Ok(());
                let result = tare_load::run_in_turns(&plan, |outcome| {
                    said = say(&Say::Outcome(Box::new(outcome)));
                    let asked = if said.is_ok() { lines.next() } else { None };
                    match serde_json::from_str(&asked?) {
                        Ok(Ask::Again(nanoseconds)) => Some(nanoseconds),
                        _ => None,
                    }
                });
                said?;
                match result {
                    Ok(()) => continue,
                    Err(error) => failed(error),
                }
            }
            Ok(Ask::Again(_) | Ask::Enough) => {
                Say::Failed { message: "there was no turn before".to_owned(), kind: None }
            }
            Err(error) => Say::Failed { message: format!("not a plan: {error}"), kind: None },
        };
        say(&reply)?;
    }
    Ok(())
}

/// The cgroup first, so that all else is counted there; the namespace and the CPUs before any thread is
/// started.
fn go(place: &Place) -> Result<(), LoadError> {
    host::die_with_parent()?;
    for procs in &place.cgroups {
        host::enter_cgroup(procs)?;
    }
    if let Some(namespace) = &place.network_namespace {
        host::join_network_namespace(namespace)?;
    }
    if !place.cpus.is_empty() {
        host::pin(&place.cpus)?;
    }
    Ok(())
}

fn failed(error: LoadError) -> Say {
    let kind = if let LoadError::Answer { kind, .. } = &error { Some(*kind) } else { None };
    Say::Failed { message: chain(&error.into()), kind }
}
