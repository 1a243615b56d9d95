//! What checks and benchmarks work with: images of the workspace and made-up ones, a folder that goes away, others'
//! tools, namespaces, a Docker daemon, and `cargo xtask profile`.

pub(crate) mod context;
pub(crate) mod docker;
pub(crate) mod expect;
pub(crate) mod namespace;
pub(crate) mod profile;
pub(crate) mod tools;
