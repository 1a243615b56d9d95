//! Containers for real: made, limited, counted and removed on this host. As root on Linux; elsewhere these
//! tests say why they are left out.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

mod adapters;
mod cost;
mod daemon;
mod fake;
mod fixture;
mod life;
mod limits;
mod unpacking;
