//! Pauses that grow with every failure and differ from agent to agent.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::lock;

/// Random numbers (xorshift), so that agents do not all act at the same moment.
#[derive(Debug)]
pub struct Jitter(Mutex<u64>);

impl Jitter {
    /// The same `seed` gives the same numbers.
    pub fn seeded(seed: u64) -> Self {
        Self(Mutex::new(seed | 1))
    }

    /// A generator whose numbers differ from those of other processes.
    pub fn fresh() -> Self {
        // The standard library keys its hash maps randomly.
        Self::seeded(RandomState::new().hash_one(0))
    }

    /// A number below `sides`, which must not be 0.
    pub fn roll(&self, sides: usize) -> usize {
        let mut state = lock(&self.0);
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        usize::try_from((*state >> 16) % sides as u64).unwrap_or(0)
    }

    /// A time shorter than `limit`, or none.
    pub fn below(&self, limit: Duration) -> Duration {
        limit.mul_f64(self.roll(1000) as f64 / 1000.0)
    }

    /// Between a half and the whole of `pause`.
    pub fn spread(&self, pause: Duration) -> Duration {
        pause / 2 + self.below(pause / 2)
    }

    /// Between a half and one and a half of `pause`, so that its mean is kept.
    pub fn around(&self, pause: Duration) -> Duration {
        pause / 2 + self.below(pause)
    }
}

impl Default for Jitter {
    fn default() -> Self {
        Self::fresh()
    }
}

/// The pause before a retry: twice as long after every failure, up to a bound.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    /// `first` is the pause after one failure.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, failures: 0 }
    }

    /// After a failure: returns the pause, spread by `jitter`.
    pub fn next(&mut self, jitter: &Jitter) -> Duration {
        let pause = self.first.saturating_mul(2_u32.saturating_pow(self.failures)).min(self.longest);
        self.failures = self.failures.saturating_add(1);
        jitter.spread(pause)
    }

    /// After a success.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Many items, each with a separate backoff: one that always fails does not delay the others.
#[derive(Debug)]
pub struct Retries<K> {
    first: Duration,
    longest: Duration,
    failed: HashMap<K, (Instant, Backoff)>,
}

impl<K: Eq + Hash> Retries<K> {
    /// `first` is the pause after an item's first failure.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, failed: HashMap::new() }
    }

    /// Whether it is time to try this item.
    pub fn is_due(&self, item: &K) -> bool {
        self.failed.get(item).is_none_or(|(due, _)| *due <= Instant::now())
    }

    /// After a failure of this item: returns its pause.
    pub fn failed(&mut self, item: K, jitter: &Jitter) -> Duration {
        let new = || (Instant::now(), Backoff::new(self.first, self.longest));
        let (due, backoff) = self.failed.entry(item).or_insert_with(new);
        let pause = backoff.next(jitter);
        *due = Instant::now() + pause;
        pause
    }

    /// It succeeded.
    pub fn done(&mut self, item: &K) {
        self.failed.remove(item);
    }

    /// Forgets the items for which `is_there` returns `false`.
    pub fn retain(&mut self, is_there: impl Fn(&K) -> bool) {
        self.failed.retain(|item, _| is_there(item));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound_and_begin_anew() {
        let second = Duration::from_secs(1);
        let (mut backoff, jitter) = (Backoff::new(second, 8 * second), Jitter::seeded(7));
        for whole in [1, 2, 4, 8, 8] {
            let pause = backoff.next(&jitter);
            assert!(pause >= second * whole / 2 && pause <= second * whole, "{pause:?} of {whole} s");
        }
        for _ in 0..100 {
            assert!(backoff.next(&jitter) <= 8 * second);
        }
        backoff.reset();
        assert!(backoff.next(&jitter) <= second);
    }

    #[tokio::test(start_paused = true)]
    async fn one_item_that_fails_keeps_no_other_waiting() {
        let second = Duration::from_secs(1);
        let (mut retries, jitter) = (Retries::new(second, 60 * second), Jitter::seeded(7));
        for _ in 0..5 {
            retries.failed("a", &jitter);
        }
        assert!(!retries.is_due(&"a") && retries.is_due(&"b"));
        tokio::time::advance(second).await;
        assert!(!retries.is_due(&"a"), "its pause has grown");
        tokio::time::advance(16 * second).await;
        assert!(retries.is_due(&"a"));
        retries.done(&"a");
        assert!(retries.failed("a", &jitter) <= second);
    }

    #[test]
    fn pauses_differ() {
        let jitter = Jitter::fresh();
        let pauses: Vec<Duration> = (0..100).map(|_| jitter.spread(Duration::from_secs(1))).collect();
        assert!(pauses.iter().any(|pause| *pause != pauses[0]), "{pauses:?}");
    }
}
