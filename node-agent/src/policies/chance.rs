//! Chance, which keeps apart the agents of a cluster that would else do the same at the same moment.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Between a half and one and a half of `pause`.
pub(super) fn spread(pause: Duration) -> Duration {
    // The standard library keys its hash maps by chance.
    let chance = RandomState::new().hash_one(0) % 1024;
    pause.mul_f64(0.5 + chance as f64 / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_differ_within_bounds() {
        let second = Duration::from_secs(1);
        let pauses: Vec<Duration> = (0..100).map(|_| spread(second)).collect();
        assert!(pauses.iter().all(|pause| *pause >= second / 2 && *pause <= second * 3 / 2), "{pauses:?}");
        assert!(pauses.iter().any(|pause| *pause != pauses[0]), "{pauses:?}");
    }
}
