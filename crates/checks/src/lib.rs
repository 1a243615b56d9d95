//! `cargo xtask test` and `bench`: all tests of the workspace, checks of our images with other tools, virtual machines with
//! cgroup version 2, and benchmarks that compare with others.
//!
//! For developers of this workspace. The package is built on first use, and no other package uses it.

#[cfg(target_os = "linux")]
mod bench;
mod cli;
#[cfg(target_os = "linux")]
mod lab;
#[cfg(target_os = "linux")]
mod outside;
mod test;
#[cfg(target_os = "linux")]
mod vm;

pub use cli::main;

#[cfg(target_os = "linux")]
use std::path::{Path, PathBuf};

#[cfg(target_os = "linux")]
use anyhow::Context as _;

#[cfg(target_os = "linux")]
use tare_oci::platform::Platform;
#[cfg(target_os = "linux")]
use tare_tool::process::{Execute as _, ProcessError, cmd, shell_in};

/// The program of `cargo xtask`, which built this one beside itself.
#[cfg(target_os = "linux")]
fn xtask() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe().context("cannot find the running program")?;
    Ok(program.with_file_name(format!("xtask{}", std::env::consts::EXE_SUFFIX)))
}

/// What runs here without an emulator.
#[cfg(target_os = "linux")]
fn host() -> Platform {
    if cfg!(target_arch = "aarch64") { Platform::LinuxArm64 } else { Platform::LinuxAmd64 }
}

/// Compiles a program of one file, which needs nothing but the standard library, for containers.
#[cfg(target_os = "linux")]
fn compile(source: &Path, program: &Path, target: &str, dir: &Path) -> Result<(), ProcessError> {
    // In the workspace's folder it is the workspace's compiler.
    let sh = shell_in(dir)?;
    cmd!(sh, "rustc --edition 2024 -O -C linker=rust-lld --target {target} -o {program} {source}")
        .capture()
        .map(drop)
}
