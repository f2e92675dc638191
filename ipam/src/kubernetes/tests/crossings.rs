//! Answers that cross what was done meanwhile, and what is left of it.

use super::*;

const POOL: &str = "172.23.0.0-24";

/// Adds an entry to the pool as another program does, without a reservation.
fn add_entry(server: &Server, offset: &str) {
    let mut pool = server.object(POOLS, POOL).unwrap();
    pool["spec"]["allocations"][offset] = json!({ "id": "theirs", "podref": "ns/theirs", "ifname": "net1" });
    server.put(POOLS, POOL, Some(pool));
}

#[tokio::test(start_paused = true)]
async fn a_read_that_crosses_a_patch_of_ours_tells_what_others_did_before_it() {
    let server = Server::new(1);
    let store = agent(&server, "w1", 1);
    add(&store, &claim(&octavia(), 0)).await.unwrap();
    // Its removal crosses the read, too.
    add(&store, &claim(&octavia(), 1)).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    add_entry(&server, "60");
    sleep(Duration::from_secs(1)).await;
    server.fail("GET", "/ippools/", 1, Fault::LateAfter(Duration::from_secs(1)));
    let within = Deadline::until(soon());
    let (other, old) = (claim(&octavia(), 2), attachment(1));
    let changes = async {
        sleep(Duration::from_millis(100)).await;
        assert_eq!(del(&store, &old).await.unwrap(), 1);
        assert_eq!(add(&store, &other).await.unwrap(), ["172.23.0.31/24"]);
    };
    let (read, ()) = tokio::join!(store.inner.shared.read_pool(POOL, &within), changes);
    read.unwrap();
    let cache = lock(&store.inner.shared.cache);
    let pool = cache.pools.get(POOL).unwrap();
    let known: Vec<String> = pool.sound().unwrap().iter().map(|(_, entry)| entry.id().to_owned()).collect();
    assert_eq!(known, ["c0", "c2", "theirs"]);
    assert!(pool.is_current());
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_was_damaged_under_a_release_keeps_the_reservation() {
    let server = Server::new(2);
    let store = agent(&server, "w1", 2);
    add(&store, &claim(&octavia(), 0)).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    server.lose_watches(true);
    let mut pool = server.object(POOLS, POOL).unwrap();
    pool["spec"]["range"] = "no range".into();
    server.put(POOLS, POOL, Some(pool));
    server.fail("PATCH", POOLS, 1, Fault::Status(409));
    let released = del(&store, &attachment(0)).await;
    assert_eq!(entries(&server, POOL), ["30 c0"]);
    assert_eq!(reservations(&server), ["172.23.0.30 c0"], "{released:?}");
    released.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_release_from_a_pool_known_to_be_damaged_keeps_the_reservation() {
    let server = Server::new(7);
    let store = agent(&server, "w1", 7);
    add(&store, &claim(&octavia(), 0)).await.unwrap();
    let mut pool = server.object(POOLS, POOL).unwrap();
    pool["spec"]["range"] = "no range".into();
    server.put(POOLS, POOL, Some(pool));
    sleep(Duration::from_secs(1)).await;
    store.inner.shared.read_pool(POOL, &Deadline::until(soon())).await.unwrap();
    del(&store, &attachment(0)).await.unwrap_err();
    assert_eq!(reservations(&server), ["172.23.0.30 c0"]);
}

#[tokio::test(start_paused = true)]
async fn reservations_are_read_before_a_refusal_however_many_pools_were() {
    let server = Server::new(3);
    let other = agent(&server, "w2", 4);
    let store = agent(&server, "w1", 3);
    // Two addresses, both reserved by pods of another node, and many pools that have addresses in common with this one.
    let network =
        json!({ "range": "172.23.0.0/24", "range_start": "172.23.0.30", "range_end": "172.23.0.31" });
    for n in 0..2 {
        add(&other, &claim(&network, n)).await.unwrap();
    }
    for n in 0..32 {
        let range = format!("172.23.0.{}/29", n * 8);
        let wide = json!({ "spec": { "range": range, "allocations": {} }, "metadata": {} });
        server.put(POOLS, &range.replace('/', "-"), Some(wide));
    }
    sleep(Duration::from_secs(1)).await;
    server.lose_watches(true);
    for n in 0..2 {
        del(&other, &attachment(n)).await.unwrap();
    }
    assert_eq!(reservations(&server), [""; 0]);
    assert_eq!(add(&store, &claim(&network, 2)).await.unwrap(), ["172.23.0.30/24"]);
}

#[tokio::test(start_paused = true)]
async fn networks_whose_pools_have_one_name_do_not_share_a_writer() {
    let server = Server::new(5);
    let store = agent(&server, "w1", 5);
    let high = json!({ "range": "fd00:1::/64" });
    let low = json!({ "range": "1::/64", "network_name": "fd00" });
    let name = |ipam: &Value| claim(ipam, 0).request.pools()[0].0.to_string();
    assert_eq!(name(&high), name(&low));
    server.fail("POST", "", usize::MAX, Fault::Status(403));
    add(&store, &claim(&high, 0)).await.unwrap_err();
    server.heal();
    assert_eq!(add(&store, &claim(&low, 1)).await.unwrap(), ["1::1/64"]);
    assert_eq!(server.object(POOLS, &name(&low)).unwrap()["spec"]["range"], "1::/64");
}

#[tokio::test(start_paused = true)]
async fn a_reservation_that_was_released_is_not_looked_for_in_pools() {
    let server = Server::new(6);
    let store = agent(&server, "w1", 6);
    for n in 0..2 {
        add(&store, &claim(&octavia(), n)).await.unwrap();
    }
    sleep(Duration::from_secs(1)).await;
    let before = store.survey(|holding| holding.attachment() == attachment(0)).remove(0);
    let (name, reservation) = before.reservation.unwrap();
    del(&store, &attachment(0)).await.unwrap();
    add_entry(&server, "60");
    sleep(Duration::from_secs(1)).await;
    server.requests();
    let turn = store.turn(&attachment(0)).await;
    let repaired = store.repair_reservation(&turn, &name, &reservation, false, soon()).await;
    assert_eq!(repaired.unwrap(), Repaired::Needless);
    assert_eq!(server.requests(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_was_reclaimed_is_not_looked_after_any_more() {
    let server = Server::new(7);
    let store = agent(&server, "w1", 7);
    add(&store, &claim(&octavia(), 0)).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    let dead = store.survey(|_| true).remove(0);
    let turn = store.turn(&attachment(0)).await;
    assert!(store.reclaim(&turn, &dead, soon()).await.unwrap());
    // A pool of others is of no use to a node without an attachment.
    let spec = json!({ "range": "10.0.0.0/24", "allocations": {} });
    server.put(POOLS, "10.0.0.0-24", Some(json!({ "spec": spec, "metadata": {} })));
    sleep(Duration::from_secs(1)).await;
    server.requests();
    store.keep_up(false, &HashSet::new(), Duration::ZERO, soon()).await.unwrap();
    assert_eq!(server.requests(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn names_of_pools_that_are_not_read_any_more_are_forgotten() {
    let server = Server::new(8);
    let store = agent(&server, "w1", 8);
    let within = Deadline::until(soon());
    let shared = &store.inner.shared;
    let read = || shared.read_pool(POOL, &within);
    let (one, two) = tokio::join!(read(), read());
    one.and(two).unwrap();
    assert!(lock(&shared.reading).is_empty());
}

/// The claimant has the entry, and the watch has not reported the reservation yet: that the server refuses a second one of the
/// name shows that the first was there before this claim.
#[tokio::test(start_paused = true)]
async fn a_claim_that_fails_leaves_the_reservation_that_its_owner_had() {
    let server = Server::new(21);
    let (before, after) = (agent(&server, "worker-1", 1), agent(&server, "worker-1", 2));
    add(&after, &claim(&octavia(), 1)).await.unwrap();
    server.lose_watches(true);
    add(&before, &claim(&octavia(), 0)).await.unwrap();
    let had = reservations(&server);
    assert_eq!(had, ["172.23.0.30 c1", "172.23.0.31 c0"]);
    after.inner.shared.read_pool("172.23.0.0-24", &Deadline::until(soon())).await.unwrap();
    let both = json!({ "ipRanges": [octavia(), { "range": "10.9.0.0/24" }] });
    server.fail("POST", "ippools", usize::MAX, Fault::Status(403));
    add(&after, &claim(&both, 0)).await.unwrap_err();
    assert_eq!(reservations(&server), had);
    assert_eq!(entries(&server, "172.23.0.0-24"), ["30 c1", "31 c0"]);
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_the_server_asks_one_reader_for_keeps_no_other_waiting() {
    let server = Server::new(9);
    let store = agent(&server, "w1", 9);
    add(&store, &claim(&octavia(), 0)).await.unwrap();
    server.fail("GET", "/ippools/", 1, Fault::Status(429));
    let (shared, within, begun) = (&store.inner.shared, Deadline::until(soon()), Instant::now());
    let first = async {
        shared.read_pool(POOL, &within).await.unwrap();
        begun.elapsed()
    };
    let second = async {
        sleep(Duration::from_millis(100)).await;
        shared.read_pool(POOL, &within).await.unwrap();
        begun.elapsed()
    };
    let (first, second) = tokio::join!(first, second);
    assert!(first >= Duration::from_secs(1), "{first:?}");
    assert!(second < Duration::from_millis(500), "{second:?}");
}

#[tokio::test(start_paused = true)]
async fn queues_of_pools_that_are_not_used_any_more_end() {
    let server = Server::new(10);
    let store = agent(&server, "w1", 10);
    let other = json!({ "range": "10.0.0.0/24" });
    add(&store, &claim(&octavia(), 0)).await.unwrap();
    add(&store, &claim(&other, 1)).await.unwrap();
    assert_eq!(lock(&store.inner.queues).len(), 2);
    sleep(Duration::from_secs(61)).await;
    add(&store, &claim(&other, 2)).await.unwrap();
    assert_eq!(lock(&store.inner.queues).len(), 1);
    // Back again, it works as before.
    assert_eq!(del(&store, &attachment(0)).await.unwrap(), 1);
}
