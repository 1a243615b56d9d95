//! Images as the OCI image specification defines them: what they consist of, how they are written to a
//! layout or an archive, how anybody's are read back, validated and compared; and what an ELF file in one says
//! about itself.
//!
//! There is no clock, no environment, no network and no process here: the same values in give the same
//! bytes out. It uses no other package of tare.
//!
//! The types of [`spec`] are our own and not those of the crate `oci-spec`: its maps are unordered (the
//! same image would have another digest in every run), it has no `Healthcheck`, and it doubles the
//! time that everybody waits for the first `cargo xtask image`. The tests read what we write with it.

pub mod archive;
pub mod audit;
pub mod blob;
pub mod capabilities;
pub mod compare;
pub mod compress;
pub mod digest;
pub mod elf;
pub mod entry;
pub mod image;
pub mod input;
pub mod inspect;
pub(crate) mod keys;
pub mod layer;
pub mod layout;
pub mod path;
pub mod platform;
pub mod reader;
pub mod reference;
mod source;
pub mod spec;
pub(crate) mod tar;
pub mod units;
pub mod validate;
