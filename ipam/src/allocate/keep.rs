//! Which of an owner's addresses serve which of its ranges.
//!
//! A pool says who has an address, not for which range of the configuration. When several ranges of one
//! request share a subnet, taking the first that fits would now and then leave a later range without its
//! address, and a repeated ADD would change addresses under a running pod. So this is a bipartite
//! matching: as many ranges as possible keep an address, the lower ones going to the earlier ranges. The
//! outcome depends on the pools alone, so it is the same on every repetition.
//!
//! The entries of each pool are looked at once. Of those that a range could keep, only as many are considered as there are
//! wants, which a request may have [`crate::request::MOST_WANTS`] of: the others can have no more of them between them.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::pool::Pool;
use crate::request::{Choice, Request, Want};

use super::claimant::{Claimant, Holding};
use super::{reject_foreign, related};

/// How well an entry suits a range; lower is better. First the interface's own entries, then those
/// without an interface name; of each, first what the range would hand out itself, then what none of the
/// request's ranges would, as after a change of the bounds.
type Rank = (Holding, bool);

/// What a want could keep, best first.
type Candidates = Vec<(Rank, IpAddr)>;

/// Fills the empty places of `chosen` with addresses the owner already has, as far as they go.
pub(super) fn keep_own(
    request: &Request,
    claimant: &Claimant<'_>,
    pools: &[Pool],
    others: &[Pool],
    chosen: &mut [Option<IpAddr>],
) {
    let fixed: Vec<IpAddr> = chosen.iter().flatten().copied().collect();
    let mut candidates: Vec<Candidates> = vec![Vec::new(); request.wants.len()];
    for pool in pools {
        find_candidates(request, claimant, pool, pools, others, &fixed, &mut candidates);
    }
    for found in &mut candidates {
        found.sort_unstable();
        // A want with so many finds one that no other want has.
        found.truncate(request.wants.len());
    }
    let open = chosen.iter().map(Option::is_none).collect();
    let mut matching = Matching { candidates, open, kept: vec![None; chosen.len()], keeper: HashMap::new() };
    for holding in [Holding::Own, Holding::Unnamed] {
        for beyond in [false, true] {
            matching.extend((holding, beyond));
        }
    }
    for (slot, kept) in chosen.iter_mut().zip(matching.kept) {
        *slot = slot.or(kept);
    }
}

/// Adds the owner's entries of `pool` to the candidates of each want in it that could keep them.
fn find_candidates(
    request: &Request,
    claimant: &Claimant<'_>,
    pool: &Pool,
    pools: &[Pool],
    others: &[Pool],
    fixed: &[IpAddr],
    candidates: &mut [Candidates],
) {
    let mut here: Vec<(usize, &Want)> = request.wants.iter().enumerate().collect();
    here.retain(|(_, want)| want.pool.as_str() == pool.name() && matches!(want.choice, Choice::Lowest(_)));
    let Some((_, first)) = here.first() else { return };
    for (address, entry) in pool.iter() {
        let holding = claimant.holding(pool.name(), entry);
        if holding == Holding::Foreign || fixed.contains(&address) || request.reserved.contains(&address) {
            continue;
        }
        // Somebody else's in an overlapping pool, it is not kept. Wants of one pool have one subnet.
        if reject_foreign(claimant, address, related(request, first, pools, others)).is_err() {
            continue;
        }
        let is_offered = |want: &Want| matches!(&want.choice, Choice::Lowest(range) if range.offers(address));
        let offered = request.wants.iter().any(is_offered);
        for (i, want) in &here {
            // What another range would hand out is that one's to keep.
            if !offered || is_offered(want) {
                candidates[*i].push(((holding, !offered), address));
            }
        }
    }
}

/// A matching of wants and addresses that grows by augmenting paths.
struct Matching {
    candidates: Vec<Candidates>,
    /// Wants that take part at all.
    open: Vec<bool>,
    kept: Vec<Option<IpAddr>>,
    /// Which want keeps an address.
    keeper: HashMap<IpAddr, usize>,
}

impl Matching {
    /// Gives an address to as many more wants as candidates up to `rank` allow. No want loses its own.
    fn extend(&mut self, rank: Rank) {
        for want in 0..self.kept.len() {
            if self.open[want] && self.kept[want].is_none() {
                self.serve(want, rank, &mut vec![false; self.kept.len()]);
            }
        }
    }

    /// Finds an address for `want`: a free one, else one whose present want can be served otherwise. Each want is `asked` once,
    /// so the depth is bounded by their number.
    fn serve(&mut self, want: usize, rank: Rank, asked: &mut [bool]) -> bool {
        let reach = self.candidates[want].partition_point(|(suits, _)| *suits <= rank);
        let free = self.candidates[want][..reach].iter().find(|(_, it)| !self.keeper.contains_key(it));
        if let Some((_, address)) = free.copied() {
            self.keep(want, address);
            return true;
        }
        for i in 0..reach {
            let (_, address) = self.candidates[want][i];
            let Some(&other) = self.keeper.get(&address) else { continue };
            if std::mem::replace(&mut asked[other], true) {
                continue;
            }
            if self.serve(other, rank, asked) {
                self.keep(want, address);
                return true;
            }
        }
        false
    }

    fn keep(&mut self, want: usize, address: IpAddr) {
        self.kept[want] = Some(address);
        self.keeper.insert(address, want);
    }
}
