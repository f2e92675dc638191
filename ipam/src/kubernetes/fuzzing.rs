//! What a fuzzer does with an object of the API. Not an interface for programs.

use crate::allocate::{Refusal, allocate};
use crate::kubernetes::api::object::{Object, Writer};
use crate::kubernetes::api::reservation::Reservation;
use crate::kubernetes::memory::pool::{CachedPool, Content};
use crate::name::PoolName;
use crate::pool::{Allocation, Pool};
use crate::range::Range;
use crate::request::{Choice, Owner, Request, Want};
use crate::wire::{Attachment, Sandbox};

/// Reads an object as a pool and as a reservation, and lets a pod claim an address beside it.
///
/// # Panics
/// If an address that the object gives to somebody else is given away again, or what would be written is not an object's.
pub fn object(text: &str) {
    let owner =
        Owner { container_id: "cid1".into(), ifname: "net1".into(), pod: Some("openstack/octavia-0".into()) };
    if let Ok(stored) = CachedPool::stored(text) {
        match stored.object.content() {
            Some(Content::Corrupt { why, .. }) => assert!(!why.is_empty()),
            Some(Content::Sound(pool)) => claim(&owner, &stored.name, pool),
            None => {}
        }
    }
    if let Ok(stored) = Reservation::stored(text) {
        let attachment =
            Attachment { container_id: stored.object.container().to_owned(), ifname: String::new() };
        let sandboxes = [Sandbox { attachment, alive: true }];
        let by = Writer {
            owner: &owner,
            podref: "openstack/octavia-0",
            pod_uid: None,
            node: "n1",
            sandboxes: &sandboxes,
        };
        assert!(
            stored.object.container().is_empty() || !by.may_take(&stored.object),
            "the reservation of a living sandbox is taken over: {:?}",
            stored.object
        );
        let part = by.takeover(stored.object.uid(), stored.version);
        assert_eq!(part["metadata"]["resourceVersion"], stored.version.0.to_string());
    }
}

fn claim(owner: &Owner, name: &str, pool: &Pool) {
    let Ok(pool_name) = PoolName::try_from(name.to_owned()) else { return };
    let Ok((range, _)) = Range::new(pool.subnet(), None, None, Vec::new()) else { return };
    let want =
        Want { pool: pool_name, subnet: pool.subnet(), gateway: None, choice: Choice::Lowest(range.clone()) };
    let request = Request {
        owner: owner.clone(),
        network_name: None,
        overlapping: false,
        wants: vec![want],
        reserved: Vec::new(),
    };
    let mut pools = [pool.clone()];
    match allocate(&request, &mut pools, &[], &|_, _| true) {
        Ok(assigned) => {
            let address = assigned[0].address.addr();
            assert!(range.first() <= address && address <= range.last(), "{address} is not of {range:?}");
            if let Some(entry) = pool.get(address) {
                let same_pod = Some(entry.podref()) == owner.pod.as_deref();
                assert!(entry.id() == owner.container_id || same_pod, "{address} is another's: {entry:?}");
            }
            assert_eq!(pools[0].get(address).map(Allocation::id), Some(owner.container_id.as_str()));
        }
        Err(Refusal::Exhausted(full)) => assert_eq!(full.0.free, 0),
        Err(Refusal::Held { holder, .. }) => panic!("nothing was asked for by name: {holder}"),
    }
}
