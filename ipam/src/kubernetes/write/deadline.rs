//! How long an operation puts up with what: a server in trouble, a server that asks to wait, others who were faster.

use std::time::Duration;

use octavia_bridge_cluster::api::TROUBLE;
use octavia_bridge_cluster::{ApiError, Jitter, Limit, Why};
use tokio::time::Instant;

/// Longest time for one request to a server that answers others. It is busy then, or the request is lost.
const BUSY: Duration = Duration::from_secs(10);
/// The least that a request is given, else its failure would say nothing about the server.
const LEAST: Duration = Duration::from_millis(50);
/// First pause before a server in trouble is asked again.
const TROUBLE_PAUSE: Duration = Duration::from_millis(50);
/// First pause after somebody else was faster, and the longest.
const CONFLICT_PAUSE: Duration = Duration::from_millis(4);
const LONGEST_CONFLICT_PAUSE: Duration = Duration::from_millis(400);

/// The time an operation has.
#[derive(Debug, Clone)]
pub(crate) struct Deadline {
    deadline: Instant,
    /// When the trouble began that has not ended, and how often it was met.
    trouble: Option<(Instant, u32)>,
}

impl Deadline {
    pub(crate) fn until(deadline: Instant) -> Self {
        Self { deadline, trouble: None }
    }

    /// Whether no time is left.
    pub(crate) fn is_over(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// More time.
    pub(crate) fn extend(&mut self, deadline: Instant) {
        self.deadline = self.deadline.max(deadline);
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// When to give up if the server answers nothing.
    pub(crate) fn silence(&self) -> Instant {
        self.deadline.min(self.trouble.map_or_else(Instant::now, |(since, _)| since) + TROUBLE)
    }

    /// How long the next request may take.
    pub(crate) fn request(&self) -> Limit {
        let now = Instant::now();
        let silence = self.silence().saturating_duration_since(now).max(LEAST);
        Limit { silence, answer: self.deadline.saturating_duration_since(now).min(BUSY).max(silence) }
    }

    /// The server answered.
    pub(crate) fn note_answer(&mut self) {
        self.trouble = None;
    }

    /// A request sent at `sent` failed. Returns how long to wait before the next one, or `None` to give up.
    pub(crate) fn pause(&mut self, sent: Instant, error: &ApiError, jitter: &Jitter) -> Option<Duration> {
        if !error.is_passing() {
            return None;
        }
        let now = Instant::now();
        if error.code() == Some(429) {
            // It is alive, and knows when it will have time.
            self.note_answer();
            let pause = error.retry_after().unwrap_or(Duration::from_secs(1));
            let pause = pause.saturating_add(jitter.spread(Duration::from_millis(100)));
            return ends_by(now, pause, self.deadline);
        }
        if matches!(error.why, Why::Busy(_)) {
            // Of many writers to one object the server lets some starve; another attempt begins with the object as it is.
            self.note_answer();
            let pause = jitter.spread(TROUBLE_PAUSE);
            return ends_by(now, pause, self.deadline);
        }
        let (since, times) = self.trouble.map_or((sent, 0), |(since, times)| (since, times + 1));
        self.trouble = Some((since, times));
        let pause = jitter.spread(TROUBLE_PAUSE * 2_u32.pow(times.min(4)));
        ends_by(now, pause, self.silence())
    }

    /// Somebody else was faster, the `times`-th time in a row, counted from 0.
    pub(crate) fn conflict(&self, times: u32, jitter: &Jitter) -> Option<Duration> {
        let pause = (CONFLICT_PAUSE * 2_u32.pow(times.min(8))).min(LONGEST_CONFLICT_PAUSE);
        let pause = jitter.spread(pause);
        ends_by(Instant::now(), pause, self.deadline)
    }
}

/// The `pause`, if there is time for a request after it.
fn ends_by(now: Instant, pause: Duration, limit: Instant) -> Option<Duration> {
    let next = now.checked_add(pause.saturating_add(LEAST))?;
    (next <= limit).then_some(pause)
}
