//! `cargo tare`: the same commands as `cargo xtask`, for a workspace that has no package `xtask`.
//!
//! `cargo install --path xtask --bin cargo-tare` in a checkout of tare, whose other programs are built from there.

fn main() -> std::process::ExitCode {
    xtask_tare::cargo_tare()
}
