//! Runs any OCI image under limits, and reads the kernel's counters of it.
//!
//! The modules form layers. Each module uses only modules of earlier layers:
//!
//! 1. facts and values: [`error`], [`kind`], [`rights`], [`cleanup`], [`user`], [`cgroup`], [`network`], [`capability`],
//!    [`confinement`], `seccomp`, `listening`;
//! 2. images and resources: [`target`] finds the image that a user names, [`unpack`] and [`roots`] make and keep a
//!    root of its layers, [`counters`], [`smaps`], [`host`] and [`group`] read and make cgroups, [`choice`] chooses a runtime,
//!    [`leftovers`] removes the containers of killed runs;
//! 3. containers: [`spec`] describes how to run one, [`life`] is its life from creation to removal;
//! 4. their drivers: `oci` with `bundle` and `keeper`, and `daemon`;
//! 5. [`runtime`] opens a driver and makes containers.
//!
//! This package knows neither how an image was built nor which figures are measured.

pub mod advice;
mod affinity;
#[cfg(target_os = "linux")]
mod bundle;
pub mod capability;
pub mod cgroup;
pub mod choice;
pub mod cleanup;
pub mod confinement;
pub mod counters;
mod daemon;
pub mod error;
pub mod group;
pub mod host;
#[cfg(target_os = "linux")]
mod keeper;
pub mod kind;
#[cfg(target_os = "linux")]
mod layers;
pub mod leftovers;
pub mod life;
mod listening;
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
#[cfg(target_os = "linux")]
mod seccomp;
pub mod smaps;
pub mod spec;
pub mod target;
#[cfg(target_os = "linux")]
pub mod unpack;
pub mod user;

pub use capability::{Capabilities, Capability};
pub use cleanup::Cleanup;
pub use confinement::{Confinement, Tightening};
pub use counters::Counters;
pub use error::ContainerError;
pub use kind::RuntimeKind;
pub use life::{Clock, Container, Exit};
pub use options::Options;
pub use runtime::Runtime;
pub use smaps::ProcessMemory;
pub use spec::{ContainerSpec, Mount, Network};
pub use tare_report::limits;
pub use tare_report::limits::{CpuLimit, CpuSet, Limits};
pub use target::Target;
