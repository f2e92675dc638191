//! What is written for an answer, and by how many requests.

use super::*;
use crate::wire::{Inquiry, Kind, Lookup};

#[tokio::test(start_paused = true)]
async fn a_steady_add_is_two_requests_and_so_is_its_del() {
    let server = Server::new(1);
    let store = agent(&server, "node-1", 1);
    assert_eq!(add(&store, &claim(&octavia(), 1)).await.unwrap(), ["172.23.0.30/24"]);
    server.requests();
    assert_eq!(add(&store, &claim(&octavia(), 2)).await.unwrap(), ["172.23.0.31/24"]);
    assert_eq!(
        server.requests(),
        ["POST kube-system/overlappingrangeipreservations", "PATCH kube-system/ippools/172.23.0.0-24",]
    );
    assert_eq!(del(&store, &attachment(2)).await.unwrap(), 1);
    assert_eq!(
        server.requests(),
        [
            "PATCH kube-system/ippools/172.23.0.0-24",
            "DELETE kube-system/overlappingrangeipreservations/172.23.0.31",
        ]
    );
    assert_eq!(del(&store, &attachment(2)).await.unwrap(), 0);
    assert_eq!(server.requests(), Vec::<String>::new(), "nothing known, nothing asked");
    assert_eq!(entries(&server, "172.23.0.0-24"), ["30 c1"]);
    assert_eq!(reservations(&server), ["172.23.0.30 c1"]);
}

/// What `kubectl get -o yaml` shows is whereabouts' own form, with annotations beside it.
#[tokio::test(start_paused = true)]
async fn objects_are_written_in_whereabouts_form() {
    let server = Server::new(2);
    let store = agent(&server, "node-1", 2);
    let mut network = octavia();
    network["network_name"] = "blue".into();
    add(&store, &claim(&network, 1)).await.unwrap();
    let pool = server.object(POOLS, "blue-172.23.0.0-24").unwrap();
    let entry = json!({ "id": "c1", "podref": "openstack/pod-1", "ifname": "net1" });
    assert_eq!(pool["apiVersion"], "whereabouts.cni.cncf.io/v1alpha1");
    assert_eq!(pool["kind"], "IPPool");
    assert_eq!(pool["spec"], json!({ "range": "172.23.0.0/24", "allocations": { "30": entry } }));
    let reservation = server.object(RESERVATIONS, "blue-172.23.0.30").unwrap();
    assert_eq!(reservation["kind"], "OverlappingRangeIPReservation");
    assert_eq!(
        reservation["spec"],
        json!({ "podref": "openstack/pod-1", "ifname": "net1", "containerid": "c1" })
    );
    assert_eq!(
        reservation["metadata"]["annotations"],
        json!({ "octavia-bridge/node": "node-1", "octavia-bridge/pod-uid": "uid-of-1" })
    );
}

#[tokio::test(start_paused = true)]
async fn with_overlapping_ranges_off_there_are_no_reservations() {
    let server = Server::new(3);
    let store = agent(&server, "node-1", 3);
    let mut network = octavia();
    network["enable_overlapping_ranges"] = false.into();
    add(&store, &claim(&network, 1)).await.unwrap();
    server.requests();
    add(&store, &claim(&network, 2)).await.unwrap();
    assert_eq!(server.requests(), ["PATCH kube-system/ippools/172.23.0.0-24"]);
    assert_eq!(reservations(&server), Vec::<String>::new());
    assert_eq!(del(&store, &attachment(1)).await.unwrap(), 1);
    assert_eq!(entries(&server, "172.23.0.0-24"), ["31 c2"]);
}

#[tokio::test(start_paused = true)]
async fn both_families_come_in_order_and_go_together() {
    let server = Server::new(4);
    let store = agent(&server, "node-1", 4);
    let network = json!({ "ipRanges": [{ "range": "fd00:1::/64" }, { "range": "172.23.0.0/24" }] });
    assert_eq!(add(&store, &claim(&network, 1)).await.unwrap(), ["fd00:1::1/64", "172.23.0.1/24"]);
    assert_eq!(reservations(&server), ["172.23.0.1 c1", "fd00-1--1 c1"]);
    assert_eq!(del(&store, &attachment(1)).await.unwrap(), 2);
    assert_eq!(reservations(&server), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn what_waits_together_is_written_together() {
    let server = Server::new(5);
    let store = agent(&server, "node-1", 5);
    add(&store, &claim(&octavia(), 0)).await.unwrap();
    server.requests();
    let claims: Vec<Claim> = (1..=40).map(|n| claim(&octavia(), n)).collect();
    let all = futures_util::future::join_all(claims.iter().map(|claim| add(&store, claim))).await;
    let mut addresses: Vec<String> = all.into_iter().flat_map(Result::unwrap).collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 40);
    let requests = server.requests();
    let patches = requests.iter().filter(|request| request.starts_with("PATCH")).count();
    assert!(patches <= 20, "{patches} patches of {} requests", requests.len());
    assert_eq!(requests.len() - patches, 40, "a reservation each and nothing else: {requests:?}");
}

#[tokio::test(start_paused = true)]
async fn two_agents_that_want_the_same_address_part() {
    let server = Server::new(6);
    let (one, two) = (agent(&server, "node-1", 6), agent(&server, "node-2", 60));
    ready(&one).await;
    ready(&two).await;
    let (a, b) = (claim(&octavia(), 1), claim(&octavia(), 2));
    let (a, b) = tokio::join!(add(&one, &a), add(&two, &b));
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_ne!(a, b);
    assert!(
        a == ["172.23.0.30/24"] || b == ["172.23.0.30/24"],
        "the lowest is given to one of them: {a:?} {b:?}"
    );
    assert_eq!(entries(&server, "172.23.0.0-24").len(), 2);
    assert_eq!(reservations(&server).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn full_is_said_only_of_what_is_full_now() {
    let server = Server::new(7);
    let store = agent(&server, "node-1", 7);
    let network = json!({ "range": "10.0.0.0/29" });
    for n in 1..=6 {
        add(&store, &claim(&network, n)).await.unwrap();
    }
    let failure = add(&store, &claim(&network, 7)).await.unwrap_err();
    assert_eq!(failure.kind, Kind::Exhausted);
    let start = "pool 10.0.0.0-29 has no free address in 10.0.0.1-10.0.0.6: 6 used, 0 free";
    assert!(failure.message.starts_with(start), "{failure}");
    // Somebody frees one, and the watch does not tell.
    server.fail("GET", "", 0, Fault::Cut);
    let mut pool = server.object(POOLS, "10.0.0.0-29").unwrap();
    pool["spec"]["allocations"].as_object_mut().unwrap().remove("3");
    server.put(POOLS, "10.0.0.0-29", Some(pool));
    server.put(RESERVATIONS, "10.0.0.3", None);
    assert_eq!(add(&store, &claim(&network, 7)).await.unwrap(), ["10.0.0.3/29"]);
}

/// As CRDs of whereabouts before 0.8 do.
#[tokio::test(start_paused = true)]
async fn entries_whose_interface_the_server_drops_are_released() {
    for seed in 20..30 {
        let server = Server::new(seed);
        server.prune_interfaces();
        let store = agent(&server, "node-1", seed);
        for n in 1..=2 {
            add(&store, &claim(&octavia(), n)).await.unwrap();
        }
        assert_eq!(
            server.object(POOLS, "172.23.0.0-24").unwrap()["spec"]["allocations"]["30"].get("ifname"),
            None
        );
        // Of the second one the agent knows what it has written, and not yet what became of it.
        assert_eq!(del(&store, &attachment(2)).await.unwrap(), 1);
        assert_eq!(entries(&server, "172.23.0.0-24"), ["30 c1"], "seed {seed}");
        // The answer is lost, and the claim finds its own entry.
        server.fail("PATCH", "/ippools/", 1, Fault::CutAfter);
        assert_eq!(add(&store, &claim(&octavia(), 3)).await.unwrap(), ["172.23.0.31/24"], "seed {seed}");
        for n in [1, 3] {
            assert_eq!(del(&store, &attachment(n)).await.unwrap(), 1);
        }
        assert_eq!((entries(&server, "172.23.0.0-24"), reservations(&server)), (Vec::new(), Vec::new()));
    }
}

/// What whereabouts leaves behind when its pool write fails (whereabouts#712).
#[tokio::test(start_paused = true)]
async fn a_reservation_without_an_entry_is_an_address_in_use() {
    let server = Server::new(8);
    let spec = json!({ "podref": "openstack/other", "ifname": "net1" });
    server.put(RESERVATIONS, "172.23.0.30", Some(json!({ "spec": spec })));
    let store = agent(&server, "node-1", 8);
    ready(&store).await;
    server.requests();
    assert_eq!(add(&store, &claim(&octavia(), 1)).await.unwrap(), ["172.23.0.31/24"]);
    assert_eq!(server.requests().len(), 2, "it is known, not found out");
    // Of another domain it is another address.
    let mut network = octavia();
    network["network_name"] = "blue".into();
    assert_eq!(add(&store, &claim(&network, 2)).await.unwrap(), ["172.23.0.30/24"]);
}

#[tokio::test(start_paused = true)]
async fn overlapping_pools_share_their_addresses() {
    let server = Server::new(9);
    let store = agent(&server, "node-1", 9);
    add(&store, &claim(&octavia(), 1)).await.unwrap();
    let narrow = json!({ "range": "172.23.0.0/26", "range_start": "172.23.0.30" });
    assert_eq!(add(&store, &claim(&narrow, 2)).await.unwrap(), ["172.23.0.31/26"]);
    let named = json!({ "range": "172.23.0.0/26", "range_start": "172.23.0.30", "network_name": "blue" });
    assert_eq!(add(&store, &claim(&named, 3)).await.unwrap(), ["172.23.0.30/26"]);
}

#[tokio::test(start_paused = true)]
async fn a_damaged_pool_stops_only_those_who_need_it() {
    let server = Server::new(10);
    let entry = json!({ "id": "c9", "podref": "ns/pod", "ifname": "net1" });
    let spec = json!({ "range": "10.9.0.0/24", "allocations": { "-3": entry } });
    server.put(POOLS, "10.9.0.0-24", Some(json!({ "spec": spec })));
    let store = agent(&server, "node-1", 10);
    let failure = add(&store, &claim(&json!({ "range": "10.9.0.0/24" }), 1)).await.unwrap_err();
    assert_eq!(failure.kind, Kind::Corrupt);
    assert!(failure.message.starts_with("ippools kube-system/10.9.0.0-24 is corrupt"), "{failure}");
    add(&store, &claim(&octavia(), 1)).await.unwrap();
    assert_eq!(del(&store, &attachment(1)).await.unwrap(), 1);
    assert_eq!(del(&store, &attachment(9)).await.unwrap_err().kind, Kind::Corrupt, "its address is in there");
    assert_eq!(server.object(POOLS, "10.9.0.0-24").unwrap()["spec"], spec);
}

#[tokio::test(start_paused = true)]
async fn what_could_never_be_kept_is_refused() {
    let server = Server::new(11);
    let store = agent(&server, "node-1", 11);
    let mut nameless = claim(&octavia(), 1);
    nameless.request.owner.pod = None;
    let far = claim(&json!({ "range": "fd00::/64", "range_start": "fd00::8000:0:0:0" }), 2);
    let unnamable = claim(&json!({ "range": "::1:0:0:0:0/64", "network_name": "" }), 3);
    for (claim, word) in [(nameless, "K8S_POD_NAME"), (far, "2^63")] {
        let failure = add(&store, &claim).await.unwrap_err();
        assert_eq!(failure.kind, Kind::Unsupported);
        assert!(failure.message.contains(word), "{failure}");
    }
    drop(unnamable);
    assert_eq!(server.names(POOLS), Vec::<String>::new());
    assert_eq!(reservations(&server), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_would_outgrow_its_object_is_refused_with_figures() {
    let server = Server::new(12);
    let entry = |n: usize| {
        (n.to_string(), json!({ "id": "x".repeat(64), "podref": "namespace/pod", "ifname": "net1" }))
    };
    let allocations: serde_json::Map<String, Value> = (1..11_500).map(entry).collect();
    server.put(
        POOLS,
        "10.0.0.0-16",
        Some(json!({ "spec": { "range": "10.0.0.0/16", "allocations": allocations } })),
    );
    let store = agent(&server, "node-1", 12);
    let failure = add(&store, &claim(&json!({ "range": "10.0.0.0/16" }), 1)).await.unwrap_err();
    assert_eq!(failure.kind, Kind::Unsupported);
    assert!(failure.message.contains("1400000"), "{failure}");
}

#[tokio::test(start_paused = true)]
async fn questions_are_answered_from_what_is_known() {
    let server = Server::new(13);
    let store = agent(&server, "node-1", 13);
    let request = claim(&octavia(), 1).request;
    add(&store, &claim(&octavia(), 1)).await.unwrap();
    server.requests();
    let lookup = Lookup { attachment: attachment(1), pools: request.pools() };
    let held = store.held(&lookup, soon()).await.unwrap();
    assert_eq!(held.iter().map(ToString::to_string).collect::<Vec<_>>(), ["172.23.0.30/24"]);
    let conf = Ipam::parse(Object::at("ipam".to_owned(), &octavia()).unwrap(), false).unwrap();
    let inquiry =
        Inquiry { network_name: None, overlapping: true, ranges: conf.ranges, reserved: Vec::new() };
    let usage = store.usage(&inquiry, soon()).await.unwrap();
    assert_eq!((usage[0].capacity, usage[0].used, usage[0].free), (41, 1, 40));
    assert_eq!(server.requests(), Vec::<String>::new());
}

/// Its entry comes before its reservation, which fails for good when ours stands in the way.
#[tokio::test(start_paused = true)]
async fn whereabouts_is_given_way_before_anything_else() {
    let server = Server::new(14);
    let store = agent(&server, "node-1", 14);
    add(&store, &claim(&octavia(), 1)).await.unwrap();
    server.deafen(true);
    let mut pool = server.object(POOLS, "172.23.0.0-24").unwrap();
    pool["spec"]["allocations"]["31"] = json!({ "id": "w1", "podref": "openstack/w", "ifname": "net1" });
    server.put(POOLS, "172.23.0.0-24", Some(pool));
    server.requests();
    add(&store, &claim(&octavia(), 2)).await.unwrap();
    assert_eq!(
        server.requests(),
        [
            "POST kube-system/overlappingrangeipreservations",
            "PATCH kube-system/ippools/172.23.0.0-24",
            "GET kube-system/ippools/172.23.0.0-24",
            "DELETE kube-system/overlappingrangeipreservations/172.23.0.31",
            "POST kube-system/overlappingrangeipreservations",
            "PATCH kube-system/ippools/172.23.0.0-24",
        ]
    );
}
