//! What whereabouts does with the lease in hand.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::{Value, json};

use super::lease::Lease;
use super::{Claim, Requests, RivalError, Scope, expect};
use crate::Answer;
use crate::ledger::{Holder, Pool};

/// Whereabouts' `DatastoreRetries`.
const TRIES: u32 = 100;

/// A pool as it was read.
struct Read {
    pool: Pool,
    version: String,
}

pub(super) async fn add(
    requests: &Requests,
    lease: &mut Lease,
    scope: &Scope,
    claim: &Claim,
) -> Result<IpAddr, RivalError> {
    list(requests, lease).await?;
    // Addresses whose reservation is another pod's, though the pool knows nothing of it.
    let mut foreign = BTreeSet::new();
    for _ in 0..TRIES {
        let Some(Read { pool, version }) = read_or_create(requests, lease, scope).await? else { continue };
        let had = pool
            .holders
            .iter()
            .find(|(_, holder)| holder.podref == claim.podref && holder.ifname == claim.ifname);
        if let Some((address, holder)) = had {
            if holder.id == claim.id {
                return Ok(*address);
            }
            // A new sandbox of the same pod takes the address over.
            let path = format!("/spec/allocations/{}/id", scope.offset(*address));
            let takeover = vec![json!({"op": "replace", "path": path, "value": claim.id})];
            if patch(requests, lease, scope, &version, takeover).await? {
                return Ok(*address);
            }
            continue;
        }
        let free = (scope.first..=scope.last)
            .map(|offset| scope.address(offset))
            .find(|address| !pool.holders.contains_key(address) && !foreign.contains(address));
        let address = free.ok_or(RivalError::Exhausted(scope.range))?;

        let reservation = format!(
            "{}/{}",
            requests.access.whereabouts("overlappingrangeipreservations"),
            scope.reservation_name(address)
        );
        lease.keep().await?;
        let found = requests.ask("GET", &reservation, None).await?;
        let found = expect(found, "GET", &reservation, &[200, 404])?;
        let ours = found.status == 200 && found.body["spec"]["podref"] == claim.podref.as_str();
        if found.status == 200 && !ours {
            foreign.insert(address);
            continue;
        }
        let path = format!("/spec/allocations/{}", scope.offset(address));
        let entry = json!({"id": claim.id, "podref": claim.podref, "ifname": claim.ifname});
        let operations = vec![
            // "add" alone would replace another's entry.
            json!({"op": "test", "path": path, "value": null}),
            json!({"op": "add", "path": path, "value": entry}),
        ];
        if !patch(requests, lease, scope, &version, operations).await? {
            continue;
        }
        if !ours {
            create_reservation(requests, lease, scope, claim, address).await?;
        }
        return Ok(address);
    }
    Err(RivalError::GaveUp)
}

pub(super) async fn del(
    requests: &Requests,
    lease: &mut Lease,
    scope: &Scope,
    claim: &Claim,
) -> Result<(), RivalError> {
    list(requests, lease).await?;
    for _ in 0..TRIES {
        let Some(Read { pool, version }) = read_or_create(requests, lease, scope).await? else { continue };
        let is_ours = |holder: &Holder| holder.id == claim.id && holder.ifname == claim.ifname;
        let Some((address, _)) = pool.holders.iter().find(|(_, holder)| is_ours(holder)) else {
            return Ok(());
        };
        let path = format!("/spec/allocations/{}", scope.offset(*address));
        let remove = vec![json!({"op": "remove", "path": path})];
        if !patch(requests, lease, scope, &version, remove).await? {
            continue;
        }
        let path = format!(
            "{}/{}",
            requests.access.whereabouts("overlappingrangeipreservations"),
            scope.reservation_name(*address)
        );
        lease.keep().await?;
        // Without asking whose it is.
        expect(requests.ask("DELETE", &path, None).await?, "DELETE", &path, &[200, 404])?;
        return Ok(());
    }
    Err(RivalError::GaveUp)
}

/// Nothing is done with the answer: the original only wants to know whether there is one.
async fn list(requests: &Requests, lease: &mut Lease) -> Result<(), RivalError> {
    let path = requests.access.whereabouts("ippools");
    lease.keep().await?;
    expect(requests.ask("GET", &path, None).await?, "GET", &path, &[200])?;
    Ok(())
}

/// The pool; none when it did not exist and had to be created, after which the original begins again.
async fn read_or_create(
    requests: &Requests,
    lease: &mut Lease,
    scope: &Scope,
) -> Result<Option<Read>, RivalError> {
    let collection = requests.access.whereabouts("ippools");
    let path = format!("{collection}/{}", scope.pool_name());
    lease.keep().await?;
    let Answer { status, body } = expect(requests.ask("GET", &path, None).await?, "GET", &path, &[200, 404])?;
    if status == 200 {
        let version = body["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
        return Ok(Some(Read { pool: Pool::parse(&body), version }));
    }
    let pool = json!({
        "apiVersion": "whereabouts.cni.cncf.io/v1alpha1",
        "kind": "IPPool",
        "metadata": {"name": scope.pool_name()},
        "spec": {"range": scope.range.to_string(), "allocations": {}},
    });
    lease.keep().await?;
    // 409: somebody else was faster.
    expect(requests.ask("POST", &collection, Some(&pool)).await?, "POST", &collection, &[201, 409])?;
    Ok(None)
}

/// Whether the patch was applied: not so if the pool is no more what it was when it was read.
async fn patch(
    requests: &Requests,
    lease: &mut Lease,
    scope: &Scope,
    version: &str,
    mut operations: Vec<Value>,
) -> Result<bool, RivalError> {
    let path = format!("{}/{}", requests.access.whereabouts("ippools"), scope.pool_name());
    operations.insert(0, json!({"op": "test", "path": "/metadata/resourceVersion", "value": version}));
    lease.keep().await?;
    let answer = requests.ask("PATCH", &path, Some(&Value::Array(operations))).await?;
    Ok(expect(answer, "PATCH", &path, &[200, 422])?.status == 200)
}

async fn create_reservation(
    requests: &Requests,
    lease: &mut Lease,
    scope: &Scope,
    claim: &Claim,
    address: IpAddr,
) -> Result<(), RivalError> {
    let path = requests.access.whereabouts("overlappingrangeipreservations");
    let object = json!({
        "apiVersion": "whereabouts.cni.cncf.io/v1alpha1",
        "kind": "OverlappingRangeIPReservation",
        "metadata": {"name": scope.reservation_name(address)},
        "spec": {"podref": claim.podref, "ifname": claim.ifname},
    });
    lease.keep().await?;
    // 409 is an error, and the entry in the pool stays until the DEL that a runtime sends after a failed ADD.
    expect(requests.ask("POST", &path, Some(&object)).await?, "POST", &path, &[201])?;
    Ok(())
}
