//! From a definition to an image: `image.toml` → definition → binary → layer plans → layers → image.
//!
//! The image format is in `tare-oci`; this module uses cargo, git and the workspace.

pub mod annotations;
pub mod assemble;
pub mod base;
pub mod binary;
pub mod cache;
pub mod cargo;
mod certificates;
mod crates;
pub mod definition;
pub mod execution;
mod leaks;
pub mod libraries;
pub mod lock;
pub mod outputs;
pub mod pins;
pub mod reproducible;
pub mod rootfs;
mod zoneinfo;
