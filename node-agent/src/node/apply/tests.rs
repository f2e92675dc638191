//! Steps on the kernel of a namespace.

mod model;
mod others;
mod stale;

use std::panic::resume_unwind;
use std::process::Command;
use std::thread;

use nix::sched::{CloneFlags, unshare};

fn ip(words: &str) {
    let output = Command::new("ip").args(words.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Runs a test in a new network namespace.
fn in_a_namespace(test: impl AsyncFnOnce() + Send + 'static) {
    let inside = || {
        unshare(CloneFlags::CLONE_NEWNET).expect("make a network namespace: run as root, or under unshare");
        ip("link set lo up");
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test());
    };
    thread::spawn(inside).join().unwrap_or_else(|panic| resume_unwind(panic));
}
