//! Ranges that plugins of this node have asked for, as long as metrics report them.

use std::time::{Duration, Instant};

use octavia_bridge_ipam::range::Range;
use octavia_bridge_ipam::wire::Inquiry;

/// Ranges at most; a node has a handful. Each costs a look at its pool at every scrape.
const RANGES: usize = 64;

/// How long a range is reported after its last claim, if a range with all of its addresses is asked for instead, as when an
/// administrator widens a range. Longer than the runtime's pause between two attempts to start a pod, and than the 15 minutes
/// for which an alert's condition must hold.
const REPLACED: Duration = Duration::from_secs(1800);

/// How long a range is reported after its last claim otherwise: no pod waits for it then.
const FORGOTTEN: Duration = Duration::from_secs(24 * 3600);

/// Inquiries of one range each, with the time of the last one; the latest is the last.
#[derive(Debug, Default)]
pub(super) struct Asked(Vec<(Inquiry, Instant)>);

impl Asked {
    /// A plugin asked for this range.
    pub(super) fn note(&mut self, inquiry: Inquiry, now: Instant) {
        self.0.retain(|(known, _)| *known != inquiry);
        if self.0.len() == RANGES {
            self.0.remove(0);
        }
        self.0.push((inquiry, now));
    }

    /// What is reported, the latest last.
    pub(super) fn current(&mut self, now: Instant) -> Vec<Inquiry> {
        let before = std::mem::take(&mut self.0);
        for (at, (inquiry, last)) in before.iter().enumerate() {
            let silent = now.saturating_duration_since(*last);
            let replaced = before[at + 1..].iter().any(|(newer, _)| covers(newer, inquiry));
            if silent < if replaced { REPLACED } else { FORGOTTEN } {
                self.0.push((inquiry.clone(), *last));
            }
        }
        self.0.iter().map(|(inquiry, _)| inquiry.clone()).collect()
    }
}

/// Whether the newer one has each address of the older one. A range that only overlaps says nothing about the older one's pods.
fn covers(newer: &Inquiry, older: &Inquiry) -> bool {
    for range in &older.ranges {
        if !newer.ranges.iter().any(|wide| contains(wide, range)) {
            return false;
        }
    }
    newer.network_name == older.network_name
}

fn contains(wide: &Range, narrow: &Range) -> bool {
    wide.first() <= narrow.first() && narrow.last() <= wide.last()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn inquiry(first: u8, last: u8) -> Inquiry {
        let [first, last] = [first, last].map(|last| Some(IpAddr::from([172, 23, 0, last])));
        let (range, _) = Range::new("172.23.0.0/24".parse().unwrap(), first, last, Vec::new()).unwrap();
        Inquiry { network_name: None, overlapping: true, ranges: vec![range], reserved: Vec::new() }
    }

    #[test]
    fn a_range_that_was_widened_ends() {
        let start = Instant::now();
        let mut asked = Asked::default();
        asked.note(inquiry(30, 31), start);
        asked.note(inquiry(80, 90), start);
        asked.note(inquiry(30, 70), start + MINUTE);
        let all = [inquiry(30, 31), inquiry(80, 90), inquiry(30, 70)];
        assert_eq!(asked.current(start + 29 * MINUTE), all);
        assert_eq!(asked.current(start + 30 * MINUTE), all[1..]);
        // The wide one stays, whatever was asked for before it.
        assert_eq!(asked.current(start + 100 * MINUTE), all[1..]);
    }

    #[test]
    fn a_range_that_another_one_only_overlaps_stays() {
        let start = Instant::now();
        for other in [inquiry(31, 70), inquiry(30, 39), inquiry(33, 34)] {
            let mut asked = Asked::default();
            asked.note(inquiry(30, 40), start);
            asked.note(other.clone(), start);
            assert_eq!(asked.current(start + 100 * MINUTE), [inquiry(30, 40), other]);
        }
        let mut asked = Asked::default();
        asked.note(inquiry(30, 40), start);
        let named = Inquiry { network_name: Some("other".into()), ..inquiry(30, 40) };
        asked.note(named.clone(), start);
        assert_eq!(asked.current(start + 100 * MINUTE), [inquiry(30, 40), named]);
    }

    #[test]
    fn two_networks_that_share_addresses_both_stay() {
        let start = Instant::now();
        let mut asked = Asked::default();
        for n in 0..10 {
            asked.note(inquiry(30, 31), start + n * 5 * MINUTE);
            asked.note(inquiry(30, 70), start + n * 5 * MINUTE);
        }
        assert_eq!(asked.current(start + 50 * MINUTE), [inquiry(30, 31), inquiry(30, 70)]);
    }

    #[test]
    fn a_range_that_no_pod_asks_for_ends() {
        let start = Instant::now();
        let mut asked = Asked::default();
        asked.note(inquiry(30, 31), start);
        assert_eq!(asked.current(start + 23 * 60 * MINUTE), [inquiry(30, 31)]);
        assert!(asked.current(start + 24 * 60 * MINUTE).is_empty());
    }

    #[test]
    fn of_many_ranges_the_latest_stay() {
        let start = Instant::now();
        let mut asked = Asked::default();
        for n in 0..70 {
            asked.note(inquiry(2 * n + 1, 2 * n + 2), start);
        }
        let current = asked.current(start);
        assert_eq!((current.len(), current.first()), (RANGES, Some(&inquiry(13, 14))));
    }
}
