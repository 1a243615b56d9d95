//! `cargo tare`: the commands of `cargo xtask` for workspaces without a package `xtask`.
//!
//! Install it with `cargo install --path xtask --bin cargo-tare` in a checkout of tare. The other programs are built from
//! that checkout.

fn main() -> std::process::ExitCode {
    xtask_tare::cargo_tare()
}
