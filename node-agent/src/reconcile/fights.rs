//! When something else changes back what we put right, the one who gives way keeps the node usable.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::node::plan::Step;

/// So many repairs within [`WINDOW`] are a fight.
const FIGHT: usize = 5;
const WINDOW: Duration = Duration::from_secs(10);
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// The latest repairs, and how long to hold off.
#[derive(Debug, Default)]
pub(crate) struct BackOff {
    /// When, and what was done.
    recent: Vec<(Instant, String)>,
    pause: Duration,
    last: Option<Instant>,
}

impl BackOff {
    /// Notes a repair; returns the pause if this is a fight: the same is undone again and again. Several faults in a
    /// row, as when somebody works on the node, are none.
    pub(crate) fn repaired(&mut self, now: Instant, what: &str) -> Option<Duration> {
        // What comes within a window after a pause is the same fight.
        let window = WINDOW + self.pause;
        self.recent.retain(|(then, _)| now.duration_since(*then) < window);
        if self.recent.is_empty() {
            self.pause = Duration::ZERO;
        }
        self.recent.push((now, what.to_owned()));
        self.last = Some(now);
        if self.recent.iter().filter(|(_, other)| other == what).count() < FIGHT {
            return None;
        }
        self.recent.remove(0);
        self.pause = (self.pause * 2).clamp(FIRST, LONGEST);
        Some(self.pause)
    }

    /// How long to leave changes alone still; `None` if no longer.
    pub(crate) fn pause_from(&self, now: Instant) -> Option<Duration> {
        self.not_before().and_then(|until| until.checked_duration_since(now)).filter(|pause| !pause.is_zero())
    }

    /// Until when to leave changes alone. Counted from the last repair: one that comes long after it is no answer to it.
    fn not_before(&self) -> Option<Instant> {
        self.last.map(|last| last + self.pause)
    }
}

/// Of each link, what is undone there: a fight over one delays no other.
#[derive(Debug, Default)]
pub(super) struct Fights(BTreeMap<String, BackOff>);

impl Fights {
    /// Notes repairs; returns the links that are fought over, with their pauses.
    pub(super) fn repaired(&mut self, now: Instant, steps: &[Step]) -> Vec<(String, Duration)> {
        // Nothing is remembered for ever.
        self.0.retain(|_, fight| fight.last.is_some_and(|last| now < last + fight.pause + WINDOW + LONGEST));
        let mut done: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for step in steps {
            for link in links(step) {
                done.entry(link.to_owned()).or_default().push(step.to_string());
            }
        }
        let mut fought = Vec::new();
        for (link, steps) in done {
            let fight = self.0.entry(link.clone()).or_default();
            if let Some(pause) = fight.repaired(now, &steps.join(", ")) {
                fought.push((link, pause));
            }
        }
        fought
    }

    /// Whether any link is to be left alone now.
    pub(super) fn any(&self, now: Instant) -> bool {
        self.0.values().any(|fight| fight.pause_from(now).is_some())
    }

    /// How long to leave links of these names alone still.
    pub(super) fn pause(&self, names: &BTreeSet<String>, now: Instant) -> Option<Duration> {
        names.iter().filter_map(|name| self.0.get(name)?.pause_from(now)).max()
    }
}

fn links(step: &Step) -> Vec<&str> {
    match step {
        Step::AddRoute(route) | Step::RemoveRoute(route) => {
            route.hops.iter().map(|hop| hop.link.as_str()).collect()
        }
        step => step.link().into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHAT: &str = "set octbr up";

    #[test]
    fn single_repairs_never_wait_and_a_fight_waits_longer_and_longer() {
        let mut backoff = BackOff::default();
        let mut now = Instant::now();
        for _ in 0..100 {
            now += WINDOW;
            assert_eq!(backoff.repaired(now, WHAT), None);
        }
        let mut pauses = Vec::new();
        for _ in 0..12 {
            now = backoff.not_before().unwrap() + Duration::from_millis(5);
            pauses.extend(backoff.repaired(now, WHAT));
        }
        assert_eq!(pauses[..4], [1, 2, 4, 8].map(Duration::from_secs));
        assert!(pauses.iter().all(|pause| *pause <= LONGEST), "{pauses:?}");
        // The other one has given up: what happens after the pause is repaired at once.
        assert!(backoff.not_before().unwrap() <= now + LONGEST);
        now += LONGEST + WINDOW + LONGEST;
        assert_eq!(backoff.repaired(now, WHAT), None);
        assert_eq!(backoff.not_before(), Some(now));
    }

    #[test]
    fn a_fight_over_one_link_delays_no_other() {
        let mut fights = Fights::default();
        let now = Instant::now();
        let up = |link: &str| [Step::SetUp { link: link.into(), up: true }];
        for round in 1..=FIGHT {
            let fought = fights.repaired(now, &up("octbr"));
            assert_eq!(fought.len(), usize::from(round == FIGHT), "{round}");
        }
        assert!(fights.repaired(now, &up("ospbr")).is_empty());
        let names = |name: &str| BTreeSet::from(["eth0".to_owned(), name.to_owned()]);
        assert_eq!(fights.pause(&names("octbr"), now), Some(FIRST));
        assert_eq!(fights.pause(&names("ospbr"), now), None);
        assert!(fights.any(now) && !fights.any(now + FIRST));
    }

    #[test]
    fn many_faults_of_different_sorts_are_no_fight() {
        let mut backoff = BackOff::default();
        let mut now = Instant::now();
        for round in 0..FIGHT {
            for fault in ["set octbr up", "set the MTU of octbr to 1500", "create octbr (bridge)"] {
                now += Duration::from_millis(100);
                let fight = backoff.repaired(now, fault).is_some();
                assert_eq!(fight, round == FIGHT - 1, "{fault} for the {round}th time");
            }
        }
    }
}
