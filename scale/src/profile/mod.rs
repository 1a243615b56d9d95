//! Puts containers and load together: passes, statistics, doubt, gates, reports.

pub mod cpus;
pub mod startup;
pub mod throughput;
