//! Against a registry of our own on loopback, which does what real ones do wrong.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

#[cfg(unix)]
mod command;
mod cuts;
mod folder;
mod images;
mod join;
mod proxy;
mod publish;
mod pull;
mod push;
mod referrers;
mod server;
#[cfg(unix)]
mod tunnel;
