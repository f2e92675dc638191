//! Reclaiming, and putting back: only what still is as the proof says.

use super::*;

const POOL: &str = "172.23.0.0-24";

/// The one address in use.
fn only(store: &Store) -> Holding {
    let mut all = store.survey(|_| true);
    assert_eq!(all.len(), 1, "{all:#?}");
    all.remove(0)
}

/// Waits until the store has heard of something.
async fn heard(store: &Store, is_so: impl Fn(&[Holding]) -> bool) {
    for _ in 0..1000 {
        keep_up(store).await;
        if is_so(&store.survey(|_| true)) {
            return;
        }
        sleep(Duration::from_millis(5)).await;
    }
    panic!("never heard: {:#?}", store.survey(|_| true));
}

/// Gives the entry of `172.23.0.30` to another sandbox, as whereabouts does.
fn take_over(server: &Server) {
    let mut pool = server.object(POOLS, POOL).unwrap();
    pool["spec"]["allocations"]["30"]["id"] = "theirs".into();
    server.put(POOLS, POOL, Some(pool));
}

#[tokio::test(start_paused = true)]
async fn what_is_dead_goes_whole_whatever_becomes_of_requests() {
    for (method, path, fault) in [
        ("", "", None),
        ("PATCH", POOLS, Some(Fault::CutAfter)),
        ("PATCH", POOLS, Some(Fault::Status(409))),
        ("PATCH", POOLS, Some(Fault::StatusAfter(500))),
        ("DELETE", RESERVATIONS, Some(Fault::CutAfter)),
        ("DELETE", RESERVATIONS, Some(Fault::Status(500))),
    ] {
        let server = Server::new(7);
        let store = agent(&server, "w1", 1);
        add(&store, &claim(&octavia(), 0)).await.unwrap();
        add(&store, &claim(&octavia(), 1)).await.unwrap();
        let dead = store.survey(|holding| holding.attachment() == attachment(0)).remove(0);
        if let Some(fault) = fault {
            server.fail(method, path, 1, fault);
        }
        let turn = store.turn(&attachment(0)).await;
        assert!(store.reclaim(&turn, &dead, soon()).await.unwrap(), "{method} {path} {fault:?}");
        assert_eq!(entries(&server, POOL), ["31 c1"], "{method} {path} {fault:?}");
        assert_eq!(reservations(&server), ["172.23.0.31 c1"], "{method} {path} {fault:?}");
        // Once more there is nothing to do.
        server.requests();
        assert!(!store.reclaim(&turn, &dead, soon()).await.unwrap());
        assert_eq!(server.requests(), [""; 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_taken_over_since_is_left_alone_also_by_one_that_has_not_heard_of_it() {
    for deaf in [true, false] {
        let server = Server::new(7);
        let store = agent(&server, "w1", 1);
        add(&store, &claim(&octavia(), 0)).await.unwrap();
        let dead = only(&store);
        server.deafen(deaf);
        take_over(&server);
        if !deaf {
            heard(&store, |all| all[0] != dead).await;
        }
        let turn = store.turn(&attachment(0)).await;
        assert!(!store.reclaim(&turn, &dead, soon()).await.unwrap());
        assert_eq!(entries(&server, POOL), ["30 theirs"]);
        assert_eq!(reservations(&server), ["172.23.0.30 c0"], "the new sandbox needs it");
        // Both are one pod's, so they stay together.
        heard(&store, |all| all.len() == 1 && all[0].attachment().container_id == "theirs").await;
        assert!(only(&store).reservation.is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn halves_are_seen_apart_and_freed() {
    let server = Server::new(7);
    let store = agent(&server, "w1", 1);
    add(&store, &claim(&octavia(), 0)).await.unwrap();
    add(&store, &claim(&octavia(), 1)).await.unwrap();
    server.put(RESERVATIONS, "172.23.0.30", None);
    let foreign = json!({ "spec": { "podref": "other/pod" }, "metadata": {} });
    server.put(RESERVATIONS, "172.23.0.31", None);
    server.put(RESERVATIONS, "172.23.0.31", Some(foreign));
    // The entries alone, and the foreign one, which is at odds with an entry.
    heard(&store, |all| all.len() == 3 && all[..2].iter().all(|holding| holding.reservation.is_none())).await;
    let lone = store.survey(|holding| holding.entry.is_none()).remove(0);
    assert!(lone.disputed);
    assert_eq!((lone.podref(), lone.address().as_str()), ("other/pod", "172.23.0.31"));
    let turn = store.turn(&lone.attachment()).await;
    assert!(store.reclaim(&turn, &lone, soon()).await.unwrap());
    assert_eq!(reservations(&server), [""; 0]);
    assert_eq!(entries(&server, POOL), ["30 c0", "31 c1"]);
}

#[tokio::test(start_paused = true)]
async fn a_reservation_that_somebody_deleted_is_told_and_made_anew() {
    let server = Server::new(7);
    let store = agent(&server, "w1", 1);
    let other = agent(&server, "w2", 2);
    add(&store, &claim(&octavia(), 0)).await.unwrap();
    add(&other, &claim(&octavia(), 1)).await.unwrap();
    heard(&store, |all| all.len() == 2).await;
    let before = server.object(RESERVATIONS, "172.23.0.30").unwrap();
    // Another node's is that node's matter, so it is not told here.
    server.put(RESERVATIONS, "172.23.0.31", None);
    server.put(RESERVATIONS, "172.23.0.30", None);
    let (name, lost) = store.lost().await;
    assert_eq!(name, "172.23.0.30");
    let turn = store.turn(&attachment(0)).await;
    assert_eq!(store.repair_reservation(&turn, &name, &lost, false, soon()).await.unwrap(), Repaired::Done);
    let after = server.object(RESERVATIONS, "172.23.0.30").unwrap();
    assert_eq!(
        (&after["spec"], &after["metadata"]["annotations"]),
        (&before["spec"], &before["metadata"]["annotations"])
    );
    // Once more, and when somebody else has it.
    assert_eq!(
        store.repair_reservation(&turn, &name, &lost, false, soon()).await.unwrap(),
        Repaired::Needless
    );
    let foreign = json!({ "spec": { "podref": "other/pod" }, "metadata": {} });
    server.put(RESERVATIONS, &name, None);
    server.put(RESERVATIONS, &name, Some(foreign));
    store.lost().await;
    assert_eq!(store.repair_reservation(&turn, &name, &lost, false, soon()).await.unwrap(), Repaired::Taken);
    drop(turn);
    // Of what was released nothing comes back.
    assert_eq!(del(&store, &attachment(0)).await.unwrap(), 1);
    let turn = store.turn(&attachment(0)).await;
    server.put(RESERVATIONS, &name, None);
    assert_eq!(
        store.repair_reservation(&turn, &name, &lost, false, soon()).await.unwrap(),
        Repaired::Needless
    );
    assert!(!server.names(RESERVATIONS).contains(&name));
    // Unless it is known to be in use all the same.
    heard(&store, |all| all.len() == 1).await;
    assert_eq!(store.repair_reservation(&turn, &name, &lost, true, soon()).await.unwrap(), Repaired::Done);
    assert!(server.names(RESERVATIONS).contains(&name));
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_somebody_removed_is_put_back_where_it_can_only_have_been() {
    let server = Server::new(7);
    let store = agent(&server, "w1", 1);
    add(&store, &claim(&octavia(), 0)).await.unwrap();
    let before = server.object(POOLS, POOL).unwrap();
    let mut without = before.clone();
    without["spec"]["allocations"] = json!({});
    server.put(POOLS, POOL, Some(without.clone()));
    heard(&store, |all| all[0].entry.is_none()).await;
    let lone = only(&store);
    let turn = store.turn(&attachment(0)).await;
    assert_eq!(store.repair_entry(&turn, &lone, soon()).await.unwrap(), Repaired::Done);
    assert_eq!(server.object(POOLS, POOL).unwrap()["spec"], before["spec"]);
    // It is no longer as the caller saw it.
    assert_eq!(store.repair_entry(&turn, &lone, soon()).await.unwrap(), Repaired::Needless);
    // In which of two pools it was, nobody knows.
    server.put(POOLS, POOL, Some(without));
    let wider = json!({ "spec": { "range": "172.23.0.0/16", "allocations": {} }, "metadata": {} });
    server.put(POOLS, "172.23.0.0-16", Some(wider));
    heard(&store, |all| all[0].entry.is_none()).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(store.repair_entry(&turn, &lone, soon()).await.unwrap(), Repaired::Needless);
    assert_eq!(entries(&server, POOL), [""; 0]);
}
