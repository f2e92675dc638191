//! What is read of pools, and when: what is watched of them says only that they were changed.

use super::*;
use crate::kubernetes::memory::need::IDLE;
use crate::wire::{Inquiry, Lookup};

const POOL: &str = "172.23.0.0-24";
const READ: &str = "GET kube-system/ippools/172.23.0.0-24";

/// Two agents of one pool, of which each knows the other's entries at first.
async fn pair(server: &Server, network: &Value) -> (Store, Store) {
    let (one, two) = (agent(server, "node-1", 1), agent(server, "node-2", 2));
    ready(&one).await;
    add(&one, &claim(network, 1)).await.unwrap();
    heard_of(&two, 1).await;
    add(&two, &claim(network, 2)).await.unwrap();
    heard_of(&one, 2).await;
    server.requests();
    (one, two)
}

/// Lets the watches tell what there is.
async fn heard_of(store: &Store, reservations: usize) {
    for _ in 0..1000 {
        if lock(&store.inner.shared.cache).reservations.iter().count() == reservations {
            break;
        }
        sleep(Duration::from_millis(5)).await;
    }
    sleep(Duration::from_millis(100)).await;
}

fn not_here() -> HashSet<String> {
    HashSet::new()
}

/// Follows others for so long as an agent does that was not elected.
async fn idle(store: &Store, time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        if matches!(store.watching(), Watching::Well) {
            store.keep_up(false, &not_here(), Duration::from_secs(60), soon()).await.unwrap();
        }
        sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_without_an_attachment_asks_nothing_when_others_do_something() {
    let server = Server::new(1);
    let (busy, idling) = (agent(&server, "node-1", 1), agent(&server, "node-2", 2));
    ready(&idling).await;
    let changes = async {
        for n in 0..20 {
            add(&busy, &claim(&octavia(), n)).await.unwrap();
            sleep(Duration::from_secs(30)).await;
        }
    };
    ready(&busy).await;
    server.requests();
    tokio::join!(idle(&idling, Duration::from_secs(700)), changes);
    let requests = server.requests();
    assert_eq!(requests.len(), 40, "each ADD's own two: {requests:?}");
    assert_eq!(server.watches(), 2, "the busy one's");
    assert!(matches!(idling.watching(), Watching::Unneeded) && idling.pools().is_empty());
    // The first ADD here lists both kinds and reads the pool.
    assert_eq!(add(&idling, &claim(&octavia(), 30)).await.unwrap(), ["172.23.0.50/24"]);
    let requests = server.requests();
    assert_eq!(requests.len(), 5, "{requests:?}");
    assert_eq!(requests[2], READ);
    assert_eq!(server.watches(), 4);
    // With the last address of the node the need ends some minutes later.
    sleep(2 * IDLE).await;
    assert_eq!(server.watches(), 4);
    del(&idling, &attachment(30)).await.unwrap();
    sleep(IDLE / 2).await;
    assert_eq!(server.watches(), 4);
    // Not at a multiple of 90 s: a watch that is quiet for so long is begun anew, and for some milliseconds there is none.
    sleep(IDLE + Duration::from_secs(10)).await;
    assert_eq!(server.watches(), 2);
    // A DEL that is repeated costs no more than the list.
    server.requests();
    assert_eq!(del(&idling, &attachment(30)).await.unwrap(), 0);
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_starts_finds_what_its_node_has_and_watches_only_for_that() {
    let server = Server::new(2);
    let busy = agent(&server, "node-1", 1);
    add(&busy, &claim(&octavia(), 1)).await.unwrap();
    drop(busy);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(server.watches(), 0);
    let (again, other) = (agent(&server, "node-1", 2), agent(&server, "node-2", 3));
    sleep(Duration::from_secs(5)).await;
    assert_eq!(server.watches(), 2);
    assert!(matches!(again.watching(), Watching::Well), "its address may be leaked");
    assert!(matches!(other.watching(), Watching::Unneeded));
    assert_eq!(
        other.known_usage(&inquiry(), &inquiry().ranges[0]).unwrap(),
        None,
        "nothing is known, not nothing used"
    );
    assert_eq!(other.usage(&inquiry(), soon()).await.unwrap()[0].used, 1);
}

/// How full the seed's range is.
fn inquiry() -> Inquiry {
    let conf = Ipam::parse(Object::at("ipam".to_owned(), &octavia()).unwrap(), false).unwrap();
    Inquiry { network_name: None, overlapping: true, ranges: conf.ranges, reserved: Vec::new() }
}

#[tokio::test(start_paused = true)]
async fn reservations_tell_what_others_have_taken_and_freed_since_the_pool_was_read() {
    let server = Server::new(2);
    let (one, two) = pair(&server, &octavia()).await;
    for n in 3..6 {
        add(&two, &claim(&octavia(), n)).await.unwrap();
    }
    heard_of(&one, 5).await;
    server.requests();
    assert_eq!(add(&one, &claim(&octavia(), 6)).await.unwrap(), ["172.23.0.35/24"]);
    assert_eq!(server.requests().len(), 2);
    del(&two, &attachment(2)).await.unwrap();
    heard_of(&one, 5).await;
    server.requests();
    // The lowest free one, although the content that is remembered still has an entry there.
    assert_eq!(add(&one, &claim(&octavia(), 7)).await.unwrap(), ["172.23.0.31/24"]);
    assert_eq!(del(&one, &attachment(6)).await.unwrap(), 1);
    assert_eq!(del(&one, &attachment(6)).await.unwrap(), 0);
    assert_eq!(server.requests().len(), 4, "repeated, a DEL asks nothing");
    assert_eq!(entries(&server, POOL), ["30 c1", "31 c7", "32 c3", "33 c4", "34 c5"]);
}

/// A change between two of ours shows in the generation: what is remembered then is not all there is.
#[tokio::test(start_paused = true)]
async fn a_change_of_others_between_two_of_ours_is_not_overlooked() {
    let server = Server::new(3);
    let store = agent(&server, "node-1", 3);
    for n in 1..=2 {
        add(&store, &claim(&octavia(), n)).await.unwrap();
    }
    let is_current = || lock(&store.inner.shared.cache).pools.get(POOL).unwrap().is_current();
    assert!(is_current());
    // Nobody tells.
    server.deafen(true);
    let mut pool = server.object(POOLS, POOL).unwrap();
    pool["spec"]["allocations"]["70"] = json!({ "id": "x", "podref": "ns/x", "ifname": "net1" });
    server.put(POOLS, POOL, Some(pool));
    add(&store, &claim(&octavia(), 3)).await.unwrap();
    assert!(!is_current());
    keep_up(&store).await;
    assert!(is_current());
    assert_eq!(used(&store), 4);
    // A change of nothing but labels is none.
    server.deafen(false);
    sleep(Duration::from_secs(20)).await;
    let mut pool = server.object(POOLS, POOL).unwrap();
    pool["metadata"]["labels"] = json!({ "a": "b" });
    server.put(POOLS, POOL, Some(pool));
    sleep(Duration::from_secs(1)).await;
    assert!(is_current());
}

/// Whoever wrote it left no reservation, so that only the patch can tell that the address is not free.
#[tokio::test(start_paused = true)]
async fn a_hint_that_is_out_of_date_is_corrected_by_one_read_and_one_patch() {
    let server = Server::new(4);
    let (one, _two) = pair(&server, &octavia()).await;
    let mut pool = server.object(POOLS, POOL).unwrap();
    pool["spec"]["allocations"]["32"] = json!({ "id": "w", "podref": "ns/w", "ifname": "net1" });
    server.put(POOLS, POOL, Some(pool));
    sleep(Duration::from_secs(1)).await;
    let added = add(&one, &claim(&octavia(), 3)).await.unwrap();
    assert_ne!(added, ["172.23.0.32/24"]);
    let requests = server.requests();
    let methods: Vec<&str> =
        requests.iter().filter_map(|request| request.split_once(' ')).map(|(method, _)| method).collect();
    assert_eq!(methods, ["POST", "PATCH", "GET", "DELETE", "POST", "PATCH"], "{requests:?}");
    assert_eq!(entries(&server, POOL)[..3], ["30 c1", "31 c2", "32 w"]);
    assert_eq!(reservations(&server).len(), 3);
}

#[tokio::test(start_paused = true)]
async fn where_there_are_no_reservations_a_changed_pool_is_read_first() {
    let server = Server::new(5);
    let mut network = octavia();
    network["enable_overlapping_ranges"] = false.into();
    let (one, two) = (agent(&server, "node-1", 1), agent(&server, "node-2", 2));
    add(&one, &claim(&network, 1)).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    add(&two, &claim(&network, 2)).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    server.requests();
    add(&one, &claim(&network, 3)).await.unwrap();
    assert_eq!(server.requests(), [READ, "PATCH kube-system/ippools/172.23.0.0-24"]);
    add(&one, &claim(&network, 4)).await.unwrap();
    assert_eq!(server.requests().len(), 1);
    assert_eq!(entries(&server, POOL), ["30 c1", "31 c2", "32 c3", "33 c4"]);
}

#[tokio::test(start_paused = true)]
async fn an_overlapping_pool_that_was_changed_is_read_first() {
    let server = Server::new(6);
    let narrow = json!({ "range": "172.23.0.0/26", "range_start": "172.23.0.30" });
    let (one, two) = (agent(&server, "node-1", 1), agent(&server, "node-2", 2));
    add(&one, &claim(&octavia(), 1)).await.unwrap();
    add(&one, &claim(&narrow, 2)).await.unwrap();
    heard_of(&two, 2).await;
    // An entry without a reservation in the other pool.
    let mut unreserved = octavia();
    unreserved["enable_overlapping_ranges"] = false.into();
    unreserved["range_start"] = "172.23.0.32".into();
    add(&two, &claim(&unreserved, 3)).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    server.requests();
    assert_eq!(add(&one, &claim(&narrow, 4)).await.unwrap(), ["172.23.0.33/26"]);
    assert_eq!(server.requests()[0], READ);
    assert_eq!(entries(&server, POOL), ["30 c1", "32 c3"]);
}

/// The reservation says that the pod had an address, and the content that is remembered says nothing of it.
#[tokio::test(start_paused = true)]
async fn an_earlier_address_of_the_pod_that_is_not_known_is_looked_for() {
    let server = Server::new(7);
    let (one, two) = pair(&server, &octavia()).await;
    add(&two, &claim(&octavia(), 3)).await.unwrap();
    heard_of(&one, 3).await;
    // As whereabouts writes it, which names neither container nor node.
    let mut reservation = server.object(RESERVATIONS, "172.23.0.32").unwrap();
    reservation["metadata"]["annotations"] = Value::Null;
    reservation["spec"] = json!({ "podref": "openstack/pod-3", "ifname": "net1" });
    server.put(RESERVATIONS, "172.23.0.32", Some(reservation));
    sleep(Duration::from_secs(1)).await;
    server.requests();
    let mut again = claim(&octavia(), 3);
    again.request.owner.container_id = "d3".into();
    let dead = Sandbox { attachment: attachment(3), alive: false };
    again.sandboxes = vec![dead];
    assert_eq!(add(&one, &again).await.unwrap(), ["172.23.0.32/24"]);
    assert_eq!(server.requests()[0], READ);
    assert_eq!(entries(&server, POOL), ["30 c1", "31 c2", "32 d3"]);
}

#[tokio::test(start_paused = true)]
async fn a_release_finds_what_this_process_has_not_written() {
    let server = Server::new(8);
    let mut network = octavia();
    network["enable_overlapping_ranges"] = false.into();
    let before = agent(&server, "node-1", 1);
    add(&before, &claim(&network, 1)).await.unwrap();
    add(&before, &claim(&octavia(), 2)).await.unwrap();
    drop(before);
    // The agent was started anew.
    let store = agent(&server, "node-1", 2);
    ready(&store).await;
    assert_eq!(del(&store, &attachment(1)).await.unwrap(), 1);
    assert_eq!(del(&store, &attachment(2)).await.unwrap(), 1);
    assert_eq!(entries(&server, POOL), [""; 0]);
    // Another program of this node has written an entry since.
    let mut pool = server.object(POOLS, POOL).unwrap();
    pool["spec"]["allocations"]["40"] = json!({ "id": "c9", "podref": "ns/x", "ifname": "net1" });
    server.put(POOLS, POOL, Some(pool));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(del(&store, &attachment(9)).await.unwrap(), 1);
    assert_eq!(entries(&server, POOL), [""; 0]);
}

/// The writer may not take what is out of date for what has become of a change.
#[tokio::test(start_paused = true)]
async fn an_entry_that_is_not_remembered_is_removed_all_the_same() {
    let server = Server::new(9);
    let (one, two) = pair(&server, &octavia()).await;
    // The reservation of the other node's pod goes, and its entry stands.
    server.put(RESERVATIONS, "172.23.0.31", None);
    add(&two, &claim(&octavia(), 3)).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    let dead = one.survey(|_| true).len();
    assert!(dead >= 2);
    keep_up(&one).await;
    let dead = one.survey(|holding| holding.attachment() == attachment(2)).remove(0);
    let turn = one.turn(&attachment(2)).await;
    // Changed again, and forgotten here.
    add(&two, &claim(&octavia(), 4)).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    one.keep_up(false, &not_here(), Duration::ZERO, soon()).await.unwrap();
    assert!(one.reclaim(&turn, &dead, soon()).await.unwrap());
    assert!(!entries(&server, POOL).contains(&"31 c2".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn many_who_need_a_pool_read_it_together() {
    let server = Server::new(10);
    let one = agent(&server, "node-1", 1);
    add(&one, &claim(&octavia(), 0)).await.unwrap();
    let two = agent(&server, "node-2", 2);
    ready(&two).await;
    server.requests();
    let claims: Vec<Claim> = (1..=40).map(|n| claim(&octavia(), n)).collect();
    for added in futures_util::future::join_all(claims.iter().map(|claim| add(&two, claim))).await {
        added.unwrap();
    }
    let reads = server.requests().iter().filter(|request| **request == READ).count();
    assert!(reads <= 2, "{reads} reads");
}

#[tokio::test(start_paused = true)]
async fn own_entries_are_read_again_now_and_then_and_others_forgotten() {
    let server = Server::new(11);
    let (one, two) = pair(&server, &octavia()).await;
    let changes = async {
        for n in 3..23 {
            add(&two, &claim(&octavia(), n)).await.unwrap();
            sleep(Duration::from_secs(60)).await;
        }
    };
    tokio::join!(idle(&one, Duration::from_secs(1200)), changes);
    let reads = server.requests().iter().filter(|request| **request == READ).count();
    assert!((2..=8).contains(&reads), "{reads} reads in 20 minutes");
    // It is asked for what it says of one's own.
    let lookup = Lookup { attachment: attachment(1), pools: claim(&octavia(), 1).request.pools() };
    assert_eq!(one.held(&lookup, soon()).await.unwrap().len(), 1);
    del(&one, &attachment(1)).await.unwrap();
    add(&two, &claim(&octavia(), 30)).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    idle(&one, Duration::from_secs(2)).await;
    assert!(one.pools()[0].content.is_none());
}

/// It writes an entry before its reservation, and its ADD fails if ours comes between the two.
#[tokio::test(start_paused = true)]
async fn where_whereabouts_is_at_work_a_changed_pool_is_read_first() {
    let server = Server::new(12);
    let (one, _two) = pair(&server, &octavia()).await;
    let reservation = json!({ "spec": { "podref": "ns/old", "ifname": "net1" } });
    server.put(RESERVATIONS, "172.23.0.60", Some(reservation));
    let mut pool = server.object(POOLS, POOL).unwrap();
    pool["spec"]["allocations"]["60"] = json!({ "id": "old", "podref": "ns/old", "ifname": "net1" });
    // The next one's entry, which has no reservation yet.
    pool["spec"]["allocations"]["32"] = json!({ "id": "new", "podref": "ns/new", "ifname": "net1" });
    server.put(POOLS, POOL, Some(pool));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(add(&one, &claim(&octavia(), 3)).await.unwrap(), ["172.23.0.33/24"]);
    let requests = server.requests();
    assert_eq!((requests.len(), &*requests[0]), (3, READ), "{requests:?}");
}
