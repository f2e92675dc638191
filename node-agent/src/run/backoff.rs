//! When something else changes back what we put right, the one who gives way keeps the node usable.

use std::time::Duration;

use tokio::time::Instant;

/// So many repairs within [`WINDOW`] are a fight.
const FIGHT: usize = 5;
const WINDOW: Duration = Duration::from_secs(10);
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// Times of the latest repairs, and how long to hold off.
#[derive(Debug, Default)]
pub(crate) struct BackOff {
    recent: Vec<Instant>,
    pause: Duration,
}

impl BackOff {
    /// Notes a repair; returns the pause if this is a fight.
    pub(crate) fn repaired(&mut self, now: Instant) -> Option<Duration> {
        // What comes within a window after a pause is the same fight.
        let window = WINDOW + self.pause;
        self.recent.retain(|then| now.duration_since(*then) < window);
        if self.recent.is_empty() {
            self.pause = Duration::ZERO;
        }
        self.recent.push(now);
        if self.recent.len() < FIGHT {
            return None;
        }
        self.recent.remove(0);
        self.pause = (self.pause * 2).clamp(FIRST, LONGEST);
        Some(self.pause)
    }

    /// How long to leave the next change alone.
    pub(crate) fn pause(&self) -> Duration {
        self.pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_repairs_never_wait_and_a_fight_waits_longer_and_longer() {
        let mut backoff = BackOff::default();
        let mut now = Instant::now();
        for _ in 0..100 {
            now += WINDOW;
            assert_eq!(backoff.repaired(now), None);
        }
        let mut pauses = Vec::new();
        for _ in 0..12 {
            now += backoff.pause() + Duration::from_millis(5);
            pauses.extend(backoff.repaired(now));
        }
        assert_eq!(pauses[..4], [1, 2, 4, 8].map(Duration::from_secs));
        assert!(pauses.iter().all(|pause| *pause <= LONGEST), "{pauses:?}");
        now += LONGEST + WINDOW + backoff.pause();
        assert_eq!(backoff.repaired(now), None);
        assert_eq!(backoff.pause(), Duration::ZERO);
    }
}
