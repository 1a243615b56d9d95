//! Tools of checks and benchmarks: images of the workspace and artificial ones, a temporary folder, other people's
//! programs, namespaces, a Docker daemon, a Kubernetes, and `cargo xtask profile`.

pub(crate) mod context;
pub(crate) mod docker;
pub(crate) mod expect;
pub(crate) mod kubernetes;
pub(crate) mod namespace;
pub(crate) mod profile;
pub(crate) mod tools;
