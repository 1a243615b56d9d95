//! `cargo xtask` of this workspace.

fn main() -> std::process::ExitCode {
    xtask_tare::main()
}
