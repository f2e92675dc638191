//! Brings desired states about in the kernel with the crate `nmstate`, in its kernel-only mode, since scripts/bench compares
//! programs that talk to the kernel themselves. It verifies what it did, which is its default, as the agent does.
//!
//! `bench-peer FILE` applies one, in nmstate's JSON. `bench-peer --repeat` reads the names of files from standard input, a
//! line each, and answers each with the nanoseconds that the call of the library took.

use std::io::{BufRead, Write, stdin, stdout};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nmstate::NetworkState;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what] = &arguments[..] else {
        eprintln!("usage: bench-peer FILE | --repeat");
        return ExitCode::from(2);
    };
    let done = if what == "--repeat" { repeat() } else { apply(what).map(drop) };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("bench-peer: {why}");
            ExitCode::FAILURE
        }
    }
}

fn repeat() -> Result<(), String> {
    for file in stdin().lock().lines() {
        let file = file.map_err(|e| format!("read standard input: {e}"))?;
        let took = apply(&file)?;
        writeln!(stdout(), "{}", took.as_nanos()).map_err(|e| format!("write to standard output: {e}"))?;
    }
    Ok(())
}

/// Returns what the call took, without reading the file and making sense of it.
fn apply(file: &str) -> Result<Duration, String> {
    let failed = |why: String| format!("apply {file}: {why}");
    let text = std::fs::read_to_string(file).map_err(|e| failed(e.to_string()))?;
    let mut state = NetworkState::new_from_json(&text).map_err(|e| failed(e.to_string()))?;
    state.set_kernel_only(true);
    let started = Instant::now();
    state.apply().map_err(|e| failed(e.to_string()))?;
    Ok(started.elapsed())
}
