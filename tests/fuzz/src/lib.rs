//! Targets of fuzzing: everything that this project reads and others write, each with what must hold whatever they write.
//!
//! A target takes bytes and panics when a promise is broken. `scripts/fuzz` lets libFuzzer invent the bytes; a test here
//! runs those in `corpus/`, so an input that once broke something never does so again.

mod line;
mod pool;

use std::fs;
use std::path::Path;

use octavia_bridge_agent::fuzzing as agent;
use octavia_bridge_cni::fuzzing as plugin;
use octavia_bridge_ipam::kubernetes::fuzzing as kubernetes;
use octavia_bridge_netlink::fuzzing as netlink;

/// What a target does with the bytes; it panics when a promise is broken.
pub type Target = fn(&[u8]);

/// Every target by name, which is also that of its folder in `corpus/` and of its file in `words/`.
pub const TARGETS: [(&str, Target); 8] = [
    ("configuration", plugin::configuration),
    ("record", plugin::record),
    ("policy", |input| text(input, agent::policy)),
    ("journal", journal),
    ("line", line::line),
    ("pool", pool::pool),
    ("object", |input| text(input, kubernetes::object)),
    ("netlink", netlink::datagram),
];

/// Where the journal's target has its journal: in the sandbox, which has an empty one.
const JOURNAL: &str = "/run/octavia-bridge-fuzz";

fn text(input: &[u8], target: fn(&str)) {
    if let Ok(text) = std::str::from_utf8(input) {
        target(text);
    }
}

fn journal(input: &[u8]) {
    let folder = Path::new(JOURNAL);
    fs::create_dir_all(folder).expect("make a folder for the journal; run this in scripts/sandbox");
    agent::journal(folder, input);
}
