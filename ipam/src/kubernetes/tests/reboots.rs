//! Sandboxes that are released while the next ones of their pods claim, as after a node's reboot, beside a program that writes
//! entries first, as whereabouts does. Nothing that a claim gave up comes back, and nothing is left.

use std::collections::BTreeMap;

use futures_util::future::{join, join_all};
use tokio::task::JoinSet;

use super::*;
use octavia_bridge_cluster::Jitter;

const POOL: &str = "172.23.0.0-24";
const PODS: usize = 8;
const REBOOTS: usize = 3;

/// The sandboxes that stand, and what their claims got.
type Standing = Arc<Mutex<BTreeMap<Attachment, Vec<String>>>>;

fn sandbox(n: usize, generation: usize) -> Attachment {
    Attachment { container_id: format!("c{n}-{generation}"), ifname: "net1".into() }
}

/// As the plugin and the broker do: of the sandboxes that the agent asks about none stands, and a claim that failed is repeated.
async fn attach(store: &Store, n: usize, generation: usize) -> Vec<String> {
    let attachment = sandbox(n, generation);
    let mut claim = claim(&octavia(), n);
    claim.request.owner.container_id.clone_from(&attachment.container_id);
    loop {
        let turn = store.turn(&attachment).await;
        match store.claim(&turn, &claim, soon()).await {
            Ok(Claimed::Assigned(assigned)) => {
                return assigned.iter().map(|one| one.address.to_string()).collect();
            }
            Ok(Claimed::Contested(gone)) => {
                claim
                    .sandboxes
                    .extend(gone.into_iter().map(|attachment| Sandbox { attachment, alive: false }));
            }
            Err(Refused { residue, .. }) => {
                if let Some(residue) = residue {
                    store.undo(&turn, residue, soon()).await.ok();
                }
                drop(turn);
                sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn detach(store: &Store, attachment: &Attachment) {
    while del(store, attachment).await.is_err() {
        sleep(Duration::from_secs(2)).await;
    }
}

/// As the agent does, but that it goes by what stands alone, and not by which addresses that has.
async fn keep(store: Store, standing: Standing) {
    let mut tasks = JoinSet::new();
    loop {
        let (name, lost) = store.lost().await;
        let (store, standing) = (store.clone(), standing.clone());
        tasks.spawn(async move {
            let (container_id, ifname) = (lost.container().to_owned(), lost.ifname().to_owned());
            let attachment = Attachment { container_id, ifname };
            for alive in [false, true] {
                let turn = store.turn(&attachment).await;
                let stands = lock(&standing).contains_key(&attachment);
                let repaired = store.repair_reservation(&turn, &name, &lost, alive && stands, soon()).await;
                if repaired.is_ok_and(|repaired| repaired != Repaired::Needless) {
                    return;
                }
                drop(turn);
                sleep(Duration::from_secs(2)).await;
            }
        });
    }
}

/// Writes entries at the lowest addresses without one, whatever is reserved, and removes them again.
async fn write_entries(server: &Server, jitter: &Jitter) {
    let mut mine = Vec::new();
    for _ in 0..40 {
        sleep(Duration::from_millis(jitter.roll(12) as u64)).await;
        let Some(mut pool) = server.object(POOLS, POOL) else { continue };
        let Some(entries) = pool["spec"]["allocations"].as_object_mut() else { continue };
        let free = (30..70).map(|offset| offset.to_string()).find(|offset| !entries.contains_key(offset));
        if let Some(offset) = free.filter(|_| mine.len() < 6) {
            let entry = json!({ "id": "theirs", "podref": "ns/theirs", "ifname": "net1" });
            entries.insert(offset.clone(), entry);
            mine.push(offset);
        } else if let Some(offset) = mine.pop() {
            entries.remove(&offset);
        }
        server.put(POOLS, POOL, Some(pool));
    }
    let mut pool = server.object(POOLS, POOL).unwrap();
    pool["spec"]["allocations"].as_object_mut().unwrap().retain(|_, entry| entry["id"] != "theirs");
    server.put(POOLS, POOL, Some(pool));
}

/// Some reboots, with faults in so many of a thousand requests. How many sandboxes got another address than the one before.
async fn reboots(seed: u64, permille: usize, rival: bool) -> usize {
    let server = Server::new(seed);
    let store = agent(&server, "node-1", seed);
    let (jitter, standing) = (Jitter::seeded(seed), Standing::default());
    let keeper = tokio::spawn(keep(store.clone(), standing.clone()));
    for n in 0..PODS {
        let addresses = attach(&store, n, 0).await;
        lock(&standing).insert(sandbox(n, 0), addresses);
    }
    server.storm(permille);
    let mut moved = 0;
    for generation in 1..=REBOOTS {
        let before = std::mem::take(&mut *lock(&standing));
        let pods = (0..PODS).map(|n| {
            let (store, standing, jitter, before) = (&store, &standing, &jitter, &before);
            async move {
                let old = sandbox(n, generation - 1);
                let replay = async {
                    sleep(Duration::from_millis(jitter.roll(30) as u64)).await;
                    detach(store, &old).await;
                };
                let add = async {
                    sleep(Duration::from_millis(jitter.roll(30) as u64)).await;
                    let addresses = attach(store, n, generation).await;
                    let moved = before[&old] != addresses;
                    lock(standing).insert(sandbox(n, generation), addresses);
                    moved
                };
                join(replay, add).await.1
            }
        });
        let theirs = async {
            if rival {
                write_entries(&server, &jitter).await;
            }
        };
        moved += join(join_all(pods), theirs).await.0.into_iter().filter(|moved| *moved).count();
        sleep(Duration::from_secs(10)).await;
    }
    server.storm(0);
    sleep(Duration::from_secs(60)).await;
    let mut expected: Vec<String> = Vec::new();
    for (attachment, addresses) in &*lock(&standing) {
        let address = addresses[0].split('/').next().unwrap_or_default();
        expected.push(format!("{address} {}", attachment.container_id));
    }
    expected.sort();
    assert_eq!(reservations(&server), expected, "seed {seed}");
    let entries: Vec<String> =
        entries(&server, POOL).into_iter().map(|entry| format!("172.23.0.{entry}")).collect();
    assert_eq!(entries, expected, "seed {seed}");
    keeper.abort();
    moved
}

#[tokio::test(start_paused = true)]
async fn what_a_claim_gave_up_does_not_come_back() {
    for seed in 1..24 {
        reboots(seed, 0, true).await;
    }
}

#[tokio::test(start_paused = true)]
async fn in_a_storm_neither() {
    for seed in 1..10 {
        reboots(seed, 5 * seed as usize, seed % 2 == 0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_gets_what_the_release_of_its_pods_last_sandbox_would_free() {
    for seed in 1..16 {
        assert_eq!(reboots(seed, 0, false).await, 0, "seed {seed}");
    }
}
