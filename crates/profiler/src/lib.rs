//! Measures images: profiles, passes, statistics, doubts, gates, comparison and reports.
//!
//! `tare-container` runs images and reads what the kernel counted; `tare-load` sends requests and records the
//! answers; [`generator`] lets it do so in a process of its own; [`mod@profile`] puts them together. `cli` parses,
//! prints and picks the exit code.
//!
//! [`profile()`] and [`compare`] are what `cargo xtask profile` and `profile compare` do, for other programs:
//!
//! ```no_run
//! use std::path::Path;
//! use std::process::ExitCode;
//!
//! use tare_profiler::container::{self, Cleanup, Runtime, RuntimeKind};
//! use tare_profiler::{Image, Options, Overall, definition};
//!
//! fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
//!     // The load is sent by a second process of this program.
//!     if let Some(code) = tare_profiler::generator::run_if_asked() {
//!         return Ok(code);
//!     }
//!     let image = Image::open("target/images/app/layout", Path::new("target/tmp"))?;
//!     let profile = definition::find(Path::new("."), "ci")?;
//!     let runtime = Runtime::open(RuntimeKind::Docker, &container::Options {
//!         cache: "target/roots".into(),
//!         state: "target/containers".into(),
//!         keeper: None,
//!         path: std::env::var_os("PATH"),
//!         cleanup: Cleanup::default(),
//!     })?;
//!     let options = Options { runtime: Some(&runtime), cache: "target/tmp".into(), ..Options::default() };
//!     let report = tare_profiler::profile(&image, &profile, &options, |step| eprintln!("{step:?}"))?;
//!     std::fs::write("report.json", report.to_json()?)?;
//!     Ok(if report.overall == Overall::Pass { ExitCode::SUCCESS } else { ExitCode::FAILURE })
//! }
//! ```
//!
//! A profile with the size pass alone needs no runtime: `Options::default()`.

mod cli;
mod forward;
pub mod generator;
pub mod neighbour;
pub mod profile;

pub use cli::main;
pub use profile::baseline::Baseline;
pub use profile::compare::Comparison;
pub use profile::comparison::{CompareError, Question, compare};
pub use profile::definition::{self, Profile};
pub use profile::measure::Step;
pub use profile::profiling::{profile, repeat_for_baseline};
pub use profile::request::{Image, Options, ProfileError};
pub use tare_container as container;
pub use tare_report::{Overall, Report};
