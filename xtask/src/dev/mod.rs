//! For the people of this workspace: running all tests, and measuring side by side with others' tools.
//!
//! A cargo feature that only this workspace's own alias switches on, so that adopters never build it.
//! May use everything, is used by nothing but the command line.

pub(crate) mod bench;
#[cfg(target_os = "linux")]
mod outside;
pub(crate) mod test;
#[cfg(target_os = "linux")]
mod vm;
