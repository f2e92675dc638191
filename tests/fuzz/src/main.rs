//! libFuzzer's program: drives the target that the variable `TARGET` names. `scripts/fuzz` builds and starts it.

#![no_main]

use std::sync::LazyLock;

use octavia_bridge_fuzz::TARGETS;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("TARGET").unwrap_or_default();
    let target = TARGETS.iter().find(|(known, _)| *known == name);
    target.unwrap_or_else(|| panic!("TARGET={name} is not the name of a target")).1
});

libfuzzer_sys::fuzz_target!(|input: &[u8]| TARGET(input));
