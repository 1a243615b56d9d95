//! One container's keeper: creates it, starts it, says what becomes of it, and takes it along when it ends.
//!
//! A process of its own, because libcontainer clones the process it is called from and must therefore be
//! called from one without threads, and because the keeper outlives a crash of its parent just
//! long enough to clean up. See the library for the protocol.

#[cfg(target_os = "linux")]
mod command_line;
#[cfg(target_os = "linux")]
mod embedded;
#[cfg(target_os = "linux")]
mod keeper;
#[cfg(target_os = "linux")]
mod last_step;
#[cfg(target_os = "linux")]
mod network;
#[cfg(target_os = "linux")]
mod root;

use std::process::ExitCode;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    keeper::main()
}

#[cfg(not(target_os = "linux"))]
#[expect(clippy::print_stderr, reason = "all that it does here")]
fn main() -> ExitCode {
    eprintln!("error: tare-keeper runs on Linux alone\nhint: choose `--runtime docker`");
    ExitCode::from(2)
}
