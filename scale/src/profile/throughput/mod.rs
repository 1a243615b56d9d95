//! The throughput pass: how much the server does under its limits, and what each request costs it.

pub mod series;
