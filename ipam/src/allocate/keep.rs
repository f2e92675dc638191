//! Which of an owner's addresses serve which of its ranges.
//!
//! A pool says who has an address, not for which range of the configuration. When several ranges of one
//! request share a subnet, taking the first that fits would now and then leave a later range without its
//! address, and a repeated ADD would change addresses under a running pod. So this is a bipartite
//! matching: as many ranges as possible keep an address, the lower ones going to the earlier ranges. The
//! outcome depends on the pools alone, so it is the same on every repetition.

use std::net::IpAddr;

use crate::pool::Pool;
use crate::request::{Choice, Request, Want};

use super::claimant::{Claimant, Holding};
use super::{reject_foreign, related};

/// How well an entry suits a range; lower is better. First the interface's own entries, then those
/// without an interface name; of each, first what the range would hand out itself, then what none of the
/// request's ranges would, as after a change of the bounds.
type Rank = (Holding, bool);

/// Fills the empty places of `chosen` with addresses the owner already has, as far as they go.
pub(super) fn keep_own(
    request: &Request,
    claimant: &Claimant<'_>,
    pools: &[Pool],
    others: &[Pool],
    chosen: &mut [Option<IpAddr>],
) {
    let fixed: Vec<IpAddr> = chosen.iter().flatten().copied().collect();
    let mut matching = Matching {
        candidates: request
            .wants
            .iter()
            .map(|want| candidates(request, claimant, want, pools, others, &fixed))
            .collect(),
        open: chosen.iter().map(Option::is_none).collect(),
        kept: vec![None; chosen.len()],
    };
    for holding in [Holding::Own, Holding::Unnamed] {
        for beyond in [false, true] {
            matching.extend((holding, beyond));
        }
    }
    for (slot, kept) in chosen.iter_mut().zip(matching.kept) {
        *slot = slot.or(kept);
    }
}

/// The owner's entries that `want` could keep, best first.
fn candidates(
    request: &Request,
    claimant: &Claimant<'_>,
    want: &Want,
    pools: &[Pool],
    others: &[Pool],
    fixed: &[IpAddr],
) -> Vec<(Rank, IpAddr)> {
    let Choice::Lowest(range) = &want.choice else { return Vec::new() };
    let Some(pool) = pools.iter().find(|pool| pool.name() == want.pool.as_str()) else { return Vec::new() };
    let offered = |want: &Want, address| matches!(&want.choice, Choice::Lowest(r) if r.offers(address));
    let mut found = Vec::new();
    for (address, entry) in pool.iter() {
        let holding = claimant.holding(pool.name(), entry);
        if holding == Holding::Foreign || fixed.contains(&address) {
            continue;
        }
        // Once it is a gateway, or somebody else's in an overlapping pool, it is not kept.
        let related = related(request, want, pools, others);
        if request.reserved.contains(&address) || reject_foreign(claimant, address, related).is_err() {
            continue;
        }
        if range.offers(address) {
            found.push(((holding, false), address));
        } else if !request.wants.iter().any(|want| offered(want, address)) {
            found.push(((holding, true), address));
        }
    }
    found.sort_unstable();
    found
}

/// A matching of wants and addresses that grows by augmenting paths.
struct Matching {
    candidates: Vec<Vec<(Rank, IpAddr)>>,
    /// Wants that take part at all.
    open: Vec<bool>,
    kept: Vec<Option<IpAddr>>,
}

impl Matching {
    /// Gives an address to as many more wants as candidates up to `rank` allow. No want loses its own.
    fn extend(&mut self, rank: Rank) {
        for want in 0..self.kept.len() {
            if self.open[want] && self.kept[want].is_none() {
                self.serve(want, rank, &mut Vec::new());
            }
        }
    }

    /// Finds an address for `want`: a free one, else one whose present want can be served otherwise.
    fn serve(&mut self, want: usize, rank: Rank, tried: &mut Vec<IpAddr>) -> bool {
        let reach: Vec<IpAddr> =
            self.candidates[want].iter().filter(|(r, _)| *r <= rank).map(|(_, address)| *address).collect();
        if let Some(free) = reach.iter().find(|address| !self.kept.contains(&Some(**address))) {
            self.kept[want] = Some(*free);
            return true;
        }
        for address in reach {
            if tried.contains(&address) {
                continue;
            }
            tried.push(address);
            let Some(other) = self.kept.iter().position(|kept| *kept == Some(address)) else { continue };
            if self.serve(other, rank, tried) {
                self.kept[want] = Some(address);
                return true;
            }
        }
        false
    }
}
