//! Agents, a rival and faults in orders that a number decides.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use tokio::time::sleep;

use super::*;
use octavia_bridge_cluster::Jitter;

/// Every success has its entry and its reservation, at the moment of the answer.
fn assert_written(server: &Server, n: usize, pool: &str, addresses: &[String]) {
    for address in addresses {
        let host = address.split('/').next().unwrap();
        let offset = host.rsplit('.').next().unwrap();
        let stored = server.object(POOLS, pool).unwrap();
        assert_eq!(stored["spec"]["allocations"][offset]["id"], format!("c{n}"), "entry of {address}");
        let reservation = server.object(RESERVATIONS, host).unwrap_or_default();
        assert_eq!(reservation["spec"]["containerid"], format!("c{n}"), "reservation of {address}");
    }
}

/// Two overlapping pools.
fn networks() -> [(Value, &'static str); 2] {
    [
        (json!({ "range": "172.23.0.0/24", "range_start": "172.23.0.30" }), "172.23.0.0-24"),
        (json!({ "range": "172.23.0.0/25", "range_start": "172.23.0.30" }), "172.23.0.0-25"),
    ]
}

/// Who has which address now, by those who were told so.
type Owners = Mutex<BTreeMap<String, usize>>;

/// One pod's life: added, deleted, again and again, with a runtime that repeats what failed.
async fn live(server: &Server, store: &Store, jitter: &Jitter, owners: &Owners, n: usize) -> usize {
    let (network, pool) = &networks()[n % 2];
    let claim = claim(network, n);
    let mut successes = 0;
    for _ in 0..3 {
        sleep(Duration::from_millis(jitter.roll(50) as u64)).await;
        if let Ok(addresses) = add(store, &claim).await {
            successes += 1;
            assert_written(server, n, pool, &addresses);
            for address in &addresses {
                let host = address.split('/').next().unwrap().to_owned();
                let before = lock(owners).insert(host, n);
                assert_eq!(before, None, "{address} is given to {n} while another has it");
            }
            sleep(Duration::from_millis(jitter.roll(200) as u64)).await;
        }
        // Before DEL is asked, the pod is gone.
        lock(owners).retain(|_, owner| *owner != n);
        while del(store, &attachment(n)).await.is_err() {
            sleep(Duration::from_secs(2)).await;
        }
    }
    successes
}

async fn storm(seed: u64, permille: usize) -> usize {
    let server = Server::new(seed);
    let stores: Vec<Store> = (0..3).map(|n| agent(&server, &format!("node-{n}"), seed * 7 + n)).collect();
    for store in &stores {
        ready(store).await;
    }
    server.storm(permille);
    let (jitter, owners) = (Jitter::seeded(seed), Owners::default());
    let lives = (0..24).map(|n| live(&server, &stores[n % stores.len()], &jitter, &owners, n));
    let successes = join_all(lives).await.into_iter().sum();
    server.storm(0);
    // What was on its way arrives, and what could not be undone is: a server's last word on a request may come late.
    sleep(Duration::from_secs(3)).await;
    for n in 0..24 {
        del(&stores[n % stores.len()], &attachment(n)).await.unwrap();
    }
    for (_, pool) in networks() {
        assert_eq!(entries(&server, pool), Vec::<String>::new(), "seed {seed}");
    }
    assert_eq!(reservations(&server), Vec::<String>::new(), "seed {seed}");
    successes
}

#[tokio::test(start_paused = true)]
async fn without_faults_everybody_succeeds() {
    for seed in 1..8 {
        assert_eq!(storm(seed, 0).await, 72, "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn in_a_storm_every_address_has_one_owner_and_nothing_is_left() {
    let mut successes = 0;
    for seed in 1..17 {
        successes += storm(seed, 10 + 10 * (seed as usize % 20)).await;
    }
    assert!(successes > 16 * 36, "{successes}");
}
