//! The start-up pass: when a container's server did what for the first time, beside the floor of the host.

pub mod floor;
pub mod probe;
