//! For the people of this workspace: running all tests, and measuring side by side with others' tools.
//!
//! A cargo feature that only this workspace's own alias switches on, so that adopters never build it.
//! May use everything, is used by nothing but the command line.

pub(crate) mod bench;
#[cfg(target_os = "linux")]
mod outside;
pub(crate) mod test;
#[cfg(target_os = "linux")]
mod vm;

#[cfg(target_os = "linux")]
use std::path::Path;

#[cfg(target_os = "linux")]
use tare_oci::platform::Platform;
#[cfg(target_os = "linux")]
use tare_tool::process::{Cmd, ProcessError};

/// What runs here without an emulator.
#[cfg(target_os = "linux")]
fn host() -> Platform {
    if cfg!(target_arch = "aarch64") { Platform::LinuxArm64 } else { Platform::LinuxAmd64 }
}

/// Compiles a program of one file, which needs nothing but the standard library, for containers.
#[cfg(target_os = "linux")]
fn compile(source: &Path, program: &Path, target: &str, dir: &Path) -> Result<(), ProcessError> {
    let command = Cmd::new("rustc").args(["--edition", "2024", "-O", "-C", "linker=rust-lld"]);
    // In the workspace's folder it is the workspace's compiler.
    command.args(["--target", target, "-o"]).arg(program).arg(source).current_dir(dir).read().map(drop)
}
