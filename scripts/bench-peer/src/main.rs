//! Applies a desired state to the kernel with the crate `nmstate`: `bench-peer FILE`, in nmstate's JSON.
//!
//! In its kernel-only mode, since scripts/bench compares programs that talk to the kernel themselves. It verifies what it
//! did, which is its default, as the agent does.

use std::process::ExitCode;

use nmstate::NetworkState;

fn main() -> ExitCode {
    let [file] = &std::env::args().skip(1).collect::<Vec<_>>()[..] else {
        eprintln!("usage: bench-peer FILE");
        return ExitCode::from(2);
    };
    match apply(file) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("bench-peer: apply {file}: {why}");
            ExitCode::FAILURE
        }
    }
}

fn apply(file: &str) -> Result<(), String> {
    let text = std::fs::read_to_string(file).map_err(|e| e.to_string())?;
    let mut state = NetworkState::new_from_json(&text).map_err(|e| e.to_string())?;
    state.set_kernel_only(true);
    state.apply().map_err(|e| e.to_string())
}
