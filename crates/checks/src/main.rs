//! `tare-checks`, the program behind `cargo xtask test` and `cargo xtask bench`.

fn main() -> std::process::ExitCode {
    tare_checks::main()
}
