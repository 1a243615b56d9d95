fn main() -> std::process::ExitCode {
    xtask_tare::main()
}
