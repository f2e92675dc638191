//! The inputs in `corpus/`: what is usual, and what once broke something.

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

use octavia_bridge_fuzz::TARGETS;

/// Runs every input of a target; the message of a panic follows the name of its input.
fn replay(name: &str) {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let mut inputs: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "{name} has no inputs");
    for path in inputs {
        let input = fs::read(&path).unwrap();
        assert!(catch_unwind(|| target(&input)).is_ok(), "{} breaks {name}", path.display());
    }
}

#[test]
fn every_folder_of_inputs_has_a_target() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut folders: Vec<_> = fs::read_dir(corpus).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    folders.sort();
    let mut names: Vec<_> = TARGETS.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    assert_eq!(folders, names);
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
