//! Puts containers and load together: passes, statistics, doubt, gates, reports.

pub mod startup;
