//! xtask with `test` and `bench`, which the other one hands over to.

fn main() -> std::process::ExitCode {
    xtask_tare::main()
}
