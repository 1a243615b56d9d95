//! tare: the lightest honest container around a Rust server.
//!
//! `cargo xtask image` builds a minimal, reproducible OCI image of a server without a Dockerfile or a
//! daemon. A workspace that wants it has a package `xtask` whose `main` is one call:
//!
//! ```no_run
//! fn main() -> std::process::ExitCode {
//!     xtask_tare::main()
//! }
//! ```
//!
//! Values are in the middle and effects at the edges: `tare-oci` is pure, [`image`] plans and assembles,
//! [`git`], [`workspace`] and `tare-tool` touch the world, `cli` parses, prints and picks the exit code.

mod cargo_config;
mod cli;
pub mod git;
pub mod image;
pub mod pulled;
pub mod workspace;

pub use cli::{cargo_tare, main};
