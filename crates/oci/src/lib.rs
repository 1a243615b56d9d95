//! Images as the OCI image specification defines them: what they consist of, how they are written to a
//! layout or an archive, how anybody's are read back, validated and compared; and what an ELF file in one says
//! about itself.
//!
//! There is no clock, no environment, no network and no process here: the same values in give the same
//! bytes out. It uses no other package of tare.
//!
//! The documents are those of the crate `oci-spec` ([`spec`]). Its maps are unordered, so their keys are sorted when
//! they are written: the same image has the same digest in every run.

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
mod read_layer;
pub mod reader;
pub mod reference;
pub mod shown;
mod source;
pub mod spec;
pub(crate) mod tar;
pub mod units;
mod untar;
pub mod validate;
