//! Effects that every program of tare has: reading the environment, starting other programs, printing, exit codes, signals,
//! TOML with the place of every value, caches, and building the parts of the toolkit on first use.
//!
//! Each effect has one place: no other package starts programs, prints or reads the environment by itself.

pub mod cache;
pub mod document;
pub mod environment;
pub mod exit;
pub mod plan;
pub mod private;
pub mod process;
pub mod signals;
pub mod toolkit;
pub mod ui;
