//! Which entries count as the attachment's own: its pod's, its container's, and nobody's who lives.

use super::*;
use crate::pool::{API_VERSION, KIND};

/// A pool of 10.0.0.0/24 with `allocations`.
fn given(allocations: &Value) -> Pools {
    let document = json!({
        "apiVersion": API_VERSION, "kind": KIND, "metadata": { "name": "10.0.0.0-24" },
        "spec": { "range": "10.0.0.0/24", "allocations": allocations },
    });
    let pool = Pool::parse("10.0.0.0-24", document.to_string().as_bytes()).unwrap();
    Pools { pools: vec![pool], ..Pools::default() }
}

fn octets() -> Value {
    json!({ "range": "10.0.0.0/24" })
}

#[test]
fn the_same_pod_and_interface_get_the_same_address() {
    let mut pools = Pools::default();
    let ipam = json!({ "range": "10.0.0.0/30" });
    assert_eq!(pools.add(&ipam, &pod(0)).unwrap(), one("10.0.0.1/30"));
    assert_eq!(pools.add(&ipam, &pod(1)).unwrap(), one("10.0.0.2/30"));
    let again = Owner { container_id: "new".to_owned(), ..pod(0) };
    assert_eq!(pools.add(&ipam, &again).unwrap(), one("10.0.0.1/30"), "even when the pool is full");
    assert_eq!(pools.holders(), ["10.0.0.1 new net1", "10.0.0.2 c1 net1"]);
    // The old sandbox' DEL comes late and must not take the address from the new one.
    pools.release(&pod(0));
    assert_eq!(pools.holders().len(), 2);
    let other = Owner { ifname: "net2".to_owned(), ..pod(1) };
    assert!(pools.add(&ipam, &other).is_err(), "another interface is another attachment");
}

#[test]
fn without_a_pod_the_container_is_the_identity() {
    let mut pools = Pools::default();
    let ipam = json!({ "range": "10.0.0.0/24" });
    let bare = |id: &str| Owner { container_id: id.to_owned(), ifname: "eth0".to_owned(), pod: None };
    assert_eq!(pools.add(&ipam, &bare("a")).unwrap(), one("10.0.0.1/24"));
    assert_eq!(pools.add(&ipam, &bare("b")).unwrap(), one("10.0.0.2/24"));
    assert_eq!(pools.add(&ipam, &bare("a")).unwrap(), one("10.0.0.1/24"));
    // A retry that knows more is still the same sandbox.
    let named = Owner { pod: Some("ns/p".to_owned()), ..bare("a") };
    assert_eq!(pools.add(&ipam, &named).unwrap(), one("10.0.0.1/24"));
    assert_eq!(pools.add(&ipam, &bare("a")).unwrap(), one("10.0.0.1/24"));
    assert_eq!(pools.pools[0].get("10.0.0.1".parse().unwrap()).unwrap().podref(), "ns/p");
}

#[test]
fn a_living_sandbox_of_the_same_pod_keeps_its_address() {
    let mut pools = Pools::default();
    let ipam = json!({ "range": "10.0.0.0/30" });
    assert_eq!(pools.add(&ipam, &pod(0)).unwrap(), one("10.0.0.1/30"));
    pools.alive = vec![("c0", "net1")];
    let second = Owner { container_id: "new".to_owned(), ..pod(0) };
    let pinned = pools.add_requested(&ipam, &second, &["10.0.0.1"]).unwrap_err();
    assert_eq!(pinned.to_string(), "address 10.0.0.1 is held by ns/pod-0 net1 (container c0)");
    assert_eq!(pools.add(&ipam, &second).unwrap(), one("10.0.0.2/30"));
    // Both live now: each repeats its own, and neither frees the other's as surplus.
    pools.alive.push(("new", "net1"));
    assert_eq!(pools.add(&ipam, &pod(0)).unwrap(), one("10.0.0.1/30"));
    assert_eq!(pools.add(&ipam, &second).unwrap(), one("10.0.0.2/30"));
    assert_eq!(pools.holders(), ["10.0.0.1 c0 net1", "10.0.0.2 new net1"]);
    let third = Owner { container_id: "third".to_owned(), ..pod(0) };
    assert!(matches!(pools.add(&ipam, &third), Err(Refusal::Exhausted(_))));
    // Its DEL was lost with the power: now its entry is taken over.
    pools.alive.remove(0);
    assert_eq!(pools.add(&ipam, &third).unwrap(), one("10.0.0.1/30"));
    assert_eq!(pools.holders(), ["10.0.0.1 third net1", "10.0.0.2 new net1"]);
}

#[test]
fn a_living_sandbox_counts_in_overlapping_pools_too() {
    let mut pools = Pools::default();
    pools.add(&octets(), &pod(0)).unwrap();
    let narrow = json!({ "range": "10.0.0.0/28" });
    let second = Owner { container_id: "new".to_owned(), ..pod(0) };
    pools.alive = vec![("c0", "net1")];
    assert!(matches!(pools.add_requested(&narrow, &second, &["10.0.0.1"]), Err(Refusal::Held { .. })));
    pools.alive.clear();
    assert_eq!(pools.add_requested(&narrow, &second, &["10.0.0.1"]).unwrap(), one("10.0.0.1/28"));
}

#[test]
fn liveness_is_asked_once_and_only_where_it_matters() {
    let mut pools = given(&json!({
        "1": { "id": "c0", "podref": "ns/pod-0", "ifname": "net1" },
        "2": { "id": "old", "podref": "ns/pod-0", "ifname": "net1" },
        "3": { "id": "old", "podref": "ns/pod-0", "ifname": "net1" },
        "4": { "id": "old", "podref": "ns/pod-0", "ifname": "net2" },
        "5": { "id": "old", "podref": "ns/pod-0" },
        "6": { "id": "c9", "podref": "ns/pod-9", "ifname": "net1" },
    }));
    let conf = Ipam::parse(Object::at("ipam".to_owned(), &octets()).unwrap(), false).unwrap();
    let request = conf.request(pod(0), &[], Reach::Range).unwrap();
    let asked = std::cell::RefCell::new(Vec::new());
    let alive = |id: &str, ifname: &str| {
        asked.borrow_mut().push(format!("{id} {ifname}"));
        // An answer that changes would make entries change hands half-way.
        asked.borrow().len() % 2 == 0
    };
    allocate(&request, &mut pools.pools, &[], &alive).unwrap();
    assert_eq!(*asked.borrow(), ["old net1", "old "]);
}

#[test]
fn entries_without_interface_are_adopted_by_the_first_attachment_only() {
    let mut pools = given(&json!({
        "5": { "id": "old", "podref": "ns/pod-0" },
        "6": { "id": "old", "podref": "ns/pod-0" },
        "7": { "id": "c9", "podref": "" },
        "8": { "id": "c9", "podref": "" },
    }));
    assert_eq!(pools.add(&octets(), &pod(0)).unwrap(), one("10.0.0.5/24"));
    assert_eq!(pools.add(&octets(), &pod(0)).unwrap(), one("10.0.0.5/24"), "repeated");
    let second = Owner { ifname: "net2".to_owned(), ..pod(0) };
    assert_eq!(pools.add(&octets(), &second).unwrap(), one("10.0.0.1/24"), "a second interface does not");
    assert!(matches!(pools.add_requested(&octets(), &second, &["10.0.0.6"]), Err(Refusal::Held { .. })));
    // Without a pod, by container.
    let bare = |ifname: &str| Owner { container_id: "c9".to_owned(), ifname: ifname.to_owned(), pod: None };
    assert_eq!(pools.add(&octets(), &bare("net1")).unwrap(), one("10.0.0.7/24"));
    assert_eq!(pools.add(&octets(), &bare("net2")).unwrap(), one("10.0.0.2/24"));
    assert_eq!(
        pools.holders(),
        [
            "10.0.0.1 c0 net2",
            "10.0.0.2 c9 net2",
            "10.0.0.5 c0 net1",
            "10.0.0.6 old ",
            "10.0.0.7 c9 net1",
            "10.0.0.8 c9 "
        ]
    );
}

#[test]
fn entries_without_interface_of_a_living_container_are_not_adopted() {
    let mut pools = given(&json!({ "5": { "id": "old", "podref": "ns/pod-0" } }));
    // Whichever of its interfaces lives, the entry may be that one's.
    pools.alive = vec![("old", "eth7")];
    assert_eq!(pools.add(&octets(), &pod(0)).unwrap(), one("10.0.0.1/24"));
    // The container's own ADD may have it although the container lives: that is itself.
    let mut pools = given(&json!({ "5": { "id": "c0", "podref": "" } }));
    pools.alive = vec![("c0", "net1")];
    assert_eq!(pools.add(&octets(), &pod(0)).unwrap(), one("10.0.0.5/24"));
}

#[test]
fn every_range_may_adopt_in_one_breath() {
    let mut pools = given(&json!({
        "5": { "id": "old", "podref": "ns/pod-0" },
        "15": { "id": "old", "podref": "ns/pod-0" },
    }));
    let both =
        json!({ "ipRanges": [{ "range": "10.0.0.1-10.0.0.9/24" }, { "range": "10.0.0.11-10.0.0.19/24" }] });
    assert_eq!(pools.add(&both, &pod(0)).unwrap(), ["10.0.0.5/24", "10.0.0.15/24"]);
    assert_eq!(pools.add(&both, &pod(0)).unwrap(), ["10.0.0.5/24", "10.0.0.15/24"]);
}

#[test]
fn as_many_ranges_as_one_attachment_may_have_keep_the_lowest_of_thousands() {
    // Entries of dead sandboxes, any of which any range could keep.
    let entry = json!({ "id": "old", "podref": "ns/pod-0", "ifname": "net1" });
    let entries: serde_json::Map<String, Value> =
        (1..=5000).map(|n| (n.to_string(), entry.clone())).collect();
    let document = json!({
        "apiVersion": API_VERSION, "kind": KIND, "metadata": { "name": "10.0.0.0-16" },
        "spec": { "range": "10.0.0.0/16", "allocations": entries },
    });
    let pool = Pool::parse("10.0.0.0-16", document.to_string().as_bytes()).unwrap();
    let mut pools = Pools { pools: vec![pool], ..Pools::default() };
    // The narrow ranges come last, so that the wide ones have to make room.
    let mut ranges = vec![json!({ "range": "10.0.0.0/16" }); 32];
    ranges.extend(vec![json!({ "range": "10.0.0.1-10.0.0.32/16" }); 32]);
    let ipam = json!({ "ipRanges": ranges });
    let first = pools.add(&ipam, &pod(0)).unwrap();
    let expected: Vec<String> = (33..=64).chain(1..=32).map(|n| format!("10.0.0.{n}/16")).collect();
    let (mut got, mut all) = (first.clone(), expected);
    got.sort();
    all.sort();
    assert_eq!(got, all, "none is searched for, since all can be kept");
    assert_eq!(pools.add(&ipam, &pod(0)).unwrap(), first, "repeated");
    assert_eq!(pools.holders().len(), 64, "the rest is given back");
}
