//! The program behind `cargo xtask profile`, `compare` and `load`; xtask builds it when it is first needed.

fn main() -> std::process::ExitCode {
    tare_profiler::main()
}
