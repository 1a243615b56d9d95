//! A small HTTP/1.1 server: [`run`] answers on a listener until it is told to stop, then stops without
//! dropping a request.
//!
//! Left out on purpose: TLS and HTTP/2, which the proxy in front of a container speaks, and threads: one
//! thread serves more requests than the share of a CPU a small container gets.

pub mod config;
pub mod health;
mod server;
mod service;

pub use config::Config;
pub use server::{Stopped, run};
