//! The scale: runs any OCI image under limits and says what it weighs, and whether that can be believed.
//!
//! A package of its own, so that what only measuring needs does not delay the first `cargo xtask image`:
//! xtask builds and calls it when it is first needed.
//!
//! [`container`] runs images and reads what the kernel counted; [`load`], which is the package `tare-load`,
//! sends requests and records the answers, and knows nothing of containers; [`generator`] lets it do so in a
//! process of its own; [`profile`] puts them together: passes, statistics, doubt, gates, reports. `cli` ties
//! the knot. None of them knows how an image was built.

mod cli;
pub mod container;
pub mod generator;
pub mod profile;

pub use cli::main;
pub use tare_load::{self as load, clock};
