//! Measures images: profiles, passes, statistics, doubts, gates, comparison and reports.
//!
//! `tare-container` runs images and reads what the kernel counted; `tare-load` sends requests and records the
//! answers; [`generator`] lets it do so in a process of its own; [`profile`] puts them together. `cli` parses,
//! prints and picks the exit code.

mod cli;
pub mod generator;
pub mod profile;

pub use cli::main;
