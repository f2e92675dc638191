//! Many claims at once, on one node and on many.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use futures_util::future::{join, join_all};
use tokio::time::sleep;

use super::*;

/// Room for some hundreds.
fn wide() -> Value {
    json!({ "range": "172.23.0.0/20", "range_start": "172.23.1.0", "range_end": "172.23.9.0" })
}

fn offset(address: &str) -> u32 {
    let address: Ipv4Addr = address.split('/').next().unwrap().parse().unwrap();
    address.to_bits() - Ipv4Addr::new(172, 23, 1, 0).to_bits()
}

fn count(requests: &[String], words: &str) -> usize {
    requests.iter().filter(|request| request.starts_with(words)).count()
}

#[tokio::test(start_paused = true)]
async fn a_request_that_took_long_holds_up_nobody_who_comes_after_it() {
    let server = Server::new(1);
    let store = agent(&server, "node-1", 1);
    add(&store, &claim(&octavia(), 0)).await.unwrap();

    let slow = Duration::from_millis(1500);
    server.fail("PATCH", "/ippools/", 1, Fault::Late(slow));
    let began = Instant::now();
    let (first, second) = (claim(&octavia(), 1), claim(&octavia(), 2));
    let later = async {
        sleep(slow / 2).await;
        add(&store, &second).await
    };
    let (first, second) = join(add(&store, &first), later).await;
    first.and(second).unwrap();
    assert!(began.elapsed() < slow + Duration::from_millis(200), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn nodes_that_meet_get_out_of_each_other_s_way() {
    const NODES: usize = 10;
    const EACH: usize = 30;
    let server = Server::new(3);
    let stores: Vec<Store> = (0..NODES).map(|n| agent(&server, &format!("node-{n}"), 5 + n as u64)).collect();
    for store in &stores {
        ready(store).await;
    }
    add(&stores[0], &claim(&wide(), 0)).await.unwrap();
    server.requests();

    let claims = (1..=NODES * EACH).map(|n| {
        let store = &stores[n % NODES];
        async move { add(store, &claim(&wide(), n)).await.unwrap().remove(0) }
    });
    let offsets: BTreeSet<u32> = join_all(claims).await.iter().map(|address| offset(address)).collect();
    assert_eq!(offsets.len(), NODES * EACH);
    let requests = server.requests();
    let asked = count(&requests, "POST kube-system/overlappingrangeipreservations");
    // At the lowest addresses all meet, and then the eight requests that each had under way.
    assert!(asked < NODES * EACH * 2, "{asked} reservations asked for");
    let patches = count(&requests, "PATCH kube-system/ippools");
    assert!(patches <= NODES * 4, "{patches} patches");

    // When all is quiet, it is the lowest free one again.
    sleep(Duration::from_secs(5)).await;
    let next = add(&stores[1], &claim(&wide(), 1000)).await.unwrap();
    // The first pod has the very first.
    let lowest = (1..).find(|offset| !offsets.contains(offset));
    assert_eq!(Some(offset(&next[0])), lowest);
}

#[tokio::test(start_paused = true)]
async fn nodes_that_meet_find_the_last_address() {
    // 172.23.0.30 to .70.
    const ALL: usize = 41;
    for seed in 1..20 {
        let server = Server::new(seed);
        let stores: Vec<Store> =
            (0..10).map(|n| agent(&server, &format!("node-{n}"), seed * 31 + n)).collect();
        for store in &stores {
            ready(store).await;
        }
        let claims = (0..=ALL).map(|n| {
            let store = &stores[n % stores.len()];
            async move { add(store, &claim(&octavia(), n)).await }
        });
        let (given, refused): (Vec<_>, Vec<_>) = join_all(claims).await.into_iter().partition(Result::is_ok);
        let addresses: BTreeSet<String> = given.into_iter().flatten().flatten().collect();
        assert_eq!((addresses.len(), refused.len()), (ALL, 1), "seed {seed}: {refused:?}");
        assert_eq!((entries(&server, "172.23.0.0-24").len(), reservations(&server).len()), (ALL, ALL));
    }
}
