//! Groups that were tried and refused, and when each is tried again.

use std::time::Duration;

use tokio::time::Instant;

use super::keeper::RETRY;
use crate::node::desired::Desired;

/// Longest pause of a group of which nobody can tell whether it cuts the node off. Each try asks for seconds, and no event
/// is handled meanwhile.
const LONGEST: Duration = Duration::from_secs(300);

/// What is not tried for a while.
#[derive(Debug, Default)]
pub(super) struct Refusals(Vec<Refusal>);

/// A group as it was tried last.
#[derive(Debug)]
pub(super) struct Refusal {
    desired: Desired,
    pub(super) why: String,
    /// Nobody answered before the change, so that it was not made.
    pub(super) is_untestable: bool,
    pause: Duration,
    until: Instant,
}

impl Refusals {
    /// Notes that a group was refused. The events of a change that was taken back would have it tried again at once, for
    /// ever.
    pub(super) fn add(&mut self, desired: Desired, why: String, is_untestable: bool, now: Instant) {
        let before = self.0.iter().find(|one| one.is_untestable && one.desired == desired);
        let pause = match before.filter(|_| is_untestable) {
            Some(before) => (before.pause * 2).min(LONGEST),
            None => RETRY,
        };
        self.0.retain(|one| one.desired != desired);
        self.0.push(Refusal { desired, why, is_untestable, pause, until: now + pause });
    }

    /// Forgets those that were not refused again for as long as they waited.
    pub(super) fn tidy(&mut self, now: Instant) {
        self.0.retain(|one| now < one.until + one.pause.max(LONGEST));
    }

    /// Those that nobody could vouch for are tried again at once.
    pub(super) fn forget_untestable(&mut self) {
        self.0.retain(|one| !one.is_untestable);
    }

    /// All are tried again at once.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Whether any group is to be left alone now.
    pub(super) fn any(&self, now: Instant) -> bool {
        self.0.iter().any(|one| now < one.until)
    }

    /// Why a group that asks for this is left alone now.
    pub(super) fn of(&self, desired: &Desired, now: Instant) -> Option<&Refusal> {
        self.0.iter().find(|one| now < one.until && one.desired == *desired)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::desired::{Choice, Text, read};

    fn bridge(name: &str) -> Desired {
        let yaml = format!("interfaces: [{{name: {name}, type: linux-bridge}}]");
        read(&[Text { origin: "-".into(), yaml }], &Choice::default()).unwrap()
    }

    #[test]
    fn what_nobody_can_vouch_for_waits_longer_and_longer() {
        let mut refusals = Refusals::default();
        let mut now = Instant::now();
        let mut pauses = Vec::new();
        for _ in 0..9 {
            refusals.add(bridge("br0"), "silence".into(), true, now);
            let pause = refusals.of(&bridge("br0"), now).unwrap().pause;
            pauses.push(pause.as_secs());
            now += pause;
            refusals.tidy(now);
            assert!(!refusals.any(now), "it is tried again");
        }
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
        refusals.tidy(now + LONGEST);
        refusals.add(bridge("br0"), "silence".into(), true, now + LONGEST);
        assert_eq!(refusals.0[0].pause, RETRY, "after a long time it is a first one");
    }

    #[test]
    fn what_was_taken_back_waits_as_long_each_time_and_others_do_not() {
        let mut refusals = Refusals::default();
        let now = Instant::now();
        for round in 0..3 {
            refusals.add(bridge("br0"), "no".into(), false, now + RETRY * round);
            assert_eq!(refusals.0[0].pause, RETRY);
        }
        assert!(refusals.of(&bridge("br1"), now).is_none());
        refusals.clear();
        assert!(!refusals.any(now));
    }
}
