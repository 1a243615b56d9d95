//! The measured values: reports, measurements, the doubts about them, and the verdicts of gates.
//!
//! Values only, to be written and read by every program of tare. What measures and what judges is the
//! profiler's. This package uses none of ours.

pub mod bias;
pub mod chart;
pub mod doubt;
pub mod limits;
pub mod measurement;
pub mod metric;
pub mod report;
pub mod score;
mod units;
pub mod verdict;

pub use bias::{Bias, Subject};
pub use chart::{Curve, CurveKind, Frame, Package, Part};
pub use doubt::{Doubt, Reading};
pub use limits::{CpuLimit, CpuSet, Limits};
pub use measurement::Measurement;
pub use metric::{Metric, Pass};
pub use report::{Event, EventKind, Report, Run, SCHEMA};
pub use score::Score;
pub use verdict::{Outcome, Overall, Verdict};
