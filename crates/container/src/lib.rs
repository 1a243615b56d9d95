//! Runs any OCI image under limits, and reads what the kernel counted of it.
//!
//! The modules form layers; each uses only those of the layers before it:
//!
//! 1. facts and values: [`error`], [`kind`], [`rights`], [`cleanup`], [`user`], [`cgroup`], [`network`];
//! 2. images and resources: [`target`] finds the image that a user names, [`unpack`] and [`roots`] make and keep a
//!    root of its layers, [`counters`], [`host`] and [`group`] read and make cgroups, [`choice`] chooses a runtime,
//!    [`leftovers`] removes what killed runs left;
//! 3. containers: [`spec`] says how one is to be run, [`life`] is one from its creation to its removal;
//! 4. their drivers: `oci` with `bundle` and `keeper`, and `daemon`;
//! 5. [`runtime`] opens a driver and makes containers.
//!
//! Nothing here knows how an image was built or what is measured.

mod affinity;
#[cfg(target_os = "linux")]
mod bundle;
pub mod cgroup;
pub mod choice;
pub mod cleanup;
pub mod counters;
mod daemon;
pub mod error;
pub mod group;
pub mod host;
#[cfg(target_os = "linux")]
mod keeper;
pub mod kind;
pub mod leftovers;
pub mod life;
#[cfg_attr(
    not(target_os = "linux"),
    expect(dead_code, reason = "only containers of Linux are put on interfaces")
)]
pub mod network;
#[cfg(target_os = "linux")]
mod oci;
pub mod options;
mod refusal;
pub mod rights;
#[cfg(target_os = "linux")]
pub mod roots;
pub mod runtime;
pub mod spec;
pub mod target;
#[cfg(target_os = "linux")]
pub mod unpack;
pub mod user;

pub use cleanup::Cleanup;
pub use counters::Counters;
pub use error::ContainerError;
pub use kind::RuntimeKind;
pub use life::{Clock, Container, Exit};
pub use options::Options;
pub use runtime::Runtime;
pub use spec::{ContainerSpec, Network};
pub use tare_report::limits;
pub use tare_report::limits::{CpuLimit, CpuSet, Limits};
pub use target::Target;
