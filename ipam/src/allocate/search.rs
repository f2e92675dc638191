//! The lowest free address of a range, found by stepping from gap to gap.
//!
//! Cost grows with the number of addresses in use and of exclusions, never with the size of the range or
//! of an exclusion: a /64 that is half excluded takes one step over that half.

use std::net::IpAddr;

use crate::address::{Span, bits, merge, same_family};
use crate::pool::Pool;
use crate::range::Range;

/// The addresses between the bounds that are never handed out, as sorted disjoint spans.
pub(super) fn blocked(range: &Range, reserved: &[IpAddr]) -> Vec<Span> {
    let mut spans = range.excluded();
    let mine = reserved.iter().filter(|address| same_family(&range.subnet(), **address));
    spans.extend(mine.map(|address| Span { first: bits(*address), last: bits(*address) }));
    merge(spans, range.span())
}

/// The addresses between the bounds that are in use in any of `pools`, ascending, each once.
pub(super) fn taken<'a>(range: &Range, pools: impl Iterator<Item = &'a Pool>) -> Vec<u128> {
    let span = range.span();
    let mut taken: Vec<u128> = Vec::new();
    for pool in pools.filter(|pool| same_family(&range.subnet(), pool.subnet().addr())) {
        // Exactly: a list that grows by doubling would be the largest thing in memory beside a large pool.
        taken.reserve_exact(pool.len());
        taken.extend(pool.taken().filter(|number| span.contains(*number)));
    }
    taken.sort_unstable();
    taken.dedup();
    taken
}

/// Whether `number` lies in one of the sorted disjoint `blocked` spans.
pub(super) fn is_blocked(blocked: &[Span], number: u128) -> bool {
    let at = blocked.partition_point(|span| span.last < number);
    blocked.get(at).is_some_and(|span| span.contains(number))
}

/// The lowest number of `span` that is neither in `blocked` (sorted, disjoint, cut to the span) nor in
/// `taken` (sorted), after `skip` others; where there are fewer, counting goes on from the lowest.
pub(super) fn free(span: Span, blocked: &[Span], taken: &[u128], skip: usize) -> Option<u128> {
    match nth_free(span, blocked, taken, skip) {
        Ok(number) => Some(number),
        Err(0) => None,
        Err(count) => nth_free(span, blocked, taken, skip % count).ok(),
    }
}

/// The free number after `skip` others, or how many there are.
fn nth_free(span: Span, blocked: &[Span], taken: &[u128], skip: usize) -> Result<u128, usize> {
    let mut candidate = Some(span.first);
    let mut blocked = blocked.iter().peekable();
    let mut taken = taken.iter().peekable();
    let mut passed = 0;
    while let Some(number) = candidate.filter(|number| *number <= span.last) {
        if let Some(block) = blocked.next_if(|block| block.first <= number) {
            candidate = block.last.checked_add(1);
        } else if let Some(used) = taken.next_if(|used| **used <= number) {
            if *used == number {
                candidate = number.checked_add(1);
            }
        } else if passed == skip {
            return Ok(number);
        } else {
            passed += 1;
            candidate = number.checked_add(1);
        }
    }
    Err(passed)
}
