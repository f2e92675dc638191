//! A server whose etcd was restored from a backup: its versions, and its objects, are those of some time ago.

use super::*;

const POOL: &str = "172.23.0.0-24";

/// A server that came 400 versions further after its backup, and then lost what three pods of this node had since.
async fn went_back(store: &Store, server: &Server) {
    for n in 0..2 {
        add(store, &claim(&octavia(), n)).await.unwrap();
    }
    let backup = server.backup();
    for n in 2..5 {
        add(store, &claim(&octavia(), n)).await.unwrap();
    }
    for n in 0..400 {
        server.put("leases", "one", Some(json!({ "spec": { "renewed": n }, "metadata": {} })));
    }
    // Changed since, and so known in a version that is not there any more.
    let mut pool = server.object(POOLS, POOL).unwrap();
    pool["metadata"]["labels"] = json!({ "some": "label" });
    server.put(POOLS, POOL, Some(pool));
    let mut reservation = server.object(RESERVATIONS, "172.23.0.31").unwrap();
    reservation["metadata"]["labels"] = json!({ "some": "label" });
    server.put(RESERVATIONS, "172.23.0.31", Some(reservation));
    sleep(Duration::from_secs(1)).await;
    server.restore(backup);
}

#[tokio::test(start_paused = true)]
async fn what_is_listed_replaces_what_is_remembered() {
    let server = Server::new(3);
    let store = agent(&server, "w1", 1);
    went_back(&store, &server).await;
    sleep(Duration::from_secs(2)).await;
    assert_eq!(store.survey(|_| true).len(), 2, "{:#?}", store.survey(|_| true));
    assert_eq!(used(&store), 2);
    // Reservations of this node that the restore has lost are told, and can be put back with their entries.
    for name in ["172.23.0.32", "172.23.0.33", "172.23.0.34"] {
        let (lost, reservation) = store.lost().await;
        assert_eq!(lost, name);
        let attachment = Attachment {
            container_id: reservation.container().to_owned(),
            ifname: reservation.ifname().to_owned(),
        };
        let turn = store.turn(&attachment).await;
        assert_eq!(
            store.repair_reservation(&turn, name, &reservation, true, soon()).await.unwrap(),
            Repaired::Done
        );
        let lone = store.survey(|holding| holding.attachment() == attachment).remove(0);
        assert_eq!(store.repair_entry(&turn, &lone, soon()).await.unwrap(), Repaired::Done);
    }
    assert_eq!(entries(&server, POOL), ["30 c0", "31 c1", "32 c2", "33 c3", "34 c4"]);
    assert_eq!(reservations(&server).len(), 5);
    // Changes arrive as before.
    let other = agent(&server, "w2", 2);
    assert_eq!(add(&other, &claim(&octavia(), 9)).await.unwrap(), ["172.23.0.35/24"]);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(store.survey(|_| true).len(), 6);
}

/// Objects that the restore has set back to an older version, and a version of the server that did not go back.
#[tokio::test(start_paused = true)]
async fn a_restore_that_raises_the_server_s_version_is_noticed() {
    for seed in 1..10 {
        let server = Server::new(seed);
        let store = agent(&server, "w1", seed);
        for n in 0..2 {
            add(&store, &claim(&octavia(), n)).await.unwrap();
        }
        let backup = server.backup();
        for n in 2..5 {
            add(&store, &claim(&octavia(), n)).await.unwrap();
        }
        sleep(Duration::from_secs(1)).await;
        server.restore_bumped(backup);
        sleep(Duration::from_secs(5)).await;
        keep_up(&store).await;
        assert_eq!(used(&store), 2, "seed {seed}: {:#?}", store.survey(|_| true));
        assert_eq!(store.lost_entries().await.len(), 3, "seed {seed}");
        assert_eq!(add(&store, &claim(&octavia(), 9)).await.unwrap().len(), 1, "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_versions_that_are_not_there_any_more() {
    for seed in 1..10 {
        let server = Server::new(seed);
        let store = agent(&server, "w1", seed);
        went_back(&store, &server).await;
        // At once, before anything was noticed.
        let begun = Instant::now();
        let (new, old) = (claim(&octavia(), 7), attachment(1));
        let (added, released) = tokio::join!(add(&store, &new), del(&store, &old));
        assert_eq!(released.unwrap(), 1, "seed {seed}");
        let added = added.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(4), "seed {seed}: {:?}", begun.elapsed());
        let entry = added[0].replace("172.23.0.", "").replace("/24", " c7");
        assert!(entries(&server, POOL).contains(&entry), "seed {seed}: {added:?}");
        assert!(!reservations(&server).contains(&"172.23.0.31 c1".to_owned()), "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn entries_without_reservations_are_told_and_put_back() {
    let server = Server::new(3);
    let store = agent(&server, "w1", 1);
    let mut network = octavia();
    network["enable_overlapping_ranges"] = false.into();
    add(&store, &claim(&network, 1)).await.unwrap();
    let backup = server.backup();
    add(&store, &claim(&network, 2)).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    server.restore(backup);
    let lost = store.lost_entries().await;
    assert_eq!(lost.len(), 1);
    let turn = store.turn(&attachment(2)).await;
    assert_eq!(store.repair_lost_entry(&turn, &lost[0], soon()).await.unwrap(), Repaired::Done);
    assert_eq!(entries(&server, POOL), ["30 c1", "31 c2"]);
    assert_eq!(store.repair_lost_entry(&turn, &lost[0], soon()).await.unwrap(), Repaired::Needless);
    // One that was given to another pod meanwhile.
    let mut pool = server.object(POOLS, POOL).unwrap();
    pool["spec"]["allocations"]["31"] = json!({ "id": "other", "podref": "ns/other", "ifname": "net1" });
    server.put(POOLS, POOL, Some(pool));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(store.repair_lost_entry(&turn, &lost[0], soon()).await.unwrap(), Repaired::Taken);
}
