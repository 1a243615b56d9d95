//! Runs any OCI image under limits, and reads what the kernel counted of it.
//!
//! [`target`] finds the image that a user names, [`unpack`] makes a root of its layers, [`roots`] keeps it,
//! [`spec`] and [`limits`] say how it is to be run, [`runtime`] makes a [`Container`] of all that, [`cgroup`] makes sure
//! that the limits are in force, and [`counters`] reads what it used. [`leftovers`] makes sure that nothing
//! stays, however it ends. Nothing here knows how an image was built or what is measured.

mod affinity;
#[cfg(target_os = "linux")]
mod bundle;
pub mod cgroup;
pub mod choice;
pub mod counters;
mod daemon;
pub mod group;
pub mod host;
#[cfg(target_os = "linux")]
mod keeper;
pub mod leftovers;
pub mod life;
#[cfg(target_os = "linux")]
pub mod network;
pub mod rights;
#[cfg(target_os = "linux")]
pub mod roots;
pub mod runtime;
pub mod spec;
pub mod target;
#[cfg(target_os = "linux")]
pub mod unpack;
pub mod user;

pub use counters::Counters;
pub use leftovers::Cleanup;
pub use life::{Clock, Container, Exit};
pub use runtime::{Options, Runtime, RuntimeError, RuntimeKind};
pub use spec::{ContainerSpec, Network};
pub use tare_report::limits;
pub use tare_report::limits::{CpuLimit, CpuSet, Limits};
pub use target::Target;
