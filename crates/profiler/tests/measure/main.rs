//! Passes on real containers, and the process of root's that runs them. As root on Linux; elsewhere these
//! tests say why they are left out.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

mod daemon;
mod density;
mod edge;
#[path = "../../../container/tests/container/fake.rs"]
#[expect(dead_code, reason = "the tests of containers need more of it")]
mod fake;
#[path = "../../../container/tests/container/fixture.rs"]
#[expect(dead_code, reason = "the tests of containers need more of it")]
mod fixture;
mod limits;
mod neighbours;
mod passes;
mod start;
mod sudo;

/// The program under test, which lies elsewhere in a virtual machine.
fn profiler() -> std::path::PathBuf {
    std::env::var_os("TARE_TEST_PROFILER")
        .map_or_else(|| env!("CARGO_BIN_EXE_tare-profiler").into(), Into::into)
}
