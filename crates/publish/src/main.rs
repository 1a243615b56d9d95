//! The program behind `cargo xtask publish`; xtask builds it when it is first needed.

fn main() -> std::process::ExitCode {
    tare_publish::main()
}
