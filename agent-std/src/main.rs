//! The `lictor` binary: everything is in the library, where tests reach it.
fn main() -> std::process::ExitCode {
    agent_std::cli::main()
}
