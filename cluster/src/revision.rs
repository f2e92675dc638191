//! How far the server's data has come: it only ever grows, unless etcd was restored from a backup.
//!
//! A watch does not notice that. It goes on at the version it had, of which the server knows nothing yet, and is told
//! nothing until the server has come so far again. So the server is asked how far it is whenever a watch begins, which a
//! restore makes every watch do: the API server ends all of them when its own watch of etcd is gone.

use std::collections::HashMap;
use std::sync::Mutex;

use tokio::sync::watch;

use crate::lock;

/// The greatest version of each kind that was seen. Kinds are not compared with each other: some may be in an etcd of their own.
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
    /// An object, a list or a reply was seen in this version.
    pub fn saw(&self, plural: &str, version: u64) {
        let mut all = lock(&self.highest);
        match all.get_mut(plural) {
            Some(highest) => *highest = version.max(*highest),
            None => drop(all.insert(plural.to_owned(), version)),
        }
    }

    /// As [`Revisions::saw`], for the text of the API. One that is not a number tells nothing.
    pub fn saw_text(&self, plural: &str, version: &str) {
        if let Ok(version) = version.parse() {
            self.saw(plural, version);
        }
    }

    /// The greatest version so far, 0 for none.
    pub fn highest(&self, plural: &str) -> u64 {
        lock(&self.highest).get(plural).copied().unwrap_or(0)
    }

    /// The server was at `now` some time after `highest` was the greatest version that was seen. Returns whether it went back:
    /// then everything has to be listed anew, and what is listed replaces what is remembered.
    pub fn is_at(&self, plural: &str, now: u64, highest: u64) -> bool {
        if now >= highest {
            self.saw(plural, now);
            return false;
        }
        let mut all = lock(&self.highest);
        // Of two that find out at the same time one has noted it already.
        if all.get(plural).is_some_and(|known| *known < highest) {
            return false;
        }
        // Other kinds were restored with this one.
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

    /// How often the server went back so far. What was asked for in an earlier epoch says nothing in this one.
    pub fn epoch(&self) -> u64 {
        *self.epoch.borrow()
    }

    /// Word of the next time.
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
        assert!(!revisions.is_at("ippools", 622, 622));
        // Another reply came while the server was asked.
        revisions.saw("ippools", 640);
        assert!(!revisions.is_at("ippools", 630, 622));
        // Another kind may be in another etcd.
        assert!(!revisions.is_at("pods", 7, revisions.highest("pods")));
        assert!(revisions.is_at("ippools", 222, 640));
        assert_eq!((revisions.epoch(), revisions.highest("ippools")), (1, 222));
        assert!(!revisions.is_at("ippools", 223, 640), "found out already");
        assert!(!revisions.is_at("ippools", 225, 222));
        assert_eq!(revisions.highest("ippools"), 225);
    }
}
