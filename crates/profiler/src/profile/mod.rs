//! Puts containers and load together: passes, statistics, doubt, gates, baselines and reports.
//!
//! Measuring and judging are apart. What judges is values in, values out: [`metric`] says what each figure
//! is, [`measurement`] carries one, and everything that judges reads those and nothing else.

pub mod abilities;
pub mod baseline;
pub mod boundary;
mod call_graph;
pub mod capacity;
pub mod change_points;
pub mod compare;
pub mod comparison;
pub mod cpus;
pub mod definition;
pub mod density;
pub mod difference;
pub mod edge;
pub mod gate;
pub mod history;
pub mod instructions;
pub mod isolation;
pub mod kept;
pub mod matrix;
pub mod measure;
pub mod network;
pub mod own_image;
pub mod port;
pub mod profiling;
pub mod render;
pub mod report;
pub mod request;
pub mod rounds;
pub mod several;
pub mod size;
pub mod startup;
pub mod stats;
pub mod subject;
pub mod sweep;
pub mod throughput;
pub mod trial;
pub mod validity;

pub use tare_report::{measurement, metric};
