//! A small HTTP server that knows the limits of its container: [`run`] answers on its listeners until it is
//! told to stop, then stops without dropping a request.
//!
//! Its parts are separate, to be taken over one by one: what the container allows ([`limits`]), how large
//! everything is made for it ([`sizing`]), what can be set and from where ([`config`]), the sockets
//! ([`listen`]), the health check ([`health`]), the log ([`log`]), and the framing of HTTP/1.1 ([`http1`]).
//!
//! Left out on purpose: TLS, which the proxy in front of a container speaks.

mod cache;
pub mod config;
mod date;
#[cfg(feature = "h2")]
mod h2;
pub mod health;
pub mod http1;
mod json;
pub mod limits;
pub mod listen;
pub mod log;
mod metrics;
mod report;
mod server;
mod service;
pub mod sizing;
mod worker;

pub use config::Config;
pub use server::{Phase, Server, Stopped, run, runtime};
