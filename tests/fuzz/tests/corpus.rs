//! The inputs in `corpus/`: what is usual, and what once broke something.

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use octavia_bridge_fuzz::TARGETS;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// What lies in a directory, sorted.
fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("list the corpus");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("list the corpus").path()).collect();
    paths.sort();
    paths
}

/// Runs every input of a target; the message of a panic follows the name of its input.
fn replay(name: &str) {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).expect("the target is known");
    let inputs = entries(&corpus().join(name));
    assert!(!inputs.is_empty(), "{name} has no inputs");
    for path in inputs {
        let input = fs::read(&path).expect("read the input");
        assert!(catch_unwind(|| target(&input)).is_ok(), "{} breaks {name}", path.display());
    }
}

#[test]
fn every_folder_of_inputs_has_a_target() {
    let mut folders: Vec<_> = TARGETS.iter().map(|(name, _)| corpus().join(name)).collect();
    folders.sort();
    assert_eq!(entries(&corpus()), folders);
}

#[test]
fn configurations() {
    replay("configuration");
}

#[test]
fn records() {
    replay("record");
}

#[test]
fn policies() {
    replay("policy");
}

#[test]
fn journals() {
    replay("journal");
}

#[test]
fn lines_on_the_socket() {
    replay("line");
}

#[test]
fn pools() {
    replay("pool");
}

#[test]
fn objects_of_the_api() {
    replay("object");
}

#[test]
fn datagrams_of_the_kernel() {
    replay("netlink");
}
