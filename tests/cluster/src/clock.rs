//! Time as the API writes it and as processes can compare it, and a little chance.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Time since the machine started, the same in all processes, whatever is done to the date.
pub(crate) fn monotonic() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).expect("the kernel has a monotonic clock").into()
}

/// Now, as `MicroTime`.
pub(crate) fn rfc3339() -> String {
    let now = k8s_openapi::jiff::Timestamp::now();
    format!("{now:.6}")
}

/// A number from 0 to 1, without a seed.
pub(crate) fn fraction() -> f64 {
    // Each RandomState has other keys, and so another hash of nothing.
    let bits = RandomState::new().hash_one(()) >> 32;
    f64::from(u32::try_from(bits).unwrap_or_default()) / f64::from(u32::MAX)
}
