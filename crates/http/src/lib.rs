//! A small, strict HTTP/1.1 engine behind a [`Handler`], kept for its framing and its cost.
//!
//! It is frozen: faults are mended, and nothing is added. A server that needs more takes hyper.
//!
//! An [`Engine`] has workers: each is a thread with a listener and an event loop of its own. The handler plans
//! the answer to each request, and is called without dynamic dispatch. What decides where a request ends is in
//! [`head`] and [`chunked`], and nothing of it is lenient. With the feature `h2` it speaks HTTP/2 without TLS
//! on the same port.
//!
//! Left out on purpose: TLS, which the proxy in front of a container speaks; request bodies, but to bound them
//! and to send them back; routing.

mod accept;
mod buffers;
pub mod chunked;
mod counters;
mod date;
mod engine;
#[cfg(feature = "h2")]
mod h2;
mod handler;
pub mod head;
mod http1;
mod listener;
mod pace;
mod race;
mod response;
mod run;
mod see_off;
mod settings;
mod worker;

pub use counters::{STATUSES, Totals};
pub use engine::{Engine, Phase, Sizes};
pub use handler::{Block, Handler, Plan, Request};
pub use response::{Body, OCTETS, Prepared, Response};
pub use run::{Stopped, runtime};
pub use settings::Settings;
