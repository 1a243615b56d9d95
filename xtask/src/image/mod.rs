//! From a definition to an image: `image.toml` → definition → binary → layer plans → layers → image.
//!
//! What an image *is* belongs to `oci`; this part knows cargo, git and the workspace.

pub mod annotations;
pub mod assemble;
pub mod binary;
pub mod cache;
pub mod cargo;
mod certificates;
mod crates;
pub mod definition;
mod leaks;
pub mod libraries;
pub mod lock;
pub mod outputs;
pub mod reproducible;
pub mod rootfs;
mod zoneinfo;
