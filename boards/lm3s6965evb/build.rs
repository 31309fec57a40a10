//! Puts memory.x where the linker looks, and asks for defmt's sections when log lines are on.

use std::{env, fs, path::PathBuf};

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::write(out.join("memory.x"), include_bytes!("memory.x")).expect("OUT_DIR is writable");
    // cortex-m-rt includes this for a chip crate's interrupt names. Ours are in the table of src/irq.rs.
    fs::write(out.join("device.x"), "").expect("OUT_DIR is writable");
    println!("cargo:rustc-link-search={}", out.display());
    println!("cargo:rerun-if-changed=memory.x");
    if env::var_os("CARGO_FEATURE_LOG").is_some() {
        println!("cargo:rustc-link-arg=-Tdefmt.x");
        // defmt chooses at compile time which levels stay; without this it keeps errors only.
        println!("cargo:rustc-env=DEFMT_LOG={}", env::var("DEFMT_LOG").unwrap_or_else(|_| "info".into()));
        println!("cargo:rerun-if-env-changed=DEFMT_LOG");
    }
}
