//! The version of the server's data. It only grows, unless etcd was restored from a backup.
//!
//! A watch does not notice a restore. It continues at its version, which the server has not reached yet, and gets no event until
//! the server reaches it. So the agent asks for the server's version whenever a watch begins. After a restore every watch begins
//! again: the API server ends all watches when it loses its own watch of etcd.

use std::collections::HashMap;
use std::sync::Mutex;

use tokio::sync::watch;

use crate::lock;

/// The greatest seen version of each resource. Resources are not compared with each other: some may be in a separate etcd.
#[derive(Debug)]
pub struct Revisions {
    /// By plural.
    highest: Mutex<HashMap<String, u64>>,
    /// How often the server went back.
    epoch: watch::Sender<u64>,
}

impl Default for Revisions {
    fn default() -> Self {
        Self { highest: Mutex::default(), epoch: watch::Sender::new(0) }
    }
}

impl Revisions {
    /// Notes the version of an object, a list or a reply.
    pub fn saw(&self, plural: &str, version: u64) {
        let mut all = lock(&self.highest);
        match all.get_mut(plural) {
            Some(highest) => *highest = version.max(*highest),
            None => drop(all.insert(plural.to_owned(), version)),
        }
    }

    /// As [`Revisions::saw`], for the text of the API. Ignores a text that is not a number.
    pub fn saw_text(&self, plural: &str, version: &str) {
        if let Ok(version) = version.parse() {
            self.saw(plural, version);
        }
    }

    /// The greatest version so far, 0 for none.
    pub fn highest(&self, plural: &str) -> u64 {
        lock(&self.highest).get(plural).copied().unwrap_or(0)
    }

    /// Notes that the server was at `now`, after `highest` was the greatest seen version. Returns whether the server went back:
    /// then everything has to be listed again, and the lists replace the memory.
    pub fn note(&self, plural: &str, now: u64, highest: u64) -> bool {
        if now >= highest {
            self.saw(plural, now);
            return false;
        }
        let mut all = lock(&self.highest);
        // Another watch noted it at the same time.
        if all.get(plural).is_some_and(|known| *known < highest) {
            return false;
        }
        // Other resources were restored together with this one.
        all.clear();
        all.insert(plural.to_owned(), now);
        drop(all);
        tracing::warn!(
            "the API server's {plural} went back from version {highest} to {now}, as after a restore of etcd: \
             everything is read anew"
        );
        self.epoch.send_modify(|epoch| *epoch += 1);
        true
    }

    /// How often the server went back so far. Answers to requests of an earlier epoch are not valid in this one.
    pub fn epoch(&self) -> u64 {
        *self.epoch.borrow()
    }

    /// Receives the next change of the epoch.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.epoch.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_lower_version_than_was_seen_before_asking_is_a_restore() {
        let revisions = Revisions::default();
        revisions.saw_text("ippools", "622");
        revisions.saw_text("ippools", "not a number");
        assert!(!revisions.note("ippools", 622, 622));
        // Another reply came while the server was asked.
        revisions.saw("ippools", 640);
        assert!(!revisions.note("ippools", 630, 622));
        // Another resource may be in another etcd.
        assert!(!revisions.note("pods", 7, revisions.highest("pods")));
        assert!(revisions.note("ippools", 222, 640));
        assert_eq!((revisions.epoch(), revisions.highest("ippools")), (1, 222));
        assert!(!revisions.note("ippools", 223, 640), "found out already");
        assert!(!revisions.note("ippools", 225, 222));
        assert_eq!(revisions.highest("ippools"), 225);
    }
}
