//! Manifests from reports: numbers, whole files, and the program.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

#[cfg(unix)]
mod command;
mod common;
mod manifests;
mod recommend;
