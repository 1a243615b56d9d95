//! What every program of tare needs at its edge: the environment it was started with, other programs, printing,
//! exit codes, TOML with the place of every value, and the parts of the toolkit that are built when they are first
//! used.
//!
//! One place for each of these effects: no other package starts programs, prints or reads the environment by itself.

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
