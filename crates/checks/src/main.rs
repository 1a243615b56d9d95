//! `tare-checks`: what `cargo xtask test` and `cargo xtask bench` hand over to.

fn main() -> std::process::ExitCode {
    tare_checks::main()
}
