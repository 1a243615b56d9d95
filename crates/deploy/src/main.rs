//! The program behind `cargo xtask deploy`; xtask builds it when it is first needed.

fn main() -> std::process::ExitCode {
    tare_deploy::main()
}
