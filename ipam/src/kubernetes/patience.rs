//! How long an operation puts up with what: a server in trouble, a server that asks to wait, others who were faster.

use std::hash::{BuildHasher, RandomState};
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use super::error::{ApiError, Why};
use super::lock;

/// A server that is away, or silent to everybody, is known to be within this time, so that a user reads the cause within
/// five seconds.
pub(super) const TROUBLE: Duration = Duration::from_secs(4);
/// Longest time for one request to a server that answers others. It is busy then, or the request is lost.
const BUSY: Duration = Duration::from_secs(10);
/// The least that a request is given, else its failure would say nothing about the server.
const LEAST: Duration = Duration::from_millis(50);
/// First pause before a server in trouble is asked again.
const TROUBLE_PAUSE: Duration = Duration::from_millis(50);
/// First pause after somebody else was faster, and the longest.
const CONFLICT_PAUSE: Duration = Duration::from_millis(4);
const LONGEST_CONFLICT_PAUSE: Duration = Duration::from_millis(400);

/// How long a request may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    /// In this time somebody has to be answered, if not this one.
    pub(super) silence: Duration,
    /// In this time it has to be this one.
    pub(super) answer: Duration,
}

/// The time an operation has.
#[derive(Debug, Clone)]
pub(super) struct Patience {
    deadline: Instant,
    /// When the trouble began that has not ended, and how often it was met.
    trouble: Option<(Instant, u32)>,
}

impl Patience {
    pub(super) fn until(deadline: Instant) -> Self {
        Self { deadline, trouble: None }
    }

    /// Whether no time is left.
    pub(super) fn is_over(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// More time.
    pub(super) fn extend(&mut self, deadline: Instant) {
        self.deadline = self.deadline.max(deadline);
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// The latest moment at which an operation still without any answer has to give one of its own.
    pub(super) fn silence(&self) -> Instant {
        self.deadline.min(self.trouble.map_or_else(Instant::now, |(since, _)| since) + TROUBLE)
    }

    /// How long the next request may take.
    pub(super) fn request(&self) -> Limit {
        let now = Instant::now();
        let silence = self.silence().saturating_duration_since(now).max(LEAST);
        Limit { silence, answer: self.deadline.saturating_duration_since(now).min(BUSY).max(silence) }
    }

    /// The server answered.
    pub(super) fn well(&mut self) {
        self.trouble = None;
    }

    /// A request sent at `sent` failed. Returns how long to wait before the next one, or `None` to give up.
    pub(super) fn pause(&mut self, sent: Instant, error: &ApiError, dice: &Dice) -> Option<Duration> {
        if !error.is_passing() {
            return None;
        }
        let now = Instant::now();
        if error.code() == Some(429) {
            // It is alive, and knows when it will have time.
            self.well();
            let pause = error.retry_after().unwrap_or(Duration::from_secs(1));
            let pause = pause.saturating_add(dice.spread(Duration::from_millis(100)));
            return ends_by(now, pause, self.deadline);
        }
        if matches!(error.why, Why::Busy(_)) {
            // Of many writers to one object the server lets some starve; another attempt begins with the object as it is.
            self.well();
            let pause = dice.spread(TROUBLE_PAUSE);
            return ends_by(now, pause, self.deadline);
        }
        let (since, times) = self.trouble.map_or((sent, 0), |(since, times)| (since, times + 1));
        self.trouble = Some((since, times));
        let pause = dice.spread(TROUBLE_PAUSE * 2_u32.pow(times.min(4)));
        ends_by(now, pause, self.silence())
    }

    /// Somebody else was faster, the `times`-th time in a row, counted from 0.
    pub(super) fn conflict(&self, times: u32, dice: &Dice) -> Option<Duration> {
        let pause = (CONFLICT_PAUSE * 2_u32.pow(times.min(8))).min(LONGEST_CONFLICT_PAUSE);
        let pause = dice.spread(pause);
        ends_by(Instant::now(), pause, self.deadline)
    }
}

/// The `pause`, if there is time for a request after it.
fn ends_by(now: Instant, pause: Duration, limit: Instant) -> Option<Duration> {
    let next = now.checked_add(pause.saturating_add(LEAST))?;
    (next <= limit).then_some(pause)
}

/// Chance, which keeps apart those who would else meet again: a xorshift generator.
#[derive(Debug)]
pub(super) struct Dice(Mutex<u64>);

impl Dice {
    /// The same `seed` gives the same numbers.
    pub(super) fn seeded(seed: u64) -> Self {
        Self(Mutex::new(seed | 1))
    }

    /// Numbers of nobody else.
    pub(super) fn fresh() -> Self {
        // The standard library keys its hash maps by chance.
        Self::seeded(RandomState::new().hash_one(0))
    }

    /// A number below `sides`, which must not be 0.
    pub(super) fn roll(&self, sides: usize) -> usize {
        let mut state = lock(&self.0);
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        usize::try_from((*state >> 16) % sides as u64).unwrap_or(0)
    }

    /// A time shorter than `limit`, or none.
    pub(super) fn below(&self, limit: Duration) -> Duration {
        limit.mul_f64(self.roll(1000) as f64 / 1000.0)
    }

    /// Between a half and the whole of `pause`.
    fn spread(&self, pause: Duration) -> Duration {
        pause / 2 + self.below(pause / 2)
    }
}
