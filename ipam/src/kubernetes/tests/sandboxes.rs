//! Sandboxes of one pod: who takes over what.

use super::*;

/// The claim of a new sandbox of pod `n`.
fn second(n: usize, known: &[(&str, bool)]) -> Claim {
    let mut claim = claim(&octavia(), n);
    claim.request.owner.container_id = format!("d{n}");
    claim.pod_uid = Some("uid-of-second".into());
    let sandbox = |(id, alive): &(&str, bool)| Sandbox {
        attachment: Attachment { container_id: (*id).into(), ifname: "net1".into() },
        alive: *alive,
    };
    claim.sandboxes = known.iter().map(sandbox).collect();
    claim
}

async fn contested(store: &Store, claim: &Claim) -> Vec<Attachment> {
    let Owner { container_id, ifname, .. } = claim.request.owner.clone();
    let turn = store.turn(&Attachment { container_id, ifname }).await;
    match store.claim(&turn, claim, soon()).await {
        Ok(Claimed::Contested(sandboxes)) => sandboxes,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn repeated_it_is_the_same_address_and_is_looked_at() {
    let server = Server::new(21);
    let store = agent(&server, "node-1", 21);
    add(&store, &claim(&octavia(), 1)).await.unwrap();
    server.requests();
    assert_eq!(add(&store, &claim(&octavia(), 1)).await.unwrap(), ["172.23.0.30/24"]);
    assert_eq!(
        server.requests(),
        [
            "GET kube-system/ippools/172.23.0.0-24",
            "GET kube-system/overlappingrangeipreservations/172.23.0.30",
        ]
    );
    // Behind our back, as whereabouts' DEL of another pod does.
    server.put(RESERVATIONS, "172.23.0.30", None);
    assert_eq!(add(&store, &claim(&octavia(), 1)).await.unwrap(), ["172.23.0.30/24"]);
    assert_eq!(reservations(&server), ["172.23.0.30 c1"]);
}

#[tokio::test(start_paused = true)]
async fn a_new_sandbox_asks_and_takes_over_from_a_dead_one() {
    let server = Server::new(22);
    let store = agent(&server, "node-1", 22);
    add(&store, &claim(&octavia(), 1)).await.unwrap();
    server.requests();
    assert_eq!(contested(&store, &second(1, &[])).await, [attachment(1)]);
    assert_eq!(server.requests(), Vec::<String>::new(), "nothing was changed");
    assert_eq!(add(&store, &second(1, &[("c1", true)])).await.unwrap(), ["172.23.0.31/24"]);
    assert_eq!(entries(&server, "172.23.0.0-24"), ["30 c1", "31 d1"]);
    del(&store, &Attachment { container_id: "d1".into(), ifname: "net1".into() }).await.unwrap();

    assert_eq!(add(&store, &second(1, &[("c1", false)])).await.unwrap(), ["172.23.0.30/24"]);
    assert_eq!(entries(&server, "172.23.0.0-24"), ["30 d1"]);
    assert_eq!(reservations(&server), ["172.23.0.30 d1"]);
    let annotations = &server.object(RESERVATIONS, "172.23.0.30").unwrap()["metadata"]["annotations"];
    assert_eq!(annotations["octavia-bridge/pod-uid"], "uid-of-second");
    // The old sandbox' DEL comes late, and finds nothing of its own.
    assert_eq!(del(&store, &attachment(1)).await.unwrap(), 0);
    assert_eq!(entries(&server, "172.23.0.0-24"), ["30 d1"]);
    assert_eq!(reservations(&server), ["172.23.0.30 d1"]);
}

#[tokio::test(start_paused = true)]
async fn what_another_node_wrote_is_another_nodes_to_free() {
    let server = Server::new(23);
    let (one, two) = (agent(&server, "node-1", 23), agent(&server, "node-2", 24));
    add(&one, &claim(&octavia(), 1)).await.unwrap();
    ready(&two).await;
    assert_eq!(add(&two, &second(1, &[])).await.unwrap(), ["172.23.0.31/24"], "no question, no takeover");
    assert_eq!(entries(&server, "172.23.0.0-24"), ["30 c1", "31 d1"]);
}

#[tokio::test(start_paused = true)]
async fn what_whereabouts_wrote_is_taken_over_and_released() {
    let server = Server::new(25);
    let entry = json!({ "id": "c1", "podref": "openstack/pod-1", "ifname": "net1" });
    let spec = json!({ "range": "172.23.0.0/24", "allocations": { "30": entry, "31": { "id": "c2", "podref": "openstack/pod-2" } } });
    server.put(POOLS, "172.23.0.0-24", Some(json!({ "spec": spec })));
    for (n, name) in [(1, "172.23.0.30"), (2, "172.23.0.31")] {
        let spec = json!({ "podref": format!("openstack/pod-{n}"), "ifname": "net1" });
        server.put(RESERVATIONS, name, Some(json!({ "spec": spec })));
    }
    let store = agent(&server, "node-1", 25);
    ready(&store).await;
    assert_eq!(contested(&store, &second(1, &[])).await, [attachment(1)], "its node is unknown");
    assert_eq!(add(&store, &second(1, &[("c1", false)])).await.unwrap(), ["172.23.0.30/24"]);
    assert_eq!(reservations(&server), ["172.23.0.30 d1", "172.23.0.31 "]);
    assert_eq!(
        del(&store, &attachment(2)).await.unwrap(),
        1,
        "an entry without interface goes with its container"
    );
    assert_eq!(reservations(&server), ["172.23.0.30 d1"]);
    assert_eq!(entries(&server, "172.23.0.0-24"), ["30 d1"]);
}

/// Each plugin has found that the other one's sandbox is gone.
#[tokio::test(start_paused = true)]
async fn two_claims_that_take_each_other_for_gone_do_not_wait_for_each_other() {
    let server = Server::new(28);
    let store = agent(&server, "node-1", 28);
    add(&store, &claim(&octavia(), 9)).await.unwrap();
    let mut first = claim(&octavia(), 1);
    let gone = Attachment { container_id: "d1".into(), ifname: "net1".into() };
    first.sandboxes = vec![Sandbox { attachment: gone.clone(), alive: false }];
    let began = Instant::now();
    let (first, other) = (first, second(1, &[("c1", false)]));
    // Each has its own turn before either asks for the other's, and gives it back when it is answered.
    let turns = [store.turn(&attachment(1)).await, store.turn(&gone).await];
    let store = &store;
    let answer = async |turn: Turn, claim: Claim| store.claim(&turn, &claim, soon()).await;
    let [of_first, of_other] = turns;
    let (one, two) = tokio::join!(answer(of_first, first), answer(of_other, other));
    // In virtual time.
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert!(one.is_ok() || two.is_ok());
}

/// The agent was killed between its two requests, and the runtime tries again.
#[tokio::test(start_paused = true)]
async fn half_a_claim_is_completed_or_released() {
    let server = Server::new(26);
    for n in [1, 2] {
        let spec = json!({ "podref": format!("openstack/pod-{n}"), "ifname": "net1", "containerid": format!("c{n}") });
        server.put(RESERVATIONS, &format!("172.23.0.3{n}"), Some(json!({ "spec": spec })));
    }
    let store = agent(&server, "node-1", 26);
    ready(&store).await;
    assert_eq!(add(&store, &claim(&octavia(), 1)).await.unwrap(), ["172.23.0.30/24"]);
    assert_eq!(reservations(&server), ["172.23.0.30 c1", "172.23.0.32 c2"], "what is not needed goes");
    assert_eq!(del(&store, &attachment(2)).await.unwrap(), 0);
    assert_eq!(reservations(&server), ["172.23.0.30 c1"]);
}

/// Another agent has taken over what this one has not heard of yet.
#[tokio::test(start_paused = true)]
async fn a_release_deletes_only_what_it_has_seen() {
    let server = Server::new(27);
    let store = agent(&server, "node-1", 27);
    add(&store, &claim(&octavia(), 1)).await.unwrap();
    server.deafen(true);
    let mut pool = server.object(POOLS, "172.23.0.0-24").unwrap();
    pool["spec"]["allocations"]["30"]["id"] = "d1".into();
    server.put(POOLS, "172.23.0.0-24", Some(pool));
    let mut reservation = server.object(RESERVATIONS, "172.23.0.30").unwrap();
    reservation["spec"]["containerid"] = "d1".into();
    server.put(RESERVATIONS, "172.23.0.30", Some(reservation));
    del(&store, &attachment(1)).await.unwrap();
    assert_eq!(entries(&server, "172.23.0.0-24"), ["30 d1"]);
    assert_eq!(reservations(&server), ["172.23.0.30 d1"]);
}

/// Whereabouts gives the entry to the pod's next sandbox, and leaves the reservation as it is. The release of the sandbox before
/// comes late, as from a tombstone, before or after the agent has heard of that.
#[tokio::test(start_paused = true)]
async fn a_late_release_leaves_the_reservation_to_the_sandbox_that_whereabouts_gave_the_entry() {
    for (seed, deaf, restarted) in [(40, false, false), (41, true, false), (42, false, true)] {
        let server = Server::new(seed);
        let first = agent(&server, "node-1", seed);
        add(&first, &claim(&octavia(), 1)).await.unwrap();
        sleep(Duration::from_secs(1)).await;
        server.lose_watches(deaf);
        let mut pool = server.object(POOLS, "172.23.0.0-24").unwrap();
        pool["spec"]["allocations"]["30"]["id"] = "theirs".into();
        server.put(POOLS, "172.23.0.0-24", Some(pool));
        sleep(Duration::from_secs(1)).await;
        let store = if restarted { agent(&server, "node-1", seed + 1) } else { first };
        del(&store, &attachment(1)).await.unwrap();
        assert_eq!(entries(&server, "172.23.0.0-24"), ["30 theirs"], "seed {seed}");
        assert_eq!(reservations(&server), ["172.23.0.30 c1"], "seed {seed}");
        // Another pod's entry is another matter: then nobody needs this one's reservation.
        let mut pool = server.object(POOLS, "172.23.0.0-24").unwrap();
        pool["spec"]["allocations"]["30"]["podref"] = "openstack/other".into();
        server.put(POOLS, "172.23.0.0-24", Some(pool));
        server.lose_watches(false);
        sleep(Duration::from_secs(100)).await;
        del(&store, &attachment(1)).await.unwrap();
        assert_eq!(reservations(&server), [""; 0], "seed {seed}");
    }
}

/// The runtime deletes the old sandbox while it attaches the new one: both go to one entry, and neither may wait for the
/// other for ever.
#[tokio::test(start_paused = true)]
async fn a_takeover_and_the_old_ones_release_at_once_both_succeed() {
    for seed in 100..130 {
        let server = Server::new(seed);
        let store = agent(&server, "node-1", seed);
        add(&store, &claim(&octavia(), 1)).await.unwrap();
        // Something is being written already, so that both wait together.
        let (other, new, old) = (claim(&octavia(), 2), second(1, &[("c1", false)]), attachment(1));
        let (other, added, deleted) = tokio::join!(add(&store, &other), add(&store, &new), del(&store, &old));
        let address = added.unwrap()[0].split('/').next().unwrap().to_owned();
        other.unwrap();
        deleted.unwrap();
        let offset = address.rsplit('.').next().unwrap();
        assert!(entries(&server, "172.23.0.0-24").contains(&format!("{offset} d1")), "seed {seed}");
        assert!(reservations(&server).contains(&format!("{address} d1")), "seed {seed}");
        assert_eq!(entries(&server, "172.23.0.0-24").len(), 2, "seed {seed}");
        assert_eq!(reservations(&server).len(), 2, "seed {seed}");
    }
}
