//! Images to registries and back, with proof of where they came from: what `cargo xtask publish` does.
//!
//! Blocking, on ureq with rustls: no async runtime. It uses `oci` and `tool`, and of other packages of tare none.

pub mod artifacts;
pub mod ci;
pub mod content;
pub mod credentials;
pub mod error;
pub mod facts;
pub mod measured;
pub mod proof;
pub mod provenance;
pub mod publish;
pub mod pull;
pub mod push;
pub mod reference;
pub mod referrers;
pub mod registry;
pub mod sbom;
pub mod sign;
pub mod tags;
pub mod upload;

mod auth;
mod cli;
mod documents;
mod http;
mod proxy;
mod settings;
mod workspace;

pub use cli::main;
pub use http::{HttpOptions, Retry};
pub use proxy::Proxies;
