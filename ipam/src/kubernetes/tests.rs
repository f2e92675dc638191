//! The store against a server in memory, in virtual time.

mod answers;
mod contents;
mod crossings;
mod crowds;
mod interleavings;
mod mending;
mod patch;
mod reboots;
mod restored;
mod sandboxes;
mod server;
mod troubles;

use std::collections::HashSet;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::api::object::{POOLS, RESERVATIONS};
use super::write::deadline::Deadline;
use super::*;
use crate::conf::Ipam;
use crate::document::Object;
use crate::request::{Owner, Reach};
use crate::wire::{Claim, Failure, Sandbox};
use server::{Fault, Server};

/// An agent, as far as its store goes.
fn agent(server: &Server, node: &str, seed: u64) -> Store {
    let settings = Settings { namespace: "kube-system".into(), node: node.into(), seed: Some(seed) };
    Store::new(cluster::Api::new(server.client(), "https://api.test:6443"), settings).unwrap()
}

/// A network with the seed's range.
fn octavia() -> Value {
    json!({ "range": "172.23.0.0/24", "range_start": "172.23.0.30", "range_end": "172.23.0.70" })
}

fn attachment(n: usize) -> Attachment {
    Attachment { container_id: format!("c{n}"), ifname: "net1".into() }
}

/// The claim of pod `n`, first sandbox.
fn claim(ipam: &Value, n: usize) -> Claim {
    let conf = Ipam::parse(Object::at("ipam".to_owned(), ipam).unwrap(), false).unwrap();
    let Attachment { container_id, ifname } = attachment(n);
    let owner = Owner { container_id, ifname, pod: Some(format!("openstack/pod-{n}")) };
    let request = conf.request(owner, &[], Reach::Range).unwrap();
    Claim { request, pod_uid: Some(format!("uid-of-{n}")), patience_ms: 25_000, sandboxes: Vec::new() }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(25)
}

/// Claims as the broker does: a claim that failed is undone. `Err` is for people.
async fn add(store: &Store, claim: &Claim) -> Result<Vec<String>, Failure> {
    let Owner { container_id, ifname, .. } = claim.request.owner.clone();
    let turn = store.turn(&Attachment { container_id, ifname }).await;
    match store.claim(&turn, claim, soon()).await {
        Ok(Claimed::Assigned(assigned)) => Ok(assigned.iter().map(|one| one.address.to_string()).collect()),
        Ok(Claimed::Contested(sandboxes)) => panic!("contested by {sandboxes:?}"),
        Err(Refused { error, residue }) => {
            let failure = Failure::from(&error);
            if let Some(residue) = residue {
                // What cannot be undone now stays in the store's memory for the release.
                store.undo(&turn, residue, soon()).await.ok();
            }
            Err(failure)
        }
    }
}

async fn del(store: &Store, attachment: &Attachment) -> Result<usize, Failure> {
    let turn = store.turn(attachment).await;
    store.release(&turn, soon()).await.map_err(|error| Failure::from(&error))
}

/// Waits until all was read.
async fn ready(store: &Store) {
    store.ready(&Deadline::until(soon())).await.unwrap();
}

/// Reads what others have changed, as the elected agent does.
async fn keep_up(store: &Store) {
    store.keep_up(true, &HashSet::new(), Duration::ZERO, soon()).await.unwrap();
}

/// How many entries the first pool has, as far as is known.
fn used(store: &Store) -> u128 {
    store.pools()[0].content.as_ref().unwrap().as_ref().unwrap().used
}

/// Who has which address in a pool, and what the reservations say, by the server.
fn entries(server: &Server, pool: &str) -> Vec<String> {
    let object = server.object(POOLS, pool).unwrap_or_default();
    let entries = object["spec"]["allocations"].as_object().cloned().unwrap_or_default();
    let mut entries: Vec<String> =
        entries.iter().map(|(key, entry)| format!("{key} {}", entry["id"].as_str().unwrap())).collect();
    entries.sort();
    entries
}

fn reservations(server: &Server) -> Vec<String> {
    let of = |name: String| {
        let object = server.object(RESERVATIONS, &name).unwrap();
        format!("{name} {}", object["spec"]["containerid"].as_str().unwrap_or_default())
    };
    server.names(RESERVATIONS).into_iter().map(of).collect()
}
