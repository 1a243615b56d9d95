//! Against a registry of our own on loopback, which does what real ones do wrong.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

mod cuts;
mod images;
mod proxy;
mod publish;
mod pull;
mod push;
mod referrers;
mod server;
