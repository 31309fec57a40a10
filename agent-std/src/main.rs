//! The `lictor` binary: everything is in the library, where tests reach it.
fn main() -> std::process::ExitCode {
    agent_std::cli::main()
}

/// The one function of libm.so in the whole program, for a statistic of tokio's scheduler. The library would take half a
/// MiB of every agent's memory.
#[unsafe(no_mangle)]
extern "C" fn pow(base: f64, exponent: f64) -> f64 {
    libm::pow(base, exponent)
}
