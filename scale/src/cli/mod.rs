//! The command line: the only part that knows clap and exit codes.
//!
//! 0: done. 1: a gate failed. 2: it could not be done.

use std::process::ExitCode;

use clap::Parser;

/// Could not be done.
const FAILED: u8 = 2;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Arguments {}

/// Runs with the arguments and environment of the process.
#[must_use]
pub fn main() -> ExitCode {
    let Arguments {} = Arguments::parse();
    ExitCode::from(FAILED)
}
