//! The rival behaves as whereabouts does, and two of them never give one address to two.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use octavia_bridge_cluster_tests::{
    Access, Claim, Cluster, Fault, Ledger, Operation, Proxy, Rival, RivalError, Rule, doubles,
};
use serde_json::json;

fn octavia(access: &Access) -> Rival {
    Rival::new(access, "172.23.0.0/24".parse().expect("a range")).between(address(30), address(70))
}

fn address(last: u8) -> IpAddr {
    [172, 23, 0, last].into()
}

fn pod(number: u8) -> Claim {
    Claim::new(&format!("sandbox-{number}"), &format!("openstack/octavia-worker-{number}"))
}

#[test]
fn addresses_are_given_lowest_first_and_again() {
    let admin = Cluster::shared().namespace("lowest");
    let rival = octavia(&admin);
    for number in 0..3 {
        assert_eq!(rival.add(&pod(number)).expect("an address"), address(30 + number));
    }
    let ledger = Ledger::read(&admin);
    ledger.assert_consistent();
    let pool = &ledger.pools["172.23.0.0-24"];
    assert_eq!(pool.holders.keys().copied().collect::<Vec<_>>(), [address(30), address(31), address(32)]);
    assert_eq!(pool.holders[&address(31)].id, "sandbox-1");

    // The same pod in a new sandbox keeps its address, and the old sandbox's DEL does not take it away.
    let again = Claim { id: "sandbox-1b".to_owned(), ..pod(1) };
    assert_eq!(rival.add(&again).expect("an address"), address(31));
    rival.del(&pod(1)).expect("nothing to release");
    assert_eq!(Ledger::read(&admin).holder(address(31)).map(|holder| holder.id.as_str()), Some("sandbox-1b"));

    rival.del(&again).expect("released");
    assert_eq!(rival.add(&pod(9)).expect("an address"), address(31), "the lowest that is free");
    Ledger::read(&admin).assert_consistent();
}

#[test]
fn an_address_that_only_a_reservation_knows_is_not_given() {
    let admin = Cluster::shared().namespace("foreign");
    let reservation = json!({
        "apiVersion": "whereabouts.cni.cncf.io/v1alpha1",
        "kind": "OverlappingRangeIPReservation",
        "metadata": {"name": "neta-172.23.0.1"},
        "spec": {"podref": "other/pod"},
    });
    admin.create(&admin.whereabouts("overlappingrangeipreservations"), &reservation);
    let small = Rival::new(&admin, "172.23.0.0/30".parse().expect("a range")).network("neta");
    assert_eq!(small.add(&pod(0)).expect("an address"), address(2));
    assert!(matches!(small.add(&pod(1)), Err(RivalError::Exhausted(_))));
    assert_eq!(Ledger::read(&admin).pools.keys().collect::<Vec<_>>(), ["neta-172.23.0.0-30"]);
}

#[test]
fn requests_are_as_many_as_whereabouts_needs() {
    let cluster = Cluster::shared();
    let admin = cluster.namespace("requests");
    let rival = octavia(&admin);
    rival.add(&pod(0)).expect("an address");
    let asked = |work: &dyn Fn()| {
        let mark = cluster.audit().mark();
        work();
        let requests = cluster.audit().since(mark).into_iter();
        let ours = requests.filter(|request| request.namespace == admin.namespace());
        ours.map(|request| format!("{} {}", request.verb, request.resource)).collect::<Vec<_>>()
    };
    let added = asked(&|| {
        rival.add(&pod(1)).expect("an address");
    });
    let reservations = "overlappingrangeipreservations";
    assert_eq!(
        added,
        [
            "get leases",
            "update leases",
            "update leases",
            "list ippools",
            "get ippools",
            &format!("get {reservations}"),
            "patch ippools",
            &format!("create {reservations}"),
            "get leases",
            "update leases",
        ]
    );
    let deleted = asked(&|| rival.del(&pod(1)).expect("released"));
    assert_eq!(deleted.len(), 9, "{deleted:?}");
}

#[test]
fn two_rivals_never_give_one_address_to_two() {
    let admin = Cluster::shared().namespace("two");
    let work = |name: &'static str, seed: u64| {
        let access = admin.clone();
        thread::spawn(move || {
            let mut operations: Vec<Operation> = Vec::new();
            // Fewer addresses than pods: some ADDs find none.
            let rival = octavia(&access).between(address(30), address(41));
            rival.work(name, 8, 100, seed, |operation| operations.push(operation));
            operations
        })
    };
    let [one, other] =
        [work("one", 1), work("other", 2)].map(|rival| rival.join().expect("a rival does not panic"));
    assert_eq!((one.len(), other.len()), (100, 100));
    let operations: Vec<Operation> = one.into_iter().chain(other).collect();
    assert_eq!(doubles(&operations), [""; 0]);
    let failed = operations.iter().filter_map(|operation| operation.error.as_deref());
    let failed: Vec<&str> = failed.filter(|error| !error.contains("no address is free")).collect();
    assert_eq!(failed, [""; 0]);

    let ledger = Ledger::read(&admin);
    ledger.assert_consistent();
    // What the pool holds is what the last operation of each attachment says.
    let mut held = BTreeMap::new();
    for operation in &operations {
        if operation.add && operation.error.is_none() {
            held.insert(operation.id.clone(), operation.address);
        } else {
            held.remove(&operation.id);
        }
    }
    let holders = ledger.pools["172.23.0.0-24"].holders.iter();
    let entries: BTreeMap<_, _> =
        holders.map(|(address, holder)| (holder.id.clone(), Some(*address))).collect();
    assert_eq!(entries, held);
}

#[test]
fn a_rival_that_was_too_slow_writes_nothing() {
    let admin = Cluster::shared().namespace("slow");
    octavia(&admin).add(&pod(0)).expect("an address");
    let proxy = Proxy::start(&admin);
    let patch = proxy.rule(Rule::on("PATCH", "/ippools/", Fault::Delay(Duration::from_secs(8))).first(1));
    let slow = octavia(&proxy.access());
    let slow = thread::spawn(move || slow.add(&pod(1)));
    while patch.hits() == 0 {
        thread::sleep(Duration::from_millis(10));
    }
    // Its lease is over long before, and somebody else has had the address that it has chosen.
    let fast = octavia(&admin);
    assert_eq!(fast.add(&pod(2)).expect("an address"), address(31));
    fast.del(&pod(2)).expect("released");
    let late = slow.join().expect("a rival does not panic");
    assert!(matches!(late, Err(RivalError::LeaseLost)), "{late:?}");
    let ledger = Ledger::read(&admin);
    ledger.assert_consistent();
    assert_eq!(
        ledger.pools["172.23.0.0-24"].holders.len(),
        1,
        "the pool has changed, so the patch was refused"
    );
}
