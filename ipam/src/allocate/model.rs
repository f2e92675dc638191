//! Random histories against a model that looks at every address one by one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;
use crate::address::is_host_of;
use crate::name::PoolName;
use crate::request::Owner;

/// Subnets that overlap each other in every way, small enough to fill.
const SUBNETS: &[&str] =
    &["10.0.0.0/28", "10.0.0.0/29", "10.0.0.8/29", "10.0.0.4/30", "10.0.0.0/27", "10.0.1.0/29"];

#[derive(Debug, Clone)]
struct Network {
    ranges: Vec<Range>,
    reserved: Vec<IpAddr>,
}

#[derive(Debug, Clone)]
enum Step {
    /// Network, pod, sandbox of that pod.
    Acquire(usize, usize, usize),
    /// The same with an address asked for in the first range.
    Request(usize, usize, u32),
    /// Pod, sandbox.
    Release(usize, usize),
    /// The same, but its DEL is lost.
    Vanish(usize, usize),
}

fn address(n: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n))
}

fn range() -> impl Strategy<Value = Range> {
    let exclude = prop::collection::vec((0..48_u32, 28..=32_u8), 0..4);
    (0..SUBNETS.len(), prop::option::of(0..48_u32), prop::option::of(0..48_u32), exclude).prop_map(
        |(subnet, a, b, exclude)| {
            let (start, end) = match (a, b) {
                (Some(a), Some(b)) => (Some(a.min(b)), Some(a.max(b))),
                other => other,
            };
            let exclude = exclude.iter().map(|(n, length)| IpNet::new_assert(address(*n), *length)).collect();
            let subnet: IpNet = SUBNETS[subnet].parse().unwrap();
            Range::new(subnet, start.map(address), end.map(address), exclude).unwrap().0
        },
    )
}

fn network() -> impl Strategy<Value = Network> {
    let reserved = prop::collection::vec((0..32_u32).prop_map(address), 0..3);
    (prop::collection::vec(range(), 1..4), reserved)
        .prop_map(|(ranges, reserved)| Network { ranges, reserved })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3_usize, 0..12_usize, 0..2_usize).prop_map(|(n, p, s)| Step::Acquire(n, p, s)),
        1 => (0..3_usize, 0..12_usize, 0..32_u32).prop_map(|(n, p, a)| Step::Request(n, p, a)),
        2 => (0..12_usize, 0..2_usize).prop_map(|(p, s)| Step::Release(p, s)),
        1 => (0..12_usize, 0..2_usize).prop_map(|(p, s)| Step::Vanish(p, s)),
    ]
}

fn owner(pod: usize, sandbox: usize) -> Owner {
    // Every third pod's runtime does not say which pod it is.
    let named = (!pod.is_multiple_of(3)).then(|| format!("ns/pod-{pod}"));
    Owner { container_id: format!("c{pod}-{sandbox}"), ifname: "net1".to_owned(), pod: named }
}

type Pools = BTreeMap<String, Pool>;
/// Ids of sandboxes that exist.
type Alive = BTreeSet<String>;
/// Who has what: pool and address to holder.
type Ledger = BTreeMap<(String, IpAddr), Allocation>;
use crate::pool::Allocation;

fn ledger(pools: &Pools) -> Ledger {
    let entries = |(name, pool): (&String, &Pool)| {
        pool.iter().map(|(a, e)| ((name.clone(), a), e.clone())).collect::<Vec<_>>()
    };
    pools.iter().flat_map(entries).collect()
}

fn request(network: &Network, owner: Owner, first: Option<IpAddr>) -> Request {
    let wants = network.ranges.iter().enumerate().map(|(i, range)| {
        let choice = match first {
            Some(address) if i == 0 => Choice::Exactly(address),
            _ => Choice::Lowest(range.clone()),
        };
        let subnet = range.subnet();
        Want { pool: PoolName::new(None, &subnet).unwrap(), subnet, gateway: None, choice }
    });
    let (wants, reserved) = (wants.collect(), network.reserved.clone());
    Request { owner, network_name: None, overlapping: true, wants, reserved }
}

/// Runs a request as a store would, keeping the pools as they were after a refusal.
fn run(request: &Request, pools: &mut Pools, alive: &Alive) -> Result<Vec<IpAddr>, Refusal> {
    let wanted = request.pools();
    let get = |(name, subnet): &(PoolName, IpNet)| {
        pools.get(name.as_str()).cloned().unwrap_or_else(|| Pool::new(name, *subnet))
    };
    let mut own: Vec<Pool> = wanted.iter().map(get).collect();
    let foreign = |pool: &&Pool| wanted.iter().all(|(name, _)| name.as_str() != pool.name());
    let related = |pool: &&Pool| wanted.iter().any(|(_, subnet)| overlap(subnet, &pool.subnet()));
    let others: Vec<Pool> = pools.values().filter(foreign).filter(related).cloned().collect();
    let assigned = allocate(request, &mut own, &others, &|id, _| alive.contains(id))?;
    pools.extend(own.into_iter().map(|pool| (pool.name().to_owned(), pool)));
    Ok(assigned.iter().map(|a| a.address.addr()).collect())
}

/// What an attachment that holds nothing must get: per range the first address, looked at one by one,
/// that nobody has in any overlapping pool. `None` when some range has none.
fn naive(request: &Request, before: &Ledger) -> Option<Vec<IpAddr>> {
    let pinned = |want: &Want| match want.choice {
        Choice::Exactly(address) => Some(address),
        Choice::Lowest(_) => None,
    };
    let mut chosen: Vec<Option<IpAddr>> = request.wants.iter().map(pinned).collect();
    for i in 0..chosen.len() {
        let Choice::Lowest(range) = &request.wants[i].choice else { continue };
        let free = range.subnet().hosts().find(|candidate| {
            is_host_of(&range.subnet(), *candidate)
                && (range.first()..=range.last()).contains(candidate)
                && !range.exclude().iter().any(|net| net.contains(candidate))
                && !request.reserved.contains(candidate)
                && !chosen.contains(&Some(*candidate))
                && !before.keys().any(|(_, held)| held == candidate)
        });
        chosen[i] = Some(free?);
    }
    chosen.into_iter().collect()
}

fn is_own(owner: &Owner, entry: &Allocation, alive: &Alive) -> bool {
    let inherited = owner.pod.as_deref() == Some(entry.podref()) && !alive.contains(entry.id());
    entry.id() == owner.container_id || inherited
}

fn check(
    network: &Network,
    owner: &Owner,
    first: Option<IpAddr>,
    pools: &mut Pools,
    alive: &mut Alive,
) -> Result<(), TestCaseError> {
    let is_own = |owner: &Owner, entry: &Allocation| is_own(owner, entry, alive);
    let before = ledger(pools);
    let request = request(network, owner.clone(), first);
    let names: BTreeSet<String> = request.pools().iter().map(|(name, _)| name.to_string()).collect();
    let had_none = !before.values().any(|entry| is_own(owner, entry));
    let outcome = run(&request, pools, alive);
    let after = ledger(pools);
    let others = |ledger: &Ledger| -> Ledger {
        ledger.clone().into_iter().filter(|(_, entry)| !is_own(owner, entry)).collect()
    };
    prop_assert_eq!(others(&before), others(&after), "other attachments keep what they have");
    let assigned = match outcome {
        Err(Refusal::Held { address, holder }) => {
            prop_assert_eq!(Some(address), first);
            prop_assert!(others(&before).iter().any(|((_, a), e)| *a == address && e.id() == holder.id));
            prop_assert_eq!(before, after, "a refusal changes nothing");
            return Ok(());
        }
        Err(Refusal::Exhausted(full)) => {
            prop_assert_eq!(full.0.free, 0);
            prop_assert_eq!(full.0.used, full.0.capacity);
            if had_none {
                prop_assert_eq!(naive(&request, &before), None, "refused although there is room");
            }
            prop_assert_eq!(before, after, "a refusal changes nothing");
            return Ok(());
        }
        Ok(assigned) => assigned,
    };
    if had_none {
        prop_assert_eq!(Some(assigned.clone()), naive(&request, &before), "lowest free first");
    }
    let distinct: BTreeSet<IpAddr> = assigned.iter().copied().collect();
    prop_assert_eq!(distinct.len(), network.ranges.len(), "one address per range");
    for (address, want) in assigned.iter().zip(&request.wants) {
        prop_assert!(is_host_of(&want.subnet, *address), "{} is a host of its subnet", address);
        prop_assert!(!network.reserved.contains(address), "{} is reserved", address);
        let entry = after.get(&(want.pool.to_string(), *address));
        let written = entry.is_some_and(|e| e.id() == owner.container_id && is_own(owner, e));
        prop_assert!(written, "{} is written down for its owner", address);
        prop_assert!(!others(&after).keys().any(|(_, held)| held == address), "{} has one owner", address);
    }
    let mine = after.iter().filter(|((pool, _), entry)| names.contains(pool) && is_own(owner, entry)).count();
    prop_assert_eq!(mine, assigned.len(), "no entry is left over in the pools of the request");
    let again = run(&request, pools, alive).map_err(|error| TestCaseError::fail(error.to_string()))?;
    prop_assert_eq!(again, assigned, "repeating it gives the same");
    prop_assert_eq!(ledger(pools), after, "repeating it writes nothing new");
    alive.insert(owner.container_id.clone());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn histories_keep_the_invariants(
        networks in prop::collection::vec(network(), 3),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let (mut pools, mut alive) = (Pools::new(), Alive::new());
        for step in steps {
            match step {
                Step::Acquire(network, pod, sandbox) => {
                    check(&networks[network], &owner(pod, sandbox), None, &mut pools, &mut alive)?;
                }
                Step::Request(network, pod, n) => {
                    let network = &networks[network];
                    let wanted = address(n);
                    // The configuration refuses such requests before they come here.
                    if is_host_of(&network.ranges[0].subnet(), wanted) && !network.reserved.contains(&wanted) {
                        check(network, &owner(pod, 0), Some(wanted), &mut pools, &mut alive)?;
                    }
                }
                Step::Release(pod, sandbox) => {
                    let owner = owner(pod, sandbox);
                    let mut kept = ledger(&pools);
                    kept.retain(|_, entry| entry.id() != owner.container_id);
                    for pool in pools.values_mut() {
                        pool.release(|_, entry| entry.id() == owner.container_id);
                    }
                    prop_assert_eq!(ledger(&pools), kept);
                    alive.remove(&owner.container_id);
                }
                Step::Vanish(pod, sandbox) => {
                    alive.remove(&owner(pod, sandbox).container_id);
                }
            }
        }
    }

    #[test]
    fn the_search_finds_what_counting_finds(
        first in 0..40_u128,
        size in 0..40_u128,
        blocks in prop::collection::vec((0..80_u128, 0..20_u128), 0..5),
        taken in prop::collection::btree_set(0..80_u128, 0..60),
        skip in 0..60_usize,
    ) {
        let span = Span { first, last: first + size };
        let blocks: Vec<Span> = blocks.iter().map(|(at, more)| Span { first: *at, last: at + more }).collect();
        let free = |n: &u128| !taken.contains(n) && !blocks.iter().any(|block| block.contains(*n));
        let all: Vec<u128> = (span.first..=span.last).filter(free).collect();
        let expected = all.get(skip.checked_rem(all.len()).unwrap_or(0)).copied();
        let taken: Vec<u128> = taken.iter().copied().collect();
        let blocked = crate::address::merge(blocks.clone(), span);
        prop_assert_eq!(search::free(span, &blocked, &taken, skip), expected);
        prop_assert_eq!(search::free(span, &blocked, &taken, 0), all.first().copied());
    }
}
