//! The scale: runs any OCI image under limits and says what it weighs, and whether that can be believed.
//!
//! A package of its own, so that what only measuring needs does not delay the first `cargo xtask image`:
//! xtask builds and calls it when it is first needed.
//!
//! [`container`] runs images and reads what the kernel counted; [`load`] sends requests and records the
//! answers, and knows nothing of containers; [`profile`] puts both together: passes, statistics, doubt,
//! gates, reports. `cli` ties the knot. None of them knows how an image was built.

mod cli;
pub mod clock;
pub mod container;
pub mod load;
pub mod profile;

pub use cli::main;
