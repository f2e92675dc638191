//! Claims that wait for turns of other attachments while they hold their own: none waits for one that waits for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use crate::kubernetes::lock;
use crate::wire::Attachment;

/// The claims that wait, or have waited, for others.
#[derive(Debug, Default, Clone)]
pub(crate) struct Waits(Arc<Mutex<HashMap<Attachment, Claiming>>>);

/// Turns of other attachments, as one claim sees them.
#[derive(Debug, Default)]
struct Claiming {
    holds: Vec<Attachment>,
    wants: Option<Attachment>,
}

/// One claim among them, until dropped.
#[derive(Debug)]
pub(crate) struct Waiter {
    claimant: Attachment,
    waits: Waits,
}

impl Waits {
    /// The claim of an attachment, whose turn it is.
    pub(crate) fn waiter(&self, claimant: Attachment) -> Waiter {
        lock(&self.0).insert(claimant.clone(), Claiming::default());
        Waiter { claimant, waits: self.clone() }
    }
}

impl Waiter {
    /// Notes that the claim waits for `turn`; not if that claim, or one that it waits for, waits for this one.
    pub(crate) fn want(&self, turn: &Attachment) -> bool {
        let mut all = lock(&self.waits.0);
        let mut next = Some(turn);
        // Each claim waits for one turn; no chain is longer than all of them.
        for _ in 0..=all.len() {
            let Some(wanted) = next else { break };
            let holder = all.iter().find(|(_, claiming)| claiming.holds.contains(wanted));
            let holder = holder.map_or(wanted, |(claimant, _)| claimant);
            if *holder == self.claimant {
                return false;
            }
            next = all.get(holder).and_then(|claiming| claiming.wants.as_ref());
        }
        if let Some(claiming) = all.get_mut(&self.claimant) {
            claiming.wants = Some(turn.clone());
        }
        true
    }

    /// Notes that the wait is over, and whether the claim has the turn.
    pub(crate) fn end(&self, turn: &Attachment, has: bool) {
        if let Some(claiming) = lock(&self.waits.0).get_mut(&self.claimant) {
            claiming.wants = None;
            claiming.holds.extend(has.then(|| turn.clone()));
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        lock(&self.waits.0).remove(&self.claimant);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_would_close_a_circle_does_not_wait() {
        let waits = Waits::default();
        let [a, b, c, x] =
            ["a", "b", "c", "x"].map(|id| Attachment { container_id: id.into(), ifname: "net1".into() });
        let [of_a, of_b, of_c] = [&a, &b, &c].map(|claimant| waits.waiter(claimant.clone()));
        assert!(of_a.want(&b));
        assert!(!of_b.want(&a), "they wait for each other");
        of_a.end(&b, false);
        assert!(of_a.want(&x));
        of_a.end(&x, true);
        assert!(of_a.want(&b));
        assert!(of_b.want(&c));
        assert!(!of_c.want(&x), "what one of the chain holds");
        drop(of_a);
        assert!(of_c.want(&x));
        drop((of_b, of_c));
        assert!(lock(&waits.0).is_empty());
    }
}
