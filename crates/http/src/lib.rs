//! A small, strict HTTP/1.1 engine.

pub mod chunked;
pub mod head;
