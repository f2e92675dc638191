//! Whether the loop that keeps the links still turns.
//!
//! A loop that hangs looks like one with nothing to do. So it says beforehand until when it will be back, and a
//! probe later than that fails. It has a thread of its own: that the process answers at all shows that the other one is
//! not stuck.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use octavia_bridge_cluster::lock;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use tokio::time::Instant;

/// Longest time that a look with all its repairs takes: every request to the kernel is given some seconds at most, and
/// one that could cut the node off is watched for ten. A busy node is slower than that; a hanging one hangs for good.
const WORK: Duration = Duration::from_secs(180);
/// By how much timers on a busy node may be late.
const LATE: Duration = Duration::from_secs(30);

/// When the loop was to be back.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    due: Mutex<Option<Instant>>,
    /// Others are served beside the loop.
    not_vital: AtomicBool,
}

impl Pulse {
    /// The loop begins its work.
    pub(crate) fn works(&self) {
        self.back_by(Instant::now() + WORK);
    }

    /// The loop waits, until `wake` at the latest.
    pub(crate) fn sleeps_until(&self, wake: Instant) {
        self.back_by(wake + LATE);
    }

    fn back_by(&self, moment: Instant) {
        *lock(&self.due) = Some(moment);
    }

    /// The loop is not all that the agent is there for: to end the agent because of it would take its broker from pods.
    pub(crate) fn is_not_vital(&self) {
        self.not_vital.store(true, Ordering::Relaxed);
    }

    /// For how long the loop has been overdue, if it is, and if that is a reason to restart the agent.
    pub(crate) fn overdue(&self) -> Option<Duration> {
        if self.not_vital.load(Ordering::Relaxed) { None } else { self.late() }
    }

    /// For how long the loop has been overdue, if it is.
    pub(crate) fn late(&self) -> Option<Duration> {
        let due = (*lock(&self.due))?;
        Some(Instant::now().saturating_duration_since(due)).filter(|late| !late.is_zero())
    }
}

/// What is left until the loop has to be back, as a metric.
#[derive(Debug)]
pub(crate) struct Due(pub(crate) Arc<Pulse>);

impl Collector for Due {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(due) = *lock(&self.0.due) else { return Ok(()) };
        let now = Instant::now();
        let left = due.saturating_duration_since(now).as_secs_f64();
        let left = ConstGauge::new(left - now.saturating_duration_since(due).as_secs_f64());
        let help = "Time left to the loop that keeps the links to come back; less than 0 when it hangs";
        left.encode(encoder.encode_descriptor("loop_due", help, Some(&Unit::Seconds), left.metric_type())?)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_loop_is_overdue_only_after_the_time_that_it_named() {
        let pulse = Pulse::default();
        advance(Duration::from_secs(1000)).await;
        assert_eq!(pulse.overdue(), None, "it has not begun");
        let hour = Duration::from_secs(3600);
        pulse.sleeps_until(Instant::now() + hour);
        advance(hour).await;
        assert_eq!(pulse.overdue(), None);
        advance(LATE + Duration::from_secs(7)).await;
        assert_eq!(pulse.overdue(), Some(Duration::from_secs(7)));
        pulse.works();
        advance(WORK).await;
        assert_eq!(pulse.overdue(), None);
        advance(Duration::from_secs(1)).await;
        assert_eq!(pulse.overdue(), Some(Duration::from_secs(1)));
        pulse.is_not_vital();
        assert_eq!((pulse.overdue(), pulse.late()), (None, Some(Duration::from_secs(1))));
    }
}
