//! Real containers on this host: created, limited, counted and removed. The tests need root on Linux; elsewhere they say
//! why they are left out.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

mod adapters;
mod confinement;
mod cost;
mod daemon;
mod fake;
mod fixture;
mod life;
mod limits;
mod neighbours;
mod servers;
mod unpacking;
