//! Ctrl-C and SIGTERM: the run ends at once, before any tag of a repository is moved or after all of them are.

use std::sync::{Mutex, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tare_tool::exit::INTERRUPTED;
use tare_tool::ui::Ui;

/// Held while the tags of one repository are moved.
pub(super) static TAGGING: Mutex<()> = Mutex::new(());

/// Within this time the tags of a repository are moved, unless the registry does not answer.
const PATIENCE: Duration = Duration::from_millis(800);

/// Ends this process at the first signal. What is sent by then stays without a name, and an unfinished pull is cleared
/// by the next one.
pub(super) fn handle(ui: Ui) -> anyhow::Result<()> {
    let leave = move || {
        let began = Instant::now();
        // Not given back: no tag is moved any more.
        let held = loop {
            match TAGGING.try_lock() {
                Ok(guard) => break Some(guard),
                Err(TryLockError::Poisoned(error)) => break Some(PoisonError::into_inner(error)),
                Err(TryLockError::WouldBlock) if began.elapsed() > PATIENCE => break None,
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        let tags = match held {
            Some(_) => "every tag that is not named above stands where it stood",
            None => "the registry did not answer in time while tags were moved",
        };
        ui.error(&format!("interrupted: {tags}"), None);
        #[expect(clippy::exit, reason = "this is the command line, and nothing is left to be removed")]
        std::process::exit(INTERRUPTED.into());
    };
    ctrlc::set_handler(leave).context("cannot handle signals")
}
